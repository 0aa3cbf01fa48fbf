//! The claims of a token, and the rules that they grant.
//!
//! * [`topics`](mod@topics): the forms of the claim `topics`
//! * [`permissions`](mod@permissions): Auth0's `permissions` and `scope`
//! * [`mistake`]: what can be wrong with them
//! * `pattern.rs`: regular expressions in the rules of a token
//! * this file: which claims count, and the compiled rules of one token. Tokens with the same claims share them

pub(crate) mod mistake;
pub(crate) mod pattern;
pub(crate) mod permissions;
mod topics;

pub use mistake::{ClaimMistake, ClaimsError, FilterProblem, JsonType, RuleMember, RuleProblem};
pub use pattern::PatternProblem;
pub use permissions::{Verbs, permissions};
pub use topics::topics;

use std::sync::Arc;

use serde_json::{Map, Value};

#[cfg(test)]
use crate::rules::{AccessRequest, bind::Bindings, matcher::prepare, windows::OpenWindows};
use crate::{
    client::ClientAttributes,
    rules::{Effect, Limits, Rule, Template, compile::OrderedRule, matcher::Matcher},
};
use input::json::Place;

/// Which claims count, and how they are read. Their rules come in this order: topics, permissions, roles, scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Where the topics are, if they count.
    pub topics: Option<Place>,
    /// Whether `permissions` counts, and with it each role that is written as a permission.
    pub permissions: bool,
    /// Whether `scope` counts. It does not by default: without RBAC, an Auth0 API gives an application every scope that
    /// it requests.
    pub scope: bool,
    /// The verbs of permissions.
    pub verbs: Verbs,
    /// Whether filters may have placeholders.
    pub placeholders: bool,
    /// The permission that makes a client an administrator, if there is one.
    pub admin: Option<AdminPermission>,
}

/// The permission that makes a client an administrator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminPermission {
    /// The entry of `permissions` or `scope`, by its exact text.
    pub entry: String,
    /// Whether it counts in `permissions`.
    pub in_permissions: bool,
    /// Whether it counts in `scope`.
    pub in_scope: bool,
}

impl AdminPermission {
    /// Returns the values of the claims that may have the entry.
    fn values<'c>(&self, claims: &'c Map<String, Value>) -> [Option<&'c Value>; 2] {
        let value = |name, counts: bool| claims.get(name).filter(|_| counts);
        [
            value("permissions", self.in_permissions),
            value("scope", self.in_scope),
        ]
    }
}

impl Reading {
    /// Returns the claims that count, each with its name and its value.
    fn claims<'s, 'c>(
        &'s self,
        claims: &'c Map<String, Value>,
    ) -> impl Iterator<Item = (&'s str, Option<&'c Value>)> {
        let topics = self.topics.as_ref();
        let topics = topics.map(|place| (place.text(), place.find(claims)));
        let lists = self.lists().map(|name| (name, claims.get(name)));
        topics.into_iter().chain(lists)
    }

    /// Returns the names of the members of a token that the claims that count are in.
    pub fn members(&self) -> impl Iterator<Item = String> {
        let topics = self.topics.as_ref().map(Place::members);
        let lists = self.lists().map(str::to_owned);
        topics.into_iter().flatten().chain(lists)
    }

