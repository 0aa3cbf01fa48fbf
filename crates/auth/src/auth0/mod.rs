//! Requests to the tenant.
//!
//! * [`http`]: one request with its limits and errors; `resolver`: one DNS lookup for all concurrent requests
//! * [`form`]: the body of a token request, and whether it was sent
//! * [`answer`]: what the token endpoint's responses mean
//! * [`forwarded`]: the client's address, for Auth0's attack protection

pub mod answer;
mod form;
pub(crate) mod forwarded;
mod http;
mod resolver;

use std::{sync::OnceLock, time::Duration};

use serde_json::Value;

use crate::{
    auth0::{
        answer::{TenantFeedback, Tokens},
        http::{HttpClient, RequestError, TenantResponse},
    },
    clock::{self, Deadline},
    config::{Config, TenantAddress, errors::Problem},
    jwt::{fetch_report::JwksError, jwks::KeySet},
    refusal::{ConnectDetail, Detail, Field, NoAnswer, Reason, Refusal},
    secret::Secret,
};
use input::json;

/// A tenant of Auth0, or another OpenID provider.
pub(crate) struct TenantClient {
    http: HttpClient,
    address: TenantAddress,
    endpoints: OnceLock<Endpoints>,
    timeout: Duration,
}

struct Endpoints {
    token: Option<String>,
    jwks: String,
}

impl TenantClient {
    /// Prepares the tenant's client. No request is made yet.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with `ca_file`, or with the system's certificates.
    pub(crate) fn new(config: &Config) -> Result<Self, Problem> {
        let endpoints = OnceLock::new();
        if let TenantAddress::Domain(domain) = &config.tenant {
            let token = Some(format!("https://{domain}/oauth/token"));
            let _ = endpoints.set(Endpoints {
                token,
                jwks: format!("https://{domain}/.well-known/jwks.json"),
            });
        }
        Ok(Self {
            http: HttpClient::new(config.ca_file.as_deref(), config.timeout)?,
            address: config.tenant.clone(),
            endpoints,
            timeout: config.timeout,
        })
    }

    /// Fetches the signing keys, within the configured timeout.
    ///
    /// # Errors
    ///
    /// Returns why there are none, and when the tenant accepts the next request.
    pub(crate) fn fetch_keys(&self) -> Result<KeySet, JwksError> {
        let deadline = Deadline::after(self.timeout);
        let fetch = || -> Result<KeySet, DocumentError> {
            let url = &self.endpoints(deadline)?.jwks;
            let answer = document(self.http.get(url, deadline))?;
            KeySet::parse(&answer.body).map_err(|why| NoAnswer::BadKeys(why.to_string()).into())
        };
        fetch().map_err(|DocumentError { why, pause }| JwksError {
            tenant: self.name().to_owned(),
            why,
            pause,
        })
    }

    /// Asks the tenant whether a user name and password are right (Auth0, "Resource Owner Password Flow").
    /// Also returns what the response means for later requests.
    ///
    /// # Errors
    ///
    /// Returns a reason from one of the `login-…` and `tenant-…` rows of [`Reason`].
    pub(crate) fn login(
        &self,
        config: &Config,
        username: &str,
        password: &Secret,
        device: Option<std::net::IpAddr>,
        deadline: Deadline,
    ) -> (Result<Tokens, Refusal>, TenantFeedback) {
        match self.ask_for_tokens(config, username, password, device, deadline) {
            Ok(answer) => answer::interpret(&answer, clock::now()),
            Err((refusal, lost)) => {
                let feedback = TenantFeedback {
                    lost,
                    ..TenantFeedback::default()
                };
                (Err(refusal), feedback)
            }
        }
    }

    /// Returns the response, or why there is none and whether the tenant may have received the request.
    fn ask_for_tokens(
        &self,
        config: &Config,
        username: &str,
        password: &Secret,
        device: Option<std::net::IpAddr>,
        deadline: Deadline,
    ) -> Result<TenantResponse, (Refusal, bool)> {
        let unasked = |reason, why: Detail| (Refusal::new(reason, why), false);
        let Some(application) = &config.application else {
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
        let Some(password) = password.reveal_str() else {
            let detail = ConnectDetail::NotUtf8(Field::Password).into();
            return Err(unasked(Reason::NotUtf8, detail));
        };
        let form = form::password_form(application, config, username, password);
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
        self.address.name()
    }

    /// Returns the endpoints, which are discovered once (OpenID Connect Discovery 1.0, section 4). Two
    /// threads may both ask the first time; the results are the same, and one is kept.
    fn endpoints(&self, deadline: Deadline) -> Result<&Endpoints, DocumentError> {
        if let Some(known) = self.endpoints.get() {
            return Ok(known);
        }
        let issuer = self.name();
        let url = format!(
            "{}/.well-known/openid-configuration",
            issuer.trim_end_matches('/')
        );
        let answer = document(self.http.get(&url, deadline))?;
        let found = discovered(issuer, &answer.body)?;
        Ok(self.endpoints.get_or_init(|| found))
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
