//! The policy file, read: TOML, every member known, every mistake with its line.
//!
//! Walked by hand and not derived: a derived reader says "data did not match any variant" where an
//! operator needs to know what to write.

use std::{collections::HashSet, fmt};

use serde_json::Value;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    conditions::{Claim, Condition, Test, fingerprint},
    schedule::{self, TimeWindow, Zone},
};
use crate::rules::{Actions, Effect, Limits, Rule, Template};
use input::{json::Place, network::Network, text::Quoted};

/// What a policy file says.
#[derive(Debug)]
pub(super) struct ParsedFile {
    /// The zone of its times and days.
    pub(super) zone: Zone,
    /// Its rules, as written.
    pub(super) rules: Vec<ParsedRule>,
}

/// A rule of the file.
#[derive(Debug)]
pub(super) struct ParsedRule {
    /// Its name.
    pub(super) name: Box<str>,
    /// Its priority.
    pub(super) priority: i32,
    /// All of these must hold.
    pub(super) conditions: Vec<Condition>,
    /// And this must be open.
    pub(super) window: Option<TimeWindow>,
    /// What it does, one for each filter; all with the same effect and limits.
    pub(super) rules: Vec<Rule>,
}

/// What is wrong with a policy file. The sentence follows its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    line: usize,
    rule: Option<Box<str>>,
    what: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}", self.line)?;
        if let Some(rule) = &self.rule {
            write!(f, ", rule {}", Quoted(rule))?;
        }
        write!(f, ": {}", self.what)
    }
}

type Result<T> = std::result::Result<T, Mistake>;

/// A value and where it stands.
type Found<'t> = &'t Spanned<DeValue<'t>>;

/// Reads a policy file's text.
///
/// # Errors
///
/// The first mistake.
pub(super) fn parse(text: &str) -> Result<ParsedFile> {
    let document = DeTable::parse(text).map_err(|e| Mistake {
        line: line(text, e.span().map_or(0, |span| span.start)),
        rule: None,
        what: format!("this is not good TOML ({})", e.message()),
    })?;
    let mut reader = Reader {
        text,
        roles_claim: None,
        rule: None,
    };
    let (mut zone, mut tables) = (Zone::UTC, &[][..]);
    for (name, value) in document.get_ref() {
        match (name.get_ref().as_ref(), value.get_ref()) {
            ("time_zone", _) => {
                let name = reader.string("time_zone", value)?;
                zone = Zone::named(&name).ok_or_else(|| {
                    reader.wrong(
                        "time_zone",
                        value,
                        "the name of a time zone, as in Europe/Berlin",
                    )
                })?;
            }
            ("roles_claim", _) => {
                reader.roles_claim = Some(reader.string("roles_claim", value)?);
            }
            ("rule", DeValue::Array(list)) => tables = list,
            ("rule", _) => return Err(reader.mistake(value, "begin a rule with [[rule]]".into())),
            (other, _) => {
                let known = "time_zone, roles_claim and [[rule]]";
                return Err(reader.mistake(
                    name,
                    format!("there is no {}; a policy file has {known}", Quoted(other)),
                ));
            }
        }
    }
    let mut rules: Vec<ParsedRule> = Vec::new();
    let mut names = HashSet::new();
    for table in tables {
        let rule = reader.rule(table)?;
        if !names.insert(rule.name.clone()) {
            return Err(reader.mistake(
                table,
                "another rule has this name; log lines name rules, so give each its own".into(),
            ));
        }
        rules.push(rule);
        reader.rule = None;
    }
    Ok(ParsedFile { zone, rules })
}

fn line(text: &str, offset: usize) -> usize {
    let before = text.get(..offset).unwrap_or(text);
    before.bytes().filter(|b| *b == b'\n').count() + 1
}

struct Reader<'t> {
    text: &'t str,
    roles_claim: Option<String>,
    /// The rule being read.
    rule: Option<Box<str>>,
}

