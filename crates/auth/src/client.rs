//! A client, as the broker describes it. Nothing in this file is verified.

use std::sync::Arc;

/// The broker's pointer to a client, as a number. It is never followed.
///
/// A key is no identity: the broker reuses its memory, so another client may get the same key later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientKey(pub usize);

/// A client. `T` is `&str` while the broker's strings are borrowed, and `Arc<str>` where they must be kept.
#[derive(Clone, Copy, Debug, Default)]
pub struct Client<T = Arc<str>> {
    /// The client ID.
    pub id: T,
    /// The user name in its CONNECT, or the one that it was given when it came in.
    pub username: Option<T>,
    /// The client's own address, if the broker tells it and it can be trusted ([`crate::proxies`]).
    pub address: Option<T>,
    /// The port of the listener, if the broker tells it.
    pub port: Option<u16>,
    /// The SHA-256 fingerprint of the certificate, if the broker tells it and a rule may ask for it.
    pub certificate: Option<[u8; 32]>,
}

impl<T: AsRef<str>> Client<T> {
    /// Returns a copy that does not borrow from the broker.
    pub(crate) fn to_shared(&self) -> Client {
        Client {
            id: self.id.as_ref().into(),
            username: self.username.as_ref().map(|name| name.as_ref().into()),
            address: self.address.as_ref().map(|address| address.as_ref().into()),
            port: self.port,
            certificate: self.certificate,
        }
    }

    /// Returns a copy that borrows the strings.
    pub(crate) fn borrowed(&self) -> Client<&str> {
        Client {
            id: self.id.as_ref(),
            username: self.username.as_ref().map(AsRef::as_ref),
            address: self.address.as_ref().map(AsRef::as_ref),
            port: self.port,
            certificate: self.certificate,
        }
    }
}

/// The client of a check of a message or a subscription.
///
/// The broker makes a check for every message. So the plugin reads only the fields that the check needs, and does not
/// test whether they are UTF-8.
pub trait ClientView {
    /// Returns its client ID.
    fn client_id(&self) -> &[u8];
    /// Returns its user name.
    fn username(&self) -> Option<&[u8]>;
    /// Whether the client is connected: then it has an address.
    fn is_connected(&self) -> bool;
    /// Whether the broker restored its session from disk and the client has not come back since. Such a client has
    /// not signed in with this broker process.
    fn is_restored(&self) -> bool {
        false
    }
    /// Returns where the broker keeps both strings, or zeros if that is not known.
    #[inline]
    fn text_addresses(&self) -> TextAddresses {
        TextAddresses::default()
    }
    /// Whether it has this client ID and this user name.
    #[inline]
    fn is(&self, client_id: &str, username: &str) -> bool {
        self.client_id() == client_id.as_bytes() && self.username() == Some(username.as_bytes())
    }
}

impl<T: AsRef<str>> ClientView for Client<T> {
    fn client_id(&self) -> &[u8] {
        self.id.as_ref().as_bytes()
    }

    fn username(&self) -> Option<&[u8]> {
        Some(self.username.as_ref()?.as_ref().as_bytes())
    }

    fn is_connected(&self) -> bool {
        self.address.is_some()
    }
}

/// Where the broker keeps the client ID and the user name of a client, as numbers that are never followed. Zeros mean
/// that this is not known.
///
/// While a client is connected, the broker keeps nothing else at these addresses: it tells the plugin when the client
/// goes, and puts another user name at another address. Afterwards it may free both without a word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TextAddresses {
    /// The address of the client ID.
    pub client_id: usize,
    /// The address of the user name.
    pub username: usize,
}
