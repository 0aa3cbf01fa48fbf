//! Signatures are checked with keys that are parsed once (`jwt/jwk.rs`). These tests compare the results with those of
//! `jsonwebtoken`, which parses the key for each check and is slower, for every algorithm.

use std::sync::LazyLock;

use auth::{
    algorithm::Algorithm,
    jwt::{
        jwks::KeySet,
        jws::{self, PresentedToken},
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{DecodingKey, crypto};
use serde_json::{Value, json};
use testbed::{
    elliptic::{Curve, EllipticKey},
    signing::Alg,
};

use crate::bench::{claims, key};

/// A key of a provider, which is named like all others.
enum ProviderKey {
    Rsa(Alg),
    Elliptic(EllipticKey),
}

const KID: &str = "k";

impl ProviderKey {
    /// Returns a key for each algorithm with a public key.
    fn all() -> &'static [(&'static str, Self)] {
        static ALL: LazyLock<Vec<(&str, ProviderKey)>> = LazyLock::new(|| {
            let rsa = Alg::ALL.map(|alg| (alg.name(), ProviderKey::Rsa(alg)));
            let curves = [Curve::P256, Curve::P384, Curve::Ed25519];
            let elliptic = curves.map(|curve| {
                let key = EllipticKey::generate(KID, curve);
                (curve.algorithm(), ProviderKey::Elliptic(key))
            });
            rsa.into_iter().chain(elliptic).collect()
        });
        &ALL
    }

    /// Returns the public key without `alg`, so that the token alone says which algorithm of its kind is meant.
    fn jwk(&self) -> Value {
        let mut jwk = match self {
            Self::Rsa(_) => key().jwk(),
            Self::Elliptic(key) => key.jwk(),
        };
        jwk.as_object_mut().unwrap().remove("alg");
        jwk["kid"] = json!(KID);
        jwk
    }

    fn sign(&self, header: Value) -> String {
        match self {
            Self::Rsa(alg) => key().sign(*alg, header, claims()),
            Self::Elliptic(key) => key.sign(header, claims()),
        }
    }

    fn key_set(&self) -> KeySet {
        set(&[self.jwk()])
    }
}

fn set(keys: &[Value]) -> KeySet {
    KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
}

fn header(algorithm: &str) -> Value {
    json!({ "alg": algorithm, "kid": KID })
}

fn accepts(keys: &KeySet, algorithms: &[Algorithm], token: &str) -> bool {
    jws::verify(&PresentedToken::new(token), algorithms, keys, None).is_ok()
}

/// Whether `jsonwebtoken` accepts the signature.
fn second_opinion(jwk: &Value, token: &str, algorithm: &str) -> bool {
    let jwk = serde_json::from_value(jwk.clone()).unwrap();
    let key = DecodingKey::from_jwk(&jwk).unwrap();
    let (message, signature) = token.rsplit_once('.').unwrap();
    let algorithm = algorithm.parse().unwrap();
    crypto::verify(signature, message.as_bytes(), &key, algorithm).is_ok_and(|good| good)
}

#[test]
fn signatures_are_verified_as_jsonwebtoken_does() {
    for (name, provider) in ProviderKey::all() {
        let (jwk, keys) = (provider.jwk(), provider.key_set());
        let token = provider.sign(header(name));
        let (message, signature) = token.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let agree = |signature: &[u8]| {
            let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature));
            let accepted = accepts(&keys, &Algorithm::ALL, &token);
            assert_eq!(
                accepted,
                second_opinion(&jwk, &token, name),
                "{name} {token}"
            );
            accepted
        };
        assert!(agree(&signature), "the one that was made");
        for place in 0..signature.len() {
            let mut other = signature.clone();
            other[place] ^= 1 << (place % 8);
            assert!(!agree(&other), "{name}: another bit at {place}");
        }
        let length = signature.len();
        let (mut short, mut long, mut padded) = (signature.clone(), signature.clone(), vec![0]);
        short.pop();
        long.push(0);
        padded.extend(&signature);
        let (zeros, ones) = (vec![0; length], vec![0xff; length]);
        for other in [&[][..], &zeros, &ones, &short, &long, &padded] {
            assert!(
                !agree(other),
                "{name}: a signature of {} bytes",
                other.len()
            );
        }
    }
}

#[test]
fn a_signature_counts_for_its_own_algorithm_only() {
    let all = ProviderKey::all();
    for (signed, provider) in all {
        for called in Algorithm::ALL {
            let token = provider.sign(header(called.name()));
            let mut together: Vec<_> = all.iter().map(|(_, one)| one.jwk()).collect();
            together.dedup();
            for keys in [provider.key_set(), set(&together)] {
                let accepted = accepts(&keys, &Algorithm::ALL, &token);
                assert_eq!(
                    accepted,
                    called.name() == *signed,
                    "{signed} called {called:?}"
                );
            }
        }
    }
}

#[test]
fn an_algorithm_counts_only_if_it_is_listed() {
    for (name, provider) in ProviderKey::all() {
        let (keys, token) = (provider.key_set(), provider.sign(header(name)));
        for listed in Algorithm::ALL {
            let accepted = accepts(&keys, &[listed], &token);
            assert_eq!(
                accepted,
                listed.name() == *name,
                "{name} where {listed:?} is listed"
            );
        }
    }
}

#[test]
fn both_names_of_ed25519_are_understood() {
    for (name, provider) in ProviderKey::all() {
        let token = provider.sign(header("Ed25519"));
        let accepted = accepts(&provider.key_set(), &Algorithm::ALL, &token);
        assert_eq!(accepted, *name == "EdDSA", "{name}");
    }
}
