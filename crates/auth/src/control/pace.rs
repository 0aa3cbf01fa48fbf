//! How often a client may renew. A device that sends new tokens without a pause must cost no more than one that does
//! not.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::client::ClientKey;

/// The time in which renewals are counted.
const WINDOW: Duration = Duration::from_secs(10);

/// How many renewals of a client are answered in that time.
const MOST: u32 = 10;

/// What is done with a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// It is decided.
    Fine,
    /// It is refused, and the client is told so.
    TooFast,
    /// It is refused, as the client was told before.
    Ignored,
}

/// The renewals of each client in the current window.
#[derive(Default)]
pub(crate) struct RenewalPace {
    since: Option<Instant>,
    counts: HashMap<ClientKey, u32>,
}

impl RenewalPace {
    /// Counts a renewal. Returns what is done with it.
    pub(crate) fn count(&mut self, key: ClientKey, now: Instant) -> Pace {
        if self.since.is_none_or(|since| now >= since + WINDOW) {
            self.since = Some(now);
            // The memory of a whole fleet is returned as well.
            self.counts = HashMap::new();
        }
        let count = self.counts.entry(key).or_default();
        *count = count.saturating_add(1);
        match *count {
            ..=MOST => Pace::Fine,
            count if count == MOST + 1 => Pace::TooFast,
            _ => Pace::Ignored,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_told_once_that_it_is_too_fast_and_others_are_not_held_up() {
        let (mut pace, now) = (RenewalPace::default(), crate::clock::moment());
        let of = |pace: &mut RenewalPace, key, now| pace.count(ClientKey(key), now);
        for _ in 0..MOST {
            assert_eq!(of(&mut pace, 1, now), Pace::Fine);
        }
        assert_eq!(of(&mut pace, 1, now), Pace::TooFast);
        assert_eq!(of(&mut pace, 1, now), Pace::Ignored);
        assert_eq!(of(&mut pace, 2, now), Pace::Fine);
        assert_eq!(of(&mut pace, 1, now + WINDOW), Pace::Fine);
        assert_eq!(pace.counts.len(), 1);
    }
}
