//! Client IDs under which a login may wait for the tenant (2.1).
//!
//! While 2.1 waits for the answer to a CONNECT, it drops every other CONNECT with the same client ID before it asks the
//! plugin. A login that waits has proved nothing yet, so anybody could keep a device out with its client ID and a wrong
//! password. Therefore a login may wait only under a client ID that nobody uses or used lately. It has one chance:
//! unless it comes in, no other login waits under that client ID for a day.
//!
//! Only clients that came in are entered in `used`, so strangers cannot make it forget a device. A full table forgets
//! its oldest client IDs. When `used` has forgotten some, any client ID may be one of them, and no login waits at all
//! for a day. When `tried` has forgotten some, a login may wait once more under a client ID that nobody used.

use std::{
    hash::{BuildHasher, RandomState},
    time::{Duration, Instant},
};

use crate::{cache::generations::Generations, refusal::DelayObstacle};

/// How long a client ID is remembered, at least.
const A_DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The number of client IDs that fill half of a table. A client ID takes up to 18 bytes, so both tables take up to 7
/// MB.
const HALF: usize = 100_000;

/// The client IDs of the last day.
pub(crate) struct ClientIdHistory {
    /// Keyed, so that nobody can choose client IDs with the same hash.
    hasher: RandomState,
    used: RecentClientIds,
    tried: RecentClientIds,
}

impl ClientIdHistory {
    /// Returns an empty history.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            hasher: RandomState::new(),
            used: RecentClientIds::new(now),
            tried: RecentClientIds::new(now),
        }
    }

    /// Returns why a login may not wait under this client ID, if it may not. `is_free` is what the broker says: that
    /// nobody is connected under it and no session is kept.
    pub(crate) fn obstacle(
        &mut self,
        client_id: &str,
        is_free: bool,
        now: Instant,
    ) -> Option<DelayObstacle> {
        let name = self.hasher.hash_one(client_id);
        if !is_free {
            Some(DelayObstacle::InUse)
        } else if self.used.has(name, now) {
            Some(DelayObstacle::UsedLately)
        } else if self.tried.has(name, now) {
            Some(DelayObstacle::TriedBefore)
        } else if self.used.is_incomplete(now) {
            Some(DelayObstacle::TooMany)
        } else {
            None
        }
    }

    /// Records that a login begins to wait under this client ID.
    pub(crate) fn try_once(&mut self, client_id: &str, now: Instant) {
        self.tried.add(self.hasher.hash_one(client_id), now);
    }

    /// Records that a client that proved who it is came in under this client ID, or has left.
    pub(crate) fn used(&mut self, client_id: &str, now: Instant) {
        let name = self.hasher.hash_one(client_id);
        self.used.add(name, now);
        self.tried.remove(name);
    }
}

/// The client IDs of the last day, by their hashes, and some of the day before.
struct RecentClientIds {
    hashes: Generations,
    /// Since when the newer generation is filled.
    since: Instant,
    /// When some were forgotten before their day was over.
    forgot: Option<Instant>,
}

impl RecentClientIds {
    fn new(now: Instant) -> Self {
        Self {
            hashes: Generations::default(),
            since: now,
            forgot: None,
        }
    }

    fn has(&mut self, name: u64, now: Instant) -> bool {
        self.forget_old(now);
        self.hashes.contains(name)
    }

    fn add(&mut self, name: u64, now: Instant) {
        self.forget_old(now);
        if !self.hashes.insert(name, HALF) {
            if self.turn(now) {
                self.forgot = Some(now);
            }
            self.hashes.insert(name, HALF);
        }
    }

    fn remove(&mut self, name: u64) {
        self.hashes.remove(name);
    }

    fn is_incomplete(&self, now: Instant) -> bool {
        self.forgot
            .is_some_and(|when| now.saturating_duration_since(when) < A_DAY)
    }

