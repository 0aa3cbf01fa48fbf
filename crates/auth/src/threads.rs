//! How threads are made. In a broker they must be made with its signals blocked, which only
//! `broker::signals` can do; so whoever needs a thread is handed the way to make one.

use std::{
    io,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use crate::clock::Deadline;

/// Makes a thread.
pub type Spawn =
    fn(name: &str, body: Box<dyn FnOnce() + Send>) -> io::Result<thread::JoinHandle<()>>;

/// The way outside a broker.
///
/// # Errors
///
/// If the operating system has no thread to give.
pub fn plain(name: &str, body: Box<dyn FnOnce() + Send>) -> io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name(name.into()).spawn(body)
}

/// How long a stop waits for a thread that is under way. The tenant may take longer to answer, and the
/// broker must not: whoever stops it kills it in the end.
const LAST_MOMENT: Duration = Duration::from_millis(700);

/// Whether a thread was left behind. The process ends, so nobody else is waited for.
static LEFT_BEHIND: AtomicBool = AtomicBool::new(false);

/// By when threads must have ended that were told to stop.
pub fn last_moment() -> Deadline {
    Deadline::after(match LEFT_BEHIND.load(Ordering::Relaxed) {
        true => Duration::ZERO,
        false => LAST_MOMENT,
    })
}

/// A thread has not ended by [`last_moment`]. It goes on until the process ends, and touches nothing of the
/// broker's; its code stays where it is (`-z nodelete`, `build.rs`).
pub fn leave_behind() {
    LEFT_BEHIND.store(true, Ordering::Relaxed);
}
