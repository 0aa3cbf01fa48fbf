//! How threads are started. In a broker they must be started with the broker's signals blocked, which only
//! the plugin's `signals` module can do. So the code that needs a thread gets a function that starts it.

use std::{
    io,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use crate::clock::Deadline;

/// Starts a thread with this name.
pub type Spawn =
    fn(name: &str, body: Box<dyn FnOnce() + Send>) -> io::Result<thread::JoinHandle<()>>;

/// Starts a thread outside a broker.
///
/// # Errors
///
/// Returns an error if the operating system cannot start a thread.
pub fn plain(name: &str, body: Box<dyn FnOnce() + Send>) -> io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name(name.into()).spawn(body)
}

/// How long a stop waits for a busy thread. The tenant may take longer to respond, but the broker must not
/// wait: a service manager kills a process that takes too long to stop.
const LAST_MOMENT: Duration = Duration::from_millis(700);

/// How long a stop waits at least for a thread that writes a file. Whatever else was left behind, usually because the
/// tenant does not respond, the disk is well, and what is not written is lost.
const TO_WRITE: Duration = Duration::from_millis(500);

/// Whether a thread was left behind. The process is ending, so no other thread is waited for, unless it writes a file.
static LEFT_BEHIND: AtomicBool = AtomicBool::new(false);

/// Returns the time by which stopped threads must have ended.
pub fn last_moment() -> Deadline {
    Deadline::after(match LEFT_BEHIND.load(Ordering::Relaxed) {
        true => Duration::ZERO,
        false => LAST_MOMENT,
    })
}

/// Records that a thread has not ended by [`last_moment`]. It runs until the process ends and touches nothing
/// of the broker's; its code stays mapped (`-z nodelete`, `build.rs`).
pub fn leave_behind() {
    LEFT_BEHIND.store(true, Ordering::Relaxed);
}

/// Waits for a thread that was told to write what is left and to end. It says by `finished` that it has.
pub fn wait_for_writer(thread: thread::JoinHandle<()>, finished: &Receiver<()>) {
    let most = last_moment().remaining().max(TO_WRITE);
    match finished.recv_timeout(most) {
        Err(RecvTimeoutError::Timeout) => leave_behind(),
        Ok(()) | Err(RecvTimeoutError::Disconnected) => drop(thread.join()),
    }
}

/// Locks a mutex whose state no code leaves half changed, so that a poisoned one is still good.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
