//! One CONNECT that is being authenticated.

use crate::{
    client::{Client, ClientKey},
    limits::known_callers::Caller,
    secret::Fingerprint,
};

/// A CONNECT that is being authenticated. It borrows nothing, because the result may come when the broker's strings
/// are gone.
#[derive(Clone, Debug)]
pub struct SignIn {
    /// The broker's pointer.
    pub key: ClientKey,
    /// The client that signs in.
    pub client: Client,
    /// The fingerprint of its password field.
    pub credential: Fingerprint,
    /// The user whose password it sent, if it sent one.
    pub user: Option<Fingerprint>,
    /// The key of its login in the login cache, if it sent a password.
    pub login: Option<Fingerprint>,
    /// Where it connects from, and whether it came in from there before.
    pub caller: Caller,
    /// Whether the broker says that it has no session under this client ID. 2.0 does not say.
    pub id_is_free: bool,
}
