//! The time, as far as a message needs to know it.
//!
//! To ask for it to the nanosecond costs more than to look up who sends the message, so it is asked for
//! coarsely; and on 2.0 it is that of the loop's last round, which comes at least ten times a second
//! (src/mux_epoll.c). On 2.1 that would not do: it does not tick while its clock has been set back
//! (src/plugin_tick.c), so that all rights would seem to have ended, and built without websockets it may
//! sleep for long and read the messages that wake it before it ticks (src/mux_epoll.c).

use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::Unix;

/// What the coarse clock may be behind, in nanoseconds: a kernel's timer comes a hundred times a second
/// or more often (time(7), "The software clock, HZ, and jiffies").
const BEHIND: i64 = 10_000_000;

/// The wall clock as it stood at the kernel's last timer interrupt.
#[derive(Clone, Copy)]
pub struct Coarse(libc::timespec);

impl Coarse {
    /// Now, or what was now a moment ago.
    pub fn now() -> Self {
        let mut time = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: clock_gettime writes one timespec through a pointer to a live local. It knows this
        // clock since Linux 2.6.32.
        unsafe { libc::clock_gettime(libc::CLOCK_REALTIME_COARSE, &raw mut time) };
        Self(time)
    }

    /// With what it may be behind: rights end rather a hundredth of a second early than late.
    pub fn unix(self) -> Unix {
        let seconds = self.0.tv_sec + i64::from(self.0.tv_nsec + BEHIND >= 1_000_000_000);
        Unix(u64::try_from(seconds).unwrap_or(0))
    }

    /// In milliseconds since 1970.
    pub fn millis(self) -> u64 {
        u64::try_from(self.0.tv_sec * 1000 + self.0.tv_nsec / 1_000_000).unwrap_or(0)
    }
}

/// The time of the loop's last round, where that is recent; else the clock.
#[derive(Default)]
pub struct Round(AtomicU64);

impl Round {
    /// A round begins, or has taken long, in a loop that comes round soon.
    pub fn set(&self, now: Unix) {
        self.0.store(now.0, Ordering::Relaxed);
    }

    /// Now.
    #[inline]
    pub fn now(&self) -> Unix {
        match self.0.load(Ordering::Relaxed) {
            0 => Coarse::now().unix(),
            seconds => Unix(seconds),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_never_behind() {
        for _ in 0..1000 {
            let (before, coarse, after) = (Unix::now(), Coarse::now().unix(), Unix::now());
            assert!(before <= coarse && coarse <= after.plus(1));
        }
    }
}
