//! 2.1 stops ticking while the wall clock is behind what it was.
//!
//! **The bug.** 2.1 adds the interval that a tick asks for to the time in the event, and ticks again when the wall
//! clock has passed the sum (src/plugin_tick.c). A clock that is set back stops the ticks until it has caught up. A
//! plugin that asks for no interval leaves a broker without websockets asleep until a client does something
//! (src/mux_epoll.c).
//!
//! **The workaround.** Each tick sets the event's time to 1970 and asks for a short interval. The sum has always
//! passed. The broker fills the event in anew for each plugin, so this affects no other plugin.
//!
//! **Versions.** 2.1.0 to 2.1.2. 2.0 ticks in every round and ignores both fields.
//!
//! **Proof.** `cargo test --test e2e clock`.
//!
//! **Delete it** when the oldest supported 2.1 broker schedules ticks by the monotonic clock.

use crate::abi;

/// The longest time between two rounds of an idle broker, in milliseconds. It is what 2.0 and a 2.1 that is built with
/// websockets use by themselves (src/mux_epoll.c).
const TICK_MILLIS: std::ffi::c_long = 100;

/// Asks the broker to tick in its next round, and to begin that within [`TICK_MILLIS`].
///
/// # Safety
///
/// `event` is NULL or a live event of the broker's.
pub unsafe fn request_next(event: *mut abi::mosquitto_evt_tick) {
    // SAFETY: the caller promises that a pointer that is not NULL is a live event.
    if let Some(event) = unsafe { event.as_mut() } {
        (event.now_s, event.now_ns) = (0, 0);
        // The header of 2.0, with which the plugin is built, calls this member next_ns. 2.1 counts milliseconds in it.
        (event.next_s, event.next_ns) = (0, TICK_MILLIS);
    }
}
