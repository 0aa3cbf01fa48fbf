//! How an application authenticates when it asks for tokens.

pub mod assertion;

use crate::secret::Secret;
use assertion::AssertionKey;

/// The credentials of an application.
#[derive(Clone, Debug)]
pub enum ApplicationCredential {
    /// Nothing: a public application.
    None,
    /// Its secret.
    Secret(Secret),
    /// Its private key.
    Key(AssertionKey),
}

/// How an application authenticates at the token endpoint (OpenID Connect Core 1.0, section 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientAuth {
    /// The secret is in the form.
    Post,
    /// The secret is in the header `Authorization`.
    Basic,
    /// The form has an assertion that is signed with the application's private key.
    Assertion,
}

impl ClientAuth {
    /// All methods.
    pub const ALL: [Self; 3] = [Self::Post, Self::Basic, Self::Assertion];

    /// Those for an application with a secret, first the one that is preferred.
    pub(crate) const WITH_SECRET: [Self; 2] = [Self::Post, Self::Basic];

    /// Returns its name in a discovery document.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Post => "client_secret_post",
            Self::Basic => "client_secret_basic",
            Self::Assertion => "private_key_jwt",
        }
    }
}
