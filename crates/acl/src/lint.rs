//! What is suspicious in a policy file that has no mistake: rules that never decide, and rules that deny less than they
//! seem to. This is for tools, and takes its time.
//!
//! Whether a rule covers another one is found out with the matcher itself: one of a made-up client, whose values no
//! text has. So `%c` is covered by `%c` and by `+`, and by no name.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Map, Value};

use crate::{
    client::ClientAttributes,
    policy_file::{
        PolicyFile, WrittenRule, conditions::Condition, requirements::WrittenRequirement,
    },
    rules::{
        AccessRequest, Actions, Effect, Placeholder, Rule,
        bind::Bindings,
        compile::OrderedRule,
        matcher::{Matcher, prepare},
        windows::OpenWindows,
    },
};

/// Something suspicious.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lint {
    /// A rule allows to publish where the broker lets nobody publish.
    BrokerDenies {
        /// The rule.
        rule: LintedRule,
        /// Its filter.
        filter: Box<str>,
    },
    /// An earlier rule always decides.
    Hidden {
        /// The rule that never decides.
        rule: LintedRule,
        /// The filter for which it does not; `None` if that is so for all.
        filter: Option<Box<str>>,
        /// The earlier rule.
        by: LintedRule,
        /// Whether both allow or both deny, so that nothing is lost.
        is_same: bool,
    },
    /// A rule denies a topic and not what is below it, which a later rule allows.
    AllowedBelow {
        /// The rule that denies.
        rule: LintedRule,
        /// Its filter.
        filter: Box<str>,
        /// The rule that allows.
        by: LintedRule,
    },
    /// A rule denies publishing or subscribing, and a later rule allows the other of the two.
    AllowedOtherwise {
        /// The rule that denies.
        rule: LintedRule,
        /// Its filter.
        filter: Box<str>,
        /// What it denies.
        denies: Actions,
        /// The rule that allows.
        by: LintedRule,
    },
    /// A rule or a requirement depends on the client ID.
    LooksAtClientId(LintedRule),
    /// A rule or a requirement depends on the port.
    LooksAtPort {
        /// The rule.
        rule: LintedRule,
        /// The ports that it names.
        ports: Vec<u16>,
        /// Whether it is what a requirement asks for.
        is_asked_for: bool,
    },
}

/// A rule or a requirement of the policy file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LintedRule {
    /// The line on which it begins.
    pub line: u32,
    /// Its name.
    pub name: Box<str>,
    /// Whether it is a requirement.
    pub is_requirement: bool,
}

/// Returns what is suspicious in a policy file, in the order of its lines.
pub fn lint(file: &PolicyFile) -> Vec<Lint> {
    let rules: Vec<_> = file.written().collect();
    let client = made_up(&rules);
    let groups = groups(&rules, &client);
    let mut found = Vec::new();
    for rule in &rules {
        found.extend(alone(rule));
        found.extend(hidden(rule, &rules, &groups, &client));
        found.extend(denies_less(rule, &rules, &groups, &client));
    }
    for requirement in file.written_requirements() {
        found.extend(in_requirement(&requirement));
    }
    found.sort_by_key(|lint| lint.rule().line);
    found
}

impl Lint {
    /// Returns the rule that it is about.
    pub fn rule(&self) -> &LintedRule {
        match self {
            Self::LooksAtClientId(rule) => rule,
            Self::BrokerDenies { rule, .. }
            | Self::Hidden { rule, .. }
            | Self::AllowedBelow { rule, .. }
            | Self::AllowedOtherwise { rule, .. }
            | Self::LooksAtPort { rule, .. } => rule,
        }
    }
}

fn linted(rule: &WrittenRule) -> LintedRule {
    LintedRule {
        line: rule.line,
        name: rule.name.into(),
        is_requirement: false,
    }
}

fn effect(rule: &WrittenRule) -> Effect {
    rule.rules.first().map_or(Effect::Deny, |one| one.effect)
}

