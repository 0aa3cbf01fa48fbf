//! The tenant's signing keys (JWKS, RFC 7517). A set is immutable; a new set replaces it as a whole.

use aws_lc_rs::signature::ParsedPublicKey;
use serde_json::{Map, Value};

use super::jwk::PublicKey;
use crate::{
    algorithm::Algorithm,
    config::{ConfigError, IssuerConfig, KeySource, errors::Problem},
    files,
};
use input::json::{self, JsonError};

pub use super::jwk::{KeyMark, KeyProblem};

/// The maximum number of keys from one set. Auth0 lists 2 or 3; a private cloud may add 10 of its own.
pub(crate) const MAX_KEYS: usize = 64;

/// The longest `kid`, in bytes. Auth0's have 21 to 40.
const MAX_KID: usize = 256;

/// Public keys for signatures.
#[derive(Debug, Default)]
pub struct KeySet {
    /// Several keys may have one name, if no algorithm is common to them. A set has few keys, so it is searched from
    /// one end to the other.
    keys: Vec<NamedKey>,
    ignored: Vec<IgnoredKey>,
}

/// A key, and its `kid`.
#[derive(Debug, PartialEq)]
struct NamedKey {
    kid: Option<String>,
    key: PublicKey,
}

/// Why a set has no key for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyLookupError {
    /// The set is empty: no keys have been fetched yet.
    Empty,
    /// The token names no key, and the set has several.
    Unnamed,
    /// The set has no key with this name.
    Unknown,
    /// The key is for another algorithm.
    Algorithm(Algorithm),
}

/// Why a document is not a set of keys.
#[derive(Debug, PartialEq, Eq)]
pub enum JwksProblem {
    /// It is not a JSON object, for this reason.
    NotJson(JsonError),
    /// It has no array `keys`.
    NoArray,
    /// It has more keys than are accepted.
    TooMany(usize),
    /// It has no keys.
    NoKeys,
    /// It has no usable key. This is the first one.
    NoneUsable(IgnoredKey),
}

/// A key that is left out of a set.
#[derive(Debug, PartialEq, Eq)]
pub enum IgnoredKey {
    /// It is not an object.
    NotAnObject,
    /// Its name is not a text, or is too long.
    BadName,
    /// Another key for the same algorithm has the same name, or none either.
    Ambiguous {
        /// The name.
        kid: Option<String>,
    },
    /// It cannot be used.
    Unusable {
        /// Its name.
        kid: Option<String>,
        /// Why not.
        problem: KeyProblem,
    },
}

impl KeySet {
    /// Parses a JWK Set. Keys of another type or purpose are left out (RFC 7517, section 5), and so are
    /// broken and weak keys; [`Self::ignored`] lists them.
    ///
    /// # Errors
    ///
    /// Returns why the document is not a JWK Set, or that no key is left.
    pub fn parse(jwks: &[u8]) -> Result<Self, JwksProblem> {
        let document = json::object(jwks).map_err(JwksProblem::NotJson)?;
        let Some(Value::Array(keys)) = document.get("keys") else {
            return Err(JwksProblem::NoArray);
        };
        if keys.len() > MAX_KEYS {
            return Err(JwksProblem::TooMany(keys.len()));
        }
        let mut set = Self::default();
        for key in keys {
            match named_key(key) {
                // Some providers list a key twice.
                Ok(key) if set.keys.contains(&key) => {}
                Ok(key) => set.keys.push(key),
                Err(ignored) => set.ignored.push(ignored),
            }
        }
        set.remove_ambiguous();
        if set.keys.is_empty() {
            let first = set.ignored.into_iter().next();
            return Err(first.map_or(JwksProblem::NoKeys, JwksProblem::NoneUsable));
        }
        Ok(set)
    }

    /// Leaves out different keys with one name and a common algorithm: which one is meant would depend on the reader.
    fn remove_ambiguous(&mut self) {
        let all = std::mem::take(&mut self.keys);
        let is_ambiguous = |one: &NamedKey| {
            let mut namesakes = all.iter().filter(|other| other.kid == one.kid);
            namesakes.any(|other| other.key.conflicts_with(&one.key))
        };
        let ambiguous: Vec<bool> = all.iter().map(is_ambiguous).collect();
        for (one, is_ambiguous) in all.into_iter().zip(ambiguous) {
            let ignored = IgnoredKey::Ambiguous {
                kid: one.kid.clone(),
            };
            match is_ambiguous {
                false => self.keys.push(one),
                true if self.ignored.contains(&ignored) => {}
                true => self.ignored.push(ignored),
            }
        }
    }

