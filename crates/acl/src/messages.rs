//! All sentences of this crate: why a client may not do something, and what is wrong with rules.
//!
//! A sentence is about the client ("its client ID is …"), or begins with what the caller names in front of it.

use std::fmt;

use crate::{
    claims::{
        ClaimMistake, ClaimsError, FilterProblem, JsonType, PatternProblem, RuleMember, RuleProblem,
    },
    diagnosis::{Obstacle, PlacedRule, RulePlace, UnmetCondition},
    explanation::{Explanation, Limit, RuleName},
    policy_file::{
        Entry, Expected, Mistake, MistakeKind, PolicySize, PublishLimit, TomlTable,
        UnmetRequirement, UnusableRule,
        conditions::{Condition, Test},
    },
    rules::{Actions, Effect, Malformed, Placeholder, UnusableValue, ValueProblem},
};
use input::text::Quoted;

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRights(unusable) => write!(f, "{unusable}"),
            Self::Denied { by } => write!(f, "{by} denies it"),
            Self::BeyondLimit { of, limit } => match limit {
                Limit::Qos(None) => write!(f, "{of} allows it, but with another QoS"),
                Limit::Qos(Some(qos)) => write!(f, "{of} allows it, but not with QoS {qos}"),
                Limit::Retain(true) => write!(f, "{of} allows it, but not with the retain flag"),
                Limit::Retain(false) => {
                    write!(f, "{of} allows it, but not without the retain flag")
                }
                Limit::Payload { bytes, most } => write!(
                    f,
                    "its payload has {bytes} bytes, more than the {most} that {of} allows"
                ),
                Limit::Several => write!(
                    f,
                    "{of} allows it, but with another QoS, retain flag or payload"
                ),
            },
            Self::NotCovered { skipped: None } => f.write_str("no rule applies"),
            Self::NotCovered {
                skipped: Some(UnusableRule { rule, value }),
            } => write!(
                f,
                "no rule applies (rule {} of the policy file is skipped for this client: {value})",
                Quoted(rule)
            ),
        }
    }
}

impl fmt::Display for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policy(name) => write!(f, "rule {} of the policy file", Quoted(name)),
            Self::Requirement(name) => {
                write!(f, "requirement {} of the policy file", Quoted(name))
            }
            Self::Filter(filter) => write!(f, "its token's rule for {}", Quoted(filter)),
            Self::Token => f.write_str("its token"),
        }
    }
}

impl fmt::Display for PlacedRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            RulePlace::Policy { name, line } => write!(f, "rule {} (line {line})", Quoted(name))?,
            RulePlace::Claim { name, number } => {
                write!(f, "entry {number} of its claim {}", Quoted(name))?;
            }
        }
        let does = match self.effect {
            Effect::Allow => "allows",
            Effect::Deny => "denies",
        };
        write!(f, ", which {does} {}", Quoted(&self.filter))
    }
}

