//! Tokens: how they are asked for, kept and renewed.
//!
//! * this file: which token is wanted, whether a kept one will do, and what is kept
//! * [`request`]: one request, and what its response means
//! * [`device_flow`]: a person signs in with a browser
//! * [`stored`]: what is kept
//! * [`watch`]: keeps a file fresh

mod device_flow;
mod request;
mod stored;
pub(crate) mod watch;

use std::{
    fs,
    path::{self, PathBuf},
};

use auth::{
    algorithm::Algorithm,
    auth0::token_client::TokenClient,
    client_auth::{ApplicationCredential, assertion::AssertionKey},
    clock::{self, Unix},
    config::WrittenOptions,
};

use crate::{
    arguments::{Token, TokenGrant},
    configuration,
    messages::token as messages,
    output::Failure,
    private_file::{self, Lock, Replacement},
    secrets,
};
pub(crate) use request::TokenRefusal;
pub(crate) use stored::StoredTokens;

/// Where tokens come from.
pub(crate) struct Source {
    options: WrittenOptions,
    audience: String,
    client_id: String,
    scope: Option<String>,
    grant: TokenGrant,
    credential: ApplicationCredential,
    /// The file that holds the refresh token.
    refresh_file: Option<PathBuf>,
    /// The file that tokens are kept in.
    cache: Option<PathBuf>,
    /// What tokens are kept for: [`stored::purpose`].
    purpose: String,
    valid_for: u64,
    fresh: bool,
}

impl Source {
    /// Returns the source that the arguments describe.
    ///
    /// # Errors
    ///
    /// Returns a failure if something is missing or cannot be read.
    pub(crate) fn new(arguments: &Token) -> Result<Self, Failure> {
        let options = options(arguments)?;
        let option = |name: &str| options.text(name).map(str::to_owned);
        let audience = option("audience").ok_or_else(messages::no_audience)?;
        let audience = audience
            .split(',')
            .next()
            .unwrap_or_default()
            .trim()
            .to_owned();
        let client_id = option("client_id").ok_or_else(messages::no_client_id)?;
        let credential = credential(arguments)?;
        let grant = arguments
            .grant
            .unwrap_or(match (&credential, &arguments.refresh_token_file) {
                (_, Some(_)) => TokenGrant::RefreshToken,
                (ApplicationCredential::None, None) => TokenGrant::Device,
                (_, None) => TokenGrant::ClientCredentials,
            });
        match (grant, &credential, &arguments.refresh_token_file) {
            (TokenGrant::ClientCredentials, ApplicationCredential::None, _) => {
                return Err(messages::no_credential());
            }
            (TokenGrant::RefreshToken, _, None) => return Err(messages::no_refresh_token()),
            _ => {}
        }
        let scope = scope(arguments, grant);
        let named = [
            &arguments.refresh_token_file,
            &arguments.cache,
            &arguments.watch,
        ];
        refuse_same_file(named.into_iter().flatten())?;
        let tenant = [option("domain"), option("issuer")]
            .map(Option::unwrap_or_default)
            .concat();
        let file = arguments
            .refresh_token_file
            .as_ref()
            .map(|file| file.display().to_string());
        let purpose = stored::purpose(&[
            &tenant,
            &client_id,
            &audience,
            &format!("{grant:?}"),
            scope.as_deref().unwrap_or_default(),
            file.as_deref().unwrap_or_default(),
        ]);
        let cache = match (&arguments.cache, arguments.no_cache) {
            (_, true) => None,
            (Some(file), _) => Some(file.clone()),
            (None, false) => Some(stored::place(&purpose)?),
        };
        Ok(Self {
            options,
            audience,
            client_id,
            scope,
            grant,
            credential,
            refresh_file: arguments.refresh_token_file.clone(),
            cache,
            purpose,
            valid_for: arguments.valid_for,
            fresh: arguments.fresh,
        })
    }

    /// Returns the tokens that are kept, if they are good for long enough, or new ones. What has to be kept is on the
    /// disk before this returns.
    ///
    /// # Errors
    ///
    /// Returns a failure if there is no token.
    pub(crate) fn tokens(&self, now: Unix) -> Result<StoredTokens, Failure> {
        self.tokens_due(now, |stored| stored.is_due(self.valid_for))
    }

    /// As [`Self::tokens`], for somebody who relies on the token all the time.
    ///
    /// # Errors
    ///
    /// Returns a failure if there is no token.
    pub(crate) fn tokens_early(&self, now: Unix) -> Result<StoredTokens, Failure> {
        self.tokens_due(now, |stored| self.is_due_early(stored))
    }

    /// Returns when these tokens are to be renewed for somebody who relies on them.
    pub(crate) fn is_due_early(&self, tokens: &StoredTokens) -> Unix {
        tokens.is_due_early(self.valid_for)
    }

