//! Keys on elliptic curves and their signatures, as providers other than Auth0 use them (RFC 7518, section 3.4;
//! RFC 8037).

use std::fmt::Display;

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        Ed25519KeyPair, KeyPair,
    },
};
use serde_json::{Value, json};

use crate::signing::url64;

/// A curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    /// For ES256.
    P256,
    /// For ES384.
    P384,
    /// For EdDSA.
    Ed25519,
}

impl Curve {
    /// Returns the name of the algorithm.
    pub fn algorithm(self) -> &'static str {
        match self {
            Self::P256 => "ES256",
            Self::P384 => "ES384",
            Self::Ed25519 => "EdDSA",
        }
    }
}

enum Pair {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// A provider's signing key on a curve.
pub struct EllipticKey {
    kid: String,
    curve: Curve,
    pair: Pair,
}

impl EllipticKey {
    /// Generates a key.
    pub fn generate(kid: &str, curve: Curve) -> Self {
        let ecdsa = |parameters| Pair::Ecdsa(EcdsaKeyPair::generate(parameters).expect("a key"));
        Self {
            kid: kid.to_owned(),
            curve,
            pair: match curve {
                Curve::P256 => ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING),
                Curve::P384 => ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING),
                Curve::Ed25519 => Pair::Ed25519(Ed25519KeyPair::generate().expect("a key")),
            },
        }
    }

    /// Returns the public key as it stands in a key set.
    pub fn jwk(&self) -> Value {
        let (kty, crv, point) = match (&self.pair, self.curve) {
            (Pair::Ecdsa(pair), Curve::P256) => ("EC", "P-256", pair.public_key().as_ref()),
            (Pair::Ecdsa(pair), _) => ("EC", "P-384", pair.public_key().as_ref()),
            (Pair::Ed25519(pair), _) => ("OKP", "Ed25519", pair.public_key().as_ref()),
        };
        let mut jwk = json!({
            "kty": kty, "crv": crv, "use": "sig", "kid": self.kid, "alg": self.curve.algorithm(),
        });
        match kty {
            // An uncompressed point: the byte 4, and two coordinates.
            "EC" => {
                let (x, y) = point[1..].split_at(point.len() / 2);
                jwk["x"] = url64(x).into();
                jwk["y"] = url64(y).into();
            }
            _ => jwk["x"] = url64(point).into(),
        }
        jwk
    }

    /// Returns a token of exactly these texts.
    pub fn sign(&self, header: impl Display, claims: impl Display) -> String {
        let (header, claims) = (header.to_string(), claims.to_string());
        let input = format!("{}.{}", url64(header.as_bytes()), url64(claims.as_bytes()));
        let signature = self.signature(input.as_bytes());
        format!("{input}.{}", url64(&signature))
    }

    /// Returns the signature of any bytes.
    pub fn signature(&self, message: &[u8]) -> Vec<u8> {
        match &self.pair {
            Pair::Ecdsa(pair) => {
                let signature = pair.sign(&SystemRandom::new(), message);
                signature.expect("a signature").as_ref().to_vec()
            }
            Pair::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }
}
