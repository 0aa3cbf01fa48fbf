//! Policy files: rules for what does not belong in tokens.
//!
//! * [`parse`]: the syntax · [`mistake`]: what can be wrong with it
//! * [`requirements`]: what a client must have to sign in
//! * [`conditions`]: to which clients a rule applies. This is decided once, when a client signs in
//! * [`index`]: which rules may apply to a client, found without trying all of them
//! * [`schedule`]: at which times a rule applies
//! * this file: a compiled policy file, and the rules that apply to one client. Clients with the same rules share them
//!
//! Rules are in the order of their priorities, the highest first, and as written among equals. Rules with a negative
//! priority come after those of the token ([`PolicyFile::LATE`]).

pub(crate) mod conditions;
mod index;
pub(crate) mod mistake;
pub(crate) mod parse;
pub(crate) mod requirements;
pub(crate) mod schedule;

use std::{
    cmp::Reverse,
    collections::BTreeSet,
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
};

use crate::client::ClientAttributes;
use crate::interner::Interner;
use crate::rules::{
    Effect, Limits, Rule, UnusableValue,
    bind::{self, Bindings},
    compile::OrderedRule,
    matcher::Matcher,
    template::Placeholder,
    windows::OpenWindows,
};
use crate::time::Unix;
use conditions::Condition;
use index::Index;
pub use mistake::{Entry, Expected, Mistake, MistakeKind, PublishLimit, TomlTable};
use parse::{ParsedConditions, ParsedRule};
pub use requirements::UnmetRequirement;
use requirements::{Requirement, TimedConditions, WrittenRequirement};
use schedule::{Schedule, TimeWindow};

/// A policy file, compiled.
#[derive(Debug)]
pub struct PolicyFile {
    /// In their order.
    rules: Vec<CompiledRule>,
    /// As written.
    requirements: Box<[Requirement]>,
    schedule: Schedule,
    index: Index,
    /// Compiled rules, by the rules that apply to a client. Clients come in few kinds, so there are few of these. One
    /// matcher for all rules, with a bit set for each client, would have to skip everybody else's rules on the same
    /// topic at every message.
    matchers: Mutex<Interner<Matcher>>,
}

#[derive(Debug)]
struct CompiledRule {
    parsed: ParsedRule,
    order: u32,
    /// The number of its time window, or 0 if it always applies.
    window: u32,
}

/// A rule as it is written, for tools.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WrittenRule<'f> {
    /// Its name.
    pub(crate) name: &'f str,
    /// The line on which it begins.
    pub(crate) line: u32,
    /// Its place in the order.
    pub(crate) order: u32,
    /// Its conditions, of which all must hold.
    pub(crate) conditions: &'f [Condition],
    /// Whether it applies at some times only.
    pub(crate) has_window: bool,
    /// Whether its time window is open, as of the last decision.
    pub(crate) is_open: bool,
    /// One rule for each filter.
    pub(crate) rules: &'f [Rule],
}

/// The rules of a policy file that apply to one client.
#[derive(Debug)]
pub(crate) struct ClientRules {
    /// The rules.
    pub(crate) matcher: Arc<Matcher>,
    /// The values of their placeholders.
    pub(crate) bindings: Bindings,
}

/// A rule that would apply to a client if the value of a placeholder could be part of a topic.
///
/// If the rule allows, it does not apply. If it denies, the client is refused: without the rule the client could do
/// what the rule denies.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UnusableRule {
    /// The name of the rule.
    pub rule: Box<str>,
    /// The value.
    pub value: UnusableValue,
}

/// How much is in a policy file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicySize {
    /// How many rules.
    pub rules: usize,
    /// How many requirements.
    pub requirements: usize,
}

/// What some brokers do not tell about a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionalAttribute {
    /// The port of its listener.
    Port,
    /// Its certificate.
    Certificate,
}

impl PolicyFile {
    /// Rules whose order is this or more come after those of the token.
    pub(crate) const LATE: u32 = 1 << 30;

