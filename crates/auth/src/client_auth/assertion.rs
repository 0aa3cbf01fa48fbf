//! A client assertion: how an application proves with its private key who it is (RFC 7523, section 2.2; Auth0,
//! "Authenticate with Private Key JWT").
//!
//! The key is kept as its file has it, in memory that is in no core dump, and read anew for each assertion: AWS-LC
//! would keep a key that was read in memory of its own.

use aws_lc_rs::{
    rand::{self, SystemRandom},
    rsa,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384,
        RSA_PSS_SHA256, RsaEncoding,
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rustls::pki_types::{PrivateKeyDer, pem::PemObject};
use serde_json::json;

use crate::{algorithm::Algorithm, clock::Unix, secret::Secret};

/// The kind of assertion, as a token request names it.
pub(crate) const KIND: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// How many seconds an assertion is good for. Auth0 recommends a minute, and takes five at most.
const LIFETIME: u64 = 60;

/// A private key, and how it signs.
#[derive(Clone, Debug)]
pub struct AssertionKey {
    pem: Secret,
    algorithm: Algorithm,
    id: Option<String>,
}

/// Why a private key cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AssertionKeyProblem {
    /// It is no private key in PEM, for this reason.
    NotPem(String),
    /// It is neither an RSA key nor one on the curve P-256.
    Kind,
    /// It is not valid, for this reason.
    Invalid(String),
    /// It is of another kind than this algorithm needs.
    OtherAlgorithm(Algorithm),
    /// It cannot sign, so it may be too short.
    CannotSign,
}

/// A key that was read.
enum Pair {
    Rsa(rsa::KeyPair),
    P256(EcdsaKeyPair),
}

impl AssertionKey {
    /// The algorithms with which assertions are signed. The first is that of an RSA key, if nothing else is said.
    pub const ALGORITHMS: [Algorithm; 4] = [
        Algorithm::Rs256,
        Algorithm::Rs384,
        Algorithm::Ps256,
        Algorithm::Es256,
    ];

    /// Takes a key in PEM. Without an algorithm, the kind of key decides. `id` is the name that the tenant knows it by
    /// (`kid`).
    ///
    /// # Errors
    ///
    /// Returns why it cannot be used.
    pub fn new(
        pem: Secret,
        algorithm: Option<Algorithm>,
        id: Option<String>,
    ) -> Result<Self, AssertionKeyProblem> {
        let pair = Pair::read(&pem)?;
        let algorithm = match (algorithm, &pair) {
            (Some(algorithm), _) => algorithm,
            (None, Pair::Rsa(_)) => Algorithm::Rs256,
            (None, Pair::P256(_)) => Algorithm::Es256,
        };
        pair.sign(algorithm, b"whether it can sign")?;
        Ok(Self { pem, algorithm, id })
    }

    /// Returns the file's content.
    pub(crate) fn pem(&self) -> &Secret {
        &self.pem
    }

