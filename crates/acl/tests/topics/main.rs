//! Topic rules, checked with the compiled rules, a naive matcher, and the brokers' own functions.

mod cases;

use std::{fs, path::Path, process::Command};

use acl::{claims::topics, rights::Rights, rules::AccessRequest, time::Unix};
use cases::{COVER, LISTS, MATCH, SHARED};
use fuzz::naive;
use proptest::prelude::*;
use serde_json::{Value, json};
use testbed::broker::{Mosquitto, Version};

/// The rights of a client whose token has only a claim with topics.
struct TopicRights(Rights);

impl TopicRights {
    fn of(claim: &Value) -> Self {
        Self(fuzz::token_rights(&topics(claim, false).unwrap()))
    }

    fn allow(&self, request: AccessRequest, topic: &str) -> bool {
        self.0.allow(request, topic.as_bytes(), Unix(0))
    }

    fn may_publish(&self, topic: &str) -> bool {
        let publish = AccessRequest::Publish {
            qos: 0,
            retain: false,
            payload: 0,
        };
        self.allow(publish, topic)
    }

    fn may_subscribe(&self, filter: &str) -> bool {
        self.allow(AccessRequest::Subscribe { qos: Some(0) }, filter)
    }
}

fn rights(filters: &[&str]) -> TopicRights {
    TopicRights::of(&json!(filters))
}

#[test]
fn the_compiled_rules_agree_with_the_table() {
    for &(granted, topic, allowed) in MATCH {
        assert_eq!(
            rights(&[granted]).may_publish(topic),
            allowed,
            "{granted} {topic}"
        );
    }
    for &(granted, asked, allowed) in COVER.iter().chain(SHARED) {
        assert_eq!(
            rights(&[granted]).may_subscribe(asked),
            allowed,
            "{granted} {asked}"
        );
    }
}

#[test]
fn lists_with_deny_and_limits_agree_with_the_table() {
    for &(claim, request, topic, allowed) in LISTS {
        let claim: serde_json::Value = serde_json::from_str(claim).unwrap();
        assert_eq!(
            TopicRights::of(&claim).allow(request, topic),
            allowed,
            "{claim} {request:?} {topic}"
        );
    }
}

#[test]
fn the_naive_matcher_agrees_with_the_table() {
    for &(granted, topic, allowed) in MATCH {
        assert_eq!(naive::matches(granted, topic), allowed, "{granted} {topic}");
    }
    for &(granted, asked, allowed) in COVER {
        assert_eq!(naive::covers(granted, asked), allowed, "{granted} {asked}");
    }
}

/// `mosquitto_topic_matches_sub` of all three releases, and `mosquitto_sub_matches_acl` of 2.1.
#[test]
fn the_brokers_own_functions_agree_with_the_table() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = folder.path().join("oracle.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/topics/oracle.c");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-Wall", "-o"])
        .arg(&plugin)
        .arg(&source)
        .status()
        .unwrap();
    assert!(compiled.success());

    let questions: Vec<_> = MATCH
        .iter()
        .map(|case| ("match", case))
        .chain(COVER.iter().map(|case| ("cover", case)))
        .collect();
    let (asked, answered) = (
        folder.path().join("questions"),
        folder.path().join("answers"),
    );
    let lines: String = questions
        .iter()
        .map(|(kind, (filter, topic, _))| format!("{kind}\t{filter}\t{topic}\n"))
        .collect();
    fs::write(&asked, lines).unwrap();

    for version in Version::installed() {
        let options = [
            ("questions", asked.to_str().unwrap()),
            ("answers", answered.to_str().unwrap()),
        ];
        // The plugin stops the broker when it has checked everything.
        let failed = Mosquitto::builder(version)
            .plugin(&plugin, &options)
            .start_expecting_failure();
        let answers = fs::read_to_string(&answered)
            .unwrap_or_else(|_| panic!("{}: {}", version.name(), failed.log));
        let answers: Vec<_> = answers.lines().collect();
        assert_eq!(answers.len(), questions.len(), "{}", version.name());
        let mut judged = 0;
        for ((kind, (filter, topic, allowed)), answer) in questions.iter().zip(answers) {
            if answer != "-" {
                judged += 1;
                assert_eq!(
                    answer == "1",
                    *allowed,
                    "{} {kind} {filter} {topic}",
                    version.name()
                );
            }
        }
        let expected = if version.can_delay_logins() {
            questions.len()
        } else {
            MATCH.len()
        };
        assert_eq!(judged, expected, "{}", version.name());
        fs::remove_file(&answered).unwrap();
    }
}

/// Few names, so that filters and topics match often.
fn level() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "b", "", "$x"])
}

fn filter_level() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "b", "", "$x", "+", "+"])
}

fn topic() -> impl Strategy<Value = String> {
    prop::collection::vec(level(), 1..5)
        .prop_map(|levels| levels.join("/"))
        .prop_filter("a topic is not empty", |topic| !topic.is_empty())
}

fn filter() -> impl Strategy<Value = String> {
    (prop::collection::vec(filter_level(), 0..4), any::<bool>())
        .prop_map(|(mut levels, multi)| {
            if multi {
                levels.push("#");
            }
            levels.join("/")
        })
        .prop_filter("a filter is not empty", |filter| !filter.is_empty())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_set_of_filters_allows_what_one_of_them_allows(
        set in prop::collection::vec(filter(), 0..8),
        topic in topic(),
        asked in filter(),
    ) {
        let set: Vec<&str> = set.iter().map(String::as_str).collect();
        let rights = rights(&set);
        prop_assert_eq!(rights.may_publish(&topic), set.iter().any(|granted| naive::matches(granted, &topic)));
        prop_assert_eq!(rights.may_subscribe(&asked), set.iter().any(|granted| naive::covers(granted, &asked)));
        let shared = format!("$share/group/{asked}");
        let unshared = naive::without_group(&shared);
        prop_assert_eq!(rights.may_subscribe(&shared), set.iter().any(|granted| naive::covers(granted, unshared)));
    }

    /// The definition of covering: the covering filter matches every topic that the covered filter matches.
    #[test]
    fn a_covered_filter_matches_no_other_topics(granted in filter(), asked in filter(), topic in topic()) {
        let rights = rights(&[&granted]);
        if rights.may_subscribe(&asked) && naive::matches(&asked, &topic) {
            prop_assert!(rights.may_publish(&topic), "{granted} covers {asked}, and {topic}");
        }
    }

    #[test]
    fn any_text_has_the_same_result_as_in_the_naive_implementation(granted in ".{0,40}", asked in ".{0,40}") {
        fuzz::topics(format!("{granted}\n{asked}").as_bytes());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Policy file and token together, with everything that a rule can have, compared with a direct
    /// implementation of the definition.
    #[test]
    fn the_first_matching_rule_decides(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        fuzz::rules(&bytes);
    }
}
