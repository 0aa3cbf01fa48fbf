//! Parses a policy file. Unknown members are errors, and every error has its line.
//!
//! This is written by hand, not derived: a derived parser says "data did not match any variant" where an operator needs
//! to know what to write.

use std::{borrow::Cow, collections::HashSet, sync::Arc};

use serde_json::Value;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    conditions::{Claim, Condition, Test, fingerprint},
    mistake::{Entry, Expected, Mistake, MistakeKind, PublishLimit, TomlTable},
    requirements::MAX_MESSAGE,
    schedule::{self, TimeWindow, Zone},
};
use crate::rules::{Actions, Effect, Limits, Rule, Template};
use input::{json::Place, network::Network};

/// A policy file, parsed.
#[derive(Debug)]
pub(super) struct ParsedFile {
    /// The time zone of its times and days.
    pub(super) zone: Zone,
    /// Its rules, as written.
    pub(super) rules: Vec<ParsedRule>,
    /// Its requirements, as written.
    pub(super) requirements: Vec<ParsedRequirement>,
}

/// A rule of a policy file. Its lists are slices and not vectors, which have room for four elements where most rules
/// have one.
#[derive(Debug)]
pub(super) struct ParsedRule {
    /// Its name.
    pub(super) name: Box<str>,
    /// The line on which it begins, counted from 1.
    pub(super) line: u32,
    /// Its priority.
    pub(super) priority: i32,
    /// Its conditions. All of them must hold.
    pub(super) conditions: Box<[Condition]>,
    /// Its time window. It must be open.
    pub(super) window: Option<TimeWindow>,
    /// One rule for each filter, all with the same effect and limits.
    pub(super) rules: Box<[Rule]>,
}

/// A requirement of a policy file.
#[derive(Debug)]
pub(super) struct ParsedRequirement {
    /// Its name.
    pub(super) name: Box<str>,
    /// The line on which it begins, counted from 1.
    pub(super) line: u32,
    /// Which clients it concerns.
    pub(super) concerns: ParsedConditions,
    /// What it asks of them.
    pub(super) asks: ParsedConditions,
    /// What a client is told that does not meet it.
    pub(super) message: Box<str>,
}

/// Conditions that all must hold, and a time window that must be open.
#[derive(Debug, Default)]
pub(super) struct ParsedConditions {
    /// The conditions.
    pub(super) conditions: Vec<Condition>,
    /// The time window.
    pub(super) window: Option<TimeWindow>,
}

type ParseResult<T> = Result<T, Mistake>;

/// A member's name, and its place in the text.
type TomlKey<'t> = Spanned<Cow<'t, str>>;

/// A value, and its place in the text.
type TomlValue<'t> = &'t Spanned<DeValue<'t>>;

/// Parses the text of a policy file.
///
/// The tree that the TOML library makes takes 4 KiB for each rule. It is freed, but the C library does not give all of
/// that memory back. So a file is parsed rule by rule. Only a file that cannot be parsed so is parsed as a whole.
///
/// # Errors
///
/// Returns the first mistake.
pub(super) fn parse(text: &str) -> ParseResult<ParsedFile> {
    parse_by_rule(text).map_or_else(|| parse_whole(text), Ok)
}

fn parse_whole(text: &str) -> ParseResult<ParsedFile> {
    let mut pieces = ParsedPieces::new();
    pieces.add(text, 0)?;
    Ok(pieces.file)
}

/// Parses what stands above the first `[[rule]]` or `[[require]]`, and then each rule and requirement, as a text of its
/// own. Returns `None` if one of them has a mistake. Then the file has one, too, or a line that looks like `[[rule]]`
/// is a part of a string or of a list, which is not complete above that line.
fn parse_by_rule(text: &str) -> Option<ParsedFile> {
    let mut pieces = ParsedPieces::new();
    let (mut begin, mut end) = (0, 0);
    let (mut above, mut lines) = (0, 0);
    for line in text.split_inclusive('\n') {
        if begin < end && begins_entry(line) {
            let piece = &text[begin..end];
            pieces.add(piece, above).ok()?;
            if !begins_entry(piece) && has_entries(piece) {
                // These rules stand above the first [[rule]], as rule = [...]. TOML forbids to have both.
                return None;
            }
            (begin, above) = (end, lines);
        }
        end += line.len();
        lines += 1;
    }
    pieces.add(&text[begin..], above).ok()?;
    Some(pieces.file)
}

