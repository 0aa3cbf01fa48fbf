//! An instance with keys from a file, and tokens that are valid except for what a test changes.

use std::{
    io::Write,
    sync::{LazyLock, Mutex, PoisonError},
};

use auth::{clock::Unix, engine::Step, jwt::jwks_cache::FetchSchedule, log::Log, refusal::Reason};
use serde_json::{Value, json};
use testbed::signing::{Alg, SigningKey, hs256_raw, now, shared_key};

use crate::common::{self, TestInstance};

pub(crate) const ISSUER: &str = "https://t.auth0.com/";
pub(crate) const AUDIENCE: &str = "https://mqtt.example/";
pub(crate) const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef-the-api's-secret";

/// The result of a token.
#[derive(Debug, PartialEq)]
pub(crate) enum TokenResult {
    /// It was accepted, with this user name.
    In(String),
    /// It was refused.
    Out(Reason),
}

/// The tenant's key, which is in the key set.
pub(crate) fn key() -> std::sync::Arc<SigningKey> {
    shared_key(0)
}

/// An attacker's key.
pub(crate) fn evil_key() -> std::sync::Arc<SigningKey> {
    shared_key(1)
}

fn instance(algorithms: &str) -> Mutex<TestInstance> {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .open(&path)
            .unwrap();
        file.write_all(content).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .unwrap();
        path.to_str().unwrap().to_owned()
    };
    // Without `alg`, so that only the configuration decides between RS256 and PS256.
    let mut jwk = key().jwk();
    jwk.as_object_mut().unwrap().remove("alg");
    let mut options = vec![
        ("domain", "t.auth0.com".to_owned()),
        ("audience", AUDIENCE.to_owned()),
        (
            "jwks_file",
            write("jwks.json", json!({ "keys": [jwk] }).to_string().as_bytes()),
        ),
        ("algorithms", algorithms.to_owned()),
    ];
    if algorithms.contains("HS256") {
        options.push(("hs256_secret_file", write("secret", SECRET)));
    }
    let options: Vec<_> = options
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    Mutex::new(common::instance(
        &options,
        FetchSchedule::default(),
        Log::default(),
    ))
}

static RS256: LazyLock<Mutex<TestInstance>> = LazyLock::new(|| instance("RS256"));
static ALL: LazyLock<Mutex<TestInstance>> = LazyLock::new(|| instance("RS256,PS256,HS256"));

fn meet(instance: &Mutex<TestInstance>, token: &str) -> TokenResult {
    let mut instance = instance.lock().unwrap_or_else(PoisonError::into_inner);
    match instance.authenticate(&common::connect("c", token), Unix(now())) {
        Step::Admit(admission) => TokenResult::In(admission.username().to_owned()),
        Step::Refuse(refusal) => TokenResult::Out(refusal.reason),
        Step::Wait(_) => panic!("keys from a file are never waited for"),
        Step::Keep => panic!("nobody was in"),
        Step::Defer => panic!("others are refused, by default"),
    }
}

/// Checks a token where only RS256 is accepted, which is the default.
pub(crate) fn by_default(token: &str) -> TokenResult {
    meet(&RS256, token)
}

/// Checks a token where all three algorithms are accepted.
pub(crate) fn with_all(token: &str) -> TokenResult {
    meet(&ALL, token)
}

pub(crate) fn header() -> Value {
    json!({"alg": "RS256", "typ": "JWT", "kid": key().kid()})
}

pub(crate) fn claims() -> Value {
    json!({"iss": ISSUER, "aud": [AUDIENCE, "https://t.auth0.com/userinfo"], "sub": "auth0|1a", "iat": now(), "exp": now() + 3600, "topics": ["temperature"]})
}

/// Signs these texts with the tenant's key.
pub(crate) fn signed(header: &str, claims: &str) -> String {
    key().sign_raw(Alg::Rs256, header.as_bytes(), claims.as_bytes())
}

/// Returns a valid token with one header member set.
pub(crate) fn with_header(name: &str, value: Value) -> String {
    let mut header = header();
    header[name] = value;
    signed(&header.to_string(), &claims().to_string())
}

/// Returns a valid token without one header member.
pub(crate) fn without_header(name: &str) -> String {
    let mut header = header();
    header.as_object_mut().unwrap().remove(name);
    signed(&header.to_string(), &claims().to_string())
}

/// Returns a valid token with one claim set.
pub(crate) fn with_claim(name: &str, value: Value) -> String {
    let mut claims = claims();
    claims[name] = value;
    signed(&header().to_string(), &claims.to_string())
}

/// Returns a valid token without one claim.
pub(crate) fn without_claim(name: &str) -> String {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    signed(&header().to_string(), &claims.to_string())
}

/// Returns a valid token whose payload has this text in place of one claim's value, for texts that no JSON
/// library writes.
pub(crate) fn with_raw_claim(name: &str, raw: &str) -> String {
    let text = with_placeholder(name).replace("\"@\"", raw);
    signed(&header().to_string(), &text)
}

fn with_placeholder(name: &str) -> String {
    let mut claims = claims();
    claims[name] = json!("@");
    claims.to_string()
}

/// Returns an HS256 token under this secret, valid otherwise.
pub(crate) fn hs256_with(secret: &[u8]) -> String {
    hs256_raw(
        secret,
        json!({"alg": "HS256", "typ": "JWT", "kid": key().kid()})
            .to_string()
            .as_bytes(),
        claims().to_string().as_bytes(),
    )
}
