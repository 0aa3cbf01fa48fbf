//! Lets SIGHUP through to a 2.1 broker when it does no harm.
//!
//! 2.1.2 puts a client that hangs up while it waits for our answer on a list, to be freed at the top of
//! its loop's next round, and leaves it in the lists of keep-alives until then (src/context.c,
//! `context__disconnect`). A SIGHUP at the end of that round makes those lists anew without it
//! (src/signals.c), and what then frees it takes it from them by addresses that are no longer good
//! (src/keepalive.c). Anybody can hang up, and log rotation sends a SIGHUP every night. So the broker's
//! thread keeps SIGHUP blocked, and a tick lets it through when no such client can be on that list by the
//! end of the round.
//!
//! # Why that is so then
//!
//! A round (src/loop.c) 1. frees who is on the list, 2. disconnects whose keep-alive is over, 3. ticks,
//! 4. reads from its clients, and 5. acts on signals. A client gets on the list in 2 or 4, and only one
//! that the broker holds: one of our [`auth::logins::arrivals`], since those are removed by the answer (a
//! tick takes the client from the broker at once), by another CONNECT of its name or at its address (which
//! shows that it has gone), and by nothing else. Let SIGHUP be let through in 3.
//!
//! * In 4 nobody gets on the list: nobody waited in 3, and until RELOAD has come in 5 nobody begins to.
//!   (Who begins to wait and hangs up in one breath does both in one round.)
//! * In 2 somebody may have, and that tick, or one before it in the same round, may have removed it, as
//!   it was late. So nobody must have been waiting for `SETTLED`, which is longer than a round ticks:
//!   whoever was on the list has been freed in 1 since. What our own ticks last is not counted, and how
//!   many there are in a round does not matter.
//!
//! If somebody waits, nobody more begins to: SIGHUP comes through after `timeout` at the latest.
//!
//! # What it does not do
//!
//! Another thread that does not block SIGHUP, one of a plugin that was loaded before this one, takes it
//! from under our eyes. (The broker starts its own, for `http_api`, after it has loaded us.) Nor do we
//! know whom another plugin keeps waiting.
//!
//! # What it depends on
//!
//! On ticks. No clock can stop them, because [`crate::event::tick_again`] asks for one in every round. And as
//! SIGHUP no longer wakes the broker, the same has rounds come ten times a second.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::signals;
use auth::clock::moment;

/// For how long nobody must have been waiting. In a round, between two ticks of ours, other plugins have
/// theirs: far shorter.
const SETTLED: Duration = Duration::from_millis(200);

static GATE: Mutex<Gate> = Mutex::new(Gate::new());

fn gate() -> MutexGuard<'static, Gate> {
    GATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on SIGHUP is kept back. Once for each time that the broker loads the plugin.
pub fn keep_back() {
    let mut gate = gate();
    if gate.loaded == 0 {
        gate.rule = Rule::new();
        gate.ours = signals::block_hangup();
    }
    gate.loaded += 1;
}

/// It is no longer, when all have said so that called [`keep_back`].
pub fn give_up() {
    let mut gate = gate();
    gate.loaded = gate.loaded.saturating_sub(1);
    if gate.loaded == 0 && std::mem::take(&mut gate.ours) {
        drop(gate);
        signals::unblock_hangup();
    }
}

/// A tick begins: lets SIGHUP through if there is one and nobody waits, nor has for a while. `true` if it
/// is kept back from now on.
pub fn tick(somebody_waits: bool) -> bool {
    let mut gate = gate();
    if !gate.ours {
        return false;
    }
    match gate
        .rule
        .tick(signals::hangup_is_pending(), somebody_waits, moment())
    {
        Say::Nothing => false,
        Say::KeptBack => true,
        Say::Let => {
            drop(gate);
            signals::unblock_hangup();
            signals::block_hangup();
            false
        }
    }
}

/// That tick has ended.
pub fn ticked() {
    gate().rule.ticked(moment());
}

/// RELOAD: the broker has acted on it.
pub fn reloaded() {
    gate().rule.reloaded();
}

/// Whether one is kept back or on its way: then nobody may begin to wait.
pub fn is_due() -> bool {
    gate().rule.due
}

struct Gate {
    /// How often the plugin is loaded.
    loaded: usize,
    /// Whether it was us who blocked SIGHUP.
    ours: bool,
    rule: Rule,
}

impl Gate {
    const fn new() -> Self {
        Self {
            loaded: 0,
            ours: false,
            rule: Rule::new(),
        }
    }
}

/// What a tick does about a SIGHUP.
#[derive(Debug, PartialEq, Eq)]
enum Say {
    Nothing,
    KeptBack,
    Let,
}