/// Returns the first mistake of each rule and each requirement, and that of what stands above them.
pub(super) fn mistakes(text: &str) -> Vec<Mistake> {
    let Err(first) = parse(text) else {
        return Vec::new();
    };
    let (mut pieces, mut found) = (ParsedPieces::new(), Vec::new());
    let (mut piece, mut above, mut lines) = (String::new(), 0, 0);
    let end = std::iter::once("[[rule]]");
    for line in text.split_inclusive('\n').chain(end) {
        if begins_entry(line) && lines > above {
            let mistake = pieces.add(&piece, above).err();
            found.extend(mistake.map(|mistake| Mistake {
                line: mistake.line + above as usize,
                ..mistake
            }));
            (above, piece) = (lines, String::new());
        }
        piece.push_str(line);
        lines += 1;
    }
    match found.is_empty() {
        // It is one that shows in the whole only.
        true => vec![first],
        false => found,
    }
}

/// Whether a piece of the file has the key `rule` or `require`, even if its list is empty.
fn has_entries(piece: &str) -> bool {
    DeTable::parse(piece).is_ok_and(|table| {
        let has = |key| table.get_ref().contains_key(key);
        has("rule") || has("require")
    })
}

/// Whether a rule or a requirement begins here.
fn begins_entry(text: &str) -> bool {
    let text = text.trim_start();
    text.starts_with("[[rule]]") || text.starts_with("[[require]]")
}

/// What was parsed so far of a file.
struct ParsedPieces {
    file: ParsedFile,
    roles_claim: Option<Place>,
    names: HashSet<Entry>,
}

impl ParsedPieces {
    fn new() -> Self {
        Self {
            file: ParsedFile {
                zone: Zone::UTC,
                rules: Vec::new(),
                requirements: Vec::new(),
            },
            roles_claim: None,
            names: HashSet::new(),
        }
    }

    /// Parses a piece of the file that has so many lines above it.
    fn add(&mut self, text: &str, above: u32) -> ParseResult<()> {
        let document = DeTable::parse(text).map_err(|e| Mistake {
            line: line(text, e.span().map_or(0, |span| span.start)),
            entry: None,
            kind: MistakeKind::NotToml(e.message().to_owned()),
        })?;
        let mut parser = FileParser {
            text,
            roles_claim: self.roles_claim.clone(),
            entry: None,
        };
        let (mut rules, mut requirements) = (&[][..], &[][..]);
        for (key, value) in document.get_ref() {
            match (key.get_ref().as_ref(), value.get_ref()) {
                ("time_zone", _) => {
                    let name = parser.string("time_zone", value)?;
                    self.file.zone = Zone::named(&name)
                        .ok_or_else(|| parser.wrong("time_zone", value, Expected::TimeZone))?;
                }
                ("roles_claim", _) => {
                    let text = parser.string("roles_claim", value)?;
                    parser.roles_claim = Some(Place::parse(&text));
                }
                ("rule", DeValue::Array(list)) => rules = list,
                ("require", DeValue::Array(list)) => requirements = list,
                ("rule", _) => {
                    return Err(parser.mistake(value, MistakeKind::NotTables(TomlTable::Rule)));
                }
                ("require", _) => {
                    return Err(parser.mistake(value, MistakeKind::NotTables(TomlTable::Require)));
                }
                _ => return Err(parser.unknown(key, TomlTable::File)),
            }
        }
        for table in rules {
            let mut rule = parser.rule(table)?;
            rule.line += above;
            if !self.names.insert(Entry::Rule(rule.name.clone())) {
                return Err(parser.mistake(table, MistakeKind::SameName(TomlTable::Rule)));
            }
            self.file.rules.push(rule);
            parser.entry = None;
        }
        for table in requirements {
            let mut requirement = parser.requirement(table)?;
            requirement.line += above;
            if !self
                .names
                .insert(Entry::Requirement(requirement.name.clone()))
            {
                return Err(parser.mistake(table, MistakeKind::SameName(TomlTable::Require)));
            }
            self.file.requirements.push(requirement);
            parser.entry = None;
        }
        self.roles_claim = parser.roles_claim;
        Ok(())
    }
}

