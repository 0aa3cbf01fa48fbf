//! Wycheproof's test vectors for JSON Web Signatures and Keys, at the layer of the signature.
//!
//! The vectors are not part of this repository: the variable WYCHEPROOF names the folder with
//! `json_web_signature_test.json` and `json_web_key_test.json` (github.com/C2SP/wycheproof,
//! `testvectors_v1`). Without the variable these tests print that they were skipped; with it, missing files
//! are an error.

use std::{collections::BTreeMap, fs, path::PathBuf};

use auth::{
    algorithm::Algorithm,
    jwt::jwks::KeySet,
    jwt::jws::{self, HmacSecret, PresentedToken},
    secret::Secret,
};
use serde_json::{Value, json};

fn vectors(name: &str) -> Option<Value> {
    let Some(folder) = std::env::var_os("WYCHEPROOF") else {
        println!("LEFT OUT: {name}, because WYCHEPROOF names no folder");
        return None;
    };
    let path = PathBuf::from(folder).join(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    Some(serde_json::from_str(&text).unwrap())
}

/// Vectors for which a strict verifier has another result than their label, and why.
const EXCEPTIONS: &[(u64, &str)] = &[
    (
        372,
        "labelled valid: a `?` inside base64url, and the MAC is not over the signing input",
    ),
    (
        373,
        "labelled valid: a `?` inside base64url, and the MAC is not over the signing input",
    ),
    (346, "labelled valid: header PS384, key PS256"),
    (350, "labelled valid: header PS384, key PS256"),
    (
        347,
        "labelled valid: the key's alg is `ES521`, which does not exist",
    ),
    (
        351,
        "labelled valid: the key's alg is `ES521`, which does not exist",
    ),
];

/// Labelled invalid for bad padding, which the file has lost: exactly the token and the key of tcId 357,
/// which is labelled valid. The test checks that this is still so.
const SAME_AS_357: &[u64] = &[367, 370];

/// Whether a token is valid under one key in JWK form, configured as an operator would: an RSA key in a set,
/// a symmetric key as the secret of HS256.
fn accepts(jwk: &Value, token: &str) -> bool {
    let secret = (jwk["kty"] == "oct" && jwk["alg"] == "HS256").then(|| {
        use base64::Engine;
        let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD
            .decode(jwk["k"].as_str().unwrap())
            .unwrap();
        HmacSecret::new(&Secret::new(bytes))
    });
    let keys = KeySet::parse(json!({ "keys": [jwk] }).to_string().as_bytes()).unwrap_or_default();
    jws::verify(
        &PresentedToken::new(token),
        &Algorithm::ALL,
        &keys,
        secret.flatten().as_ref(),
    )
    .is_ok()
}

/// Whether the algorithm is supported; a valid vector of another algorithm must be refused.
fn is_ours(jwk: &Value) -> bool {
    let supported = jwk["alg"].as_str().map(Algorithm::parse);
    match jwk["kty"].as_str() {
        Some("RSA") => supported != Some(None),
        Some("EC") => {
            matches!(jwk["crv"].as_str(), Some("P-256" | "P-384")) && supported != Some(None)
        }
        Some("oct") => jwk["alg"] == "HS256",
        _ => false,
    }
}

#[test]
fn signatures() {
    let Some(file) = vectors("json_web_signature_test.json") else {
        return;
    };
    let mut judged = BTreeMap::<&str, usize>::new();
    let mut of_357 = None;
    for group in file["testGroups"].as_array().unwrap() {
        let jwk = group.get("public").or(group.get("private")).unwrap();
        for test in group["tests"].as_array().unwrap() {
            let id = test["tcId"].as_u64().unwrap();
            let accepted = accepts(jwk, test["jws"].as_str().unwrap());
            let valid = test["result"] == "valid";
            let text = (jwk, &test["jws"]);
            if id == 357 {
                of_357 = Some(text);
            }
            let (must, kind) = if EXCEPTIONS.iter().any(|(exception, _)| *exception == id) {
                assert!(
                    valid,
                    "tcId {id} is an exception because it is labelled valid"
                );
                (false, "exceptions")
            } else if SAME_AS_357.contains(&id) {
                assert!(!valid && of_357 == Some(text), "tcId {id} was fixed");
                (true, "exceptions")
            } else if !is_ours(jwk) {
                (false, "of algorithms that are not ours")
            } else {
                (valid, if valid { "valid" } else { "invalid" })
            };
            assert_eq!(accepted, must, "tcId {id}: {}", test["comment"]);
            *judged.entry(kind).or_default() += 1;
        }
    }
    println!("{judged:?}");
    // A truncated file, or a change that skips vectors, must not look like success.
    assert_eq!(judged.values().sum::<usize>(), 401);
    assert_eq!(judged["exceptions"], EXCEPTIONS.len() + SAME_AS_357.len());
    assert!(
        judged["valid"] >= 20 && judged["invalid"] >= 250,
        "{judged:?}"
    );
}

#[test]
fn keys() {
    let Some(file) = vectors("json_web_key_test.json") else {
        return;
    };
    let (mut judged, mut of_sets) = (0, 0);
    for group in file["testGroups"].as_array().unwrap() {
        let set = group.get("public").or(group.get("private")).unwrap();
        let keys = set["keys"].as_array().unwrap();
        for test in group["tests"].as_array().unwrap() {
            // There is no counterpart to a set of several symmetric keys: the plugin has one secret.
            if keys.len() > 1 {
                of_sets += 1;
                continue;
            }
            let accepted = accepts(&keys[0], test["jws"].as_str().unwrap());
            let must = test["result"] == "valid" && is_ours(&keys[0]);
            assert_eq!(
                accepted, must,
                "tcId {}: {} {}",
                test["tcId"], group["comment"], test["comment"]
            );
            judged += 1;
        }
    }
    assert_eq!((judged, of_sets), (22, 4));
}
