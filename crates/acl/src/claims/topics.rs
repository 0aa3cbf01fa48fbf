//! The forms of the claim `topics`.
//!
//! 1. A list of filters, or a string of filters with spaces or commas between them (client metadata in Auth0 holds only
//!    strings): they allow to publish and to subscribe.
//! 2. An object with such a list for each direction: `publish` and `subscribe`, or `pub`, `sub` and `all` as in EMQX's
//!    older form.
//! 3. A list of rules, as in EMQX's `acl` claim: `permission`, `action`, `topic` or `topics`, `qos`, `retain`, and
//!    conditions on the client: `ipaddr`, `clientid_re`, `username_re` (EMQX documentation, "Access Control List", new
//!    format). Each takes the values that EMQX takes. What only EMQX has (`zone`, `listener`) refuses the token: to
//!    ignore a condition would be to widen a right.
//!
//! In forms 2 and 3, a filter can begin with `eq `: see [`Rule::literal`].
//!
//! Each form can also be written as text, as in Auth0's Application Metadata: `["temperature","config"]`.
//!
//! A filter with a placeholder refuses the token unless the option `claim_placeholders` is on: as a text it would allow
//! or deny a topic that nobody meant.
//!
//! There is no limit on the number of entries, because the length of the token is limited.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{ClaimMistake, JsonType, RuleMember, RuleProblem, pattern::Pattern, template};
use crate::{
    policy_file::conditions::Condition,
    rules::{Actions, Effect, Limits, Rule},
};
use input::{json, network::Network};

/// Returns the rules in the value of the claim. Unless `placeholders`, a filter with a placeholder is a mistake.
///
/// # Errors
///
/// Returns the first mistake.
pub fn topics(claim: &Value, placeholders: bool) -> Result<Vec<Rule>, ClaimMistake> {
    let parser = TopicsParser { placeholders };
    match claim {
        Value::Array(entries) => parser.array(entries),
        Value::String(text) => match json_in(text)? {
            Some(claim) => topics(&claim, placeholders),
            None => split(text).map(|entry| parser.plain(entry)).collect(),
        },
        Value::Object(members) => parser.by_direction(members),
        other => Err(ClaimMistake::NotFilters {
            member: None,
            found: JsonType::of(other),
        }),
    }
}

/// Splits a string of filters.
fn split(list: &str) -> impl Iterator<Item = &str> {
    list.split([' ', ',']).filter(|entry| !entry.is_empty())
}

/// Returns the list or object that a text is meant as, if it looks like one.
fn json_in(text: &str) -> Result<Option<Value>, ClaimMistake> {
    match text.trim_start().starts_with(['[', '{']) {
        true => json::value(text).map(Some).map_err(ClaimMistake::BadJson),
        false => Ok(None),
    }
}

fn actions(word: &str) -> Option<Actions> {
    match word {
        "publish" | "pub" => Some(Actions::Publish),
        "subscribe" | "sub" => Some(Actions::Subscribe),
        "all" => Some(Actions::Both),
        _ => None,
    }
}

struct TopicsParser {
    placeholders: bool,
}

impl TopicsParser {
    /// A list of filters and rules.
    fn array(&self, entries: &[Value]) -> Result<Vec<Rule>, ClaimMistake> {
        let mut rules = Vec::with_capacity(entries.len());
        for (index, entry) in entries.iter().enumerate() {
            match entry {
                Value::String(filter) => rules.push(self.plain(filter)?),
                Value::Object(members) => {
                    let (rule, filters) =
                        rule(members).map_err(|problem| ClaimMistake::Rule { index, problem })?;
                    for filter in filters {
                        rules.push(rule.with_filter(self.filter(filter)?));
                    }
                }
                other => {
                    return Err(ClaimMistake::NotAString {
                        member: None,
                        index,
                        found: JsonType::of(other),
                    });
                }
            }
        }
        Ok(rules)
    }

    /// A filter without `eq `. Returns a rule that allows both actions.
    fn plain(&self, filter: &str) -> Result<Rule, ClaimMistake> {
        template(filter, self.placeholders)
            .map(Rule::allow)
            .map_err(|problem| ClaimMistake::Filter {
                entry: filter.to_owned(),
                is_permission: false,
                problem,
            })
    }

    /// A filter that can begin with `eq `. Returns a rule that allows both actions.
    fn filter(&self, filter: &str) -> Result<Rule, ClaimMistake> {
        match filter.strip_prefix("eq ") {
            None => self.plain(filter),
            Some(filter) => Ok(Rule {
                literal: true,
                ..self.plain(filter)?
            }),
        }
    }