    /// Returns an assertion of this application for this issuer. Each has a number of its own, and is good once.
    ///
    /// # Errors
    ///
    /// Returns an error if the system gives no random bytes.
    pub fn assertion(
        &self,
        client_id: &str,
        issuer: &str,
        now: Unix,
    ) -> Result<String, AssertionKeyProblem> {
        let mut header = json!({ "alg": self.algorithm.name(), "typ": "JWT" });
        if let Some(id) = &self.id {
            header["kid"] = id.as_str().into();
        }
        let mut number = [0; 16];
        rand::fill(&mut number).map_err(|_| AssertionKeyProblem::CannotSign)?;
        // One audience, as a text: that is what Auth0 takes. It is the issuer, not the token endpoint, so that an
        // assertion cannot be used at another issuer which names the same endpoint.
        let claims = json!({
            "iss": client_id,
            "sub": client_id,
            "aud": issuer,
            "iat": now.0,
            "exp": now.0 + LIFETIME,
            "jti": URL_SAFE_NO_PAD.encode(number),
        });
        let encoded = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encoded(header), encoded(claims));
        let signature = Pair::read(&self.pem)?.sign(self.algorithm, signed.as_bytes())?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

impl Pair {
    fn read(pem: &Secret) -> Result<Self, AssertionKeyProblem> {
        use AssertionKeyProblem::{Invalid, Kind, NotPem};
        let der = PrivateKeyDer::from_pem_slice(pem.reveal());
        let der = der.map_err(|why| NotPem(why.to_string()))?;
        let invalid = |why: aws_lc_rs::error::KeyRejected| Invalid(why.to_string());
        let p256 = &ECDSA_P256_SHA256_FIXED_SIGNING;
        match &der {
            PrivateKeyDer::Pkcs1(der) => rsa::KeyPair::from_der(der.secret_pkcs1_der())
                .map(Self::Rsa)
                .map_err(invalid),
            PrivateKeyDer::Sec1(der) => {
                let pair = EcdsaKeyPair::from_private_key_der(p256, der.secret_sec1_der());
                pair.map(Self::P256).map_err(|_| Kind)
            }
            PrivateKeyDer::Pkcs8(der) => {
                let der = der.secret_pkcs8_der();
                match (
                    rsa::KeyPair::from_pkcs8(der),
                    EcdsaKeyPair::from_pkcs8(p256, der),
                ) {
                    (Ok(pair), _) => Ok(Self::Rsa(pair)),
                    (_, Ok(pair)) => Ok(Self::P256(pair)),
                    _ => Err(Kind),
                }
            }
            _ => Err(Kind),
        }
    }

    fn sign(&self, algorithm: Algorithm, message: &[u8]) -> Result<Vec<u8>, AssertionKeyProblem> {
        let encoding: &'static dyn RsaEncoding = match (self, algorithm) {
            (Self::P256(pair), Algorithm::Es256) => {
                let signature = pair.sign(&SystemRandom::new(), message);
                let signature = signature.map_err(|_| AssertionKeyProblem::CannotSign)?;
                return Ok(signature.as_ref().to_vec());
            }
            (Self::Rsa(_), Algorithm::Rs256) => &RSA_PKCS1_SHA256,
            (Self::Rsa(_), Algorithm::Rs384) => &RSA_PKCS1_SHA384,
            (Self::Rsa(_), Algorithm::Ps256) => &RSA_PSS_SHA256,
            _ => return Err(AssertionKeyProblem::OtherAlgorithm(algorithm)),
        };
        let Self::Rsa(pair) = self else {
            return Err(AssertionKeyProblem::OtherAlgorithm(algorithm));
        };
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(encoding, &SystemRandom::new(), message, &mut signature)
            .map_err(|_| AssertionKeyProblem::CannotSign)?;
        Ok(signature)
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::{
        encoding::AsDer,
        rsa::KeySize,
        signature::{
            ECDSA_P256_SHA256_FIXED, KeyPair as _, RSA_PKCS1_2048_8192_SHA256,
            RSA_PKCS1_2048_8192_SHA384, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey,
            VerificationAlgorithm,
        },
    };
    use base64::engine::general_purpose::STANDARD;
    use serde_json::Value;

    use super::*;

    fn pem(label: &str, der: &[u8]) -> Secret {
        let text = STANDARD.encode(der);
        Secret::new(format!(
            "-----BEGIN {label}-----\n{text}\n-----END {label}-----\n"
        ))
    }

    fn rsa_key() -> (Secret, Vec<u8>) {
        let pair = rsa::KeyPair::generate(KeySize::Rsa2048).unwrap();
        let public = pair.public_key().as_ref().to_vec();
        let der: aws_lc_rs::encoding::Pkcs8V1Der = pair.as_der().unwrap();
        (pem("PRIVATE KEY", der.as_ref()), public)
    }

    fn ec_key(label: &str) -> (Secret, Vec<u8>) {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let public = pair.public_key().as_ref().to_vec();
        let der = match label {
            "EC PRIVATE KEY" => {
                let der: aws_lc_rs::encoding::EcPrivateKeyRfc5915Der =
                    pair.private_key().as_der().unwrap();
                der.as_ref().to_vec()
            }
            _ => pair.to_pkcs8v1().unwrap().as_ref().to_vec(),
        };
        (pem(label, &der), public)
    }

