//! The test bed that the demo and the tests share: a local Auth0 tenant, certificates, tokens, real brokers
//! and clients. Everything listens on 127.0.0.1, on a port that the system chooses.

pub mod addresses;
pub mod arguments;
pub mod broker;
pub mod clients;
pub mod crowd;
pub mod dns;
pub mod dump;
pub mod elliptic;
pub mod glewlwyd;
pub mod heap;
pub mod http;
pub mod json;
pub mod measure;
pub mod nanoidp;
pub mod oidc_provider;
pub mod packaged_server;
pub mod pki;
pub mod plugin;
pub mod preload;
pub mod progress;
pub mod proxy;
pub mod scarcity;
pub mod scratch;
pub mod signing;
pub mod silence;
pub mod stage;
pub mod tenant;
pub mod wall;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex, also when it is poisoned: after a panic in one test, later responses must not panic as
/// well.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