/// What stands in the way of a rule that the caller names.
impl fmt::Display for Obstacle {
    // Longer than a screen, because it has one sentence for each obstacle.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Condition(condition) => write!(f, "{condition}"),
            Self::Closed => f.write_str("it applies at other times only"),
            Self::Value(value) => write!(f, "{value}"),
            Self::Action(Actions::Publish) => {
                f.write_str("it is about publishing, not subscribing")
            }
            Self::Action(_) => f.write_str("it is about subscribing, not publishing"),
            Self::Filter {
                filter,
                level,
                asked,
                granted,
            } => match (asked, granted) {
                (Some(asked), Some(granted)) => write!(
                    f,
                    "level {level} is {}, and {} in its filter {}",
                    Quoted(asked),
                    Quoted(granted),
                    Quoted(filter)
                ),
                (None, _) => write!(f, "its filter {} has more levels", Quoted(filter)),
                (_, None) => write!(
                    f,
                    "its filter {} has no level {level}, and does not end with `#`",
                    Quoted(filter)
                ),
            },
            Self::Wider { filter } => {
                write!(f, "the subscription asks for more than {}", Quoted(filter))
            }
            Self::OnlyExactly => {
                f.write_str("it allows a subscription to exactly its filter, and to no other")
            }
            Self::Limit(Limit::Qos(Some(qos))) => write!(f, "it does not allow QoS {qos}"),
            Self::Limit(Limit::Retain(true)) => f.write_str("it does not allow the retain flag"),
            Self::Limit(Limit::Retain(false)) => f.write_str("it requires the retain flag"),
            Self::Limit(Limit::Payload { bytes, most }) => write!(
                f,
                "the payload has {bytes} bytes, and it allows at most {most}"
            ),
            Self::Limit(Limit::Qos(None) | Limit::Several) => {
                f.write_str("it does not allow this QoS, retain flag or payload")
            }
            Self::DeniedBefore(rule) => write!(f, "{rule}, comes first, and denies"),
        }
    }
}

impl fmt::Display for UnmetCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, any: &[String]| {
            for (i, one) in any.iter().enumerate() {
                let or = if i == 0 { "" } else { " or " };
                write!(f, "{or}{}", Quoted(one))?;
            }
            Ok(())
        };
        match &self.0 {
            Condition::Permission(any) => {
                f.write_str("its claim 'permissions' does not have ")?;
                list(f, any)
            }
            Condition::Role { claim, any } => {
                write!(f, "its claim {} does not have ", Quoted(claim.text()))?;
                list(f, any)
            }
            Condition::Claim(any) => {
                for (i, claim) in any.iter().enumerate() {
                    let and = if i == 0 { "" } else { ", and " };
                    let (verb, value) = match &claim.test {
                        Test::Is(value) => ("is not", value),
                        Test::Has(value) => ("does not have", value),
                    };
                    let name = Quoted(claim.place.text());
                    write!(
                        f,
                        "{and}its claim {name} {verb} {}",
                        Quoted(&value.to_string())
                    )?;
                }
                Ok(())
            }
            Condition::ClientId(any) => {
                f.write_str("its client ID is not like ")?;
                list(f, any)
            }
            Condition::ClientIdPattern(pattern) => {
                write!(f, "its client ID does not match {}", Quoted(pattern.text()))
            }
            Condition::UsernamePattern(pattern) => {
                write!(f, "its user name does not match {}", Quoted(pattern.text()))
            }
            Condition::Network(_) => f.write_str("its address is in none of the listed networks"),
            Condition::Port(ports) => {
                let ports: Vec<_> = ports.iter().map(ToString::to_string).collect();
                write!(f, "it did not connect to port {}", ports.join(" or "))
            }
            Condition::Certificate(_) => f.write_str("it has none of the listed certificates"),
        }
    }
}

impl fmt::Display for UnusableRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rule = Quoted(&self.rule);
        write!(f, "rule {rule} of the policy file: {}", self.value)
    }
}

impl fmt::Display for UnusableValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.placeholder {
            Placeholder::ClientId => f.write_str("its client ID")?,
            Placeholder::Username => f.write_str("its user name")?,
            Placeholder::Claim(name) => write!(f, "its claim {}", Quoted(name))?,
            Placeholder::EachOf(name) => write!(f, "(an element of) its claim {}", Quoted(name))?,
        }
        match &self.problem {
            ValueProblem::Missing => f.write_str(" is missing")?,
            ValueProblem::Type => f.write_str(" is neither a string nor a whole number")?,
            ValueProblem::NotAnArray => f.write_str(" is not an array")?,
            ValueProblem::Empty => f.write_str(" is empty")?,
            ValueProblem::ForbiddenCharacter(value) => write!(
                f,
                " is {}, which contains `+`, `#`, `/` or a control character",
                Quoted(value)
            )?,
            ValueProblem::LeadingDollar(value) => write!(
                f,
                " is {}, and a topic that begins with `$` belongs to the broker",
                Quoted(value)
            )?,
        }
        write!(f, ", so it cannot replace {}", self.placeholder)
    }
}

