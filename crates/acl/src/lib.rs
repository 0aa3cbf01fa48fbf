//! Topic rules: what a client may publish and subscribe.
//!
//! This crate has no I/O, no threads and no clock. The time is an argument.
//!
//! | question | file |
//! |---|---|
//! | Does this filter match that topic? | [`rules::filter`], [`rules::matcher`] |
//! | Which of many rules decides about a topic? | [`rules::matcher`]; how it is made, [`rules::compile`] |
//! | What becomes of `%c` or `${sub}` in a rule? | [`rules::template`], [`rules::bind`] |
//! | What do the claims of a token grant? | [`claims`] |
//! | What can be wrong with a claim or a policy file? | [`claims::mistake`], [`policy_file::mistake`] |
//! | What does the policy file say? | [`policy_file`]; its syntax, [`policy_file::parse`] |
//! | What must a client have to sign in? | `policy_file/requirements.rs` |
//! | To whom does a rule apply, and when? | [`policy_file::conditions`], [`policy_file::schedule`] |
//! | What can rules ask about a client? | [`client`] |
//! | Which rules count for a client, and in which order? | [`rights`] |
//! | Which clients share compiled rules? | [`interner`] |
//! | Which messages were allowed a moment ago? | [`answer_cache`] |
//! | Why was something denied? | [`explanation`]; with places, and the rule that almost allowed it, [`diagnosis`] |
//! | What is suspicious in a policy file without a mistake? | [`lint`] |
//! | Where are the sentences for people? | [`messages`], and nowhere else |

#![warn(unreachable_pub)]

pub mod answer_cache;
pub mod claims;
pub mod client;
pub mod diagnosis;
pub mod explanation;
pub mod interner;
pub mod lint;
mod messages;
pub mod policy_file;
pub mod rights;
pub mod rules;
pub mod time;
