//! Reads the clocks. Everything else takes the time as an argument. (For messages the plugin reads the coarse clock by
//! itself, because that takes unsafe code.)

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub use acl::time::Unix;

/// Returns the time of the wall clock. Before 1970 (a board without a battery) it is 0: a token that says when it
/// was issued is then from the future, and is refused with that reason.
pub fn now() -> Unix {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Unix(since.unwrap_or_default().as_secs())
}

/// The monotonic clock, for how long ago something was; it does not jump.
pub fn moment() -> Instant {
    Instant::now()
}

/// A point on the monotonic clock by which something must have ended.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

impl Deadline {
    /// `limit` from now.
    pub fn after(limit: Duration) -> Self {
        Self(Instant::now() + limit)
    }

    /// What is left, zero when it has passed.
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// Whether nothing is left.
    pub fn has_passed(self) -> bool {
        self.remaining().is_zero()
    }
}
