//! Which level follows which: one hash table for all nodes of a tree that have many names below them.
//!
//! A table of its own and not the standard library's, because this one takes levels as
//! [`super::levels`] makes them and keeps those of up to eight bytes (most are) in the table itself.
//! The hash is not keyed: what is in the table was signed by the tenant or written by the operator, so
//! nobody can fill one place of it on purpose.

use super::levels::Level;

/// `(parent, name)` to a node. Node 0, the root, is nobody's child: it marks a free place.
#[derive(Debug)]
pub(super) struct Names {
    places: Box<[Place]>,
    /// How far a hash is moved, so that as many of its highest bits are left as places have.
    shift: u32,
    taken: usize,
    /// What names have beyond their first eight bytes.
    tails: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Place {
    /// The name's first eight bytes.
    word: u64,
    /// The hash of parent and name.
    hash: u64,
    parent: u32,
    child: u32,
    tail: u32,
    len: u32,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            places: vec![Place::default(); 2].into(),
            shift: 63,
            taken: 0,
            tails: Vec::new(),
        }
    }
}

impl Names {
    /// The child of that name; 0 if there is none. `text` is what the level is one of.
    #[inline]
    pub fn find(&self, parent: u32, level: &Level, text: &[u8]) -> u32 {
        let mut at = (hash(parent, level, text) >> self.shift) as usize;
        // Some place is free.
        while let Some(place) = self.places.get(at) {
            if place.child == 0
                || place.word == level.word
                    && place.parent == parent
                    && place.len as usize == level.len()
                    && (place.len <= 8 || self.has_tail(place, level, text))
            {
                return place.child;
            }
            at = (at + 1) & (self.places.len() - 1);
        }
        0
    }

    /// Not inlined: it would slow down the names that have no tail.
    #[inline(never)]
    fn has_tail(&self, place: &Place, level: &Level, text: &[u8]) -> bool {
        let from = place.tail as usize;
        self.tails.get(from..from + level.len() - 8) == Some(level.tail(text))
    }

    /// Adds a name that is not there.
    pub fn add(&mut self, parent: u32, level: &Level, text: &[u8], child: u32) {
        // Never more than half full, so that a look is mostly at one place.
        if (self.taken + 1) * 2 > self.places.len() {
            self.shift -= 1;
            let more = vec![Place::default(); self.places.len() * 2].into();
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
            hash: hash(parent, level, text),
            parent,
            child,
            tail,
            len: level.len() as u32,
        });
    }

    fn put(&mut self, place: Place) {
        let mut at = (place.hash >> self.shift) as usize;
        while self.places[at].child != 0 {
            at = (at + 1) & (self.places.len() - 1);
        }
        self.places[at] = place;
    }
}

/// The multiplier of Fibonacci hashing: 2^64 divided by the golden ratio. The highest bits are good.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

#[inline(always)]
fn hash(parent: u32, level: &Level, text: &[u8]) -> u64 {
    let mut mixed = (level.word ^ u64::from(parent).wrapping_mul(GOLDEN)).wrapping_mul(GOLDEN);
    // Digits differ in few bits, and what is above them must not decide alone.
    mixed ^= mixed >> 32;
    if level.len() > 8 {
        mixed = with_tail(mixed, level, text);
    }
    mixed.wrapping_mul(GOLDEN)
}

#[inline(never)]
fn with_tail(mut mixed: u64, level: &Level, text: &[u8]) -> u64 {
    for byte in level.tail(text) {
        mixed = (mixed.rotate_left(8) ^ u64::from(*byte)).wrapping_mul(GOLDEN);
    }
    mixed ^ mixed >> 32
}