fn line(text: &str, offset: usize) -> usize {
    let before = text.get(..offset).unwrap_or(text);
    before.bytes().filter(|b| *b == b'\n').count() + 1
}

struct FileParser<'t> {
    text: &'t str,
    roles_claim: Option<Place>,
    /// The rule or the requirement that is being parsed.
    entry: Option<Entry>,
}

/// The members of a rule, before they are combined.
struct RuleMembers<'t> {
    conditions: ParsedConditions,
    effect: Option<(Effect, TomlValue<'t>)>,
    limits: Limits,
    publish_limits: Vec<(PublishLimit, TomlValue<'t>)>,
    priority: i32,
}

/// Rules.
impl FileParser<'_> {
    fn rule(&mut self, value: TomlValue) -> ParseResult<ParsedRule> {
        let table = self.table("rule", value, Expected::Rule)?;
        let name = self.name(value, table, TomlTable::Rule)?;
        self.entry = Some(Entry::Rule(name.clone()));

        let members = self.rule_members(table)?;
        let Some((effect, filters)) = members.effect else {
            return Err(self.mistake(value, MistakeKind::NeitherAllowNorDeny));
        };
        let rules = self.filters(filters, effect, members.limits)?;
        self.check_publish_limits(&members.publish_limits, effect, &rules)?;
        Ok(ParsedRule {
            name,
            line: line(self.text, value.span().start) as u32,
            priority: members.priority,
            conditions: members.conditions.conditions.into(),
            window: members.conditions.window,
            rules: rules.into(),
        })
    }

    /// Returns the name of a rule or a requirement.
    fn name(&mut self, value: TomlValue, table: &DeTable, of: TomlTable) -> ParseResult<Box<str>> {
        self.entry = None;
        match table.get("name") {
            Some(name) => Ok(self.string("name", name)?.into()),
            None => Err(self.mistake(value, MistakeKind::NoName(of))),
        }
    }

    fn rule_members<'t>(&self, table: &'t DeTable<'t>) -> ParseResult<RuleMembers<'t>> {
        let mut members = RuleMembers {
            conditions: ParsedConditions::default(),
            effect: None,
            limits: Limits::NONE,
            publish_limits: Vec::new(),
            priority: 0,
        };
        for (key, value) in table {
            match key.get_ref().as_ref() {
                "name" => {}
                "when" => members.conditions = self.conditions(TomlTable::When, value)?,
                word @ ("allow" | "deny") => {
                    let effect = match word {
                        "allow" => Effect::Allow,
                        _ => Effect::Deny,
                    };
                    if members.effect.replace((effect, value)).is_some() {
                        return Err(self.mistake(key, MistakeKind::AllowAndDeny));
                    }
                }
                "qos" => members.limits.qos = self.qos(value)?,
                "retain" => {
                    let only = value.get_ref().as_bool();
                    let only = only.ok_or_else(|| self.wrong("retain", value, Expected::Retain))?;
                    members.limits.retain = Some(only);
                    members.publish_limits.push((PublishLimit::Retain, value));
                }
                "max_payload" => {
                    let most = self.number("max_payload", value, Expected::MaxPayload)?;
                    members.limits.max_payload = most;
                    let limit = PublishLimit::MaxPayload;
                    members.publish_limits.push((limit, value));
                }
                "priority" => {
                    members.priority = self.number("priority", value, Expected::Priority)?;
                }
                _ => return Err(self.unknown(key, TomlTable::Rule)),
            }
        }
        Ok(members)
    }

    fn qos(&self, value: TomlValue) -> ParseResult<u8> {
        let levels = self.list("qos", value)?.into_iter();
        let mut levels = levels.map(|element| match integer(element) {
            Some(qos @ 0..=2) => Ok(1 << qos),
            _ => Err(self.wrong("qos", element, Expected::Qos)),
        });
        levels.try_fold(0, |set, level| Ok(set | level?))
    }

    /// Returns a rule for each filter.
    fn filters(&self, value: TomlValue, effect: Effect, limits: Limits) -> ParseResult<Vec<Rule>> {
        let word = effect.keyword();
        let mut rules = Vec::new();
        for (key, value) in self.table(word, value, Expected::Filters)? {
            let name = key.get_ref().as_ref();
            let actions = match name {
                "publish" => Actions::Publish,
                "subscribe" => Actions::Subscribe,
                "both" => Actions::Both,
                _ => return Err(self.unknown(key, TomlTable::Filters(effect))),
            };
            for element in self.list(name, value)? {
                let (filter, literal) = self.filter(name, element)?;
                rules.push(Rule {
                    effect,
                    actions,
                    filter,
                    literal,
                    limits,
                    conditions: Arc::default(),
                });
            }
        }
        match rules.is_empty() {
            true => Err(self.mistake(value, MistakeKind::NoFilter(effect))),
            false => Ok(rules),
        }
    }

    /// Returns a filter, and whether it is literal.
    fn filter(&self, member: &str, value: TomlValue) -> ParseResult<(Template, bool)> {
        let Some(written) = value.get_ref().as_str() else {
            return Err(self.wrong(member, value, Expected::Filter));
        };
        let (literal, text) = match written.strip_prefix("eq ") {
            Some(text) => (true, text),
            None => (false, written),
        };
        let filter = Template::parse(text).map_err(|problem| {
            let filter = written.to_owned();
            self.mistake(value, MistakeKind::Filter { filter, problem })
        })?;
        Ok((filter, literal))
    }

    /// Refuses limits on publishing where they would not do what they seem to say.
    fn check_publish_limits(
        &self,
        limits: &[(PublishLimit, TomlValue)],
        effect: Effect,
        rules: &[Rule],
    ) -> ParseResult<()> {
        let publishing = rules.iter().any(|rule| rule.actions != Actions::Subscribe);
        let subscribing = rules.iter().any(|rule| rule.actions != Actions::Publish);
        for (limit, value) in limits {
            let kind = match (effect, limit) {
                _ if !publishing => MistakeKind::NotPublishing(*limit),
                (Effect::Deny, PublishLimit::MaxPayload) => MistakeKind::DeniesSmallPayloads,
                (Effect::Deny, PublishLimit::Retain) if subscribing => {
                    MistakeKind::DeniesSubscriptions
                }
                _ => continue,
            };
            return Err(self.mistake(value, kind));
        }
        Ok(())
    }
}

