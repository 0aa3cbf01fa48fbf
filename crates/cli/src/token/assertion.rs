//! A client assertion: how an application proves with its private key who it is (RFC 7523, section 2.2; Auth0,
//! "Authenticate with Private Key JWT").

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::KeyPair,
    signature::{RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PSS_SHA256, RsaEncoding},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rustls_pki_types::{PrivateKeyDer, pem::PemObject};
use serde_json::json;

use auth::{clock::Unix, secret::Secret};

use crate::{arguments::KeyAlgorithm, output::Failure};

/// The kind of assertion, as a token request names it.
pub(super) const KIND: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// How many seconds an assertion is good for. Auth0 recommends a minute.
const LIFETIME: u64 = 60;

/// A private key, and how it signs.
pub(crate) struct AssertionKey {
    pair: KeyPair,
    algorithm: KeyAlgorithm,
    id: Option<String>,
}

impl AssertionKey {
    /// Reads a key in PEM.
    ///
    /// # Errors
    ///
    /// Returns a failure if it is no RSA key.
    pub(super) fn read(
        pem: &Secret,
        algorithm: KeyAlgorithm,
        id: Option<String>,
    ) -> Result<Self, Failure> {
        let no_key = |why: String| {
            Failure::new(format!("the private key cannot be used: {why}")).fix(
                "give an RSA key in PEM that is not encrypted, as `openssl genrsa 2048` makes it",
            )
        };
        let der =
            PrivateKeyDer::from_pem_slice(pem.reveal()).map_err(|why| no_key(why.to_string()))?;
        let pair = match &der {
            PrivateKeyDer::Pkcs1(der) => KeyPair::from_der(der.secret_pkcs1_der()),
            PrivateKeyDer::Pkcs8(der) => KeyPair::from_pkcs8(der.secret_pkcs8_der()),
            _ => return Err(no_key("it is no RSA key".to_owned())),
        };
        let pair = pair.map_err(|why| no_key(why.to_string()))?;
        Ok(Self {
            pair,
            algorithm,
            id,
        })
    }

    /// Returns an assertion of this application for this issuer. Each has a number of its own, and is good once.
    ///
    /// # Errors
    ///
    /// Returns a failure if there are no random bytes.
    pub(super) fn assertion(
        &self,
        client_id: &str,
        issuer: &str,
        now: Unix,
    ) -> Result<String, Failure> {
        let (name, encoding): (_, &'static dyn RsaEncoding) = match self.algorithm {
            KeyAlgorithm::Rs256 => ("RS256", &RSA_PKCS1_SHA256),
            KeyAlgorithm::Rs384 => ("RS384", &RSA_PKCS1_SHA384),
            KeyAlgorithm::Ps256 => ("PS256", &RSA_PSS_SHA256),
        };
        let mut header = json!({ "alg": name, "typ": "JWT" });
        if let Some(id) = &self.id {
            header["kid"] = id.as_str().into();
        }
        let mut number = [0; 16];
        rustix::rand::getrandom(&mut number, rustix::rand::GetRandomFlags::empty())
            .map_err(|why| Failure::new(format!("the system gives no random bytes: {why}")))?;
        // One audience, as a text: that is what Auth0 takes.
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
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(
                encoding,
                &SystemRandom::new(),
                signed.as_bytes(),
                &mut signature,
            )
            .map_err(|_| Failure::new("the private key cannot sign: it may be too short"))?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}
