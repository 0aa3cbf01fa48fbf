//! One CONNECT that is being authenticated.

use std::sync::Arc;

use crate::{limits::known_callers::Caller, secret::Fingerprint, sessions::ClientKey};

/// Who is signing in: owned, because the answer may come when the broker's strings are gone.
#[derive(Clone, Debug)]
pub struct SignIn {
    /// The broker's pointer.
    pub client: ClientKey,
    /// Its client id.
    pub client_id: Arc<str>,
    /// The user name it claims, if any.
    pub username: Option<String>,
    /// The address it connects from.
    pub address: Option<String>,
    /// The port of the listener, if the broker tells it.
    pub port: Option<u16>,
    /// The SHA-256 fingerprint of its certificate, if that is of interest and the broker tells it.
    pub certificate: Option<[u8; 32]>,
    /// What it presents.
    pub credential: Fingerprint,
    /// The user whose password that is, if it is one.
    pub login: Option<Fingerprint>,
    /// Where it connects from, and how well it is known there.
    pub caller: Caller,
    /// Whether the broker says that it has no session under this client id. 2.0 does not say.
    pub id_is_free: bool,
}
