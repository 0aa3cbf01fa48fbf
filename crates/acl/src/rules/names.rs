//! Which level follows which: one hash table for all nodes of a tree that have many names below them.
//!
//! A table of its own and not the standard library's, because this one takes levels as
//! [`super::levels`] makes them and keeps those of up to eight bytes (most are) in the table itself.
//! The hash is not keyed: what is in the table was signed by the tenant or written by the operator, so
//! nobody can fill one place of it on purpose.

use super::levels::Level;

/// `(parent, name)` to a node. Node 0, the root, is nobody's child: it marks a free place.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// None, or a power of two.
    places: Box<[Place]>,
    taken: u32,
    /// How far a hash is moved, so that as many of its highest bits are left as places have.
    shift: u32,
    /// What names have beyond their first eight bytes.
    tails: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Place {
    /// The name's first eight bytes.
    word: u64,
    parent: u32,
    child: u32,
    /// Where the rest of the name is in `tails`.
    tail: u32,
    len: u32,
}

impl Names {
    /// The child of that name; 0 if there is none. `text` is what the level is one of.
    #[inline(always)]
    pub fn find(&self, parent: u32, level: &Level, text: &[u8]) -> u32 {
        let hash = match level.len() {
            0..=8 => hash(parent, level.word),
            _ => with_tail(hash(parent, level.word), level.tail(text)),
        };
        let mut at = (hash >> (self.shift & 63)) as usize;
        // Some place is free, or there is none.
        while let Some(place) = self.places.get(at) {
            if place.child == 0
                || place.word == level.word
                    && place.parent == parent
                    && place.len as usize == level.len()
                    && (place.len <= 8 || self.tail(place) == level.tail(text))
            {
                return place.child;
            }
            at = (at + 1) & (self.places.len() - 1);
        }
        0
    }

    fn tail(&self, place: &Place) -> &[u8] {
        let from = place.tail as usize;
        let tail = from..from + (place.len as usize).saturating_sub(8);
        self.tails.get(tail).unwrap_or_default()
    }

    /// Adds a name that is not there.
    pub fn add(&mut self, parent: u32, level: &Level, text: &[u8], child: u32) {
        // At most three quarters full, so that a look is mostly at one place or two.
        if (self.taken as usize + 1) * 4 > self.places.len() * 3 {
            let size = (self.places.len() * 2).max(4);
            self.shift = 64 - size.trailing_zeros();
            let more = vec![Place::default(); size].into();
            for place in std::mem::replace(&mut self.places, more) {
                if place.child != 0 {
                    self.put(place);
                }
            }
        }
        let tail = self.tails.len() as u32;
        self.tails.extend_from_slice(level.tail(text));
        self.taken += 1;
        self.put(Place {
            word: level.word,
            parent,
            child,
            tail,
            len: level.len() as u32,
        });
    }

    fn put(&mut self, place: Place) {
        let hash = match place.len {
            0..=8 => hash(place.parent, place.word),
            _ => with_tail(hash(place.parent, place.word), self.tail(&place)),
        };
        let mut at = (hash >> self.shift) as usize;
        while self.places[at].child != 0 {
            at = (at + 1) & (self.places.len() - 1);
        }
        self.places[at] = place;
    }
}

/// The multiplier of Fibonacci hashing: 2^64 divided by the golden ratio. The highest bits are good.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

#[inline(always)]
fn hash(parent: u32, word: u64) -> u64 {
    let mut mixed = (word ^ u64::from(parent).wrapping_mul(GOLDEN)).wrapping_mul(GOLDEN);
    // Digits differ in few bits, and what is above them must not decide alone.
    mixed ^= mixed >> 32;
    mixed.wrapping_mul(GOLDEN)
}

/// Not inlined: it would slow down the names that have no tail.
#[inline(never)]
fn with_tail(mut mixed: u64, tail: &[u8]) -> u64 {
    for byte in tail {
        mixed = (mixed.rotate_left(8) ^ u64::from(*byte)).wrapping_mul(GOLDEN);
    }
    mixed ^= mixed >> 32;
    mixed.wrapping_mul(GOLDEN)
}
