//! The forms of the claim `topics`.
//!
//! 1. a list of filters, or a string of filters split on spaces and commas (what client metadata in
//!    Auth0 can hold, whose values are strings): to publish and to subscribe
//! 2. an object of such lists by direction: `publish`, `subscribe`, and `pub`, `sub`, `all` as in
//!    EMQX's older form
//! 3. a list of rules, as in EMQX's `acl` claim: `permission`, `action`, `topic` or `topics`, `qos`,
//!    `retain` (EMQX documentation, "Access Control List", new format). What EMQX takes for each is
//!    taken here. Its conditions on the client (`clientid_re`, `ipaddr` and others, from 5.9) are not
//!    known here and refuse the token: to ignore a condition would be to widen a right.
//!
//! A filter after `eq ` (forms 2 and 3) stands for itself: see [`Rule::literal`].
//!
//! Each of these may be written as text, as Auth0's Application Metadata does, which holds texts only:
//! `["temperature","config"]`.
//!
//! Where placeholders do not count, one refuses the token: as a text it would allow or deny a topic that
//! nobody meant.
//!
//! The number of entries needs no limit of its own: the token that holds them has one.

use serde_json::{Map, Value};

use super::{BadClaim, kind, template};
use crate::rules::{Actions, Effect, Limits, Rule};
use input::{json, text::Quoted};

type Result<T> = std::result::Result<T, BadClaim>;

/// Reads the claim's value. Without `placeholders` a filter that contains one is a mistake.
///
/// # Errors
///
/// What is wrong and where, for the first thing that is.
pub fn topics(claim: &Value, placeholders: bool) -> Result<Vec<Rule>> {
    let reader = Reader { placeholders };
    match claim {
        Value::Array(entries) => {
            let mut rules = Vec::with_capacity(entries.len());
            for (index, entry) in entries.iter().enumerate() {
                let place = || format!("its element {index}");
                match entry {
                    Value::String(filter) => rules.push(reader.plain(filter)?),
                    Value::Object(members) => reader.rule(members, &place(), &mut rules)?,
                    other => {
                        return Err(BadClaim(format!(
                            "{} is {}, not a string",
                            place(),
                            kind(other)
                        )));
                    }
                }
            }
            Ok(rules)
        }
        Value::String(text) => match written_out(text)? {
            Some(claim) => topics(&claim, placeholders),
            None => split(text).map(|entry| reader.plain(entry)).collect(),
        },
        Value::Object(members) => reader.by_direction(members),
        other => Err(BadClaim(format!(
            "it is {}, not an array of topic filters",
            kind(other)
        ))),
    }
}

/// The entries of a list in a string.
fn split(list: &str) -> impl Iterator<Item = &str> {
    list.split([' ', ',']).filter(|entry| !entry.is_empty())
}

/// The list or object that a text is meant as, if it looks like one.
fn written_out(text: &str) -> Result<Option<Value>> {
    if !text.trim_start().starts_with(['[', '{']) {
        return Ok(None);
    }
    let claim = json::value(text).map_err(|why| {
        BadClaim(format!(
            "it is a text that looks like a list or an object, and it {why}"
        ))
    })?;
    Ok(Some(claim))
}

struct Reader {
    placeholders: bool,
}

impl Reader {
    /// An allow rule for both actions.
    fn plain(&self, filter: &str) -> Result<Rule> {
        template(filter, self.placeholders)
            .map(Rule::allow)
            .map_err(|why| BadClaim(format!("the entry {} {why}", Quoted(filter))))
    }

    /// A filter, perhaps with `eq ` in front.
    fn filter(&self, filter: &str) -> Result<Rule> {
        let Some(inner) = filter.strip_prefix("eq ") else {
            return self.plain(filter);
        };
        let mut rule = self.plain(inner)?;
        rule.literal = true;
        Ok(rule)
    }

