//! To which clients a rule applies: conditions that are decided once, when a client signs in.

use serde_json::{Map, Value};

use crate::{
    claims::{pattern::Pattern, permissions},
    client::ClientAttributes,
};
use input::{json::Place, network::Network};

/// A condition. If it lists several values, one match is enough.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Condition {
    /// The claim `permissions` contains one of these.
    Permission(Vec<String>),
    /// The claim of the option `roles_claim` contains one of these.
    Role {
        /// Where the claim is.
        claim: Place,
        /// The roles.
        any: Vec<String>,
    },
    /// One of these claims has its value.
    Claim(Vec<Claim>),
    /// The client ID matches one of these patterns, in which `*` stands for any text.
    ClientId(Vec<String>),
    /// The client ID contains what this describes. Only rules in tokens have it.
    ClientIdPattern(Pattern),
    /// The user name contains what this describes. Only rules in tokens have it.
    UsernamePattern(Pattern),
    /// The client's address is in one of these networks.
    Network(Vec<Network>),
    /// The client connected to one of these ports.
    Port(Vec<u16>),
    /// The client has the certificate with one of these fingerprints.
    Certificate(Vec<[u8; 32]>),
}

/// A condition on a claim.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Claim {
    /// Which claim.
    pub(crate) place: Place,
    /// The test of its value.
    pub(crate) test: Test,
}

/// A test of the value of a claim.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Test {
    /// It is exactly this.
    Is(Value),
    /// It is an array, or a string of words, that contains this.
    Has(Value),
}

impl Condition {
    /// Returns the names of the members of a token that decide whether it holds.
    pub(crate) fn members(&self) -> Vec<String> {
        match self {
            Self::Permission(_) => vec!["permissions".to_owned()],
            Self::Role { claim, .. } => claim.members(),
            Self::Claim(any) => any.iter().flat_map(|claim| claim.place.members()).collect(),
            Self::ClientId(_)
            | Self::ClientIdPattern(_)
            | Self::UsernamePattern(_)
            | Self::Network(_)
            | Self::Port(_)
            | Self::Certificate(_) => Vec::new(),
        }
    }

    /// Whether the condition holds for a client. A condition on what the broker does not tell never holds.
    pub(crate) fn holds(&self, client: &ClientAttributes) -> bool {
        let listed = |claim: Option<&Value>, any: &[String]| {
            let entries = claim.map(permissions::entries).unwrap_or_default();
            let mut entries = entries.iter();
            entries.any(|entry| any.iter().any(|one| one == entry))
        };
        match self {
            Self::Permission(any) => listed(client.claims.get("permissions"), any),
            Self::Role { claim, any } => listed(claim.find(&client.claims), any),
            Self::Claim(any) => any.iter().any(|claim| claim.holds(&client.claims)),
            Self::ClientId(any) => any
                .iter()
                .any(|pattern| is_like(&client.client_id, pattern)),
            Self::ClientIdPattern(pattern) => pattern.is_in(&client.client_id) == Some(true),
            Self::UsernamePattern(pattern) => pattern.is_in(&client.username) == Some(true),
            Self::Network(any) => client
                .address
                .is_some_and(|address| any.iter().any(|network| network.contains(address))),
            Self::Port(any) => client.port.is_some_and(|port| any.contains(&port)),
            Self::Certificate(any) => client.certificate.is_some_and(|print| any.contains(&print)),
        }
    }
}

impl Condition {
    /// Whether nobody knows if the condition holds, because the address of the client is unknown or a name is too long
    /// to search. What brokers do not tell at all, such as the port, is refused when the file is read
    /// ([`super::OptionalAttribute`]).
    pub(crate) fn is_unknown(&self, client: &ClientAttributes) -> bool {
        match self {
            Self::Network(_) => client.address.is_none(),
            Self::ClientIdPattern(pattern) => pattern.is_in(&client.client_id).is_none(),
            Self::UsernamePattern(pattern) => pattern.is_in(&client.username).is_none(),
            _ => false,
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

/// Whether a text matches a pattern. `*` stands for any text, also for an empty one.
fn is_like(text: &str, pattern: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let Some(last) = parts.next_back() else {
        return rest.is_empty();
    };
    // The leftmost match is enough, because it leaves the most text.
    for part in parts {
        match rest.find(part) {
            Some(place) => rest = &rest[place + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// Parses a SHA-256 fingerprint: 64 hexadecimal digits, with or without colons (as
/// `openssl x509 -fingerprint -sha256` prints it).
pub(crate) fn fingerprint(text: &str) -> Option<[u8; 32]> {
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
    fn conditions_hold_for_what_they_name() {
        let claims = json!({
            "permissions": ["water", "read:messages"], "https://mqtt.example/roles": ["gardener"], "site": "north",
            "floor": 3, "scope": "openid water", "tags": ["a", 7], "app": {"a/b": {"c": ["x"]}},
        });
        let client = ClientAttributes {
            address: Some("10.1.2.3".parse().unwrap()),
            port: Some(8883),
            certificate: Some([7; 32]),
            ..ClientAttributes::with_claims("pump-7", claims)
        };
        let name = |name: &str| Place::Name(name.into());
        let roles = || Place::parse("https://mqtt.example/roles");
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
                    claim: Place::parse("gone"),
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
            assert_eq!(condition.holds(&client), holds, "{condition:?}");
            let unknown = ClientAttributes {
                address: None,
                port: None,
                certificate: None,
                ..client.clone()
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
    fn fingerprints_are_parsed_or_refused() {
        let print = "AB:".repeat(31) + "ab";
        assert_eq!(fingerprint(&print), Some([0xab; 32]));
        assert_eq!(fingerprint(&"ab".repeat(32)), Some([0xab; 32]));
        assert_eq!(fingerprint(&"ab".repeat(31)), None);
        assert_eq!(fingerprint(&"gh".repeat(32)), None);
    }

    /// A naive implementation, for comparison.
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
        fn patterns_match_as_in_a_naive_implementation(text in "[ab]{0,6}", pattern in "[ab*]{0,6}") {
            prop_assert_eq!(is_like(&text, &pattern), naively_like(text.as_bytes(), pattern.as_bytes()));
        }
    }
}
