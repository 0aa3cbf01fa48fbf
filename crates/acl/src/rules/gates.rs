//! Which rules with a schedule are in force.

use std::sync::atomic::{AtomicU64, Ordering};

/// One gate for each schedule. A rule counts while its gate is open; gate 0 is always open.
///
/// The calendar sets the gates, and every check reads them, so they have no lock.
#[derive(Debug, Default)]
pub struct Gates(Box<[AtomicU64]>);

impl Gates {
    /// Returns `count` shut gates, besides gate 0.
    pub fn new(count: usize) -> Self {
        Self(
            (0..(count + 1).div_ceil(64))
                .map(|_| AtomicU64::new(0))
                .collect(),
        )
    }

    /// Opens or shuts a gate.
    pub fn set(&self, gate: u32, open: bool) {
        let (word, bit) = (&self.0[gate as usize / 64], 1 << (gate % 64));
        if open {
            word.fetch_or(bit, Ordering::Relaxed);
        } else {
            word.fetch_and(!bit, Ordering::Relaxed);
        }
    }

    #[inline]
    pub(super) fn is_open(&self, gate: u32) -> bool {
        gate == 0
            || self
                .0
                .get(gate as usize / 64)
                .is_some_and(|word| word.load(Ordering::Relaxed) >> (gate % 64) & 1 == 1)
    }
}
