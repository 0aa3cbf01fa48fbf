//! One public key of a tenant (JWK: RFC 7517; RSA and elliptic curves: RFC 7518, section 6; Ed25519: RFC 8037).

use aws_lc_rs::{
    error::KeyRejected,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey,
        RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
        RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512,
        RsaParameters, RsaPublicKeyComponents,
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};

use crate::{
    algorithm::{Algorithm, KeyKind},
    secret::sha256,
};

/// The algorithms that an RSA key can verify, with their parameters (RFC 7518, sections 3.3 and 3.5; a PSS salt is as
/// long as the hash).
const RSA: [(Algorithm, &RsaParameters); 6] = [
    (Algorithm::Rs256, &RSA_PKCS1_2048_8192_SHA256),
    (Algorithm::Rs384, &RSA_PKCS1_2048_8192_SHA384),
    (Algorithm::Rs512, &RSA_PKCS1_2048_8192_SHA512),
    (Algorithm::Ps256, &RSA_PSS_2048_8192_SHA256),
    (Algorithm::Ps384, &RSA_PSS_2048_8192_SHA384),
    (Algorithm::Ps512, &RSA_PSS_2048_8192_SHA512),
];

/// A mark of a public key, by its numbers alone: it is the same under another name and after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyMark(pub(crate) u64);

/// A public key for signatures. A symmetric key is none: in a public document it is not secret.
pub(super) struct PublicKey {
    /// The parsed key for each algorithm that it may verify. Parsing an RSA key includes a long division by the
    /// modulus, which costs a seventh of a check; `jsonwebtoken` repeats it for every signature.
    ready: Vec<(Algorithm, ParsedPublicKey)>,
    numbers: Numbers,
    mark: KeyMark,
    /// `alg`, if the tenant states it ("Include Signing Algorithms in JSON Web Key Set").
    stated: Option<Algorithm>,
}

/// What a public key consists of: big-endian numbers.
#[derive(PartialEq, Eq)]
enum Numbers {
    /// Modulus and exponent.
    Rsa { n: Vec<u8>, e: Vec<u8> },
    /// A point on one of the curves P-256 and P-384.
    Point {
        curve: Curve,
        x: Vec<u8>,
        y: Vec<u8>,
    },
    /// A point on Ed25519.
    Ed25519(Vec<u8>),
}

/// A curve of ECDSA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Curve {
    P256,
    P384,
}

/// Why a key cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub enum KeyProblem {
    /// It is of this type, which is not supported.
    Type(String),
    /// It is on this curve, which is not supported.
    Curve(String),
    /// It is a private key.
    Private,
    /// Its `use` is this, not `sig`.
    Use(String),
    /// Its `key_ops` do not have `verify`.
    NotForVerifying,
    /// It is for this algorithm, which is not supported.
    Algorithm(String),
    /// It is for this algorithm, which another kind of key is for.
    AlgorithmOfOtherKind(Algorithm),
    /// Its `alg` is not a string.
    AlgorithmNotText,
    /// It has nothing but a certificate (`x5c`), which is not read.
    CertificateAlone,
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

impl From<KeyRejected> for KeyProblem {
    fn from(why: KeyRejected) -> Self {
        Self::Rejected(why.to_string())
    }
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicKey({:?}, {:?})", self.mark, self.stated)
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        (&self.numbers, self.stated) == (&other.numbers, other.stated)
    }
}

impl PublicKey {
    /// Reads a public key for signatures.
    ///
    /// # Errors
    ///
    /// Returns why the key cannot be used.
    pub(super) fn read(jwk: &Map<String, Value>) -> Result<Self, KeyProblem> {
        let jwk = Jwk(jwk);
        let numbers = match jwk.kind()? {
            KeyKind::Rsa => rsa_numbers(jwk)?,
            KeyKind::P256 => point(jwk, Curve::P256)?,
            KeyKind::P384 => point(jwk, Curve::P384)?,
            KeyKind::Ed25519 => Numbers::Ed25519(jwk.number_of("x", 32)?),
            KeyKind::Secret => return Err(KeyProblem::Type("oct".to_owned())),
        };
        let stated = jwk.stated_algorithm(numbers.kind())?;
        Ok(Self {
            ready: numbers.ready(stated)?,
            mark: numbers.mark(),
            numbers,
            stated,
        })
    }

