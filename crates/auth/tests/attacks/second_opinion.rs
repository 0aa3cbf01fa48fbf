//! RSA signatures are checked with keys that are parsed once (`keys`). These tests compare the results with
//! those of `jsonwebtoken`, which parses the key for each check and is slower.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, crypto};
use testbed::signing::Alg;

use crate::bench::{TokenResult, claims, header, key, with_all};

/// Whether `jsonwebtoken` accepts the signature.
fn second_opinion(token: &str, algorithm: Algorithm) -> bool {
    let jwk = serde_json::from_value(key().jwk()).unwrap();
    let key = DecodingKey::from_jwk(&jwk).unwrap();
    let (message, signature) = token.rsplit_once('.').unwrap();
    crypto::verify(signature, message.as_bytes(), &key, algorithm).is_ok_and(|good| good)
}

#[test]
fn signatures_are_verified_as_jsonwebtoken_does() {
    for (name, ours, theirs) in [
        ("RS256", Alg::Rs256, Algorithm::RS256),
        ("PS256", Alg::Ps256, Algorithm::PS256),
    ] {
        let mut header = header();
        header["alg"] = name.into();
        let token = key().sign(ours, header, claims());
        let (message, signature) = token.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let agree = |signature: &[u8]| {
            let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature));
            let in_now = matches!(with_all(&token), TokenResult::In(_));
            assert_eq!(in_now, second_opinion(&token, theirs), "{theirs:?} {token}");
            in_now
        };
        assert!(agree(&signature), "the one that was made");
        for place in 0..signature.len() {
            let mut other = signature.clone();
            other[place] ^= 1 << (place % 8);
            assert!(!agree(&other), "another bit at {place}");
        }
        let (mut short, mut long, mut padded) = (signature.clone(), signature.clone(), vec![0]);
        short.pop();
        long.push(0);
        padded.extend(&signature);
        for other in [&[][..], &[0; 256], &[0xff; 256], &short, &long, &padded] {
            assert!(!agree(other), "a signature of {} bytes", other.len());
        }
    }
}