    /// An object with a list for each direction.
    fn by_direction(&self, members: &Map<String, Value>) -> Result<Vec<Rule>, ClaimMistake> {
        let mut rules = Vec::new();
        for (name, value) in members {
            let Some(actions) = actions(name) else {
                return Err(ClaimMistake::NoDirection(name.clone()));
            };
            let of_member = self.member(name, value)?.into_iter();
            rules.extend(of_member.map(|rule| Rule { actions, ..rule }));
        }
        Ok(rules)
    }

    /// The list of one direction, as an array or as text.
    fn member(&self, name: &str, value: &Value) -> Result<Vec<Rule>, ClaimMistake> {
        let not_filters = |other| ClaimMistake::NotFilters {
            member: Some(name.to_owned()),
            found: JsonType::of(other),
        };
        match value {
            Value::Array(entries) => self.filters(name, entries),
            Value::String(text) => match json_in(text)? {
                Some(Value::Array(entries)) => self.filters(name, &entries),
                Some(other) => Err(not_filters(&other)),
                None => split(text).map(|entry| self.plain(entry)).collect(),
            },
            other => Err(not_filters(other)),
        }
    }

    fn filters(&self, member: &str, entries: &[Value]) -> Result<Vec<Rule>, ClaimMistake> {
        let entries = entries.iter().enumerate();
        let rules = entries.map(|(index, entry)| match entry {
            Value::String(entry) => self.filter(entry),
            other => Err(ClaimMistake::NotAString {
                member: Some(member.to_owned()),
                index,
                found: JsonType::of(other),
            }),
        });
        rules.collect()
    }
}

/// What a rule in a token says, except for its filters.
struct RuleWithoutFilter {
    effect: Effect,
    actions: Actions,
    limits: Limits,
    /// Shared by the rules of all its filters.
    conditions: Arc<[Condition]>,
}

impl RuleWithoutFilter {
    /// Returns the rule for this filter.
    fn with_filter(&self, rule: Rule) -> Rule {
        Rule {
            effect: self.effect,
            actions: self.actions,
            limits: self.limits,
            conditions: Arc::clone(&self.conditions),
            ..rule
        }
    }
}

/// Parses a rule. Returns its filters apart.
fn rule(members: &Map<String, Value>) -> Result<(RuleWithoutFilter, Vec<&str>), RuleProblem> {
    let (mut effect, mut actions, mut filters) = (None, None, None);
    let (mut limits, mut conditions) = (Limits::NONE, Vec::new());
    for (name, value) in members {
        let Some(member) = RuleMember::named(name) else {
            return Err(RuleProblem::UnknownMember(name.clone()));
        };
        let wrong = || wrong_value(member, value);
        match member {
            RuleMember::Permission => effect = Some(effect_of(value).ok_or_else(wrong)?),
            RuleMember::Action => {
                actions = Some(value.as_str().and_then(self::actions).ok_or_else(wrong)?);
            }
            RuleMember::Topic | RuleMember::Topics => {
                let found = filters_of(member, value).ok_or_else(wrong);
                if filters.is_some() {
                    return Err(RuleProblem::TopicAndTopics);
                }
                filters = Some(found?);
            }
            RuleMember::Qos => limits.qos = qos(value).ok_or_else(wrong)?,
            RuleMember::Retain => limits.retain = retain(value).ok_or_else(wrong)?,
            RuleMember::IpAddr => {
                let network = value.as_str().and_then(Network::parse).ok_or_else(wrong)?;
                conditions.push(Condition::Network(vec![network]));
            }
            RuleMember::ClientIdRe => {
                conditions.push(Condition::ClientIdPattern(pattern(member, value)?));
            }
            RuleMember::UsernameRe => {
                conditions.push(Condition::UsernamePattern(pattern(member, value)?));
            }
        }
    }
    let rule = RuleWithoutFilter {
        effect: effect.ok_or(RuleProblem::Missing(RuleMember::Permission))?,
        actions: actions.ok_or(RuleProblem::Missing(RuleMember::Action))?,
        limits,
        conditions: conditions.into(),
    };
    let filters = filters.ok_or(RuleProblem::Missing(RuleMember::Topic))?;
    Ok((rule, filters))
}

