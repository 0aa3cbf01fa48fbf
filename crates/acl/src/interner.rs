//! Shares compiled rules: ten thousand devices with the same topics hold the same rules.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash, RandomState},
    sync::{Arc, Weak},
};

/// In how many parts the values are kept. [`Interner::tidy`] takes one at a time, so that it never takes long.
const PARTS: usize = 16;

/// The values in use, by a hash of the sources that they were made from.
#[derive(Debug)]
pub struct Interner<T> {
    /// Two random keys, for a hash of 128 bits. Nobody can find two sources with the same hash.
    keys: [RandomState; 2],
    parts: [HashMap<[u64; 2], Weak<T>>; PARTS],
    /// The part that is tidied next.
    next: usize,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self {
            keys: Default::default(),
            parts: Default::default(),
            next: 0,
        }
    }
}

impl<T> Interner<T> {
    /// Returns the value that was made from an equal source, or makes one.
    ///
    /// # Errors
    ///
    /// Returns the error of `make`.
    pub fn obtain<E>(
        &mut self,
        source: impl Hash,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<Arc<T>, E> {
        let source = self.keys.each_ref().map(|key| key.hash_one(&source));
        let part = &mut self.parts[source[0] as usize % PARTS];
        if let Some(known) = part.get(&source).and_then(Weak::upgrade) {
            return Ok(known);
        }
        let made = Arc::new(make()?);
        if part.len() == part.capacity() {
            remove_unused(part);
            // So much room that this is rare.
            part.reserve(part.len() + 1);
        }
        part.insert(source, Arc::downgrade(&made));
        Ok(made)
    }

    /// Frees what is left of values that are no longer in use, in one of the parts. Meant to be called every second.
    pub fn tidy(&mut self) {
        remove_unused(&mut self.parts[self.next]);
        self.next = (self.next + 1) % PARTS;
    }

    /// Returns the number of entries, also of values that are no longer in use.
    #[cfg(test)]
    pub fn entries(&self) -> usize {
        self.parts.iter().map(HashMap::len).sum()
    }
}

fn remove_unused<T>(part: &mut HashMap<[u64; 2], Weak<T>>) {
    part.retain(|_, value| value.strong_count() > 0);
    part.shrink_to(2 * part.len());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_sources_share_and_unused_values_are_removed() {
        let mut interner = Interner::default();
        let mut obtain = |source: &str| interner.obtain(source, || Ok::<_, ()>(())).unwrap();
        let (a, again, b) = (obtain("a"), obtain("a"), obtain("b"));
        assert!(Arc::ptr_eq(&a, &again) && !Arc::ptr_eq(&a, &b));
        let many = if cfg!(miri) { 1_000 } else { 10_000 };
        for i in 0..many {
            obtain(&i.to_string());
        }
        assert!(Arc::ptr_eq(&a, &obtain("a")));
        assert!(interner.entries() < 400, "{}", interner.entries());
        for _ in 0..PARTS {
            interner.tidy();
        }
        assert_eq!(interner.entries(), 2);
        drop((a, again, b));
        for _ in 0..PARTS {
            interner.tidy();
        }
        let rooms = interner.parts.iter().map(HashMap::capacity);
        assert_eq!((interner.entries(), rooms.sum()), (0, 0_usize));
        let failed = interner.obtain("c", || Err::<(), _>("bad"));
        assert_eq!(failed.err(), Some("bad"));
    }
}
