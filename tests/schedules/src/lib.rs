//! The plugin's two sources that wait for other threads, the very files, compiled against a std in
//! which a test decides which thread goes on. What they use of the plugin is the plugin's.

// Their own tests want the real std, and clippy would compile them.
#![cfg(not(test))]

extern crate scheduled_std as std;

pub use auth::{auth0, clock, config, log, refusal, secret, sessions};

pub mod keys;
pub mod logins;
#[path = "../../../crates/auth/src/threads.rs"]
pub mod threads;
