//! 2.1 corrupts its memory when SIGHUP comes in the round in which a delayed client hangs up.
//!
//! **The bug.** A client that hangs up while its CONNECT is delayed is put on a list, to be freed at the top of the
//! broker's next loop round. Until then it stays in the keep-alive lists (`context__disconnect` in src/context.c). A
//! SIGHUP at the end of the round rebuilds those lists without the client (src/signals.c). What then frees the client
//! removes it from them by stale addresses (src/keepalive.c). Anybody can hang up, and log rotation sends a SIGHUP
//! every night.
//!
//! **The workaround.** The broker's thread keeps SIGHUP blocked. A tick lets it through when no such client can be on
//! the list by the end of the round.
//!
//! **Versions.** 2.1.0 to 2.1.2. It is used on every broker that can delay a CONNECT.
//!
//! **Proof.** `cargo test --test e2e sanitized`, on a 2.1.2 with AddressSanitizer.
//!
//! **Delete it** when the oldest supported broker frees such a client without the keep-alive lists' stale addresses.
//!
//! # Why the workaround is right
//!
//! A round (src/loop.c) 1. frees the clients on the list, 2. disconnects clients whose keep-alive has ended, 3. ticks,
//! 4. reads from the clients, and 5. acts on signals. Only a delayed client gets on the list, in 2 or in 4. All delayed
//! clients are in `auth::pending`. They leave it when they are answered (a tick takes the client from the
//! broker at once), or when another CONNECT comes with their client ID or at their address (which shows that they are
//! gone). Suppose that SIGHUP is let through in 3.
//!
//! * No client gets on the list in 4. None was delayed in 3, and until RELOAD has come in 5 none will be. (A client
//!   whose CONNECT is delayed and that hangs up in one go does both in the same round.)
//! * A client may have got on the list in 2, and this tick, or an earlier one in the same round, may have removed it
//!   from `auth::pending` because it was late. So no client must have been delayed for [`SETTLED`], which is longer
//!   than the ticks of a round take. Whoever was on the list has been freed in 1 since. The time that our own ticks
//!   take is not counted.
//!
//! While a SIGHUP is blocked, no further CONNECT is delayed. So SIGHUP comes through after `timeout` at the latest.
//!
//! # Limits
//!
//! * A thread of another plugin that was loaded before this one and does not block SIGHUP can take the signal. (The
//!   broker starts its own thread, for `http_api`, after it has loaded the plugins.)
//! * Clients that another plugin delays are not seen.
//! * It depends on ticks. No clock can stop them ([`super::ticks`]). SIGHUP no longer wakes the broker, but ticks come
//!   ten times a second.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::signals;
use auth::clock::moment;

/// For how long no client must have been delayed. The ticks of other plugins, which come between two ticks of ours in
/// the same round, take far less time.
const SETTLED: Duration = Duration::from_millis(200);

static GATE: Mutex<Gate> = Mutex::new(Gate::new());

fn gate() -> MutexGuard<'static, Gate> {
    GATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Blocks SIGHUP from now on. Call it once for each time that the broker loads the plugin.
pub fn block() {
    let mut gate = gate();
    if gate.loaded == 0 {
        gate.rule = GateRule::new();
        gate.ours = signals::block_hangup();
    }
    gate.loaded += 1;
}

/// Unblocks SIGHUP after as many calls as there were of [`block`].
pub fn unblock() {
    let mut gate = gate();
    gate.loaded = gate.loaded.saturating_sub(1);
    if gate.loaded == 0 && std::mem::take(&mut gate.ours) {
        drop(gate);
        signals::unblock_hangup();
    }
}

/// Begins a tick. Lets a pending SIGHUP through if no client is delayed, nor was for a while. Returns `true` when a
/// SIGHUP has to wait from now on.
pub fn tick_begins(is_delayed: bool) -> bool {
    let mut gate = gate();
    if !gate.ours {
        return false;
    }
    match gate
        .rule
        .tick(signals::hangup_is_pending(), is_delayed, moment())
    {
        GateAction::Nothing => false,
        GateAction::Blocked => true,
        GateAction::LetThrough => {
            drop(gate);
            signals::unblock_hangup();
            signals::block_hangup();
            false
        }
    }
}

/// Ends a tick.
pub fn tick_ends() {
    gate().rule.tick_ends(moment());
}

/// Notes that RELOAD has come: the broker has acted on SIGHUP.
pub fn reloaded() {
    gate().rule.reloaded();
}

/// Returns whether a SIGHUP is blocked or on its way. Then no CONNECT may be delayed.
pub fn is_due() -> bool {
    gate().rule.due
}

struct Gate {
    /// How often the plugin is loaded.
    loaded: usize,
    /// Whether the plugin blocked SIGHUP, and not somebody before it.
    ours: bool,
    rule: GateRule,
}

impl Gate {
    const fn new() -> Self {
        Self {
            loaded: 0,
            ours: false,
            rule: GateRule::new(),
        }
    }
}

/// What a tick does about a SIGHUP.
#[derive(Debug, PartialEq, Eq)]
enum GateAction {
    Nothing,
    Blocked,
    LetThrough,
}

