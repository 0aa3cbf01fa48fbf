//! Reads texts that come from outside, and quotes them in messages.
//!
//! | question | file |
//! |---|---|
//! | Is this strict JSON, and where in it is a claim? | [`json`] |
//! | How is a foreign text shown in a log line? | [`text`] |
//! | Is this text a token, or is one in it? | [`recognise`] |
//! | Does this network hold that address? | [`network`] |

pub mod json;
pub mod network;
pub mod recognise;
pub mod text;