/// Returns a client that has a value for each placeholder, which is in no text.
fn made_up(rules: &[WrittenRule]) -> ClientAttributes {
    let mut claims = Map::new();
    let filters = rules.iter().flat_map(|rule| rule.rules);
    for (placeholder, _) in filters.flat_map(|rule| rule.filter.placeholders()) {
        let value = Value::from(format!("\u{E000}{}", claims.len()));
        let (name, value) = match placeholder {
            Placeholder::Claim(name) => (name, value),
            Placeholder::EachOf(name) => (name, Value::from(vec![value])),
            Placeholder::ClientId | Placeholder::Username => continue,
        };
        claims.entry(&**name).or_insert(value);
    }
    ClientAttributes {
        client_id: "\u{E000}c".into(),
        username: "\u{E000}u".into(),
        claims: Arc::new(claims),
        ..ClientAttributes::default()
    }
}

/// Rules that apply under the same conditions, all the time.
struct Group<'f> {
    conditions: &'f [Condition],
    all: Compiled,
    allowing: Compiled,
}

struct Compiled {
    matcher: Matcher,
    bindings: Bindings,
}

impl Compiled {
    fn of<'r>(rules: impl Iterator<Item = (u32, &'r Rule)>, client: &ClientAttributes) -> Self {
        let usable = rules.filter(|(_, rule)| !rule.literal && rule.filter.expand(client).is_ok());
        let ordered = usable.map(|(order, rule)| OrderedRule {
            order,
            rule,
            window: 0,
        });
        let matcher = Matcher::new(ordered);
        Self {
            // All values were looked at.
            bindings: matcher.bind(client).unwrap_or_default(),
            matcher,
        }
    }

    /// Returns the first rule that covers this filter.
    fn covering(&self, request: AccessRequest, filter: &str) -> Option<u32> {
        let ruling = prepare(request, filter.as_bytes(), |request| {
            let windows = OpenWindows::default();
            self.matcher.first(request, &self.bindings, &windows)
        });
        Some(ruling.flatten()?.order)
    }
}

fn groups<'f>(rules: &[WrittenRule<'f>], client: &ClientAttributes) -> Vec<Group<'f>> {
    let mut kinds: Vec<(&[Condition], Vec<&WrittenRule<'f>>)> = Vec::new();
    for rule in rules.iter().filter(|rule| !rule.has_window) {
        match kinds
            .iter_mut()
            .find(|(conditions, _)| *conditions == rule.conditions)
        {
            Some((_, members)) => members.push(rule),
            None => kinds.push((rule.conditions, vec![rule])),
        }
    }
    let filters = |members: &[&WrittenRule<'f>]| -> Vec<(u32, &'f Rule)> {
        let filters = members
            .iter()
            .flat_map(|rule| rule.rules.iter().map(|one| (rule.order, one)));
        filters.collect()
    };
    kinds
        .into_iter()
        .map(|(conditions, members)| {
            let filters = filters(&members);
            let allowing = filters
                .iter()
                .filter(|(_, rule)| rule.effect == Effect::Allow);
            Group {
                conditions,
                allowing: Compiled::of(allowing.copied(), client),
                all: Compiled::of(filters.iter().copied(), client),
            }
        })
        .collect()
}

/// Returns what shows in a rule by itself.
fn alone(rule: &WrittenRule) -> Vec<Lint> {
    let mut found = Vec::new();
    let of_broker = rule.rules.iter().filter(|one| {
        let text = one.filter.text();
        one.effect == Effect::Allow
            && one.actions == Actions::Publish
            && text.starts_with("$SYS/")
            && !text.starts_with("$SYS/broker/connection/")
    });
    found.extend(of_broker.map(|one| Lint::BrokerDenies {
        rule: linted(rule),
        filter: one.filter.text().into(),
    }));
    let names_client_id = rule.rules.iter().any(|one| {
        let mut placeholders = one.filter.placeholders();
        placeholders.any(|(placeholder, _)| *placeholder == Placeholder::ClientId)
    });
    let asks = |condition: &Condition| matches!(condition, Condition::ClientId(_));
    if names_client_id || rule.conditions.iter().any(asks) {
        found.push(Lint::LooksAtClientId(linted(rule)));
    }
    found.extend(ports(&linted(rule), rule.conditions, false));
    found
}

/// Returns what shows in a requirement.
fn in_requirement(requirement: &WrittenRequirement) -> Vec<Lint> {
    let linted = LintedRule {
        line: requirement.line,
        name: requirement.name.into(),
        is_requirement: true,
    };
    let asks = |condition: &Condition| matches!(condition, Condition::ClientId(_));
    let mut conditions = requirement.concerns.iter().chain(requirement.asks);
    let mut found = Vec::new();
    if conditions.any(asks) {
        found.push(Lint::LooksAtClientId(linted.clone()));
    }
    found.extend(ports(&linted, requirement.concerns, false));
    found.extend(ports(&linted, requirement.asks, true));
    found
}

