//! A client, as rules see it.

use std::{net::IpAddr, sync::Arc};

use serde_json::{Map, Value};

/// What rules can ask about a client: in conditions, and as the values of placeholders.
#[derive(Clone, Debug, Default)]
pub struct ClientAttributes {
    /// The client ID.
    pub client_id: Arc<str>,
    /// The user name that the client has been given.
    pub username: Arc<str>,
    /// The claims of its token.
    pub claims: Arc<Map<String, Value>>,
    /// Its address, if the broker tells it.
    pub address: Option<IpAddr>,
    /// The port of the listener, if the broker tells it.
    pub port: Option<u16>,
    /// The SHA-256 fingerprint of its certificate, if it has one and the broker tells it.
    pub certificate: Option<[u8; 32]>,
}

#[cfg(test)]
impl ClientAttributes {
    /// Returns a client with these claims, which must be an object.
    pub(crate) fn with_claims(client_id: &str, claims: Value) -> Self {
        let Value::Object(claims) = claims else {
            panic!("claims are an object")
        };
        Self {
            client_id: client_id.into(),
            username: "auth0|1".into(),
            claims: Arc::new(claims),
            ..Self::default()
        }
    }
}
