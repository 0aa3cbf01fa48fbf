//! The worker pool.

pub use auth::workers::{FinishedJob, Job, Task, UnverifiedTokens};

#[path = "../../../crates/auth/src/workers/pool.rs"]
pub mod pool;