/// Requirements.
impl FileParser<'_> {
    fn requirement(&mut self, value: TomlValue) -> ParseResult<ParsedRequirement> {
        let table = self.table("require", value, Expected::Require)?;
        let name = self.name(value, table, TomlTable::Require)?;
        self.entry = Some(Entry::Requirement(name.clone()));

        let (mut concerns, mut asks, mut message) = (ParsedConditions::default(), None, None);
        for (key, value) in table {
            match key.get_ref().as_ref() {
                "name" => {}
                "when" => concerns = self.conditions(TomlTable::When, value)?,
                "that" => asks = Some(self.conditions(TomlTable::That, value)?),
                "message" => message = Some(self.message(value)?),
                _ => return Err(self.unknown(key, TomlTable::Require)),
            }
        }
        let asks = asks.filter(|asks| !asks.conditions.is_empty() || asks.window.is_some());
        Ok(ParsedRequirement {
            name,
            line: line(self.text, value.span().start) as u32,
            concerns,
            asks: asks.ok_or_else(|| self.mistake(value, MistakeKind::RequiresNothing))?,
            message: message.ok_or_else(|| self.mistake(value, MistakeKind::NoMessage))?,
        })
    }

    /// Returns the message of a requirement. It becomes a part of log lines.
    fn message(&self, value: TomlValue) -> ParseResult<Box<str>> {
        let breaks_line = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
        let text = value.get_ref().as_str().filter(|text| {
            !text.trim().is_empty()
                && text.chars().count() <= MAX_MESSAGE
                && !text.contains(breaks_line)
        });
        text.map(Into::into)
            .ok_or_else(|| self.wrong("message", value, Expected::Message))
    }
}

