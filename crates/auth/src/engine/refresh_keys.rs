//! The command `refreshKeys`: the tenant's keys are fetched soon. Where a file has them, a thread reads it, because its
//! disk may hang.

use std::sync::Arc;

use super::{
    Engine,
    rereading::{Reread, Rereading},
};
use crate::{
    config::{ConfigError, KeySource},
    control::command::CommandError,
    jwt::jwks::KeySet,
};

/// The reading of `jwks_file`.
#[derive(Default)]
pub(super) struct KeyFile {
    reading: Rereading<ReadKeys>,
    /// Why the last reading brought no keys, if it brought none.
    failed: Option<String>,
}

/// What was read.
struct ReadKeys {
    keys: Result<Option<KeySet>, ConfigError>,
    /// The generation of the configuration that named the file.
    generation: u64,
}

impl Engine {
    /// Has the tenant's keys fetched soon, or their file read. [`Self::keys_refreshed`] returns what comes of it.
    pub(super) fn refresh_keys(&mut self, ticks: bool) {
        match self.config.only().keys {
            KeySource::File(_) if self.key_file.reading.is_under_way() => {
                self.key_file.reading.want_once_more();
            }
            KeySource::File(_) => self.begin_reading_keys(ticks),
            _ => {
                self.key_file.failed = None;
                self.keys.refresh_soon();
            }
        }
    }

    fn begin_reading_keys(&mut self, on_thread: bool) {
        let (config, generation) = (Arc::clone(&self.config), self.generation);
        let spawn = on_thread.then_some(self.spawn);
        self.key_file.reading.begin(spawn, move |_, _| ReadKeys {
            keys: KeySet::of_file(config.only()),
            generation,
        });
    }

    /// Puts the keys in force that were read meanwhile.
    pub(super) fn take_read_keys(&mut self) {
        let file = &mut self.key_file;
        let Some(read) = file.reading.take(false) else {
            return;
        };
        // The file may have changed since, or its name.
        let (again, failed) = match read {
            Reread::Finished(read) if read.generation != self.generation => (true, None),
            Reread::Finished(read) => match read.keys {
                Ok(set) => {
                    if let Some(set) = set {
                        self.keys.replace(set);
                    }
                    (false, None)
                }
                Err(why) => (false, Some(why.to_string())),
            },
            Reread::Panicked => (false, Some("a fault in the plugin".into())),
        };
        file.failed = failed;
        if file.reading.takes_once_more() || again {
            self.begin_reading_keys(true);
        }
    }

    /// Returns what came of [`Self::refresh_keys`], or `None` while the file is being read.
    pub(super) fn keys_refreshed(&mut self) -> Option<Result<(), CommandError>> {
        self.take_read_keys();
        if self.key_file.reading.is_under_way() {
            return None;
        }
        let failed = self.key_file.failed.clone();
        Some(failed.map_or(Ok(()), |why| Err(CommandError::Keys(why))))
    }

    /// Whether the file of keys is being read.
    pub(super) fn is_reading_keys(&self) -> bool {
        self.key_file.reading.is_under_way()
    }

    /// Waits a moment for the thread, because the broker exits.
    pub(super) fn stop_reading_keys(&mut self) {
        self.key_file.reading.stop();
    }
}
