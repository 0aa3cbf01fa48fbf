//! Conditions of policy file rules, from the token to the decision, without a broker.

mod common;

use std::fs;

use auth::{
    client::{Client, ClientKey},
    clock::Unix,
    engine::{Access, Action, Decision},
    jwt::jwks_cache::FetchSchedule,
    log::{Level, Log},
    policy_file::BrokerFeatures,
    sessions::AfterDisconnect,
};
use common::TestInstance;
use serde_json::{Value, json};
use testbed::signing::{Alg, now, shared_key};

const ISSUER: &str = "https://t.example/";
const AUDIENCE: &str = "https://mqtt.example/";

/// Returns a policy with this policy file and a client with this claim `topics`.
fn client_of(topics: &Value, rules: &str) -> TestInstance {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), rules).unwrap();
    client_with(
        &json!({ "topics": topics }),
        &[("policy_file", file.path().to_str().unwrap())],
    )
}

/// An instance with these options, started.
fn instance(options: &[(&str, &str)], log: Log) -> TestInstance {
    instance_with_keys(&keys(), options, log)
}

/// Returns a file with the key of all tokens here.
fn keys() -> tempfile::NamedTempFile {
    let keys = tempfile::NamedTempFile::new().unwrap();
    let set = json!({"keys": [shared_key(0).jwk()]}).to_string();
    fs::write(keys.path(), set).unwrap();
    keys
}

fn instance_with_keys(
    keys: &tempfile::NamedTempFile,
    options: &[(&str, &str)],
    log: Log,
) -> TestInstance {
    let always = [
        ("issuer", ISSUER),
        ("audience", AUDIENCE),
        ("jwks_file", keys.path().to_str().unwrap()),
    ];
    let mut instance =
        common::instance(&[&always, options].concat(), FetchSchedule::default(), log);
    instance
        .engine
        .start(&mut instance.common, BrokerFeatures::default())
        .unwrap();
    instance
}

/// Returns an engine with these options and a client with these claims.
fn client_with(claims: &Value, options: &[(&str, &str)]) -> TestInstance {
    let mut client = instance(options, Log::default());
    let mut all = json!({"iss": ISSUER, "aud": AUDIENCE, "sub": "u", "exp": now() + 3600});
    let members = all.as_object_mut().unwrap();
    members.extend(claims.as_object().unwrap().clone());
    let header = json!({"alg": "RS256", "kid": shared_key(0).kid()});
    let token = shared_key(0).sign(Alg::Rs256, header, all);
    common::let_in(&mut client, "pump", &token);
    client
}

/// Returns whether the client may publish, or others decide.
fn publishes(client: &mut TestInstance, topic: &str) -> Decision {
    let access = Access {
        key: ClientKey(1),
        client: Client {
            id: "pump",
            username: Some("u"),
            address: Some("192.0.2.1"),
            ..Client::default()
        },
        action: Action::Publish,
        topic: topic.as_bytes(),
        qos: 0,
        retain: false,
        payload: 0,
    };
    client.authorize(&access, Unix(now()))
}

fn may_publish(client: &mut TestInstance, topic: &str) -> bool {
    publishes(client, topic).allows()
}

/// At the start and on SIGHUP, the log warns of rights that depend on a value that the device chooses.
#[test]
fn unbound_client_ids_in_rules_are_warned_of() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let keys = keys();
    let warnings = |options: &[(&str, &str)], rules: &str| {
        fs::write(file.path(), "").unwrap();
        let log = Log::default();
        let mut instance = instance_with_keys(&keys, options, log.clone());
        let warned = || {
            let lines = log.take().into_iter();
            let warnings = lines.filter(|(level, _)| *level == Level::Warning);
            warnings.map(|(_, line)| line).collect::<Vec<_>>()
        };
        let at_start = warned();
        fs::write(file.path(), rules).unwrap();
        instance.engine.reload(&mut instance.common, false);
        (at_start, warned())
    };
    let own = "[[rule]]\nname = \"own\"\nallow.both = \"dev/%c/#\"";
    let (at_start, on_sighup) = warnings(&[("policy_file", path)], own);
    assert!(at_start.is_empty());
    let [line] = &on_sighup[..] else {
        panic!("one warning: {on_sighup:?}")
    };
    assert!(
        line.starts_with(&format!(
            "rule 'own' of the policy file '{path}' looks at the client ID, which every device chooses"
        )) && line.ends_with("fix: set client_id_template or client_id_claim"),
        "{line}"
    );
    let (at_start, _) = warnings(&[("claim_placeholders", "true")], "");
    assert_eq!(at_start.len(), 1);
    assert!(
        at_start[0].starts_with("with claim_placeholders a token's filters may hold the client ID")
    );

    for bound in [
        &[
            ("client_id_claim", "device"),
            ("policy_file", path),
            ("claim_placeholders", "true"),
        ][..],
        &[("client_id_template", "d-${sub}"), ("policy_file", path)],
        &[("acl", "defer"), ("claim_placeholders", "true")],
    ] {
        assert_eq!(warnings(bound, own), (vec![], vec![]), "{bound:?}");
    }
    let everybody = "[[rule]]\nname = \"all\"\nallow.both = \"%u/#\"";
    assert_eq!(
        warnings(&[("policy_file", path)], everybody),
        (vec![], vec![])
    );
}

