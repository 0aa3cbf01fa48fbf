//! Reads the files that options name: whole, up to a maximum size, and without ever blocking.

use std::{
    fs::{self, File, Metadata},
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use crate::mount::Mount;

/// What is wrong with a file. Its content is no part of that.
#[derive(Debug)]
pub enum FileError {
    /// It cannot be opened or read.
    Unreadable(io::Error),
    /// It cannot be written.
    Unwritable(io::Error),
    /// It is not a regular file.
    NotRegular,
    /// It is longer than this many bytes.
    TooLong(u64),
    /// It is empty.
    Empty,
    /// It is not UTF-8 text.
    NotText,
    /// It belongs to this user, who is neither the broker's nor root.
    OwnedBy(u32),
    /// Others than its owner can use it, and nobody else should.
    UsableByOthers {
        /// Its permission bits.
        mode: u32,
    },
    /// Every user of the machine can use it.
    UsableByAll {
        /// Where it is.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Every user of the machine can use it, and its mode cannot be changed where it is.
    UsableByAllForGood {
        /// Its permission bits.
        mode: u32,
    },
    /// Every user of the machine can change it.
    ChangeableByAll {
        /// Where it is.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

/// A file's bytes, which may hold a secret, and its metadata.
pub struct Content {
    /// The file's content.
    pub bytes: Vec<u8>,
    metadata: Metadata,
    file: File,
}

impl Content {
    /// Refuses a file that users other than its owner and group can read or change.
    ///
    /// A file that was mounted read-only for this purpose may be readable, as Docker and Kubernetes mount
    /// secrets (mode 0444 or 0644). Its mode cannot be changed there, and says nothing: who has the mount in
    /// view can read it, and that is the container.
    ///
    /// # Errors
    ///
    /// Returns [`FileError::UsableByAll`] or [`FileError::UsableByAllForGood`].
    pub(crate) fn is_private(&self, path: &Path) -> Result<(), FileError> {
        let mode = self.mode();
        if mode & 0o007 == 0 {
            return Ok(());
        }
        match Mount::of(&self.file) {
            Some(mount) if mount.read_only && mount.made_for_it && mode & 0o002 == 0 => Ok(()),
            Some(mount) if mount.read_only => Err(FileError::UsableByAllForGood { mode }),
            _ => Err(FileError::UsableByAll {
                path: path.into(),
                mode,
            }),
        }
    }

    /// Refuses a file that users other than its owner and group can change, because its content decides who
    /// may do what.
    ///
    /// # Errors
    ///
    /// Returns [`FileError::ChangeableByAll`].
    pub(crate) fn check_only_owner_can_change(&self, path: &Path) -> Result<(), FileError> {
        let mode = self.mode();
        if mode & 0o002 == 0 {
            return Ok(());
        }
        let path = path.into();
        Err(FileError::ChangeableByAll { path, mode })
    }

    fn mode(&self) -> u32 {
        self.metadata.mode() & 0o7777
    }
}

/// Reads a regular file of at most `max` bytes.
///
/// # Errors
///
/// Returns what is wrong with the file.
pub fn read(path: &Path, max: u64) -> Result<Content, FileError> {
    let file = fs::OpenOptions::new()
        .read(true)
        // Opening a FIFO must not block the broker.
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path)
        .map_err(FileError::Unreadable)?;
    let metadata = file.metadata().map_err(FileError::Unreadable)?;
    if !metadata.is_file() {
        return Err(FileError::NotRegular);
    }
    if metadata.len() > max {
        return Err(FileError::TooLong(max));
    }
    // Reserved at once: a vector that grows would leave copies of a secret in freed memory.
    let mut bytes = Vec::with_capacity(metadata.len() as usize + 1);
    (&file)
        .take(max + 1)
        .read_to_end(&mut bytes)
        .map_err(FileError::Unreadable)?;
    if bytes.len() as u64 > max {
        return Err(FileError::TooLong(max));
    }
    Ok(Content {
        bytes,
        metadata,
        file,
    })
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
                read(path, 100).err().unwrap().to_string().contains(why),
                "{}",
                path.display()
            );
        }
        let long = folder.path().join("long");
        fs::write(&long, [b'x'; 101]).unwrap();
        assert!(matches!(read(&long, 100), Err(FileError::TooLong(100))));
        assert_eq!(read(&long, 101).ok().unwrap().bytes.len(), 101);
    }
}
