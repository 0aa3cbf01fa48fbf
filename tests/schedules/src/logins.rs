//! The worker pool.

pub use auth::logins::{Claimant, Done, Errand, Evidence, Job, known, shares};

#[path = "../../../crates/auth/src/logins/pool.rs"]
pub mod pool;
