//! What comes of fetching the tenant's keys, and of keeping them on disk. `messages/` has the sentences.

use std::{path::PathBuf, time::Duration};

use super::jwks::{IgnoredKey, JwksProblem};
use crate::{files::FileError, refusal::NoAnswer};

/// Why keys could not be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwksError {
    /// The tenant's domain or issuer.
    pub tenant: String,
    /// Why not.
    pub why: NoAnswer,
    /// How long the tenant wants clients to wait before the next request.
    pub pause: Option<Duration>,
}

/// What is logged about fetching keys.
pub enum FetchReport<'a> {
    /// Keys were fetched.
    Fetched {
        /// The tenant's domain or issuer.
        tenant: &'a str,
        /// How many.
        keys: usize,
    },
    /// One of the keys is not used.
    Ignored {
        /// The tenant's domain or issuer.
        tenant: &'a str,
        /// The key.
        key: &'a IgnoredKey,
    },
    /// Keys could not be fetched.
    Failed {
        /// Why not.
        error: &'a JwksError,
        /// Whether older keys stay in use.
        older_stay: bool,
        /// In how many seconds the next attempt follows.
        seconds: u64,
    },
    /// The last good keys are too old.
    Stale {
        /// The tenant's domain or issuer.
        tenant: &'a str,
    },
    /// The endpoints could not be discovered again, and those that were stay in use.
    EndpointsKept(&'a JwksError),
}

/// Why keys on disk are not used, or cannot be written.
#[derive(Debug)]
pub(crate) enum SavedJwksError {
    /// They are not used.
    Load {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: SavedJwksProblem,
    },
    /// They cannot be written.
    Save {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: FileError,
    },
}

/// What is wrong with the file.
#[derive(Debug)]
pub(crate) enum SavedJwksProblem {
    /// It cannot be read.
    File(FileError),
    /// It is not a JSON object.
    NotJson(input::json::JsonError),
    /// It does not say when the keys were fetched.
    NoFetchTime,
    /// Its keys cannot be used.
    Keys(JwksProblem),
}
