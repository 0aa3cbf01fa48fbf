//! Auth0's `permissions` (an array, with RBAC) and `scope` (a string with spaces; RFC 8693, section
//! 4.2): entries `publish:FILTER`, `subscribe:FILTER`, `pubsub:FILTER`.
//!
//! Both claims hold what other APIs are for, too: an entry without one of these verbs is none of our
//! business, and neither is a claim of that name that is something else. An entry with a verb and a
//! bad filter refuses the token, and so does a list that was written as text.
//!
//! A `*` is a name in MQTT, also where it comes from RabbitMQ's scopes, in which it is a wildcard: to read
//! it as `+` or `#` would be to guess a right. Such a scope grants a topic that nobody has.

use serde_json::Value;

use super::{BadClaim, template};
use crate::rules::{Actions, Rule};
use input::text::Quoted;

/// The words in front of the filters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verbs {
    /// May publish.
    pub publish: String,
    /// May subscribe.
    pub subscribe: String,
    /// May do both.
    pub both: String,
}

impl Default for Verbs {
    fn default() -> Self {
        Self {
            publish: "publish".into(),
            subscribe: "subscribe".into(),
            both: "pubsub".into(),
        }
    }
}

impl Verbs {
    /// The verb that an entry begins with.
    pub(super) fn of(&self, entry: &str) -> Option<&str> {
        [&self.publish, &self.subscribe, &self.both]
            .into_iter()
            .find(|verb| {
                let rest = entry.strip_prefix(verb.as_str());
                rest.is_some_and(|rest| rest.starts_with(':'))
            })
            .map(String::as_str)
    }

    fn read<'e>(&self, entry: &'e str) -> Option<(Actions, &'e str)> {
        [
            (&self.publish, Actions::Publish),
            (&self.subscribe, Actions::Subscribe),
            (&self.both, Actions::Both),
        ]
        .into_iter()
        .find_map(|(verb, actions)| {
            Some((
                actions,
                entry.strip_prefix(verb.as_str())?.strip_prefix(':')?,
            ))
        })
    }
}

/// The entries of the claim, a string or an array of strings.
pub(crate) fn entries(claim: &Value) -> Vec<&str> {
    match claim {
        Value::String(list) => list.split(' ').filter(|entry| !entry.is_empty()).collect(),
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// Reads the claim's value.
///
/// # Errors
///
/// The first entry with one of our verbs and without a filter, or a list that was written as text.
pub fn permissions(
    claim: &Value,
    verbs: &Verbs,
    placeholders: bool,
) -> Result<Vec<Rule>, BadClaim> {
    if let Value::String(text) = claim
        && text.trim_start().starts_with('[')
    {
        return Err(BadClaim(
            "it is a text that looks like a list; write a list, or entries with spaces between them"
                .into(),
        ));
    }
    entries(claim)
        .into_iter()
        .filter_map(|entry| Some((entry, verbs.read(entry)?)))
        .map(|(entry, (actions, filter))| {
            let filter = template(filter, placeholders)
                .map_err(|why| BadClaim(format!("the filter in {} {why}", Quoted(entry))))?;
            Ok(Rule {
                actions,
                ..Rule::allow(filter)
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::TokenRules;
    use super::*;
    use serde_json::json;

    fn rules(claim: &Value, verbs: &Verbs) -> TokenRules {
        TokenRules::compile(&permissions(claim, verbs, false).unwrap())
    }

    #[test]
    fn entries_with_our_verbs_are_rights_and_others_are_not_ours() {
        for claim in [
            json!([
                "publish:up/+",
                "read:messages",
                "subscribe:down/#",
                "admin",
                "pubsub:both",
                ":x",
                "publisher:no"
            ]),
            json!(
                "openid publish:up/+  profile subscribe:down/# read:messages pubsub:both :x publisher:no"
            ),
        ] {
            let rules = rules(&claim, &Verbs::default());
            assert_eq!(rules.len(), 3);
            assert!(rules.may_publish("up/a") && !rules.may_subscribe("up/a"));
            assert!(rules.may_subscribe("down/#") && !rules.may_publish("down/a"));
            assert!(rules.may_publish("both") && rules.may_subscribe("both"));
        }
        for other in [
            json!(7),
            json!({"publish": "x"}),
            json!([7, null]),
            json!(""),
        ] {
            assert!(rules(&other, &Verbs::default()).is_empty());
        }
    }

    #[test]
    fn a_verb_with_a_bad_filter_refuses_the_token() {
        for (claim, part) in [
            (
                json!(["publish:a/#/b"]),
                "the filter in 'publish:a/#/b' has a `#`",
            ),
            (json!("subscribe:"), "the filter in 'subscribe:' is empty"),
            (
                json!(r#"["publish:a"]"#),
                "it is a text that looks like a list",
            ),
            (
                json!(["publish:up/%c"]),
                "the filter in 'publish:up/%c' has a placeholder, `%c`",
            ),
        ] {
            let error = permissions(&claim, &Verbs::default(), false)
                .unwrap_err()
                .to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    /// RabbitMQ's scopes have the form `[resource.]verb:vhost/exchange[/key]`, with `read`, `write` and
    /// `configure`, and with `*` for any text; what follows the verb is here a topic filter, in which `*`
    /// is a name. So of them nothing is a right by itself, and with its verbs never more than is meant.
    #[test]
    fn scopes_made_for_rabbitmq_never_grant_more_than_they_say() {
        // What its pages on OAuth 2.0 show.
        let published = json!([
            "read:*/*",
            "write:*/*",
            "configure:*/*",
            "read:*/*/*",
            "rabbitmq.read:*/*",
            "rabbitmq.write:*/*/*",
            "rabbitmq.configure:vhost1/exchange1",
            "rabbitmq.tag:administrator",
            "rabbitmq.tag:management",
        ]);
        assert!(rules(&published, &Verbs::default()).is_empty());
        for resource in ["", "rabbitmq."] {
            let verbs = Verbs {
                publish: format!("{resource}write"),
                subscribe: format!("{resource}read"),
                both: format!("{resource}readwrite"),
            };
            let rules = rules(&published, &verbs);
            for topic in ["a", "a/b", "a/b/c", "vhost1/exchange1"] {
                assert!(!rules.may_publish(topic) && !rules.may_subscribe(topic));
            }
            for filter in ["#", "+/+", "+/+/+"] {
                assert!(!rules.may_subscribe(filter));
            }
            assert!(rules.may_subscribe("*/*"), "a topic of that name");
        }
    }

    #[test]
    fn verbs_may_be_rabbitmq_s() {
        let claim = json!(
            "rabbitmq.read:devices/+/state rabbitmq.write:devices/1/command rabbitmq.configure:x/y rabbitmq.tag:management read:other"
        );
        let verbs = Verbs {
            publish: "rabbitmq.write".into(),
            subscribe: "rabbitmq.read".into(),
            both: "rabbitmq.readwrite".into(),
        };
        let rules = rules(&claim, &verbs);
        assert_eq!(rules.len(), 2);
        assert!(rules.may_subscribe("devices/+/state") && !rules.may_publish("devices/7/state"));
        assert!(
            rules.may_publish("devices/1/command") && !rules.may_subscribe("devices/1/command")
        );
    }
}
