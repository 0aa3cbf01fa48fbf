//! Auth0's `permissions` (an array, with RBAC) and `scope` (a string with spaces; RFC 8693, section 4.2): entries
//! `publish:FILTER`, `subscribe:FILTER`, `pubsub:FILTER`.
//!
//! Both claims also have entries for other APIs. So an entry without one of these verbs is ignored, as is a claim of
//! another type. An entry with a verb and a bad filter refuses the token, and so does a list that was written as text.
//!
//! In RabbitMQ's scopes, `*` is a wildcard. In MQTT it is a name, and to convert it to `+` or `#` would be to guess a
//! right. So it is not converted, and such a scope grants a topic that nobody uses.

use serde_json::Value;

use super::{ClaimMistake, template};
use crate::rules::{Actions, Rule};

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
    /// Splits an entry into its verb, the actions that the verb allows, and the filter.
    fn split<'s, 'e>(&'s self, entry: &'e str) -> Option<(&'s str, Actions, &'e str)> {
        let verbs = [
            (&self.publish, Actions::Publish),
            (&self.subscribe, Actions::Subscribe),
            (&self.both, Actions::Both),
        ];
        verbs.into_iter().find_map(|(verb, actions)| {
            let filter = entry.strip_prefix(verb.as_str())?.strip_prefix(':')?;
            Some((verb.as_str(), actions, filter))
        })
    }

    /// Returns the verb that an entry begins with.
    pub(super) fn verb_of(&self, entry: &str) -> Option<&str> {
        self.split(entry).map(|(verb, ..)| verb)
    }
}

/// Returns the entries of a claim that is a string or an array of strings.
pub(crate) fn entries(claim: &Value) -> Vec<&str> {
    match claim {
        Value::String(list) => list.split(' ').filter(|entry| !entry.is_empty()).collect(),
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// Returns the rules in the value of a claim.
///
/// # Errors
///
/// Returns the first entry that has a verb and a bad filter, or says that the list was written as text.
pub fn permissions(
    claim: &Value,
    verbs: &Verbs,
    placeholders: bool,
) -> Result<Vec<Rule>, ClaimMistake> {
    if let Value::String(text) = claim
        && text.trim_start().starts_with('[')
    {
        return Err(ClaimMistake::ListAsText);
    }
    let mut rules = Vec::new();
    for entry in entries(claim) {
        let Some((_, actions, filter)) = verbs.split(entry) else {
            continue;
        };
        let filter = template(filter, placeholders).map_err(|problem| ClaimMistake::Filter {
            entry: entry.to_owned(),
            is_permission: true,
            problem,
        })?;
        rules.push(Rule {
            actions,
            ..Rule::allow(filter)
        });
    }
    Ok(rules)
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
    fn entries_with_a_verb_become_rules_and_others_are_ignored() {
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
                "the filter in 'publish:up/%c' contains the placeholder `%c`",
            ),
        ] {
            let error = permissions(&claim, &Verbs::default(), false)
                .unwrap_err()
                .to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    /// RabbitMQ's scopes have the form `[resource.]verb:vhost/exchange[/key]`, with `read`, `write` and `configure`,
    /// and with `*` for any text. Here, a topic filter follows the verb, and `*` is a name. So by default these scopes
    /// grant nothing, and with RabbitMQ's verbs they never grant more than is meant.
    #[test]
    fn scopes_made_for_rabbitmq_never_grant_more_than_they_say() {
        // From its pages on OAuth 2.0.
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
    fn verbs_of_rabbitmq_can_be_configured() {
        let claim = json!(
            "rabbitmq.read:devices/+/state rabbitmq.write:devices/1/command rabbitmq.configure:x/y \
             rabbitmq.tag:management read:other"
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