/// Returns the conditions on ports.
fn ports(
    rule: &LintedRule,
    conditions: &[Condition],
    is_asked_for: bool,
) -> impl Iterator<Item = Lint> {
    conditions
        .iter()
        .filter_map(move |condition| match condition {
            Condition::Port(ports) => Some(Lint::LooksAtPort {
                rule: rule.clone(),
                ports: ports.clone(),
                is_asked_for,
            }),
            _ => None,
        })
}

/// Returns the requests that a rule applies to: one for each class, with the longest payload.
fn requests(rule: &Rule) -> Vec<AccessRequest> {
    let qos = (0..=2).filter(|qos| rule.limits.qos >> qos & 1 == 1);
    let mut requests = Vec::new();
    for qos in qos {
        if rule.actions != Actions::Subscribe {
            let flags = [false, true].into_iter();
            let flags = flags.filter(|flag| rule.limits.retain.is_none_or(|only| only == *flag));
            requests.extend(flags.map(|retain| AccessRequest::Publish {
                qos,
                retain,
                payload: rule.limits.max_payload,
            }));
        }
        if rule.actions != Actions::Publish {
            requests.push(AccessRequest::Subscribe { qos: Some(qos) });
        }
    }
    requests
}

/// Returns the earlier rules that leave nothing for a rule to decide.
fn hidden(
    rule: &WrittenRule,
    rules: &[WrittenRule],
    groups: &[Group],
    client: &ClientAttributes,
) -> Vec<Lint> {
    let hider = |one: &Rule| -> Option<u32> {
        let filters = one.filter.expand(client).ok()?;
        let requests = requests(one);
        let mut last = None;
        for filter in &filters {
            for request in &requests {
                let groups = groups
                    .iter()
                    .filter(|group| follow(group.conditions, rule.conditions));
                let earliest = groups
                    .filter_map(|group| group.all.covering(*request, filter))
                    .min();
                last = last.max(Some(earliest.filter(|order| *order < rule.order)?));
            }
        }
        last
    };
    let hiders: Vec<_> = rule
        .rules
        .iter()
        .filter(|one| !one.literal)
        .map(|one| (one, hider(one)))
        .collect();
    let named = |order: u32| rules.iter().find(|other| other.order == order);
    let whole = hiders.len() == rule.rules.len() && hiders.iter().all(|(_, by)| by.is_some());
    let mut found = BTreeMap::new();
    for (one, by) in hiders {
        let Some(by) = by.and_then(named) else {
            continue;
        };
        let lint = Lint::Hidden {
            rule: linted(rule),
            filter: (!whole).then(|| one.filter.text().into()),
            by: linted(by),
            is_same: effect(by) == one.effect,
        };
        // For a rule as a whole one line is enough: the one that matters most.
        let key = match whole {
            true => String::new(),
            false => one.filter.text().to_owned(),
        };
        let known = found.entry(key).or_insert_with(|| lint.clone());
        if matches!(&lint, Lint::Hidden { is_same: false, .. }) {
            *known = lint;
        }
    }
    found.into_values().collect()
}

