//! Counts the memory on a broker's heap, block by block: see `heap.c`.

use std::fs;
use std::path::PathBuf;

use crate::broker::MosquittoBuilder;
use crate::preload::compile;
use crate::scratch::Scratch;

/// The heap of one broker.
#[derive(Debug)]
pub struct Heap {
    library: PathBuf,
    counts: PathBuf,
    _scratch: Scratch,
}

/// The memory on the heap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Bytes, including those that the C library adds to each block.
    pub bytes: i64,
    /// The number of blocks.
    pub blocks: i64,
    /// The maximum of the bytes so far.
    pub peak: i64,
}

impl Heap {
    /// Compiles the counting library.
    ///
    /// # Errors
    ///
    /// Returns an error without a C compiler, which building the plugin needs as well.
    pub fn new() -> Result<Self, String> {
        let scratch = Scratch::new("heap").map_err(|error| error.to_string())?;
        let library = compile(&scratch, "heap", include_str!("heap.c"))?;
        Ok(Self {
            library,
            counts: scratch.path().join("counts"),
            _scratch: scratch,
        })
    }

    /// Starts the broker with the library.
    #[must_use]
    pub fn watch(&self, builder: MosquittoBuilder) -> MosquittoBuilder {
        builder
            .env("LD_PRELOAD", &self.library)
            .env("HEAP_COUNTS", &self.counts)
    }

    /// Returns the current counts.
    ///
    /// # Panics
    ///
    /// Panics when the broker is not running.
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
    use crate::broker::{Mosquitto, Version};

    #[test]
    fn a_brokers_heap_is_counted() {
        let heap = Heap::new().unwrap();
        let builder = Mosquitto::builder(Version::V2_0_21).allow_anonymous(true);
        let _broker = heap.watch(builder).start().unwrap();
        let counts = heap.now();
        assert!(counts.blocks > 10, "{counts:?}");
        assert!(counts.bytes > 24 * counts.blocks, "{counts:?}");
        assert!(counts.peak >= counts.bytes, "{counts:?}");
    }
}
