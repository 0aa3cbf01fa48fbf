//! Reading the files that options name: whole, capped, and never for ever.

use std::{
    fs::{self, Metadata},
    io::Read,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};

/// A file's bytes, which may hold a secret, and what it is.
pub struct Content {
    /// The bytes.
    pub bytes: Vec<u8>,
    metadata: Metadata,
}

impl Content {
    /// Refuses a file that users of this machine other than its owner and group may use.
    ///
    /// # Errors
    ///
    /// A sentence with the cure, that follows the file's name.
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
    /// Refuses a file that users of this machine other than its owner and group may change: what it
    /// says decides who may do what.
    ///
    /// # Errors
    ///
    /// A sentence with the cure, that follows the file's name.
    pub fn is_kept(&self, path: &Path) -> Result<(), String> {
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
/// A sentence with the cure, that follows the file's name; never its content.
pub fn read(path: &Path, max: u64) -> Result<Content, String> {
    let file = fs::OpenOptions::new()
        .read(true)
        // A FIFO must not hang the broker.
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
    // With its final size from the start: a vector that grows leaves copies of a secret behind.
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
    fn what_is_no_file_of_ours_is_refused_at_once() {
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
