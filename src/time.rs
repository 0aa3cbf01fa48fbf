//! The plugin's time: the wall clock's time when the plugin was loaded, continued by the monotonic clock.
//!
//! The wall clock may be set: by an operator, by NTP, by a gateway that starts without a battery. The plugin follows it
//! at the next tick or CONNECT, and moves the end of every right with it. So a right lasts for as long as it was
//! granted, however the clock is set meanwhile. A machine that sleeps sets no clock.
//!
//! The time is needed for each message, too. To read it to the nanosecond would cost more than to look the sender up,
//! so the coarse clock is read. On 2.0 the time of one of the last rounds of the broker's loop is used, of which there
//! are at least ten a second (src/mux_epoll.c). On 2.1 the clock is read for each message, so that rights end even if
//! something keeps the broker from ticking.

use std::sync::{
    Once,
    atomic::{AtomicI64, Ordering},
};

use auth::clock::Unix;

/// A second, in nanoseconds.
const SECOND: i64 = 1_000_000_000;

/// How far the coarse clock may be behind, in nanoseconds. The kernel's timer comes a hundred times a second or more
/// often (time(7), "The software clock, HZ, and jiffies").
const BEHIND: i64 = 10_000_000;

/// One wall clock for all instances of the plugin. Only the broker's thread writes to it.
static WALL: WallOffset = WallOffset::new();

/// The same for the clock that goes on while the machine sleeps. It tells sleep from a wall clock that was set,
/// because a token's time runs while the machine sleeps.
static SINCE_BOOT: WallOffset = WallOffset::new();

/// Reads the wall clock for the first time. Does nothing when called again.
pub fn start() {
    static START: Once = Once::new();
    START.call_once(|| {
        let ahead = std::iter::repeat_with(read_ahead).flatten().next();
        let (ahead, of_boot) = ahead.unwrap_or_default();
        WALL.set(ahead);
        SINCE_BOOT.set(of_boot);
    });
}

/// Returns the current time.
pub fn now() -> Unix {
    Coarse::now().unix()
}

/// Follows the wall clock if it was set. Returns by how many seconds, or 0.
pub fn follow() -> i64 {
    read_ahead().map_or(0, |(ahead, of_boot)| {
        WALL.follow(ahead);
        SINCE_BOOT.follow(of_boot)
    })
}

/// Returns how far the wall clock is ahead of the monotonic one, and of the one that goes on while the machine sleeps,
/// in nanoseconds. Returns `None` if reading the clocks took too long for that.
fn read_ahead() -> Option<(i64, i64)> {
    let nanos = |clock| {
        let time = read(clock);
        time.tv_sec * SECOND + time.tv_nsec
    };
    let before = nanos(libc::CLOCK_MONOTONIC);
    let boot = nanos(libc::CLOCK_BOOTTIME);
    let wall = nanos(libc::CLOCK_REALTIME);
    let after = nanos(libc::CLOCK_MONOTONIC);
    (after - before < SECOND / 10).then_some((wall - before, wall - boot))
}

#[inline]
fn read(clock: libc::clockid_t) -> libc::timespec {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: clock_gettime writes one timespec through a pointer to a live local. Linux has all four clocks since
    // 2.6.39.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time
}

/// How far the wall clock is ahead of another clock. What the coarse clock may be behind is added, so that rights
/// rather end a hundredth of a second early than late.
struct WallOffset {
    seconds: AtomicI64,
    /// The rest, less than a second.
    nanos: AtomicI64,
}

impl WallOffset {
    const fn new() -> Self {
        Self {
            seconds: AtomicI64::new(0),
            nanos: AtomicI64::new(0),
        }
    }

    fn set(&self, ahead: i64) {
        let ahead = ahead + BEHIND;
        let seconds = ahead.div_euclid(SECOND);
        self.seconds.store(seconds, Ordering::Relaxed);
        self.nanos
            .store(ahead.rem_euclid(SECOND), Ordering::Relaxed);
    }