    /// Parses and compiles a policy file.
    ///
    /// # Errors
    ///
    /// Returns the first mistake.
    pub fn compile(text: &str) -> Result<Self, Mistake> {
        let file = parse::parse(text)?;
        let mut parsed = file.rules;
        // The sort is stable: equals stay as written.
        parsed.sort_by_key(|rule| Reverse(rule.priority));
        let mut windows = Vec::new();
        let mut number = |window: Option<TimeWindow>| match window {
            Some(window) => {
                windows.push(window);
                windows.len() as u32
            }
            None => 0,
        };
        let mut timed = |parsed: ParsedConditions| TimedConditions {
            conditions: parsed.conditions.into(),
            window: number(parsed.window),
        };
        let requirements = file.requirements.into_iter();
        let requirements = requirements.map(|parsed| Requirement {
            name: parsed.name,
            line: parsed.line,
            concerns: timed(parsed.concerns),
            asks: timed(parsed.asks),
            message: parsed.message,
        });
        let requirements = requirements.collect();
        let rules = (0..).zip(parsed).map(|(place, mut parsed)| CompiledRule {
            window: number(parsed.window.take()),
            order: match parsed.priority < 0 {
                true => place + Self::LATE,
                false => place,
            },
            parsed,
        });
        let rules = rules.collect::<Vec<_>>();
        Ok(Self {
            index: Index::new(rules.iter().map(|rule| &*rule.parsed.conditions)),
            rules,
            requirements,
            schedule: Schedule::new(file.zone, windows),
            matchers: Mutex::default(),
        })
    }

    /// Returns everything that is wrong with a policy file, in the order of its lines: the first mistake of each rule
    /// and of each requirement.
    pub fn mistakes(text: &str) -> Vec<Mistake> {
        parse::mistakes(text)
    }

    /// Returns the number of rules.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether the file has no rules.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Returns how much is in the file.
    pub fn size(&self) -> PolicySize {
        PolicySize {
            rules: self.rules.len(),
            requirements: self.requirements.len(),
        }
    }

    /// Returns the first requirement that a client does not meet at this time.
    pub fn unmet_requirement(
        &self,
        client: &ClientAttributes,
        now: Unix,
    ) -> Option<UnmetRequirement> {
        if self.requirements.is_empty() {
            return None;
        }
        self.update_windows(now);
        let windows = self.open_windows();
        let mut requirements = self.requirements.iter();
        requirements.find_map(|requirement| requirement.unmet(client, windows))
    }

