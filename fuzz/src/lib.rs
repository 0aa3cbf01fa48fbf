//! What no input may do.
//!
//! Each target takes any bytes and panics if something is wrong. libFuzzer runs them (`make fuzz`), and so does
//! an ordinary test, with the seeds in `seeds/` and with random bytes (`crates/acl/tests/topics`).
//!
//! | target | input | check |
//! |---|---|---|
//! | [`rules`] | a policy file, a token's rules, a client, accesses | the naive implementation agrees, rule for rule |
//! | [`topics`](fn@topics) | a filter, and a topic or filter | the same, for any text, with shared subscriptions |
//! | [`mod@claims`] | JSON: a claim with topics | no panic; what is parsed can be compiled, bound and checked |
//! | [`policy_file`] | TOML: a policy file | no panic; an error has a line of the file |
//! | [`fn@token`] | keys, who signs, what the token says, what is done to it | accepted exactly if it is untouched, from the key that it names, with good claims; `jsonwebtoken` agrees |
//! | [`fn@key_set`] | JSON: a key set | an entry costs only itself; order and writing anew change nothing; `jsonwebtoken` reads the keys |
//! | [`fn@tenant_answer`] | status, headers and body | a token only from a success, and only the tenant's; none in a log line |
//! | [`fn@options`] | lines of mosquitto.conf, and a file of options | plugin and tool read the same; no secret in an error |
//! | [`fn@state_file`] | entries, and what happens to their file | never other rights than those that were written |
//! | [`fn@control`] | JSON: commands of an administrator | executed exactly if each member is known and good |
//!
//! The callbacks have a test of their own, because they need the built plugin: `tests/fake_broker`, `walks.rs`.

pub mod case;
pub mod compare;
mod control;
mod draw;
mod key_set;
pub mod naive;
mod options;
mod state_file;
mod tenant_answer;
mod token;

use std::sync::Arc;

use acl::time::Unix;
use acl::{
    claims::{self, TokenRules},
    client::ClientAttributes,
    policy_file::PolicyFile,
    rights::Rights,
    rules::{AccessRequest, Rule},
};
use serde_json::{Value, json};

use case::Case;
use compare::{Coverage, compare};

/// Takes any bytes, and returns whether they were a valid input.
pub type Target = fn(&[u8]) -> bool;

/// All targets, by the names of their folders in `seeds/`.
pub const TARGETS: [(&str, Target); 10] = [
    ("rules", |input| !rules(input).unusable_value),
    ("topics", topics),
    ("claims", claims),
    ("policy_file", policy_file),
    ("token", token),
    ("key_set", key_set),
    ("tenant_answer", tenant_answer),
    ("options", options),
    ("state_file", state_file),
    ("control", control),
];

const PUBLISH: AccessRequest = AccessRequest::Publish {
    qos: 0,
    retain: false,
    payload: 0,
};
const SUBSCRIBE: AccessRequest = AccessRequest::Subscribe { qos: Some(0) };

/// Returns the rights of a client whose token has these rules, without placeholders.
pub fn token_rights(rules: &[Rule]) -> Rights {
    let token = Arc::new(TokenRules::compile(rules));
    Rights::new(token, None, ClientAttributes::default()).expect("there are no values")
}

/// Takes keys, a token and what is done to its text. Returns whether the token was accepted.
pub fn token(input: &[u8]) -> bool {
    token::token(input)
}

/// Takes a key set. Returns whether it was usable.
pub fn key_set(input: &[u8]) -> bool {
    key_set::key_set(input)
}

/// Takes a response of the token endpoint. Returns whether it has a token.
pub fn tenant_answer(input: &[u8]) -> bool {
    tenant_answer::tenant_answer(input)
}

/// Takes options. Returns whether a broker would start with them.
pub fn options(input: &[u8]) -> bool {
    options::options(input)
}

/// Takes a file of saved sessions, and what happens to it. Returns whether it was read without damage.
pub fn state_file(input: &[u8]) -> bool {
    state_file::state_file(input)
}

/// Takes commands of an administrator. Returns whether each can be executed.
pub fn control(input: &[u8]) -> bool {
    control::control(input)
}

/// Compares the compiled rules with the naive implementation.
pub fn rules(input: &[u8]) -> Coverage {
    compare(&Case::of(input))
}