/// Conditions.
impl FileParser<'_> {
    fn conditions(&self, of: TomlTable, value: TomlValue) -> ParseResult<ParsedConditions> {
        let member = match of {
            TomlTable::That => "that",
            _ => "when",
        };
        let (mut conditions, mut times, mut days) = (Vec::new(), None, None);
        for (key, value) in self.table(member, value, Expected::Conditions)? {
            match key.get_ref().as_ref() {
                "time" => {
                    times = Some(self.each("time", value, Expected::Times, schedule::times)?);
                }
                "days" => {
                    let sets = self.each("days", value, Expected::Days, schedule::days)?;
                    days = Some(sets.into_iter().fold(0, |all, set| all | set));
                }
                _ => conditions.push(self.condition(of, key, value)?),
            }
        }
        let window = (times.is_some() || days.is_some()).then(|| TimeWindow {
            times: times.unwrap_or_else(|| vec![(0, 24 * 3600)]),
            days: days.unwrap_or(TimeWindow::ALL_DAYS),
        });
        Ok(ParsedConditions { conditions, window })
    }

    fn condition(&self, of: TomlTable, key: &TomlKey, value: TomlValue) -> ParseResult<Condition> {
        let name = key.get_ref().as_ref();
        Ok(match name {
            "permission" => Condition::Permission(self.strings(name, value)?),
            "role" => match &self.roles_claim {
                Some(claim) => Condition::Role {
                    claim: claim.clone(),
                    any: self.strings(name, value)?,
                },
                None => return Err(self.mistake(key, MistakeKind::NoRolesClaim)),
            },
            "claim" => {
                let claims = self.list(name, value)?.into_iter();
                let claims = claims.map(|element| self.claim(element));
                Condition::Claim(claims.collect::<ParseResult<Vec<_>>>()?.concat())
            }
            "client_id" => Condition::ClientId(self.strings(name, value)?),
            "network" => {
                let networks = self.each(name, value, Expected::Network, Network::parse);
                Condition::Network(networks?)
            }
            "port" => {
                let ports = self.list(name, value)?.into_iter();
                let ports =
                    ports.map(
                        |element| match self.number(name, element, Expected::Port)? {
                            0 => Err(self.wrong(name, element, Expected::Port)),
                            port => Ok(port),
                        },
                    );
                Condition::Port(ports.collect::<ParseResult<_>>()?)
            }
            "certificate" => {
                let prints = self.each(name, value, Expected::Certificate, fingerprint);
                Condition::Certificate(prints?)
            }
            _ => return Err(self.unknown(key, of)),
        })
    }

    /// Returns one condition on a claim, or several of which one must hold, if a list of values is given.
    fn claim(&self, value: TomlValue) -> ParseResult<Vec<Claim>> {
        let (mut place, mut tests) = (None, None);
        for (key, value) in self.table("claim", value, Expected::Claim)? {
            match key.get_ref().as_ref() {
                name @ ("name" | "pointer") => {
                    if place.replace(self.place(name, value)?).is_some() {
                        return Err(self.mistake(key, MistakeKind::NameAndPointer));
                    }
                }
                name @ ("is" | "has") => {
                    if tests.replace(self.tests(name, value)?).is_some() {
                        return Err(self.mistake(key, MistakeKind::IsAndHas));
                    }
                }
                _ => return Err(self.unknown(key, TomlTable::Claim)),
            }
        }
        let (Some(place), Some(tests)) = (place, tests) else {
            return Err(self.wrong("claim", value, Expected::Claim));
        };
        let claim = |test| Claim {
            place: place.clone(),
            test,
        };
        Ok(tests.into_iter().map(claim).collect())
    }

    /// Returns the place of a claim.
    fn place(&self, member: &str, value: TomlValue) -> ParseResult<Place> {
        let text = self.string(member, value)?;
        match member {
            "name" => Ok(Place::Name(text)),
            _ if text.starts_with('/') => Ok(Place::Pointer(text)),
            _ => Err(self.wrong(member, value, Expected::Pointer)),
        }
    }

    /// Returns a test for each value.
    fn tests(&self, member: &str, value: TomlValue) -> ParseResult<Vec<Test>> {
        let test = |element: TomlValue| {
            let wanted = match element.get_ref() {
                DeValue::String(text) => Some(Value::from(text.as_ref())),
                DeValue::Boolean(flag) => Some(Value::from(*flag)),
                _ => integer(element).map(Value::from),
            };
            match wanted {
                Some(wanted) if member == "is" => Ok(Test::Is(wanted)),
                Some(wanted) => Ok(Test::Has(wanted)),
                None => Err(self.wrong(member, element, Expected::ClaimValue)),
            }
        };
        self.list(member, value)?.into_iter().map(test).collect()
    }
}

