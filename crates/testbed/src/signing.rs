//! Keys and signatures: tokens as Auth0 issues them, and as an attacker would forge them.
//!
//! Headers and claims are anything that can be displayed: a `serde_json::Value`, [`Members`] when the order
//! matters, or plain text that is *not* the JSON that a library would write. The format is RFC 7515.

use std::fmt::{self, Display};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{self, KeyPair as _, RsaEncoding};
use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde_json::Value;

use crate::json::Members;
use crate::lock;

/// Signature algorithms of an RSA key (RFC 7518 sections 3.3 and 3.5). Auth0 uses the two with 256 bits; the
/// others are for forging.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Alg {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
}

impl Alg {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
    ];

    /// Returns the algorithm's name, as in `alg` of a token's header.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
        }
    }

    fn encoding(self) -> &'static dyn RsaEncoding {
        match self {
            Self::Rs256 => &signature::RSA_PKCS1_SHA256,
            Self::Rs384 => &signature::RSA_PKCS1_SHA384,
            Self::Rs512 => &signature::RSA_PKCS1_SHA512,
            Self::Ps256 => &signature::RSA_PSS_SHA256,
            Self::Ps384 => &signature::RSA_PSS_SHA384,
            Self::Ps512 => &signature::RSA_PSS_SHA512,
        }
    }
}

/// A tenant's signing key: RSA, 2048 bits, with the self-signed certificate that Auth0 publishes next to it.
pub struct SigningKey {
    kid: String,
    pair: KeyPair,
    certificate: Vec<u8>,
}

impl SigningKey {
    /// Generates a key. This takes some tens of milliseconds, see [`shared_key`].
    pub fn generate(kid: &str) -> Self {
        let pair = KeyPair::generate(KeySize::Rsa2048).expect("an RSA key");
        let certificate = self_signed(&pair);
        Self {
            kid: kid.to_owned(),
            pair,
            certificate,
        }
    }

    /// Returns the key's ID: opaque text in Auth0's newer tenants.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Returns the public key as in Auth0's JWKS, with members in Auth0's order.
    pub fn jwk_members(&self) -> Members {
        let public = self.pair.public_key();
        let modulus = public.modulus();
        let exponent = public.exponent();
        let thumbprint = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &self.certificate);
        Members::new()
            .with("kty", "RSA")
            .with("use", "sig")
            .with("n", url64(modulus.big_endian_without_leading_zero()))
            .with("e", url64(exponent.big_endian_without_leading_zero()))
            .with("kid", self.kid.as_str())
            .with("x5t", url64(thumbprint.as_ref()))
            .with("x5c", vec![STANDARD.encode(&self.certificate)])
            .with("alg", "RS256")
    }

    /// Returns [`SigningKey::jwk_members`] as a value, for changing it.
    pub fn jwk(&self) -> Value {
        Value::from(&self.jwk_members())
    }

    /// Returns the public key as SubjectPublicKeyInfo, DER.
    pub fn public_der(&self) -> Vec<u8> {
        let der: PublicKeyX509Der<'_> = self.pair.public_key().as_der().expect("a DER");
        der.as_ref().to_vec()
    }

    /// Returns the public key as SubjectPublicKeyInfo, PEM: the classic secret of a forged HS256 token.
    pub fn public_pem(&self) -> String {
        pem("PUBLIC KEY", &self.public_der())
    }

    /// Returns the big-endian modulus, without leading zero.
    pub fn modulus(&self) -> Vec<u8> {
        let public = self.pair.public_key();
        public.modulus().big_endian_without_leading_zero().to_vec()
    }

    /// Returns the self-signed certificate of `x5c`, PEM, as Auth0 serves it under `/pem`.
    pub fn certificate_pem(&self) -> String {
        pem("CERTIFICATE", &self.certificate)
    }

    /// Returns the private key, PKCS #8 PEM.
    pub fn private_pem(&self) -> String {
        pem("PRIVATE KEY", &private_der(&self.pair))
    }

    /// Returns a compact JWS of exactly these texts. `alg` decides how it is signed; the header may say
    /// anything.
    pub fn sign(&self, alg: Alg, header: impl Display, claims: impl Display) -> String {
        let (header, claims) = (header.to_string(), claims.to_string());
        self.sign_raw(alg, header.as_bytes(), claims.as_bytes())
    }

    /// Like [`SigningKey::sign`], for headers and payloads that are not text.
    pub fn sign_raw(&self, alg: Alg, header: &[u8], payload: &[u8]) -> String {
        let input = signing_input(header, payload);
        let signature = self.signature(alg, input.as_bytes());
        format!("{input}.{}", url64(&signature))
    }

    /// Returns the bare signature of any bytes, for tokens that are assembled by hand.
    pub fn signature(&self, alg: Alg, message: &[u8]) -> Vec<u8> {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(
                alg.encoding(),
                &SystemRandom::new(),
                message,
                &mut signature,
            )
            .expect("an RSA signature");
        signature
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "RsaKey({})", self.kid)
    }
}