/// Takes a line with a filter, and one with a topic or another filter. Returns whether the filter was valid.
pub fn topics(input: &[u8]) -> bool {
    let Some((filter, topic)) = std::str::from_utf8(input)
        .ok()
        .and_then(|text| text.split_once('\n'))
    else {
        return false;
    };
    // A text with separators would be parsed as several words.
    let Ok(rules) = claims::topics(&json!([filter]), false) else {
        return false;
    };
    let rights = token_rights(&rules);
    // The broker never asks about other topics: it validates them first (lib/util_topic.c).
    let is_topic = !topic.is_empty() && !topic.contains(['+', '#']);
    if is_topic {
        let matches = naive::matches(filter, topic);
        let allowed = rights.allow(PUBLISH, topic.as_bytes(), Unix(0));
        assert_eq!(allowed, matches, "{filter:?} {topic:?}");
    }
    let allowed = rights.allow(SUBSCRIBE, topic.as_bytes(), Unix(0));
    if is_filter(topic) {
        let covers = naive::covers(filter, naive::without_group(topic));
        assert_eq!(allowed, covers, "{filter:?} {topic:?}");
    }
    true
}

/// Whether this is valid in a SUBSCRIBE (MQTT 5.0, sections 4.7.1 and 4.8.2; Mosquitto's limits).
fn is_filter(text: &str) -> bool {
    let (group, filter) = match text.strip_prefix("$share/") {
        Some(rest) => rest.split_once('/').unwrap_or_default(),
        None => ("group", text),
    };
    let levels: Vec<&str> = filter.split('/').collect();
    let is_good = |(place, level): (usize, &&str)| match *level {
        "#" => place + 1 == levels.len(),
        "+" => true,
        name => !name.contains(['+', '#']),
    };
    !group.is_empty()
        && !group.contains(['+', '#'])
        && !filter.is_empty()
        && !filter.contains(char::is_control)
        && levels.len() <= 201
        && levels.iter().enumerate().all(is_good)
}

/// Takes a claim with topics, and parses it with and without placeholders. Returns whether it was valid.
pub fn claims(input: &[u8]) -> bool {
    let Ok(claim) = serde_json::from_slice::<Value>(input) else {
        return false;
    };
    let mut good = false;
    for placeholders in [false, true] {
        let Ok(rules) = claims::topics(&claim, placeholders) else {
            continue;
        };
        good = true;
        let token = Arc::new(TokenRules::compile(&rules));
        if let Ok(mut rights) = Rights::new(token, None, client(json!({ "claim": claim }))) {
            request_everything(&mut rights, rules.is_empty());
        }
    }
    good
}

/// Takes a policy file. Returns whether it was valid.
pub fn policy_file(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else {
        return false;
    };
    match PolicyFile::compile(text) {
        Ok(file) => {
            let file = Arc::new(file);
            let claims = json!({"permissions": ["a", "b"], "roles": ["a"], "site": "a", "sites": ["a", "b"]});
            if let Ok(mut rights) = Rights::new(Arc::default(), Some(&file), client(claims)) {
                request_everything(&mut rights, file.is_empty());
            }
            true
        }
        Err(mistake) => {
            let said = mistake.to_string();
            let number = said.strip_prefix("line ").and_then(|rest| {
                let digits = rest.find(|c: char| !c.is_ascii_digit())?;
                rest[..digits].parse::<usize>().ok()
            });
            let lines = text.split('\n').count();
            assert!(number.is_some_and(|n| (1..=lines).contains(&n)), "{said}");
            false
        }
    }
}

fn request_everything(rights: &mut Rights, nothing_is_allowed: bool) {
    let publish = |payload| AccessRequest::Publish {
        qos: 1,
        retain: false,
        payload,
    };
    for request in [
        publish(0),
        publish(1 << 20),
        AccessRequest::Receive,
        AccessRequest::Subscribe { qos: Some(2) },
        AccessRequest::Subscribe { qos: None },
    ] {
        for topic in ["a", "a/b/c", "/", "$SYS/x", "$share/g/a"] {
            // A Sunday, and the next day.
            for now in [Unix(1_732_147_200), Unix(1_732_233_600)] {
                let allowed = rights.allow(request, topic.as_bytes(), now);
                assert!(!(allowed && nothing_is_allowed), "{request:?} {topic}");
                if !allowed {
                    let why = rights.explain_denial(request, topic.as_bytes(), now);
                    assert!(!why.to_string().is_empty());
                }
            }
        }
    }
}

fn client(claims: Value) -> ClientAttributes {
    let Value::Object(claims) = claims else {
        unreachable!("it is written as one")
    };
    ClientAttributes {
        client_id: "a".into(),
        username: "b".into(),
        claims: Arc::new(claims),
        ..ClientAttributes::default()
    }
}