/// When to let it through, without the signal itself.
struct Rule {
    /// Whether one is kept back or on its way.
    due: bool,
    /// Whether one was let through and no RELOAD has come.
    through: bool,
    /// How long nobody has been waiting, without our own ticks.
    settled: Duration,
    /// When our last tick ended.
    ticked: Option<Instant>,
}

impl Rule {
    const fn new() -> Self {
        Self {
            due: false,
            through: false,
            settled: Duration::ZERO,
            ticked: None,
        }
    }

    fn tick(&mut self, pending: bool, somebody_waits: bool, now: Instant) -> Say {
        if somebody_waits {
            self.settled = Duration::ZERO;
        } else if let Some(ticked) = self.ticked {
            self.settled += now.saturating_duration_since(ticked);
        }
        let was_due = self.due;
        if !pending {
            // One that was let through and brought no RELOAD brings none any more: it is handled by
            // somebody else. One that was kept back and has gone was taken by another thread.
            self.due = self.through && self.settled < SETTLED;
            self.through = self.due;
            return Say::Nothing;
        }
        self.due = true;
        if self.settled >= SETTLED {
            self.settled = Duration::ZERO;
            self.through = true;
            return Say::Let;
        }
        match was_due || !somebody_waits {
            true => Say::Nothing,
            false => Say::KeptBack,
        }
    }

    fn ticked(&mut self, now: Instant) {
        self.ticked = Some(now);
    }

    fn reloaded(&mut self) {
        self.due = false;
        self.through = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ticks of no length, and the time between them.
    struct Loop(Rule, Instant);

    impl Loop {
        fn new() -> Self {
            let mut rule = Rule::new();
            let now = moment();
            rule.ticked(now);
            Self(rule, now)
        }

        fn after(&mut self, millis: u64, pending: bool, somebody_waits: bool) -> Say {
            self.1 += Duration::from_millis(millis);
            let say = self.0.tick(pending, somebody_waits, self.1);
            self.0.ticked(self.1);
            say
        }
    }

    #[test]
    fn an_idle_broker_reloads_at_the_next_tick() {
        let mut ticks = Loop::new();
        for _ in 0..3 {
            assert_eq!(ticks.after(100, false, false), Say::Nothing);
            assert!(!ticks.0.due);
        }
        assert_eq!(ticks.after(100, true, false), Say::Let);
        assert!(ticks.0.due, "until it is acted on, nobody begins to wait");
        ticks.0.reloaded();
        assert!(!ticks.0.due);
        assert_eq!(ticks.after(100, false, false), Say::Nothing);
        assert!(!ticks.0.due);
    }

    #[test]
    fn it_is_kept_back_while_somebody_waits_and_until_he_is_freed() {
        let mut ticks = Loop::new();
        assert_eq!(ticks.after(1000, false, true), Say::Nothing);
        assert!(!ticks.0.due, "without a SIGHUP clients may wait");
        assert_eq!(ticks.after(100, true, true), Say::KeptBack);
        assert_eq!(ticks.after(100, true, true), Say::Nothing, "said once");
        assert!(ticks.0.due);
        // Another instance's tick, in the same round as the one that answered.
        assert_eq!(ticks.after(0, true, false), Say::Nothing);
        assert_eq!(ticks.after(100, true, false), Say::Nothing);
        assert!(ticks.0.due);
        assert_eq!(ticks.after(100, true, false), Say::Let);
    }

    #[test]
    fn a_tick_of_ours_may_last() {
        let mut ticks = Loop::new();
        assert_eq!(ticks.after(0, true, true), Say::KeptBack);
        ticks.1 += SETTLED * 3;
        ticks.0.ticked(ticks.1);
        assert_eq!(ticks.after(0, true, false), Say::Nothing, "same round");
    }

    #[test]
    fn nobody_is_turned_away_for_ever() {
        let mut ticks = Loop::new();
        assert_eq!(ticks.after(300, true, false), Say::Let);
        // No RELOAD: it is ignored, or handled by somebody else.
        assert_eq!(ticks.after(100, false, false), Say::Nothing);
        assert!(ticks.0.due);
        assert_eq!(ticks.after(100, false, false), Say::Nothing);
        assert!(!ticks.0.due);
        // Another thread took it.
        assert_eq!(ticks.after(100, true, true), Say::KeptBack);
        assert_eq!(ticks.after(100, false, true), Say::Nothing);
        assert!(!ticks.0.due);
    }

    #[test]
    fn one_after_the_other() {
        let mut ticks = Loop::new();
        assert_eq!(ticks.after(300, true, false), Say::Let);
        ticks.0.reloaded();
        assert_eq!(ticks.after(100, true, false), Say::Nothing);
        assert!(ticks.0.due);
        assert_eq!(ticks.after(100, true, false), Say::Let);
    }
}
