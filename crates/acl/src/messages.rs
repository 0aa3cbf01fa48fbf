//! All sentences of this crate: why a client may not do something, and what is wrong with rules.
//!
//! A sentence is about the client ("its client ID is …"), or begins with what the caller names in front of it.

use std::fmt;

use crate::{
    explanation::{Explanation, Limit, RuleName},
    policy_file::UnusableRule,
    rules::{Malformed, UnusableValue, bind::ValueProblem, template::Placeholder},
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
            Self::Filter(filter) => write!(f, "its token's rule for {}", Quoted(filter)),
            Self::Token => f.write_str("its token"),
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
