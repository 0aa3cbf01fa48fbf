//! Shares compiled rules: ten thousand devices of one profile hold the same set.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash, RandomState},
    sync::{Arc, Weak},
};

/// The values that somebody holds, by a hash of what they were made from.
#[derive(Debug)]
pub struct Interner<T> {
    /// Two random keys, for a hash of 128 bits. Nobody can find two sources with the same hash.
    keys: [RandomState; 2],
    known: HashMap<[u64; 2], Weak<T>>,
    /// At this number of entries those that nobody holds are removed.
    room: usize,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self {
            keys: Default::default(),
            known: HashMap::new(),
            room: 0,
        }
    }
}

impl<T> Interner<T> {
    /// Returns the value that was made from an equal source, or makes one.
    ///
    /// # Errors
    ///
    /// What `make` returns.
    pub fn obtain<E>(
        &mut self,
        source: impl Hash,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<Arc<T>, E> {
        let source = self.keys.each_ref().map(|key| key.hash_one(&source));
        if let Some(known) = self.known.get(&source).and_then(Weak::upgrade) {
            return Ok(known);
        }
        let made = Arc::new(make()?);
        if self.known.len() >= self.room {
            self.known.retain(|_, value| value.strong_count() > 0);
            self.room = 2 * self.known.len() + 64;
            self.known.shrink_to(self.room);
        }
        self.known.insert(source, Arc::downgrade(&made));
        Ok(made)
    }

    /// Returns how many entries there are, also of values that nobody holds any more.
    #[cfg(test)]
    pub fn entries(&self) -> usize {
        self.known.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_sources_share_and_what_nobody_holds_is_removed() {
        let mut interner = Interner::default();
        let mut obtain = |source: &str| interner.obtain(source, || Ok::<_, ()>(())).unwrap();
        let (a, again, b) = (obtain("a"), obtain("a"), obtain("b"));
        assert!(Arc::ptr_eq(&a, &again) && !Arc::ptr_eq(&a, &b));
        for i in 0..10_000 {
            obtain(&i.to_string());
        }
        assert!(Arc::ptr_eq(&a, &obtain("a")));
        assert!(interner.entries() < 200, "{}", interner.entries());
        let failed = interner.obtain("c", || Err::<(), _>("bad"));
        assert_eq!(failed.err(), Some("bad"));
    }
}
