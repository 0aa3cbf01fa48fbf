//! A folder in which the plugin keeps state over a restart. Its files are private and replaced atomically,
//! and a file that somebody else could have written is not read.

use std::{
    fs::{self, DirBuilder, File, Metadata, OpenOptions, TryLockError},
    io::{self, ErrorKind, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use crate::files::FileError;

/// What is wrong with a folder for state.
#[derive(Debug)]
pub(crate) enum FolderError {
    /// Its path does not begin with a slash.
    NotAbsolute,
    /// It is not a folder.
    NotAFolder(PathBuf),
    /// It cannot be opened.
    Unusable(PathBuf, io::Error),
    /// The broker's user cannot create a file in it.
    Unwritable(PathBuf, io::Error),
    /// It, or a folder above it, belongs to this user, who could put another one in its place.
    OwnedBy(PathBuf, u32),
    /// It, or a folder above it, has these permission bits, with which others could put another one in its place.
    ChangeableByOthers(PathBuf, u32),
}

/// The longest file that is read where nothing else is said, in bytes. A key set has a few kilobytes.
const MAX_FILE: u64 = 256 * 1024;

/// The folder.
#[derive(Clone, Debug)]
pub(crate) struct StateDir {
    path: PathBuf,
    /// The user ID of the broker's process, which owns the files that it creates.
    user: u32,
}

impl StateDir {
    /// Opens a folder that the broker can write in and that nobody else can change. Creates it if the folder above
    /// exists.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the folder, or with one above it.
    pub(crate) fn open(path: &Path) -> Result<Self, FolderError> {
        if !path.is_absolute() {
            return Err(FolderError::NotAbsolute);
        }
        let unusable = |e| FolderError::Unusable(path.into(), e);
        // If that fails, the next step says why.
        let _ = DirBuilder::new().mode(0o700).create(path);
        let real = path.canonicalize().map_err(unusable)?;
        if !real.is_dir() {
            return Err(FolderError::NotAFolder(path.into()));
        }
        let probe = Self {
            path: real,
            user: 0,
        };
        let unwritable = |e| FolderError::Unwritable(path.into(), e);
        let (name, file) = probe.create().map_err(unwritable)?;
        let user = file.metadata().map(|metadata| metadata.uid());
        let _ = fs::remove_file(&name);
        let user = user.map_err(unusable)?;
        let dir = Self { user, ..probe };
        dir.is_safe()?;
        Ok(dir)
    }

    /// Opens a folder for a tool that only reads, perhaps as another user than the broker's. Creates nothing: `None` if
    /// the plugin would create the folder.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the folder, or with one above it.
    pub(crate) fn look(path: &Path) -> Result<Option<Self>, FolderError> {
        if !path.is_absolute() {
            return Err(FolderError::NotAbsolute);
        }
        let unusable = |e| FolderError::Unusable(path.into(), e);
        let real = match path.canonicalize() {
            Ok(real) => real,
            Err(why) => {
                let is_above = path.parent().is_some_and(Path::is_dir);
                return match why.kind() == ErrorKind::NotFound && is_above {
                    true => Ok(None),
                    false => Err(unusable(why)),
                };
            }
        };
        if !real.is_dir() {
            return Err(FolderError::NotAFolder(path.into()));
        }
        let user = fs::metadata(&real).map_err(unusable)?.uid();
        let dir = Self { path: real, user };
        dir.is_safe()?;
        Ok(Some(dir))
    }

    /// Checks the folders above: whoever can rename one of them can put another one in its place. In a sticky
    /// folder (/tmp) only the owner can rename a file.
    fn is_safe(&self) -> Result<(), FolderError> {
        for folder in self.path.ancestors() {
            let metadata =
                fs::metadata(folder).map_err(|e| FolderError::Unusable(folder.into(), e))?;
            let (mode, owner) = (metadata.mode(), metadata.uid());
            let sticky = mode & 0o1000 != 0 && folder != self.path;
            if owner != self.user && owner != 0 {
                return Err(FolderError::OwnedBy(folder.into(), owner));
            }
            if mode & 0o022 != 0 && !sticky {
                return Err(FolderError::ChangeableByOthers(
                    folder.into(),
                    mode & 0o7777,
                ));
            }
        }
        Ok(())
    }

    /// Returns a file's bytes, or `None` if the file does not exist.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be read or somebody else could have written it.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, FileError> {
        self.read_up_to(name, MAX_FILE)
    }

    /// Returns the bytes of a file that may be this long, or `None` if the file does not exist.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be read or somebody else could have written it.
    pub(crate) fn read_up_to(
        &self,
        name: &str,
        longest: u64,
    ) -> Result<Option<Vec<u8>>, FileError> {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open(self.path_of(name));
        let file = match file {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(FileError::Unreadable(e)),
            Ok(file) => file,
        };
        let metadata = file.metadata().map_err(FileError::Unreadable)?;
        self.is_ours(&metadata)?;
        let mut bytes = Vec::new();
        file.take(longest + 1)
            .read_to_end(&mut bytes)
            .map_err(FileError::Unreadable)?;
        if bytes.len() as u64 > longest {
            return Err(FileError::TooLong(longest));
        }
        Ok(Some(bytes))
    }

    /// Opens an existing file, to append to it.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be written or somebody else could have written it.
    pub(crate) fn append_to(&self, name: &str) -> Result<File, FileError> {
        let file = OpenOptions::new()
            .append(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open(self.path_of(name))
            .map_err(FileError::Unwritable)?;
        self.is_ours(&file.metadata().map_err(FileError::Unwritable)?)?;
        Ok(file)
    }

    /// Locks a file against other processes, as long as it is open. Creates it if it does not exist. Returns `None` if
    /// another process has it locked.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be opened, or if the system locks no files here.
    pub(crate) fn try_lock(&self, name: &str) -> io::Result<Option<File>> {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open(self.path_of(name))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(why)) => Err(why),
        }
    }

    fn is_ours(&self, metadata: &Metadata) -> Result<(), FileError> {
        if !metadata.is_file() {
            return Err(FileError::NotRegular);
        }
        if metadata.uid() != self.user && metadata.uid() != 0 {
            return Err(FileError::OwnedBy(metadata.uid()));
        }
        let mode = metadata.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(FileError::UsableByOthers { mode });
        }
        Ok(())
    }

    /// Replaces a file atomically: after a power cut the old or the new content is there, never half of
    /// either.
    ///
    /// # Errors
    ///
    /// Returns [`FileError::Unwritable`].
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), FileError> {
        let write = || -> io::Result<()> {
            let (temporary, mut file) = self.create()?;
            let written = file
                .write_all(bytes)
                .and_then(|()| file.sync_all())
                .and_then(|()| fs::rename(&temporary, self.path_of(name)));
            if written.is_err() {
                let _ = fs::remove_file(&temporary);
            }
            written?;
            File::open(&self.path)?.sync_all()
        };
        write().map_err(FileError::Unwritable)
    }

    /// Returns the full path of a file in this folder.
    pub(crate) fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Creates a private file under a temporary name.
    fn create(&self) -> io::Result<(PathBuf, File)> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = self.path_of(&format!(".new-{}-{number}", std::process::id()));
        // A killed process with the same process ID may have left its file behind.
        let _ = fs::remove_file(&path);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
            .open(&path)?;
        Ok((path, file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_file_is_private_and_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let dir = StateDir::open(folder.path()).unwrap();
        assert_eq!(dir.read("a").unwrap(), None);
        dir.write("a", b"one").unwrap();
        dir.write("a", b"two").unwrap();
        assert_eq!(dir.read("a").unwrap().unwrap(), b"two");
        assert_eq!(
            fs::metadata(dir.path_of("a")).unwrap().mode() & 0o7777,
            0o600
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_missing_folder_is_created_for_the_broker_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("auth0");
        let dir = StateDir::open(&path).unwrap();
        dir.write("a", b"x").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o700);
    }

    #[test]
    fn a_write_that_fails_keeps_the_old_file_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let dir = StateDir::open(folder.path()).unwrap();
        // A rename cannot replace a folder by a file.
        fs::create_dir(dir.path_of("a")).unwrap();
        let result = dir.write("a", b"x");
        assert!(matches!(result, Err(FileError::Unwritable(_))));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_others_could_have_written_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let dir = StateDir::open(folder.path()).unwrap();
        dir.write("a", b"x").unwrap();
        for bad in [0o620, 0o602, 0o640, 0o604] {
            mode(&dir.path_of("a"), bad);
            let result = dir.read("a");
            assert!(
                matches!(result, Err(FileError::UsableByOthers { mode }) if mode == bad),
                "{bad:o}"
            );
        }
        symlink(dir.path_of("a"), dir.path_of("link")).unwrap();
        assert!(dir.read("link").is_err());
        fs::create_dir(dir.path_of("folder")).unwrap();
        assert!(matches!(dir.read("folder"), Err(FileError::NotRegular)));
        fs::write(dir.path_of("long"), vec![b'x'; MAX_FILE as usize + 1]).unwrap();
        mode(&dir.path_of("long"), 0o600);
        assert!(matches!(dir.read("long"), Err(FileError::TooLong(_))));
        let other = StateDir {
            user: dir.user + 4242,
            path: dir.path.clone(),
        };
        mode(&dir.path_of("a"), 0o600);
        // Files of root are trusted too, so as root there is nothing to check.
        assert!(dir.user == 0 || matches!(other.read("a"), Err(FileError::OwnedBy(_))));
    }

    #[test]
    fn a_folder_that_others_can_change_is_refused_with_the_fix() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        fs::create_dir(&inner).unwrap();
        for (path, bad) in [
            (inner.as_path(), 0o770),
            (inner.as_path(), 0o1777),
            (folder.path(), 0o707),
        ] {
            mode(path, bad);
            let why = StateDir::open(&inner).unwrap_err().to_string();
            assert!(why.contains("chmod go-w"), "{why}");
            mode(path, 0o700);
        }
        mode(folder.path(), 0o1777);
        assert!(
            StateDir::open(&inner).is_ok(),
            "a sticky folder above is good"
        );
        assert_eq!(fs::read_dir(&inner).unwrap().count(), 0);

        for (path, why) in [
            (folder.path().join("missing/inner"), "install -d"),
            (PathBuf::from("here"), "full path"),
            (PathBuf::from("/dev/null"), "not a folder"),
        ] {
            assert!(
                StateDir::open(&path).unwrap_err().to_string().contains(why),
                "{}",
                path.display()
            );
        }
    }
}
