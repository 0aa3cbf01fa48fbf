//! The two source files of the plugin that wait for other threads, compiled with a std in which a test
//! decides which thread runs. Everything else that they use is the plugin's own code.

// Their unit tests need the real std, and clippy would compile them.
#![cfg(not(test))]

extern crate scheduled_std as std;

pub use auth::{
    account, auth0, client, clock, config, limits, log, metrics, refusal, secret, sessions, sign_in,
};

pub mod jwt;
#[path = "../../../crates/auth/src/threads.rs"]
pub mod threads;
pub mod workers;
