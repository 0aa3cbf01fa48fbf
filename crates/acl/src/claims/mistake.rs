//! What can be wrong with the claims of a token, as data. `messages.rs` has the sentences.

use serde_json::Value;

use super::pattern::PatternProblem;
use crate::rules::Malformed;
use input::json::JsonError;

/// The first mistake in the claims of a token.
///
/// One mistake refuses the whole token: a device that does nothing is noticed sooner than one that does only a part.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClaimsError {
    /// The claim.
    pub claim: String,
    /// What is wrong with it.
    pub mistake: ClaimMistake,
}

/// What is wrong with a claim.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ClaimMistake {
    /// It is not a list of filters.
    NotFilters {
        /// The member of the claim that this is about, instead of the whole claim.
        member: Option<String>,
        /// What it is.
        found: JsonType,
    },
    /// An element of a list is not a string.
    NotAString {
        /// The member of the claim that has the list, instead of the whole claim.
        member: Option<String>,
        /// The number of the element, counted from 0.
        index: usize,
        /// What it is.
        found: JsonType,
    },
    /// A text looks like JSON, and is not.
    BadJson(JsonError),
    /// A list of permissions is written as text.
    ListAsText,
    /// The object has a member that is not a direction.
    NoDirection(String),
    /// A filter cannot be granted.
    Filter {
        /// The entry that has the filter.
        entry: String,
        /// Whether the entry is a permission, which is a verb and a filter.
        is_permission: bool,
        /// What is wrong with the filter.
        problem: FilterProblem,
    },
    /// A filter begins with the verb of a permission.
    Verb {
        /// The filter.
        filter: String,
        /// The verb.
        verb: String,
    },
    /// Something is wrong with a rule.
    Rule {
        /// The number of the rule in the list, counted from 0.
        index: usize,
        /// What is wrong.
        problem: RuleProblem,
    },
}

/// Why a filter in a token cannot be granted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FilterProblem {
    /// It begins with this mark of a list that was written as text.
    ListMark(char),
    /// It contains this placeholder, or its beginning, and the option `claim_placeholders` is off.
    Placeholder(&'static str),
    /// It is not a valid filter.
    Malformed(Malformed),
}

/// What is wrong with a rule in a token.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RuleProblem {
    /// A member has a value that it cannot have.
    WrongValue {
        /// The member.
        member: RuleMember,
        /// What it is.
        found: JsonType,
        /// The value, unless it is an array or an object.
        value: Option<String>,
    },
    /// A member is no regular expression that can be used.
    Pattern {
        /// The member.
        member: RuleMember,
        /// Its value.
        pattern: String,
        /// What is wrong with it.
        problem: PatternProblem,
    },
    /// It has a member that rules do not have.
    UnknownMember(String),
    /// It has `topic` and `topics`.
    TopicAndTopics,
    /// It lacks a member.
    Missing(RuleMember),
}

/// A member of a rule in a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RuleMember {
    /// `permission`.
    Permission,
    /// `action`.
    Action,
    /// `topic`.
    Topic,
    /// `topics`.
    Topics,
    /// `qos`.
    Qos,
    /// `retain`.
    Retain,
    /// `ipaddr`.
    IpAddr,
    /// `clientid_re`.
    ClientIdRe,
    /// `username_re`.
    UsernameRe,
}

/// The type of a JSON value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "these are JSON's own names")]
pub enum JsonType {
    Null,
    Boolean,
    Number,
    String,
    Array,
    Object,
}

impl JsonType {
    pub(crate) fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(_) => Self::Boolean,
            Value::Number(_) => Self::Number,
            Value::String(_) => Self::String,
            Value::Array(_) => Self::Array,
            Value::Object(_) => Self::Object,
        }
    }
}
