//! The tenant's signing keys (JWKS, RFC 7517). A set is immutable; a new set replaces it as a whole.

use std::collections::HashMap;

use aws_lc_rs::error::KeyRejected;
use aws_lc_rs::signature::{
    ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, RsaParameters,
    RsaPublicKeyComponents,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};

use crate::{
    config::{Algorithm, Config, ConfigError, KeySource, errors::Problem},
    files,
    secret::sha256,
};
use input::json::{self, JsonError};

/// The maximum number of keys from one set. Auth0 lists 2 or 3; a private cloud may add 10 of its own.
pub(crate) const MAX_KEYS: usize = 64;

/// The longest `kid`, in bytes. Auth0's have 21 to 40.
const MAX_KID: usize = 256;

/// The algorithms that an RSA key can verify, with their parameters (RFC 7518, sections 3.3 and 3.5; a PSS
/// salt is as long as the hash).
const RSA: [(Algorithm, &RsaParameters); 2] = [
    (Algorithm::Rs256, &RSA_PKCS1_2048_8192_SHA256),
    (Algorithm::Ps256, &RSA_PSS_2048_8192_SHA256),
];

/// RSA public keys for signatures, by `kid`. No other kind of key is in the set: a symmetric key in a public
/// document is not secret, and Auth0 signs with RSA only.
#[derive(Debug, Default)]
pub struct KeySet {
    rsa: HashMap<String, RsaKey>,
    ignored: Vec<IgnoredKey>,
}

/// A mark of a public key, by its numbers alone: it is the same under another name and after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyMark(u64);

struct RsaKey {
    /// The parsed key for each algorithm that it may verify. Parsing includes a long division by the modulus,
    /// which costs a seventh of a check; `jsonwebtoken` repeats it for every signature.
    ready: Vec<(Algorithm, ParsedPublicKey)>,
    /// Modulus and exponent, big-endian.
    n: Vec<u8>,
    e: Vec<u8>,
    mark: KeyMark,
    /// `alg`, if the tenant states it ("Include Signing Algorithms in JSON Web Key Set").
    algorithm: Option<Algorithm>,
}

impl std::fmt::Debug for RsaKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RsaKey({:?})", self.algorithm)
    }
}

impl PartialEq for RsaKey {
    fn eq(&self, other: &Self) -> bool {
        (&self.n, &self.e, self.algorithm) == (&other.n, &other.e, other.algorithm)
    }
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
    /// It has no name, or one that is too long.
    Unnamed,
    /// Another key has the same name.
    Ambiguous {
        /// The name.
        kid: String,
    },
    /// It cannot be used.
    Unusable {
        /// Its name.
        kid: String,
        /// Why not.
        problem: KeyProblem,
    },
}

