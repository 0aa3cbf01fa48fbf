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

/// What was read: the keys of each issuer, if a file has them.
struct ReadKeys {
    keys: Vec<Result<Option<KeySet>, ConfigError>>,
    /// The generation of the configuration that named the file.
    generation: u64,
}

impl Engine {
    /// Has the keys of all issuers fetched soon, or their files read. [`Self::keys_refreshed`] returns what comes of
    /// it.
    pub(super) fn refresh_keys(&mut self, ticks: bool) {
        self.key_file.failed = None;
        let mut are_in_files = false;
        for issuer in self.issuers.iter() {
            match issuer.config.keys {
                KeySource::File(_) => are_in_files = true,
                KeySource::Tenant => issuer.keys.refresh_soon(),
            }
        }
        match are_in_files {
            true if self.key_file.reading.is_under_way() => {
                self.key_file.reading.want_once_more();
            }
            true => self.begin_reading_keys(ticks),
            false => {}
        }
    }

    fn begin_reading_keys(&mut self, on_thread: bool) {
        let (config, generation) = (Arc::clone(&self.config), self.generation);
        let spawn = on_thread.then_some(self.spawn);
        self.key_file.reading.begin(spawn, move |_, _| ReadKeys {
            keys: config
                .issuers
                .iter()
                .map(|issuer| KeySet::of_file(issuer))
                .collect(),
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
            Reread::Finished(read) => {
                let mut failed = None;
                for (issuer, keys) in self.issuers.iter().zip(read.keys) {
                    match keys {
                        Ok(Some(set)) => issuer.keys.replace(set),
                        Ok(None) => {}
                        Err(why) => failed = Some(why.to_string()),
                    }
                }
                (false, failed)
            }
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
