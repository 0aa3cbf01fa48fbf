//! The only place that reads the time, but for [`crate::broker::time`], which needs unsafe code for it;
//! everything else takes it as an argument.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Seconds since 1970-01-01T00:00:00Z, what JWT calls a NumericDate (RFC 7519, section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unix(pub u64);

impl Unix {
    /// The wall clock. Before 1970 (a board without a battery) it is 0: a token that says when it
    /// was issued is then from the future, and is refused with that reason.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self(since.unwrap_or_default().as_secs())
    }

    /// This moment, `seconds` later.
    pub fn plus(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds))
    }

    /// What this moment is called after the clock was set by this many seconds. (The end of time stays that.)
    pub fn moved(self, by: i64) -> Self {
        match self.0 {
            u64::MAX => self,
            seconds => Self(seconds.saturating_add_signed(by)),
        }
    }
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
