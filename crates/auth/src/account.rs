//! Whose a session is, and which issuer says so.
//!
//! A subject is unique within its issuer only (RFC 7519, section 4.1.2), and two tenants may share a broker. So an
//! account is issuer and subject together.

use std::sync::Arc;

/// An issuer, by its place in the configuration. SIGHUP neither adds nor removes issuers, so it stays the same as long
/// as the plugin runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct IssuerNumber(u8);

/// How many issuers there may be.
pub(crate) const MAX_ISSUERS: usize = 64;

impl IssuerNumber {
    /// Returns the number of the issuer at this place.
    pub(crate) fn of(place: usize) -> Self {
        debug_assert!(place < MAX_ISSUERS);
        Self(place as u8)
    }

    /// Returns the place.
    #[inline]
    pub fn place(self) -> usize {
        usize::from(self.0)
    }
}

/// The account that a session belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Account {
    /// The `iss` of its tokens.
    pub issuer: Arc<str>,
    /// The `sub` of its tokens, or the user name if they have none.
    pub subject: Arc<str>,
}