/// Returns the `nth` key of a set that the whole process shares, generated on first use.
///
/// Every tenant of a test binary signs with these keys, so that each key is generated once and not for each
/// tenant.
pub fn shared_key(nth: usize) -> Arc<SigningKey> {
    static KEYS: Mutex<Vec<Arc<SigningKey>>> = Mutex::new(Vec::new());
    let mut keys = lock(&KEYS);
    while keys.len() <= nth {
        keys.push(Arc::new(SigningKey::generate(&random_kid())));
    }
    Arc::clone(&keys[nth])
}

/// Returns a key ID of Auth0's current form: 21 characters of base64url.
pub fn random_kid() -> String {
    let mut kid = url64(&random_bytes::<16>());
    kid.truncate(21);
    kid
}

/// Returns a compact JWS signed with HMAC-SHA-256 (RFC 7518 section 3.2).
pub fn hs256(secret: &[u8], header: impl Display, claims: impl Display) -> String {
    let (header, claims) = (header.to_string(), claims.to_string());
    hs256_raw(secret, header.as_bytes(), claims.as_bytes())
}

/// Like [`hs256`], for headers and payloads that are not text.
pub fn hs256_raw(secret: &[u8], header: &[u8], payload: &[u8]) -> String {
    let input = signing_input(header, payload);
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let tag = hmac::sign(&key, input.as_bytes());
    format!("{input}.{}", url64(tag.as_ref()))
}

/// Returns an unsecured JWS (RFC 7515 appendix A.5): two parts and an empty signature.
pub fn unsigned(header: impl Display, claims: impl Display) -> String {
    let (header, claims) = (header.to_string(), claims.to_string());
    format!("{}.", signing_input(header.as_bytes(), claims.as_bytes()))
}

/// Returns the Unix time in seconds, as in `iat` and `exp` (RFC 7519 section 2, NumericDate).
pub fn now() -> u64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH);
    elapsed.expect("a clock after 1970").as_secs()
}

/// Encodes base64url without padding (RFC 7515 section 2).
pub fn url64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Returns the header and the claims of a compact JWS, unverified. Returns `None` when they are not JSON
/// objects.
pub fn peek(token: &str) -> Option<(Value, Value)> {
    let mut parts = token.split('.').map(|part| {
        let bytes = URL_SAFE_NO_PAD.decode(part).ok()?;
        let value: Value = serde_json::from_slice(&bytes).ok()?;
        value.is_object().then_some(value)
    });
    Some((parts.next()??, parts.next()??))
}

pub(crate) fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("random bytes");
    bytes
}

/// Returns a random text: 60 hexadecimal digits.
#[must_use]
pub fn random_text() -> String {
    let bytes = random_bytes::<30>();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn signing_input(header: &[u8], payload: &[u8]) -> String {
    format!("{}.{}", url64(header), url64(payload))
}

fn private_der(pair: &KeyPair) -> Vec<u8> {
    let der: Pkcs8V1Der<'_> = pair.as_der().expect("a DER");
    der.as_ref().to_vec()
}

fn self_signed(pair: &KeyPair) -> Vec<u8> {
    let der = PrivatePkcs8KeyDer::from(private_der(pair));
    let key = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_RSA_SHA256)
        .expect("the key that was just made");
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let common_name = rcgen::DnType::CommonName;
    params.distinguished_name.push(common_name, "lab tenant");
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2049, 12, 31);
    let certificate = params.self_signed(&key).expect("a certificate");
    certificate.der().to_vec()
}