    /// Returns the names of the claims whose entries may be permissions.
    fn lists(&self) -> impl Iterator<Item = &'static str> {
        let lists = [
            ("permissions", self.permissions),
            ("roles", self.permissions),
            ("scope", self.scope),
        ];
        let counting = lists.into_iter().filter(|(_, counts)| *counts);
        counting.map(|(name, _)| name)
    }

    /// Returns the values of the claims that count. Tokens with the same values grant the same.
    pub fn values<'a>(&self, claims: &'a Map<String, Value>) -> Vec<Option<&'a Value>> {
        let admin = self.admin.iter();
        let admin = admin.flat_map(|permission| permission.values(claims));
        let rules = self.claims(claims).map(|(_, value)| value);
        rules.chain(admin).collect()
    }

    /// Whether these claims make a client an administrator.
    pub fn administers(&self, claims: &Map<String, Value>) -> bool {
        self.admin.as_ref().is_some_and(|permission| {
            let values = permission.values(claims).into_iter().flatten();
            let mut entries = values.flat_map(permissions::entries);
            entries.any(|entry| entry == permission.entry)
        })
    }

    /// Returns the rules in these claims.
    ///
    /// # Errors
    ///
    /// Returns the first mistake.
    pub fn rules(&self, claims: &Map<String, Value>) -> Result<Vec<Rule>, ClaimsError> {
        let rules = self.rules_by_claim(claims)?.into_iter();
        Ok(rules.flat_map(|(_, rules)| rules).collect())
    }

    /// Returns the same rules with the names of their claims. There are none if a claim has a mistake, because then the
    /// token is refused.
    pub fn named_rules(&self, claims: &Map<String, Value>) -> NamedRules {
        NamedRules(self.rules_by_claim(claims).unwrap_or_default())
    }

    fn rules_by_claim(
        &self,
        claims: &Map<String, Value>,
    ) -> Result<Vec<(String, Vec<Rule>)>, ClaimsError> {
        let mut rules = Vec::new();
        for (place, (name, value)) in self.claims(claims).enumerate() {
            let Some(value) = value else {
                continue;
            };
            let of_claim = if self.topics.is_some() && place == 0 {
                topics(value, self.placeholders).and_then(|rules| match self.topics {
                    // What stands nested is a list of the provider's own, such as Keycloak's roles of a client.
                    Some(Place::Pointer(_)) => self.read_verbs(rules),
                    _ => self.check_verbs(rules),
                })
            } else {
                permissions(value, &self.verbs, self.placeholders)
            };
            let of_claim = of_claim.map_err(|mistake| ClaimsError {
                claim: name.to_owned(),
                mistake,
            })?;
            rules.push((name.to_owned(), of_claim));
        }
        Ok(rules)
    }

    /// Reads entries that are written as permissions as such. In a rule that says more, a verb is a mistake.
    fn read_verbs(&self, rules: Vec<Rule>) -> Result<Vec<Rule>, ClaimMistake> {
        let read = |rule: Rule| {
            if !rule.is_plain() || self.verbs.verb_of(rule.filter.text()).is_none() {
                return self.check_verbs(vec![rule]);
            }
            let entry = Value::from(vec![rule.filter.text()]);
            permissions(&entry, &self.verbs, self.placeholders)
        };
        let read = rules.into_iter().map(read).collect::<Result<Vec<_>, _>>()?;
        Ok(read.concat())
    }

    /// Refuses rules of the claim with topics whose filter begins with the verb of a permission.
    fn check_verbs(&self, rules: Vec<Rule>) -> Result<Vec<Rule>, ClaimMistake> {
        let verbs = [&self.verbs, &Verbs::default()];
        for rule in &rules {
            let filter = rule.filter.text();
            if let Some(verb) = verbs.iter().find_map(|verbs| verbs.verb_of(filter)) {
                return Err(ClaimMistake::Verb {
                    filter: filter.to_owned(),
                    verb: verb.to_owned(),
                });
            }
        }
        Ok(rules)
    }
}

/// The rules of a token with the names of their claims, for tools.
#[derive(Clone, Debug, Default)]
pub struct NamedRules(Vec<(String, Vec<Rule>)>);

impl NamedRules {
    /// Returns each rule in its order, with the name of its claim and its number there, counted from 1.
    pub fn iter(&self) -> impl Iterator<Item = (&str, usize, &Rule)> {
        self.0.iter().flat_map(|(claim, rules)| {
            let numbered = (1..).zip(rules);
            numbered.map(move |(number, rule)| (claim.as_str(), number, rule))
        })
    }
}

/// Parses a filter of a token. A text that is meant as something else is refused, not granted as a topic: otherwise the
/// author of the claim would not notice the mistake.
///
/// # Errors
///
/// Returns why the filter cannot be granted.
fn template(text: &str, placeholders: bool) -> Result<Template, FilterProblem> {
    if let Some(mark) = text.chars().next().filter(|c| "[{\"'".contains(*c)) {
        return Err(FilterProblem::ListMark(mark));
    }
    let marks = ["%c", "%u", "${"];
    let filter = match marks.into_iter().find(|mark| text.contains(mark)) {
        _ if placeholders => Template::parse(text),
        Some(mark) => return Err(FilterProblem::Placeholder(mark)),
        None => Template::literal(text),
    };
    filter.map_err(FilterProblem::Malformed)
}

