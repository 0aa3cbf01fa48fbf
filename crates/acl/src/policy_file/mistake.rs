//! What can be wrong with a policy file, as data. `messages.rs` has the sentences.

use crate::rules::{Effect, Malformed};

/// The first mistake in a policy file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Its line, counted from 1.
    pub line: usize,
    /// The rule or the requirement that it is in, if that is known.
    pub entry: Option<Entry>,
    /// What is wrong.
    pub kind: MistakeKind,
}

/// A rule or a requirement of a policy file, by its name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Entry {
    /// A rule.
    Rule(Box<str>),
    /// A requirement.
    Requirement(Box<str>),
}

/// What is wrong with a policy file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MistakeKind {
    /// The file is not TOML. This is what the parser says.
    NotToml(String),
    /// There is no such member.
    UnknownMember {
        /// The table that it is in.
        table: TomlTable,
        /// Its name.
        name: String,
    },
    /// A member of the whole file is written below a rule or a requirement. In TOML it then belongs to that.
    BelowRule(String),
    /// A member has a value that it cannot have.
    WrongValue {
        /// The member.
        member: String,
        /// The value, as written.
        found: String,
        /// What it can have.
        expected: Expected,
    },
    /// `rule` or `require` is not a list of tables.
    NotTables(TomlTable),
    /// A rule or a requirement has no name.
    NoName(TomlTable),
    /// A rule has the name of an earlier rule, or a requirement that of an earlier requirement.
    SameName(TomlTable),
    /// A requirement asks for nothing.
    RequiresNothing,
    /// A requirement has no message.
    NoMessage,
    /// A rule has `allow` and `deny`.
    AllowAndDeny,
    /// A rule has neither `allow` nor `deny`.
    NeitherAllowNorDeny,
    /// `allow` or `deny` has no filter.
    NoFilter(Effect),
    /// A filter cannot be granted.
    Filter {
        /// The filter.
        filter: String,
        /// Why not.
        problem: Malformed,
    },
    /// There is the condition `role`, and the file has no `roles_claim`.
    NoRolesClaim,
    /// A condition on a claim has `name` and `pointer`.
    NameAndPointer,
    /// A condition on a claim has `is` and `has`.
    IsAndHas,
    /// A rule has a limit that concerns only publishing, and the rule does not.
    NotPublishing(PublishLimit),
    /// A deny rule has `max_payload`. It reads as if the rule denied larger payloads, and it denies the others.
    DeniesSmallPayloads,
    /// A deny rule has `retain` and also applies to subscriptions. It would deny all of them.
    DeniesSubscriptions,
}

/// A limit that concerns only publishing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishLimit {
    /// `retain`.
    Retain,
    /// `max_payload`.
    MaxPayload,
}

/// A table of a policy file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TomlTable {
    /// The file itself.
    File,
    /// A rule.
    Rule,
    /// A requirement.
    Require,
    /// The conditions of a rule or a requirement, `when`.
    When,
    /// What a requirement asks for, `that`.
    That,
    /// A condition on a claim.
    Claim,
    /// The filters of a rule, `allow` or `deny`.
    Filters(Effect),
}

/// What a member can have as its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "messages.rs says what each is")]
pub enum Expected {
    Rule,
    Require,
    Text,
    Message,
    Texts,
    AtLeastOne,
    TimeZone,
    Conditions,
    Claim,
    Pointer,
    ClaimValue,
    Network,
    Port,
    Certificate,
    Times,
    Days,
    Filters,
    Filter,
    Qos,
    Retain,
    MaxPayload,
    Priority,
}