/// Decides when a SIGHUP is let through. It does not touch the signal itself.
struct GateRule {
    /// Whether a SIGHUP is blocked or on its way.
    due: bool,
    /// Whether a SIGHUP was let through and no RELOAD has come.
    through: bool,
    /// For how long no client has been delayed, without the time that our own ticks took.
    settled: Duration,
    /// When our last tick ended.
    last_tick: Option<Instant>,
}

impl GateRule {
    const fn new() -> Self {
        Self {
            due: false,
            through: false,
            settled: Duration::ZERO,
            last_tick: None,
        }
    }

    fn tick(&mut self, pending: bool, is_delayed: bool, now: Instant) -> GateAction {
        if is_delayed {
            self.settled = Duration::ZERO;
        } else if let Some(last_tick) = self.last_tick {
            self.settled += now.saturating_duration_since(last_tick);
        }
        let was_due = self.due;
        if !pending {
            // A SIGHUP that was let through and has brought no RELOAD by now was handled by somebody else. A
            // blocked one that is no longer pending was taken by another thread.
            self.due = self.through && self.settled < SETTLED;
            self.through = self.due;
            return GateAction::Nothing;
        }
        self.due = true;
        if self.settled >= SETTLED {
            self.settled = Duration::ZERO;
            self.through = true;
            return GateAction::LetThrough;
        }
        match was_due || !is_delayed {
            true => GateAction::Nothing,
            false => GateAction::Blocked,
        }
    }

    fn tick_ends(&mut self, now: Instant) {
        self.last_tick = Some(now);
    }

    fn reloaded(&mut self) {
        self.due = false;
        self.through = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A broker whose ticks take no time, and the current time.
    struct Loop(GateRule, Instant);

    impl Loop {
        fn new() -> Self {
            let mut rule = GateRule::new();
            let now = moment();
            rule.tick_ends(now);
            Self(rule, now)
        }

        fn tick_after(&mut self, millis: u64, pending: bool, is_delayed: bool) -> GateAction {
            self.1 += Duration::from_millis(millis);
            let action = self.0.tick(pending, is_delayed, self.1);
            self.0.tick_ends(self.1);
            action
        }
    }

    #[test]
    fn an_idle_broker_reloads_at_its_next_tick() {
        let mut ticks = Loop::new();
        for _ in 0..3 {
            assert_eq!(ticks.tick_after(100, false, false), GateAction::Nothing);
            assert!(!ticks.0.due);
        }
        assert_eq!(ticks.tick_after(100, true, false), GateAction::LetThrough);
        assert!(ticks.0.due, "no CONNECT is delayed before RELOAD");
        ticks.0.reloaded();
        assert!(!ticks.0.due);
        assert_eq!(ticks.tick_after(100, false, false), GateAction::Nothing);
        assert!(!ticks.0.due);
    }

    #[test]
    fn sighup_is_blocked_while_a_client_is_delayed_and_until_it_is_freed() {
        let mut ticks = Loop::new();
        assert_eq!(ticks.tick_after(1000, false, true), GateAction::Nothing);
        assert!(!ticks.0.due, "without a SIGHUP a CONNECT may be delayed");
        assert_eq!(ticks.tick_after(100, true, true), GateAction::Blocked);
        assert_eq!(
            ticks.tick_after(100, true, true),
            GateAction::Nothing,
            "logged once"
        );
        assert!(ticks.0.due);
        // Another instance's tick, in the same round as the one that answered.
        assert_eq!(ticks.tick_after(0, true, false), GateAction::Nothing);
        assert_eq!(ticks.tick_after(100, true, false), GateAction::Nothing);
        assert!(ticks.0.due);
        assert_eq!(ticks.tick_after(100, true, false), GateAction::LetThrough);
    }

    #[test]
    fn time_spent_in_our_own_tick_does_not_count() {
        let mut ticks = Loop::new();
        assert_eq!(ticks.tick_after(0, true, true), GateAction::Blocked);
        ticks.1 += SETTLED * 3;
        ticks.0.tick_ends(ticks.1);
        assert_eq!(
            ticks.tick_after(0, true, false),
            GateAction::Nothing,
            "same round"
        );
    }

    #[test]
    fn a_sighup_that_brings_no_reload_blocks_delays_only_for_a_moment() {
        let mut ticks = Loop::new();
        assert_eq!(ticks.tick_after(300, true, false), GateAction::LetThrough);
        // No RELOAD comes: the broker ignores SIGHUP, or another thread handled it.
        assert_eq!(ticks.tick_after(100, false, false), GateAction::Nothing);
        assert!(ticks.0.due);
        assert_eq!(ticks.tick_after(100, false, false), GateAction::Nothing);
        assert!(!ticks.0.due);
        // Another thread takes the signal.
        assert_eq!(ticks.tick_after(100, true, true), GateAction::Blocked);
        assert_eq!(ticks.tick_after(100, false, true), GateAction::Nothing);
        assert!(!ticks.0.due);
    }

    #[test]
    fn a_second_sighup_waits_for_its_own_turn() {
        let mut ticks = Loop::new();
        assert_eq!(ticks.tick_after(300, true, false), GateAction::LetThrough);
        ticks.0.reloaded();
        assert_eq!(ticks.tick_after(100, true, false), GateAction::Nothing);
        assert!(ticks.0.due);
        assert_eq!(ticks.tick_after(100, true, false), GateAction::LetThrough);
    }
}
