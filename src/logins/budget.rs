//! How much of its time the broker may spend standing still.
//!
//! Mosquitto 2.0 has one thread and wants an answer at once: while a CONNECT waits for the tenant,
//! every client waits. So one CONNECT waits at most `login_wait`, and all of them together at most
//! `stall_budget` percent of any ten seconds. Whoever comes beyond that is turned away while the
//! tenant is asked in the background, and is let in from memory when it comes back.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Any stretch of this length holds at most the budget.
const WINDOW: Duration = Duration::from_secs(10);

/// The time spent waiting, by all instances of the plugin together: it is the broker's.
#[derive(Debug, Default)]
pub struct Budget {
    /// When each wait ended, and how long it was.
    spent: VecDeque<(Instant, Duration)>,
}

impl Budget {
    /// How long a CONNECT may wait now: at most `login_wait` for one, and `percent` of any ten seconds for
    /// all.
    pub fn allowance(&mut self, now: Instant, login_wait: Duration, percent: u32) -> Duration {
        // A wait counts as long as a window of which it is part could hold it whole.
        while self
            .spent
            .front()
            .is_some_and(|(end, _)| now.duration_since(*end) >= WINDOW)
        {
            self.spent.pop_front();
        }
        let spent: Duration = self.spent.iter().map(|(_, wait)| *wait).sum();
        login_wait.min((WINDOW * percent / 100).saturating_sub(spent))
    }

    /// The broker has stood still until now, for this long.
    pub fn spend(&mut self, now: Instant, wait: Duration) {
        /// Waits this close together are kept as one that ended with the last: that counts them for
        /// longer, never for less, and a flood of short ones stays a short list.
        const TOGETHER: Duration = Duration::from_millis(100);
        match self.spent.back_mut() {
            _ if wait.is_zero() => {}
            Some((end, sum)) if now.duration_since(*end) < TOGETHER => {
                (*end, *sum) = (now, *sum + wait)
            }
            _ => self.spent.push_back((now, wait)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn one_wait_is_bounded_and_so_are_all_together() {
        let start = Instant::now();
        let mut budget = Budget::default();
        let mut now = start;
        let mut waits = 0;
        loop {
            let allowance = budget.allowance(now, MS(1000), 20);
            assert!(allowance <= MS(1000));
            if allowance.is_zero() {
                break;
            }
            now += allowance.min(MS(300));
            budget.spend(now, allowance.min(MS(300)));
            waits += 1;
        }
        assert_eq!(waits, 7, "six of 300 ms and one of 200 ms make two seconds");
        assert_eq!(
            budget.allowance(start + MS(300) + WINDOW, MS(1000), 20),
            MS(300)
        );
    }

    #[test]
    fn zero_never_waits() {
        for (most, percent) in [(Duration::ZERO, 20), (MS(1000), 0)] {
            let allowance = Budget::default().allowance(Instant::now(), most, percent);
            assert_eq!(allowance, Duration::ZERO);
        }
    }

    /// Whatever comes when, no ten seconds hold more than the budget.
    #[test]
    fn no_window_holds_more() {
        let start = Instant::now();
        let mut budget = Budget::default();
        let (mut now, mut waits, mut seed) = (start, Vec::new(), 12345u64);
        for _ in 0..5000 {
            seed = seed
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            now += MS(seed >> 33 & 0x1ff);
            let wait = budget
                .allowance(now, MS(700), 20)
                .min(MS(seed >> 50 & 0x3ff));
            let began = now;
            now += wait;
            budget.spend(now, wait);
            waits.push((began, now));
        }
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