impl fmt::Display for Placeholder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClientId => f.write_str("%c"),
            Self::Username => f.write_str("%u"),
            Self::Claim(name) => write!(f, "${{{name}}}"),
            Self::EachOf(name) => write!(f, "${{{name}[*]}}"),
        }
    }
}

/// What is wrong with the filter that the caller names.
impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "is empty",
            Self::TooLong => "is longer than 65535 bytes",
            Self::ControlCharacter => "contains a control character",
            Self::MultiLevelNotLast => "has a `#` that is not the whole last level",
            Self::SingleLevelNotAlone => "has a `+` that is not a whole level",
            Self::TooManyLevels => "has more than 200 levels",
            Self::SharedSubscription => {
                "starts with `$share/`; grant the filter behind the group's name"
            }
            Self::OpenPlaceholder => "has a `${` without a `}`",
            Self::NamelessPlaceholder => "has a placeholder that names no claim",
            Self::TwoLists => "has more than one placeholder with `[*]`",
        })
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}", self.line)?;
        if let Some(entry) = &self.entry {
            write!(f, ", {entry}")?;
        }
        write!(f, ": {}", self.kind)
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(name) => write!(f, "rule {}", Quoted(name)),
            Self::Requirement(name) => write!(f, "requirement {}", Quoted(name)),
        }
    }
}

impl fmt::Display for PolicySize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rules", self.rules)?;
        match self.requirements {
            0 => Ok(()),
            many => write!(f, " and {many} requirements"),
        }
    }
}

impl fmt::Display for UnmetRequirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Quoted(&self.name);
        write!(f, "it does not meet the requirement {name}, because ")?;
        match &self.condition {
            Some(condition) => write!(f, "{condition}")?,
            None => f.write_str("it allows other times only")?,
        }
        // The parser lets no line break in.
        write!(f, ": {}", self.message)
    }
}

impl fmt::Display for MistakeKind {
    // Longer than a screen, because it has one sentence for each mistake.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotToml(message) => return write!(f, "this is not valid TOML ({message})"),
            Self::UnknownMember { table, name } => {
                return write!(f, "there is no {}; {}", Quoted(name), members(*table));
            }
            Self::BelowRule(member) => {
                return write!(
                    f,
                    "{member} is for the whole file; write it above the first [[rule]]"
                );
            }
            Self::WrongValue {
                member,
                found,
                expected,
            } => return write!(f, "{member} is {}; write {expected}", Quoted(found)),
            Self::NotTables(TomlTable::Require) => "begin a requirement with [[require]]",
            Self::NotTables(_) => "begin a rule with [[rule]]",
            Self::NoName(TomlTable::Require) => {
                "this requirement has no name; give it one, because log lines show it"
            }
            Self::NoName(_) => "this rule has no name; give it one, because log lines show it",
            Self::SameName(TomlTable::Require) => {
                "another requirement has this name; log lines name requirements, so give each its own"
            }
            Self::SameName(_) => {
                "another rule has this name; log lines name rules, so give each its own"
            }
            Self::RequiresNothing => {
                "it asks for nothing; add, for example, that.claim = { name = \"email_verified\", is = true }"
            }
            Self::NoMessage => {
                "it has no message; add what a device is told that does not meet it, as in message = \"confirm your \
                 e-mail address first\""
            }
            Self::AllowAndDeny => "it has allow and deny; make two rules of it",
            Self::NeitherAllowNorDeny => {
                "it neither allows nor denies; add, for example, allow = { publish = [\"a/b\"] }"
            }
            Self::NoFilter(effect) => {
                let word = effect.keyword();
                return write!(f, "{word} names no topic; it has publish, subscribe and both");
            }
            Self::Filter { filter, problem } => {
                return write!(f, "the filter {} {problem}", Quoted(filter));
            }
            Self::NoRolesClaim => {
                "role needs roles_claim, the claim that holds the roles, above the first [[rule]]"
            }
            Self::NameAndPointer => "claim has name and pointer; leave one of the two out",
            Self::IsAndHas => "claim has is and has; make two conditions or two rules of it",
            Self::NotPublishing(limit) => {
                return write!(
                    f,
                    "{} is about publishing, and the rule is not; leave it out",
                    match limit {
                        PublishLimit::Retain => "retain",
                        PublishLimit::MaxPayload => "max_payload",
                    }
                );
            }
            Self::DeniesSmallPayloads => {
                "max_payload would deny what is not larger; write a rule that allows with max_payload instead: \
                 what is larger is then denied, unless another rule allows it"
            }
            Self::DeniesSubscriptions => {
                "retain is about publishing, and the rule would deny every subscription; write \
                 deny = { publish = ... }, and another rule for subscriptions"
            }
        })
    }
}

