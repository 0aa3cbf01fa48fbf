//! The time, as far as a message needs to know it.
//!
//! To ask for it to the nanosecond costs more than to look up who sends the message, and the time of the
//! last tick would not do: a 2.1 broker does not tick while its clock has been set back
//! (src/plugin_tick.c), so that all rights would seem to have ended, and built without websockets it may
//! sleep for long and read the messages that wake it before it ticks (src/mux_epoll.c).

use crate::clock::Unix;

/// What the coarse clock may be behind, in nanoseconds: a kernel's timer comes a hundred times a second
/// or more often (time(7), "The software clock, HZ, and jiffies").
const BEHIND: i64 = 10_000_000;

/// The wall clock as it stood at the kernel's last timer interrupt, and what it may be behind: rights end
/// rather a hundredth of a second early than late.
pub fn coarse() -> Unix {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: clock_gettime writes one timespec through a pointer to a live local.
    let read = unsafe { libc::clock_gettime(libc::CLOCK_REALTIME_COARSE, &raw mut time) };
    if read != 0 {
        return Unix::now();
    }
    let seconds = time.tv_sec + i64::from(time.tv_nsec + BEHIND >= 1_000_000_000);
    Unix(u64::try_from(seconds).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_never_behind() {
        for _ in 0..1000 {
            let (before, coarse, after) = (Unix::now(), coarse(), Unix::now());
            assert!(before <= coarse && coarse <= after.plus(1));
        }
    }
}