/// Values of any kind, and mistakes.
impl FileParser<'_> {
    fn string(&self, member: &str, value: TomlValue) -> ParseResult<String> {
        match value.get_ref() {
            DeValue::String(text) if !text.is_empty() => Ok(text.clone().into_owned()),
            _ => Err(self.wrong(member, value, Expected::Text)),
        }
    }

    fn strings(&self, member: &str, value: TomlValue) -> ParseResult<Vec<String>> {
        self.each(member, value, Expected::Texts, |text| Some(text.to_owned()))
    }

    fn number<T: TryFrom<i64>>(
        &self,
        member: &str,
        value: TomlValue,
        expected: Expected,
    ) -> ParseResult<T> {
        let number = integer(value).and_then(|number| T::try_from(number).ok());
        number.ok_or_else(|| self.wrong(member, value, expected))
    }

    /// Returns the elements of an array, or the one value that stands in its place.
    fn list<'t>(&self, member: &str, value: TomlValue<'t>) -> ParseResult<Vec<TomlValue<'t>>> {
        match value.get_ref() {
            DeValue::Array(elements) if elements.is_empty() => {
                Err(self.wrong(member, value, Expected::AtLeastOne))
            }
            DeValue::Array(elements) => Ok(elements.iter().collect()),
            _ => Ok(vec![value]),
        }
    }

    /// Parses each element of a list of texts.
    fn each<T>(
        &self,
        member: &str,
        value: TomlValue,
        expected: Expected,
        parse: impl Fn(&str) -> Option<T>,
    ) -> ParseResult<Vec<T>> {
        let one = |element: TomlValue| {
            let text = element.get_ref().as_str().filter(|text| !text.is_empty());
            text.and_then(&parse)
                .ok_or_else(|| self.wrong(member, element, expected))
        };
        self.list(member, value)?.into_iter().map(one).collect()
    }

    fn table<'t>(
        &self,
        member: &str,
        value: TomlValue<'t>,
        expected: Expected,
    ) -> ParseResult<&'t DeTable<'t>> {
        match value.get_ref() {
            DeValue::Table(members) => Ok(members),
            _ => Err(self.wrong(member, value, expected)),
        }
    }

    fn wrong(&self, member: &str, value: TomlValue, expected: Expected) -> Mistake {
        let found = self.text.get(value.span()).unwrap_or_default();
        let kind = MistakeKind::WrongValue {
            member: member.to_owned(),
            found: found.to_owned(),
            expected,
        };
        self.mistake(value, kind)
    }

    fn unknown(&self, key: &TomlKey, table: TomlTable) -> Mistake {
        let name = key.get_ref().to_string();
        let kind = match &*name {
            // In TOML, whatever is written below a [[rule]] or a [[require]] belongs to that.
            "time_zone" | "roles_claim" => MistakeKind::BelowRule(name),
            _ => MistakeKind::UnknownMember { table, name },
        };
        self.mistake(key, kind)
    }

    fn mistake<T>(&self, at: &Spanned<T>, kind: MistakeKind) -> Mistake {
        Mistake {
            line: line(self.text, at.span().start),
            entry: self.entry.clone(),
            kind,
        }
    }
}

