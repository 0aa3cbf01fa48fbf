//! One CONNECT that is being authenticated.

use std::sync::Arc;

use crate::{
    client::{Client, ClientKey},
    decision_log::record::TokenId,
    identity::Identity,
    limits::known_callers::Caller,
    refusal::{ConnectDetail, Field, Reason, Refusal},
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
    /// The fingerprint of what it presents.
    pub credential: Fingerprint,
    /// The user whose password it sent, if it sent one.
    pub user: Option<Fingerprint>,
    /// The key of its login in the login cache, if it sent a password.
    pub login: Option<Fingerprint>,
    /// Where it connects from, and whether it came in from there before.
    pub caller: Caller,
    /// Whether the broker says that it has no session under this client ID. 2.0 does not say.
    pub id_is_free: bool,
    /// The user name of a session that the broker restored under this client ID, if it says so. 2.0 does not say.
    pub restored_for: Option<std::sync::Arc<str>>,
    /// Whether the broker certainly ends the session with the connection.
    pub ends_with_connection: bool,
    /// Where the credential is.
    pub presented: Presented,
    /// The token that it presents, if it presents one and decisions are logged.
    pub token_id: Option<TokenId>,
}

/// Where a client presents its credential.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Presented {
    /// In the password field of its CONNECT. The broker presents it again on SIGHUP.
    #[default]
    Password,
    /// In the authentication data of its CONNECT or of an AUTH packet (MQTT 5). The broker keeps no copy.
    AuthenticationData {
        /// The identity that the client asks for, if it says so (RFC 7628).
        authzid: Option<Arc<str>>,
    },
}

impl Presented {
    /// Whether it is in the authentication data.
    pub fn is_authentication_data(&self) -> bool {
        matches!(self, Self::AuthenticationData { .. })
    }

    /// Returns the field that it is in.
    pub(crate) fn field(&self) -> Field {
        match self {
            Self::Password => Field::Password,
            Self::AuthenticationData { .. } => Field::AuthenticationData,
        }
    }

    /// Checks that the client asks for no other identity than its own.
    ///
    /// # Errors
    ///
    /// Returns [`Reason::AuthzId`] if it does.
    pub(crate) fn check(&self, identity: &Identity) -> Result<(), Refusal> {
        match self {
            Self::AuthenticationData {
                authzid: Some(asked),
            } if *asked != identity.username && *asked != identity.account.subject => {
                Err(Refusal::new(Reason::AuthzId, ConnectDetail::OtherIdentity))
            }
            _ => Ok(()),
        }
    }
}
