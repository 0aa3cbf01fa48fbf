//! Reads the files that options name: whole, up to a maximum size, and without ever blocking.

use std::{
    fs::{self, Metadata},
    io::Read,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};

/// A file's bytes, which may hold a secret, and its metadata.
pub struct Content {
    /// The file's content.
    pub bytes: Vec<u8>,
    metadata: Metadata,
}

impl Content {
    /// Refuses a file that users other than its owner and group can read or change.
    ///
    /// # Errors
    ///
    /// Returns a sentence with the fix, which follows the file's name.
    pub fn is_private(&self, path: &Path) -> Result<(), String> {
        let mode = self.metadata.mode();
        if mode & 0o007 == 0 {
            return Ok(());
        }
        Err(format!(
            "may be used by every user of this machine (mode {:04o}); run: chmod 640 {p} && chgrp mosquitto {p}",
            mode & 0o7777,
            p = path.display()
        ))
    }
}

impl Content {
    /// Refuses a file that users other than its owner and group can change, because its content decides who
    /// may do what.
    ///
    /// # Errors
    ///
    /// Returns a sentence with the fix, which follows the file's name.
    pub fn check_only_owner_can_change(&self, path: &Path) -> Result<(), String> {
        let mode = self.metadata.mode();
        if mode & 0o002 == 0 {
            return Ok(());
        }
        Err(format!(
            "may be changed by every user of this machine (mode {:04o}); run: chmod o-w {}",
            mode & 0o7777,
            path.display()
        ))
    }
}

/// Reads a regular file of at most `max` bytes.
///
/// # Errors
///
/// Returns a sentence with the fix, which follows the file's name and never quotes its content.
pub fn read(path: &Path, max: u64) -> Result<Content, String> {
    let file = fs::OpenOptions::new()
        .read(true)
        // Opening a FIFO must not block the broker.
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path)
        .map_err(|e| format!("cannot be read ({e}); the broker's own user (usually `mosquitto`) must be able to read it"))?;
    let metadata = file
        .metadata()
        .map_err(|e| format!("cannot be examined ({e})"))?;
    if !metadata.is_file() {
        return Err("is not a regular file".into());
    }
    let too_long = || format!("is longer than {max} bytes; name the right file");
    if metadata.len() > max {
        return Err(too_long());
    }
    // Reserved at once: a vector that grows would leave copies of a secret in freed memory.
    let mut bytes = Vec::with_capacity(metadata.len() as usize + 1);
    file.take(max + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| format!("cannot be read ({e})"))?;
    if bytes.len() as u64 > max {
        return Err(too_long());
    }
    Ok(Content { bytes, metadata })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsuitable_files_are_refused_without_blocking() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        assert!(
            std::process::Command::new("mkfifo")
                .arg(&fifo)
                .status()
                .unwrap()
                .success()
        );
        for (path, why) in [
            (fifo.as_path(), "regular file"),
            (Path::new("/dev/zero"), "regular file"),
            (Path::new("/"), "regular file"),
            (Path::new("/nonexistent"), "cannot be read"),
        ] {
            assert!(
                read(path, 100).err().unwrap().contains(why),
                "{}",
                path.display()
            );
        }
        let long = folder.path().join("long");
        fs::write(&long, [b'x'; 101]).unwrap();
        assert!(read(&long, 100).err().unwrap().contains("longer"));
        assert_eq!(read(&long, 101).ok().unwrap().bytes.len(), 101);
    }
}
