//! The policy file, at work: rules for what does not belong in tokens.
//!
//! * [`parse`]: what it says · [`conditions`]: whom a rule is for, decided when a client signs in
//! * `index`: which rules may be for a client, without trying all of them
//! * [`schedule`]: when a rule is in force, decided at the minute
//! * this file: the rules that are for one client, compiled once for all clients that have the same
//!
//! The order is that of the priorities, the highest first, and as written among equals; rules with a
//! negative priority come after what the token says ([`Rulebook::LATE`]).

pub mod conditions;
mod index;
pub mod parse;
pub mod schedule;

use std::{
    convert::Infallible,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use crate::interner::Interner;
use crate::rules::{
    Effect, Limits,
    bind::{self, Bindings, Unusable, Values},
    compile::OrderedRule,
    gates::Gates,
    matcher::Matcher,
    template::Placeholder,
};
use crate::time::Unix;
use conditions::{Condition, Subject};
use index::Index;
use input::text::Quoted;
pub use parse::Mistake;
use parse::Written;
use schedule::Calendar;

/// A policy file, compiled.
#[derive(Debug)]
pub struct Rulebook {
    /// In the order in which they are asked.
    rules: Vec<Listed>,
    calendar: Calendar,
    index: Index,
    /// Compiled rules, by the rules that apply to a client. Clients come in few kinds, so there are few of these. One
    /// matcher for all rules, with a bit set for each client, would have to skip everybody else's rules on the same
    /// topic at every message.
    compiled: Mutex<Interner<Matcher>>,
}

#[derive(Debug)]
struct Listed {
    written: Written,
    order: u32,
    /// 0 if it is always in force.
    gate: u32,
}

/// What the policy file says for one client.
#[derive(Debug)]
pub struct Share {
    /// The rules.
    pub matcher: Arc<Matcher>,
    /// What their placeholders stand for.
    pub bindings: Bindings,
}

/// Why the policy cannot be applied to a client: a rule that denies names a value that it cannot. To
/// leave the rule out would be to allow what it denies.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Inapplicable {
    rule: Box<str>,
    why: Unusable,
}

impl fmt::Display for Inapplicable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "rule {} of the policy file: {}",
            Quoted(&self.rule),
            self.why
        )
    }
}

impl Rulebook {
    /// Rules from this order on come after what the token says.
    pub const LATE: u32 = 1 << 30;

    /// Reads and compiles a policy file.
    ///
    /// # Errors
    ///
    /// The first mistake, with its line.
    pub fn read(text: &str) -> Result<Self, Mistake> {
        let policy = parse::parse(text)?;
        let mut written = policy.rules;
        // Stable: as written among equals.
        written.sort_by_key(|rule| std::cmp::Reverse(rule.priority));
        let mut windows = Vec::new();
        let rules = written
            .into_iter()
            .enumerate()
            .map(|(place, mut written)| {
                let gate = match written.window.take() {
                    Some(window) => {
                        windows.push(window);
                        windows.len() as u32
                    }
                    None => 0,
                };
                let late = if written.priority < 0 { Self::LATE } else { 0 };
                Listed {
                    written,
                    order: place as u32 + late,
                    gate,
                }
            })
            .collect::<Vec<_>>();
        Ok(Self {
            index: Index::new(rules.iter().map(|rule| &*rule.written.conditions)),
            rules,
            calendar: Calendar::new(policy.zone, windows),
            compiled: Mutex::default(),
        })
    }

    /// How many rules it has.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The name of the rule with this order.
    pub fn name(&self, order: u32) -> &str {
        self.listed(order).map_or("?", |rule| &rule.written.name)
    }

    /// The limits of the rule with this order.
    pub fn limits(&self, order: u32) -> Limits {
        self.listed(order)
            .and_then(|rule| rule.written.rules.first())
            .map_or(Limits::NONE, |rule| rule.limits)
    }

    fn listed(&self, order: u32) -> Option<&Listed> {
        self.rules.get((order & !Self::LATE) as usize)
    }

    /// The names of rules with a condition of a kind, and whether each denies.
    pub fn rules_with(
        &self,
        kind: impl Fn(&Condition) -> bool,
    ) -> impl Iterator<Item = (&str, bool)> {
        self.rules
            .iter()
            .map(|rule| &rule.written)
            .filter(move |rule| rule.conditions.iter().any(&kind))
            .map(|rule| (&*rule.name, rule.effect() == Effect::Deny))
    }

    /// The name of the first rule that looks at the client id: in a condition or in a filter.
    pub fn looks_at_client_id(&self) -> Option<&str> {
        let is_about = |condition: &Condition| matches!(condition, Condition::ClientId(_));
        let written = self.rules.iter().map(|rule| &rule.written);
        let mut looking = written.filter(|rule| {
            let mut filters = rule.rules.iter().map(|rule| &rule.filter);
            rule.conditions.iter().any(is_about)
                || filters.any(|filter| {
                    let mut named = filter.placeholders();
                    named.any(|(placeholder, _)| *placeholder == Placeholder::ClientId)
                })
        });
        looking.next().map(|rule| &*rule.name)
    }