/// Why a key cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub enum KeyProblem {
    /// It is of this type, not RSA.
    Type(String),
    /// It is a private key.
    Private,
    /// Its `use` is this, not `sig`.
    Use(String),
    /// Its `key_ops` do not have `verify`.
    NotForVerifying,
    /// It is for this algorithm, which is not supported.
    Algorithm(String),
    /// Its `alg` is not a string.
    AlgorithmNotText,
    /// This number cannot be read.
    BadNumber(&'static str),
    /// Its modulus has this many bits.
    Bits(usize),
    /// Its modulus is even.
    EvenModulus,
    /// Its exponent is out of range.
    BadExponent,
    /// It has the mark of a broken generator (CVE-2017-15361).
    Roca,
    /// The cryptographic library rejects it, for this reason.
    Rejected(String),
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
        let mut ambiguous = Vec::new();
        for key in keys {
            let Value::Object(jwk) = key else {
                set.ignored.push(IgnoredKey::NotAnObject);
                continue;
            };
            let kid = match jwk.get("kid") {
                Some(Value::String(kid)) if kid.len() <= MAX_KID => kid.clone(),
                _ => {
                    set.ignored.push(IgnoredKey::Unnamed);
                    continue;
                }
            };
            match rsa(jwk) {
                Ok(key) => {
                    // Some providers list a key twice. Two different keys with one name are refused: which
                    // one is meant would depend on the reader.
                    if set.rsa.get(&kid).is_some_and(|other| *other != key) {
                        ambiguous.push(kid);
                    } else {
                        set.rsa.insert(kid, key);
                    }
                }
                Err(problem) => set.ignored.push(IgnoredKey::Unusable { kid, problem }),
            }
        }
        for kid in ambiguous {
            if set.rsa.remove(&kid).is_some() {
                set.ignored.push(IgnoredKey::Ambiguous { kid });
            }
        }
        if set.rsa.is_empty() {
            let first = set.ignored.into_iter().next();
            return Err(first.map_or(JwksProblem::NoKeys, JwksProblem::NoneUsable));
        }
        Ok(set)
    }

    /// Reads the keys in `jwks_file`, if that option is set.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the file.
    pub(crate) fn of_file(config: &Config) -> Result<Option<Self>, ConfigError> {
        /// The maximum size of the file. A key set has a few kilobytes.
        const MAX_FILE: u64 = 256 * 1024;
        let KeySource::File(path) = &config.keys else {
            return Ok(None);
        };
        let error = |problem| ConfigError::new("jwks_file", &path.display().to_string(), problem);
        let content = files::read(path, MAX_FILE).map_err(|why| error(Problem::File(why)))?;
        let keys = Self::parse(&content.bytes);
        let keys = keys.map_err(|why| error(Problem::Keys(why.to_string())))?;
        Ok(Some(keys))
    }

    /// Returns the name of each key, and the algorithm that it is for, if it states one.
    pub fn names(&self) -> impl Iterator<Item = (&str, Option<Algorithm>)> {
        let keys = self.rsa.iter();
        keys.map(|(kid, key)| (kid.as_str(), key.algorithm))
    }

    /// Returns the key that a token names, if it may verify that algorithm, and its mark. A token without `kid` gets
    /// the only key of the set.
    ///
    /// # Errors
    ///
    /// Returns why the set has no such key.
    pub fn rsa(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<(&ParsedPublicKey, KeyMark), KeyLookupError> {
        let key = match kid {
            _ if self.rsa.is_empty() => return Err(KeyLookupError::Empty),
            Some(kid) => self.rsa.get(kid).ok_or(KeyLookupError::Unknown)?,
            None if self.rsa.len() == 1 => self.rsa.values().next().expect("one key"),
            None => return Err(KeyLookupError::Unnamed),
        };
        let ready = key.ready.iter().find(|(one, _)| *one == algorithm);
        ready.map(|(_, ready)| (ready, key.mark)).ok_or_else(|| {
            // A key without a stated algorithm is ready for all of them.
            KeyLookupError::Algorithm(key.algorithm.unwrap_or(algorithm))
        })
    }

    /// Whether the set holds the key with this mark, under whatever name.
    pub fn has(&self, mark: KeyMark) -> bool {
        self.rsa.values().any(|key| key.mark == mark)
    }

    /// Whether both sets hold the same keys.
    pub fn has_same_keys(&self, other: &Self) -> bool {
        self.rsa == other.rsa
    }

    /// Returns the keys as a JWK Set, without the ignored ones.
    pub(crate) fn to_jwks(&self) -> Map<String, Value> {
        let jwk = |(kid, key): (&String, &RsaKey)| {
            let mut jwk = json!({
                "kty": "RSA", "use": "sig", "kid": kid,
                "n": URL_SAFE_NO_PAD.encode(&key.n), "e": URL_SAFE_NO_PAD.encode(&key.e),
            });
            if let Some(algorithm) = key.algorithm {
                jwk["alg"] = algorithm.name().into();
            }
            jwk
        };
        Map::from_iter([("keys".into(), self.rsa.iter().map(jwk).collect())])
    }

    /// Returns the number of keys.
    pub fn len(&self) -> usize {
        self.rsa.len()
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.rsa.is_empty()
    }

    /// Returns the keys of the document that were left out, with the reason.
    pub fn ignored(&self) -> &[IgnoredKey] {
        &self.ignored
    }
}

/// Parses an RSA key for signatures, or returns why it is not usable.
fn rsa(jwk: &Map<String, Value>) -> Result<RsaKey, KeyProblem> {
    let algorithm = stated_algorithm(jwk)?;
    let (n, e) = rsa_numbers(jwk)?;
    let key = RsaPublicKeyComponents { n: &n, e: &e };
    let ready = RSA
        .into_iter()
        .filter(|(one, _)| algorithm.is_none_or(|stated| stated == *one))
        .map(|(one, parameters)| Ok((one, key.to_parsed_public_key(parameters)?)))
        .collect::<Result<_, KeyRejected>>()
        .map_err(|why| KeyProblem::Rejected(why.to_string()))?;
    Ok(RsaKey {
        ready,
        mark: mark(&n, &e),
        n,
        e,
        algorithm,
    })
}

