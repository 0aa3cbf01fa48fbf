//! Lists of rules with everything a rule can have: the compiled tree against the naive reading.

use std::sync::Arc;

use mosquitto_auth0::{
    clock::Unix,
    grants::Grants,
    rights::{Hopeless, Profile, Rights, Source},
    rulebook::Rulebook,
    rules::{
        Actions, Ask, Effect, Limits, Rule,
        bind::Values,
        template::Template,
        tree::{Builder, Gates, Rules, ask},
    },
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::naive::{self, Client};

fn level() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "a",
        "b",
        "",
        "$x",
        "a-b",
        "longer-than-eight-a",
        "longer-than-eight-b",
    ])
}

fn rule_level() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "a",
        "b",
        "",
        "$x",
        "+",
        "+",
        "longer-than-eight-a",
        "%c",
        "a-%c",
        "%u-b",
        "${site}",
        "%u-${site}",
        "longer-than-eight-${site}",
    ])
}

fn joined(levels: Vec<&'static str>) -> Option<String> {
    let text = levels.join("/");
    (!text.is_empty()).then_some(text)
}

fn topic() -> impl Strategy<Value = String> {
    prop::collection::vec(level(), 1..5).prop_filter_map("a topic is not empty", joined)
}

fn asked_filter() -> impl Strategy<Value = String> {
    let level = prop_oneof![3 => level(), 1 => Just("+")];
    (
        prop::collection::vec(level, 0..4),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_filter_map("a filter is not empty", |(mut levels, multi, shared)| {
            if multi {
                levels.push("#");
            }
            let filter = joined(levels)?;
            Some(if shared {
                format!("$share/group/{filter}")
            } else {
                filter
            })
        })
}

fn rule_filter() -> impl Strategy<Value = String> {
    (
        prop::collection::vec(rule_level(), 0..4),
        any::<bool>(),
        prop::option::of((
            0_usize..4,
            prop::sample::select(vec!["${sites[*]}", "a-${sites[*]}", "%u-${sites[*]}-b"]),
        )),
    )
        .prop_filter_map("a filter is not empty", |(mut levels, multi, list)| {
            if let Some((place, list)) = list {
                levels.insert(place.min(levels.len()), list);
            }
            if multi {
                levels.push("#");
            }
            joined(levels)
        })
}

pub fn rule() -> impl Strategy<Value = naive::Rule> {
    (
        any::<bool>(),
        prop::sample::select(vec![(true, false), (false, true), (true, true)]),
        rule_filter(),
        prop::bool::weighted(0.2),
        prop::sample::select(vec![
            vec![0, 1, 2],
            vec![0, 1, 2],
            vec![1],
            vec![0, 2],
            vec![],
        ]),
        prop::sample::select(vec![None, None, Some(true), Some(false)]),
        prop::sample::select(vec![None, None, Some(10)]),
    )
        .prop_map(
            |(deny, (publish, subscribe), filter, eq, qos, retain, max_payload)| naive::Rule {
                deny,
                publish,
                subscribe,
                filter,
                eq,
                qos,
                retain,
                max_payload,
            },
        )
}

pub fn client() -> impl Strategy<Value = Client> {
    let value = || prop::sample::select(vec!["a", "b", "a", "b", "$x", "a+"]);
    (
        value(),
        value(),
        value(),
        prop::collection::vec(value(), 0..3),
    )
        .prop_map(|(id, user, site, sites)| Client {
            id: id.into(),
            user: user.into(),
            site: site.into(),
            sites: sites.into_iter().map(str::to_owned).collect(),
        })
}

/// A question: of a topic, or of a filter if it is about subscribing.
pub fn question() -> impl Strategy<Value = (naive::Ask, String)> {
    let qos = || 0_u8..3;
    prop_oneof![
        (qos(), any::<bool>(), 9_u32..12, topic()).prop_map(|(qos, retain, payload, topic)| (
            naive::Ask::Publish {
                qos,
                retain,
                payload
            },
            topic
        )),
        (qos(), asked_filter()).prop_map(|(qos, filter)| (naive::Ask::Subscribe { qos }, filter)),
        topic().prop_map(|topic| (naive::Ask::Receive, topic)),
    ]
}

pub fn compiled(rule: &naive::Rule) -> Rule {
    Rule {
        effect: if rule.deny {
            Effect::Deny
        } else {
            Effect::Allow
        },
        actions: match (rule.publish, rule.subscribe) {
            (true, false) => Actions::Publish,
            (false, true) => Actions::Subscribe,
            _ => Actions::Both,
        },
        filter: Template::parse(&rule.filter).unwrap(),
        literal: rule.eq,
        limits: Limits {
            qos: rule.qos.iter().fold(0, |set, qos| set | 1 << qos),
            retain: rule.retain,
            max_payload: rule.max_payload.unwrap_or(u32::MAX),
        },
    }
}

pub fn asked(ask: naive::Ask) -> Ask {
    match ask {
        naive::Ask::Publish {
            qos,
            retain,
            payload,
        } => Ask::Publish {
            qos,
            retain,
            payload,
        },
        naive::Ask::Subscribe { qos } => Ask::Subscribe { qos: Some(qos) },
        naive::Ask::Receive => Ask::Receive,
    }
}

fn tree(rules: &[naive::Rule], gates: impl Fn(usize) -> u32) -> Rules {
    let mut builder = Builder::new();
    for (order, rule) in rules.iter().enumerate() {
        builder.add(order as u32, &compiled(rule), gates(order));
    }
    builder.build()
}

pub fn claims(client: &Client) -> Value {
    json!({ "site": client.site, "sites": client.sites })
}

/// The same rule, as the policy file has it.
fn in_toml(place: usize, rule: &naive::Rule, priority: i32) -> String {
    let member = match (rule.publish, rule.subscribe) {
        (true, false) => "publish",
        (false, true) => "subscribe",
        _ => "both",
    };
    let filter = format!("{}{}", if rule.eq { "eq " } else { "" }, rule.filter);
    let mut text = format!(
        "[[rule]]\nname = \"{place}\"\n{} = {{ {member} = {filter:?} }}\npriority = {priority}\n",
        if rule.deny { "deny" } else { "allow" },
    );
    if rule.qos.len() < 3 {
        text += &format!("qos = {:?}\n", rule.qos);
    }
    if let (true, Some(retain)) = (rule.publish, rule.retain) {
        text += &format!("retain = {retain}\n");
    }
    if let (true, Some(most)) = (rule.publish, rule.max_payload) {
        text += &format!("max_payload = {most}\n");
    }
    text
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Policy file and token together, straight from the sentence that says how they are.
    #[test]
    fn the_file_s_rules_come_first_and_those_below_zero_last(
        file in prop::collection::vec((rule(), -1..=1), 0..8),
        token in prop::collection::vec(rule(), 0..5),
        client in client(),
        questions in prop::collection::vec(question(), 1..6),
    ) {
        let file: Vec<_> = file.into_iter().filter(|(rule, _)| !rule.qos.is_empty()).collect();
        let text: String = file.iter().enumerate().map(|(place, (rule, priority))| in_toml(place, rule, *priority)).collect();
        let book = Arc::new(Rulebook::read(&text).unwrap());
        let grants: Vec<_> = token.iter().map(compiled).collect();
        let Value::Object(claims) = claims(&client) else { unreachable!() };
        let profile = Profile {
            client_id: client.id.as_str().into(),
            username: client.user.as_str().into(),
            claims: Arc::new(claims),
            address: None,
            port: None,
            certificate: None,
        };
        let good = |rule: &naive::Rule| naive::expand(&rule.filter, &client).is_some();
        let denied = file.iter().any(|(rule, _)| rule.deny && !good(rule));
        let mut rights = match Rights::new(Arc::new(Grants::compile(&grants)), Some(&book), profile) {
            Ok(rights) => rights,
            Err(Hopeless::Policy(_)) => {
                prop_assert!(denied);
                return Ok(());
            }
            Err(Hopeless::Token(_)) => {
                prop_assert!(!token.iter().all(good));
                return Ok(());
            }
        };
        prop_assert!(!denied);
        let mut order: Vec<&naive::Rule> = Vec::new();
        for priority in [1, 0] {
            order.extend(file.iter().filter(|(_, own)| *own == priority).map(|(rule, _)| rule));
        }
        order.extend(&token);
        order.extend(file.iter().filter(|(_, own)| *own == -1).map(|(rule, _)| rule));
        for (what, topic) in questions.iter().chain(&questions) {
            let wanted = naive::first(order.iter().copied(), &client, *what, topic);
            let found = rights.decide(asked(*what), topic.as_bytes(), Unix(0));
            let found = found.map(|(source, ruling)| match source {
                Source::Policy => &file[book.name(ruling.order).parse::<usize>().unwrap()].0,
                Source::Token => &token[ruling.order as usize],
            });
            prop_assert_eq!(found.map(|rule| rule as *const _), wanted.map(|rule| rule as *const _), "{:?} {} in {}", what, topic, text);
            let allowed = wanted.is_some_and(|rule| !rule.deny);
            // And again: what was asked last is remembered.
            for _ in 0..2 {
                prop_assert_eq!(rights.allow(asked(*what), topic.as_bytes(), Unix(0)), allowed);
            }
            if !allowed {
                prop_assert!(!rights.why_not(asked(*what), topic, Unix(0)).is_empty());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_first_rule_that_fits_decides(
        rules in prop::collection::vec(rule(), 0..10),
        client in client(),
        questions in prop::collection::vec(question(), 1..6),
    ) {
        let claims = claims(&client);
        let values = Values { client_id: &client.id, username: &client.user, claims: claims.as_object().unwrap() };
        let tree = tree(&rules, |_| 0);
        let unusable = rules.iter().any(|rule| {
            // What a rule that fits nothing would name is never asked for.
            (rule.publish || rule.subscribe) && !rule.qos.is_empty() && naive::expand(&rule.filter, &client).is_none()
        });
        let Ok(bindings) = tree.bind(&values) else {
            prop_assert!(unusable || rules.iter().any(|rule| naive::expand(&rule.filter, &client).is_none()));
            return Ok(());
        };
        prop_assert!(!unusable);
        for (what, topic) in &questions {
            let ruling = ask(asked(*what), topic.as_bytes(), |asked| tree.first(asked, &bindings, &Gates::default())).flatten();
            let found = ruling.map(|ruling| &rules[ruling.order as usize] as *const _);
            let wanted = naive::first(&rules, &client, *what, topic).map(|rule| rule as *const _);
            prop_assert_eq!(found, wanted, "{:?} {}: {:?}", what, topic, ruling);
        }
    }

    /// Rules come and go by their gates, and nothing else changes.
    #[test]
    fn a_shut_gate_is_a_rule_that_is_not_there(
        rules in prop::collection::vec((rule(), any::<bool>()), 0..10),
        (what, topic) in question(),
    ) {
        let (list, open): (Vec<_>, Vec<_>) = rules.into_iter().unzip();
        let client = Client { id: "a".into(), user: "b".into(), site: "a".into(), sites: vec!["b".into()] };
        let claims = claims(&client);
        let values = Values { client_id: &client.id, username: &client.user, claims: claims.as_object().unwrap() };
        let tree = tree(&list, |order| order as u32 + 1);
        let gates = Gates::new(list.len());
        for (gate, open) in open.iter().enumerate() {
            gates.set(gate as u32 + 1, *open);
        }
        let bindings = tree.bind(&values).unwrap();
        let ruling = ask(asked(what), topic.as_bytes(), |asked| tree.first(asked, &bindings, &gates)).flatten();
        let there = list.iter().zip(&open).filter(|(_, open)| **open).map(|(rule, _)| rule);
        let wanted = naive::first(there, &client, what, &topic);
        prop_assert_eq!(ruling.map(|ruling| ruling.effect == Effect::Deny), wanted.map(|rule| rule.deny));
    }
}