    /// Sees to it that exactly the rules are in force whose time it is. Costs nothing in between.
    #[inline]
    pub fn turn(&self, now: Unix) {
        self.calendar.turn(now);
    }

    /// Until when the rules in force are these.
    pub fn until(&self) -> Unix {
        self.calendar.until()
    }

    /// Which rules are in force.
    pub fn gates(&self) -> &Gates {
        self.calendar.gates()
    }

    /// Returns the rules that apply to this client. A rule that allows and names a value that cannot stand in a topic
    /// is not among them.
    ///
    /// # Errors
    ///
    /// If a rule that denies names such a value.
    pub fn share(&self, subject: &Subject) -> Result<Share, Inapplicable> {
        let values = values(subject);
        let mut applies = Vec::new();
        for (place, written) in self.applicable(subject) {
            match (written.usable(&values), written.effect()) {
                (Ok(()), _) => applies.push(place),
                (Err(_), Effect::Allow) => {}
                (Err(why), Effect::Deny) => {
                    return Err(Inapplicable {
                        rule: written.name.clone(),
                        why,
                    });
                }
            }
        }
        let matcher = self.compile(&applies);
        // All of them were looked at above.
        let bindings = matcher.bind(&values).map_err(|why| Inapplicable {
            rule: "?".into(),
            why,
        })?;
        Ok(Share { matcher, bindings })
    }

    /// Returns the first rule that would apply to this client and would allow something, if its values could stand in
    /// a topic.
    pub fn lost(&self, subject: &Subject) -> Option<(&str, Unusable)> {
        let values = values(subject);
        self.applicable(subject).find_map(|(_, written)| {
            let why = written.usable(&values).err()?;
            Some((&*written.name, why))
        })
    }

    /// Returns the rules whose conditions hold for a client, with their places.
    fn applicable(&self, subject: &Subject) -> impl Iterator<Item = (u32, &Written)> {
        let candidates = self.index.candidates(subject).into_iter();
        candidates.filter_map(move |place| {
            let written = &self.rules[place as usize].written;
            let mut conditions = written.conditions.iter();
            let holds = conditions.all(|condition| condition.holds(subject));
            holds.then_some((place, written))
        })
    }

    fn compile(&self, places: &[u32]) -> Arc<Matcher> {
        let make = || {
            let listed = places.iter().map(|place| &self.rules[*place as usize]);
            let rules = listed.flat_map(|listed| {
                listed.written.rules.iter().map(|rule| OrderedRule {
                    order: listed.order,
                    rule,
                    gate: listed.gate,
                })
            });
            Ok::<_, Infallible>(Matcher::new(rules))
        };
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(matcher) = compiled.obtain(places, make);
        matcher
    }
}

fn values<'a>(subject: &Subject<'a>) -> Values<'a> {
    Values {
        client_id: subject.client_id,
        username: subject.username,
        claims: subject.claims,
    }
}

impl Written {
    fn effect(&self) -> Effect {
        self.rules.first().map_or(Effect::Deny, |rule| rule.effect)
    }