    /// Returns the requirements as they are written.
    pub(crate) fn written_requirements(&self) -> impl Iterator<Item = WrittenRequirement<'_>> {
        self.requirements.iter().map(Requirement::written)
    }

    /// Returns the line on which the requirement with this name begins.
    pub fn line_of_requirement(&self, name: &str) -> Option<u32> {
        let mut requirements = self.requirements.iter();
        let requirement = requirements.find(|requirement| *requirement.name == *name)?;
        Some(requirement.line)
    }

    /// Returns the names of the members of a token that requirements depend on.
    pub fn required_members(&self) -> BTreeSet<String> {
        let conditions = self.requirements.iter().flat_map(Requirement::conditions);
        conditions.flat_map(Condition::members).collect()
    }

    /// Returns the rules as they are written, in their order.
    pub(crate) fn written(&self) -> impl Iterator<Item = WrittenRule<'_>> {
        self.rules.iter().map(|rule| WrittenRule {
            name: &rule.parsed.name,
            line: rule.parsed.line,
            order: rule.order,
            conditions: &rule.parsed.conditions,
            has_window: rule.window != 0,
            is_open: self.open_windows().is_open(rule.window),
            rules: &rule.parsed.rules,
        })
    }

    /// Returns the name of the rule with this order.
    pub fn name(&self, order: u32) -> &str {
        self.rule(order).map_or("?", |rule| &rule.parsed.name)
    }

    /// Returns the line on which the rule with this name begins.
    pub fn line_of(&self, name: &str) -> Option<u32> {
        let mut rules = self.rules.iter().map(|rule| &rule.parsed);
        let rule = rules.find(|rule| *rule.name == *name)?;
        Some(rule.line)
    }

    /// Returns the limits of the rule with this order.
    pub(crate) fn limits(&self, order: u32) -> Limits {
        self.rule(order)
            .and_then(|rule| rule.parsed.rules.first())
            .map_or(Limits::NONE, |rule| rule.limits)
    }

    fn rule(&self, order: u32) -> Option<&CompiledRule> {
        self.rules.get((order & !Self::LATE) as usize)
    }

    /// Returns the rules and requirements with a condition on this attribute, and whether each keeps clients from
    /// something. A requirement does.
    pub fn entries_about(
        &self,
        attribute: OptionalAttribute,
    ) -> impl Iterator<Item = (Entry, bool)> {
        let is_about = move |condition: &Condition| match attribute {
            OptionalAttribute::Port => matches!(condition, Condition::Port(_)),
            OptionalAttribute::Certificate => matches!(condition, Condition::Certificate(_)),
        };
        let requirements = self.requirements.iter();
        let requirements = requirements
            .filter(move |requirement| requirement.conditions().any(is_about))
            .map(|requirement| (Entry::Requirement(requirement.name.clone()), true));
        self.rules
            .iter()
            .map(|rule| &rule.parsed)
            .filter(move |rule| rule.conditions.iter().any(is_about))
            .map(|rule| {
                (
                    Entry::Rule(rule.name.clone()),
                    rule.effect() == Effect::Deny,
                )
            })
            .chain(requirements)
    }

    /// Returns the first rule that depends on the client ID, by a condition or by a placeholder, or else the first
    /// requirement that does.
    pub fn looks_at_client_id(&self) -> Option<Entry> {
        let is_about = |condition: &Condition| matches!(condition, Condition::ClientId(_));
        let mut rules = self.rules.iter().map(|rule| &rule.parsed);
        let first = rules.find(|rule| {
            let filters = rule.rules.iter().map(|rule| &rule.filter);
            let mut placeholders = filters.flat_map(|filter| filter.placeholders());
            rule.conditions.iter().any(is_about)
                || placeholders.any(|(placeholder, _)| *placeholder == Placeholder::ClientId)
        });
        let mut requirements = self.requirements.iter();
        let requirement = requirements.find(|requirement| requirement.conditions().any(is_about));
        let requirement = requirement.map(|one| Entry::Requirement(one.name.clone()));
        first
            .map(|rule| Entry::Rule(rule.name.clone()))
            .or(requirement)
    }

    /// Returns the names of the members of a token that rules depend on: by a condition or by a placeholder.
    pub fn members(&self) -> BTreeSet<String> {
        let rules = self.rules.iter().map(|rule| &rule.parsed);
        rules
            .flat_map(|rule| {
                let filters = rule.rules.iter().map(|rule| &rule.filter);
                let placeholders = filters.flat_map(|filter| filter.placeholders());
                let named = placeholders.filter_map(|(placeholder, _)| match placeholder {
                    Placeholder::Claim(name) | Placeholder::EachOf(name) => Some(name.to_string()),
                    Placeholder::ClientId | Placeholder::Username => None,
                });
                let conditions = rule.conditions.iter().flat_map(Condition::members);
                named.chain(conditions).collect::<Vec<_>>()
            })
            .collect()
    }

    /// Opens and closes time windows, if it is time.
    #[inline]
    pub(crate) fn update_windows(&self, now: Unix) {
        self.schedule.update(now);
    }

    /// Returns until when no time window opens or closes.
    pub(crate) fn windows_hold_until(&self) -> Unix {
        self.schedule.until()
    }

    /// Returns the time windows that are open.
    pub(crate) fn open_windows(&self) -> &OpenWindows {
        self.schedule.open_windows()
    }

    /// Returns the rules that apply to this client. Rules that allow and have a placeholder without a usable value are
    /// left out.
    ///
    /// # Errors
    ///
    /// Returns the first deny rule that has such a placeholder.
    pub(crate) fn rules_for(&self, client: &ClientAttributes) -> Result<ClientRules, UnusableRule> {
        let mut places = Vec::new();
        for (place, rule) in self.applicable(client) {
            match (rule.check_values(client), rule.effect()) {
                (Ok(()), _) => places.push(place),
                (Err(_), Effect::Allow) => {}
                (Err(unusable), Effect::Deny) => return Err(unusable),
            }
        }
        let matcher = self.matcher(&places);
        // Cannot fail: all values were checked above.
        let bindings = matcher.bind(client).map_err(|value| UnusableRule {
            rule: "?".into(),
            value,
        })?;
        Ok(ClientRules { matcher, bindings })
    }

    /// Returns the first rule that would apply to this client if the value of a placeholder were usable.
    pub(crate) fn first_unusable(&self, client: &ClientAttributes) -> Option<UnusableRule> {
        self.applicable(client)
            .find_map(|(_, rule)| rule.check_values(client).err())
    }

    /// Returns the rules whose conditions hold for a client, with their places.
    fn applicable(&self, client: &ClientAttributes) -> impl Iterator<Item = (u32, &ParsedRule)> {
        let candidates = self.index.candidates(client).into_iter();
        candidates.filter_map(move |place| {
            let rule = &self.rules[place as usize].parsed;
            let mut conditions = rule.conditions.iter();
            let holds = conditions.all(|condition| condition.holds(client));
            holds.then_some((place, rule))
        })
    }

    /// Returns the rules at these places, compiled.
    fn matcher(&self, places: &[u32]) -> Arc<Matcher> {
        let compile = || {
            let rules = places.iter().map(|place| &self.rules[*place as usize]);
            let rules = rules.flat_map(|compiled| {
                compiled.parsed.rules.iter().map(|rule| OrderedRule {
                    order: compiled.order,
                    rule,
                    window: compiled.window,
                })
            });
            Ok::<_, Infallible>(Matcher::new(rules))
        };
        let mut matchers = self.matchers.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(matcher) = matchers.obtain(places, compile);
        matcher
    }
}

