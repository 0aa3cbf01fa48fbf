//! A broker for which names cannot be resolved when a test wants it: see `names.c`.

use std::fs;
use std::path::PathBuf;

use crate::broker::Builder;
use crate::preload::compile;
use crate::scratch::Scratch;

/// What becomes of names.
#[derive(Debug)]
pub struct Names {
    library: PathBuf,
    fault: PathBuf,
    scratch: Scratch,
}

/// A way in which DNS fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// There is no such name.
    Unknown,
    /// No server answers.
    NoServer,
    /// Nothing comes back until the fault is over.
    Hang,
}

impl Names {
    /// Names that are resolved as always.
    ///
    /// # Errors
    /// When there is no C compiler, which building the plugin needs as well.
    pub fn new() -> Result<Self, String> {
        let scratch = Scratch::new("names").map_err(|error| error.to_string())?;
        let names = Self {
            library: compile(&scratch, "names", include_str!("names.c"))?,
            fault: scratch.path().join("fault"),
            scratch,
        };
        names.behave();
        Ok(names)
    }

    /// The broker that depends on them.
    #[must_use]
    pub fn of(&self, builder: Builder) -> Builder {
        builder
            .env("LD_PRELOAD", &self.library)
            .env("NAMES_FAULT", &self.fault)
    }

    /// They fail from now on.
    pub fn fail(&self, fault: Fault) {
        self.set(match fault {
            Fault::Unknown => "n",
            Fault::NoServer => "a",
            Fault::Hang => "h",
        });
    }

    /// They are resolved again; whoever waits goes on.
    pub fn behave(&self) {
        self.set("ok");
    }

    fn set(&self, state: &str) {
        // Moved into place, so that nobody reads it between empty and full.
        let new = self.scratch.write("new", state).expect("a file");
        fs::rename(new, &self.fault).expect("a file");
    }
}
