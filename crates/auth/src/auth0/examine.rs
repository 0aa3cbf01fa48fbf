//! Asks the tenant one question at a time, for the operator's tool. Each question is one request, which the plugin
//! would send too, or which leaves out what could harm a device. Nothing is sent before a question is asked.

use std::{net::IpAddr, sync::Arc, time::Duration};

use serde_json::{Map, Value};

use super::{
    Endpoints, TenantClient,
    answer::{self, Tokens},
    discovered,
    http::{RequestError, TenantResponse},
};
use crate::{
    client_auth::ClientAuth,
    clock::{self, Deadline, Unix},
    config::{Config, ConfigError, IssuerConfig},
    jwt::{self, Claims, Requirements, jwks::KeySet, saved_jwks::SavedJwks},
    refusal::{NoAnswer, Refusal},
    secret::Secret,
    state_dir::StateDir,
    threads::lock,
};
use input::json;

/// Asks one tenant.
pub struct Examiner {
    tenant: TenantClient,
    issuer: Arc<IssuerConfig>,
    /// How long one request may take.
    timeout: Duration,
    state_dir: Option<StateDir>,
    requirements: Requirements,
}

/// What came of a question.
pub struct Examined<T, E> {
    /// The answer, or why there is none.
    pub result: Result<T, E>,
    /// What the response says beside its body, if there was one.
    pub marks: Option<Marks>,
}

/// What a response says beside its body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// Whether Auth0 wrote it.
    pub is_auth0: bool,
    /// By how many seconds the tenant's clock is ahead of this machine's. It is 0 if the time that the request took
    /// explains the difference.
    pub clock: Option<i64>,
    /// The size of the rate limit, and how much of it is left. In responses to password grants Auth0 reports the limit
    /// of failed logins from one address.
    pub rate_limit: Option<(u32, u32)>,
}

/// A discovery document (OpenID Connect Discovery 1.0, section 3), as far as it matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovery {
    /// `issuer`.
    pub issuer: Option<String>,
    /// `id_token_signing_alg_values_supported`.
    pub algorithms: Option<Vec<String>>,
    /// `token_endpoint_auth_methods_supported`.
    pub auth_methods: Option<Vec<String>>,
    /// `grant_types_supported`.
    pub grant_types: Option<Vec<String>>,
    /// Why the plugin does not use the document, if it does not.
    pub unusable: Option<NoAnswer>,
}

/// The keys that were kept on disk.
pub struct SavedKeys {
    /// The keys.
    pub keys: KeySet,
    /// When they were fetched: so long ago.
    pub age: Duration,
}

impl Examiner {
    /// Prepares the requests to one of the issuers in this configuration.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with `ca_file`, or with the system's certificates.
    pub fn new(config: &Config, issuer: Arc<IssuerConfig>) -> Result<Self, ConfigError> {
        let timeout = config.timeout;
        Ok(Self {
            tenant: TenantClient::new(Arc::clone(&issuer), timeout, 0, None)?,
            requirements: Requirements::of(&issuer, config.leeway),
            timeout,
            state_dir: config.state_dir.clone(),
            issuer,
        })
    }

    /// Returns the address of the discovery document. With `domain` the plugin itself does not read it.
    pub fn discovery_url(&self) -> String {
        self.tenant.discovery_url()
    }

    /// Returns the address of the keys, if it is known.
    pub fn keys_url(&self) -> Option<String> {
        let of_option = self.issuer.jwks_uri.clone();
        of_option.or_else(|| self.endpoints()?.jwks.clone())
    }

    /// Returns the token endpoint, if it is known.
    pub fn token_url(&self) -> Option<String> {
        self.endpoints()?.token.clone()
    }

    /// Returns how the application authenticates, if there is one and that is known.
    pub fn client_auth(&self) -> Option<ClientAuth> {
        let application = self.issuer.application.as_ref()?;
        let discovered = || Some(self.endpoints()?.client_auth);
        application.auth.or_else(discovered)
    }

    fn endpoints(&self) -> Option<Arc<Endpoints>> {
        lock(&self.tenant.endpoints).clone()
    }

    /// Fetches the discovery document. With `issuer`, the endpoints in it are used from then on.
    pub fn discovery(&self) -> Examined<Discovery, NoAnswer> {
        let url = self.discovery_url();
        self.get(&url, |body| {
            let document = json::object(body).map_err(NoAnswer::BadDiscovery)?;
            let mut unusable = None;
            if self.tenant.discovers() {
                match discovered(&url, &self.tenant.issuers(), body) {
                    Ok(found) => *lock(&self.tenant.endpoints) = Some(Arc::new(found)),
                    Err(why) => unusable = Some(why),
                }
            }
            Ok(Discovery {
                issuer: document
                    .get("issuer")
                    .and_then(Value::as_str)
                    .map(str::to_owned),
                algorithms: texts(&document, "id_token_signing_alg_values_supported"),
                auth_methods: texts(&document, "token_endpoint_auth_methods_supported"),
                grant_types: texts(&document, "grant_types_supported"),
                unusable,
            })
        })
    }