    /// Reads the keys in `jwks_file`, if that option is set.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the file.
    pub(crate) fn of_file(issuer: &IssuerConfig) -> Result<Option<Self>, ConfigError> {
        /// The maximum size of the file. A key set has a few kilobytes.
        const MAX_FILE: u64 = 256 * 1024;
        let KeySource::File(path) = &issuer.keys else {
            return Ok(None);
        };
        let error = |problem| ConfigError::new("jwks_file", &path.display().to_string(), problem);
        let content = files::read(path, MAX_FILE).map_err(|why| error(Problem::File(why)))?;
        let keys = Self::parse(&content.bytes);
        let keys = keys.map_err(|why| error(Problem::Keys(why.to_string())))?;
        Ok(Some(keys))
    }

    /// Returns the name of each key, if it has one, and the algorithms that it may verify.
    pub fn names(&self) -> impl Iterator<Item = (Option<&str>, Vec<Algorithm>)> {
        let keys = self.keys.iter();
        keys.map(|one| (one.kid.as_deref(), one.key.algorithms().collect()))
    }

    /// Returns the key that a token names, if it may verify that algorithm, and its mark. A token without `kid` gets
    /// the only key for its algorithm that has none either, or the only key of the set.
    ///
    /// # Errors
    ///
    /// Returns why the set has no such key.
    pub fn find(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<(&ParsedPublicKey, KeyMark), KeyLookupError> {
        if self.keys.is_empty() {
            return Err(KeyLookupError::Empty);
        }
        let with_name = || self.keys.iter().filter(|one| one.kid.as_deref() == kid);
        let fits = |one: &&NamedKey| one.key.ready_for(algorithm).is_some();
        let found = match (
            with_name().find(fits).or(with_name().next()),
            kid,
            &self.keys[..],
        ) {
            (Some(found), ..) => found,
            (None, None, [only]) => only,
            (None, None, _) => return Err(KeyLookupError::Unnamed),
            (None, Some(_), _) => return Err(KeyLookupError::Unknown),
        };
        match found.key.ready_for(algorithm) {
            Some(ready) => Ok((ready, found.key.mark())),
            None => Err(KeyLookupError::Algorithm(found.key.first_algorithm())),
        }
    }

    /// Whether the set holds the key with this mark, under whatever name.
    pub fn has(&self, mark: KeyMark) -> bool {
        self.keys.iter().any(|one| one.key.mark() == mark)
    }

    /// Whether both sets hold the same keys, in whatever order.
    pub fn has_same_keys(&self, other: &Self) -> bool {
        self.keys.len() == other.keys.len() && self.keys.iter().all(|key| other.keys.contains(key))
    }

    /// Returns the keys as a JWK Set, without the ignored ones.
    pub(crate) fn to_jwks(&self) -> Map<String, Value> {
        let keys = self.keys.iter();
        let keys = keys.map(|one| one.key.to_jwk(one.kid.as_deref()));
        Map::from_iter([("keys".into(), keys.collect())])
    }

    /// Returns the number of keys.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Returns the keys of the document that were left out, with the reason.
    pub fn ignored(&self) -> &[IgnoredKey] {
        &self.ignored
    }
}

/// Reads a key and its name.
fn named_key(key: &Value) -> Result<NamedKey, IgnoredKey> {
    let Value::Object(jwk) = key else {
        return Err(IgnoredKey::NotAnObject);
    };
    let kid = match jwk.get("kid") {
        None | Some(Value::Null) => None,
        Some(Value::String(kid)) if kid.len() <= MAX_KID => Some(kid.clone()),
        Some(_) => return Err(IgnoredKey::BadName),
    };
    match PublicKey::read(jwk) {
        Ok(key) => Ok(NamedKey { kid, key }),
        Err(problem) => Err(IgnoredKey::Unusable { kid, problem }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algorithm::KeyKind;
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    use serde_json::json;

    /// A modulus of the right size. No test verifies a signature with it.
    fn modulus(bytes: usize) -> String {
        URL_SAFE_NO_PAD.encode(
            (0..bytes)
                .map(|i| (i * 37 + 131) as u8 | 1)
                .collect::<Vec<_>>(),
        )
    }

    fn jwk(kid: &str) -> Value {
        json!({"kty": "RSA", "use": "sig", "kid": kid, "alg": "RS256", "n": modulus(256), "e": "AQAB"})
    }

    fn with(name: &str, value: Value) -> Value {
        let mut key = jwk("k");
        key[name] = value;
        key
    }

    fn with_member(mut key: Value, name: &str, value: Value) -> Value {
        key[name] = value;
        key
    }

    /// Returns the generator of a curve (SEC 2, sections 2.4.2 and 2.5.1), whose private key is 1.
    fn ec(kid: &str, curve: &str) -> Value {
        let (x, y) = match curve {
            "P-256" => (
                "axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY",
                "T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU",
            ),
            _ => (
                "qofKIr6LBTeOscce8yCtdG4dO2KLp5uYWfdB4IJUKjhVAvJdv1UpbDpUXjhydgq3",
                "NhfeSpYmLG9dnpi_kpLcKfj0Hb0omhR86doxE7XwuMAKYLHOHX6BnXpDHXyQ6g5f",
            ),
        };
        json!({"kty": "EC", "crv": curve, "kid": kid, "x": x, "y": y})
    }

    /// Returns the public key of RFC 8032, section 7.1, test 1.
    fn ed25519(kid: &str) -> Value {
        json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"})
    }

    fn parse(keys: &[Value]) -> Result<KeySet, String> {
        let text = json!({ "keys": keys }).to_string();
        KeySet::parse(text.as_bytes()).map_err(|why| why.to_string())
    }

    #[test]
    fn a_key_is_used_for_its_name_and_algorithm_only() {
        let set = parse(&[jwk("a"), with("alg", json!("PS256"))]).unwrap();
        assert!(set.find(Some("a"), Algorithm::Rs256).is_ok());
        assert_eq!(
            set.find(Some("a"), Algorithm::Ps256).unwrap_err(),
            KeyLookupError::Algorithm(Algorithm::Rs256)
        );
        assert_eq!(
            set.find(Some("k"), Algorithm::Rs256).unwrap_err(),
            KeyLookupError::Algorithm(Algorithm::Ps256)
        );
        assert_eq!(
            set.find(Some("b"), Algorithm::Rs256).unwrap_err(),
            KeyLookupError::Unknown
        );
        assert_eq!(
            set.find(None, Algorithm::Rs256).unwrap_err(),
            KeyLookupError::Unnamed
        );
        assert_eq!(
            KeySet::default()
                .find(Some("a"), Algorithm::Rs256)
                .unwrap_err(),
            KeyLookupError::Empty
        );
    }

    #[test]
    fn a_set_is_the_same_after_writing_and_parsing() {
        let mut free = jwk("free");
        free.as_object_mut().unwrap().remove("alg");
        let mut unnamed = ec("", "P-384");
        unnamed.as_object_mut().unwrap().remove("kid");
        let keys = [
            jwk("a"),
            with("alg", json!("PS256")),
            free,
            ec("e", "P-256"),
            ed25519("d"),
            unnamed,
        ];
        let set = parse(&keys).unwrap();
        let copy = KeySet::parse(&serde_json::to_vec(&set.to_jwks()).unwrap()).unwrap();
        assert!(copy.has_same_keys(&set));
        assert!(!copy.has_same_keys(&parse(&[jwk("a")]).unwrap()));
        assert!(!copy.has_same_keys(&parse(&[jwk("a"), jwk("k"), jwk("free")]).unwrap()));
    }

    #[test]
    fn a_mark_is_of_the_key_and_not_of_its_name() {
        let mark = |key: &Value| {
            let set = parse(std::slice::from_ref(key)).unwrap();
            let (_, mark) = set.find(None, Algorithm::Rs256).unwrap();
            (set, mark)
        };
        let (set, of_a) = mark(&jwk("a"));
        let (_, of_b) = mark(&jwk("b"));
        assert!(of_a == of_b && set.has(of_b));
        let (_, other) = mark(&with("n", json!(modulus(384))));
        let (_, exponent) = mark(&with("e", json!("Aw")));
        assert!(other != of_a && exponent != of_a && !set.has(other));
    }

    #[test]
    fn a_key_without_alg_serves_the_algorithms_of_its_kind() {
        for (key, kind) in [
            (jwk("a"), KeyKind::Rsa),
            (ec("a", "P-256"), KeyKind::P256),
            (ec("a", "P-384"), KeyKind::P384),
            (ed25519("a"), KeyKind::Ed25519),
        ] {
            let mut key = key;
            key.as_object_mut().unwrap().remove("alg");
            let set = parse(&[key]).unwrap();
            for algorithm in Algorithm::ALL {
                for kid in [Some("a"), None] {
                    let found = set.find(kid, algorithm).map(drop);
                    assert_eq!(found.is_ok(), algorithm.key_kind() == kind, "{algorithm:?}");
                }
            }
        }
    }

    #[test]
    fn keys_of_one_name_are_told_apart_by_the_algorithm() {
        let mark = |set: &KeySet, algorithm| set.find(Some("a"), algorithm).unwrap().1;
        let with_alg = |alg: &str, bytes: usize| {
            let mut key = jwk("a");
            key["alg"] = json!(alg);
            key["n"] = json!(modulus(bytes));
            key
        };
        let keys = [
            with_alg("RS256", 256),
            with_alg("RS512", 384),
            ec("a", "P-256"),
        ];
        let set = parse(&keys).unwrap();
        assert_eq!((set.len(), set.ignored().len()), (3, 0));
        let (first, second) = (mark(&set, Algorithm::Rs256), mark(&set, Algorithm::Rs512));
        let third = mark(&set, Algorithm::Es256);
        assert!(first != second && second != third && first != third);
        // One that states no algorithm is for both.
        let mut free = with_alg("RS256", 512);
        free.as_object_mut().unwrap().remove("alg");
        let set = parse(&[&keys[..], &[free]].concat()).unwrap();
        assert!(set.len() == 1 && set.find(Some("a"), Algorithm::Es256).is_ok());
        assert_eq!(set.ignored().len(), 1, "named once");
    }

    #[test]
    fn a_key_without_a_name_serves_tokens_that_name_none() {
        for absent in [true, false] {
            let mut unnamed = with("n", json!(modulus(384)));
            match absent {
                true => drop(unnamed.as_object_mut().unwrap().remove("kid")),
                false => unnamed["kid"] = Value::Null,
            }
            let (_, mark) = parse(std::slice::from_ref(&unnamed))
                .unwrap()
                .find(None, Algorithm::Rs256)
                .unwrap();
            let set = parse(&[jwk("a"), unnamed.clone(), ec("e", "P-256")]).unwrap();
            assert_eq!(set.find(None, Algorithm::Rs256).unwrap().1, mark);
            assert!(set.find(Some("a"), Algorithm::Rs256).unwrap().1 != mark);
            assert_eq!(
                set.find(Some("b"), Algorithm::Rs256).unwrap_err(),
                KeyLookupError::Unknown
            );
            let error = set.find(None, Algorithm::Es256).unwrap_err();
            assert_eq!(error, KeyLookupError::Algorithm(Algorithm::Rs256));
            let mut other = unnamed.clone();
            other["n"] = json!(modulus(512));
            let set = parse(&[jwk("a"), jwk("b"), unnamed, other]).unwrap();
            assert_eq!(
                set.find(None, Algorithm::Rs256).unwrap_err(),
                KeyLookupError::Unnamed
            );
            assert_eq!(set.ignored(), [IgnoredKey::Ambiguous { kid: None }]);
        }
    }

    #[test]
    fn a_member_that_is_null_is_absent() {
        let mut key = jwk("a");
        for name in ["alg", "use", "key_ops", "d", "x5c", "x5t"] {
            key[name] = Value::Null;
        }
        assert!(
            parse(&[key])
                .unwrap()
                .find(Some("a"), Algorithm::Ps512)
                .is_ok()
        );
    }

    #[test]
    fn unusable_keys_are_left_out_and_named() {
        for (key, why) in [
            (json!({"kty": "oct", "kid": "k", "k": "AAAA"}), "type 'oct'"),
            (json!({"kty": "AKP", "kid": "k"}), "type 'AKP'"),
            (
                json!({"kty": "EC", "kid": "k", "crv": "P-521"}),
                "curve 'P-521'",
            ),
            (
                json!({"kty": "OKP", "kid": "k", "crv": "X25519"}),
                "curve 'X25519'",
            ),
            (
                json!({"kty": "EC", "kid": "k", "crv": "P-256"}),
                "an invalid x",
            ),
            (
                json!({"kty": "OKP", "kid": "k", "crv": "Ed25519", "x": "AAAA"}),
                "an invalid x",
            ),
            (
                with_member(
                    ec("k", "P-256"),
                    "y",
                    json!(URL_SAFE_NO_PAD.encode([7; 32])),
                ),
                "not a valid key",
            ),
            (
                with_member(
                    ec("k", "P-256"),
                    "y",
                    json!(URL_SAFE_NO_PAD.encode([0; 33])),
                ),
                "an invalid y",
            ),
            (
                with_member(ec("k", "P-256"), "crv", json!("P-384")),
                "an invalid x",
            ),
            (
                with_member(ec("k", "P-256"), "alg", json!("ES384")),
                "for ES384, which needs another kind",
            ),
            (
                with_member(ec("k", "P-256"), "alg", json!("RS256")),
                "for RS256, which needs another kind",
            ),
            (with_member(ed25519("k"), "d", json!("AAAA")), "private"),
            (
                json!({"kty": "RSA", "kid": "k", "alg": "RS256", "x5c": ["MIIB"]}),
                "only in a certificate",
            ),
            (with("use", json!("enc")), "use 'enc'"),
            (with("key_ops", json!(["encrypt"])), "key_ops"),
            (with("alg", json!("RSA-OAEP")), "'RSA-OAEP'"),
            (
                with("alg", json!("HS256")),
                "for HS256, which needs another kind",
            ),
            (
                with("alg", json!("ES256")),
                "for ES256, which needs another kind",
            ),
            (with("alg", json!(5)), "alg that is not a string"),
            (with("use", json!("enc\u{7f}")), r"use 'enc\u{7f}', not"),
            (
                with("use", json!(["\u{9b}2J"])),
                r#"use '["\u{9b}2J"]', not"#,
            ),
            (with("d", json!("AQAB")), "private"),
            (with("n", json!(modulus(128))), "1024 bits"),
            (with("n", json!("")), "0 bits"),
            (with("n", json!("not base64!")), "an invalid n"),
            (with("e", json!("AQ")), "exponent"),
            (with("e", json!("AA")), "exponent"),
            (with("e", json!("AQAA")), "exponent"),
            (with("e", json!("AQAAAAAB")), "exponent"),
            (with("e", json!("AgAAAAE")), "exponent"),
            (
                with("n", json!(format!("{}A", &modulus(256)[..341]))),
                "even modulus",
            ),
            (
                with("kid", json!("x".repeat(257))),
                "whose kid is not a text",
            ),
            (with("kid", json!(7)), "whose kid is not a text"),
        ] {
            let set = parse(&[jwk("good"), key.clone()]).unwrap();
            assert_eq!(set.len(), 1, "{key}");
            let ignored = set.ignored()[0].to_string();
            assert!(ignored.contains(why), "{ignored}");
            assert!(!ignored.contains(char::is_control), "{ignored:?}");
            assert!(parse(&[key]).unwrap_err().contains("no usable key"));
        }
    }

    #[test]
    fn a_repeated_key_counts_once_and_a_name_with_two_keys_is_refused() {
        let set = parse(&[jwk("a"), jwk("b"), jwk("a")]).unwrap();
        assert_eq!((set.len(), set.ignored().len()), (2, 0));
        // The third key repeats the first, which does not make the name any less ambiguous.
        let other = with("n", json!(modulus(384)));
        let set = parse(&[jwk("a"), jwk("k"), other, jwk("k")]).unwrap();
        assert_eq!(set.len(), 1);
        let kid = Some("k".to_owned());
        assert_eq!(set.ignored(), [IgnoredKey::Ambiguous { kid }]);
        let set = parse(&[json!(7), jwk("a")]).unwrap();
        assert_eq!(set.ignored(), [IgnoredKey::NotAnObject]);
    }

    #[test]
    fn an_invalid_document_is_refused() {
        assert!(parse(&[]).unwrap_err().contains("no keys"));
        assert!(
            parse(&vec![jwk("a"); 65])
                .unwrap_err()
                .contains("more than")
        );
        for text in [
            "",
            "[]",
            "<html>",
            r#"{"keys":{}}"#,
            r#"{"keys":[7]}"#,
            r#"{"keys":[],"keys":[]}"#,
        ] {
            assert!(KeySet::parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
