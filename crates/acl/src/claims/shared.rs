//! Equal claims, one set of grants: ten thousand devices of one profile hold the same one.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash, RandomState},
    sync::{Arc, Weak},
};

use super::Grants;

/// The sets that somebody holds, by a hash of the claims that they were made from.
#[derive(Default)]
pub struct Shared {
    /// Two keys that are drawn at random, for a hash of 128 bits: nobody can find claims that share a hash with
    /// others, or hope to.
    keys: [RandomState; 2],
    known: HashMap<[u64; 2], Weak<Grants>>,
    /// How many there may be until those that nobody holds are looked for.
    room: usize,
}

impl Shared {
    /// The set that was made from these claims, or a new one.
    ///
    /// # Errors
    ///
    /// What `make` says.
    pub fn obtain<E>(
        &mut self,
        claims: impl Hash,
        make: impl FnOnce() -> Result<Grants, E>,
    ) -> Result<Arc<Grants>, E> {
        let claims = self.keys.each_ref().map(|key| key.hash_one(&claims));
        if let Some(known) = self.known.get(&claims).and_then(Weak::upgrade) {
            return Ok(known);
        }
        let made = Arc::new(make()?);
        if self.known.len() >= self.room {
            self.known.retain(|_, grants| grants.strong_count() > 0);
            self.room = 2 * self.known.len() + 64;
            self.known.shrink_to(self.room);
        }
        self.known.insert(claims, Arc::downgrade(&made));
        Ok(made)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_claims_share_and_nothing_is_kept_that_nobody_holds() {
        let mut shared = Shared::default();
        let mut obtain = |claims: &str| {
            shared
                .obtain(claims, || Ok::<_, ()>(Grants::default()))
                .unwrap()
        };
        let (a, again, b) = (obtain("a"), obtain("a"), obtain("b"));
        assert!(Arc::ptr_eq(&a, &again) && !Arc::ptr_eq(&a, &b));
        for i in 0..10_000 {
            obtain(&i.to_string());
        }
        assert!(Arc::ptr_eq(&a, &obtain("a")));
        assert!(shared.known.len() < 200, "{}", shared.known.len());
        let failed = shared.obtain("c", || Err::<Grants, _>("bad"));
        assert_eq!(failed.err(), Some("bad"));
    }
}
