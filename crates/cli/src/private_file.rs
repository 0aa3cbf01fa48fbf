//! Files that only their owner may read, which are replaced whole or not at all.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

use crate::output::Failure;

/// The longest file that is read.
const MAX_FILE: u64 = 1024 * 1024;

/// Returns what is in a file, if it is there.
///
/// # Errors
///
/// Returns a failure if it cannot be read, or if everybody can read it.
pub(crate) fn read(path: &Path) -> Result<Option<String>, Failure> {
    let shown = path.display();
    let metadata = match fs::metadata(path) {
        Err(why) if why.kind() == ErrorKind::NotFound => return Ok(None),
        metadata => metadata.map_err(|why| unusable(path, &why))?,
    };
    if metadata.mode() & 0o007 != 0 {
        return Err(Failure::new(format!("{shown} can be used by everybody"))
            .fix(format!("chmod o-rwx {shown}")));
    }
    if metadata.len() > MAX_FILE {
        return Err(Failure::new(format!(
            "{shown} has more than {MAX_FILE} bytes"
        )));
    }
    let text = fs::read_to_string(path).map_err(|why| unusable(path, &why))?;
    Ok(Some(text))
}

/// What will take the place of a file. It is made before its content is known, so that nothing is asked for that could
/// not be kept.
pub(crate) struct Replacement {
    file: File,
    temporary: PathBuf,
    path: PathBuf,
    is_done: bool,
}

impl Replacement {
    /// Makes an empty file beside the one to be replaced, with its owner and mode. A new file is for its owner alone.
    ///
    /// # Errors
    ///
    /// Returns a failure if it cannot be made.
    pub(crate) fn prepare(path: &Path) -> Result<Self, Failure> {
        // A link stays, and what it points at is replaced.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // No name that Mosquitto would read below `include_dir`.
        let temporary = path.with_file_name(format!(".{name}.{}.new", std::process::id()));
        let _ = fs::remove_file(&temporary);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)
            .map_err(|why| unwritable(&path, &why))?;
        // From here on the empty file is removed if something fails.
        let prepared = Self {
            file,
            temporary,
            path,
            is_done: false,
        };
        match prepared.take_over() {
            Ok(()) => Ok(prepared),
            Err(why) => Err(unwritable(&prepared.path, &why)),
        }
    }

    /// Takes over the owner and the mode of the file that is replaced.
    fn take_over(&self) -> io::Result<()> {
        let Ok(before) = fs::metadata(&self.path) else {
            return Ok(());
        };
        let own = self.file.metadata()?;
        if (own.uid(), own.gid()) != (before.uid(), before.gid()) {
            fchown(&self.file, Some(before.uid()), Some(before.gid()))?;
        }
        self.file
            .set_permissions(Permissions::from_mode(before.mode() & 0o7777))
    }

    /// Puts the content in place. After that it is on the disk.
    ///
    /// # Errors
    ///
    /// Returns a failure if it cannot be written; the file is as it was then.
    pub(crate) fn commit(mut self, text: &str) -> Result<(), Failure> {
        let written = self
            .file
            .write_all(text.as_bytes())
            .and_then(|()| self.file.sync_all())
            .and_then(|()| fs::rename(&self.temporary, &self.path));
        written.map_err(|why| unwritable(&self.path, &why))?;
        self.is_done = true;
        // A folder that cannot be synchronised is no reason to give the content up.
        if let Some(folder) = self.path.parent() {
            let _ = File::open(folder).and_then(|folder| folder.sync_all());
        }
        Ok(())
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if !self.is_done {
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// Keeps other processes of this tool from a file, until it is dropped.
pub(crate) struct Lock(#[allow(dead_code, reason = "dropping it unlocks")] File);

impl Lock {
    /// Waits until no other process has the file.
    ///
    /// # Errors
    ///
    /// Returns a failure if there can be no lock.
    pub(crate) fn of(path: &Path) -> Result<Self, Failure> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let beside = path.with_file_name(format!(".{name}.lock"));
        let lock = || {
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&beside)?;
            flock(&file, FlockOperation::LockExclusive)?;
            Ok(file)
        };
        lock()
            .map(Self)
            .map_err(|why: io::Error| unwritable(&beside, &why))
    }
}

/// Makes a folder for its owner alone, if it is not there.
///
/// # Errors
///
/// Returns a failure if it cannot be made.
pub(crate) fn make_folder(path: &Path) -> Result<(), Failure> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|why| unwritable(path, &why))
}

fn unusable(path: &Path, why: &io::Error) -> Failure {
    Failure::new(format!("{} cannot be read: {why}", path.display()))
}

fn unwritable(path: &Path, why: &io::Error) -> Failure {
    Failure::new(format!("{} cannot be written: {why}", path.display()))
}
