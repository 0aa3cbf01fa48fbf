//! A hash for the broker's addresses.

use std::hash::Hasher;

/// Hashes the broker's addresses. Nobody chooses them, so a multiplication will do, and a check at
/// every message is cheaper for it than with the standard library's hash.
#[derive(Default)]
pub struct AddressHasher(u64);

impl AddressHasher {
    /// An address, mixed: the highest bits of a product depend on all bits, and are folded into the low half.
    #[inline]
    pub fn mix(address: usize) -> u64 {
        let mixed = (address as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // The standard library's table looks at the lowest bits and at the highest seven.
        mixed ^ (mixed >> 32)
    }
}

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("an address is one number")
    }

    fn write_usize(&mut self, address: usize) {
        self.0 = Self::mix(address);
    }
}
