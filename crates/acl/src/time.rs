//! A point in time. Whoever has a clock makes one.

/// Seconds since 1970-01-01T00:00:00Z, what JWT calls a NumericDate (RFC 7519, section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unix(pub u64);

impl Unix {
    /// Returns the time `seconds` later.
    pub fn plus(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds))
    }

    /// Returns what this time is called after the clock was set by this many seconds. (The end of time stays that.)
    pub fn moved(self, by: i64) -> Self {
        match self.0 {
            u64::MAX => self,
            seconds => Self(seconds.saturating_add_signed(by)),
        }
    }
}
