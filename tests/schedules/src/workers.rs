//! The worker pool.

pub use auth::workers::{FinishedJob, Job, JobResult, Login, Task, UnverifiedTokens};

#[path = "../../../crates/auth/src/workers/pool.rs"]
pub mod pool;