    fn usable(&self, values: &Values) -> Result<(), Unusable> {
        self.rules
            .iter()
            .flat_map(|rule| rule.filter.placeholders())
            .try_for_each(|(placeholder, front)| bind::check(placeholder, front, values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{
        Ask,
        matcher::{Ruling, ask},
    };
    use serde_json::{Value, json};

    fn first(book: &Rulebook, share: &Share, what: Ask, topic: &str) -> Option<Ruling> {
        ask(what, topic.as_bytes(), |asked| {
            share.matcher.first(asked, &share.bindings, book.gates())
        })
        .flatten()
    }

    const PUBLISH: Ask = Ask::Publish {
        qos: 0,
        retain: false,
        payload: 0,
    };

    fn subject<'a>(client_id: &'a str, claims: &'a Value) -> Subject<'a> {
        Subject {
            client_id,
            username: "auth0|1",
            claims: claims.as_object().unwrap(),
            address: None,
            port: None,
            certificate: None,
        }
    }

    const BOOK: &str = r#"
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
    fn the_order_is_the_priorities_and_the_writing() {
        let book = Rulebook::read(BOOK).unwrap();
        let names: Vec<_> = book.rules.iter().map(|rule| &*rule.written.name).collect();
        assert_eq!(names, ["first", "own", "site", "office hours", "late"]);
        let claims = json!({});
        let share = book.share(&subject("a", &claims)).unwrap();
        let name =
            |topic| first(&book, &share, PUBLISH, topic).map(|ruling| book.name(ruling.order));
        assert_eq!(name("dev/a/x"), Some("own"));
        assert_eq!(name("dev/a/closed"), Some("first"));
        assert_eq!(name("dev/b/x"), None);
        assert_eq!(name("x"), Some("late"));
        let late = first(&book, &share, PUBLISH, "x").unwrap();
        assert!(late.order >= Rulebook::LATE);
    }

    #[test]
    fn who_looks_at_the_client_id_is_known() {
        let looks = |rule: &str| {
            let book = format!("[[rule]]\nname = \"x\"\n{rule}");
            let book = Rulebook::read(&book).unwrap();
            book.looks_at_client_id().map(str::to_owned)
        };
        for rule in [
            "allow.both = [\"a\", \"b/${clientid}\"]",
            "deny.publish = \"x-%c\"",
            "when = { port = 1, client_id = \"x\" }\nallow.both = \"a\"",
        ] {
            assert_eq!(looks(rule).as_deref(), Some("x"), "{rule}");
        }
        assert_eq!(looks("when.port = 1\nallow.both = \"%u/${c}\""), None);
        assert_eq!(Rulebook::read("").unwrap().looks_at_client_id(), None);
    }

    #[test]
    fn who_has_the_same_rules_shares_them() {
        let book = Rulebook::read(BOOK).unwrap();
        let (guest, keeper) = (json!({}), json!({"role": "keeper", "site": "north"}));
        let shares: Vec<_> = [("a", &guest), ("b", &guest), ("c", &keeper)]
            .iter()
            .map(|(id, claims)| book.share(&subject(id, claims)).unwrap())
            .collect();
        assert!(Arc::ptr_eq(&shares[0].matcher, &shares[1].matcher));
        assert!(!Arc::ptr_eq(&shares[0].matcher, &shares[2].matcher));
        assert!(first(&book, &shares[1], PUBLISH, "dev/b/x").is_some());
        assert!(first(&book, &shares[1], PUBLISH, "dev/a/x").is_none());
        assert!(first(&book, &shares[2], PUBLISH, "site/north/x").is_some());
        drop(shares);
        for i in 0..1000 {
            let claims = json!({"role": if i % 2 == 0 { "keeper" } else { "" }, "site": "x"});
            drop(book.share(&subject("a", &claims)).unwrap());
        }
        assert!(book.compiled.lock().unwrap().entries() < 100);
    }

    #[test]
    fn an_unusable_value_loses_what_is_allowed_and_never_what_is_denied() {
        let book = Rulebook::read(BOOK).unwrap();
        for claims in [
            json!({"role": "keeper"}),
            json!({"role": "keeper", "site": "+"}),
        ] {
            let subject = subject("a", &claims);
            let share = book.share(&subject).unwrap();
            assert!(first(&book, &share, PUBLISH, "site/+/x").is_none());
            assert!(first(&book, &share, PUBLISH, "site/north/x").is_none());
            assert!(first(&book, &share, PUBLISH, "dev/a/x").is_some());
            assert_eq!(book.lost(&subject).unwrap().0, "site");
        }
        let book = Rulebook::read(
            "[[rule]]\nname = \"not its own\"\ndeny.publish = \"dev/%c/config\"\n[[rule]]\nname = \"all\"\nallow.both = \"#\"",
        )
        .unwrap();
        let claims = json!({});
        assert!(book.share(&subject("a", &claims)).is_ok());
        let error = book
            .share(&subject("a/b", &claims))
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("rule 'not its own' of the policy file: its client id is 'a/b'"),
            "{error}"
        );
    }

    /// As a listener for both protocols writes IPv4 addresses, and so an operator who copies one.
    #[test]
    fn an_ipv4_network_in_ipv6_form_denies_and_allows() {
        let book = Rulebook::read(
            "[[rule]]\nname = \"cellar\"\nwhen.network = \"::ffff:10.1.0.0/112\"\ndeny.both = \"#\"\n[[rule]]\nname = \"house\"\nwhen.network = \"::ffff:10.0.0.0/104\"\nallow.both = \"#\"",
        )
        .unwrap();
        let claims = json!({});
        for (address, effect) in [
            ("10.1.2.3", Some(Effect::Deny)),
            ("::ffff:10.1.2.3", Some(Effect::Deny)),
            ("10.2.2.3", Some(Effect::Allow)),
            ("192.0.2.1", None),
        ] {
            let subject = Subject {
                address: address.parse().ok(),
                ..subject("a", &claims)
            };
            let share = book.share(&subject).unwrap();
            let ruling = first(&book, &share, PUBLISH, "x");
            assert_eq!(ruling.map(|ruling| ruling.effect), effect, "{address}");
        }
    }

    #[test]
    fn a_rule_has_its_hours() {
        let book = Rulebook::read(BOOK).unwrap();
        let claims = json!({});
        let share = book.share(&subject("a", &claims)).unwrap();
        for (hour, open) in [(8, false), (9, true), (16, true), (17, false), (10, true)] {
            book.turn(Unix(1_800_000_000 / 86_400 * 86_400 + hour * 3600));
            assert_eq!(
                first(&book, &share, PUBLISH, "door").is_some(),
                open,
                "{hour}"
            );
        }
    }
}
