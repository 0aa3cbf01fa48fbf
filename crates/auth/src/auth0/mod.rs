//! Requests to the tenant.
//!
//! * [`http`]: one request with its limits and errors; `resolver`: one DNS lookup for all concurrent requests
//! * [`form`]: the body of a token request, and whether it was sent
//! * [`token_client`]: token requests of the operator's tool
//! * [`answer`]: what the token endpoint's responses mean
//! * [`forwarded`]: the client's address, for Auth0's attack protection
//! * [`examine`]: one question at a time, for the operator's tool

pub mod answer;
pub mod examine;
mod form;
pub(crate) mod forwarded;
mod http;
mod resolver;
pub mod token_client;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::Value;

use crate::{
    auth0::{
        answer::{TenantFeedback, Tokens},
        http::{HttpClient, RequestError, TenantResponse},
    },
    clock::{self, Deadline},
    config::{Config, ConfigError, TenantAddress, errors::Problem},
    jwt::{fetch_report::JwksError, jwks::KeySet},
    refusal::{ConnectDetail, Detail, Field, NoAnswer, Reason, Refusal},
    secret::Secret,
    threads::lock,
};
use input::json;

/// A tenant of Auth0, or another OpenID provider, and how it is asked.
pub(crate) struct TenantClient {
    http: Arc<HttpClient>,
    config: Arc<Config>,
    /// The number of this client, which [`TenantFeedback`] repeats.
    number: u64,
    endpoints: Mutex<Option<Arc<Endpoints>>>,
    /// Whether to discover the endpoints again, although they are known.
    rediscover: AtomicBool,
}

struct Endpoints {
    token: Option<String>,
    jwks: String,
    /// Where a device flow begins (RFC 8628).
    device: Option<String>,
}

impl Endpoints {
    fn of_domain(domain: &str) -> Self {
        Self {
            token: Some(format!("https://{domain}/oauth/token")),
            jwks: format!("https://{domain}/.well-known/jwks.json"),
            device: Some(format!("https://{domain}/oauth/device/code")),
        }
    }
}

impl TenantClient {
    /// Prepares the tenant's client. No request is made yet. `before` is the client of the same tenant that this one
    /// takes the place of: its endpoints stay until others are discovered, and its connections if they can be used.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with `ca_file`, or with the system's certificates.
    pub(crate) fn new(
        config: Arc<Config>,
        number: u64,
        before: Option<&Self>,
    ) -> Result<Self, ConfigError> {
        let endpoints = match &config.tenant {
            TenantAddress::Domain(domain) => Some(Arc::new(Endpoints::of_domain(domain))),
            TenantAddress::Issuer(_) => before.and_then(|before| lock(&before.endpoints).clone()),
        };
        let ca_file = config.ca_file.as_deref();
        let http = HttpClient::new(ca_file, config.timeout, before.map(|before| &before.http));
        let http = http.map_err(|problem| ca_error(&config, problem))?;
        Ok(Self {
            http,
            config,
            number,
            endpoints: Mutex::new(endpoints),
            rediscover: AtomicBool::new(before.is_some()),
        })
    }

    /// Returns its number.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Whether both trust the same authorities.
    pub(crate) fn trusts_like(&self, other: &Self) -> bool {
        self.http.trusts_like(&other.http)
    }

    /// Asks the tenant for its keys, to find out whether its certificate is trusted. A tenant that does not answer
    /// proves nothing.
    ///
    /// # Errors
    ///
    /// Returns an error if the certificate is not trusted.
    pub(crate) fn check_trust(&self) -> Result<(), ConfigError> {
        match self.fetch_keys() {
            Err(JwksError {
                why: NoAnswer::Untrusted { why, .. },
                ..
            }) => Err(ca_error(&self.config, Problem::Untrusted(why))),
            _ => Ok(()),
        }
    }

    /// Has the endpoints discovered again by the next [`Self::rediscover`].
    pub(crate) fn rediscover_soon(&self) {
        self.rediscover.store(true, Ordering::Relaxed);
    }

    /// Discovers the endpoints again, if that is due and they were discovered before.
    ///
    /// # Errors
    ///
    /// Returns why that failed. What was discovered before stays in use.
    pub(crate) fn rediscover(&self) -> Result<(), JwksError> {
        let is_due = self.rediscover.swap(false, Ordering::Relaxed)
            && matches!(self.config.tenant, TenantAddress::Issuer(_))
            && lock(&self.endpoints).is_some();
        if !is_due {
            return Ok(());
        }
        match self.discover(Deadline::after(self.config.timeout)) {
            Ok(_) => Ok(()),
            Err(why) => Err(self.no_keys(why)),
        }
    }

