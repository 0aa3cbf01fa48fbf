//! Sessions of which it is unsure that the broker keeps them. Their number is limited.

use std::collections::{HashMap, VecDeque};

use super::{Departure, SessionsByKey};
use crate::account::Account;

/// The maximum number of these sessions. `mosquitto_pub -V 5` in a cron job makes a new one every time. Beyond that the
/// oldest of the account with the most are dropped, so that nobody displaces the sessions of others. A trace of them
/// stays.
pub(super) const MAX_UNSURE: usize = 10_000;

/// The sessions.
#[derive(Default)]
pub(super) struct UnsureSessions {
    /// The departures of each account, in order. Some are stale.
    by_account: HashMap<Account, VecDeque<Departure>>,
    /// How many are not stale.
    number: usize,
}

impl UnsureSessions {
    /// Adds a session whose client has departed.
    pub(super) fn insert(&mut self, account: Account, departure: Departure) {
        let of_account = self.by_account.entry(account).or_default();
        of_account.push_back(departure);
        self.number += 1;
    }

    /// Records that a session is no longer one of them. Its departure is stale now.
    pub(super) fn remove_one(&mut self) {
        self.number -= 1;
    }

    /// Takes a departure of a session to drop, if there are too many. It may be stale.
    pub(super) fn pop_beyond_limit(&mut self) -> Option<Departure> {
        while self.number > MAX_UNSURE {
            let most = self.by_account.iter().max_by_key(|(_, of)| of.len());
            let account = most?.0.clone();
            match self
                .by_account
                .get_mut(&account)
                .and_then(VecDeque::pop_front)
            {
                Some(departure) => return Some(departure),
                None => drop(self.by_account.remove(&account)),
            }
        }
        None
    }

    /// Forgets stale departures if they are many.
    pub(super) fn tidy(&mut self, sessions: &SessionsByKey) {
        if self.departures() > 2 * self.number + 64 {
            self.by_account.retain(|_, of_account| {
                of_account.retain(|departure| departure.is_current(sessions));
                !of_account.is_empty()
            });
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.number
    }

    /// Returns how many departures there are, with the stale ones.
    pub(super) fn departures(&self) -> usize {
        self.by_account.values().map(VecDeque::len).sum()
    }
}