    /// Fetches the keys, from an address that is known.
    pub fn keys(&self) -> Examined<KeySet, NoAnswer> {
        match self.keys_url() {
            Some(url) => self.get(&url, |body| {
                KeySet::parse(body).map_err(|why| NoAnswer::BadKeys(why.to_string()))
            }),
            None => Examined {
                result: Err(NoAnswer::NoKeysAddress),
                marks: None,
            },
        }
    }

    /// Returns the keys in `jwks_file`, if that is set.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the file.
    pub fn keys_of_file(&self) -> Result<Option<KeySet>, ConfigError> {
        KeySet::of_file(&self.issuer)
    }

    /// Returns the keys that the plugin kept on disk, if it did and they are still good.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the file, as a sentence.
    pub fn saved_keys(&self) -> Result<Option<SavedKeys>, String> {
        let Some(dir) = &self.state_dir else {
            return Ok(None);
        };
        let saved = SavedJwks::new(dir.clone(), &self.issuer).load(self.issuer.jwks_max_stale);
        let saved = saved.map_err(|why| why.to_string())?;
        Ok(saved.map(|(keys, age)| SavedKeys { keys, age }))
    }

    /// Sends the request for a password grant without a user name and a password. No login fails by that, and the
    /// tenant's error tells whether it accepts the application and the grant.
    pub fn application(&self) -> Examined<Tokens, Refusal> {
        self.grant(None, None)
    }

    /// Signs in. `address` is passed on as a device's address.
    pub fn log_in(
        &self,
        username: &str,
        password: &Secret,
        address: Option<IpAddr>,
    ) -> Examined<Tokens, Refusal> {
        self.grant(Some((username, password)), address)
    }

    fn grant(
        &self,
        user: Option<(&str, &Secret)>,
        address: Option<IpAddr>,
    ) -> Examined<Tokens, Refusal> {
        let sent = clock::now();
        let deadline = Deadline::after(self.timeout);
        match self.tenant.ask_for_tokens(user, address, deadline) {
            Ok((response, auth)) => Examined {
                marks: Some(marks(&response, sent)),
                result: answer::interpret(&response, auth, clock::now()).0,
            },
            Err((refusal, _)) => Examined {
                result: Err(refusal),
                marks: None,
            },
        }
    }

    /// Verifies an access token with these keys, as the plugin does.
    ///
    /// # Errors
    ///
    /// Returns a reason from one of the `token-…` rows of [`crate::refusal::Reason`].
    pub fn verify_access(&self, token: &str, keys: &KeySet, now: Unix) -> Result<Claims, Refusal> {
        jwt::verify(token, &self.requirements, &self.issuer.audiences, keys, now)
    }

    /// Verifies an ID token of the application with these keys, as the plugin does.
    ///
    /// # Errors
    ///
    /// Returns a reason from one of the `token-…` rows of [`crate::refusal::Reason`].
    pub fn verify_id(&self, token: &str, keys: &KeySet, now: Unix) -> Result<Claims, Refusal> {
        let application = self.issuer.application.iter();
        let client_ids: Vec<_> = application.map(|one| one.client_id.clone()).collect();
        jwt::verify(token, &self.requirements, &client_ids, keys, now)
    }

    fn get<T>(
        &self,
        url: &str,
        read: impl FnOnce(&[u8]) -> Result<T, NoAnswer>,
    ) -> Examined<T, NoAnswer> {
        let sent = clock::now();
        let deadline = Deadline::after(self.timeout);
        match self.tenant.http.get(url, deadline) {
            Ok(response) => Examined {
                marks: Some(marks(&response, sent)),
                result: match response.status {
                    200 => read(&response.body),
                    status => Err(NoAnswer::Status(status)),
                },
            },
            Err(RequestError { why, .. }) => Examined {
                result: Err(why),
                marks: None,
            },
        }
    }
}

fn marks(response: &TenantResponse, sent: Unix) -> Marks {
    let (sent, received) = (sent.0.cast_signed(), clock::now().0.cast_signed());
    Marks {
        is_auth0: response.request_id.is_some(),
        clock: response.date.map(|date| {
            let date = date.0.cast_signed();
            // Whole seconds, so a moment before the request may be the second before.
            (date - received).max(0) + (date + 1 - sent).min(0)
        }),
        rate_limit: response.rate_limit,
    }
}

fn texts(document: &Map<String, Value>, name: &str) -> Option<Vec<String>> {
    let texts = document.get(name)?.as_array()?.iter();
    Some(texts.filter_map(Value::as_str).map(str::to_owned).collect())
}