    fn by_direction(&self, members: &Map<String, Value>) -> Result<Vec<Rule>> {
        let mut rules = Vec::new();
        for (name, value) in members {
            let actions = match name.as_str() {
                "publish" | "pub" => Actions::Publish,
                "subscribe" | "sub" => Actions::Subscribe,
                "all" => Actions::Both,
                _ => {
                    return Err(BadClaim(format!(
                        "it has a member {}; write publish, subscribe or all",
                        Quoted(name)
                    )));
                }
            };
            let from = rules.len();
            let not_list = |other: &Value| {
                BadClaim(format!(
                    "its member {name} is {}, not an array of topic filters",
                    kind(other)
                ))
            };
            match value {
                Value::String(text) => match written_out(text)? {
                    Some(Value::Array(entries)) => self.list(name, &entries, &mut rules)?,
                    Some(other) => return Err(not_list(&other)),
                    None => {
                        for entry in split(text) {
                            rules.push(self.plain(entry)?);
                        }
                    }
                },
                Value::Array(entries) => self.list(name, entries, &mut rules)?,
                other => return Err(not_list(other)),
            }
            for rule in &mut rules[from..] {
                rule.actions = actions;
            }
        }
        Ok(rules)
    }

    /// The filters in one member of an object by direction.
    fn list(&self, name: &str, entries: &[Value], rules: &mut Vec<Rule>) -> Result<()> {
        for (index, entry) in entries.iter().enumerate() {
            let Value::String(entry) = entry else {
                return Err(BadClaim(format!(
                    "element {index} of its member {name} is {}, not a string",
                    kind(entry)
                )));
            };
            rules.push(self.filter(entry)?);
        }
        Ok(())
    }

    fn rule(&self, members: &Map<String, Value>, place: &str, rules: &mut Vec<Rule>) -> Result<()> {
        let bad = |what: String| Err(BadClaim(format!("{place} {what}")));
        let (mut effect, mut actions, mut filters) = (None, None, None);
        let mut limits = Limits::NONE;
        for (name, value) in members {
            let wrong = |fix: &str| {
                let shown = match value {
                    Value::Array(_) | Value::Object(_) => kind(value).to_owned(),
                    other => Quoted(&other.to_string()).to_string(),
                };
                bad(format!("has {name} {shown}; write {fix}"))
            };
            match (name.as_str(), value) {
                ("permission", Value::String(word)) if word == "allow" => {
                    effect = Some(Effect::Allow);
                }
                ("permission", Value::String(word)) if word == "deny" => {
                    effect = Some(Effect::Deny);
                }
                ("permission", _) => return wrong("allow or deny"),
                ("action", Value::String(word)) => {
                    actions = Some(match word.as_str() {
                        "publish" | "pub" => Actions::Publish,
                        "subscribe" | "sub" => Actions::Subscribe,
                        "all" => Actions::Both,
                        _ => return wrong("publish, subscribe or all"),
                    });
                }
                ("action", _) => return wrong("publish, subscribe or all"),
                ("topic" | "topics", _) if filters.is_some() => {
                    return bad("has topic and topics; leave one of the two out".into());
                }
                ("topic", Value::String(filter)) => filters = Some(vec![filter.as_str()]),
                ("topic", _) => return wrong("a topic filter"),
                ("topics", Value::Array(list)) if list.iter().all(Value::is_string) => {
                    filters = Some(list.iter().filter_map(Value::as_str).collect());
                }
                ("topics", _) => return wrong("an array of topic filters"),
                ("qos", value) => match qos(value) {
                    Some(set) => limits.qos = set,
                    None => return wrong("0, 1, 2 or an array of these"),
                },
                ("retain", value) => match retain(value) {
                    Some(only) => limits.retain = only,
                    None => return wrong("true, false or all"),
                },
                _ => {
                    return bad(format!(
                        "has a member {}; a rule has permission, action, topic, qos and retain",
                        Quoted(name)
                    ));
                }
            }
        }
        let (Some(effect), Some(actions), Some(filters)) = (effect, actions, filters) else {
            let missing = match (effect, actions) {
                (None, _) => "permission",
                (_, None) => "action",
                _ => "topic",
            };
            return bad(format!("has no {missing}"));
        };
        for filter in filters {
            let rule = self.filter(filter)?;
            rules.push(Rule {
                effect,
                actions,
                limits,
                ..rule
            });
        }
        Ok(())
    }
}

