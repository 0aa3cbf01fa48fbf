//! A hash that is the same within this process.

use std::hash::{DefaultHasher, Hash, Hasher};

/// Returns the hash of a value. Who chooses values can make two have the same hash.
pub(crate) fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
