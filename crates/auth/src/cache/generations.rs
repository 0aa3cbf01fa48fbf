//! A set that forgets what is old, without a time beside each member.
//!
//! Members are added to the newer of two generations. When it is full or old enough, its owner calls
//! [`turn`](Generations::turn): it becomes the older one, and what was the older one is forgotten.

use std::{
    collections::HashSet,
    hash::{BuildHasherDefault, Hasher},
    mem,
};

/// The set. Its members are keyed hashes of what they stand for, so they take little room and no stranger can
/// choose two that are the same.
#[derive(Debug, Default)]
pub struct Generations {
    newer: HashSet<u64, BuildHasherDefault<HashedBefore>>,
    older: HashSet<u64, BuildHasherDefault<HashedBefore>>,
}

impl Generations {
    /// Whether this is a member.
    pub fn contains(&self, hash: u64) -> bool {
        self.newer.contains(&hash) || self.older.contains(&hash)
    }

    /// Adds a member to the newer generation if that has fewer than `most`. Returns whether it is there now.
    pub fn insert(&mut self, hash: u64, most: usize) -> bool {
        let fits = self.newer.len() < most || self.newer.contains(&hash);
        if fits {
            self.newer.insert(hash);
        }
        fits
    }

    /// Removes a member from both generations.
    pub fn remove(&mut self, hash: u64) {
        self.newer.remove(&hash);
        self.older.remove(&hash);
    }

    /// Forgets the older generation and begins a new one. Returns whether anything was forgotten.
    pub fn turn(&mut self) -> bool {
        let forgotten = mem::replace(&mut self.older, mem::take(&mut self.newer));
        !forgotten.is_empty()
    }

    /// How many members the newer and the older generation have.
    #[cfg(test)]
    pub fn lengths(&self) -> [usize; 2] {
        [self.newer.len(), self.older.len()]
    }
}

/// Takes a hash as it is, because to hash it once more would only cost time.
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
