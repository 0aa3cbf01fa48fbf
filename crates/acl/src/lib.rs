//! Topic rules: what a client may publish and subscribe.
//!
//! This crate has no I/O, no threads and no clock. The time is an argument.
//!
//! | question | file |
//! |---|---|
//! | Does this filter match that topic? | [`rules::filter`] |
//! | Which of many rules decides about a topic? | [`rules::matcher`]; how it is made, [`rules::compile`] |
//! | What becomes of `%c` or `${sub}` in a rule? | [`rules::template`], [`rules::bind`] |
//! | What do the claims of a token grant? | [`claims`] |
//! | What does the policy file say? | [`policy_file`]; its syntax, [`policy_file::parse`] |
//! | To whom does a rule apply, and when? | [`policy_file::conditions`], [`policy_file::schedule`] |
//! | Who shares compiled rules with others? | [`interner`] |
//! | Which of the two counts, claims or policy file? | [`rights`] |
//! | Why was something denied? | [`explanation`] |

pub mod claims;
pub mod explanation;
pub mod interner;
pub mod policy_file;
pub mod rights;
pub mod rules;
pub mod time;
