//! A directory of its own for each thing that needs files, gone when the thing is.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::{env, fs, io, process};

/// A new empty directory under the system's temporary directory, removed on drop.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Creates the directory. `label` becomes part of its name, so that a stray one says whose it
    /// was.
    pub fn new(label: &str) -> io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        loop {
            let nth = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = env::temp_dir().join(format!("{label}-{}-{nth}", process::id()));
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Self { path }),
                // A process that was killed may have had our process id.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file into it and says where.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> io::Result<PathBuf> {
        let file = self.path.join(name);
        fs::write(&file, content)?;
        Ok(file)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_directory_is_its_own_and_goes_with_its_owner() {
        let (one, two) = (Scratch::new("lab").unwrap(), Scratch::new("lab").unwrap());
        assert_ne!(one.path(), two.path());
        let file = one.write("file", "text").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "text");
        let path = one.path().to_owned();
        drop(one);
        assert!(!path.exists());
    }
}
