//! Which time windows are open.

use std::sync::atomic::{AtomicU64, Ordering};

/// One bit for each time window of a policy file, by its number. A rule applies while its window is open; window 0 is
/// always open.
///
/// The schedule sets the bits, and every check reads them, so they have no lock.
#[derive(Debug, Default)]
pub(crate) struct OpenWindows(Box<[AtomicU64]>);

impl OpenWindows {
    /// Returns `count` closed windows, besides window 0.
    pub(crate) fn new(count: usize) -> Self {
        Self(
            (0..(count + 1).div_ceil(64))
                .map(|_| AtomicU64::new(0))
                .collect(),
        )
    }

    /// Opens or closes a window.
    pub(crate) fn set(&self, window: u32, open: bool) {
        let (word, bit) = (&self.0[window as usize / 64], 1 << (window % 64));
        if open {
            word.fetch_or(bit, Ordering::Relaxed);
        } else {
            word.fetch_and(!bit, Ordering::Relaxed);
        }
    }

    #[inline]
    pub(crate) fn is_open(&self, window: u32) -> bool {
        window == 0
            || self
                .0
                .get(window as usize / 64)
                .is_some_and(|word| word.load(Ordering::Relaxed) >> (window % 64) & 1 == 1)
    }
}
