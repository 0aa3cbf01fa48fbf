//! Whom a rule is for: conditions that are decided once, when a client signs in.

use std::net::IpAddr;

use serde_json::{Map, Value};

use crate::claims::permissions;
use input::{json::Place, network::Network};

/// A client, as conditions see it.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Its client id.
    pub client_id: &'a str,
    /// Its user name.
    pub username: &'a str,
    /// The claims of its token.
    pub claims: &'a Map<String, Value>,
    /// Its address, if the broker tells it.
    pub address: Option<IpAddr>,
    /// The listener's port, if the broker tells it.
    pub port: Option<u16>,
    /// The SHA-256 fingerprint of its certificate, if it showed one and the broker tells it.
    pub certificate: Option<[u8; 32]>,
}

/// One condition. Of a list, one has to hold.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// One of these is in the claim `permissions`.
    Permission(Vec<String>),
    /// One of these is in the claim that `roles_claim` names.
    Role {
        /// That claim.
        claim: String,
        /// The roles.
        any: Vec<String>,
    },
    /// One of these is what a claim says.
    Claim(Vec<Claim>),
    /// The client id is like one of these, in which `*` is any text.
    ClientId(Vec<String>),
    /// The client's address is in one of these.
    Network(Vec<Network>),
    /// It came in at one of these ports.
    Port(Vec<u16>),
    /// Its certificate is one of these.
    Certificate(Vec<[u8; 32]>),
}

/// What a claim has to say.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// Which claim.
    pub place: Place,
    /// What it has to be.
    pub test: Test,
}

/// What a value has to be.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// Exactly this.
    Is(Value),
    /// An array, or a string with spaces, with this in it.
    Has(Value),
}

impl Condition {
    /// Whether it holds.
    pub fn holds(&self, subject: &Subject) -> bool {
        let listed = |claim: &str, any: &[String]| {
            let entries = subject.claims.get(claim).map(permissions::entries);
            entries
                .unwrap_or_default()
                .iter()
                .any(|entry| any.iter().any(|one| one == entry))
        };
        match self {
            Self::Permission(any) => listed("permissions", any),
            Self::Role { claim, any } => listed(claim, any),
            Self::Claim(any) => any.iter().any(|claim| claim.holds(subject.claims)),
            Self::ClientId(any) => any
                .iter()
                .any(|pattern| is_like(subject.client_id, pattern)),
            Self::Network(any) => subject
                .address
                .is_some_and(|address| any.iter().any(|network| network.holds(address))),
            Self::Port(any) => subject.port.is_some_and(|port| any.contains(&port)),
            Self::Certificate(any) => subject
                .certificate
                .is_some_and(|print| any.contains(&print)),
        }
    }
}

impl Claim {
    fn holds(&self, claims: &Map<String, Value>) -> bool {
        match (&self.test, self.place.find(claims)) {
            (_, None) => false,
            (Test::Is(wanted), Some(value)) => value == wanted,
            (Test::Has(wanted), Some(Value::Array(elements))) => elements.contains(wanted),
            (Test::Has(Value::String(wanted)), Some(Value::String(text))) => {
                text.split(' ').any(|word| word == wanted)
            }
            (Test::Has(_), Some(_)) => false,
        }
    }
}