/// The rules of a token, compiled.
#[derive(Debug, Default)]
pub struct TokenRules {
    /// The rules without conditions. Those of one client have the others whose conditions hold for it.
    matcher: Matcher,
    /// Whether the token makes its client an administrator.
    administers: bool,
    /// What the rules of few tokens need. Boxed, because a device with topics of its own has these rules for itself.
    uncommon: Option<Box<Uncommon>>,
}

/// What the rules of few tokens need.
#[derive(Debug, Default)]
struct Uncommon {
    /// All rules, if some have conditions.
    conditional: Option<Box<[Rule]>>,
    /// The filters of rules that deny or have limits, for log lines.
    filters: Box<[(u32, Box<str>)]>,
}

impl TokenRules {
    /// Compiles rules, in their order.
    pub fn compile(rules: &[Rule]) -> Self {
        let is_for_all = |rule: &Rule| rule.conditions.is_empty();
        let mut compiled = Self::of(rules, is_for_all);
        if !rules.iter().all(is_for_all) {
            let uncommon = compiled.uncommon.get_or_insert_default();
            uncommon.conditional = Some(rules.into());
        }
        compiled
    }

    /// Returns the rules that concern this client, which are mostly all.
    pub(crate) fn for_client(self: Arc<Self>, client: &ClientAttributes) -> Arc<Self> {
        match self.conditional() {
            None => self,
            Some(rules) => {
                // A pattern is searched once for all filters of the rule that it was written in.
                let mut last: Option<(&Rule, bool)> = None;
                let own = Self::of(rules, |rule| match last {
                    Some((other, concerns)) if other.has_conditions_of(rule) => concerns,
                    _ => last.insert((rule, rule.concerns(client))).1,
                });
                Arc::new(own.administering(self.administers))
            }
        }
    }

    /// Compiles some of these rules. Each keeps its place in the order.
    fn of<'r>(rules: &'r [Rule], mut counts: impl FnMut(&'r Rule) -> bool) -> Self {
        let ordered = (0..).zip(rules).filter(|(_, rule)| counts(rule));
        let ordered: Vec<_> = ordered.collect();
        let ordered = ordered.into_iter();
        let explained = ordered
            .clone()
            .filter(|(_, rule)| rule.effect == Effect::Deny || rule.limits != Limits::NONE);
        let filters: Box<[_]> = explained
            .map(|(order, rule)| (order, rule.filter.text().into()))
            .collect();
        Self {
            matcher: Matcher::new(ordered.map(|(order, rule)| OrderedRule {
                order,
                rule,
                window: 0,
            })),
            administers: false,
            uncommon: (!filters.is_empty()).then(|| {
                Box::new(Uncommon {
                    conditional: None,
                    filters,
                })
            }),
        }
    }

    /// Returns all rules, if some have conditions.
    fn conditional(&self) -> Option<&[Rule]> {
        self.uncommon.as_ref()?.conditional.as_deref()
    }

    /// Returns the same rules, of a token that makes its client an administrator or does not.
    #[must_use]
    pub fn administering(self, administers: bool) -> Self {
        Self {
            administers,
            ..self
        }
    }

    pub(crate) fn administers(&self) -> bool {
        self.administers
    }

    pub(crate) fn matcher(&self) -> &Matcher {
        &self.matcher
    }

    /// Returns the claims that placeholders name.
    pub fn claims(&self) -> impl Iterator<Item = &str> {
        let conditional = self.conditional().into_iter().flatten();
        let placeholders = conditional.flat_map(|rule| rule.filter.placeholders());
        let named = placeholders.filter_map(|(placeholder, _)| placeholder.claim());
        self.matcher.claims().chain(named)
    }

    /// Returns the filter of a rule that denies or has limits.
    pub(crate) fn filter(&self, order: u32) -> Option<&str> {
        let filters = &self.uncommon.as_ref()?.filters;
        let found = filters.binary_search_by_key(&order, |(order, _)| *order);
        found.ok().map(|place| &*filters[place].1)
    }