/// Returns later rules that allow what a rule seems to deny.
fn denies_less(
    rule: &WrittenRule,
    rules: &[WrittenRule],
    groups: &[Group],
    client: &ClientAttributes,
) -> Vec<Lint> {
    let mut found = Vec::new();
    let denying = rule
        .rules
        .iter()
        .filter(|one| one.effect == Effect::Deny && !one.literal);
    for one in denying {
        let Ok(filters) = one.filter.expand(client) else {
            continue;
        };
        let denied: Vec<_> = rule.rules.iter().map(|other| other.filter.text()).collect();
        let text = one.filter.text();
        let allowed = |request: AccessRequest, filter: &str| {
            let orders = groups
                .iter()
                .filter_map(|group| group.allowing.covering(request, filter));
            let by = orders.filter(|order| *order > rule.order).min()?;
            rules.iter().find(|other| other.order == by)
        };
        let all = AccessRequest::Subscribe { qos: None };
        let publish = AccessRequest::Publish {
            qos: 0,
            retain: false,
            payload: 0,
        };
        let same = match one.actions {
            Actions::Publish => publish,
            Actions::Subscribe | Actions::Both => all,
        };
        let below = format!("{text}/#");
        if !text.ends_with('#')
            && !denied.contains(&below.as_str())
            && let Some(by) = filters
                .first()
                .and_then(|filter| allowed(same, &format!("{filter}/+")))
        {
            found.push(Lint::AllowedBelow {
                rule: linted(rule),
                filter: text.into(),
                by: linted(by),
            });
        }
        let other = match one.actions {
            Actions::Publish => all,
            Actions::Subscribe => publish,
            Actions::Both => continue,
        };
        let denies_both = rules.iter().flat_map(|other| other.rules).any(|other| {
            other.effect == Effect::Deny
                && other.filter == one.filter
                && other.actions != one.actions
        });
        if !denies_both && let Some(by) = filters.first().and_then(|filter| allowed(other, filter))
        {
            found.push(Lint::AllowedOtherwise {
                rule: linted(rule),
                filter: text.into(),
                denies: one.actions,
                by: linted(by),
            });
        }
    }
    found
}

/// Whether these conditions hold wherever the other ones do.
fn follow(conditions: &[Condition], from: &[Condition]) -> bool {
    conditions
        .iter()
        .all(|one| from.iter().any(|other| follows(one, other)))
}

