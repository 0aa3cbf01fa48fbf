//! What is wrong with a file or a folder. Each sentence begins with "it".

use std::fmt;

use crate::{files::FileError, state_dir::FolderError};

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(e) => write!(
                f,
                "it cannot be read ({e}); the broker's own user (usually `mosquitto`) must be able to read it"
            ),
            Self::Unwritable(e) => write!(f, "it cannot be written ({e})"),
            Self::NotRegular => f.write_str("it is not a regular file"),
            Self::TooLong(max) => {
                write!(f, "it is longer than {max} bytes; name the right file")
            }
            Self::Empty => f.write_str("it is empty; write the secret into it"),
            Self::NotText => f.write_str("it is not UTF-8 text"),
            Self::OwnedBy(user) => write!(f, "it belongs to user {user}"),
            Self::UsableByOthers { mode } => {
                write!(f, "it may be used by others (mode {mode:04o})")
            }
            Self::UsableByAll { path, mode } => {
                let path = path.display();
                write!(
                    f,
                    "it may be used by every user of this machine (mode {mode:04o}); \
                     run: chmod 640 {path} && chgrp mosquitto {path}"
                )
            }
            Self::UsableByAllForGood { mode } => write!(
                f,
                "it may be used by every user of this machine (mode {mode:04o}), and as it is on a read-only mount, \
                 chmod cannot change that here; give it the mode 0640 where it comes from (outside of the container or \
                 of the systemd unit), or for a container mount that one file, as Docker does with secrets"
            ),
            Self::ChangeableByAll { path, mode } => {
                let path = path.display();
                write!(
                    f,
                    "it may be changed by every user of this machine (mode {mode:04o}); run: chmod o-w {path}"
                )
            }
        }
    }
}

impl fmt::Display for FolderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MAKE: &str = "run: install -d -o mosquitto -g mosquitto -m 700";
        match self {
            Self::NotAbsolute => f.write_str("it is not a full path; begin it with a slash"),
            Self::NotAFolder(path) => {
                write!(
                    f,
                    "it is not a folder; remove it and {MAKE} {}",
                    path.display()
                )
            }
            Self::Unusable(path, e) => {
                write!(f, "it cannot be used ({e}); {MAKE} {}", path.display())
            }
            Self::Unwritable(path, e) => write!(
                f,
                "it cannot be written in by the broker's own user, usually mosquitto ({e}); {MAKE} {}",
                path.display()
            ),
            Self::OwnedBy(folder, owner) => {
                let folder = folder.display();
                write!(
                    f,
                    "it could be changed by user {owner}, who owns {folder}; run: chown mosquitto {folder}"
                )
            }
            Self::ChangeableByOthers(folder, mode) => {
                let folder = folder.display();
                write!(
                    f,
                    "it could be changed by others ({folder} has mode {mode:04o}); run: chmod go-w {folder}"
                )
            }
        }
    }
}