    fn forget_old(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.since);
        if age >= A_DAY {
            self.turn(now);
        }
        if age >= 2 * A_DAY {
            self.turn(now);
        }
    }

    fn turn(&mut self, now: Instant) -> bool {
        self.since = now;
        self.hashes.turn()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(60 * 60);

    fn history() -> (ClientIdHistory, Instant) {
        let now = Instant::now();
        (ClientIdHistory::new(now), now)
    }

    #[test]
    fn a_login_may_wait_under_an_unused_client_id() {
        let (mut history, now) = history();
        assert_eq!(history.obstacle("a", true, now), None);
        assert_eq!(
            history.obstacle("a", false, now),
            Some(DelayObstacle::InUse)
        );
        history.used("a", now);
        assert_eq!(
            history.obstacle("a", true, now),
            Some(DelayObstacle::UsedLately)
        );
        assert_eq!(history.obstacle("b", true, now), None);
    }

    #[test]
    fn one_login_may_wait_until_a_client_is_admitted() {
        let (mut history, now) = history();
        history.try_once("a", now);
        assert_eq!(
            history.obstacle("a", true, now),
            Some(DelayObstacle::TriedBefore)
        );
        history.used("a", now);
        assert_eq!(
            history.obstacle("a", true, now),
            Some(DelayObstacle::UsedLately)
        );
        assert_eq!(history.obstacle("a", true, now + 49 * HOUR), None);
    }

    #[test]
    fn a_client_id_is_remembered_for_a_day_and_for_two_at_most() {
        let (mut history, start) = history();
        for begin in [0, 1, 23] {
            let begin = start + begin * HOUR;
            let mut history = ClientIdHistory::new(start);
            history.used("a", begin);
            history.try_once("b", begin);
            for hours in 0..24 {
                let now = begin + hours * HOUR;
                assert_eq!(
                    history.obstacle("a", true, now),
                    Some(DelayObstacle::UsedLately)
                );
                assert_eq!(
                    history.obstacle("b", true, now),
                    Some(DelayObstacle::TriedBefore)
                );
            }
            for name in ["a", "b"] {
                assert_eq!(history.obstacle(name, true, begin + 49 * HOUR), None);
            }
        }
        // This holds however long nobody asked.
        history.used("a", start);
        assert_eq!(history.obstacle("a", true, start + 48 * HOUR), None);
    }

    #[test]
    fn strangers_displace_no_device() {
        let (mut history, now) = history();
        history.used("device", now);
        history.try_once("first", now);
        for i in 0..3 * HALF {
            history.try_once(&format!("stranger {i}"), now);
            assert!(
                history
                    .tried
                    .hashes
                    .lengths()
                    .into_iter()
                    .all(|length| length <= HALF)
            );
        }
        let delay_obstacle = history.obstacle("device", true, now);
        assert_eq!(delay_obstacle, Some(DelayObstacle::UsedLately));
        // It may wait once more, and everybody else as before.
        assert_eq!(history.obstacle("first", true, now), None);
        assert_eq!(history.obstacle("new", true, now), None);
    }

    #[test]
    fn no_login_waits_when_a_device_may_be_forgotten() {
        let (mut history, now) = history();
        for i in 0..2 * HALF {
            history.used(&format!("device {i}"), now);
        }
        let delay_obstacle = history.obstacle("device 0", true, now);
        assert_eq!(delay_obstacle, Some(DelayObstacle::UsedLately));
        assert_eq!(
            history.obstacle("new", true, now),
            None,
            "all are remembered"
        );
        history.used("one more", now);
        assert!(history.used.hashes.lengths().iter().sum::<usize>() <= 2 * HALF);
        for name in ["device 0", "new"] {
            let delay_obstacle = history.obstacle(name, true, now + 23 * HOUR);
            assert_eq!(delay_obstacle, Some(DelayObstacle::TooMany));
        }
        assert_eq!(history.obstacle("new", true, now + 24 * HOUR), None);
    }

    #[test]
    fn a_fleet_that_reconnects_all_day_is_stored_once() {
        let (mut history, now) = history();
        for _ in 0..5 {
            for i in 0..HALF {
                history.used(&format!("device {i}"), now);
            }
        }
        assert_eq!(history.obstacle("new", true, now), None);
        assert_eq!(history.used.hashes.lengths()[1], 0);
    }
}
