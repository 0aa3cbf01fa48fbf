//! A bounded table of credentials whose entries end by themselves.

use std::collections::{BTreeSet, HashMap};

use crate::{clock::Unix, secret::Fingerprint};

/// How many credentials are remembered: twice the largest fleet this is made for. Beyond it those
/// go first that would go next anyway.
const MAX_REMEMBERED: usize = 200_000;

/// So much room given back is worth a look at the heap as a whole.
const MUCH: usize = 1000;

/// The table.
pub struct Expiring<V> {
    known: HashMap<Fingerprint, (V, Unix)>,
    by_end: BTreeSet<(Unix, Fingerprint)>,
}

impl<V> Default for Expiring<V> {
    fn default() -> Self {
        Self {
            known: HashMap::new(),
            by_end: BTreeSet::new(),
        }
    }
}

impl<V> Expiring<V> {
    /// What is known of this credential.
    pub fn get(&mut self, key: Fingerprint, now: Unix) -> Option<&V> {
        self.forget_old(now);
        self.known.get(&key).map(|(value, _)| value)
    }

    /// Keeps something until `end`, in place of what was kept before.
    pub fn insert(&mut self, key: Fingerprint, value: V, end: Unix, now: Unix) {
        self.forget(key);
        if end <= now {
            return;
        }
        while self.known.len() >= MAX_REMEMBERED {
            let Some((_, first)) = self.by_end.first().copied() else {
                break;
            };
            self.forget(first);
        }
        self.known.insert(key, (value, end));
        self.by_end.insert((end, key));
    }

    /// Has an entry end no later than this.
    pub fn end_by(&mut self, key: Fingerprint, end: Unix) {
        if let Some((_, old)) = self.known.get(&key)
            && end < *old
        {
            self.end_at(key, end);
        }
    }

    /// Has an entry end at this moment, sooner or later than it would have.
    pub fn end_at(&mut self, key: Fingerprint, end: Unix) {
        if let Some((_, old)) = self.known.get_mut(&key)
            && end != *old
        {
            self.by_end.remove(&(*old, key));
            *old = end;
            self.by_end.insert((end, key));
        }
    }

    /// Forgets one.
    pub fn forget(&mut self, key: Fingerprint) {
        if let Some((_, end)) = self.known.remove(&key) {
            self.by_end.remove(&(end, key));
        }
    }

    /// Forgets what has ended, and gives back the room of a fleet that has gone; whether that was
    /// much.
    pub fn forget_old(&mut self, now: Unix) -> bool {
        while let Some(&(end, key)) = self.by_end.first()
            && end <= now
        {
            self.forget(key);
        }
        let room = self.known.capacity();
        if self.known.len() >= room / 8 {
            return false;
        }
        self.known.shrink_to(2 * self.known.len());
        room > MUCH
    }

    /// How many are known.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty() && self.by_end.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Fingerprinter;

    #[test]
    fn entries_end_and_give_their_room_back() {
        let prints = Fingerprinter::new().unwrap();
        let key = |i: u64| prints.of(&i.to_le_bytes());
        let mut table = Expiring::default();
        for i in 0..10_000 {
            table.insert(key(i), i, Unix(1000 + i), Unix(999));
        }
        assert_eq!(table.get(key(7), Unix(1006)), Some(&7));
        assert_eq!(table.get(key(7), Unix(1007)), None);
        table.end_by(key(9999), Unix(1010));
        table.end_by(key(8), Unix(5000));
        assert_eq!(table.get(key(8), Unix(1008)), None, "no longer than it had");
        assert_eq!(table.get(key(9999), Unix(1009)), Some(&9999));
        assert_eq!(table.get(key(9999), Unix(1010)), None);
        table.forget_old(Unix(20_000));
        assert!(table.is_empty() && table.known.capacity() < 100);
    }

    #[test]
    fn a_full_table_forgets_what_ends_first() {
        let prints = Fingerprinter::new().unwrap();
        let key = |i: usize| prints.of(&i.to_le_bytes());
        let mut table = Expiring::default();
        for i in 0..=MAX_REMEMBERED {
            table.insert(key(i), (), Unix(1_000_000 - i as u64), Unix(1));
        }
        assert_eq!(table.len(), MAX_REMEMBERED);
        let last = MAX_REMEMBERED - 1;
        assert!(table.get(key(last), Unix(2)).is_none(), "the first to end");
        assert!(table.get(key(0), Unix(2)).is_some());
    }
}