fn mark(n: &[u8], e: &[u8]) -> KeyMark {
    // The length makes a difference between numbers that are cut at different places.
    let numbers = [&n.len().to_be_bytes()[..], n, e].concat();
    let hash = sha256(&numbers);
    let first = hash.first_chunk().expect("a hash has 32 bytes");
    KeyMark(u64::from_be_bytes(*first))
}

/// Checks that a key is a public RSA key for signatures. Returns its algorithm, if it states one.
fn stated_algorithm(jwk: &Map<String, Value>) -> Result<Option<Algorithm>, KeyProblem> {
    match jwk.get("kty").and_then(Value::as_str) {
        Some("RSA") => {}
        other => {
            return Err(KeyProblem::Type(other.unwrap_or("none").to_owned()));
        }
    }
    if jwk.contains_key("d") {
        return Err(KeyProblem::Private);
    }
    if let Some(purpose) = jwk.get("use").filter(|p| *p != "sig") {
        return Err(KeyProblem::Use(purpose.to_string()));
    }
    if let Some(operations) = jwk.get("key_ops") {
        let verify = operations
            .as_array()
            .is_some_and(|ops| ops.iter().any(|op| op == "verify"));
        if !verify {
            return Err(KeyProblem::NotForVerifying);
        }
    }
    match jwk.get("alg") {
        None => Ok(None),
        Some(Value::String(name)) => match Algorithm::parse(name) {
            Some(algorithm) if algorithm != Algorithm::Hs256 => Ok(Some(algorithm)),
            _ => Err(KeyProblem::Algorithm(name.clone())),
        },
        Some(_) => Err(KeyProblem::AlgorithmNotText),
    }
}

/// Returns modulus and exponent, big-endian, unless they are weak.
fn rsa_numbers(jwk: &Map<String, Value>) -> Result<(Vec<u8>, Vec<u8>), KeyProblem> {
    let number = |name: &'static str| {
        jwk.get(name)
            .and_then(Value::as_str)
            .and_then(|part| URL_SAFE_NO_PAD.decode(part).ok())
            .map(|bytes| bytes[bytes.iter().take_while(|&&b| b == 0).count()..].to_vec())
            .ok_or(KeyProblem::BadNumber(name))
    };
    let (n, e) = (number("n")?, number("e")?);
    let bits = n.len() * 8 - n.first().map_or(0, |b| b.leading_zeros() as usize);
    if !(2048..=8192).contains(&bits) {
        return Err(KeyProblem::Bits(bits));
    }
    if n.last().is_none_or(|last| last % 2 == 0) {
        return Err(KeyProblem::EvenModulus);
    }
    // With an exponent of 1 every signature equals its message. No library accepts an exponent of more than 33 bits.
    let exponent = e.iter().try_fold(0u64, |acc, &b| {
        (e.len() <= 5).then_some(acc << 8 | u64::from(b))
    });
    if !exponent.is_some_and(|e| (3..1 << 33).contains(&e) && e % 2 == 1) {
        return Err(KeyProblem::BadExponent);
    }
    if is_roca(&n) {
        return Err(KeyProblem::Roca);
    }
    Ok((n, e))
}