fn integer(value: TomlValue) -> Option<i64> {
    let number = value.get_ref().as_integer()?;
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What stands above the rules, and each rule, can be parsed alone. What only looks like a rule cannot.
    #[test]
    fn a_file_that_is_parsed_by_rule_has_the_same_rules_as_one_that_is_parsed_whole() {
        let rule = |name: &str| format!("[[rule]]\nname = '{name}'\nallow.both = 'a'\n");
        let (a, b) = (rule("a"), rule("b"));
        let c = "[[require]]\nname = 'a'\nthat.permission = 'p'\nmessage = 'm'\n";
        let spaced = |rule: &str| rule.replace("[[rule]]", "[[ rule ]]");
        let head = "time_zone = 'Europe/Berlin'\nroles_claim = 'r'\n\n";
        let list = "rule = [{ name = 'x', allow.both = 'a' }]\n";
        for (text, by_rule, whole) in [
            (String::new(), true, true),
            ("# no rule\n".into(), true, true),
            (format!("{a}{b}"), true, true),
            (format!("\r\n  {a}\t{b}"), true, true),
            (
                format!("{head}{a}\n  {b}[rule.when]\nrole = 'x'\n"),
                true,
                true,
            ),
            (spaced(&a), true, true),
            (format!("{a}{}", spaced(&b)), true, true),
            (list.into(), true, true),
            (
                format!("roles_claim = \"\"\"x\n[[rule]]\n\"\"\"\n{a}"),
                false,
                true,
            ),
            (format!("{}{b}", spaced(&a)), false, true),
            (format!("{list}{a}"), false, false),
            (format!("rule = []\n{a}"), false, false),
            (
                format!("{}{b}", a.replace("[[rule]]", "[rule]")),
                false,
                false,
            ),
            (format!("{a}{a}"), false, false),
            (format!("{a}[rule]\n"), false, false),
            (format!("{a}[other]\n{b}"), false, false),
            (format!("{a}time_zone = 'UTC'\n{b}"), false, false),
            (format!("{head}{c}{a}{b}"), true, true),
            (format!("{a}{c}{b}"), true, true),
            (format!("{a}{c}{c}"), false, false),
            (format!("require = []\n{a}"), false, true),
            (format!("require = []\n{c}"), false, false),
        ] {
            let (pieces, all) = (parse_by_rule(&text), parse_whole(&text));
            assert_eq!((pieces.is_some(), all.is_ok()), (by_rule, whole), "{text}");
            if let (Some(pieces), Ok(all)) = (pieces, all) {
                assert_eq!(format!("{pieces:?}"), format!("{all:?}"), "{text}");
            }
        }
    }

    fn with(rule: &str) -> ParseResult<ParsedFile> {
        parse(&format!("\n[[rule]]\nname = \"r\"\n{rule}\n"))
    }

    #[test]
    fn a_file_with_every_member_is_parsed() {
        let policy = parse(
            r#"
            time_zone = "Europe/Berlin"
            roles_claim = "https://mqtt.example/roles"

            [[rule]]
            name = "night watering"
            when.permission = "water"
            when.role = ["gardener", "owner"]
            when.claim = { name = "site", is = ["north", "south"] }
            when.client_id = "pump-*"
            when.time = "22:00-06:00"
            when.days = "Mon-Fri"
            when.network = ["10.0.0.0/8", "::1"]
            when.port = 8883
            when.certificate = "abababababababababababababababababababababababababababababababab"
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
    fn limits_are_accepted_where_they_do_what_they_say() {
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
    fn a_mistake_names_its_line_and_rule() {
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
            ("a = \n", 1, "not valid TOML"),
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

    #[test]
    fn a_mistake_in_a_requirement_names_its_line_and_the_requirement() {
        let good = "that.permission = \"p\"\n";
        let message = "message = \"m\"\n";
        let parsed = |text: &str| parse(&format!("\n[[require]]\nname = \"r\"\n{text}"));
        assert!(parsed(&format!("{good}{message}")).is_ok());
        let longest = format!("{good}message = \"{}\"", "ö".repeat(200));
        assert!(parsed(&longest).is_ok());
        for (text, line, part) in [
            (
                message.to_owned(),
                2,
                "it asks for nothing; add, for example, that.claim",
            ),
            (format!("that = {{}}\n{message}"), 2, "it asks for nothing"),
            (good.to_owned(), 2, "it has no message; add"),
            (
                format!("{good}message = \"\""),
                5,
                "message is '\"\"'; write one line of text",
            ),
            (
                format!("{good}message = \"a\\nb\""),
                5,
                "write one line of text",
            ),
            (
                format!("{good}message = \"a\\u2028b\""),
                5,
                "write one line of text",
            ),
            (format!("{good}message = 7"), 5, "write one line of text"),
            (
                format!("{good}message = \"{}\"", "x".repeat(201)),
                5,
                "of at most 200 characters",
            ),
            (
                format!("{good}{message}allow.both = \"x\""),
                6,
                "a requirement has name, when, that and message",
            ),
            (
                format!("that.rle = \"x\"\n{message}"),
                4,
                "there is no 'rle'; that has permission",
            ),
            (
                format!("when.rle = \"x\"\n{good}{message}"),
                4,
                "there is no 'rle'; when has permission",
            ),
            (
                format!("that.role = \"x\"\n{message}"),
                4,
                "role needs roles_claim",
            ),
            (
                format!("{good}{message}roles_claim = \"x\""),
                6,
                "write it above the first [[rule]]",
            ),
        ] {
            let error = parsed(&text).unwrap_err().to_string();
            let begin = format!("line {line}, requirement 'r': ");
            assert!(
                error.starts_with(&begin) && error.contains(part),
                "{text}: {error}"
            );
        }
        for (text, part) in [
            (
                "[require]\nname = \"x\"",
                "begin a requirement with [[require]]",
            ),
            (
                "[[require]]\nmessage = \"m\"",
                "this requirement has no name",
            ),
            ("require = [7]", "require is '7'; write [[require]]"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        let twice = format!("[[require]]\nname = \"r\"\n{good}{message}").repeat(2);
        let error = parse(&twice).unwrap_err().to_string();
        assert!(
            error.contains("another requirement has this name"),
            "{error}"
        );
    }

    #[test]
    fn the_first_mistake_of_each_rule_is_found() {
        let rule = |text: &str| format!("[[rule]]\nname = {text}\nallow.both = \"x\"\n");
        let text = [
            "roles_claim = \"r\"\n".to_owned(),
            rule("\"a\""),
            rule("\"b\"\nqos = 3"),
            rule("\"a\""),
            rule("\"c\"\nwhen.role = \"x\""),
            rule("\"d\"\nretain = 1\nqos = 9"),
        ];
        let lines = |text: &str| -> Vec<_> { mistakes(text).iter().map(|one| one.line).collect() };
        assert_eq!(lines(&text.concat()), [7, 9, 19]);
        assert_eq!(lines(&text[1]), [0; 0]);
        assert_eq!(lines("rule = []\n[[rule]]\n"), [2]);
        assert_eq!(lines("time_zone = 3\n"), [1]);
    }
}
