//! What the plugin adds to a message and to a sign-in: `cargo bench -p auth --bench checks`.
//!
//! * one ACL check with 1, 20 and 1000 grants: the cost must not grow with their number, neither where
//!   their levels are names nor where they mix text and the client ID
//! * a CONNECT with a token, where one issuer is configured and where two are: to find out whose token it is must cost
//!   little; and that alone, with 2 and with 20 topics in front of the issuer
//! * one token verified, beside the bare signature check of the same crypto library with a key made ready

#[path = "../tests/common/mod.rs"]
mod common;

use std::{hint::black_box, time::Duration};

use auth::{
    algorithm::Algorithm,
    client::{Client, ClientKey},
    clock,
    engine::{Access, Action, Decision, Step},
    jwt::{self, jwks::KeySet, jwks_cache::FetchSchedule, jws::PresentedToken},
    log::Log,
    refusal::Reason,
};
use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use serde_json::json;
use testbed::signing::{Alg, now, shared_key, url64};

const ISSUER: &str = "https://bench.auth0.com/";
const AUDIENCE: &str = "https://mqtt.example/";

fn token_with(topics: &[String]) -> String {
    let key = shared_key(0);
    let header = json!({"alg": "RS256", "typ": "JWT", "kid": key.kid()});
    let claims = json!({
        "iss": ISSUER, "aud": [AUDIENCE, "https://bench.auth0.com/userinfo"], "sub": "auth0|5f7c8ec7c33c6c004bbafe82",
        "iat": now(), "exp": now() + 86400, "azp": "my0clientid", "scope": "openid", "gty": "password", "topics": topics,
    });
    key.sign(Alg::Rs256, header, claims)
}

fn jwks() -> String {
    json!({ "keys": [shared_key(0).jwk()] }).to_string()
}

/// An instance with one signed-in client that holds these topics.
fn signed_in(topics: &[String]) -> common::TestInstance {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), jwks()).unwrap();
    let options = [
        ("domain", "bench.auth0.com"),
        ("audience", AUDIENCE),
        ("jwks_file", file.path().to_str().unwrap()),
        ("claim_placeholders", "true"),
    ];
    let mut instance = common::instance(&options, FetchSchedule::default(), Log::default());
    common::let_in(&mut instance, "thermostat", &token_with(topics));
    instance
}

fn access(action: Action, topic: &str) -> Access<'_, Client<&'_ str>> {
    Access {
        key: ClientKey(1),
        client: Client {
            id: "thermostat",
            username: Some("auth0|5f7c8ec7c33c6c004bbafe82"),
            address: Some("192.0.2.1"),
            ..Client::default()
        },
        action,
        topic: topic.as_bytes(),
        qos: 0,
        retain: false,
        payload: 4,
    }
}

/// The whole check behind the callback, with the clock read as the callback reads it.
fn acl_check(c: &mut Criterion) {
    let mut group = c.benchmark_group("acl_check");
    for (grants, mixed) in [1, 20, 1000]
        .into_iter()
        .flat_map(|n| [(n, false), (n, true)])
    {
        let (suffix, client_id) = match mixed {
            true => ("-%c", "-thermostat"),
            false => ("", ""),
        };
        let topics: Vec<String> = (0..grants)
            .map(|i| format!("site/{i}{suffix}/+/temperature"))
            .collect();
        let mut instance = signed_in(&topics);
        let topic = format!("site/{}{client_id}/boiler/temperature", grants - 1);
        let denied = format!("site/x{client_id}/boiler/temperature");
        let mut decide = |topic| instance.authorize(&access(Action::Publish, topic), clock::now());
        assert!(decide(&topic).allows());
        assert_eq!(decide(&denied), Decision::Deny);
        let id = |what: &str| {
            let what = format!("{what}{}", if mixed { "_by_client_id" } else { "" });
            BenchmarkId::new(what, grants)
        };
        group.bench_with_input(id("publish_granted"), &topic, |b, topic| {
            b.iter(|| instance.authorize(black_box(&access(Action::Publish, topic)), clock::now()))
        });
        group.bench_with_input(id("publish_denied"), &denied, |b, topic| {
            b.iter(|| instance.authorize(black_box(&access(Action::Publish, topic)), clock::now()))
        });
        group.bench_with_input(id("subscribe_granted"), &topic, |b, topic| {
            b.iter(|| {
                instance.authorize(black_box(&access(Action::Subscribe, topic)), clock::now())
            })
        });
    }
    group.finish();
}

