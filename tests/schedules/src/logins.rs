//! Sign-ins.

pub use mosquitto_auth0::logins::{Claimant, Done, Errand, Evidence, Job, known, shares};

#[path = "../../../src/logins/pool.rs"]
pub mod pool;