    /// Fetches the signing keys, within the configured timeout.
    ///
    /// # Errors
    ///
    /// Returns why there are none, and when the tenant accepts the next request.
    pub(crate) fn fetch_keys(&self) -> Result<KeySet, JwksError> {
        let deadline = Deadline::after(self.config.timeout);
        let fetch = || -> Result<KeySet, DocumentError> {
            let url = &self.endpoints(deadline)?.jwks;
            let answer = document(self.http.get(url, deadline))?;
            KeySet::parse(&answer.body).map_err(|why| NoAnswer::BadKeys(why.to_string()).into())
        };
        fetch().map_err(|why| self.no_keys(why))
    }

    fn no_keys(&self, DocumentError { why, pause }: DocumentError) -> JwksError {
        JwksError {
            tenant: self.name().to_owned(),
            why,
            pause,
        }
    }

    /// Asks the tenant whether a user name and password are right (Auth0, "Resource Owner Password Flow").
    /// Also returns what the response means for later requests.
    ///
    /// # Errors
    ///
    /// Returns a reason from one of the `login-…` and `tenant-…` rows of [`Reason`].
    pub(crate) fn login(
        &self,
        username: &str,
        password: &Secret,
        device: Option<std::net::IpAddr>,
        deadline: Deadline,
    ) -> (Result<Tokens, Refusal>, TenantFeedback) {
        let user = Some((username, password));
        let began = clock::moment();
        let (tokens, feedback) = match self.ask_for_tokens(user, device, deadline) {
            Ok(answer) => {
                let (tokens, feedback) = answer::interpret(&answer, clock::now());
                let took = Some(began.elapsed());
                (tokens, TenantFeedback { took, ..feedback })
            }
            Err((refusal, lost)) => {
                let was_tried = refusal.reason == Reason::TenantUnreachable;
                let feedback = TenantFeedback {
                    lost,
                    took: was_tried.then(|| began.elapsed()),
                    ..TenantFeedback::default()
                };
                (Err(refusal), feedback)
            }
        };
        let asked_by = self.number;
        (
            tokens,
            TenantFeedback {
                asked_by,
                ..feedback
            },
        )
    }

    /// Returns the response to a user name and a password, or to a request that leaves both out. Without a response,
    /// returns why there is none and whether the tenant may have received the request.
    fn ask_for_tokens(
        &self,
        user: Option<(&str, &Secret)>,
        device: Option<std::net::IpAddr>,
        deadline: Deadline,
    ) -> Result<TenantResponse, (Refusal, bool)> {
        let unasked = |reason, why: Detail| (Refusal::new(reason, why), false);
        let Some(application) = &self.config.application else {
            let detail = ConnectDetail::CredentialsModeOff.into();
            return Err(unasked(Reason::CredentialsOff, detail));
        };
        let endpoints = self
            .endpoints(deadline)
            .map_err(|DocumentError { why, .. }| unasked(Reason::TenantUnreachable, why.into()))?;
        let Some(url) = &endpoints.token else {
            let detail = NoAnswer::NoTokenAddress.into();
            return Err(unasked(Reason::LoginConfiguration, detail));
        };
        let mut form = form::password_form(application, &self.config);
        if let Some((username, password)) = user {
            let Some(password) = password.reveal_str() else {
                let detail = ConnectDetail::NotUtf8(Field::Password).into();
                return Err(unasked(Reason::NotUtf8, detail));
            };
            form.extend([("username", username), ("password", password)]);
        }
        let address = device.map(|ip| ip.to_string());
        let headers: Vec<_> = address
            .iter()
            .map(|address| (forwarded::HEADER, address.as_str()))
            .collect();
        self.http
            .post_form(url, &form, &headers, deadline)
            .map_err(|RequestError { why, sent }| {
                (Refusal::new(Reason::TenantUnreachable, why), sent)
            })
    }

    fn name(&self) -> &str {
        self.config.tenant.name()
    }

    /// Returns how long the tenant's keys stay valid without a fetch.
    pub(crate) fn jwks_max_stale(&self) -> Duration {
        self.config.jwks_max_stale
    }

    /// Returns the endpoints, which are discovered when they are first needed (OpenID Connect Discovery 1.0, section
    /// 4). Two threads may both ask the first time; the results are the same.
    fn endpoints(&self, deadline: Deadline) -> Result<Arc<Endpoints>, DocumentError> {
        let known = lock(&self.endpoints).clone();
        known.map_or_else(|| self.discover(deadline), Ok)
    }

    fn discover(&self, deadline: Deadline) -> Result<Arc<Endpoints>, DocumentError> {
        let found = Arc::new(discover(&self.http, &self.config.tenant, deadline)?);
        *lock(&self.endpoints) = Some(Arc::clone(&found));
        Ok(found)
    }
}