    /// Checks the signature, and returns header and claims.
    fn opened(
        assertion: &str,
        how: &'static dyn VerificationAlgorithm,
        public: &[u8],
    ) -> (Value, Value) {
        let (signed, signature) = assertion.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let key = UnparsedPublicKey::new(how, public);
        key.verify(signed.as_bytes(), &signature).unwrap();
        let (header, claims) = signed.split_once('.').unwrap();
        let json =
            |part: &str| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
        (json(header), json(claims))
    }

    #[test]
    fn an_assertion_says_who_for_whom_and_until_when() {
        let (pem, public) = rsa_key();
        let key = AssertionKey::new(pem, None, Some("key-1".to_owned())).unwrap();
        let assertion = || {
            key.assertion("app", "https://t.example/", Unix(1000))
                .unwrap()
        };
        let (header, claims) = opened(&assertion(), &RSA_PKCS1_2048_8192_SHA256, &public);
        assert_eq!(
            header,
            json!({"alg": "RS256", "typ": "JWT", "kid": "key-1"})
        );
        assert_eq!(
            (&claims["iss"], &claims["sub"]),
            (&json!("app"), &json!("app"))
        );
        assert_eq!(claims["aud"], "https://t.example/");
        assert_eq!(
            (&claims["iat"], &claims["exp"]),
            (&json!(1000), &json!(1060))
        );
        let (_, again) = opened(&assertion(), &RSA_PKCS1_2048_8192_SHA256, &public);
        assert_ne!(claims["jti"], again["jti"]);
        assert!(assertion().len() < 2048, "Auth0 takes no longer one");
    }

    #[test]
    fn each_algorithm_signs_with_its_kind_of_key() {
        let (rsa, rsa_public) = rsa_key();
        let rows: [(_, &'static dyn VerificationAlgorithm); 3] = [
            (Algorithm::Rs256, &RSA_PKCS1_2048_8192_SHA256),
            (Algorithm::Rs384, &RSA_PKCS1_2048_8192_SHA384),
            (Algorithm::Ps256, &RSA_PSS_2048_8192_SHA256),
        ];
        for (algorithm, how) in rows {
            let key = AssertionKey::new(rsa.clone(), Some(algorithm), None).unwrap();
            let (header, _) = opened(&key.assertion("a", "i", Unix(1)).unwrap(), how, &rsa_public);
            assert_eq!(header, json!({"alg": algorithm.name(), "typ": "JWT"}));
        }
        for label in ["PRIVATE KEY", "EC PRIVATE KEY"] {
            let (ec, public) = ec_key(label);
            let key = AssertionKey::new(ec.clone(), None, None).unwrap();
            let assertion = key.assertion("a", "i", Unix(1)).unwrap();
            let (header, _) = opened(&assertion, &ECDSA_P256_SHA256_FIXED, &public);
            assert_eq!(header["alg"], "ES256");
            let other = AssertionKey::new(ec, Some(Algorithm::Rs256), None);
            assert_eq!(
                other.unwrap_err(),
                AssertionKeyProblem::OtherAlgorithm(Algorithm::Rs256)
            );
        }
        let other = AssertionKey::new(rsa, Some(Algorithm::Es256), None);
        assert!(matches!(other, Err(AssertionKeyProblem::OtherAlgorithm(_))));
    }

    #[test]
    fn what_is_no_key_is_told_apart() {
        let new = |text: &str| AssertionKey::new(Secret::new(text), None, None).unwrap_err();
        assert!(matches!(new("a secret"), AssertionKeyProblem::NotPem(_)));
        let ed25519 = pem("PRIVATE KEY", &[0x30, 0x00]);
        let error = AssertionKey::new(ed25519, None, None).unwrap_err();
        assert_eq!(error, AssertionKeyProblem::Kind);
    }
}
