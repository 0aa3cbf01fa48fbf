//! Who came in before, and from where: that decides who goes first when there is not enough for all.
//!
//! Only a sign-in that was good is remembered, so strangers cannot push anybody out. Names and addresses
//! are kept as keyed hashes. Tokens count for their address alone: they cost the tenant nothing.
//!
//! A device that comes back is asked about once, or a few times. Whoever has an account could have the
//! tenant asked about it all the time, and use up what is kept for the others who came in before. So a
//! user about whom it is asked often is not known for as long.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash, RandomState},
    time::{Duration, Instant},
};

use super::source::SourceNetwork;
use crate::{cache::generations::Generations, secret::Fingerprint};

/// How many entries one generation holds: three for each device of the largest fleet this is made for.
/// There are two generations, so the whole takes 12 MB at most.
const GENERATION: usize = 300_000;

/// After so many questions about one user within a minute the next ones are no device's that comes back.
const OFTEN: u32 = 10;

const A_MINUTE: Duration = Duration::from_secs(60);

/// Questions are counted for so many users: 2 MB at most. More than these come only with a fleet that
/// comes back at once.
const MAX_ASKED: usize = 50_000;

/// How well a caller is known. The lower ones leave something to the higher ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Neither the user nor the source came in before.
    #[default]
    Unknown,
    /// The user or the source came in before. A stranger gets this far with a name that he has heard.
    Familiar,
    /// This user came in from this source before.
    Returning,
}

impl Standing {
    /// All, those first who go first.
    pub const ALL: [Self; 3] = [Self::Returning, Self::Familiar, Self::Unknown];
}

/// Who asks for something of which there is not enough for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// Where it connects from.
    pub source: SourceNetwork,
    /// How well it is known.
    pub standing: Standing,
}

/// The memory. An entry lasts until as many others have come in as a generation holds.
#[derive(Default)]
pub struct KnownCallers {
    hashes: RandomState,
    came_in: Generations,
    /// How often the tenant was asked about a user since this minute began.
    asked: HashMap<Fingerprint, u32>,
    minute: Option<Instant>,
}

impl KnownCallers {
    /// How well somebody is known who sends this user's password, or a token, from this source.
    pub fn caller(&self, user: Option<Fingerprint>, source: SourceNetwork, now: Instant) -> Caller {
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

    /// Somebody came in, with this user's password or with a token.
    pub fn came_in(&mut self, user: Option<Fingerprint>, source: SourceNetwork) {
        self.enter(self.source(source));
        if let Some(user) = user {
            self.enter(self.user(user));
            self.enter(self.pair(user, source));
        }
    }

    /// The tenant is asked about this user.
    pub fn asked(&mut self, user: Fingerprint, now: Instant) {
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
    fn the_memory_is_bounded_and_who_comes_back_stays() {
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
    fn a_user_about_whom_it_is_asked_often_is_not_known_for_as_long() {
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
