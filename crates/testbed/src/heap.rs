//! How much a broker has on its heap, counted block by block: see `heap.c`.

use std::fs;
use std::path::PathBuf;

use crate::broker::Builder;
use crate::preload::compile;
use crate::scratch::Scratch;

/// Watches one broker's heap.
#[derive(Debug)]
pub struct Heap {
    library: PathBuf,
    counts: PathBuf,
    _scratch: Scratch,
}

/// What is on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Bytes, with what the C library needs for itself.
    pub bytes: i64,
    /// Blocks.
    pub blocks: i64,
    /// The most bytes there ever were.
    pub peak: i64,
}

impl Heap {
    /// Makes the library that counts.
    ///
    /// # Errors
    /// When there is no C compiler, which building the plugin needs as well.
    pub fn new() -> Result<Self, String> {
        let scratch = Scratch::new("heap").map_err(|error| error.to_string())?;
        let library = compile(&scratch, "heap", include_str!("heap.c"))?;
        Ok(Self {
            library,
            counts: scratch.path().join("counts"),
            _scratch: scratch,
        })
    }

    /// The broker that will be watched.
    #[must_use]
    pub fn watch(&self, builder: Builder) -> Builder {
        builder
            .env("LD_PRELOAD", &self.library)
            .env("HEAP_COUNTS", &self.counts)
    }

    /// What is on it now.
    ///
    /// # Panics
    /// When the broker does not run.
    #[must_use]
    pub fn now(&self) -> Counts {
        let counts = fs::read(&self.counts).expect("a broker that counts");
        let number = |place: usize| {
            let bytes = counts.get(place..place + 8).expect("three counts");
            i64::from_ne_bytes(bytes.try_into().expect("eight bytes"))
        };
        Counts {
            bytes: number(0),
            blocks: number(8),
            peak: number(16),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::{Broker, Version};

    #[test]
    fn a_broker_s_heap_is_counted() {
        let heap = Heap::new().unwrap();
        let builder = Broker::builder(Version::V2_0_21).allow_anonymous(true);
        let _broker = heap.watch(builder).start().unwrap();
        let counts = heap.now();
        assert!(counts.blocks > 10, "{counts:?}");
        assert!(counts.bytes > 24 * counts.blocks, "{counts:?}");
        assert!(counts.peak >= counts.bytes, "{counts:?}");
    }
}
