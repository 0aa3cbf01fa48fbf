//! Limits how much of its time the broker waits for the tenant, and for whom.
//!
//! Mosquitto 2.0 has one thread and wants the answer to a CONNECT at once. While it waits for the tenant, every client
//! waits. So one CONNECT waits at most `login_wait`, and all together wait at most `stall_budget` percent of any ten
//! seconds, of which each address has its share. A client beyond that is refused while the tenant is asked in the
//! background, and comes in from the login cache when it tries again. The same goes for a client whose CONNECT waited
//! without a result a moment ago.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::{
    cache::generations::Generations,
    limits::{fair_shares::FairShares, known_callers::Caller, source::SourceNetwork},
    secret::Fingerprint,
};

/// Every period of this length holds at most the budget.
const WINDOW: Duration = Duration::from_secs(10);

/// How long a credential that waited without a result does not wait again. It may be up to twice as long.
const IN_VAIN: Duration = Duration::from_secs(60);

/// The maximum number of such credentials from one period. Each of them has cost a millisecond at least.
const MAX_IN_VAIN: usize = 60_000;

/// The time spent waiting by all instances of the plugin together, because it is the time of the broker.
#[derive(Debug, Default)]
pub(crate) struct StallBudget {
    /// When each wait ended, for which address it was, and how long it took.
    spent: VecDeque<(Instant, SourceNetwork, Duration)>,
    /// The same by address, in nanoseconds.
    shares: FairShares,
    /// The credentials that waited without a result, in this period and the one before.
    in_vain: Generations,
    /// When this period began.
    since: Option<Instant>,
    /// How long the broker has waited since it was started.
    in_all: Duration,
}

impl StallBudget {
    /// Returns how long a CONNECT may wait now: at most `login_wait`, and all together at most `percent` of any ten
    /// seconds.
    pub(crate) fn allowance(
        &mut self,
        key: Fingerprint,
        caller: Caller,
        now: Instant,
        login_wait: Duration,
        percent: u32,
    ) -> Duration {
        // A wait counts as long as a window with any part of it could hold all of it.
        while let Some((end, source, wait)) = self.spent.front().copied()
            && now.duration_since(end) >= WINDOW
        {
            self.spent.pop_front();
            self.shares.give_back(source, wait.as_nanos() as f64);
        }
        if self.timed_out_recently(key, now) {
            return Duration::ZERO;
        }
        let whole = WINDOW * percent / 100;
        let left = self.shares.left(caller, whole.as_nanos() as f64);
        login_wait.min(Duration::from_nanos(left as u64))
    }

    /// Records that the broker has waited until now, for this long and for this address.
    pub(crate) fn spend(&mut self, now: Instant, source: SourceNetwork, wait: Duration) {
        /// Waits for one address this close together are kept as one that ended with the last. They count for longer
        /// then, never for less.
        const TOGETHER: Duration = Duration::from_millis(100);
        /// A shorter wait counts as this long, so that the list stays short.
        const LEAST: Duration = Duration::from_millis(1);
        if wait.is_zero() {
            return;
        }
        self.in_all += wait;
        let wait = wait.max(LEAST);
        self.shares.take(source, wait.as_nanos() as f64);
        match self.spent.back_mut() {
            Some((end, of, sum)) if *of == source && now.duration_since(*end) < TOGETHER => {
                (*end, *sum) = (now, *sum + wait)
            }
            _ => self.spent.push_back((now, source, wait)),
        }
    }

    /// Returns how long the broker has waited since it was started.
    pub(crate) fn spent_in_all(&self) -> Duration {
        self.in_all
    }

    /// Records that a credential waited without a result.
    pub(crate) fn record_timeout(&mut self, key: Fingerprint, now: Instant) {
        self.turn(now);
        self.in_vain.insert(key.part(), MAX_IN_VAIN);
    }

    fn timed_out_recently(&mut self, key: Fingerprint, now: Instant) -> bool {
        self.turn(now);
        self.in_vain.contains(key.part())
    }