fn verification(c: &mut Criterion) {
    let topics = ["temperature".to_owned(), "config".to_owned()];
    let token = token_with(&topics);
    let (message, signature) = token.rsplit_once('.').unwrap();
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let components = RsaPublicKeyComponents {
        n: shared_key(0).modulus(),
        e: vec![1, 0, 1],
    };
    assert_eq!(url64(&components.n), shared_key(0).jwk()["n"]);
    let bare = components
        .to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256)
        .unwrap();

    let keys = KeySet::parse(jwks().as_bytes()).unwrap();
    let rules = jwt::Requirements {
        audience_claim: Default::default(),
        sources: Default::default(),
        issuers: vec![ISSUER.into()],
        algorithms: vec![Algorithm::Rs256],
        secret: None,
        leeway: 30,
    };
    let audiences = [AUDIENCE.to_owned()];

    let mut group = c.benchmark_group("token_rs256");
    group.bench_function("bare_signature_check", |b| {
        b.iter(|| {
            bare.verify_sig(black_box(message.as_bytes()), &signature)
                .unwrap()
        })
    });
    group.bench_function("verify", |b| {
        b.iter(|| jwt::verify(black_box(&token), &rules, &audiences, &keys, clock::now()).unwrap())
    });
    group.finish();
}

/// The token has expired, so it is verified each time, and nothing about it is remembered.
fn issuers(c: &mut Criterion) {
    let key = shared_key(0);
    let header = json!({"alg": "RS256", "typ": "JWT", "kid": key.kid()});
    let claims = json!({
        "iss": ISSUER, "aud": [AUDIENCE, "https://bench.auth0.com/userinfo"], "sub": "auth0|5f7c8ec7c33c6c004bbafe82",
        "iat": now() - 86400, "exp": now() - 3600, "azp": "my0clientid", "scope": "openid", "gty": "password",
        "topics": ["temperature", "config"],
    });
    let token = key.sign(Alg::Rs256, header, claims);
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let keys = write("keys.json", jwks());
    let table = |issuer: &str| {
        format!("[[issuer]]\nissuer = '{issuer}'\naudience = '{AUDIENCE}'\njwks_file = '{keys}'\n")
    };
    let mut group = c.benchmark_group("connect_with_new_token");
    for (number, names) in [(1, &[ISSUER][..]), (2, &["https://other.example/", ISSUER])] {
        let tables: String = names.iter().map(|name| table(name)).collect();
        let options = write(&format!("{number}.toml"), tables);
        let options = [("config_file", options.as_str())];
        let mut instance = common::instance(&options, FetchSchedule::default(), Log::default());
        let connect = common::connect("thermostat", &token);
        group.bench_function(BenchmarkId::new("issuers", number), |b| {
            b.iter(
                || match instance.authenticate(black_box(&connect), clock::now()) {
                    Step::Refuse(refusal) => assert_eq!(refusal.reason, Reason::TokenExpired),
                    _ => panic!("it has expired"),
                },
            );
        });
    }
    group.finish();

    // The payload is decoded already: it has to be for the verification, too.
    let mut group = c.benchmark_group("issuer_of_token");
    for number in [2, 20] {
        let topics: Vec<_> = (0..number)
            .map(|i| format!("site/{i}/+/temperature"))
            .collect();
        let header = json!({"alg": "RS256", "typ": "JWT", "kid": key.kid()});
        let claims = json!({"https://mqtt.example/topics": topics, "iss": ISSUER});
        let token = key.sign(Alg::Rs256, header, claims);
        let token = PresentedToken::new(&token);
        assert_eq!(token.issuer().unwrap(), ISSUER);
        group.bench_function(BenchmarkId::new("topics", number), |b| {
            b.iter(|| black_box(&token).issuer().unwrap());
        });
    }
    group.finish();
}

criterion_group! {
    name = checks;
    config = Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(2));
    targets = acl_check, verification, issuers
}
criterion_main!(checks);
