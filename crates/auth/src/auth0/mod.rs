//! The tenant: what can be asked of it, and where.
//!
//! * [`http`]: one request, its limits, its failures; `names`: one lookup for all who ask at once
//! * [`form`]: what a token request says, and whether it was sent
//! * [`answer`]: the token endpoint's answers, judged
//! * [`forwarded`]: the device's address, for Auth0's attack protection

pub mod answer;
pub mod form;
pub mod forwarded;
pub mod http;
mod names;

use std::{sync::OnceLock, time::Duration};

use serde_json::Value;

use crate::{
    auth0::{
        answer::{Aftermath, Tokens},
        http::{Answer, Failure, Http},
    },
    clock::{self, Deadline},
    config::{Config, Home},
    keys::{KeySet, store::NoKeys},
    refusal::{Reason, Refusal},
    secret::Secret,
};
use input::{json, text::Quoted};

/// A tenant of Auth0, or another OpenID provider.
pub struct Tenant {
    http: Http,
    home: Home,
    endpoints: OnceLock<Endpoints>,
    timeout: Duration,
}

struct Endpoints {
    token: Option<String>,
    jwks: String,
}

impl Tenant {
    /// Prepares to ask; asks nothing yet.
    ///
    /// # Errors
    ///
    /// A sentence about `ca_file`, or about the system's certificates.
    pub fn new(config: &Config) -> Result<Self, String> {
        let endpoints = OnceLock::new();
        if let Home::Domain(domain) = &config.home {
            let token = Some(format!("https://{domain}/oauth/token"));
            let _ = endpoints.set(Endpoints {
                token,
                jwks: format!("https://{domain}/.well-known/jwks.json"),
            });
        }
        Ok(Self {
            http: Http::new(config.ca_file.as_deref(), config.timeout)?,
            home: config.home.clone(),
            endpoints,
            timeout: config.timeout,
        })
    }

    /// Asks for the signing keys, within the configured timeout.
    ///
    /// # Errors
    ///
    /// Why there are none, and when the tenant wants to be asked again.
    pub fn fetch_keys(&self) -> Result<KeySet, NoKeys> {
        let deadline = Deadline::after(self.timeout);
        let fetch = || -> Result<KeySet, Trouble> {
            let url = &self.endpoints(deadline)?.jwks;
            let answer = document(self.http.get(url, deadline))?;
            KeySet::parse(&answer.body).map_err(|why| format!("its key set {why}").into())
        };
        fetch().map_err(|Trouble { why, pause }| NoKeys {
            why: format!("could not be fetched from {}: {why}", self.name()),
            pause,
        })
    }

    /// Asks whether a user name and password are right (Auth0, "Resource Owner Password Flow"), and
    /// says what that means for the next question.
    ///
    /// # Errors
    ///
    /// The reason, one of the `login-…` and `tenant-…` rows of [`Reason`].
    pub fn login(
        &self,
        config: &Config,
        username: &str,
        password: &Secret,
        device: Option<std::net::IpAddr>,
        deadline: Deadline,
    ) -> (Result<Tokens, Refusal>, Aftermath) {
        match self.ask_for_tokens(config, username, password, device, deadline) {
            Ok(answer) => answer::judged(&answer, clock::now()),
            Err((refusal, lost)) => {
                let aftermath = Aftermath {
                    lost,
                    ..Aftermath::default()
                };
                (Err(refusal), aftermath)
            }
        }
    }

    /// An answer; or why there is none, and whether the question may have been heard.
    fn ask_for_tokens(
        &self,
        config: &Config,
        username: &str,
        password: &Secret,
        device: Option<std::net::IpAddr>,
        deadline: Deadline,
    ) -> Result<Answer, (Refusal, bool)> {
        let unasked = |reason, why: String| (Refusal::new(reason, why), false);
        let Some(application) = &config.application else {
            let why = "it sent a password, and credentials mode is off".into();
            return Err(unasked(Reason::CredentialsOff, why));
        };
        let endpoints = self.endpoints(deadline).map_err(|Trouble { why, .. }| {
            unasked(Reason::TenantUnreachable, format!("the tenant {why}"))
        })?;
        let Some(url) = &endpoints.token else {
            let why = format!("{} has no token endpoint", self.name());
            return Err(unasked(Reason::LoginConfiguration, why));
        };
        let Some(password) = password.reveal_str() else {
            let why = "its password is not UTF-8 text".into();
            return Err(unasked(Reason::NotUtf8, why));
        };
        let form = form::password_form(application, config, username, password);
        let address = device.map(|ip| ip.to_string());
        let headers: Vec<_> = address
            .iter()
            .map(|address| (forwarded::HEADER, address.as_str()))
            .collect();
        self.http
            .post_form(url, &form, &headers, deadline)
            .map_err(|Failure { why, sent }| {
                let why = format!("the tenant {why}");
                (Refusal::new(Reason::TenantUnreachable, why), sent)
            })
    }

    fn name(&self) -> &str {
        self.home.name()
    }

    /// The endpoints; discovered once (OpenID Connect Discovery 1.0, section 4). Two threads may
    /// both ask the first time; the answers are the same and one is kept.
    fn endpoints(&self, deadline: Deadline) -> Result<&Endpoints, Trouble> {
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

/// A document that is not there.
struct Trouble {
    /// A sentence that completes "the tenant …".
    why: String,
    /// How long the tenant wants to wait for the next try.
    pause: Option<Duration>,
}

impl From<String> for Trouble {
    fn from(why: String) -> Self {
        Self { why, pause: None }
    }
}

/// A document that is there.
fn document(result: Result<Answer, Failure>) -> Result<Answer, Trouble> {
    match result {
        Ok(answer) if answer.status == 200 => Ok(answer),
        Ok(answer) => Err(Trouble {
            why: format!("answered {}", answer.status),
            pause: answer.retry_in(clock::now()),
        }),
        Err(Failure { why, .. }) => Err(why.into()),
    }
}

fn discovered(issuer: &str, body: &[u8]) -> Result<Endpoints, String> {
    let document =
        json::object(body).map_err(|why| format!("has a discovery document that {why}"))?;
    let text = |name: &str| document.get(name).and_then(Value::as_str);
    // OpenID Connect Discovery 1.0, section 4.3: else one issuer could hand out another's keys.
    match text("issuer") {
        Some(same) if same == issuer => {}
        other => {
            return Err(format!(
                "calls itself {} where the option issuer says {}; write it exactly so",
                Quoted(other.unwrap_or("nothing")),
                Quoted(issuer)
            ));
        }
    }
    let https = |name: &str| match text(name) {
        Some(url) if url.starts_with("https://") => Ok(Some(url.to_owned())),
        Some(url) => Err(format!("has a {name} without TLS, {}", Quoted(url))),
        None => Ok(None),
    };
    let jwks = https("jwks_uri")?.ok_or("has no jwks_uri in its discovery document")?;
    Ok(Endpoints {
        token: https("token_endpoint")?,
        jwks,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn discovery_takes_https_endpoints_of_the_very_issuer() {
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
            ("<html>", "not good JSON"),
        ] {
            let error = discovered(issuer, body.as_bytes()).err().unwrap();
            assert!(error.contains(why), "{error}");
        }
    }
}
