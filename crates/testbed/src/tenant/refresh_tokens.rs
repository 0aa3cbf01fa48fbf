//! Refresh tokens, with rotation and reuse detection (Auth0, "Refresh Token Rotation").

use std::collections::HashMap;

/// What a refresh token was issued for.
#[derive(Clone, Debug)]
pub(super) struct RefreshGrant {
    /// The user.
    pub(super) username: String,
    /// The user's connection.
    pub(super) connection: String,
    /// The granted scope.
    pub(super) scope: String,
    /// The API, if there is one.
    pub(super) audience: Option<String>,
}

/// The refresh tokens that were issued.
#[derive(Debug, Default)]
pub(super) struct RefreshTokens {
    issued: HashMap<String, Issued>,
    families: u64,
}

#[derive(Debug)]
struct Issued {
    grant: RefreshGrant,
    /// The tokens that came of the same sign-in have the same family.
    family: u64,
    used: bool,
}

impl RefreshTokens {
    /// Adds the first token of a sign-in.
    pub(super) fn issue(&mut self, token: &str, grant: RefreshGrant) {
        self.families += 1;
        let family = self.families;
        self.put(token, grant, family);
    }

    /// Uses a token. With `rotation`, `next` takes its place. Returns what the token was issued for, or `None` if it is
    /// not known, or was used before: then every token of its family is gone.
    pub(super) fn exchange(
        &mut self,
        token: &str,
        next: &str,
        rotation: bool,
    ) -> Option<RefreshGrant> {
        let known = self.issued.get_mut(token)?;
        let family = known.family;
        if known.used {
            self.issued.retain(|_, other| other.family != family);
            return None;
        }
        let grant = known.grant.clone();
        if rotation {
            known.used = true;
            self.put(next, grant.clone(), family);
        }
        Some(grant)
    }

    fn put(&mut self, token: &str, grant: RefreshGrant, family: u64) {
        let used = false;
        let issued = Issued {
            grant,
            family,
            used,
        };
        self.issued.insert(token.to_owned(), issued);
    }
}
