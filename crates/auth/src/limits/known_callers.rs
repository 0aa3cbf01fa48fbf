//! Remembers who came in before, and from where. Known callers go first where there is not enough for all.
//!
//! Only successful sign-ins are remembered, so strangers cannot displace anybody. Users and addresses are kept as keyed
//! hashes. A token counts for its address alone, because it costs the tenant nothing.
//!
//! A device that comes back needs one request to the tenant, or a few. Whoever has an account could cause requests all
//! the time, and use up what is kept for known callers. So a user with too many requests within a minute does not count
//! as known during that minute.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash, RandomState},
    time::{Duration, Instant},
};

use super::source::SourceNetwork;
use crate::{cache::generations::Generations, secret::Fingerprint};

/// The number of entries in one generation: three for each device of the largest fleet that this is made for. There are
/// two generations, which take 12 MB at most.
const GENERATION: usize = 300_000;

/// With this many requests about one user within a minute, the next ones do not come from a device that comes back.
const OFTEN: u32 = 10;

const A_MINUTE: Duration = Duration::from_secs(60);

/// The maximum number of users whose requests are counted. They take 2 MB at most. More come only when a whole fleet
/// comes back at once.
const MAX_ASKED: usize = 50_000;

/// How well a caller is known. Lower ones leave something to higher ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Neither the user nor the address came in before.
    #[default]
    Unknown,
    /// The user or the address came in before. A stranger gets this far with a user name that it knows.
    Familiar,
    /// This user came in from this address before.
    Returning,
}

impl Standing {
    /// All of them, those first that go first.
    pub const ALL: [Self; 3] = [Self::Returning, Self::Familiar, Self::Unknown];
}

/// Who asks for something of which there is not enough for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// The address.
    pub source: SourceNetwork,
    /// How well the caller is known.
    pub standing: Standing,
}

/// The callers that came in before. An entry lasts until as many others have come in as a generation holds.
#[derive(Default)]
pub(crate) struct KnownCallers {
    hashes: RandomState,
    came_in: Generations,
    /// The number of requests about each user since this minute began.
    asked: HashMap<Fingerprint, u32>,
    minute: Option<Instant>,
}

impl KnownCallers {
    /// Returns how well a caller is known that sends the password of this user, or a token, from this address.
    pub(crate) fn caller(
        &self,
        user: Option<Fingerprint>,
        source: SourceNetwork,
        now: Instant,
    ) -> Caller {
        let user = user.filter(|user| !self.is_asked_often(*user, now));
        let came_in = |hash| self.came_in.contains(hash);
        let standing = match user {
            Some(user) if came_in(self.pair(user, source)) => Standing::Returning,
            Some(user) if came_in(self.user(user)) => Standing::Familiar,
            _ if came_in(self.source(source)) => Standing::Familiar,
            _ => Standing::Unknown,
        };
        Caller { source, standing }
    }

    /// Records that a client came in, with the password of this user or with a token.
    pub(crate) fn came_in(&mut self, user: Option<Fingerprint>, source: SourceNetwork) {
        self.enter(self.source(source));
        if let Some(user) = user {
            self.enter(self.user(user));
            self.enter(self.pair(user, source));
        }
    }

    /// Records a request to the tenant about this user.
    pub(crate) fn asked(&mut self, user: Fingerprint, now: Instant) {
        if !self.is_this_minute(now) {
            self.asked = HashMap::new();
            self.minute = Some(now);
        }
        if self.asked.len() < MAX_ASKED || self.asked.contains_key(&user) {
            *self.asked.entry(user).or_default() += 1;
        }
    }

    fn is_asked_often(&self, user: Fingerprint, now: Instant) -> bool {
        self.is_this_minute(now) && self.asked.get(&user).is_some_and(|times| *times >= OFTEN)
    }

    fn is_this_minute(&self, now: Instant) -> bool {
        self.minute
            .is_some_and(|began| now.saturating_duration_since(began) < A_MINUTE)
    }

    fn enter(&mut self, hash: u64) {
        if !self.came_in.insert(hash, GENERATION) {
            self.came_in.turn();
            self.came_in.insert(hash, GENERATION);
        }
    }

    fn pair(&self, user: Fingerprint, source: SourceNetwork) -> u64 {
        self.hash(('p', user, source))
    }

    fn user(&self, user: Fingerprint) -> u64 {
        self.hash(('u', user))
    }

    fn source(&self, source: SourceNetwork) -> u64 {
        self.hash(('s', source))
    }

    fn hash(&self, what: impl Hash) -> u64 {
        self.hashes.hash_one(what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Fingerprinter;

    #[test]
    fn a_user_and_a_source_are_known_after_a_good_sign_in() {
        let prints = Fingerprinter::new().unwrap();
        let user = |name: &str| Some(prints.of(name.as_bytes()));
        let source = |number: u32| SourceNetwork::V4(number.into());
        let mut known = KnownCallers::default();
        known.came_in(user("pump"), source(1));
        known.came_in(None, source(2));
        for (name, from, standing) in [
            (user("pump"), 1, Standing::Returning),
            (user("pump"), 2, Standing::Familiar),
            (user("pump"), 3, Standing::Familiar),
            (user("new"), 1, Standing::Familiar),
            (user("new"), 2, Standing::Familiar),
            (user("new"), 3, Standing::Unknown),
            (None, 1, Standing::Familiar),
            (None, 3, Standing::Unknown),
        ] {
            let caller = known.caller(name, source(from), Instant::now());
            assert_eq!(caller.standing, standing, "{name:?} from {from}");
        }
    }

    #[test]
    fn the_memory_is_bounded_and_keeps_returning_callers() {
        let prints = Fingerprinter::new().unwrap();
        let user = prints.of(b"pump");
        let mut known = KnownCallers::default();
        for number in 0..3 * GENERATION as u32 {
            if number % 100_000 == 0 {
                known.came_in(Some(user), SourceNetwork::Unknown);
            }
            known.came_in(None, SourceNetwork::V4(number.into()));
            assert!(known.came_in.lengths().iter().sum::<usize>() <= 2 * GENERATION);
        }
        let standing = |source| known.caller(Some(user), source, Instant::now()).standing;
        assert_eq!(standing(SourceNetwork::Unknown), Standing::Returning);
        let first = known.caller(None, SourceNetwork::V4(0.into()), Instant::now());
        assert_eq!(first.standing, Standing::Unknown, "long ago");
    }

    #[test]
    fn a_user_with_many_requests_is_not_known_for_as_long() {
        let (start, prints) = (Instant::now(), Fingerprinter::new().unwrap());
        let (user, other) = (prints.of(b"pump"), prints.of(b"valve"));
        let (home, away) = (SourceNetwork::V4(1.into()), SourceNetwork::V4(2.into()));
        let mut known = KnownCallers::default();
        for user in [user, other] {
            known.came_in(Some(user), home);
        }
        for _ in 0..OFTEN {
            let caller = known.caller(Some(user), home, start);
            assert_eq!(caller.standing, Standing::Returning);
            known.asked(user, start);
        }
        let later = start + A_MINUTE - Duration::from_secs(1);
        for (user, source, now, standing) in [
            (user, home, later, Standing::Familiar),
            (user, away, later, Standing::Unknown),
            (other, home, later, Standing::Returning),
            (user, home, start + A_MINUTE, Standing::Returning),
        ] {
            assert_eq!(known.caller(Some(user), source, now).standing, standing);
        }
        for number in 0..2 * MAX_ASKED {
            known.asked(prints.of(&number.to_le_bytes()), start + A_MINUTE);
        }
        assert_eq!(known.asked.len(), MAX_ASKED);
    }
}