    /// Whether there are no rules.
    pub(crate) fn is_empty(&self) -> bool {
        self.matcher.is_empty()
    }
}

#[cfg(test)]
impl TokenRules {
    /// Returns the number of rules, without those that never decide.
    pub(crate) fn len(&self) -> usize {
        self.matcher.len()
    }

    /// Whether these rules allow a request by themselves. They must have no placeholders.
    pub(crate) fn allow(&self, request: AccessRequest, topic: &str) -> bool {
        let ruling = prepare(request, topic.as_bytes(), |request| {
            let (bindings, windows) = (Bindings::default(), OpenWindows::default());
            self.matcher.first(request, &bindings, &windows)
        });
        ruling
            .flatten()
            .is_some_and(|ruling| ruling.effect == Effect::Allow)
    }

    /// Whether these rules allow to publish with QoS 0, without the retain flag.
    pub(crate) fn may_publish(&self, topic: &str) -> bool {
        let publish = AccessRequest::Publish {
            qos: 0,
            retain: false,
            payload: 0,
        };
        self.allow(publish, topic)
    }

    /// Whether these rules allow to subscribe with QoS 0.
    pub(crate) fn may_subscribe(&self, filter: &str) -> bool {
        self.allow(AccessRequest::Subscribe { qos: Some(0) }, filter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(filters: &[&str]) -> TokenRules {
        let rules: Vec<_> = filters
            .iter()
            .map(|filter| Rule::allow(Template::literal(filter).unwrap()))
            .collect();
        TokenRules::compile(&rules)
    }

    #[test]
    fn claims_that_count_are_read_in_their_order() {
        let all = Reading {
            topics: Some(Place::Name("https://mqtt.example/topics".into())),
            permissions: true,
            scope: true,
            verbs: Verbs::default(),
            placeholders: false,
            admin: None,
        };
        let claims = serde_json::json!({
            "https://mqtt.example/topics": ["a"], "permissions": ["publish:b"], "scope": "openid subscribe:c",
            "app": {"topics": "d"},
        });
        let claims = claims.as_object().unwrap();
        let filters = |reading: &Reading| {
            let rules = reading.rules(claims).unwrap();
            let texts: Vec<_> = rules.iter().map(|rule| rule.filter.text()).collect();
            texts.concat()
        };
        assert_eq!(filters(&all), "abc");
        assert_eq!(
            filters(&Reading {
                scope: false,
                ..all.clone()
            }),
            "ab"
        );
        assert_eq!(
            filters(&Reading {
                topics: None,
                permissions: false,
                ..all.clone()
            }),
            "c"
        );
        let topics = Some(Place::Pointer("/app/topics".into()));
        assert_eq!(
            filters(&Reading {
                topics,
                ..all.clone()
            }),
            "dbc"
        );

        // A role that is written as a permission is one.
        let roles = serde_json::json!({"roles": ["publish:r", "gardener"]});
        let roles = roles.as_object().unwrap();
        assert_eq!(all.rules(roles).unwrap().len(), 1);
        let without = Reading {
            permissions: false,
            ..all.clone()
        };
        assert!(without.rules(roles).unwrap().is_empty());

        // A permission in the claim for topics, with a default verb or another.
        let verbs = Verbs {
            publish: "write".into(),
            ..Verbs::default()
        };
        for entry in ["publish:a", "subscribe:a/#", "pubsub:a", "write:a"] {
            let wrong = serde_json::json!({"https://mqtt.example/topics": ["b", entry]});
            let reading = Reading {
                verbs: verbs.clone(),
                ..all.clone()
            };
            let error = reading.rules(wrong.as_object().unwrap()).unwrap_err();
            let error = error.to_string();
            assert!(
                error.contains(&format!("the entry '{entry}' begins with `")),
                "{error}"
            );
        }

        // In a nested list it is one, such as among the roles of a client in Keycloak.
        let nested = Reading {
            topics: Some(Place::Pointer("/app/topics".into())),
            ..all.clone()
        };
        let claims = serde_json::json!({"app": {"topics": ["publish:a", "b", "subscribe:c/#"]}});
        let rules = TokenRules::compile(&nested.rules(claims.as_object().unwrap()).unwrap());
        assert!(rules.may_publish("a") && !rules.may_subscribe("a") && rules.may_publish("b"));
        assert!(rules.may_subscribe("c/#") && !rules.may_publish("publish:a"));
        for (member, value) in [
            ("permission", "deny"),
            ("action", "publish"),
            ("qos", "1"),
            ("ipaddr", "10.0.0.0/8"),
        ] {
            let mut rule =
                serde_json::json!({"permission": "allow", "action": "all", "topic": "publish:a"});
            rule[member] = value.into();
            let claims = serde_json::json!({"app": {"topics": [rule]}});
            assert!(
                nested.rules(claims.as_object().unwrap()).is_err(),
                "{member}"
            );
        }
        let claims = serde_json::json!({"app": {"topics": ["publish:a/#/b"]}});
        assert!(nested.rules(claims.as_object().unwrap()).is_err());

        // A missing claim grants nothing. A claim that is null is a mistake.
        let (none, null) = (
            serde_json::json!({}),
            serde_json::json!({"https://mqtt.example/topics": null}),
        );
        let (none, null) = (none.as_object().unwrap(), null.as_object().unwrap());
        assert_ne!(all.values(none), all.values(null));
        assert!(all.rules(none).unwrap().is_empty());
        assert_eq!(
            all.rules(null).unwrap_err().to_string(),
            "of its claim 'https://mqtt.example/topics', it is null, not an array of topic filters"
        );
    }

    #[test]
    fn an_administrator_is_named_by_an_entry_of_the_claims_that_count() {
        let reading = |in_permissions, in_scope| Reading {
            topics: None,
            permissions: false,
            scope: false,
            verbs: Verbs::default(),
            placeholders: false,
            admin: Some(AdminPermission {
                entry: "mqtt:admin".into(),
                in_permissions,
                in_scope,
            }),
        };
        let of = |reading: &Reading, claims: Value| {
            let claims = claims.as_object().unwrap();
            (reading.administers(claims), reading.values(claims).len())
        };
        let both = reading(true, true);
        let list = serde_json::json!({"permissions": ["publish:a", "mqtt:admin"]});
        let text = serde_json::json!({"scope": "openid mqtt:admin"});
        assert_eq!(of(&both, list.clone()), (true, 2));
        assert!(of(&both, text.clone()).0);
        assert!(of(&reading(true, false), list.clone()).0 && !of(&reading(true, false), text).0);
        assert!(!of(&reading(false, true), list.clone()).0);
        for none in [
            serde_json::json!({}),
            serde_json::json!({"permissions": ["mqtt:admin2", "MQTT:ADMIN", "mqtt:admin "]}),
            serde_json::json!({"permissions": {"mqtt:admin": true}}),
            serde_json::json!({"permissions": null, "topics": ["mqtt:admin"]}),
        ] {
            assert!(!of(&both, none.clone()).0, "{none}");
        }
        let nobody = Reading {
            admin: None,
            ..both
        };
        assert_eq!(of(&nobody, list), (false, 0));
    }

    #[test]
    fn filters_are_counted_once() {
        assert_eq!(rules(&["a", "a", "a/#", "a/#", "a/+", "#"]).len(), 4);
        assert!(rules(&[]).is_empty());
    }

    #[test]
    fn no_rules_allow_nothing() {
        let none = TokenRules::default();
        assert!(!none.may_publish("a"));
        assert!(!none.may_subscribe("a"));
        assert!(!none.may_subscribe("#"));
    }

    #[test]
    fn one_rule_alone_must_cover_a_subscription() {
        // Together they match whatever `a/+` matches below two names, and still `a/+` is not granted.
        let set = rules(&["a/b", "a/c"]);
        assert!(!set.may_subscribe("a/+"));
        assert!(set.may_subscribe("a/b") && set.may_subscribe("a/c"));
    }

    #[test]
    fn a_dead_end_in_one_branch_does_not_hide_another() {
        let set = rules(&["a/b/c", "a/+/d", "+/b/e"]);
        assert!(set.may_publish("a/b/c") && set.may_publish("a/b/d") && set.may_publish("a/b/e"));
        assert!(!set.may_publish("a/b/f"));
    }
}
