//! The one way in from C: no panic passes, and only the broker's thread gets further.

use std::{
    ffi::c_int,
    panic::{self, AssertUnwindSafe},
    sync::{
        LazyLock, Once,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use crate::host::Broker;
use auth::{
    log::{Level, Log},
    refusal::{Reason, Refusal},
};

/// Lines about what should not happen, from wherever it happened.
pub static FAULTS: LazyLock<Log> = LazyLock::new(Log::default);

static PANICS: AtomicU64 = AtomicU64::new(0);
static FOREIGN: AtomicU64 = AtomicU64::new(0);

/// The broker's thread. (A thread-local mark costs more to look at, from a shared object.)
static BROKER: AtomicUsize = AtomicUsize::new(0);

fn this_thread() -> usize {
    // SAFETY: it takes nothing and cannot fail (pthread_self(3)). The broker's thread outlives all others,
    // so none of them gets its number.
    unsafe { libc::pthread_self() as usize }
}

/// Marks this thread as the broker's: the one that loads plugins is the one that runs them.
pub fn adopt_thread() {
    BROKER.store(this_thread(), Ordering::Relaxed);
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        // The default hook writes to a stderr that a daemon does not have.
        panic::set_hook(Box::new(|info| {
            let count = PANICS.fetch_add(1, Ordering::Relaxed) + 1;
            // The 1st, 2nd, 4th, 8th ...: a fault that comes with every message must not flood.
            if count.is_power_of_two() {
                let refusal = Refusal::new(
                    Reason::Internal,
                    format!("what was asked is refused: {info} (time {count})"),
                );
                FAULTS.line(Level::Error, refusal.to_string());
            }
        }));
    });
}

/// Runs an entry point's body. If it panics, or if the caller is not on the broker's thread, the
/// broker gets `refusal` (rust-lang: unwinding into C aborts the process).
///
/// The foreign thread is real: the HTTP API of 2.1 asks for logins and rights on a thread of its
/// own, with a client made up on its stack (src/http_api.c).
pub fn enter(refusal: c_int, body: impl FnOnce(&Broker) -> c_int) -> c_int {
    let guarded = panic::catch_unwind(AssertUnwindSafe(|| {
        if this_thread() != BROKER.load(Ordering::Relaxed) {
            if FOREIGN.fetch_add(1, Ordering::Relaxed) == 0 {
                let refusal = Refusal::new(
                    Reason::ForeignThread,
                    "somebody asked on another thread than the broker's",
                );
                FAULTS.line(Level::Error, refusal.to_string());
            }
            return refusal;
        }
        // SAFETY: this is the thread that the broker loaded us on, which is its main thread.
        body(&unsafe { Broker::on_its_thread() })
    }));
    guarded.unwrap_or(refusal)
}
