//! A broker whose wall clock a test sets while it runs: see `wall.c`.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use crate::broker::MosquittoBuilder;
use crate::preload::compile;
use crate::scratch::Scratch;

/// Controls the wall clock of brokers.
#[derive(Debug)]
pub struct WallClock {
    library: PathBuf,
    path: PathBuf,
    file: File,
    _scratch: Scratch,
}

impl WallClock {
    /// Compiles the library. The clock is right at first.
    ///
    /// # Errors
    ///
    /// Returns an error without a C compiler, which building the plugin needs as well.
    pub fn new() -> Result<Self, String> {
        let scratch = Scratch::new("wall").map_err(|error| error.to_string())?;
        let path = scratch
            .write("ahead", [0; 16])
            .map_err(|error| error.to_string())?;
        let file = OpenOptions::new().write(true).open(&path);
        Ok(Self {
            library: compile(&scratch, "wall", include_str!("wall.c"))?,
            file: file.map_err(|error| error.to_string())?,
            path,
            _scratch: scratch,
        })
    }

    /// Starts the broker with the library.
    #[must_use]
    pub fn of(&self, builder: MosquittoBuilder) -> MosquittoBuilder {
        builder
            .env("LD_PRELOAD", &self.library)
            .env("WALL_AHEAD", &self.path)
    }

    /// Sets how many seconds the clock is ahead of the right time; negative if it is behind.
    ///
    /// # Panics
    ///
    /// Panics when its file cannot be written.
    pub fn set(&self, seconds: f64) {
        self.write(seconds, 0);
    }

    /// Sets how many seconds the machine has been suspended in all, while the wall clock went on.
    ///
    /// # Panics
    ///
    /// Panics when its file cannot be written.
    pub fn sleep(&self, seconds: f64) {
        self.write(seconds, 8);
    }

    fn write(&self, seconds: f64, at: u64) {
        let nanos = (seconds * 1e9) as i64;
        self.file
            .write_all_at(&nanos.to_ne_bytes(), at)
            .expect("a file");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn the_clock_of_a_program_is_set() {
        let wall = WallClock::new().unwrap();
        for seconds in [0, 34_560_000, -34_560_000] {
            wall.set(f64::from(seconds));
            let output = Command::new("date")
                .arg("+%s")
                .env("LD_PRELOAD", &wall.library)
                .env("WALL_AHEAD", &wall.path)
                .output()
                .unwrap();
            let said: i64 = String::from_utf8_lossy(&output.stdout)
                .trim()
                .parse()
                .unwrap();
            let right = crate::signing::now() as i64 + i64::from(seconds);
            assert!((right - 10..=right).contains(&said), "{said}, not {right}");
        }
    }
}
