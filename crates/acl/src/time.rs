//! A point in time. The caller reads the clock.

/// Seconds since 1970-01-01T00:00:00Z, what JWT calls a NumericDate (RFC 7519, section 2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Unix(pub u64);

impl Unix {
    /// Returns the time `seconds` later.
    pub fn plus(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds))
    }

    /// Returns this time by a clock that was set forward by so many seconds. The end of time stays the end of time.
    pub fn moved(self, by: i64) -> Self {
        match self.0 {
            u64::MAX => self,
            seconds => Self(seconds.saturating_add_signed(by)),
        }
    }
}
