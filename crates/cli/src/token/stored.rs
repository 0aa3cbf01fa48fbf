//! The tokens that are kept between two runs, in a file that only its owner may read.

use std::{
    env,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use auth::{clock::Unix, secret::sha256};

use crate::{output::Failure, private_file};

/// Tokens, and when they were issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredTokens {
    pub(crate) access_token: String,
    pub(crate) issued: Unix,
    pub(crate) expires: Unix,
    pub(crate) scope: Option<String>,
    pub(crate) refresh_token: Option<String>,
}

impl StoredTokens {
    /// Reads the file. One that this version cannot read counts as missing, and so does one for another purpose: no
    /// tenant may get another one's refresh token.
    ///
    /// # Errors
    ///
    /// Returns a failure if everybody can read it.
    pub(super) fn read(path: &Path, purpose: &str) -> Result<Option<Self>, Failure> {
        let text = private_file::read(path)?.unwrap_or_default();
        let value: Value = serde_json::from_str(&text).unwrap_or_default();
        let text = |name: &str| value[name].as_str().map(str::to_owned);
        let time = |name: &str| value[name].as_u64().map(Unix);
        let stored = || {
            text("kept_for").filter(|kept_for| kept_for == purpose)?;
            Some(Self {
                access_token: text("access_token")?,
                issued: time("issued_at")?,
                expires: time("expires_at")?,
                scope: text("scope"),
                refresh_token: text("refresh_token"),
            })
        };
        Ok(stored())
    }

    /// Returns what is written into the file.
    pub(super) fn text(&self, purpose: &str) -> String {
        let value = json!({
            "kept_for": purpose,
            "access_token": self.access_token,
            "issued_at": self.issued.0,
            "expires_at": self.expires.0,
            "scope": self.scope,
            "refresh_token": self.refresh_token,
        });
        format!("{value:#}\n")
    }

    /// Returns when a new token is due: `before` seconds before the end, but not before half of its life is over.
    pub(super) fn is_due(&self, before: u64) -> Unix {
        let life = self.expires.0.saturating_sub(self.issued.0);
        Unix(self.expires.0.saturating_sub(before.min(life / 2)))
    }

    /// Returns when a token that somebody relies on all the time is renewed: when a fifth of its life is left.
    pub(super) fn is_due_early(&self, before: u64) -> Unix {
        let life = self.expires.0.saturating_sub(self.issued.0);
        self.is_due(before.max(life / 5))
    }
}

/// Returns a name for what tokens are kept for. Each tenant, application, API and scope has its own.
pub(super) fn purpose(parts: &[&str]) -> String {
    let hash = sha256(parts.join("\n").as_bytes());
    hash[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Returns the file that tokens for this purpose are kept in.
///
/// # Errors
///
/// Returns a failure if there is no such place.
pub(super) fn place(purpose: &str) -> Result<PathBuf, Failure> {
    let of = |name: &str| {
        env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let base = of("XDG_CACHE_HOME")
        .filter(|path| path.is_absolute())
        .or_else(|| of("HOME").map(|home| home.join(".cache")));
    let base = base.ok_or_else(|| {
        Failure::new("neither XDG_CACHE_HOME nor HOME says where a token can be kept")
            .fix("name a file with --cache FILE, or use --no-cache")
    })?;
    let folder = base.join("mosquitto-auth0");
    private_file::make_folder(&folder)?;
    Ok(folder.join(format!("{purpose}.json")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_renewed_before_it_ends() {
        let stored = |life: u64| StoredTokens {
            access_token: "t".into(),
            issued: Unix(1000),
            expires: Unix(1000 + life),
            scope: None,
            refresh_token: None,
        };
        assert_eq!(stored(1000).is_due(60), Unix(1940));
        assert_eq!(stored(60).is_due(60), Unix(1030));
        assert_eq!(stored(1000).is_due_early(60), Unix(1800));
        assert_eq!(stored(1000).is_due_early(900), Unix(1500));
    }
}
