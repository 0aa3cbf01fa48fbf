//! Whose a session is.
//!
//! A subject is unique within its issuer only (RFC 7519, section 4.1.2), and two tenants may share a broker. So an
//! account is issuer and subject together.

use std::sync::Arc;

/// The account that a session belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Account {
    /// The `iss` of its tokens.
    pub issuer: Arc<str>,
    /// The `sub` of its tokens, or the user name if they have none.
    pub subject: Arc<str>,
}