    /// Returns the key as it is needed to verify this algorithm, or `None` if it may not.
    pub(super) fn ready_for(&self, algorithm: Algorithm) -> Option<&ParsedPublicKey> {
        let ready = self.ready.iter().find(|(one, _)| *one == algorithm);
        ready.map(|(_, key)| key)
    }

    /// Returns the algorithms that it may verify: at least one.
    pub(super) fn algorithms(&self) -> impl Iterator<Item = Algorithm> {
        self.ready.iter().map(|(algorithm, _)| *algorithm)
    }

    /// Returns the first algorithm that it may verify.
    pub(super) fn first_algorithm(&self) -> Algorithm {
        self.ready[0].0
    }

    /// Whether there is an algorithm that both may verify, with different numbers.
    pub(super) fn conflicts_with(&self, other: &Self) -> bool {
        let has_common = self
            .ready
            .iter()
            .any(|(one, _)| other.ready_for(*one).is_some());
        has_common && self.numbers != other.numbers
    }

    /// Returns the mark of the key.
    pub(super) fn mark(&self) -> KeyMark {
        self.mark
    }

    /// Returns the key as a JWK.
    pub(super) fn to_jwk(&self, kid: Option<&str>) -> Value {
        let encode = |number: &[u8]| URL_SAFE_NO_PAD.encode(number);
        let mut jwk = match &self.numbers {
            Numbers::Rsa { n, e } => json!({ "kty": "RSA", "n": encode(n), "e": encode(e) }),
            Numbers::Point { curve, x, y } => {
                json!({ "kty": "EC", "crv": curve.name(), "x": encode(x), "y": encode(y) })
            }
            Numbers::Ed25519(x) => json!({ "kty": "OKP", "crv": "Ed25519", "x": encode(x) }),
        };
        jwk["use"] = "sig".into();
        if let Some(kid) = kid {
            jwk["kid"] = kid.into();
        }
        if let Some(algorithm) = self.stated {
            jwk["alg"] = algorithm.name().into();
        }
        jwk
    }
}

impl Curve {
    /// Returns its name in a JWK.
    const fn name(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
        }
    }

    /// Returns the length of a coordinate, in bytes.
    const fn bytes(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
        }
    }
}

impl Numbers {
    fn kind(&self) -> KeyKind {
        match self {
            Self::Rsa { .. } => KeyKind::Rsa,
            Self::Point { curve, .. } => match curve {
                Curve::P256 => KeyKind::P256,
                Curve::P384 => KeyKind::P384,
            },
            Self::Ed25519(_) => KeyKind::Ed25519,
        }
    }

    /// Parses the key for each algorithm that it may verify: for all of its kind, unless it states one.
    fn ready(
        &self,
        stated: Option<Algorithm>,
    ) -> Result<Vec<(Algorithm, ParsedPublicKey)>, KeyProblem> {
        match self {
            Self::Rsa { n, e } => {
                let key = RsaPublicKeyComponents { n, e };
                RSA.into_iter()
                    .filter(|(one, _)| stated.is_none_or(|stated| stated == *one))
                    .map(|(one, parameters)| Ok((one, key.to_parsed_public_key(parameters)?)))
                    .collect()
            }
            Self::Point { curve, x, y } => {
                // An uncompressed point (SEC 1, section 2.3.3). The library rejects one that is not on the curve.
                let point = [&[4], &x[..], y].concat();
                let (algorithm, key) = match curve {
                    Curve::P256 => (
                        Algorithm::Es256,
                        ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point),
                    ),
                    Curve::P384 => (
                        Algorithm::Es384,
                        ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point),
                    ),
                };
                Ok(vec![(algorithm, key?)])
            }
            Self::Ed25519(x) => {
                let key = ParsedPublicKey::new(&ED25519, x)?;
                Ok(vec![(Algorithm::EdDsa, key)])
            }
        }
    }

    fn mark(&self) -> KeyMark {
        let (first, second): (&[u8], &[u8]) = match self {
            Self::Rsa { n, e } => (n, e),
            Self::Point { x, y, .. } => (x, y),
            Self::Ed25519(x) => (x, &[]),
        };
        // The length makes a difference between numbers that are cut at different places.
        let numbers = [&first.len().to_be_bytes()[..], first, second].concat();
        let hash = sha256(&numbers);
        let start = hash.first_chunk().expect("a hash has 32 bytes");
        KeyMark(u64::from_be_bytes(*start))
    }
}

