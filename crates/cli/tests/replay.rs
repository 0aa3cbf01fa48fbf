//! `mosquitto-auth0 replay`, as an operator runs it.

mod common;

use auth::{
    clock::Unix,
    decision_log::record::{
        DecisionInput, DecisionPath, DecisionRecord, DecisionResult, RecordedClaims,
        RecordedMessage, RecordedRule,
    },
};
use common::{Conf, auth0};
use serde_json::{Value, json};

const POLICY: &str = "[[rule]]\nname = \"role\"\nwhen.claim = { name = \"role\", is = \"guest\" }\n\
                      deny.publish = \"site/closed\"\n\n\
                      [[rule]]\nname = \"hours\"\nwhen.time = \"09:00-17:00\"\nallow.publish = \"door\"\n\n\
                      [[rule]]\nname = \"site\"\nallow.subscribe = \"site/#\"\n";

/// Ten o'clock in the morning, and at night.
const MORNING: Unix = Unix(1_795_773_600);
const NIGHT: Unix = Unix(1_795_816_800);

fn conf() -> Conf {
    let conf = Conf::new();
    conf.configure("plugin_opt_domain t.example\nplugin_opt_audience https://mqtt.example/\n");
    conf.write("policy.toml", POLICY);
    conf
}

/// Returns a decision about a client, with the claims that the log has of it.
fn decision(
    client_id: &str,
    session: u64,
    path: DecisionPath,
    topic: &str,
    allowed: bool,
) -> DecisionRecord {
    DecisionRecord {
        decision_id: "1".into(),
        process: "p".into(),
        timestamp: MORNING,
        path,
        input: DecisionInput {
            client_id: client_id.into(),
            username: Some("auth0|1".into()),
            issuer: Some("https://t.example/".into()),
            session: Some(session),
            message: (path != DecisionPath::Connect).then(|| RecordedMessage {
                topic: topic.into(),
                ..RecordedMessage::default()
            }),
            ..DecisionInput::default()
        },
        result: DecisionResult {
            allowed,
            reason: (!allowed).then(|| "not-granted".into()),
            ..DecisionResult::default()
        },
    }
}

fn signs_in(client_id: &str, session: u64, claims: Value, missing: &[&str]) -> DecisionRecord {
    let mut record = decision(client_id, session, DecisionPath::Connect, "", true);
    record.input.claims = Some(RecordedClaims {
        present: claims.as_object().unwrap().clone(),
        missing: missing.iter().map(|name| (*name).to_owned()).collect(),
    });
    record
}

fn log(records: &[DecisionRecord]) -> String {
    let lines = records.iter().map(|record| record.line(&[]) + "\n");
    lines.collect()
}

fn replay(conf: &Conf, log: &str) -> common::Ran {
    let (log, policy) = (conf.write("log", log), conf.at("policy.toml"));
    auth0(&[
        "replay",
        &log,
        "--conf",
        conf.path(),
        "--policy",
        policy.to_str().unwrap(),
    ])
}

fn replay_json(conf: &Conf, log: &str) -> Value {
    let (log, policy) = (conf.write("log", log), conf.at("policy.toml"));
    let ran = auth0(&[
        "--json",
        "replay",
        &log,
        "--conf",
        conf.path(),
        "--policy",
        policy.to_str().unwrap(),
    ]);
    ran.json()
}

#[test]
fn what_would_change_is_told_by_device_and_rule() {
    let conf = conf();
    let claims = json!({"topics": ["site/1", "site/closed"], "role": "guest"});
    let mut records = vec![
        signs_in("pump-1", 1, claims, &[]),
        decision("pump-1", 1, DecisionPath::Publish, "site/1", true),
        decision("pump-1", 1, DecisionPath::Subscribe, "site/2", false),
        decision("pump-1", 1, DecisionPath::Publish, "door", false),
    ];
    for _ in 0..3 {
        let mut closed = decision("pump-1", 1, DecisionPath::Publish, "site/closed", true);
        closed.result.rule = Some(RecordedRule {
            file: Some("/old.toml".into()),
            line: Some(7),
            name: Some("old".into()),
        });
        records.push(closed);
    }
    let mut at_night = decision("pump-1", 1, DecisionPath::Publish, "door", false);
    at_night.timestamp = NIGHT;
    records.push(at_night);
    replay(&conf, &log(&records))
        .exits(1)
        .says("8 decisions about 1 devices were made again by ")
        .says(": 5 would be different.\n")
        .says("deny   publish, 3 times, 'pump-1' (user 'auth0|1'), such as 'site/closed': rule 'role' (")
        .says("policy.toml:1) decides; so far rule 'old' (/old.toml:7) decides\n")
        .says("allow  publish, 1 times, 'pump-1' (user 'auth0|1'), such as 'door': rule 'hours' (")
        .says("allow  subscribe, 1 times, 'pump-1'")
        .never_says("note:");
    let json = replay_json(&conf, &log(&records));
    assert_eq!(
        (&json["compared"], &json["different"]),
        (&json!(8), &json!(5))
    );
    let changes = json["changes"].as_array().unwrap();
    let denied = changes
        .iter()
        .find(|change| change["becomes"] == "denied")
        .unwrap();
    assert_eq!(
        (
            &denied["times"],
            &denied["rule"]["name"],
            &denied["rule_before"]["line"]
        ),
        (&json!(3), &json!("role"), &json!(7))
    );
}

