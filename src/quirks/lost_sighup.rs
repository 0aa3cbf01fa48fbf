//! 2.0 loses a SIGHUP that comes while it acts on another one.
//!
//! **The bug.** The handler of the signal sets a flag. The broker's loop sees it, acts on it, and clears it at the end
//! (`flag_reload` in src/loop.c). A SIGHUP in between sets a flag that is set. Whoever changes a file, sends SIGHUP,
//! changes another one and sends SIGHUP again would wait for the second change in vain.
//!
//! **The workaround.** From RELOAD on, the broker's thread keeps SIGHUP blocked. The next tick comes after the flag was
//! cleared, and lets a SIGHUP through that has come meanwhile. One that comes before RELOAD needs no help: the files
//! are read after it.
//!
//! **Versions.** All of 2.0. It needs ticks, so 2.0.11 with `per_listener_settings true` goes without. On 2.1
//! [`super::sighup`] lets one SIGHUP through at a tick.
//!
//! **Proof.** `cargo test --test e2e reload::no_sighup_is_lost`.
//!
//! **Delete it** when the oldest supported broker clears the flag before it acts.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::signals;

/// Whether SIGHUP is blocked here.
static HELD: AtomicBool = AtomicBool::new(false);

/// Blocks SIGHUP, because RELOAD has come.
pub fn hold() {
    if signals::block_hangup() {
        HELD.store(true, Ordering::Relaxed);
    }
}

/// Unblocks it again.
pub fn let_go() {
    if HELD.swap(false, Ordering::Relaxed) {
        signals::unblock_hangup();
    }
}
