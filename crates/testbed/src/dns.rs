//! A broker for which a test can make name resolution fail: see `dns.c`.

use std::fs;
use std::path::PathBuf;

use crate::broker::MosquittoBuilder;
use crate::preload::compile;
use crate::scratch::Scratch;

/// Controls the name resolution of brokers.
#[derive(Debug)]
pub struct Dns {
    library: PathBuf,
    fault: PathBuf,
    scratch: Scratch,
}

/// A way in which DNS fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DnsFault {
    /// The name does not exist.
    Unknown,
    /// No server answers.
    NoServer,
    /// Lookups hang until the fault is over.
    Hang,
}

impl Dns {
    /// Compiles the library. Names are resolved as usual at first.
    ///
    /// # Errors
    ///
    /// Returns an error without a C compiler, which building the plugin needs as well.
    pub fn new() -> Result<Self, String> {
        let scratch = Scratch::new("names").map_err(|error| error.to_string())?;
        let names = Self {
            library: compile(&scratch, "names", include_str!("dns.c"))?,
            fault: scratch.path().join("fault"),
            scratch,
        };
        names.behave();
        Ok(names)
    }

    /// Starts the broker with the library.
    #[must_use]
    pub fn of(&self, builder: MosquittoBuilder) -> MosquittoBuilder {
        builder
            .env("LD_PRELOAD", &self.library)
            .env("NAMES_FAULT", &self.fault)
    }

    /// Makes lookups fail from now on.
    pub fn fail(&self, fault: DnsFault) {
        self.set(match fault {
            DnsFault::Unknown => "n",
            DnsFault::NoServer => "a",
            DnsFault::Hang => "h",
        });
    }

    /// Resolves names as usual again. Lookups that hang continue.
    pub fn behave(&self) {
        self.set("ok");
    }

    fn set(&self, state: &str) {
        // Renamed into place, so that no lookup reads a file that is only half written.
        let new = self.scratch.write("new", state).expect("a file");
        fs::rename(new, &self.fault).expect("a file");
    }
}