#[test]
fn nothing_changes_if_the_rules_decide_the_same() {
    let conf = conf();
    let records = [
        signs_in("a", 1, json!({"topics": ["x"]}), &["role"]),
        decision("a", 1, DecisionPath::Publish, "x", true),
        decision("a", 1, DecisionPath::Publish, "y", false),
        decision("a", 1, DecisionPath::Unsubscribe, "y", true),
    ];
    replay(&conf, &log(&records))
        .exits(0)
        .says("3 decisions about 1 devices")
        .says(": none would be different.");
}

#[test]
fn what_the_log_does_not_tell_is_said() {
    let conf = conf();
    // Neither a message that was allowed, nor the claim `role`, nor the claims of session 2.
    let records = [
        signs_in("a", 1, json!({"topics": ["x"]}), &[]),
        decision("b", 2, DecisionPath::Publish, "y", false),
    ];
    replay(&conf, &(log(&records) + "{\"torn\": "))
        .exits(3)
        .says("note: the log has no message that was allowed")
        .says("the log leaves out claims that this policy file asks for, and they counted as missing: 'role'")
        .says("note: of 1 decisions the log does not tell the claims")
        .says("note: 1 lines are no decisions");
}

#[test]
fn a_device_that_would_not_be_let_in_is_told() {
    let conf = conf();
    conf.write(
        "policy.toml",
        "[[rule]]\nname = \"own\"\ndeny.both = \"site/${site}/#\"\n",
    );
    let records = [signs_in("a", 1, json!({"topics": ["x"], "site": "+"}), &[])];
    replay(&conf, &log(&records))
        .exits(1)
        .says("deny   connect, 1 times, 'a' (user 'auth0|1'): rule 'own' (");
}

#[test]
fn a_device_that_lacks_what_is_required_is_told() {
    let conf = conf();
    let required = "[[require]]\nname = \"site b\"\nthat.claim = { name = \"site\", is = \"b\" }\n\
                    message = \"ask for a token of site b\"\n";
    conf.write("policy.toml", required);
    let in_site = |client_id, session, site: &str| {
        signs_in(
            client_id,
            session,
            json!({"topics": ["x"], "site": site}),
            &[],
        )
    };
    replay(&conf, &log(&[in_site("a", 1, "a"), in_site("b", 2, "b")]))
        .exits(1)
        .says("deny   connect, 1 times, 'a' (user 'auth0|1'): rule 'site b' (");
    // The log has to tell the claims that are required, too.
    replay(
        &conf,
        &log(&[signs_in("c", 3, json!({"topics": ["x"]}), &[])]),
    )
    .exits(1)
    .says("site");
}

/// Claims of an issuer that the configuration does not name mean nothing.
#[test]
fn decisions_about_an_unknown_issuer_are_not_made_again() {
    let conf = conf();
    let mut record = signs_in("a", 1, json!({"topics": ["x"]}), &[]);
    record.input.issuer = Some("https://other.example/".into());
    replay(&conf, &log(&[record]))
        .exits(3)
        .says("of 1 decisions the log does not tell the claims");
}

#[test]
fn a_policy_file_with_a_mistake_gives_no_answer() {
    let conf = conf();
    conf.write("policy.toml", "[[rule]]\n");
    replay(&conf, "").exits(3).complains("policy.toml: line 1");
    let policy = conf.write("good.toml", "");
    auth0(&[
        "replay",
        "/none",
        "--conf",
        conf.path(),
        "--policy",
        &policy,
    ])
    .exits(3)
    .complains("/none cannot be read");
    auth0(&["replay", "--policy", &policy]).exits(2);
}