impl ParsedRule {
    fn effect(&self) -> Effect {
        self.rules.first().map_or(Effect::Deny, |rule| rule.effect)
    }

    /// Checks that all placeholders have usable values for this client.
    fn check_values(&self, client: &ClientAttributes) -> Result<(), UnusableRule> {
        self.rules
            .iter()
            .flat_map(|rule| rule.filter.placeholders())
            .try_for_each(|(placeholder, is_front)| bind::check(placeholder, is_front, client))
            .map_err(|value| UnusableRule {
                rule: self.name.clone(),
                value,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{
        AccessRequest,
        matcher::{Ruling, prepare},
    };
    use serde_json::{Value, json};

    fn first(file: &PolicyFile, rules: &ClientRules, topic: &str) -> Option<Ruling> {
        prepare(PUBLISH, topic.as_bytes(), |request| {
            let windows = file.open_windows();
            rules.matcher.first(request, &rules.bindings, windows)
        })
        .flatten()
    }

    const PUBLISH: AccessRequest = AccessRequest::Publish {
        qos: 0,
        retain: false,
        payload: 0,
    };

    fn client(client_id: &str, claims: &Value) -> ClientAttributes {
        ClientAttributes::with_claims(client_id, claims.clone())
    }

    const RULES: &str = r#"
        [[rule]]
        name = "late"
        deny.both = "x"
        priority = -1
        [[rule]]
        name = "own"
        allow.both = "dev/%c/#"
        [[rule]]
        name = "site"
        when.claim = { name = "role", is = "keeper" }
        allow.both = "site/${site}/#"
        [[rule]]
        name = "first"
        deny.publish = "dev/+/closed"
        priority = 5
        [[rule]]
        name = "office hours"
        when.time = "09:00-17:00"
        allow.publish = "door"
    "#;

    #[test]
    fn rules_are_ordered_by_priority_and_then_as_written() {
        let file = PolicyFile::compile(RULES).unwrap();
        let names: Vec<_> = file.rules.iter().map(|rule| &*rule.parsed.name).collect();
        assert_eq!(names, ["first", "own", "site", "office hours", "late"]);
        let claims = json!({});
        let rules = file.rules_for(&client("a", &claims)).unwrap();
        let name = |topic| first(&file, &rules, topic).map(|ruling| file.name(ruling.order));
        assert_eq!(name("dev/a/x"), Some("own"));
        assert_eq!(name("dev/a/closed"), Some("first"));
        assert_eq!(name("dev/b/x"), None);
        assert_eq!(name("x"), Some("late"));
        let late = first(&file, &rules, "x").unwrap();
        assert!(late.order >= PolicyFile::LATE);
    }

    #[test]
    fn the_first_rule_that_depends_on_the_client_id_is_found() {
        let looks = |rule: &str| {
            let file = format!("[[rule]]\nname = \"x\"\n{rule}");
            let file = PolicyFile::compile(&file).unwrap();
            file.looks_at_client_id()
        };
        for rule in [
            "allow.both = [\"a\", \"b/${clientid}\"]",
            "deny.publish = \"x-%c\"",
            "when = { port = 1, client_id = \"x\" }\nallow.both = \"a\"",
        ] {
            assert_eq!(looks(rule), Some(Entry::Rule("x".into())), "{rule}");
        }
        let required = "allow.both = \"a\"\n[[require]]\nname = \"y\"\nthat.client_id = \"b\"\nmessage = \"c\"";
        assert_eq!(looks(required), Some(Entry::Requirement("y".into())));
        assert_eq!(looks("when.port = 1\nallow.both = \"%u/${c}\""), None);
        assert_eq!(PolicyFile::compile("").unwrap().looks_at_client_id(), None);
    }

    #[test]
    fn clients_with_the_same_rules_share_them() {
        let file = PolicyFile::compile(RULES).unwrap();
        let (guest, keeper) = (json!({}), json!({"role": "keeper", "site": "north"}));
        let all: Vec<_> = [("a", &guest), ("b", &guest), ("c", &keeper)]
            .iter()
            .map(|(id, claims)| file.rules_for(&client(id, claims)).unwrap())
            .collect();
        assert!(Arc::ptr_eq(&all[0].matcher, &all[1].matcher));
        assert!(!Arc::ptr_eq(&all[0].matcher, &all[2].matcher));
        assert!(first(&file, &all[1], "dev/b/x").is_some());
        assert!(first(&file, &all[1], "dev/a/x").is_none());
        assert!(first(&file, &all[2], "site/north/x").is_some());
        drop(all);
        let many = if cfg!(miri) { 200 } else { 1000 };
        for i in 0..many {
            let claims = json!({"role": if i % 2 == 0 { "keeper" } else { "" }, "site": "x"});
            drop(file.rules_for(&client("a", &claims)).unwrap());
        }
        assert!(file.matchers.lock().unwrap().entries() < 100);
    }

    #[test]
    fn a_rule_with_an_unusable_value_is_skipped_only_if_it_allows() {
        let file = PolicyFile::compile(RULES).unwrap();
        for claims in [
            json!({"role": "keeper"}),
            json!({"role": "keeper", "site": "+"}),
        ] {
            let client = client("a", &claims);
            let rules = file.rules_for(&client).unwrap();
            assert!(first(&file, &rules, "site/+/x").is_none());
            assert!(first(&file, &rules, "site/north/x").is_none());
            assert!(first(&file, &rules, "dev/a/x").is_some());
            assert_eq!(&*file.first_unusable(&client).unwrap().rule, "site");
        }
        let file = PolicyFile::compile(
            r##"
            [[rule]]
            name = "not its own"
            deny.publish = "dev/%c/config"
            [[rule]]
            name = "all"
            allow.both = "#"
            "##,
        )
        .unwrap();
        let claims = json!({});
        assert!(file.rules_for(&client("a", &claims)).is_ok());
        let error = file
            .rules_for(&client("a/b", &claims))
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("rule 'not its own' of the policy file: its client ID is 'a/b'"),
            "{error}"
        );
    }

    /// A listener for both protocols writes IPv4 addresses in this form, and so does an operator who copies one.
    #[test]
    fn an_ipv4_network_in_ipv6_form_denies_and_allows() {
        let file = PolicyFile::compile(
            r##"
            [[rule]]
            name = "cellar"
            when.network = "::ffff:10.1.0.0/112"
            deny.both = "#"
            [[rule]]
            name = "house"
            when.network = "::ffff:10.0.0.0/104"
            allow.both = "#"
            "##,
        )
        .unwrap();
        let claims = json!({});
        for (address, effect) in [
            ("10.1.2.3", Some(Effect::Deny)),
            ("::ffff:10.1.2.3", Some(Effect::Deny)),
            ("10.2.2.3", Some(Effect::Allow)),
            ("192.0.2.1", None),
        ] {
            let client = ClientAttributes {
                address: address.parse().ok(),
                ..client("a", &claims)
            };
            let rules = file.rules_for(&client).unwrap();
            let ruling = first(&file, &rules, "x");
            assert_eq!(ruling.map(|ruling| ruling.effect), effect, "{address}");
        }
    }

    #[test]
    fn a_rule_with_a_time_window_applies_only_while_it_is_open() {
        let file = PolicyFile::compile(RULES).unwrap();
        let claims = json!({});
        let rules = file.rules_for(&client("a", &claims)).unwrap();
        for (hour, open) in [(8, false), (9, true), (16, true), (17, false), (10, true)] {
            file.update_windows(Unix(1_800_000_000 / 86_400 * 86_400 + hour * 3600));
            assert_eq!(first(&file, &rules, "door").is_some(), open, "{hour}");
        }
    }
}