impl RuleMember {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "permission" => Self::Permission,
            "action" => Self::Action,
            "topic" => Self::Topic,
            "topics" => Self::Topics,
            "qos" => Self::Qos,
            "retain" => Self::Retain,
            "ipaddr" => Self::IpAddr,
            "clientid_re" => Self::ClientIdRe,
            "username_re" => Self::UsernameRe,
            _ => return None,
        })
    }
}

fn wrong_value(member: RuleMember, value: &Value) -> RuleProblem {
    let is_scalar = !value.is_array() && !value.is_object();
    RuleProblem::WrongValue {
        member,
        found: JsonType::of(value),
        value: is_scalar.then(|| value.to_string()),
    }
}

fn pattern(member: RuleMember, value: &Value) -> Result<Pattern, RuleProblem> {
    let text = value.as_str().ok_or_else(|| wrong_value(member, value))?;
    Pattern::parse(text).map_err(|problem| RuleProblem::Pattern {
        member,
        pattern: text.to_owned(),
        problem,
    })
}

fn effect_of(value: &Value) -> Option<Effect> {
    match value.as_str()? {
        "allow" => Some(Effect::Allow),
        "deny" => Some(Effect::Deny),
        _ => None,
    }
}

/// Returns the filters of `topic`, which is one, or of `topics`, which is an array.
fn filters_of(member: RuleMember, value: &Value) -> Option<Vec<&str>> {
    match (member, value) {
        (RuleMember::Topic, Value::String(filter)) => Some(vec![filter]),
        (RuleMember::Topics, Value::Array(list)) => list.iter().map(Value::as_str).collect(),
        _ => None,
    }
}

/// Returns a bit for each QoS of a number, an array of numbers, or the same in strings, as EMQX takes it.
fn qos(value: &Value) -> Option<u8> {
    let one = |value: &Value| match value {
        Value::Number(number) => number.as_u64().filter(|qos| *qos <= 2).map(|qos| 1 << qos),
        Value::String(text) => match text.as_str() {
            "0" => Some(1),
            "1" => Some(2),
            "2" => Some(4),
            _ => None,
        },
        _ => None,
    };
    match value {
        Value::Null => Some(Limits::NONE.qos),
        Value::Array(list) => list
            .iter()
            .try_fold(0, |set, value| Some(set | one(value)?)),
        Value::String(text) => text
            .split(',')
            .try_fold(0, |set, part| Some(set | one(&part.into())?)),
        other => one(other),
    }
}