    fn tokens_due(
        &self,
        now: Unix,
        due: impl Fn(&StoredTokens) -> Unix,
    ) -> Result<StoredTokens, Failure> {
        // A refresh token must not be used by two processes at once: the tenant would take the second use for theft.
        let locked = self.refresh_file.iter().chain(&self.cache);
        let _locks = locked
            .map(|path| Lock::of(path))
            .collect::<Result<Vec<_>, _>>()?;
        let kept = match &self.cache {
            Some(path) => StoredTokens::read(path, &self.purpose)?,
            None => None,
        };
        let good = kept.as_ref().filter(|kept| !self.fresh && now < due(kept));
        if let Some(good) = good {
            return Ok(good.clone());
        }
        // Where the answer cannot be kept, the question is not asked.
        let prepare =
            |path: &Option<PathBuf>| path.as_deref().map(Replacement::prepare).transpose();
        let (refresh_file, cache) = (prepare(&self.refresh_file)?, prepare(&self.cache)?);
        let mut tokens = self.ask(kept.and_then(|kept| kept.refresh_token), now)?;
        if let (Some(file), Some(next)) = (refresh_file, &tokens.refresh_token) {
            // The old one is in the file until the new one is.
            file.commit(&format!("{next}\n"))?;
        }
        if self.refresh_file.is_some() {
            tokens.refresh_token = None;
        }
        if let Some(file) = cache {
            file.commit(&tokens.text(&self.purpose))?;
        }
        Ok(tokens)
    }

    /// Asks for new tokens.
    fn ask(&self, kept: Option<String>, now: Unix) -> Result<StoredTokens, Failure> {
        let client = TokenClient::new(&self.options).map_err(messages::no_client)?;
        match self.grant {
            TokenGrant::ClientCredentials => self.client_credentials(&client, now),
            TokenGrant::RefreshToken => {
                let path = self.refresh_file.as_deref().expect("it was asked for");
                let text = private_file::read(path)?.unwrap_or_default();
                match text.trim() {
                    "" => Err(messages::empty_refresh_token(path)),
                    token => self
                        .refresh(&client, token, now)?
                        .map_err(messages::refused),
                }
            }
            TokenGrant::Device => {
                if let Some(token) = kept {
                    match self.refresh(&client, &token, now)? {
                        Ok(tokens) => return Ok(tokens),
                        // It has ended or was revoked, so somebody has to sign in again.
                        Err(refusal) if refusal.error == "invalid_grant" => {}
                        Err(refusal) => return Err(messages::refused(refusal)),
                    }
                }
                device_flow::run(self, &client)
            }
        }
    }

    /// Returns the time now, after a person has taken their time.
    fn now(&self) -> Unix {
        clock::now()
    }
}

/// Returns the credentials of the application.
fn credential(arguments: &Token) -> Result<ApplicationCredential, Failure> {
    if let Some(file) = &arguments.client_secret_file {
        let secret = secrets::secret(file)?;
        return match secret.reveal_str() {
            Some(_) => Ok(ApplicationCredential::Secret(secret)),
            None => Err(messages::secret_is_no_text()),
        };
    }
    let Some(file) = &arguments.private_key_file else {
        return Ok(ApplicationCredential::None);
    };
    let algorithm = arguments.algorithm.map(Algorithm::from);
    let key = AssertionKey::new(secrets::secret(file)?, algorithm, arguments.key_id.clone());
    key.map(ApplicationCredential::Key)
        .map_err(|why| messages::key_cannot_be_used(file, &why))
}

/// Refuses files that are the same one: each would be written over the other, and waited for without end.
fn refuse_same_file<'a>(files: impl Iterator<Item = &'a PathBuf>) -> Result<(), Failure> {
    let mut known = Vec::new();
    for file in files {
        let place = fs::canonicalize(file).or_else(|_| path::absolute(file));
        let place = place.unwrap_or_else(|_| file.clone());
        if known.contains(&place) {
            return Err(messages::same_file(file));
        }
        known.push(place);
    }
    Ok(())
}

/// Returns the scope to ask for. A device flow asks for a refresh token if it can be kept.
fn scope(arguments: &Token, grant: TokenGrant) -> Option<String> {
    const OFFLINE: &str = "offline_access";
    let asked = arguments.scope.clone();
    if grant != TokenGrant::Device || arguments.no_cache {
        return asked;
    }
    match asked {
        None => Some(OFFLINE.to_owned()),
        Some(scope) if scope.split(' ').any(|word| word == OFFLINE) => Some(scope),
        Some(scope) => Some(format!("{scope} {OFFLINE}")),
    }
}

/// Returns the options that say which tenant is asked, for which API: those of the plugin, or those of the arguments.
fn options(arguments: &Token) -> Result<WrittenOptions, Failure> {
    let is_named = arguments.domain.is_some() || arguments.issuer.is_some();
    let mut pairs = match is_named {
        true => Vec::new(),
        false => {
            configuration::instances(&arguments.conf)
                .map_err(messages::no_tenant)?
                .swap_remove(0)
                .options
        }
    };
    let path = arguments
        .ca_file
        .as_ref()
        .map(|path| path.display().to_string());
    for (name, value) in [
        ("domain", arguments.domain.clone()),
        ("issuer", arguments.issuer.clone()),
        ("audience", arguments.audience.clone()),
        ("client_id", arguments.client_id.clone()),
        ("ca_file", path),
    ] {
        if let Some(value) = value {
            pairs.retain(|(known, _)| known != name);
            pairs.push((name.to_owned(), value));
        }
    }
    WrittenOptions::read(&pairs).map_err(|error| Failure::new(error.to_string()))
}