/// Says which members a table has.
fn members(table: TomlTable) -> &'static str {
    match table {
        TomlTable::File => "a policy file has time_zone, roles_claim, [[rule]] and [[require]]",
        TomlTable::Rule => {
            "a rule has name, when, allow or deny, qos, retain, max_payload and priority"
        }
        TomlTable::Require => "a requirement has name, when, that and message",
        TomlTable::When => {
            "when has permission, role, claim, client_id, time, days, network, port and certificate"
        }
        TomlTable::That => {
            "that has permission, role, claim, client_id, time, days, network, port and certificate"
        }
        TomlTable::Claim => "claim has name or pointer, is or has",
        TomlTable::Filters(Effect::Allow) => "allow has publish, subscribe and both",
        TomlTable::Filters(Effect::Deny) => "deny has publish, subscribe and both",
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rule => "[[rule]]",
            Self::Require => "[[require]]",
            Self::Message => {
                "one line of text in quotes, of at most 200 characters and without control characters"
            }
            Self::Text => "text in quotes",
            Self::Texts => "text in quotes, or a list of texts",
            Self::AtLeastOne => "at least one, or leave it out",
            Self::TimeZone => "the name of a time zone, as in Europe/Berlin",
            Self::Conditions => "a table, as in { role = \"gardener\" }",
            Self::Claim => "a table, as in { name = \"site\", is = \"north\" }",
            Self::Pointer => "a JSON pointer, as in \"/app/site\"",
            Self::ClaimValue => "text in quotes, a whole number, true or false",
            Self::Network => {
                "an address and the length of its network, as in 10.0.0.0/8 (no bit set behind that length, \
                 and not IPv4 and IPv6 in one)"
            }
            Self::Port => "a port, as in 8883",
            Self::Certificate => {
                "a SHA-256 fingerprint, 64 hexadecimal digits with or without colons"
            }
            Self::Times => "two times of day, as in \"22:00-06:00\"",
            Self::Days => "days of the week, as in \"Mon-Fri\" or \"Sat,Sun\"",
            Self::Filters => "a table, as in { publish = [\"a/b\"] }",
            Self::Filter => "a topic filter in quotes",
            Self::Qos => "0, 1, 2 or a list of these",
            Self::Retain => "true or false",
            Self::MaxPayload => "a number of bytes",
            Self::Priority => "a whole number; the highest comes first",
        })
    }
}

impl fmt::Display for ClaimsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "of its claim {}, {}", Quoted(&self.claim), self.mistake)
    }
}

