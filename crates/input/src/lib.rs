//! Reads texts that come from outside, and quotes them in messages.
//!
//! | question | file |
//! |---|---|
//! | Is this strict JSON, and where in it is a claim? | [`json`] |
//! | How is a foreign text shown in a log line? | [`text`] |
//! | Is this text a token, or is one in it? | [`recognise`] |
//! | Does this network contain that address? | [`network`] |
//! | Where are the sentences for people? | [`messages`], and nowhere else |

#![warn(unreachable_pub)]

pub mod json;
mod messages;
pub mod network;
pub mod recognise;
pub mod text;
