//! Why a client may not do something: the rule that decides, or the one that would allow it but for a limit.

use crate::policy_file::UnusableRule;

/// Why a client may not do something.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Explanation {
    /// This deny rule of the policy file cannot be applied to the client, so the client may do nothing.
    NoRights(UnusableRule),
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
        /// A rule of the policy file that is skipped for this client.
        skipped: Option<UnusableRule>,
    },
}

impl Explanation {
    /// Returns the rule that decides, if there is one.
    pub fn rule(&self) -> Option<RuleName> {
        match self {
            Self::NoRights(unusable) => Some(RuleName::Policy(unusable.rule.clone())),
            Self::Denied { by: rule } | Self::BeyondLimit { of: rule, .. } => Some(rule.clone()),
            Self::NotCovered { .. } => None,
        }
    }
}

/// A rule, as its author knows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RuleName {
    /// The rule of the policy file with this name.
    Policy(Box<str>),
    /// The requirement of the policy file with this name, which decides about sign-ins.
    Requirement(Box<str>),
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
