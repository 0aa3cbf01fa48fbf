//! A broker on a machine that has no more threads, or no more file descriptors.

use std::fs;
use std::path::PathBuf;

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::broker::{Mosquitto, MosquittoBuilder};
use crate::preload::compile;
use crate::scratch::Scratch;

/// Controls whether brokers can start threads: see `threads.c`.
#[derive(Debug)]
pub struct Threads {
    library: PathBuf,
    fault: PathBuf,
    _scratch: Scratch,
}

impl Threads {
    /// Compiles the library. Threads start as usual at first.
    ///
    /// # Errors
    ///
    /// Returns an error without a C compiler, which building the plugin needs as well.
    pub fn new() -> Result<Self, String> {
        let scratch = Scratch::new("threads").map_err(|error| error.to_string())?;
        Ok(Self {
            library: compile(&scratch, "threads", include_str!("threads.c"))?,
            fault: scratch.path().join("fault"),
            _scratch: scratch,
        })
    }

    /// Starts the broker with the library.
    #[must_use]
    pub fn of(&self, builder: MosquittoBuilder) -> MosquittoBuilder {
        builder
            .env("LD_PRELOAD", &self.library)
            .env("THREADS_FAULT", &self.fault)
    }

    /// Lets no more threads start.
    ///
    /// # Panics
    ///
    /// Panics when the disk cannot be written.
    pub fn run_out(&self) {
        fs::write(&self.fault, "").expect("a file");
    }

    /// Lets threads start again.
    ///
    /// # Panics
    ///
    /// Panics when they could start all the time.
    pub fn suffice(&self) {
        fs::remove_file(&self.fault).expect("a file");
    }
}

/// Returns how many files a process has open, sockets among them.
///
/// # Panics
///
/// Panics when there is no such process.
#[must_use]
pub fn open_files(pid: u32) -> usize {
    descriptors(pid).len()
}

fn descriptors(pid: u32) -> Vec<u64> {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).expect("a process of ours");
    let names = files.filter_map(|file| file.ok()?.file_name().into_string().ok());
    names.filter_map(|name| name.parse().ok()).collect()
}

/// Lets the broker open only so many more files, or as many as it likes.
///
/// # Panics
///
/// Panics when the system does not allow it.
pub fn limit_files(broker: &Mosquitto, more: Option<u64>) {
    let pid = Pid::from_raw(broker.pid() as i32).expect("a process");
    let now = prlimit(Some(pid), Resource::Nofile, unlimited()).expect("a process of ours");
    if let Some(more) = more {
        // The limit is about numbers, and a new file gets the lowest one that is free.
        let taken = descriptors(broker.pid());
        let free = (0..).filter(|number| !taken.contains(number));
        let current = free.take(more as usize + 1).last();
        let maximum = now.maximum;
        prlimit(Some(pid), Resource::Nofile, Rlimit { current, maximum }).expect("a lower limit");
    }
}

/// Returns the limit that a broker has otherwise. It is far from being reached.
fn unlimited() -> Rlimit {
    let own = rustix::process::getrlimit(Resource::Nofile);
    Rlimit {
        current: own.maximum,
        maximum: own.maximum,
    }
}
