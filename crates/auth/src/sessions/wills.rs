//! Sessions of which only a will is left, which the broker may send later (Will Delay Interval).

use std::{collections::VecDeque, sync::Arc};

use super::{Departure, SessionsByKey, unsure::MAX_UNSURE};
use crate::{client::ClientKey, clock::Unix};

/// The longest delay of a will, in seconds, where the broker does not say when it was sent (2.0).
pub(super) const LONGEST_DELAY: u64 = 3600;

/// The number of wills to look after at a tick.
pub(super) const WILLS_AT_A_TICK: usize = 64;

/// The departures after which only a will is left, and until when. Some are stale.
#[derive(Default)]
pub(super) struct Wills(VecDeque<(Departure, Unix)>);

impl Wills {
    /// Adds a session whose client has departed now.
    pub(super) fn insert(&mut self, departure: Departure, now: Unix) {
        self.0.push_back((departure, now.plus(LONGEST_DELAY)));
    }

    /// Takes a session whose will was sent long ago, or the oldest if there are too many.
    pub(super) fn pop_over(&mut self, sessions: &SessionsByKey, now: Unix) -> Option<ClientKey> {
        while let Some(&(departure, until)) = self.0.front() {
            let is_current = departure.is_current(sessions);
            if is_current && now < until && self.0.len() <= MAX_UNSURE {
                return None;
            }
            self.0.pop_front();
            if is_current {
                return Some(departure.key);
            }
        }
        None
    }

    /// Returns some of the sessions, in turn.
    pub(super) fn take_turn(&mut self, sessions: &SessionsByKey) -> Vec<(ClientKey, Arc<str>)> {
        let mut some = Vec::new();
        for _ in 0..self.0.len().min(WILLS_AT_A_TICK) {
            let Some(will @ (departure, _)) = self.0.pop_front() else {
                break;
            };
            if departure.is_current(sessions)
                && let Some(entry) = sessions.get(&departure.key)
            {
                some.push((departure.key, Arc::clone(&entry.record.session.client_id)));
                self.0.push_back(will);
            }
        }
        some
    }

    /// Adjusts to a clock that was set by this many seconds.
    pub(super) fn clock_was_set(&mut self, by: i64) {
        for (_, until) in &mut self.0 {
            *until = until.moved(by);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