    fn turn(&mut self, now: Instant) {
        let age = now.duration_since(*self.since.get_or_insert(now));
        if age >= IN_VAIN {
            self.in_vain.turn();
            if age >= 2 * IN_VAIN {
                self.in_vain.turn();
            }
            self.since = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::{limits::known_callers::Standing, secret::Fingerprinter};

    const MS: fn(u64) -> Duration = Duration::from_millis;

    /// A client that came in before.
    fn device(number: u32) -> Caller {
        Caller {
            source: SourceNetwork::V4(number.into()),
            standing: Standing::Returning,
        }
    }

    fn key(name: &str) -> Fingerprint {
        Fingerprinter::new().unwrap().of(name.as_bytes())
    }

    /// Returns how long waits of 300 ms each may be, one after the other.
    fn waits(
        budget: &mut StallBudget,
        start: Instant,
        caller: impl Fn(u32) -> Caller,
    ) -> Vec<Duration> {
        let (mut now, mut waits) = (start, Vec::new());
        loop {
            let caller = caller(waits.len() as u32);
            let allowance = budget.allowance(key("a"), caller, now, MS(1000), 20);
            assert!(allowance <= MS(1000));
            // Each takes four fifths of what is left.
            if allowance < MS(1) {
                return waits;
            }
            now += allowance.min(MS(300));
            budget.spend(now, caller.source, allowance.min(MS(300)));
            waits.push(allowance.min(MS(300)));
        }
    }

    #[test]
    fn one_wait_is_bounded_and_so_are_all_together() {
        let start = Instant::now();
        let mut budget = StallBudget::default();
        let waits = waits(&mut budget, start, device);
        let sum: Duration = waits.iter().sum();
        assert!(sum > MS(1990) && sum <= MS(2000), "two seconds: {waits:?}");
        let later = start + MS(300) + WINDOW;
        let again = budget.allowance(key("a"), device(99_999), later, MS(1000), 20);
        assert!(
            again > MS(230) && again <= MS(250),
            "four fifths of 300 ms: {again:?}"
        );
    }

    #[test]
    fn strangers_leave_half_of_it_and_one_source_something_to_the_next() {
        let start = Instant::now();
        let mut budget = StallBudget::default();
        let stranger = |number| Caller {
            standing: Standing::Unknown,
            ..device(number)
        };
        let sum: Duration = waits(&mut budget, start, |_| stranger(1)).iter().sum();
        assert!(sum > MS(790) && sum <= MS(800), "{sum:?}");
        let left = budget.allowance(key("a"), stranger(2), start + MS(800), MS(1000), 20);
        assert!(left >= MS(160) && left <= MS(170), "{left:?}");
        let left = budget.allowance(key("a"), device(1), start + MS(800), MS(2000), 20);
        assert!(left >= MS(800) && left <= MS(810), "{left:?}");
    }

    #[test]
    fn zero_never_waits() {
        for (most, percent) in [(Duration::ZERO, 20), (MS(1000), 0)] {
            let now = Instant::now();
            let allowance =
                StallBudget::default().allowance(key("a"), device(1), now, most, percent);
            assert_eq!(allowance, Duration::ZERO);
        }
    }

    #[test]
    fn a_credential_that_record_timeout_does_not_wait_again() {
        let (start, prints) = (Instant::now(), Fingerprinter::new().unwrap());
        let mut budget = StallBudget::default();
        let slow = prints.of(b"slow");
        budget.record_timeout(slow, start);
        let mut allowed = |key, now| !budget.allowance(key, device(1), now, MS(9), 20).is_zero();
        assert!(!allowed(slow, start + IN_VAIN - MS(1)));
        assert!(allowed(prints.of(b"other"), start));
        assert!(allowed(slow, start + 2 * IN_VAIN));
        for number in 0..2 * MAX_IN_VAIN {
            budget.record_timeout(prints.of(&number.to_le_bytes()), start + 2 * IN_VAIN);
        }
        assert_eq!(budget.in_vain.lengths()[0], MAX_IN_VAIN);
    }

    /// No ten seconds hold more than the budget, whatever comes when.
    #[test]
    fn no_window_holds_more() {
        let (start, key) = (Instant::now(), key("a"));
        let mut budget = StallBudget::default();
        let (mut now, mut waits, mut seed) = (start, Vec::new(), 12345u64);
        for _ in 0..5000 {
            seed = seed
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            now += MS(seed >> 33 & 0x1ff);
            let caller = device((seed >> 60) as u32);
            let wait = budget
                .allowance(key, caller, now, MS(700), 20)
                .min(MS(seed >> 50 & 0x3ff));
            let began = now;
            now += wait;
            budget.spend(now, caller.source, wait);
            waits.push((began, now));
        }
        assert!(budget.spent.len() <= 2000, "{}", budget.spent.len());
        for (_, end) in &waits {
            let from = *end - WINDOW;
            let within: Duration = waits
                .iter()
                .map(|(b, e)| (*e).min(*end).saturating_duration_since((*b).max(from)))
                .sum();
            assert!(within <= MS(2000), "{within:?}");
        }
    }
}
