//! A broker whose wall clock a test sets while it runs: see `wall.c`.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use crate::broker::Builder;
use crate::preload::compile;
use crate::scratch::Scratch;

/// A wall clock.
#[derive(Debug)]
pub struct Wall {
    library: PathBuf,
    path: PathBuf,
    file: File,
    _scratch: Scratch,
}

impl Wall {
    /// One that is right.
    ///
    /// # Errors
    /// When there is no C compiler, which building the plugin needs as well.
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

    /// The broker that goes by it.
    #[must_use]
    pub fn of(&self, builder: Builder) -> Builder {
        builder
            .env("LD_PRELOAD", &self.library)
            .env("WALL_AHEAD", &self.path)
    }

    /// From now on it is ahead of the right time by this many seconds, or behind if they are negative.
    ///
    /// # Panics
    /// When its file cannot be written.
    pub fn set(&self, seconds: f64) {
        self.write(seconds, 0);
    }

    /// The machine has slept for so many seconds in all, and the clock went on.
    ///
    /// # Panics
    /// When its file cannot be written.
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
    fn a_program_s_clock_is_set() {
        let wall = Wall::new().unwrap();
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