/// Returns the limit on the retain flag, as EMQX takes it.
fn retain(value: &Value) -> Option<Option<bool>> {
    match value {
        Value::Null => Some(None),
        Value::Bool(only) => Some(Some(*only)),
        Value::Number(number) => match number.as_u64() {
            Some(0) => Some(Some(false)),
            Some(1) => Some(Some(true)),
            _ => None,
        },
        Value::String(word) => match word.as_str() {
            "all" => Some(None),
            "true" | "1" => Some(Some(true)),
            "false" | "0" => Some(Some(false)),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::TokenRules;
    use super::*;
    use crate::{client::ClientAttributes, rights::Rights, rules::AccessRequest, time::Unix};
    use serde_json::json;

    fn rules(claim: &Value) -> TokenRules {
        TokenRules::compile(&topics(claim, false).unwrap())
    }

    #[test]
    fn an_array_and_a_string_of_filters_allow_the_same() {
        for claim in [
            json!(["temperature", "config"]),
            json!("temperature config"),
            json!("temperature,config"),
            json!(", temperature ,  config,"),
            json!({"publish": ["temperature", "config"], "subscribe": "temperature config"}),
            json!({"all": ["temperature"], "sub": ["config"], "pub": ["config"]}),
        ] {
            let rules = rules(&claim);
            assert!(rules.may_publish("temperature") && rules.may_subscribe("config"));
            assert!(rules.may_publish("config") && rules.may_subscribe("temperature"));
            assert!(!rules.may_publish("temperature/x") && !rules.may_publish("Temperature"));
        }
    }

    #[test]
    fn an_empty_list_allows_nothing_and_is_not_an_error() {
        for claim in [
            json!([]),
            json!(""),
            json!({}),
            json!({"publish": []}),
            json!([{"permission": "allow", "action": "all", "topics": []}]),
            json!([{"permission": "allow", "action": "all", "topic": "a", "qos": []}]),
        ] {
            let rules = rules(&claim);
            let receive = rules.allow(AccessRequest::Receive, "a");
            assert!(
                !rules.may_publish("a") && !rules.may_subscribe("a") && !receive,
                "{claim}"
            );
        }
    }

    #[test]
    fn each_direction_allows_only_its_action() {
        let rules = rules(&json!({"publish": ["up/#"], "subscribe": ["down/#"]}));
        assert!(rules.may_publish("up/x") && !rules.may_publish("down/x"));
        assert!(rules.may_subscribe("down/#") && !rules.may_subscribe("up/#"));
        assert!(
            rules.allow(AccessRequest::Receive, "down/x")
                && !rules.allow(AccessRequest::Receive, "up/x")
        );
    }

    #[test]
    fn a_mistake_is_refused_and_named() {
        for (claim, text) in [
            (json!(null), "it is null"),
            (json!(7), "it is a number"),
            (json!(["a", 7]), "its element 1 is a number"),
            (json!(["a", ["b"]]), "its element 1 is an array"),
            (json!(["a", "a/#/b"]), "the entry 'a/#/b' has a `#`"),
            (json!(["a", ""]), "the entry '' is empty"),
            (json!("a b+"), "the entry 'b+' has a `+`"),
            (
                json!(["a\u{0}b"]),
                r"the entry 'a\u{0}b' contains a control character",
            ),
            (json!(["$share/g/a"]), "starts with `$share/`"),
            (json!({"publsh": ["a"]}), "it has a member 'publsh'"),
            (json!({"publish": 7}), "its member publish is a number"),
            (
                json!({"publish": ["a", 7]}),
                "element 1 of its member publish is a number",
            ),
            (json!({"publish": "a b+"}), "the entry 'b+' has a `+`"),
            (json!(["a", {}]), "its element 1 has no permission"),
            (
                json!([{"permission": "allow", "topic": "a"}]),
                "its element 0 has no action",
            ),
            (
                json!([{"permission": "allow", "action": "all"}]),
                "its element 0 has no topic",
            ),
            (
                json!([{"permission": "Allow", "action": "all", "topic": "a"}]),
                r#"its element 0 has permission '"Allow"'; write allow or deny"#,
            ),
            (
                json!([{"permission": "deny", "action": "read", "topic": "a"}]),
                "write publish, subscribe or all",
            ),
            (
                json!([{"permission": "deny", "action": "all", "topic": ["a"]}]),
                "has topic an array",
            ),
            (
                json!([{"permission": "deny", "action": "all", "topic": "a+"}]),
                "the entry 'a+' has a `+`",
            ),
            (
                json!([{"permission": "deny", "action": "all", "topic": "a", "topics": ["b"]}]),
                "topic and topics",
            ),
            (
                json!([{"permission": "deny", "action": "all", "topic": "a", "qos": 3}]),
                "has qos '3'",
            ),
            (
                json!([{"permission": "deny", "action": "all", "topic": "a", "qos": [1, 1.0]}]),
                "has qos an array",
            ),
            (
                json!([{"permission": "deny", "action": "all", "topic": "a", "retain": 2}]),
                "has retain '2'",
            ),
            (
                json!([{"permission": "deny", "action": "all", "topic": "a", "zone": "external"}]),
                "has a member 'zone'",
            ),
            (
                json!([{"permission": "deny", "action": "all", "topic": "a", "ipaddr": "10.1.0.0/8"}]),
                r#"has ipaddr '"10.1.0.0/8"'; write an address or a network"#,
            ),
            (
                json!([{"permission": "deny", "action": "all", "topic": "a", "ipaddr": null}]),
                "has ipaddr 'null'",
            ),
            (
                json!([{"permission": "deny", "action": "all", "topic": "a", "username_re": 7}]),
                "its element 0 has username_re '7'; write a regular expression",
            ),
            (
                json!(["b", {"permission": "allow", "action": "all", "topic": "a", "clientid_re": "^(a"}]),
                "its element 1 has clientid_re '^(a', which cannot be used as a regular expression: '",
            ),
            (
                json!([{"permission": "deny", "action": "all", "topic": "a", "clientid_re": "a".repeat(257)}]),
                "it has more than 256 bytes",
            ),
        ] {
            let error = topics(&claim, false).unwrap_err().to_string();
            assert!(
                error.starts_with(text) || error.contains(text),
                "{claim}: {error}"
            );
        }
    }

    /// The rules of EMQX's page on the `acl` claim, with other topics: a right to publish, one to subscribe to exactly
    /// a filter with QoS 1, a denial of retained messages, a denial of everything.
    #[test]
    fn rules_of_emqx_have_the_same_effect_as_in_emqx() {
        let rules = rules(&json!([
            {"permission": "allow", "action": "publish", "topic": "up/c1"},
            {"permission": "allow", "action": "subscribe", "topic": "eq down/1/#", "qos": [1]},
            {"permission": "deny", "action": "publish", "topic": "state", "retain": true},
            {"permission": "allow", "action": "pub", "topic": "state", "retain": "all", "qos": null},
            {"permission": "deny", "action": "all", "topic": "closed"},
            {"permission": "allow", "action": "all", "topics": ["closed", "open"], "qos": "0,1", "retain": 0},
        ]));
        let publish = |topic, qos, retain| {
            let payload = 5;
            rules.allow(
                AccessRequest::Publish {
                    qos,
                    retain,
                    payload,
                },
                topic,
            )
        };
        let subscribe =
            |filter, qos| rules.allow(AccessRequest::Subscribe { qos: Some(qos) }, filter);
        assert!(publish("up/c1", 2, true) && !publish("up/c2", 0, false) && !subscribe("up/c1", 0));

        assert!(subscribe("down/1/#", 1) && subscribe("$share/g/down/1/#", 1));
        assert!(
            !subscribe("down/1/#", 0) && !subscribe("down/1/#", 2),
            "another QoS"
        );
        assert!(
            !subscribe("down/1/x", 1) && !subscribe("down/1/+", 1),
            "not exactly it"
        );
        assert!(
            rules.allow(AccessRequest::Receive, "down/1/x"),
            "what it subscribed to arrives"
        );

        assert!(publish("state", 1, false) && !publish("state", 1, true));
        assert!(!publish("closed", 0, false) && !subscribe("closed", 0));
        assert!(!rules.allow(AccessRequest::Receive, "closed"));
        assert!(
            publish("open", 1, false) && !publish("open", 2, false) && !publish("open", 1, true)
        );
        assert!(subscribe("open", 1) && !subscribe("open", 2));
    }

    #[test]
    fn a_rule_with_conditions_applies_to_the_clients_for_which_all_hold() {
        let claim = json!([
            {"permission": "deny", "action": "all", "topic": "cellar", "ipaddr": "10.9.0.0/16"},
            {"permission": "allow", "action": "all", "topics": ["cellar", "%u/+"], "ipaddr": "10.0.0.0/8"},
            {"permission": "allow", "action": "publish", "topic": "pumps", "clientid_re": "^pump-[0-9]+$",
             "username_re": "auth0"},
            {"permission": "deny", "action": "all", "topic": "up", "clientid_re": "guest"},
            {"permission": "allow", "action": "all", "topic": "up"},
        ]);
        let rules = topics(&claim, true).unwrap();
        let token = Arc::new(TokenRules::compile(&rules).administering(true));
        let long = "g".repeat(300);
        for (client_id, address, topics) in [
            (
                "pump-7",
                Some("10.1.2.3"),
                ["cellar", "auth0|1/x", "pumps", "up"].as_slice(),
            ),
            ("pump-7", Some("10.9.2.3"), &["auth0|1/x", "pumps", "up"]),
            ("a guest", Some("::ffff:10.1.2.3"), &["cellar", "auth0|1/x"]),
            ("pump-7x", Some("192.0.2.1"), &["up"]),
            // What nobody knows allows nothing, and is denied.
            ("pump-7", None, &["pumps", "up"]),
            (&long, Some("192.0.2.1"), &[]),
        ] {
            let client = ClientAttributes {
                address: address.map(|address| address.parse().unwrap()),
                ..ClientAttributes::with_claims(client_id, json!({}))
            };
            let rights = Rights::new(Arc::clone(&token), None, client).unwrap();
            let publish = AccessRequest::Publish {
                qos: 0,
                retain: false,
                payload: 0,
            };
            let may = |topic: &&str| rights.allow(publish, topic.as_bytes(), Unix(0));
            let asked = ["cellar", "auth0|1/x", "pumps", "up"];
            let allowed: Vec<_> = asked.into_iter().filter(may).collect();
            assert_eq!(allowed, topics, "{client_id} {address:?}");
            assert!(rights.administers());
        }
    }

    /// Tokens with the same claims share rules, which are never those of one client.
    #[test]
    fn rules_with_conditions_grant_nothing_before_the_client_is_known() {
        let claim = json!([
            {"permission": "allow", "action": "all", "topic": "${site}/#", "clientid_re": ""},
            "b",
        ]);
        let rules = TokenRules::compile(&topics(&claim, true).unwrap());
        assert!(rules.may_publish("b") && !rules.may_publish("a/x"));
        assert_eq!(rules.claims().collect::<Vec<_>>(), ["site"]);
    }

    /// The rule that EMQX is installed with: nobody can subscribe to everything, and all else is allowed.
    #[test]
    fn a_denied_subscription_does_not_deny_deliveries() {
        let rules = rules(&json!([
            {"permission": "deny", "action": "subscribe", "topic": "eq #"},
            "#",
        ]));
        assert!(!rules.may_subscribe("#") && rules.may_subscribe("a/#"));
        assert!(rules.allow(AccessRequest::Receive, "a/b"));
    }

    #[test]
    fn eq_is_a_keyword_only_in_objects_and_rules() {
        assert!(rules(&json!(["eq a"])).may_publish("eq a"));
        assert!(rules(&json!({"pub": ["eq a"]})).may_publish("a"));
    }

    /// Auth0's Application Metadata holds only strings, and so do some custom claims.
    #[test]
    fn a_list_or_an_object_may_be_written_as_text() {
        for claim in [
            json!(r#"["temperature","config"]"#),
            json!(" [ \"temperature\" ,\n\"config\" ] "),
            json!(r#"{"all":["temperature","config"]}"#),
            json!(r#"[{"permission":"allow","action":"all","topics":["temperature","config"]}]"#),
            json!({"all": r#"["temperature","config"]"#}),
        ] {
            let rules = rules(&claim);
            assert!(rules.may_publish("temperature") && rules.may_subscribe("config"));
            assert_eq!(rules.len(), 2, "{claim}");
        }
    }

    /// Otherwise each of these would be granted as a topic that nobody meant.
    #[test]
    fn text_that_is_not_meant_as_a_filter_is_refused() {
        for (claim, text) in [
            (
                json!(r#"["temperature","config""#),
                "it is a text that looks like a list or an object, and it is not valid JSON",
            ),
            (
                json!(r#"["temperature"] config"#),
                "it is a text that looks like a list or an object, and it is not valid JSON",
            ),
            (
                json!(r#"["temperature"],"x":["config"]"#),
                "it is a text that looks like a list or an object, and it is not valid JSON",
            ),
            (
                json!("[temperature,config]"),
                "it is a text that looks like a list or an object, and it is not valid JSON",
            ),
            (
                json!(r#"{"all":["a"],"all":["b"]}"#),
                "it is a text that looks like a list or an object, and it names a member twice",
            ),
            (
                json!("'temperature','config'"),
                r"the entry '\'temperature\'' begins with `'`",
            ),
            (
                json!([r#"["temperature"]"#]),
                r#"the entry '["temperature"]' begins with `[`"#,
            ),
            (
                json!({"publish": r#"{"a":"b"}"#}),
                "its member publish is an object",
            ),
            (
                json!(["a", "cfg/${clientid}"]),
                "the entry 'cfg/${clientid}' contains the placeholder `${`",
            ),
            (
                json!("up/%c"),
                "the entry 'up/%c' contains the placeholder `%c`",
            ),
            (
                json!({"sub": ["eq %u/x"]}),
                "the entry '%u/x' contains the placeholder `%u`",
            ),
            (
                json!([{"permission": "deny", "action": "all", "topics": ["a", "a/${x"]}]),
                "the entry 'a/${x' contains the placeholder `${`",
            ),
        ] {
            let error = topics(&claim, false).unwrap_err().to_string();
            assert!(error.starts_with(text), "{claim}: {error}");
        }
        assert!(topics(&json!(["100%/$x/%d", "a[0]", "it's"]), false).is_ok());
    }

    #[test]
    fn placeholders_are_parsed_if_they_are_enabled() {
        let rules = topics(&json!(["%u/x"]), true).unwrap();
        assert_eq!(rules[0].filter.placeholders().count(), 1);
        let error = topics(&json!(["a/${x"]), true).unwrap_err().to_string();
        assert!(error.contains("without a `}`"), "{error}");
        let own = json!([{"permission": "deny", "action": "all", "topic": "cfg/${clientid}"}]);
        assert!(topics(&own, true).is_ok());
    }

    #[test]
    #[cfg_attr(miri, ignore = "it is about numbers too large for an interpreter")]
    fn ten_thousand_entries_are_accepted() {
        let many: Vec<String> = (0..10_000).map(|i| format!("t/{i}")).collect();
        let rules = rules(&json!(many));
        assert_eq!(rules.len(), 10_000);
        assert!(rules.may_publish("t/9999") && !rules.may_publish("t/10000"));
    }
}
