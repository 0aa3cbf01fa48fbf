//! A hasher for addresses of the broker.

use std::hash::Hasher;

/// Hashes addresses of the broker. Nobody chooses them, so one multiplication is enough. It makes a check cheaper than
/// the hash of the standard library does.
#[derive(Default)]
pub struct AddressHasher(u64);

impl AddressHasher {
    /// Mixes an address. The highest bits of a product depend on all bits, so they are folded into the low half.
    #[inline]
    pub fn mix(address: usize) -> u64 {
        let mixed = (address as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // The standard library's hash table uses the lowest bits and the highest seven.
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