    /// Follows in whole seconds, because the rights that move with it end at whole seconds. So none of them drifts,
    /// however often the clock is set. A change of less than a second is ignored.
    fn follow(&self, ahead: i64) -> i64 {
        let (seconds, nanos) = (&self.seconds, self.nanos.load(Ordering::Relaxed));
        let set = ahead + BEHIND - nanos - seconds.load(Ordering::Relaxed) * SECOND;
        if set.abs() < SECOND {
            return 0;
        }
        let by = (set + set.signum() * SECOND / 2) / SECOND;
        seconds.fetch_add(by, Ordering::Relaxed);
        by
    }

    #[inline]
    fn unix(&self, monotonic: libc::timespec) -> Unix {
        let nanos = monotonic.tv_nsec + self.nanos.load(Ordering::Relaxed);
        let seconds = monotonic.tv_sec + self.seconds.load(Ordering::Relaxed);
        let seconds = seconds + i64::from(nanos >= SECOND);
        Unix(u64::try_from(seconds).unwrap_or(0))
    }
}

/// The monotonic clock as it stood at the kernel's last timer interrupt.
#[derive(Clone, Copy)]
pub struct Coarse(libc::timespec);

impl Coarse {
    /// Returns the current time, or that of a moment ago.
    #[inline]
    pub fn now() -> Self {
        Self(read(libc::CLOCK_MONOTONIC_COARSE))
    }

    /// Returns the plugin's time.
    #[inline]
    pub fn unix(self) -> Unix {
        WALL.unix(self.0)
    }

    /// Returns nanoseconds since the start of the monotonic clock.
    #[inline]
    pub fn nanos(self) -> u64 {
        (self.0.tv_sec * SECOND + self.0.tv_nsec).cast_unsigned()
    }
}

/// The time to check messages by: that of a recent tick, where the broker ticks often enough; else the clock's.
#[derive(Default)]
pub struct MessageTime(u64);

impl MessageTime {
    /// Sets the time.
    pub fn set(&mut self, now: Unix) {
        self.0 = now.0;
    }

    /// Returns it.
    #[inline]
    pub fn now(&self) -> Unix {
        match self.0 {
            0 => now(),
            seconds => Unix(seconds),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_never_behind() {
        start();
        for _ in 0..1000 {
            let (before, coarse, after) = (auth::clock::now(), now(), auth::clock::now());
            assert!(before <= coarse && coarse <= after.plus(1));
        }
        assert_eq!(follow(), 0, "nobody has set the clock");
    }

    #[test]
    fn a_clock_that_is_set_is_followed_in_whole_seconds() {
        let at = |seconds, nanos| libc::timespec {
            tv_sec: seconds,
            tv_nsec: nanos,
        };
        let wall = WallOffset::new();
        let start = 1_000 * SECOND + 700_000_000;
        wall.set(start);
        assert_eq!(wall.unix(at(5, 0)), Unix(1005));
        assert_eq!(wall.unix(at(5, 290_000_000)), Unix(1006), "0.01 s early");
        for little in [0, SECOND - 1, 1 - SECOND] {
            assert_eq!(wall.follow(start + little), 0);
        }
        const YEAR: i64 = 400 * 86_400;
        for (set, by) in [(1.5, 2), (-1.5, -2), (1.2, 1), (3600.0, 3600)] {
            let ahead = start + (set * SECOND as f64) as i64;
            assert_eq!(wall.follow(ahead), by);
            assert_eq!(
                wall.unix(at(5, 0)),
                Unix(1005_u64.saturating_add_signed(by))
            );
            assert_eq!(wall.follow(ahead), 0, "once");
            assert_eq!(wall.follow(start), -by, "and back to where it was");
        }
        assert_eq!(wall.follow(start + YEAR * SECOND), YEAR);
        assert_eq!(wall.follow(start), -YEAR);
        assert_eq!(wall.follow(0), -1001);
        assert_eq!(wall.unix(at(0, 0)), Unix(0), "no time before 1970");
    }
}
