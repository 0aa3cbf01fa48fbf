//! Reads the clocks. Everything else takes the time as an argument. (For messages the plugin reads the coarse clock
//! itself, because that takes unsafe code.)

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub use acl::time::Unix;

/// Returns the time of the wall clock. Before 1970 (a board without a battery) it is 0: a token that says when it
/// was issued is then from the future, and is refused with that reason.
pub fn now() -> Unix {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Unix(since.unwrap_or_default().as_secs())
}

/// Returns the time of the monotonic clock, which does not jump.
pub fn moment() -> Instant {
    Instant::now()
}

/// A time on the monotonic clock by which something must have ended.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

impl Deadline {
    /// Returns the deadline that is `limit` from now.
    pub fn after(limit: Duration) -> Self {
        Self(Instant::now() + limit)
    }

    /// Returns the time that is left, or zero if there is none.
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// Whether no time is left.
    pub fn has_passed(self) -> bool {
        self.remaining().is_zero()
    }
}
