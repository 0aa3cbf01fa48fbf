//! A table of bounded size whose entries end by themselves. The keys are fingerprints of credentials.

use std::collections::{BTreeMap, HashMap, btree_map};

use crate::{clock::Unix, secret::Fingerprint};

/// The maximum number of entries: twice the largest fleet that this is made for. In a full table the entries that end
/// first are removed.
const MAX_ENTRIES: usize = 200_000;

/// The capacity that is worth returning memory to the system for.
const MUCH: usize = 1000;

/// The table.
pub(crate) struct ExpiringMap<V> {
    /// Boxed, because up to half of a hash table is empty.
    entries: HashMap<Fingerprint, Box<ExpiringEntry<V>>>,
    /// The keys by when they end, in no order. (An ordered set of both would compare whole fingerprints, and most
    /// entries change their end.)
    by_end: BTreeMap<Unix, Vec<Fingerprint>>,
}

struct ExpiringEntry<V> {
    value: V,
    end: Unix,
    /// The place in the list of those that end then.
    place: usize,
}

impl<V> Default for ExpiringMap<V> {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
            by_end: BTreeMap::new(),
        }
    }
}

impl<V> ExpiringMap<V> {
    /// Returns an entry.
    pub(crate) fn get(&mut self, key: Fingerprint, now: Unix) -> Option<&V> {
        self.remove_expired(now);
        self.entries.get(&key).map(|entry| &entry.value)
    }

    /// Returns an entry that may have ended.
    pub(crate) fn peek(&self, key: Fingerprint) -> Option<&V> {
        self.entries.get(&key).map(|entry| &entry.value)
    }

    /// Adds an entry that lasts until `end`, in place of an earlier one.
    pub(crate) fn insert(&mut self, key: Fingerprint, value: V, end: Unix, now: Unix) {
        self.remove(key);
        if end <= now {
            return;
        }
        while self.entries.len() >= MAX_ENTRIES {
            let Some(first) = self.first() else {
                break;
            };
            self.remove(first);
        }
        let place = self.list(key, end);
        let entry = ExpiringEntry { value, end, place };
        self.entries.insert(key, Box::new(entry));
    }

    /// Makes an entry end no later than this.
    pub(crate) fn end_by(&mut self, key: Fingerprint, end: Unix) {
        if self.entries.get(&key).is_some_and(|entry| end < entry.end) {
            self.end_at(key, end);
        }
    }

    /// Makes an entry end at this time, sooner or later than it would have.
    pub(crate) fn end_at(&mut self, key: Fingerprint, end: Unix) {
        let Some(entry) = self.entries.get(&key).filter(|entry| entry.end != end) else {
            return;
        };
        self.unlist(entry.end, entry.place);
        let place = self.list(key, end);
        let entry = self.entries.get_mut(&key).expect("it was here");
        (entry.end, entry.place) = (end, place);
    }

    /// Removes an entry.
    pub(crate) fn remove(&mut self, key: Fingerprint) {
        if let Some(entry) = self.entries.remove(&key) {
            self.unlist(entry.end, entry.place);
        }
    }

    /// Returns one of the entries that end first.
    fn first(&self) -> Option<Fingerprint> {
        self.by_end.first_key_value()?.1.last().copied()
    }

    fn list(&mut self, key: Fingerprint, end: Unix) -> usize {
        match self.by_end.entry(end) {
            // Most lists have one entry. An empty list that grows would take room for four.
            btree_map::Entry::Vacant(vacant) => {
                vacant.insert(vec![key]);
                0
            }
            btree_map::Entry::Occupied(mut occupied) => {
                occupied.get_mut().push(key);
                occupied.get().len() - 1
            }
        }
    }

    fn unlist(&mut self, end: Unix, place: usize) {
        let list = self.by_end.get_mut(&end).expect("a list for each end");
        list.swap_remove(place);
        // The last key has taken its place.
        if let Some(moved) = list.get(place)
            && let Some(entry) = self.entries.get_mut(moved)
        {
            entry.place = place;
        }
        if list.is_empty() {
            self.by_end.remove(&end);
        } else if list.len() < list.capacity() / 8 {
            list.shrink_to(2 * list.len());
        }
    }

    /// Removes the entries for which this is true. Returns how many. It looks at all of them.
    pub(crate) fn remove_where(&mut self, is_so: impl Fn(&V) -> bool) -> usize {
        let keys: Vec<_> = self
            .entries
            .iter()
            .filter(|(_, entry)| is_so(&entry.value))
            .map(|(key, _)| *key)
            .collect();
        for key in &keys {
            self.remove(*key);
        }
        keys.len()
    }

