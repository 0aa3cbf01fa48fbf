//! Compares the compiled rules with the naive implementation: the same rule decides, and the decision is the
//! same when it is asked for again.

use std::{fmt::Write as _, sync::Arc};

use acl::time::Unix;
use acl::{
    claims::TokenRules,
    client::ClientAttributes,
    policy_file::PolicyFile,
    rights::{Rights, RightsError, Source},
    rules::{AccessRequest, Actions, Effect, Limits, Rule, Template},
};
use serde_json::{Value, json};

use crate::{
    case::Case,
    naive::{self, NaiveClient, NaiveRequest, NaiveRule, PolicyRule},
};

/// What a case covered. The seeds together must cover everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Coverage {
    /// Accesses that the policy file allowed, and denied.
    pub by_file: [usize; 2],
    /// Accesses that the token allowed, and denied.
    pub by_token: [usize; 2],
    /// Accesses that no rule decided.
    pub undecided: usize,
    /// Whether the client has no rights at all, because a placeholder's value is not usable.
    pub unusable_value: bool,
}

/// Compares both.
///
/// # Panics
///
/// Panics when they disagree.
pub fn compare(case: &Case) -> Coverage {
    let text = in_toml(&case.file);
    let file = PolicyFile::compile(&text).unwrap_or_else(|mistake| panic!("{mistake}\n{text}"));
    let file = Arc::new(file);
    let Some(rights) = rights(case, &file) else {
        return Coverage {
            unusable_value: true,
            ..Coverage::default()
        };
    };
    let mut coverage = Coverage::default();
    // Twice: time goes on, and goes back.
    for question in case.questions.iter().chain(&case.questions) {
        compare_decision(case, &file, &rights, question, &mut coverage);
    }
    coverage
}

/// Returns the rights of the client, or `None` if a placeholder has no usable value. Checks that this is so exactly if
/// a rule would otherwise be lost that must not be.
fn rights(case: &Case, file: &Arc<PolicyFile>) -> Option<Rights> {
    let client = &case.client;
    let token: Vec<_> = case.token.iter().map(compiled).collect();
    let token = Arc::new(TokenRules::compile(&token));
    let is_usable = |rule: &NaiveRule| naive::expand(&rule.filter, client).is_some();
    // Leaving out a rule that denies would allow what it denies.
    let lost_denial = case
        .file
        .iter()
        .any(|listed| listed.rule.deny && listed.when.is_for(client) && !is_usable(&listed.rule));
    // A rule without any QoS applies to nothing, so its values are not looked at.
    let lost_rule = case
        .token
        .iter()
        .any(|rule| !rule.qos.is_empty() && !is_usable(rule));
    match Rights::new(token, Some(file), attributes(client)) {
        Ok(rights) => {
            assert!(!lost_denial && !lost_rule, "a value was used, or left out");
            Some(rights)
        }
        Err(RightsError::Policy(why)) => {
            assert!(lost_denial, "{why}");
            None
        }
        Err(RightsError::Token(why)) => {
            assert!(!case.token.iter().all(is_usable), "{why}");
            None
        }
    }
}

/// Compares the decisions about one access.
fn compare_decision(
    case: &Case,
    file: &PolicyFile,
    rights: &Rights,
    (question, topic, now): &(NaiveRequest, String, u64),
    coverage: &mut Coverage,
) {
    let wanted = |question, now| {
        let order = naive::in_order(&case.file, &case.token, &case.client, now);
        naive::first(order, &case.client, question, topic)
    };
    let later = |question, now| wanted(question, now).is_some_and(|rule: &NaiveRule| !rule.deny);
    let wanted = wanted(*question, *now);
    let (request, now) = (access_request(*question), Unix(*now));
    let found = rights.decide(request, topic.as_bytes(), now);
    let count = match found.map(|(source, _)| source) {
        Some(Source::Policy) => &mut coverage.by_file,
        Some(Source::Token) => &mut coverage.by_token,
        None => &mut [0; 2],
    };
    let allowed = wanted.is_some_and(|rule| !rule.deny);
    count[usize::from(!allowed)] += 1;
    coverage.undecided += usize::from(found.is_none());
    let found = found.map(|(source, ruling)| {
        assert_eq!(ruling.effect == Effect::Allow, allowed);
        match source {
            Source::Policy => {
                let place: usize = file.name(ruling.order).parse().expect("a number");
                &case.file[place].rule
            }
            Source::Token => &case.token[ruling.order as usize],
        }
    });
    let same = match (found, wanted) {
        (Some(found), Some(wanted)) => std::ptr::eq(found, wanted),
        (found, wanted) => found.is_none() && wanted.is_none(),
    };
    assert!(
        same,
        "{request:?} {topic:?} {now:?}: {found:?}, not {wanted:?}\n{case:#?}"
    );
    assert_eq!(rights.allow(request, topic.as_bytes(), now), allowed);
    if !allowed {
        let why = rights.explain_denial(request, topic.as_bytes(), now);
        assert!(!why.to_string().is_empty());
    } else if let (Some(until), Some(other)) = (rights.until(request), with_payload(*question)) {
        // What is allowed stays allowed until then, with any payload.
        let last = until.0.min(now.0 + 400 * 86_400) - 1;
        assert!(
            later(other, last),
            "{request:?} {topic:?} {last}\n{case:#?}"
        );
    }
}

