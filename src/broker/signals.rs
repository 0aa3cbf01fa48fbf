//! Keeps the broker's signals on the broker's thread.

use std::mem::MaybeUninit;

/// A [`crate::threads::Spawn`] for threads inside a broker.
///
/// # Errors
///
/// If the operating system has no thread to give.
pub fn spawn(
    name: &str,
    body: Box<dyn FnOnce() + Send>,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    blocked(|| crate::threads::plain(name, body))
}

/// Runs `body` with all signals blocked on this thread. Threads that `body` starts inherit that.
///
/// The broker's handlers only set a flag that its loop sees when the signal interrupts it; a
/// signal taken by a thread of ours would interrupt nobody (Mosquitto, src/loop.c).
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
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, old.as_ptr(), std::ptr::null_mut()) };
    }
    result
}