/// Whether a condition holds wherever another one does: it lists at least as much.
fn follows(one: &Condition, from: &Condition) -> bool {
    fn all<T: PartialEq>(of: &[T], are_in: &[T]) -> bool {
        of.iter().all(|element| are_in.contains(element))
    }
    match (one, from) {
        (Condition::Permission(any), Condition::Permission(fewer)) => all(fewer, any),
        (
            Condition::Role { claim, any },
            Condition::Role {
                claim: same,
                any: fewer,
            },
        ) => claim == same && all(fewer, any),
        (Condition::Claim(any), Condition::Claim(fewer)) => all(fewer, any),
        (Condition::ClientId(any), Condition::ClientId(fewer)) => all(fewer, any),
        (Condition::Network(any), Condition::Network(fewer)) => all(fewer, any),
        (Condition::Port(any), Condition::Port(fewer)) => all(fewer, any),
        (Condition::Certificate(any), Condition::Certificate(fewer)) => all(fewer, any),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns what is found, without what is said of client IDs.
    fn found(rules: &[(&str, &str)]) -> Vec<String> {
        let text: String = rules
            .iter()
            .map(|(name, rule)| format!("[[rule]]\nname = \"{name}\"\n{rule}\n"))
            .collect();
        let file = PolicyFile::compile(&text).unwrap();
        lint(&file)
            .iter()
            .filter(|lint| !matches!(lint, Lint::LooksAtClientId(_)))
            .map(|lint| match lint {
                Lint::BrokerDenies { rule, .. } => format!("{} is the broker's", rule.name),
                Lint::Hidden {
                    rule,
                    filter,
                    by,
                    is_same,
                } => {
                    let how = if *is_same { "repeats" } else { "loses to" };
                    let filter = filter
                        .as_ref()
                        .map_or_else(String::new, |filter| format!(" for {filter}"));
                    format!("{} {how} {}{filter}", rule.name, by.name)
                }
                Lint::AllowedBelow { rule, by, .. } => {
                    format!("{} leaves what is below to {}", rule.name, by.name)
                }
                Lint::AllowedOtherwise { rule, by, .. } => {
                    format!("{} leaves the other to {}", rule.name, by.name)
                }
                Lint::LooksAtClientId(_) => unreachable!(),
                Lint::LooksAtPort { rule, .. } => format!("{} looks at a port", rule.name),
            })
            .collect()
    }

    #[test]
    fn rules_that_never_decide_are_found() {
        for (rules, expected) in [
            (
                &[
                    ("a", "allow.both = \"x/#\""),
                    ("b", "deny.publish = \"x/y\""),
                ][..],
                &["b loses to a"][..],
            ),
            (
                &[
                    ("a", "allow.both = \"x/#\""),
                    ("b", "allow.both = \"x/+/z\""),
                ],
                &["b repeats a"],
            ),
            (
                &[
                    ("a", "allow.both = \"x/+\""),
                    ("b", "allow.both = [\"x/y\", \"x/y/z\"]"),
                ],
                &["b repeats a for x/y"],
            ),
            (
                &[
                    ("a", "allow.both = \"x/%c\""),
                    ("b", "allow.both = \"x/%c\""),
                ],
                &["b repeats a"],
            ),
            (
                &[
                    ("a", "allow.both = \"x/+\""),
                    ("b", "allow.both = \"x/${site}\""),
                ],
                &["b repeats a"],
            ),
            (
                &[
                    ("a", "allow.both = \"x/%c\""),
                    ("b", "allow.both = \"x/%u\""),
                ],
                &[],
            ),
            (
                &[
                    ("a", "allow.both = \"x/%c\""),
                    ("b", "allow.both = \"x/+\""),
                ],
                &[],
            ),
            (
                &[("a", "allow.publish = \"x\""), ("b", "allow.both = \"x\"")],
                &[],
            ),
            (
                &[
                    ("a", "allow.both = \"x\"\nqos = 0"),
                    ("b", "allow.both = \"x\""),
                ],
                &[],
            ),
            (
                &[
                    ("a", "allow.both = \"x\""),
                    ("b", "allow.both = \"x\"\nqos = 0"),
                ],
                &["b repeats a"],
            ),
            (
                &[
                    ("a", "allow.publish = \"x\"\nmax_payload = 9"),
                    ("b", "allow.publish = \"x\""),
                ],
                &[],
            ),
            (
                &[
                    ("a", "allow.publish = \"x\""),
                    ("b", "allow.publish = \"x\"\nmax_payload = 9"),
                ],
                &["b repeats a"],
            ),
            (
                &[
                    ("a", "when.permission = \"p\"\nallow.both = \"x\""),
                    ("b", "allow.both = \"x\""),
                ],
                &[],
            ),
            (
                &[
                    ("a", "allow.both = \"x\""),
                    ("b", "when.permission = \"p\"\nallow.both = \"x\""),
                ],
                &["b repeats a"],
            ),
            (
                &[
                    ("a", "when.permission = [\"p\", \"q\"]\nallow.both = \"x\""),
                    (
                        "b",
                        "when = { permission = \"p\", network = \"10.0.0.0/8\" }\nallow.both = \"x\"",
                    ),
                ],
                &["b repeats a"],
            ),
            (
                &[
                    ("a", "when.time = \"10:00-11:00\"\nallow.both = \"x\""),
                    ("b", "allow.both = \"x\""),
                ],
                &[],
            ),
            (
                &[
                    ("a", "allow.both = \"x/#\"\npriority = -1"),
                    ("b", "allow.both = \"x/y\""),
                ],
                &["a repeats b"; 0],
            ),
            (
                &[
                    ("a", "allow.both = \"eq x/#\""),
                    ("b", "allow.both = \"x/#\""),
                ],
                &[],
            ),
            (
                &[
                    ("a", "allow.both = \"#\""),
                    ("b", "allow.subscribe = \"$SYS/#\""),
                ],
                &[],
            ),
            (
                &[("a", "allow.publish = \"$SYS/x\"")],
                &["a is the broker's"],
            ),
            (
                &[("a", "when.port = 1\nallow.both = \"x\"")],
                &["a looks at a port"],
            ),
        ] {
            assert_eq!(found(rules), expected, "{rules:?}");
        }
    }

    #[test]
    fn rules_that_deny_less_than_they_seem_to_are_found() {
        let all = ("all", "allow.both = \"x/#\"");
        for (rule, expected) in [
            (
                "deny.both = \"x/secret\"",
                &["no leaves what is below to all"][..],
            ),
            ("deny.both = \"x/secret/#\"", &[]),
            ("deny.both = [\"x/secret\", \"x/secret/#\"]", &[]),
            ("deny.both = \"y/secret\"", &[]),
            (
                "deny.publish = \"x/secret/#\"",
                &["no leaves the other to all"],
            ),
            (
                "deny = { publish = \"x/secret/#\", subscribe = \"x/secret/#\" }",
                &[],
            ),
        ] {
            assert_eq!(found(&[("no", rule), all]), expected, "{rule}");
        }
    }
}