    /// Removes what has ended, and returns the memory of a fleet that has gone. Returns whether that was much.
    pub(crate) fn remove_expired(&mut self, now: Unix) -> bool {
        while let Some((&end, _)) = self.by_end.first_key_value()
            && end <= now
        {
            for key in self.by_end.remove(&end).into_iter().flatten() {
                self.entries.remove(&key);
            }
        }
        let room = self.entries.capacity();
        if self.entries.len() >= room / 8 {
            return false;
        }
        self.entries.shrink_to(2 * self.entries.len());
        room > MUCH
    }

    /// Adjusts to a clock that was set by this many seconds: every entry lasts as long as before.
    pub(crate) fn clock_was_set(&mut self, by: i64) {
        for entry in self.entries.values_mut() {
            entry.end = entry.end.moved(by);
        }
        for (end, mut keys) in std::mem::take(&mut self.by_end) {
            // The first and the last representable time may join several ends.
            let list = self.by_end.entry(end.moved(by)).or_default();
            for (place, key) in (list.len()..).zip(&keys) {
                if let Some(entry) = self.entries.get_mut(key) {
                    entry.place = place;
                }
            }
            list.append(&mut keys);
        }
    }

    /// Returns all values.
    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.entries.values_mut().map(|entry| &mut entry.value)
    }

    /// Returns how many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.by_end.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::secret::Fingerprinter;

    #[test]
    fn expired_entries_free_their_room() {
        let prints = Fingerprinter::new().unwrap();
        let key = |i: u64| prints.of(&i.to_le_bytes());
        let mut table = ExpiringMap::default();
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
        table.remove_expired(Unix(20_000));
        assert!(table.is_empty() && table.entries.capacity() < 100);

        // A fleet whose tokens end in the same second, and one of it stays.
        for i in 0..10_000 {
            table.insert(key(i), i, Unix(90_000), Unix(20_000));
        }
        for i in 1..10_000 {
            table.end_by(key(i), Unix(20_060));
        }
        table.remove_expired(Unix(20_060));
        let rooms: usize = table.by_end.values().map(Vec::capacity).sum();
        assert!(table.entries.len() == 1 && rooms < 100, "{rooms}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn the_table_behaves_like_a_plain_map(steps in vec((0..6u8, 0..12u8, 0..40u64), 0..200)) {
            let prints = Fingerprinter::new().unwrap();
            let mut table = ExpiringMap::default();
            let mut plain: HashMap<u8, (usize, u64)> = HashMap::new();
            let mut now = 1000;
            for (value, (what, number, seconds)) in steps.into_iter().enumerate() {
                let (key, end) = (prints.of(&[number]), now + seconds);
                match what {
                    0 => {
                        table.insert(key, value, Unix(end), Unix(now));
                        plain.insert(number, (value, end));
                    }
                    1 => {
                        table.end_by(key, Unix(end));
                        plain.entry(number).and_modify(|(_, old)| *old = end.min(*old));
                    }
                    2 => {
                        table.end_at(key, Unix(end));
                        plain.entry(number).and_modify(|(_, old)| *old = end);
                    }
                    3 => {
                        table.remove(key);
                        plain.remove(&number);
                    }
                    4 => {
                        let by = seconds as i64 - 20;
                        table.clock_was_set(by);
                        now = now.saturating_add_signed(by);
                        plain.values_mut().for_each(|(_, end)| *end = end.saturating_add_signed(by));
                    }
                    _ => {
                        now += seconds / 4;
                        table.remove_expired(Unix(now));
                    }
                }
                plain.retain(|_, (_, end)| *end > now);
                table.remove_expired(Unix(now));
                prop_assert_eq!(table.entries.len(), plain.len());
                let listed: usize = table.by_end.values().map(Vec::len).sum();
                prop_assert_eq!(listed, plain.len());
                for (number, (value, _)) in &plain {
                    prop_assert_eq!(table.get(prints.of(&[*number]), Unix(now)), Some(value));
                }
            }
        }
    }

    #[test]
    fn a_full_table_forgets_what_ends_first() {
        let prints = Fingerprinter::new().unwrap();
        let key = |i: usize| prints.of(&i.to_le_bytes());
        let mut table = ExpiringMap::default();
        for i in 0..=MAX_ENTRIES {
            table.insert(key(i), (), Unix(1_000_000 - i as u64), Unix(1));
        }
        assert_eq!(table.entries.len(), MAX_ENTRIES);
        let last = MAX_ENTRIES - 1;
        assert!(table.get(key(last), Unix(2)).is_none(), "the first to end");
        assert!(table.get(key(0), Unix(2)).is_some());
    }
}