/// Returns the same access for another message of this kind.
fn with_payload(request: NaiveRequest) -> Option<NaiveRequest> {
    match request {
        NaiveRequest::Publish { qos, retain, .. } => Some(NaiveRequest::Publish {
            qos,
            retain,
            payload: 1 << 20,
        }),
        NaiveRequest::Receive => Some(request),
        NaiveRequest::Subscribe { .. } => None,
    }
}

fn attributes(client: &NaiveClient) -> ClientAttributes {
    let claims = json!({ "site": client.site, "sites": client.sites, "roles": client.roles });
    let Value::Object(claims) = claims else {
        unreachable!("it is written as one")
    };
    ClientAttributes {
        client_id: client.id.as_str().into(),
        username: client.user.as_str().into(),
        claims: Arc::new(claims),
        address: client.address.map(Into::into),
        ..ClientAttributes::default()
    }
}

fn compiled(rule: &NaiveRule) -> Rule {
    let mut compiled = Rule::allow(Template::parse(&rule.filter).expect("a filter"));
    if rule.deny {
        compiled.effect = Effect::Deny;
    }
    compiled.actions = match (rule.publish, rule.subscribe) {
        (true, false) => Actions::Publish,
        (false, true) => Actions::Subscribe,
        _ => Actions::Both,
    };
    compiled.literal = rule.eq;
    compiled.limits = Limits {
        qos: rule.qos.iter().fold(0, |set, qos| set | 1 << qos),
        retain: rule.retain,
        max_payload: rule.max_payload.unwrap_or(u32::MAX),
    };
    compiled
}

fn access_request(request: NaiveRequest) -> AccessRequest {
    match request {
        NaiveRequest::Publish {
            qos,
            retain,
            payload,
        } => AccessRequest::Publish {
            qos,
            retain,
            payload,
        },
        NaiveRequest::Subscribe { qos } => AccessRequest::Subscribe { qos: Some(qos) },
        NaiveRequest::Receive => AccessRequest::Receive,
    }
}

/// Writes the policy file. Rules are named by their index.
fn in_toml(file: &[PolicyRule]) -> String {
    let mut text = String::from("roles_claim = \"roles\"\n");
    for (place, listed) in file.iter().enumerate() {
        let (rule, when) = (&listed.rule, &listed.when);
        let effect = if rule.deny { "deny" } else { "allow" };
        let actions = match (rule.publish, rule.subscribe) {
            (true, false) => "publish",
            (false, true) => "subscribe",
            _ => "both",
        };
        let filter = format!("{}{}", if rule.eq { "eq " } else { "" }, rule.filter);
        let mut members = vec![
            format!("name = \"{place}\""),
            format!("priority = {}", listed.priority),
            format!("{effect} = {{ {actions} = {filter:?} }}"),
        ];
        if rule.qos.len() < 3 {
            members.push(format!("qos = {:?}", rule.qos));
        }
        // For publishing only.
        if let (true, Some(retain)) = (rule.publish, rule.retain) {
            members.push(format!("retain = {retain}"));
        }
        if let (true, Some(most)) = (rule.publish, rule.max_payload) {
            members.push(format!("max_payload = {most}"));
        }
        let clock = |minute: u64| format!("{:02}:{:02}", minute / 60, minute % 60);
        let mut conditions = Vec::new();
        if let Some((from, to)) = when.time {
            conditions.push(format!("time = \"{}-{}\"", clock(from), clock(to)));
        }
        if let Some(weekend) = when.weekend {
            let days = if weekend { "Sat,Sun" } else { "Mon-Fri" };
            conditions.push(format!("days = \"{days}\""));
        }
        if !when.roles.is_empty() {
            conditions.push(format!("role = {:?}", when.roles));
        }
        if let Some((network, length)) = when.network {
            conditions.push(format!("network = \"{network}/{length}\""));
        }
        if !conditions.is_empty() {
            members.push(format!("when = {{ {} }}", conditions.join(", ")));
        }
        let _ = writeln!(text, "[[rule]]\n{}", members.join("\n"));
    }
    text
}