fn ca_error(config: &Config, problem: Problem) -> ConfigError {
    match &config.ca_file {
        Some(path) => ConfigError::new("ca_file", &path.display().to_string(), problem),
        None => ConfigError::hidden("ca_file", problem),
    }
}

/// The tenant's client that is in use. A thread takes it for one request, and on SIGHUP another one takes its place.
#[derive(Clone)]
pub(crate) struct TenantInUse(Arc<Mutex<Arc<TenantClient>>>);

impl TenantInUse {
    /// Uses this client.
    pub(crate) fn new(client: TenantClient) -> Self {
        Self(Arc::new(Mutex::new(Arc::new(client))))
    }

    /// Returns the client.
    pub(crate) fn current(&self) -> Arc<TenantClient> {
        Arc::clone(&lock(&self.0))
    }

    /// Uses another one from now on.
    pub(crate) fn replace(&self, client: TenantClient) {
        *lock(&self.0) = Arc::new(client);
    }
}

/// Why a document could not be fetched.
struct DocumentError {
    why: NoAnswer,
    /// How long the tenant wants clients to wait before the next request.
    pause: Option<Duration>,
}

impl From<NoAnswer> for DocumentError {
    fn from(why: NoAnswer) -> Self {
        Self { why, pause: None }
    }
}

/// Checks that a response is a document.
fn document(result: Result<TenantResponse, RequestError>) -> Result<TenantResponse, DocumentError> {
    match result {
        Ok(answer) if answer.status == 200 => Ok(answer),
        Ok(answer) => Err(DocumentError {
            why: NoAnswer::Status(answer.status),
            pause: answer.retry_in(clock::now()),
        }),
        Err(RequestError { why, .. }) => Err(why.into()),
    }
}

/// Returns the address of the discovery document.
fn discovery_url(tenant: &TenantAddress) -> String {
    let issuer = match tenant {
        TenantAddress::Domain(domain) => &format!("https://{domain}"),
        TenantAddress::Issuer(issuer) => issuer,
    };
    let issuer = issuer.trim_end_matches('/');
    format!("{issuer}/.well-known/openid-configuration")
}

/// Fetches the discovery document.
fn discover(
    http: &HttpClient,
    tenant: &TenantAddress,
    deadline: Deadline,
) -> Result<Endpoints, DocumentError> {
    let answer = document(http.get(&discovery_url(tenant), deadline))?;
    Ok(discovered(tenant.name(), &answer.body)?)
}

fn discovered(issuer: &str, body: &[u8]) -> Result<Endpoints, NoAnswer> {
    let document = json::object(body).map_err(NoAnswer::BadDiscovery)?;
    let text = |name: &str| document.get(name).and_then(Value::as_str);
    // OpenID Connect Discovery 1.0, section 4.3: otherwise one issuer could serve another issuer's keys.
    match text("issuer") {
        Some(same) if same == issuer => {}
        other => {
            return Err(NoAnswer::AnotherIssuer {
                found: other.map(str::to_owned),
                expected: issuer.to_owned(),
            });
        }
    }
    let https = |name: &'static str| match text(name) {
        Some(url) if url.starts_with("https://") => Ok(Some(url.to_owned())),
        Some(url) => Err(NoAnswer::WithoutTls {
            name,
            url: url.to_owned(),
        }),
        None => Ok(None),
    };
    let jwks = https("jwks_uri")?.ok_or(NoAnswer::NoKeysAddress)?;
    Ok(Endpoints {
        token: https("token_endpoint")?,
        device: https("device_authorization_endpoint")?,
        jwks,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn discovery_accepts_https_endpoints_of_the_same_issuer_only() {
        let issuer = "https://id.example/";
        let good = br#"{"issuer":"https://id.example/","jwks_uri":"https://id.example/k","token_endpoint":"https://id.example/t"}"#;
        let found = discovered(issuer, good).unwrap();
        assert_eq!(
            (found.token.as_deref(), found.jwks.as_str()),
            (Some("https://id.example/t"), "https://id.example/k")
        );
        for (body, why) in [
            (
                r#"{"issuer":"https://id.example","jwks_uri":"https://id.example/k"}"#,
                "calls itself 'https://id.example' ",
            ),
            (
                r#"{"jwks_uri":"https://id.example/k"}"#,
                "calls itself 'nothing'",
            ),
            (
                r#"{"issuer":"https://id.example/","jwks_uri":"http://id.example/k"}"#,
                "jwks_uri without TLS",
            ),
            (
                r#"{"issuer":"https://id.example/","jwks_uri":"https://id.example/k","token_endpoint":"http://x"}"#,
                "token_endpoint without TLS",
            ),
            (r#"{"issuer":"https://id.example/"}"#, "no jwks_uri"),
            ("<html>", "not valid JSON"),
        ] {
            let error = discovered(issuer, body.as_bytes())
                .err()
                .unwrap()
                .to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
