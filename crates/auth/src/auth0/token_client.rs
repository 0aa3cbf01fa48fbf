//! Token requests of the operator's tool, over the plugin's own connections: the same TLS, the same certificates, the
//! same limits.

use std::{sync::Arc, time::Duration};

use serde_json::{Map, Value};

use super::{Endpoints, discover, discovery_url, form::ApplicationProof, http::HttpClient};
use crate::{
    client_auth::{ApplicationCredential, ClientAuth},
    clock::{self, Deadline},
    config::{ConfigError, TenantAddress, WrittenOptions, errors::Problem},
    refusal::NoAnswer,
};
use input::json;

/// How long one request may take. A person or a script waits, not a device.
const TIMEOUT: Duration = Duration::from_secs(20);

/// What asks a tenant for tokens.
pub struct TokenClient {
    http: Arc<HttpClient>,
    endpoints: Endpoints,
    /// Whom a client assertion is for.
    issuer: String,
    /// How an application sends its secret.
    sent_by: ClientAuth,
}

/// A response, whatever its status.
#[derive(Debug)]
pub struct TokenResponse {
    /// The HTTP status.
    pub status: u16,
    /// The members of its body; none if the body is no JSON object.
    pub members: Map<String, Value>,
    /// How long the tenant wants clients to wait.
    pub retry_in: Option<Duration>,
}

/// Why there is no client.
#[derive(Debug)]
pub enum TokenClientError {
    /// An option is wrong.
    Option(ConfigError),
    /// The discovery document could not be fetched.
    Discovery(NoAnswer),
}

impl TokenClient {
    /// Prepares requests to the tenant that the options `domain` or `issuer` name, that `ca_file` makes trusted, and
    /// that is reached through `proxy`. Without a domain, its endpoints are discovered.
    ///
    /// # Errors
    ///
    /// Returns why tokens cannot be asked for.
    pub fn new(options: &WrittenOptions) -> Result<Self, TokenClientError> {
        let (tenant, _) = options.tenant().map_err(TokenClientError::Option)?;
        let ca_file = options.text("ca_file").map(std::path::Path::new);
        let proxy = options.proxy().map_err(TokenClientError::Option)?;
        let http = HttpClient::new(ca_file, TIMEOUT, proxy.as_ref(), None).map_err(
            |problem: Problem| {
                let shown = ca_file.map(|path| path.display().to_string());
                TokenClientError::Option(match shown {
                    Some(path) => ConfigError::new("ca_file", &path, problem),
                    None => ConfigError::hidden("ca_file", problem),
                })
            },
        )?;
        let endpoints = match &tenant {
            TenantAddress::Domain(domain) => Endpoints::of_domain(domain),
            TenantAddress::Issuer(_) => discover(
                &http,
                &discovery_url(&tenant),
                &[tenant.name()],
                Deadline::after(TIMEOUT),
            )
            .map_err(|error| TokenClientError::Discovery(error.why))?,
        };
        let option = options.client_auth().map_err(TokenClientError::Option)?;
        // That the plugin's application has a key says nothing about one that has a secret.
        let option = option.filter(|auth| ClientAuth::WITH_SECRET.contains(auth));
        let sent_by = option.unwrap_or(endpoints.client_auth);
        Ok(Self {
            http,
            endpoints,
            issuer: tenant.issuer(),
            sent_by,
        })
    }

    /// Asks the token endpoint, in the name of this application.
    ///
    /// # Errors
    ///
    /// Returns why there is no response, and whether the tenant may have received the request.
    ///
    /// # Panics
    ///
    /// Panics if the application's secret is no text.
    pub fn ask_for_token(
        &self,
        form: &[(&str, &str)],
        client_id: &str,
        credential: &ApplicationCredential,
    ) -> Result<TokenResponse, (NoAnswer, bool)> {
        let endpoint = self.endpoints.token.as_deref();
        let endpoint = endpoint.ok_or((NoAnswer::NoTokenAddress, false))?;
        let (sent_by, now) = (self.sent_by, clock::now());
        let proof = ApplicationProof::new(client_id, credential, sent_by, &self.issuer, now);
        let proof = proof.map_err(|_| (NoAnswer::NotSigned, false))?;
        let form: Vec<_> = form.iter().copied().chain(proof.fields()).collect();
        let header = proof.authorization.as_deref();
        let header: Vec<_> = header
            .map(|text| ("authorization", text))
            .into_iter()
            .collect();
        self.post(endpoint, &form, &header)
    }

    /// Begins a device flow. Returns `None` if the tenant has none.
    ///
    /// # Errors
    ///
    /// Returns why there is no response.
    pub fn ask_for_device_code(
        &self,
        form: &[(&str, &str)],
    ) -> Option<Result<TokenResponse, NoAnswer>> {
        let endpoint = self.endpoints.device.as_deref()?;
        Some(self.post(endpoint, form, &[]).map_err(|(why, _)| why))
    }

    fn post(
        &self,
        url: &str,
        form: &[(&str, &str)],
        headers: &[(&str, &str)],
    ) -> Result<TokenResponse, (NoAnswer, bool)> {
        let deadline = Deadline::after(TIMEOUT);
        let answer = self.http.post_form(url, form, headers, deadline);
        let answer = answer.map_err(|error| (error.why, error.sent))?;
        Ok(TokenResponse {
            status: answer.status,
            retry_in: answer.retry_in(clock::now()),
            members: json::object(&answer.body).unwrap_or_default(),
        })
    }
}
