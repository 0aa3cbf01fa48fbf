//! How an application proves who it is when it asks for tokens.

/// How an application proves who it is at the token endpoint (OpenID Connect Core 1.0, section 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientAuth {
    /// The secret is in the form.
    Post,
    /// The secret is in the header `Authorization`.
    Basic,
}

impl ClientAuth {
    /// All methods, those first that are preferred.
    pub const ALL: [Self; 2] = [Self::Post, Self::Basic];

    /// Returns its name in a discovery document.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Post => "client_secret_post",
            Self::Basic => "client_secret_basic",
        }
    }
}