/// Encodes PEM (RFC 7468): base64 in lines of 64 characters.
fn pem(label: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in STANDARD.encode(der).as_bytes().chunks(64) {
        text.extend(line.iter().map(|byte| char::from(*byte)));
        text.push('\n');
    }
    text + &format!("-----END {label}-----\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::signature::{RsaParameters, UnparsedPublicKey};
    use jsonwebtoken::{Algorithm, DecodingKey, Validation, jwk::Jwk};
    use serde_json::json;

    fn decode(token: &str, key: &DecodingKey, alg: Algorithm) -> Result<Value, String> {
        let mut rules = Validation::new(alg);
        rules.validate_aud = false;
        rules.required_spec_claims.clear();
        let decoded = jsonwebtoken::decode::<Value>(token, key, &rules);
        decoded.map(|token| token.claims).map_err(|e| e.to_string())
    }

    #[test]
    fn another_library_verifies_what_is_signed_with_the_published_key() {
        let key = shared_key(0);
        let jwk: Jwk = serde_json::from_value(key.jwk()).unwrap();
        let public = DecodingKey::from_jwk(&jwk).unwrap();
        let claims = json!({"sub": "auth0|1"});
        for (alg, theirs) in [
            (Alg::Rs256, Algorithm::RS256),
            (Alg::Rs384, Algorithm::RS384),
            (Alg::Rs512, Algorithm::RS512),
            (Alg::Ps256, Algorithm::PS256),
            (Alg::Ps384, Algorithm::PS384),
            (Alg::Ps512, Algorithm::PS512),
        ] {
            let token = key.sign(alg, json!({"alg": alg.name()}), &claims);
            assert_eq!(decode(&token, &public, theirs), Ok(claims.clone()));
        }
        let other = shared_key(1).sign(Alg::Rs256, json!({"alg": "RS256"}), &claims);
        assert!(decode(&other, &public, Algorithm::RS256).is_err());
    }

    #[test]
    fn an_hmac_token_is_keyed_by_the_bytes_of_its_secret() {
        let token = hs256(b"secret", json!({"alg": "HS256"}), json!({"a": 1}));
        let right = DecodingKey::from_secret(b"secret");
        let wrong = DecodingKey::from_secret(b"Secret");
        assert_eq!(
            decode(&token, &right, Algorithm::HS256),
            Ok(json!({"a": 1}))
        );
        assert!(decode(&token, &wrong, Algorithm::HS256).is_err());
    }

    #[test]
    fn any_text_can_be_signed_as_it_stands() {
        let key = shared_key(0);
        let claims = r#"{"exp":1e400,"exp":1}"#;
        let token = key.sign(Alg::Rs256, "not json", claims);
        let parts: Vec<&str> = token.split('.').collect();
        assert_eq!(URL_SAFE_NO_PAD.decode(parts[0]).unwrap(), b"not json");
        assert_eq!(URL_SAFE_NO_PAD.decode(parts[1]).unwrap(), claims.as_bytes());
        let message = token.rsplit_once('.').unwrap().0;
        let signature = URL_SAFE_NO_PAD.decode(parts[2]).unwrap();
        let rule: &RsaParameters = &signature::RSA_PKCS1_2048_8192_SHA256;
        UnparsedPublicKey::new(rule, key.public_der())
            .verify(message.as_bytes(), &signature)
            .unwrap();
        assert!(unsigned("{}", "{}").ends_with('.'));
    }

    #[test]
    fn the_jwk_has_auth0s_members_in_auth0s_order() {
        let key = shared_key(0);
        let jwk = key.jwk_members();
        let names: Vec<&str> = jwk.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["kty", "use", "n", "e", "kid", "x5t", "x5c", "alg"]);
        assert_eq!(jwk.get("e").unwrap(), "AQAB");
        assert_eq!(jwk.get("n").unwrap(), url64(&key.modulus()).as_str());
        assert_eq!(key.kid().len(), 21);
        let x5c = jwk.get("x5c").unwrap()[0].as_str().unwrap();
        let lines = key.certificate_pem().lines().count();
        assert_eq!(lines, 2 + x5c.len().div_ceil(64));
        assert!(key.public_pem().starts_with("-----BEGIN PUBLIC KEY-----\n"));
    }
}
