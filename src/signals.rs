//! Keeps the broker's signals on the broker's thread, and gives that thread priority.
//!
//! [`crate::quirks::sighup`] decides when SIGHUP is blocked on that thread, too.

use std::{mem::MaybeUninit, ptr::null_mut};

/// A [`auth::threads::Spawn`] for threads inside a broker.
///
/// # Errors
///
/// If the operating system has no thread to give.
pub fn spawn(
    name: &str,
    body: Box<dyn FnOnce() + Send>,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    let body = move || {
        step_back();
        crate::memory::keep_out_of_dumps();
        body();
    };
    blocked(|| auth::threads::plain(name, Box::new(body)))
}

/// How much nicer the plugin's threads are than the broker's. Where both want the same core, they get less than a tenth
/// of its share. `make silence` on two cores, 22 runs: with the broker's own priority the longest silence is 8 to 10 ms
/// at the median and 25 ms at most; with 12 it is 5 to 6 ms, and 9 ms at most. On one core it is 14 ms and 11 ms. More
/// than 12 does not help, because all threads share one memory map: a thread that holds its lock and gets no time makes
/// the broker wait.
const NICER: libc::c_int = 12;

/// Gives this thread a lower priority, because fifty TLS handshakes at once would take CPU time from the broker. (On
/// Linux a nice value belongs to a thread: sched(7), "The nice value".)
fn step_back() {
    // SAFETY: getpriority and setpriority take numbers; 0 is the calling thread. If that fails, the thread keeps its
    // priority.
    unsafe {
        let nice = libc::getpriority(libc::PRIO_PROCESS, 0);
        libc::setpriority(libc::PRIO_PROCESS, 0, (nice + NICER).min(19));
    }
}

/// Runs `body` with all signals blocked on this thread. Threads that `body` starts inherit that.
///
/// The broker's handlers only set a flag, which its loop sees when the signal interrupts it. A signal that another
/// thread takes would not interrupt the loop (src/loop.c).
fn blocked<T>(body: impl FnOnce() -> T) -> T {
    let mut old = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigfillset and pthread_sigmask write whole sets through pointers to live locals.
    let changed = unsafe {
        let mut all = MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), old.as_mut_ptr()) == 0
    };
    let result = body();
    if changed {
        // SAFETY: pthread_sigmask succeeded above, so it filled `old`.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, old.as_ptr(), null_mut()) };
    }
    result
}

/// Blocks SIGHUP on this thread, where it stays pending. Threads that this one starts inherit that. Returns `false` if
/// it was blocked before, or cannot be blocked.
pub fn block_hangup() -> bool {
    let mut old = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: one whole set is read and one written, through pointers to live locals. sigismember reads the latter only
    // if pthread_sigmask has succeeded and so filled it.
    unsafe {
        let hangup = hangup();
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const hangup, old.as_mut_ptr()) == 0
            && libc::sigismember(old.as_ptr(), libc::SIGHUP) == 0
    }
}

/// Undoes [`block_hangup`]. A pending SIGHUP is handled before this returns (POSIX.1-2017, pthread_sigmask).
pub fn unblock_hangup() {
    let hangup = hangup();
    // SAFETY: reads a whole set, and writes none.
    unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const hangup, null_mut()) };
}

/// Returns whether a SIGHUP is pending, for this thread or for the process.
pub fn hangup_is_pending() -> bool {
    let mut pending = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigpending writes a whole set. It is read only if that has succeeded.
    unsafe {
        libc::sigpending(pending.as_mut_ptr()) == 0
            && libc::sigismember(pending.as_ptr(), libc::SIGHUP) == 1
    }
}

/// Returns the set that has only SIGHUP.
fn hangup() -> libc::sigset_t {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset fills the whole set, and cannot fail for a valid pointer.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGHUP);
        set.assume_init()
    }
}
