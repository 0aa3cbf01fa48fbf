//! A set that forgets its oldest members, without a time for each of them.
//!
//! Members are added to the newer of two generations. When that is full or old enough, the owner of the set calls
//! [`turn`](Generations::turn): the newer generation becomes the older one, and the older one is forgotten.

use std::{
    collections::HashSet,
    hash::{BuildHasherDefault, Hasher},
    mem,
};

/// The set. Its members are keyed hashes, so they take little room, and nobody can choose two values with the same
/// hash.
#[derive(Debug, Default)]
pub(crate) struct Generations {
    newer: HashSet<u64, BuildHasherDefault<HashedBefore>>,
    older: HashSet<u64, BuildHasherDefault<HashedBefore>>,
}

impl Generations {
    /// Whether this is a member.
    pub(crate) fn contains(&self, hash: u64) -> bool {
        self.newer.contains(&hash) || self.older.contains(&hash)
    }

    /// Adds a member to the newer generation if that has fewer than `most`. Returns whether it is there now.
    pub(crate) fn insert(&mut self, hash: u64, most: usize) -> bool {
        let fits = self.newer.len() < most || self.newer.contains(&hash);
        if fits {
            self.newer.insert(hash);
        }
        fits
    }

    /// Removes a member from both generations.
    pub(crate) fn remove(&mut self, hash: u64) {
        self.newer.remove(&hash);
        self.older.remove(&hash);
    }

    /// Forgets the older generation and begins a new one. Returns whether anything was forgotten.
    pub(crate) fn turn(&mut self) -> bool {
        let forgotten = mem::replace(&mut self.older, mem::take(&mut self.newer));
        !forgotten.is_empty()
    }

    /// Returns the number of members of the newer and the older generation.
    #[cfg(test)]
    pub(crate) fn lengths(&self) -> [usize; 2] {
        [self.newer.len(), self.older.len()]
    }
}

/// A hasher that returns a hash as it is, because hashing it again would only cost time.
#[derive(Default)]
struct HashedBefore(u64);

impl Hasher for HashedBefore {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("a u64 hashes itself with `write_u64`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_lasts_until_the_second_turn() {
        let mut set = Generations::default();
        assert!(set.insert(1, 2) && set.insert(2, 2) && set.insert(1, 2));
        assert!(!set.insert(3, 2) && !set.contains(3));
        assert!(!set.turn());
        assert!(set.insert(3, 2) && set.contains(1) && set.contains(2));
        assert_eq!(set.lengths(), [1, 2]);
        set.remove(2);
        assert!(!set.contains(2));
        assert!(set.turn());
        assert!(!set.contains(1) && set.contains(3));
    }
}