/// With `acl defer` the topics claim is not read, so an invalid one does not matter.
#[test]
fn an_unused_invalid_topics_claim_is_accepted() {
    for claims in [
        json!({"topics": null}),
        json!({"topics": ["a/#/b"]}),
        json!({"topics": [{"permission": "deny", "action": "all", "topic": "a/%c"}]}),
        json!({"topics": ["a/${gone}"], "permissions": ["publish:a/#/b"], "scope": "publish:+a"}),
    ] {
        let options = [
            ("acl", "defer"),
            ("rights", "topics,permissions,scope"),
            ("claim_placeholders", "true"),
        ];
        let mut client = client_with(&claims, &options);
        assert_eq!(publishes(&mut client, "a"), Decision::Defer);
    }
}

#[test]
fn a_condition_can_use_the_topics_claim() {
    let mut client = client_of(
        &json!(["guest"]),
        r##"
        [[rule]]
        name = "no valves for guests"
        when.claim = { name = "topics", has = "guest" }
        deny.both = "valves/#"
        [[rule]]
        name = "status of each"
        allow.both = "status/${topics[*]}"
        [[rule]]
        name = "valves"
        allow.both = "valves/#"
        "##,
    );
    assert!(!may_publish(&mut client, "valves/1"));
    assert!(may_publish(&mut client, "status/guest") && !may_publish(&mut client, "status/other"));
}

/// At `exp` the broker kicks a client and asks about each subscription of its kept session. A subscription
/// that is denied then is gone when the device comes back, even within the rule's hours.
#[test]
fn a_kept_session_keeps_a_subscription_outside_its_hours() {
    let rules = r#"
        [[rule]]
        name = "by day"
        when = { time = "09:00-17:00" }
        allow = { subscribe = ["news/#"] }
    "#;
    let mut client = client_of(&json!([]), rules);
    let midnight = now() / 86_400 * 86_400;
    let may_subscribe = |client: &mut TestInstance, hour: u64| {
        let access = Access {
            key: ClientKey(1),
            client: Client {
                id: "pump",
                username: Some("u"),
                address: Some("192.0.2.1"),
                ..Client::default()
            },
            action: Action::Subscribe,
            topic: b"news/#",
            qos: 0,
            retain: false,
            payload: 0,
        };
        client
            .authorize(&access, Unix(midnight + hour * 3600))
            .allows()
    };
    let engine = &mut client.engine;
    engine.leave(
        &mut client.common,
        ClientKey(1),
        AfterDisconnect::Kept,
        Unix(midnight),
    );
    assert!(may_subscribe(&mut client, 10));
    assert!(may_subscribe(&mut client, 18), "it asks for nothing new");
    drop(client);

    let mut client = client_of(&json!([]), rules);
    let access = |topic| Access {
        key: ClientKey(1),
        client: Client {
            id: "pump",
            username: Some("u"),
            address: Some("192.0.2.1"),
            ..Client::default()
        },
        action: Action::Subscribe,
        topic,
        qos: 0,
        retain: false,
        payload: 0,
    };
    // Before today, so that its token is still valid.
    let evening = Unix(midnight - 6 * 3600);
    assert_eq!(
        client.authorize(&access(b"news/#"), evening),
        Decision::Deny
    );
}