/// CVE-2017-15361 (ROCA): keys from one chip vendor's generator can be factored. Their modulus is a power of
/// 65537 modulo every small prime (Nemec et al., "The Return of Coppersmith's Attack", 2017).
fn is_roca(modulus: &[u8]) -> bool {
    const PRIMES: [u32; 38] = [
        3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89,
        97, 101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
    ];
    PRIMES.iter().all(|&prime| {
        let residue = modulus
            .iter()
            .fold(0, |acc, &byte| (acc << 8 | u32::from(byte)) % prime);
        let mut power = 1;
        (0..prime).any(|_| {
            power = power * 65537 % prime;
            power == residue
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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

    fn parse(keys: &[Value]) -> Result<KeySet, String> {
        let text = json!({ "keys": keys }).to_string();
        KeySet::parse(text.as_bytes()).map_err(|why| why.to_string())
    }

    #[test]
    fn a_key_is_used_for_its_name_and_algorithm_only() {
        let set = parse(&[jwk("a"), with("alg", json!("PS256"))]).unwrap();
        assert!(set.rsa(Some("a"), Algorithm::Rs256).is_ok());
        assert_eq!(
            set.rsa(Some("a"), Algorithm::Ps256).unwrap_err(),
            KeyLookupError::Algorithm(Algorithm::Rs256)
        );
        assert_eq!(
            set.rsa(Some("k"), Algorithm::Rs256).unwrap_err(),
            KeyLookupError::Algorithm(Algorithm::Ps256)
        );
        assert_eq!(
            set.rsa(Some("b"), Algorithm::Rs256).unwrap_err(),
            KeyLookupError::Unknown
        );
        assert_eq!(
            set.rsa(None, Algorithm::Rs256).unwrap_err(),
            KeyLookupError::Unnamed
        );
        assert_eq!(
            KeySet::default()
                .rsa(Some("a"), Algorithm::Rs256)
                .unwrap_err(),
            KeyLookupError::Empty
        );
    }

    #[test]
    fn a_set_is_the_same_after_writing_and_parsing() {
        let mut free = jwk("free");
        free.as_object_mut().unwrap().remove("alg");
        let set = parse(&[jwk("a"), with("alg", json!("PS256")), free]).unwrap();
        let copy = KeySet::parse(&serde_json::to_vec(&set.to_jwks()).unwrap()).unwrap();
        assert!(copy.has_same_keys(&set));
        assert!(!copy.has_same_keys(&parse(&[jwk("a")]).unwrap()));
        assert!(!copy.has_same_keys(&parse(&[jwk("a"), jwk("k"), jwk("free")]).unwrap()));
    }

    #[test]
    fn a_mark_is_of_the_key_and_not_of_its_name() {
        let mark = |key: &Value| {
            let set = parse(std::slice::from_ref(key)).unwrap();
            let (_, mark) = set.rsa(None, Algorithm::Rs256).unwrap();
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
    fn a_key_without_alg_serves_both_rsa_algorithms() {
        let mut key = jwk("a");
        key.as_object_mut().unwrap().remove("alg");
        let set = parse(&[key]).unwrap();
        assert!(
            set.rsa(Some("a"), Algorithm::Rs256).is_ok()
                && set.rsa(Some("a"), Algorithm::Ps256).is_ok()
        );
        assert!(
            set.rsa(None, Algorithm::Rs256).is_ok(),
            "the only key needs no name"
        );
    }

    #[test]
    fn unusable_keys_are_left_out_and_named() {
        for (key, why) in [
            (json!({"kty": "oct", "kid": "k", "k": "AAAA"}), "type 'oct'"),
            (
                json!({"kty": "EC", "kid": "k", "crv": "P-256"}),
                "type 'EC'",
            ),
            (with("use", json!("enc")), "use \"enc\""),
            (with("key_ops", json!(["encrypt"])), "key_ops"),
            (with("alg", json!("RS512")), "'RS512'"),
            (with("alg", json!("HS256")), "'HS256'"),
            (with("alg", json!(5)), "alg that is not a string"),
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
            (with("kid", json!("x".repeat(257))), "without a usable kid"),
            (with("kid", json!(7)), "without a usable kid"),
        ] {
            let set = parse(&[jwk("good"), key.clone()]).unwrap();
            assert_eq!(set.len(), 1, "{key}");
            let ignored = set.ignored()[0].to_string();
            assert!(ignored.contains(why), "{ignored}");
            assert!(parse(&[key]).unwrap_err().contains("no usable key"));
        }
    }

    #[test]
    fn a_repeated_key_counts_once_and_a_name_with_two_keys_is_refused() {
        let set = parse(&[jwk("a"), jwk("b"), jwk("a")]).unwrap();
        assert_eq!((set.len(), set.ignored().len()), (2, 0));
        // The third key repeats the first, which does not make the name any less ambiguous.
        let other = with("alg", json!("PS256"));
        let set = parse(&[jwk("a"), jwk("k"), other, jwk("k")]).unwrap();
        assert_eq!(set.len(), 1);
        let kid = "k".to_owned();
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