/// A number, an array of numbers, or the same in strings, as EMQX takes it.
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
    use crate::rules::AccessRequest;
    use serde_json::json;

    fn rules(claim: &Value) -> TokenRules {
        TokenRules::compile(&topics(claim, false).unwrap())
    }

    #[test]
    fn the_article_s_array_and_the_string_form_grant_the_same() {
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
    fn an_empty_list_grants_nothing_and_is_no_error() {
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
    fn directions_are_apart() {
        let rules = rules(&json!({"publish": ["up/#"], "subscribe": ["down/#"]}));
        assert!(rules.may_publish("up/x") && !rules.may_publish("down/x"));
        assert!(rules.may_subscribe("down/#") && !rules.may_subscribe("up/#"));
        assert!(
            rules.allow(AccessRequest::Receive, "down/x")
                && !rules.allow(AccessRequest::Receive, "up/x")
        );
    }

    #[test]
    fn anything_else_is_refused_and_named() {
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
                json!([{"permission": "deny", "action": "all", "topic": "a", "ipaddr": "10.0.0.0/8"}]),
                "has a member 'ipaddr'",
            ),
        ] {
            let error = topics(&claim, false).unwrap_err().to_string();
            assert!(
                error.starts_with(text) || error.contains(text),
                "{claim}: {error}"
            );
        }
    }

    /// What EMQX's page on the `acl` claim shows, with topics of our own: a right to publish, one to
    /// subscribe to exactly a filter with QoS 1, a denial of retained messages, a denial of everything.
    #[test]
    fn emqx_s_rules_mean_what_they_mean_there() {
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

    /// The rule that EMQX installs with: nobody subscribes to everything, and everything else goes.
    #[test]
    fn to_deny_a_subscription_is_not_to_deny_its_messages() {
        let rules = rules(&json!([
            {"permission": "deny", "action": "subscribe", "topic": "eq #"},
            "#",
        ]));
        assert!(!rules.may_subscribe("#") && rules.may_subscribe("a/#"));
        assert!(rules.allow(AccessRequest::Receive, "a/b"));
    }

    #[test]
    fn eq_is_a_word_only_where_emqx_has_it() {
        assert!(rules(&json!(["eq a"])).may_publish("eq a"));
        assert!(rules(&json!({"pub": ["eq a"]})).may_publish("a"));
    }

    /// Auth0's Application Metadata holds texts only, and so do some custom claims.
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

    /// What would be granted as a topic of a name that nobody meant.
    #[test]
    fn what_is_no_filter_is_refused_and_not_granted_to_the_letter() {
        for (claim, text) in [
            (
                json!(r#"["temperature","config""#),
                "it is a text that looks like a list or an object, and it is not good JSON",
            ),
            (
                json!(r#"["temperature"] config"#),
                "it is a text that looks like a list or an object, and it is not good JSON",
            ),
            (
                json!(r#"["temperature"],"x":["config"]"#),
                "it is a text that looks like a list or an object, and it is not good JSON",
            ),
            (
                json!("[temperature,config]"),
                "it is a text that looks like a list or an object, and it is not good JSON",
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
                "the entry 'cfg/${clientid}' has a placeholder, `${`, and",
            ),
            (json!("up/%c"), "the entry 'up/%c' has a placeholder, `%c`"),
            (
                json!({"sub": ["eq %u/x"]}),
                "the entry '%u/x' has a placeholder, `%u`",
            ),
            (
                json!([{"permission": "deny", "action": "all", "topics": ["a", "a/${x"]}]),
                "the entry 'a/${x' has a placeholder, `${`",
            ),
        ] {
            let error = topics(&claim, false).unwrap_err().to_string();
            assert!(error.starts_with(text), "{claim}: {error}");
        }
        assert!(topics(&json!(["100%/$x/%d", "a[0]", "it's"]), false).is_ok());
    }

    #[test]
    fn placeholders_are_read_where_they_are_wanted() {
        let rules = topics(&json!(["%u/x"]), true).unwrap();
        assert_eq!(rules[0].filter.placeholders().count(), 1);
        let error = topics(&json!(["a/${x"]), true).unwrap_err().to_string();
        assert!(error.contains("without a `}`"), "{error}");
        let own = json!([{"permission": "deny", "action": "all", "topic": "cfg/${clientid}"}]);
        assert!(topics(&own, true).is_ok());
    }

    #[test]
    fn ten_thousand_entries_are_only_many() {
        let many: Vec<String> = (0..10_000).map(|i| format!("t/{i}")).collect();
        let rules = rules(&json!(many));
        assert_eq!(rules.len(), 10_000);
        assert!(rules.may_publish("t/9999") && !rules.may_publish("t/10000"));
    }
}
