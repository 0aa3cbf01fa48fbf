//! Why a client may not do something: the rule that decides, or the one that would allow it but for a limit.

use std::fmt;

use crate::{policy_file::Inapplicable, rules::bind::Unusable};
use input::text::Quoted;

/// Why a client may not do something.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Explanation {
    /// The policy file cannot be applied to the client, so it may do nothing.
    Inapplicable(Inapplicable),
    /// A rule denies it.
    Denied {
        /// The rule.
        by: RuleName,
    },
    /// A rule would allow it, but for a limit.
    BeyondLimit {
        /// The rule.
        of: RuleName,
        /// The limit.
        limit: Limit,
    },
    /// No rule covers it.
    NotCovered {
        /// A rule of the policy file that does not count for this client, by its name: a placeholder in it has no
        /// usable value.
        lost: Option<(Box<str>, Unusable)>,
    },
}

/// A rule, as its author knows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RuleName {
    /// The rule of the policy file with this name.
    Policy(Box<str>),
    /// The rule of the token for this filter.
    Filter(Box<str>),
    /// A rule of the token.
    Token,
}

/// What a rule does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// This QoS, if the broker tells it.
    Qos(Option<u8>),
    /// A message with or without the retain flag.
    Retain(bool),
    /// A payload of so many bytes.
    Payload {
        /// Its length.
        bytes: u32,
        /// The longest that the rule allows.
        most: u32,
    },
    /// The combination of these.
    Several,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inapplicable(why) => write!(f, "{why}"),
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
            Self::NotCovered { lost: None } => f.write_str("no rule applies"),
            Self::NotCovered {
                lost: Some((rule, why)),
            } => write!(
                f,
                "no rule applies (rule {} of the policy file is not for it: {why})",
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
