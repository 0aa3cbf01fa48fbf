//! A check allocates no memory: with many rules, deep topics, placeholders, and for a denial.

#[path = "../crates/auth/tests/common/mod.rs"]
mod common;

use std::{cell::Cell, ffi::c_void, sync::Arc};

use acl::{
    claims::TokenRules,
    client::ClientAttributes,
    rights::Rights,
    rules::{AccessRequest, Effect, Rule, Template},
};
use auth::{
    client::{Client, ClientKey},
    clock::Unix,
    engine::{Access, Action},
    jwt::jwks_cache::FetchSchedule,
    log::Log,
};
use serde_json::json;
use testbed::signing::{Alg, now, shared_key};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

fn count() {
    // While a thread ends, the counter does not exist any more.
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

// The plugin has an allocator of its own, so calls are counted below it.
unsafe extern "C" {
    fn __libc_malloc(size: usize) -> *mut c_void;
    fn __libc_calloc(count: usize, size: usize) -> *mut c_void;
}

/// # Safety
/// As malloc(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn malloc(size: usize) -> *mut c_void {
    count();
    // SAFETY: the caller's promise.
    unsafe { __libc_malloc(size) }
}

/// # Safety
/// As calloc(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn calloc(number: usize, size: usize) -> *mut c_void {
    count();
    // SAFETY: the caller's promise.
    unsafe { __libc_calloc(number, size) }
}

/// Returns how often `work` allocates on this thread.
fn allocations(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

#[test]
fn allocations_are_counted() {
    assert!(allocations(|| drop(std::hint::black_box(vec![1]))) > 0);
}

#[test]
fn finding_the_first_rule_allocates_nothing() {
    let mut rules = Vec::new();
    for i in 0..1000 {
        for filter in [
            format!("site/{i}/+/temperature"),
            format!("a-name-of-many-letters/{i}/%c/#"),
            format!("x-${{sites[*]}}-y/{i}"),
        ] {
            let effect = if rules.len() % 3 == 0 {
                Effect::Deny
            } else {
                Effect::Allow
            };
            let filter = Template::parse(&filter).unwrap();
            let mut rule = Rule::allow(filter);
            rule.effect = effect;
            rules.push(rule);
        }
    }
    let client = ClientAttributes {
        client_id: "pump-1".into(),
        claims: Arc::new(
            [("sites".into(), json!(["north", "south"]))]
                .into_iter()
                .collect(),
        ),
        ..ClientAttributes::default()
    };
    let rights = Rights::new(Arc::new(TokenRules::compile(&rules)), None, client).unwrap();
    let deep = "/".repeat(200);
    for (topic, found) in [
        ("site/999/boiler/temperature", true),
        ("site/999/boiler/humidity", false),
        ("a-name-of-many-letters/7/pump-1/state/x", true),
        ("a-name-of-many-letters/7/pump-2/state/x", false),
        ("x-south-y/5", true),
        ("x-west-y/5", false),
        (deep.as_str(), false),
    ] {
        for request in [
            AccessRequest::Publish {
                qos: 1,
                retain: true,
                payload: 100,
            },
            AccessRequest::Receive,
            AccessRequest::Subscribe { qos: Some(2) },
        ] {
            let count = allocations(|| {
                let ruling = rights.decide(request, topic.as_bytes(), Unix(0));
                assert_eq!(ruling.is_some(), found, "{topic}");
            });
            assert_eq!(count, 0, "{request:?} {topic}");
        }
    }
}

/// A whole check, with a policy file, before and after a time window opens. The first refusal may allocate
/// memory for its log line.
#[test]
fn checking_a_message_allocates_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (issuer, audience) = ("https://t.example/", "https://mqtt.example/");
    let options = [
        ("issuer", issuer.to_owned()),
        ("audience", audience.to_owned()),
        (
            "jwks_file",
            file("keys", &json!({"keys": [shared_key(0).jwk()]}).to_string()),
        ),
        ("leeway", "0".to_owned()),
        (
            "policy_file",
            file(
                "policy",
                r#"
                [[rule]]
                name = "door"
                when.time = "10:00-11:00"
                allow.both = "door/${site}"
                [[rule]]
                name = "own"
                allow.both = "dev/%c/#"
                "#,
            ),
        ),
    ];
    let options = options
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    let mut instance = common::instance(&options, FetchSchedule::default(), Log::default());
    let token = shared_key(0).sign(
        Alg::Rs256,
        json!({"alg": "RS256", "kid": shared_key(0).kid()}),
        json!({"iss": issuer, "aud": audience, "sub": "u", "exp": now() + 3 * 86_400, "site": "north", "topics": ["a/+", "b"]}),
    );
    common::let_in(&mut instance, "pump", &token);
    let midnight = (now() / 86_400 + 1) * 86_400;
    let at = |hour: u64, minute: u64| Unix(midnight + hour * 3600 + minute * 60);
    for (topic, now, allowed) in [
        ("a/x", at(0, 0), true),
        ("dev/pump/x/y", at(0, 0), true),
        ("door/north", at(9, 59), false),
        ("door/north", at(10, 0), true),
        ("door/south", at(10, 0), false),
        ("door/north", at(10, 59), true),
        ("door/north", at(11, 0), false),
        ("dev/other/x", at(11, 0), false),
    ] {
        for action in [Action::Publish, Action::Receive, Action::Subscribe] {
            let access = Access {
                key: ClientKey(1),
                client: Client {
                    id: "pump",
                    username: Some("u"),
                    address: Some("192.0.2.1"),
                    ..Client::default()
                },
                action,
                topic: topic.as_bytes(),
                qos: 1,
                retain: false,
                payload: 9,
            };
            let first = instance.authorize(&access, now).allows();
            assert_eq!(first, allowed, "{action:?} {topic} {now:?}");
            let count = allocations(|| {
                let _ = instance.authorize(&access, now);
            });
            assert_eq!(count, 0, "{action:?} {topic}");
        }
    }
}
