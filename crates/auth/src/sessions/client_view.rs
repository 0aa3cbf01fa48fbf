//! Who asks.

/// Who asks, as the broker has it: texts as bytes, because that they are UTF-8 is of no interest until one
/// is shown to somebody; and looked at no further than needed, because it asks at every message.
pub trait ClientView {
    /// Its client id.
    fn client_id(&self) -> &[u8];
    /// Its user name.
    fn username(&self) -> Option<&[u8]>;
    /// Whether there is a connection (an address).
    fn is_connected(&self) -> bool;
    /// Where the broker keeps both texts; zeros if that is not known.
    #[inline]
    fn places(&self) -> TextAddresses {
        TextAddresses::default()
    }
    /// Whether these are its client id and its user name.
    #[inline]
    fn is(&self, client_id: &str, username: &str) -> bool {
        self.client_id() == client_id.as_bytes() && self.username() == Some(username.as_bytes())
    }
}

/// Where the broker keeps a client's texts, as numbers: never followed. Zeros are nowhere. As long as a
/// client is connected nothing else can be there: the broker says when it goes, and gives it another user
/// name at another address. Later it may free all of it without a word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TextAddresses {
    /// Its client id.
    pub client_id: usize,
    /// Its user name.
    pub username: usize,
}

/// Somebody of whom all is known beforehand.
#[derive(Clone, Copy, Debug)]
pub struct ClientSnapshot<'a> {
    /// Its client id.
    pub client_id: &'a str,
    /// Its user name.
    pub username: Option<&'a str>,
    /// Whether there is a connection.
    pub connected: bool,
}

impl ClientView for ClientSnapshot<'_> {
    fn client_id(&self) -> &[u8] {
        self.client_id.as_bytes()
    }

    fn username(&self) -> Option<&[u8]> {
        self.username.map(str::as_bytes)
    }

    fn is_connected(&self) -> bool {
        self.connected
    }
}