impl Reader<'_> {
    fn mistake<T>(&self, at: &Spanned<T>, what: String) -> Mistake {
        Mistake {
            line: line(self.text, at.span().start),
            rule: self.rule.clone(),
            what,
        }
    }

    fn wrong(&self, member: &str, value: Found, fix: &str) -> Mistake {
        let shown = self.text.get(value.span()).unwrap_or_default();
        self.mistake(value, format!("{member} is {}; write {fix}", Quoted(shown)))
    }

    fn string(&self, member: &str, value: Found) -> Result<String> {
        match value.get_ref() {
            DeValue::String(text) if !text.is_empty() => Ok(text.clone().into_owned()),
            _ => Err(self.wrong(member, value, "text in quotes")),
        }
    }

    fn integer(&self, value: Found) -> Option<i64> {
        let number = value.get_ref().as_integer()?;
        i64::from_str_radix(number.as_str(), number.radix()).ok()
    }

    /// The elements of an array, or the one that stands instead of it.
    fn list<'v>(&self, member: &str, value: Found<'v>) -> Result<Vec<Found<'v>>> {
        match value.get_ref() {
            DeValue::Array(elements) if elements.is_empty() => {
                Err(self.wrong(member, value, "at least one, or leave it out"))
            }
            DeValue::Array(elements) => Ok(elements.iter().collect()),
            _ => Ok(vec![value]),
        }
    }

    /// A list in which everything can be read.
    fn each<T>(
        &self,
        member: &str,
        value: Found,
        fix: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Vec<T>> {
        self.list(member, value)?
            .into_iter()
            .map(|element| {
                let text = element.get_ref().as_str().filter(|text| !text.is_empty());
                text.and_then(&read)
                    .ok_or_else(|| self.wrong(member, element, fix))
            })
            .collect()
    }

    fn strings(&self, member: &str, value: Found) -> Result<Vec<String>> {
        let fix = "text in quotes, or a list of texts";
        self.each(member, value, fix, |text| Some(text.to_owned()))
    }

    fn table<'v>(&self, member: &str, value: Found<'v>, fix: &str) -> Result<&'v DeTable<'v>> {
        match value.get_ref() {
            DeValue::Table(members) => Ok(members),
            _ => Err(self.wrong(member, value, fix)),
        }
    }

    fn unknown<T>(&self, at: &Spanned<T>, owner: &str, name: &str, known: &str) -> Mistake {
        // In TOML whatever stands below a [[rule]] is the rule's.
        if let "time_zone" | "roles_claim" = name {
            let what = format!("{name} is for the whole file; write it above the first [[rule]]");
            return self.mistake(at, what);
        }
        self.mistake(
            at,
            format!("there is no {}; {owner} has {known}", Quoted(name)),
        )
    }

    fn rule(&mut self, value: Found) -> Result<ParsedRule> {
        let members = self.table("rule", value, "[[rule]]")?;
        self.rule = None;
        let Some(name) = members.get("name") else {
            return Err(self.mistake(
                value,
                "this rule has no name; give it one, log lines show it".into(),
            ));
        };
        let name: Box<str> = self.string("name", name)?.into();
        self.rule = Some(name.clone());

        let (mut conditions, mut window, mut effect, mut priority) = (Vec::new(), None, None, 0);
        let mut limits = Limits::NONE;
        let (mut retain, mut max_payload) = (None, None);
        for (member, value) in members {
            match member.get_ref().as_ref() {
                "name" => {}
                "when" => (conditions, window) = self.when(value)?,
                word @ ("allow" | "deny") => {
                    if effect.is_some() {
                        return Err(self.mistake(
                            member,
                            "it has allow and deny; make two rules of it".into(),
                        ));
                    }
                    let what = if word == "allow" {
                        Effect::Allow
                    } else {
                        Effect::Deny
                    };
                    effect = Some((what, word, value));
                }
                "qos" => limits.qos = self.qos(value)?,
                "retain" => {
                    retain = Some(value);
                    let only = value.get_ref().as_bool();
                    limits.retain =
                        Some(only.ok_or_else(|| self.wrong("retain", value, "true or false"))?);
                }
                "max_payload" => {
                    max_payload = Some(value);
                    let most = self
                        .integer(value)
                        .and_then(|most| u32::try_from(most).ok());
                    let fix = "a number of bytes";
                    limits.max_payload =
                        most.ok_or_else(|| self.wrong("max_payload", value, fix))?;
                }
                "priority" => {
                    let number = self
                        .integer(value)
                        .and_then(|number| i32::try_from(number).ok());
                    let fix = "a whole number; the highest comes first";
                    priority = number.ok_or_else(|| self.wrong("priority", value, fix))?;
                }
                other => {
                    let known = "name, when, allow or deny, qos, retain, max_payload and priority";
                    return Err(self.unknown(member, "a rule", other, known));
                }
            }
        }
        let Some((effect, word, filters)) = effect else {
            return Err(self.mistake(
                value,
                "it neither allows nor denies; add, for example, allow = { publish = [\"a/b\"] }"
                    .into(),
            ));
        };
        let rules = self.filters(word, filters, effect, limits)?;
        let about = |actions| rules.iter().any(|rule| rule.actions == actions);
        let subscriptions = about(Actions::Subscribe) || about(Actions::Both);
        let publishing = about(Actions::Publish) || about(Actions::Both);
        for (member, value) in [("retain", retain), ("max_payload", max_payload)] {
            let Some(value) = value else { continue };
            let fix = match (effect, member) {
                _ if !publishing => "is about publishing, and the rule is not; leave it out",
                // It reads as if what is larger were denied, and what is not larger is.
                (Effect::Deny, "max_payload") => {
                    "would deny what is not larger; write a rule that allows with max_payload instead: what is larger is then denied, unless another rule allows it"
                }
                // It would deny subscriptions and deliveries whole, with a retain flag and without.
                (Effect::Deny, _) if subscriptions => {
                    "is about publishing, and the rule would deny every subscription; write deny = { publish = ... }, and another rule for subscriptions"
                }
                _ => continue,
            };
            return Err(self.mistake(value, format!("{member} {fix}")));
        }
        Ok(ParsedRule {
            name,
            priority,
            conditions,
            window,
            rules,
        })
    }

    fn qos(&self, value: Found) -> Result<u8> {
        let fix = "0, 1, 2 or a list of these";
        self.list("qos", value)?
            .into_iter()
            .try_fold(0, |set, element| match self.integer(element) {
                Some(qos @ 0..=2) => Ok(set | 1 << qos),
                _ => Err(self.wrong("qos", element, fix)),
            })
    }

    fn filters(
        &self,
        word: &str,
        value: Found,
        effect: Effect,
        limits: Limits,
    ) -> Result<Vec<Rule>> {
        let known = "publish, subscribe and both";
        let mut rules = Vec::new();
        let members = self.table(word, value, "a table, as in { publish = [\"a/b\"] }")?;
        for (member, value) in members {
            let name = member.get_ref().as_ref();
            let actions = match name {
                "publish" => Actions::Publish,
                "subscribe" => Actions::Subscribe,
                "both" => Actions::Both,
                other => return Err(self.unknown(member, word, other, known)),
            };
            for element in self.list(name, value)? {
                let Some(written) = element.get_ref().as_str() else {
                    return Err(self.wrong(name, element, "a topic filter in quotes"));
                };
                let (literal, text) = match written.strip_prefix("eq ") {
                    Some(text) => (true, text),
                    None => (false, written),
                };
                let filter = Template::parse(text).map_err(|why| {
                    self.mistake(element, format!("the filter {} {why}", Quoted(written)))
                })?;
                rules.push(Rule {
                    effect,
                    actions,
                    filter,
                    literal,
                    limits,
                });
            }
        }
        if rules.is_empty() {
            return Err(self.mistake(value, format!("{word} names no topic; it has {known}")));
        }
        Ok(rules)
    }

    fn when(&self, value: Found) -> Result<(Vec<Condition>, Option<TimeWindow>)> {
        let members = self.table("when", value, "a table, as in { role = \"gardener\" }")?;
        let (mut conditions, mut times, mut days) = (Vec::new(), None, None);
        for (member, value) in members {
            let name = member.get_ref().as_ref();
            conditions.push(match name {
                "permission" => Condition::Permission(self.strings(name, value)?),
                "role" => {
                    let Some(claim) = &self.roles_claim else {
                        return Err(self.mistake(
                            member,
                            "role needs roles_claim, the claim that holds the roles, above the first [[rule]]".into(),
                        ));
                    };
                    Condition::Role {
                        claim: claim.clone(),
                        any: self.strings(name, value)?,
                    }
                }
                "claim" => Condition::Claim(
                    self.list(name, value)?
                        .into_iter()
                        .map(|element| self.claim(element))
                        .collect::<Result<Vec<_>>>()?
                        .concat(),
                ),
                "client_id" => Condition::ClientId(self.strings(name, value)?),
                "network" => Condition::Network(self.each(
                    name,
                    value,
                    "an address and the length of its network, as in 10.0.0.0/8 (no bits behind that length, and IPv4 and IPv6 apart)",
                    Network::parse,
                )?),
                "port" => Condition::Port(
                    self.list(name, value)?
                        .into_iter()
                        .map(|element| {
                            self.integer(element)
                                .and_then(|port| u16::try_from(port).ok())
                                .filter(|port| *port > 0)
                                .ok_or_else(|| self.wrong(name, element, "a port, as in 8883"))
                        })
                        .collect::<Result<_>>()?,
                ),
                "certificate" => Condition::Certificate(self.each(
                    name,
                    value,
                    "a SHA-256 fingerprint, 64 hexadecimal digits with or without colons",
                    fingerprint,
                )?),
                "time" => {
                    let fix = "two times of day, as in \"22:00-06:00\"";
                    times = Some(self.each(name, value, fix, schedule::times)?);
                    continue;
                }
                "days" => {
                    let fix = "days of the week, as in \"Mon-Fri\" or \"Sat,Sun\"";
                    let sets = self.each(name, value, fix, schedule::days)?;
                    days = Some(sets.into_iter().fold(0, |all, set| all | set));
                    continue;
                }
                other => {
                    let known = "permission, role, claim, client_id, time, days, network, port and certificate";
                    return Err(self.unknown(member, "when", other, known));
                }
            });
        }
        let window = (times.is_some() || days.is_some()).then(|| TimeWindow {
            times: times.unwrap_or_else(|| vec![(0, 24 * 3600)]),
            days: days.unwrap_or(TimeWindow::ALL_DAYS),
        });
        Ok((conditions, window))
    }

    /// One condition, or several of which one has to hold, if a list of values is given.
    fn claim(&self, value: Found) -> Result<Vec<Claim>> {
        let fix = "a table, as in { name = \"site\", is = \"north\" }";
        let members = self.table("claim", value, fix)?;
        let (mut place, mut tests) = (None, None);
        for (member, value) in members {
            match member.get_ref().as_ref() {
                name @ ("name" | "pointer") => {
                    let text = self.string(name, value)?;
                    let found = if name == "name" {
                        Place::Name(text)
                    } else if text.starts_with('/') {
                        Place::Pointer(text)
                    } else {
                        return Err(self.wrong(name, value, "a JSON pointer, as in \"/app/site\""));
                    };
                    if place.replace(found).is_some() {
                        return Err(self.mistake(
                            member,
                            "claim has name and pointer; leave one of the two out".into(),
                        ));
                    }
                }
                name @ ("is" | "has") => {
                    let values = self
                        .list(name, value)?
                        .into_iter()
                        .map(|element| match element.get_ref() {
                            DeValue::String(text) => Ok(Value::from(text.as_ref())),
                            DeValue::Boolean(flag) => Ok(Value::from(*flag)),
                            _ => self.integer(element).map(Value::from).ok_or_else(|| {
                                self.wrong(
                                    name,
                                    element,
                                    "text in quotes, a whole number, true or false",
                                )
                            }),
                        })
                        .collect::<Result<Vec<_>>>()?;
                    if tests.replace((name == "is", values)).is_some() {
                        return Err(self.mistake(
                            member,
                            "claim has is and has; make two conditions or two rules of it".into(),
                        ));
                    }
                }
                other => {
                    return Err(self.unknown(member, "claim", other, "name or pointer, is or has"));
                }
            }
        }
        let (Some(place), Some((exactly, values))) = (place, tests) else {
            return Err(self.wrong("claim", value, &fix[2..]));
        };
        Ok(values
            .into_iter()
            .map(|value| Claim {
                place: place.clone(),
                test: if exactly {
                    Test::Is(value)
                } else {
                    Test::Has(value)
                },
            })
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(rule: &str) -> Result<ParsedFile> {
        parse(&format!("\n[[rule]]\nname = \"r\"\n{rule}\n"))
    }

    #[test]
    fn everything_at_once() {
        let policy = parse(
            r#"
            time_zone = "Europe/Berlin"
            roles_claim = "https://mqtt.example/roles"

            [[rule]]
            name = "night watering"
            when = { permission = "water", role = ["gardener", "owner"], claim = { name = "site", is = ["north", "south"] }, client_id = "pump-*", time = "22:00-06:00", days = "Mon-Fri", network = ["10.0.0.0/8", "::1"], port = 8883, certificate = "abababababababababababababababababababababababababababababababab" }
            allow = { publish = ["valves/%c/set"], subscribe = "valves/%c/#", both = ["eq a/#", "b/${sites[*]}"] }
            qos = [0, 1]
            retain = false
            max_payload = 1024
            priority = -10

            [[rule]]
            name = "for everybody"
            deny.publish = "closed"
            qos = 2

            [[rule]]
            name = "table"
            [rule.when]
            days = ["Sat", "Sun"]
            [[rule.when.claim]]
            pointer = "/app/site"
            has = 7
            [[rule.when.claim]]
            name = "flag"
            is = true
            [rule.allow]
            both = "x"
            "#,
        )
        .unwrap();
        let [night, everybody, table] = &policy.rules[..] else {
            panic!("three rules")
        };
        assert_eq!((&*night.name, night.priority), ("night watering", -10));
        assert_eq!(night.conditions.len(), 7);
        let window = night.window.as_ref().unwrap();
        assert_eq!(
            (window.times.as_slice(), window.days),
            (&[(79_200, 21_600)][..], 0b1_1111)
        );
        let mut filters: Vec<_> = night
            .rules
            .iter()
            .map(|rule| (rule.filter.text(), rule.actions, rule.literal))
            .collect();
        filters.sort_by_key(|(text, ..)| *text);
        assert_eq!(
            filters,
            [
                ("a/#", Actions::Both, true),
                ("b/${sites[*]}", Actions::Both, false),
                ("valves/%c/#", Actions::Subscribe, false),
                ("valves/%c/set", Actions::Publish, false),
            ]
        );
        let limits = Limits {
            qos: 0b11,
            retain: Some(false),
            max_payload: 1024,
        };
        assert!(night.rules.iter().all(|rule| rule.limits == limits));
        assert_eq!(
            (everybody.rules[0].effect, everybody.rules[0].limits.qos),
            (Effect::Deny, 0b100)
        );
        assert!(everybody.conditions.is_empty() && everybody.window.is_none());
        let Condition::Claim(claims) = &table.conditions[0] else {
            panic!("a claim")
        };
        assert_eq!(claims.len(), 2);
        assert_eq!(table.window.as_ref().unwrap().days, 0b110_0000);
        assert!(parse("").unwrap().rules.is_empty());
    }

    #[test]
    fn limits_go_where_they_mean_what_they_say() {
        for rule in [
            "deny.publish = \"a\"\nretain = true\nqos = 2",
            "deny.both = \"a\"\nqos = 2",
            "allow.both = \"a\"\nretain = true\nmax_payload = 7",
            "allow = { publish = \"a\", subscribe = \"b\" }\nretain = true\nmax_payload = 7",
        ] {
            assert!(with(rule).is_ok(), "{rule}");
        }
    }

    #[test]
    fn a_mistake_is_found_by_line_and_rule() {
        for (rule, line, part) in [
            (
                "allow = { publish = \"a\" }\nfoo = 1",
                5,
                "there is no 'foo'; a rule has name, when",
            ),
            (
                "when = { rle = \"x\" }\nallow.both = \"a\"",
                4,
                "there is no 'rle'; when has",
            ),
            (
                "when = { role = \"x\" }\nallow.both = \"a\"",
                4,
                "role needs roles_claim",
            ),
            (
                "when = { role = [] }\nallow.both = \"a\"",
                4,
                "role needs roles_claim",
            ),
            (
                "when = { permission = [] }\nallow.both = \"a\"",
                4,
                "permission is '[]'; write at least one",
            ),
            (
                "when = { permission = 7 }\nallow.both = \"a\"",
                4,
                "permission is '7'; write text",
            ),
            ("when = \"always\"\nallow.both = \"a\"", 4, "when is"),
            (
                "when.time = \"22-06\"\nallow.both = \"a\"",
                4,
                "two times of day",
            ),
            (
                "when.days = \"Mo\"\nallow.both = \"a\"",
                4,
                "as in \"Mon-Fri\"",
            ),
            (
                "when.network = [\"10.0.0.0/8\",\n\"10.0.0.1/8\"]\nallow.both = \"a\"",
                5,
                "as in 10.0.0.0/8",
            ),
            ("when.port = 70000\nallow.both = \"a\"", 4, "a port"),
            (
                "when.certificate = \"ab\"\nallow.both = \"a\"",
                4,
                "SHA-256",
            ),
            (
                "when.claim = { name = \"x\" }\nallow.both = \"a\"",
                4,
                "claim is",
            ),
            (
                "when.claim = { name = \"x\", pointer = \"/x\", is = 1 }\nallow.both = \"a\"",
                4,
                "name and pointer",
            ),
            (
                "when.claim = { name = \"x\", is = 1, has = 1 }\nallow.both = \"a\"",
                4,
                "is and has",
            ),
            (
                "when.claim = { name = \"x\", is = 1.5 }\nallow.both = \"a\"",
                4,
                "is is '1.5'",
            ),
            (
                "when.claim = { pointer = \"x\", is = 1 }\nallow.both = \"a\"",
                4,
                "JSON pointer",
            ),
            ("", 2, "neither allows nor denies"),
            ("allow.both = \"a\"\ndeny.both = \"b\"", 5, "allow and deny"),
            ("allow = \"a\"", 4, "allow is"),
            ("allow = {}", 4, "allow names no topic"),
            ("allow.both = []", 4, "both is '[]'; write at least one"),
            (
                "allow.read = \"a\"",
                4,
                "there is no 'read'; allow has publish, subscribe and both",
            ),
            (
                "allow.both = [\n\"a\",\n\"a/#/b\"]",
                6,
                "the filter 'a/#/b' has a `#`",
            ),
            ("allow.both = \"a/${x\"", 4, "without a `}`"),
            ("allow.both = 7", 4, "a topic filter in quotes"),
            ("allow.both = \"a\"\nqos = 3", 5, "qos is '3'"),
            ("allow.both = \"a\"\nretain = \"no\"", 5, "true or false"),
            (
                "allow.both = \"a\"\nmax_payload = -1",
                5,
                "a number of bytes",
            ),
            (
                "allow.both = \"a\"\npriority = \"high\"",
                5,
                "the highest comes first",
            ),
            (
                "allow.subscribe = \"a\"\nretain = true",
                5,
                "retain is about publishing, and the rule is not",
            ),
            (
                "allow.subscribe = \"a\"\nmax_payload = 1",
                5,
                "max_payload is about publishing, and the rule is not",
            ),
            (
                "deny.both = \"a\"\nmax_payload = 1",
                5,
                "allows with max_payload instead",
            ),
            (
                "deny.publish = \"a\"\nmax_payload = 1",
                5,
                "what is larger is then denied, unless another rule allows it",
            ),
            (
                "deny.both = \"a\"\nretain = true",
                5,
                "write deny = { publish = ... }",
            ),
            (
                "deny = { publish = \"a\", subscribe = \"b\" }\nretain = false",
                5,
                "the rule would deny every subscription",
            ),
            (
                "deny.subscribe = \"a\"\nretain = true",
                5,
                "retain is about publishing, and the rule is not",
            ),
            (
                "allow.both = \"a\"\ntime_zone = \"Europe/Berlin\"",
                5,
                "write it above the first [[rule]]",
            ),
            (
                "allow.both = \"a\"\n[rule.when]\ndays = \"Mon\"\ntime_zone = \"UTC\"",
                7,
                "write it above the first [[rule]]",
            ),
        ] {
            let error = with(rule).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("line {line}, rule 'r': ")),
                "{rule}: {error}"
            );
            assert!(
                error.contains(part) && !error.contains('\n'),
                "{rule}: {error}"
            );
        }
        for (text, line, part) in [
            (
                "\ntime_zone = \"Europe/Nowhere\"",
                2,
                "the name of a time zone",
            ),
            ("roles_claim = 7", 1, "text in quotes"),
            ("rules = 1", 1, "there is no 'rules'"),
            ("[rule]\nname = \"x\"", 1, "begin a rule with [[rule]]"),
            ("[[rule]]\nallow.both = \"a\"", 1, "has no name"),
            ("[[rule]]\nname = \"\"", 2, "text in quotes"),
            ("a = \n", 1, "not good TOML"),
            (
                "[[rule]]\nname = \"x\"\nallow.both = \"a\"\n[[rule]]\nname = \"x\"\nallow.both = \"a\"",
                4,
                "another rule has this name",
            ),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("line {line}")),
                "{text}: {error}"
            );
            assert!(
                error.contains(part) && !error.contains('\n'),
                "{text}: {error}"
            );
        }
    }
}
