//! What is said about saved sessions.

use std::{fmt, path::Path};

use crate::saved_sessions::{Damage, SavedSessionsReport};
use input::text::Quoted;

/// Returns a path for a sentence.
fn quoted(path: &Path) -> String {
    Quoted(&path.display().to_string()).to_string()
}

impl fmt::Display for SavedSessionsReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Restored(number) => write!(
                f,
                "the rights of {number} kept sessions were saved before the restart, and decide what is queued for \
                 them until their clients are back"
            ),
            Self::Damaged { path, damage } => write!(f, "{}: {damage}", quoted(path)),
            Self::Unusable { path, why } => write!(
                f,
                "the saved sessions in {} are not used: {why}; until their clients are back, whatever they subscribed \
                 to is queued; fix: delete the file, it will be written again",
                quoted(path)
            ),
            Self::NotSaved { path, why } => write!(
                f,
                "the rights of kept sessions cannot be saved in {}: {why}; after a restart of the broker older ones \
                 count; fix: make room there, or let the broker's user write in state_dir",
                quoted(path)
            ),
            Self::SavedAgain => f.write_str("the rights of kept sessions are saved again"),
            Self::AnotherWriter { path } => write!(
                f,
                "another process writes {}: this broker saves the rights of kept sessions no more; fix: give each \
                 broker a state_dir of its own, and restart it",
                quoted(path)
            ),
            Self::InUse { folder } => write!(
                f,
                "another broker uses the folder {}: this one neither reads nor saves the rights of kept sessions; fix: \
                 give each broker a state_dir of its own, and restart it",
                quoted(folder)
            ),
            Self::NoThread(why) => write!(
                f,
                "the rights of kept sessions are not saved, because the system starts no thread: {why}; fix: raise \
                 the limit of threads of the broker's user"
            ),
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherFormat => f.write_str(
                "this version of the plugin did not write it, so no session has saved rights, and whatever their \
                 clients subscribed to is queued until they are back; fix: none needed, it will be written again",
            ),
            Self::CutOff(bytes) => write!(
                f,
                "it was cut off after {bytes} bytes, and what is missing counts as not saved; fix: none needed if the \
                 power failed or the broker was killed"
            ),
            Self::Changed(bytes) => write!(
                f,
                "it was changed after {bytes} bytes: the rights that are saved before do not count, and whatever \
                 those clients subscribed to is queued until they are back; fix: check the disk"
            ),
        }
    }
}
