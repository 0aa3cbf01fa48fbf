//! The guard at every entry point: no panic reaches C, and only the broker's thread gets in.

use std::{
    ffi::c_int,
    panic::{self, AssertUnwindSafe, PanicHookInfo},
    sync::{
        LazyLock, Once,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use crate::{host::Broker, messages::BoundaryFault};
use auth::{
    log::{Level, Log},
    refusal::Refusal,
};

/// Log lines about faults, from any thread.
pub static FAULTS: LazyLock<Log> = LazyLock::new(Log::default);

static PANICS: AtomicU64 = AtomicU64::new(0);
static FOREIGN: AtomicU64 = AtomicU64::new(0);

/// The broker's thread. (In a shared object a thread-local mark would be slower to read.)
static BROKER: AtomicUsize = AtomicUsize::new(0);

fn this_thread() -> usize {
    // SAFETY: it takes nothing and cannot fail (pthread_self(3)). The broker's thread outlives all others, so none of
    // them gets its number.
    unsafe { libc::pthread_self() as usize }
}

/// Marks this thread as the broker's. The thread that loads plugins is the one that runs them.
pub fn adopt_thread() {
    BROKER.store(this_thread(), Ordering::Relaxed);
    static HOOK: Once = Once::new();
    HOOK.call_once(|| panic::set_hook(Box::new(report)));
}

/// Puts a panic into the log. The default hook writes to stderr, which a daemon does not have.
fn report(panic: &PanicHookInfo) {
    let count = PANICS.fetch_add(1, Ordering::Relaxed) + 1;
    // The 1st, 2nd, 4th, 8th and so on, so that a fault that comes with every message does not flood the log.
    if !count.is_power_of_two() {
        return;
    }
    let payload = panic.payload();
    let text = payload.downcast_ref::<&str>().copied();
    log_fault(BoundaryFault::Panic {
        why: text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)),
        place: panic.location().map(ToString::to_string),
        count,
    });
}

fn log_fault(fault: BoundaryFault) {
    FAULTS.line(Level::Error, Refusal::from(fault).to_string());
}

/// Runs the body of an entry point. If it panics, or if the caller is not on the broker's thread, the broker gets
/// `refusal`. To unwind into C would abort the process.
///
/// The other thread is real: 2.1's HTTP API checks logins and rights on a thread of its own, with a client that it
/// makes up on its stack (src/http_api.c).
pub fn enter(refusal: c_int, body: impl FnOnce(&Broker) -> c_int) -> c_int {
    let guarded = panic::catch_unwind(AssertUnwindSafe(|| {
        if this_thread() != BROKER.load(Ordering::Relaxed) {
            if FOREIGN.fetch_add(1, Ordering::Relaxed) == 0 {
                log_fault(BoundaryFault::ForeignThread);
            }
            return refusal;
        }
        // SAFETY: this is the thread that the broker loaded the plugin on, which is its main thread.
        body(&unsafe { Broker::on_its_thread() })
    }));
    guarded.unwrap_or(refusal)
}