/// Whether a text is like a pattern in which `*` is any text, also none.
fn is_like(text: &str, pattern: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let Some(last) = parts.next_back() else {
        return rest.is_empty();
    };
    // The earliest place for each is as good as any.
    for part in parts {
        match rest.find(part) {
            Some(place) => rest = &rest[place + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// Reads a SHA-256 fingerprint: 64 hexadecimal digits, with or without colons (as
/// `openssl x509 -fingerprint -sha256` prints it).
pub fn fingerprint(text: &str) -> Option<[u8; 32]> {
    let digits: String = text.chars().filter(|c| *c != ':').collect();
    if digits.len() != 64 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let mut print = [0; 32];
    for (i, byte) in print.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).ok()?;
    }
    Some(print)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn claim(place: Place, test: Test) -> Condition {
        Condition::Claim(vec![Claim { place, test }])
    }

    fn texts(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn conditions() {
        let claims = json!({
            "permissions": ["water", "read:messages"], "https://mqtt.example/roles": ["gardener"], "site": "north", "floor": 3,
            "scope": "openid water", "tags": ["a", 7], "app": {"a/b": {"c": ["x"]}},
        });
        let subject = Subject {
            client_id: "pump-7",
            username: "auth0|1",
            claims: claims.as_object().unwrap(),
            address: Some("10.1.2.3".parse().unwrap()),
            port: Some(8883),
            certificate: Some([7; 32]),
        };
        let name = |name: &str| Place::Name(name.into());
        let roles = || "https://mqtt.example/roles".to_owned();
        for (condition, holds) in [
            (Condition::Permission(texts(&["dig", "water"])), true),
            (Condition::Permission(texts(&["wat"])), false),
            (
                Condition::Role {
                    claim: roles(),
                    any: texts(&["gardener"]),
                },
                true,
            ),
            (
                Condition::Role {
                    claim: roles(),
                    any: texts(&["guest"]),
                },
                false,
            ),
            (
                Condition::Role {
                    claim: "gone".into(),
                    any: texts(&["guest"]),
                },
                false,
            ),
            (claim(name("site"), Test::Is(json!("north"))), true),
            (claim(name("site"), Test::Is(json!("nor"))), false),
            (claim(name("floor"), Test::Is(json!(3))), true),
            (claim(name("floor"), Test::Is(json!("3"))), false),
            (claim(name("gone"), Test::Is(json!("x"))), false),
            (claim(name("tags"), Test::Has(json!("a"))), true),
            (claim(name("tags"), Test::Has(json!(7))), true),
            (claim(name("tags"), Test::Has(json!("b"))), false),
            (claim(name("scope"), Test::Has(json!("water"))), true),
            (claim(name("scope"), Test::Has(json!("wat"))), false),
            (claim(name("floor"), Test::Has(json!(3))), false),
            (
                claim(Place::Pointer("/app/a~1b/c".into()), Test::Has(json!("x"))),
                true,
            ),
            (
                claim(Place::Pointer("/site".into()), Test::Is(json!("north"))),
                true,
            ),
            (
                claim(Place::Pointer("/app/a/b".into()), Test::Has(json!("x"))),
                false,
            ),
            (Condition::ClientId(texts(&["x", "pump-*"])), true),
            (Condition::ClientId(texts(&["pump-"])), false),
            (
                Condition::Network(vec![Network::parse("10.0.0.0/8").unwrap()]),
                true,
            ),
            (
                Condition::Network(vec![Network::parse("192.0.2.0/24").unwrap()]),
                false,
            ),
            (Condition::Port(vec![1883, 8883]), true),
            (Condition::Port(vec![1883]), false),
            (Condition::Certificate(vec![[7; 32]]), true),
            (Condition::Certificate(vec![[8; 32]]), false),
        ] {
            assert_eq!(condition.holds(&subject), holds, "{condition:?}");
            // What the broker does not tell is never as it should be.
            let unknown = Subject {
                address: None,
                port: None,
                certificate: None,
                ..subject
            };
            if matches!(
                condition,
                Condition::Network(_) | Condition::Port(_) | Condition::Certificate(_)
            ) {
                assert!(!condition.holds(&unknown));
            }
        }
    }

    #[test]
    fn fingerprints() {
        let print = "AB:".repeat(31) + "ab";
        assert_eq!(fingerprint(&print), Some([0xab; 32]));
        assert_eq!(fingerprint(&"ab".repeat(32)), Some([0xab; 32]));
        assert_eq!(fingerprint(&"ab".repeat(31)), None);
        assert_eq!(fingerprint(&"gh".repeat(32)), None);
    }

    /// The same again, trying everything.
    fn naively_like(text: &[u8], pattern: &[u8]) -> bool {
        match pattern {
            [] => text.is_empty(),
            [b'*', rest @ ..] => (0..=text.len()).any(|i| naively_like(&text[i..], rest)),
            [c, rest @ ..] => text.first() == Some(c) && naively_like(&text[1..], rest),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn patterns(text in "[ab]{0,6}", pattern in "[ab*]{0,6}") {
            prop_assert_eq!(is_like(&text, &pattern), naively_like(text.as_bytes(), pattern.as_bytes()));
        }
    }
}