/// A key as the tenant writes it. Some providers write `null` for a member that the key does not have.
#[derive(Clone, Copy)]
struct Jwk<'a>(&'a Map<String, Value>);

impl<'a> Jwk<'a> {
    fn get(self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    fn text(self, name: &str) -> Option<&'a str> {
        self.get(name).and_then(Value::as_str)
    }

    /// Returns the kind of the key, if it is a public key for signatures.
    fn kind(self) -> Result<KeyKind, KeyProblem> {
        let kind = match self.text("kty") {
            Some("RSA") => KeyKind::Rsa,
            Some("EC") => match self.text("crv") {
                Some("P-256") => KeyKind::P256,
                Some("P-384") => KeyKind::P384,
                other => return Err(KeyProblem::Curve(other.unwrap_or("none").to_owned())),
            },
            Some("OKP") => match self.text("crv") {
                Some("Ed25519") => KeyKind::Ed25519,
                other => return Err(KeyProblem::Curve(other.unwrap_or("none").to_owned())),
            },
            other => return Err(KeyProblem::Type(other.unwrap_or("none").to_owned())),
        };
        if self.get("d").is_some() {
            return Err(KeyProblem::Private);
        }
        if let Some(purpose) = self.get("use").filter(|purpose| *purpose != "sig") {
            let text = purpose.as_str().map(str::to_owned);
            return Err(KeyProblem::Use(text.unwrap_or_else(|| purpose.to_string())));
        }
        if let Some(operations) = self.get("key_ops") {
            let operations = operations.as_array();
            if !operations.is_some_and(|ops| ops.iter().any(|op| op == "verify")) {
                return Err(KeyProblem::NotForVerifying);
            }
        }
        let number = if kind == KeyKind::Rsa { "n" } else { "x" };
        if self.get(number).is_none() && self.get("x5c").is_some() {
            return Err(KeyProblem::CertificateAlone);
        }
        Ok(kind)
    }

    /// Returns its algorithm, if it states one.
    fn stated_algorithm(self, kind: KeyKind) -> Result<Option<Algorithm>, KeyProblem> {
        match self.get("alg") {
            None => Ok(None),
            Some(Value::String(name)) => match Algorithm::parse(name) {
                Some(algorithm) if algorithm.key_kind() == kind => Ok(Some(algorithm)),
                Some(algorithm) => Err(KeyProblem::AlgorithmOfOtherKind(algorithm)),
                None => Err(KeyProblem::Algorithm(name.clone())),
            },
            Some(_) => Err(KeyProblem::AlgorithmNotText),
        }
    }

    /// Returns the bytes of a number.
    fn number(self, name: &'static str) -> Result<Vec<u8>, KeyProblem> {
        self.text(name)
            .and_then(|text| URL_SAFE_NO_PAD.decode(text).ok())
            .ok_or(KeyProblem::BadNumber(name))
    }

    /// Returns the bytes of a number that has exactly this length (RFC 7518, section 6.2.1.2).
    fn number_of(self, name: &'static str, bytes: usize) -> Result<Vec<u8>, KeyProblem> {
        let number = self.number(name)?;
        match number.len() == bytes {
            true => Ok(number),
            false => Err(KeyProblem::BadNumber(name)),
        }
    }
}

fn point(jwk: Jwk, curve: Curve) -> Result<Numbers, KeyProblem> {
    Ok(Numbers::Point {
        curve,
        x: jwk.number_of("x", curve.bytes())?,
        y: jwk.number_of("y", curve.bytes())?,
    })
}

/// Returns modulus and exponent, unless they are weak.
fn rsa_numbers(jwk: Jwk) -> Result<Numbers, KeyProblem> {
    let number = |name| -> Result<Vec<u8>, KeyProblem> {
        let bytes = jwk.number(name)?;
        Ok(bytes[bytes.iter().take_while(|&&b| b == 0).count()..].to_vec())
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
    Ok(Numbers::Rsa { n, e })
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