impl fmt::Display for ClaimMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFilters { member, found } => match member {
                None => write!(f, "it is {found}, not an array of topic filters"),
                Some(name) => write!(
                    f,
                    "its member {name} is {found}, not an array of topic filters"
                ),
            },
            Self::NotAString {
                member,
                index,
                found,
            } => match member {
                None => write!(f, "its element {index} is {found}, not a string"),
                Some(name) => write!(
                    f,
                    "element {index} of its member {name} is {found}, not a string"
                ),
            },
            Self::BadJson(why) => write!(
                f,
                "it is a text that looks like a list or an object, and it {why}"
            ),
            Self::ListAsText => f.write_str(
                "it is a text that looks like a list; write a list, or entries with spaces between them",
            ),
            Self::NoDirection(name) => write!(
                f,
                "it has a member {}; write publish, subscribe or all",
                Quoted(name)
            ),
            Self::Filter {
                entry,
                is_permission,
                problem,
            } => {
                let what = match is_permission {
                    true => "filter in",
                    false => "entry",
                };
                write!(f, "the {what} {} {problem}", Quoted(entry))
            }
            Self::Verb { filter, verb } => write!(
                f,
                "the entry {} begins with `{verb}:`, which counts in permissions and scopes; here write \
                 {{\"publish\": [...], \"subscribe\": [...]}}",
                Quoted(filter)
            ),
            Self::Rule { index, problem } => write!(f, "its element {index} {problem}"),
        }
    }
}

impl fmt::Display for FilterProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ListMark(mark) => write!(
                f,
                "begins with `{mark}`: it is part of a list that was written as text"
            ),
            Self::Placeholder(mark) => write!(
                f,
                "contains the placeholder `{mark}`, but claim_placeholders is false; set it to true, or write the \
                 value"
            ),
            Self::Malformed(why) => write!(f, "{why}"),
        }
    }
}

impl fmt::Display for RuleProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongValue {
                member,
                found,
                value,
            } => {
                match value {
                    Some(value) => write!(f, "has {member} {}", Quoted(value))?,
                    None => write!(f, "has {member} {found}")?,
                }
                f.write_str(match member {
                    RuleMember::Permission => "; write allow or deny",
                    RuleMember::Action => "; write publish, subscribe or all",
                    RuleMember::Topic => "; write a topic filter",
                    RuleMember::Topics => "; write an array of topic filters",
                    RuleMember::Qos => "; write 0, 1, 2 or an array of these",
                    RuleMember::Retain => "; write true, false or all",
                    RuleMember::IpAddr => "; write an address or a network, such as 10.0.0.0/8",
                    RuleMember::ClientIdRe | RuleMember::UsernameRe => {
                        "; write a regular expression"
                    }
                })
            }
            Self::UnknownMember(name) => write!(
                f,
                "has a member {}; a rule has permission, action, topic, qos, retain, ipaddr, clientid_re and \
                 username_re",
                Quoted(name)
            ),
            Self::Pattern {
                member,
                pattern,
                problem,
            } => {
                let pattern = Quoted(pattern);
                write!(
                    f,
                    "has {member} {pattern}, which cannot be used as a regular expression: "
                )?;
                match problem {
                    PatternProblem::TooLong(most) => write!(f, "it has more than {most} bytes"),
                    PatternProblem::Invalid(why) => write!(f, "{}", Quoted(why)),
                }
            }
            Self::TopicAndTopics => f.write_str("has topic and topics; leave one of the two out"),
            Self::Missing(member) => write!(f, "has no {member}"),
        }
    }
}

impl fmt::Display for RuleMember {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Permission => "permission",
            Self::Action => "action",
            Self::Topic => "topic",
            Self::Topics => "topics",
            Self::Qos => "qos",
            Self::Retain => "retain",
            Self::IpAddr => "ipaddr",
            Self::ClientIdRe => "clientid_re",
            Self::UsernameRe => "username_re",
        })
    }
}

impl fmt::Display for JsonType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Null => "null",
            Self::Boolean => "a boolean",
            Self::Number => "a number",
            Self::String => "a string",
            Self::Array => "an array",
            Self::Object => "an object",
        })
    }
}
