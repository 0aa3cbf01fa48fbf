//! Requests to the tenant.
//!
//! * [`http`]: one request with its limits and errors; `tunnel`: through a proxy; `resolver`: one DNS lookup for all
//!   concurrent requests
//! * [`form`]: the body of a token request, and whether it was sent
//! * [`token_client`]: token requests of the operator's tool
//! * [`answer`]: what the token endpoint's responses mean
//! * [`forwarded`]: the client's address, for Auth0's attack protection
//! * [`examine`]: one question at a time, for the operator's tool

pub mod answer;
pub mod examine;
mod form;
pub(crate) mod forwarded;
pub(crate) mod http;
mod resolver;
pub mod token_client;
mod tunnel;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    auth0::{
        answer::{TenantFeedback, Tokens},
        form::ApplicationProof,
        http::{HttpClient, RequestError, TenantResponse},
    },
    client_auth::ClientAuth,
    clock::{self, Deadline, moment},
    config::{ConfigError, IssuerConfig, TenantAddress, errors::Problem},
    jwt::{fetch_report::JwksError, jwks::KeySet},
    refusal::{AnotherIssuer, ConnectDetail, Detail, Field, NoAnswer, Reason, Refusal},
    secret::Secret,
    threads::lock,
};
use input::json;

/// A tenant of Auth0, or another OpenID provider, and how it is asked.
pub(crate) struct TenantClient {
    http: Arc<HttpClient>,
    issuer: Arc<IssuerConfig>,
    /// How long one request may take.
    timeout: Duration,
    /// The number of this client, which [`TenantFeedback`] repeats.
    number: u64,
    endpoints: Mutex<Option<Arc<Endpoints>>>,
    /// Whether to discover the endpoints again, although they are known.
    rediscover: AtomicBool,
    /// Whether the last fetch of keys has failed: they may be elsewhere by now.
    fetch_failed: AtomicBool,
}

#[derive(Clone)]
struct Endpoints {
    token: Option<String>,
    /// Where the keys are, unless `jwks_uri` says so.
    jwks: Option<String>,
    /// Where a device flow begins (RFC 8628).
    device: Option<String>,
    /// How the application may send its secret.
    client_auth: ClientAuth,
    /// When the discovery document is read again.
    old_at: Instant,
}

/// How long endpoints are used that the tenant has named.
const ONE_DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How long they are used further when they could not be discovered again before a sign-in.
const ENDPOINTS_KEPT: Duration = Duration::from_secs(5 * 60);

impl Endpoints {
    fn of_domain(domain: &str) -> Self {
        Self {
            token: Some(format!("https://{domain}/oauth/token")),
            jwks: Some(format!("https://{domain}/.well-known/jwks.json")),
            device: Some(format!("https://{domain}/oauth/device/code")),
            client_auth: ClientAuth::Post,
            old_at: moment() + ONE_DAY,
        }
    }

    /// Whether the discovery document is read again.
    fn are_old(&self, now: Instant) -> bool {
        now >= self.old_at
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
        issuer: Arc<IssuerConfig>,
        timeout: Duration,
        number: u64,
        before: Option<&Self>,
    ) -> Result<Self, ConfigError> {
        let endpoints = match &issuer.tenant {
            TenantAddress::Domain(domain) => Some(Arc::new(Endpoints::of_domain(domain))),
            TenantAddress::Issuer(_) => before.and_then(|before| lock(&before.endpoints).clone()),
        };
        let ca_file = issuer.ca_file.as_deref();
        let proxy = issuer.proxy.as_ref();
        let http = before.map(|before| &before.http);
        let http = HttpClient::new(ca_file, timeout, proxy, http);
        let http = http.map_err(|problem| ca_error(&issuer, problem))?;
        Ok(Self {
            http,
            issuer,
            timeout,
            number,
            endpoints: Mutex::new(endpoints),
            rediscover: AtomicBool::new(before.is_some()),
            fetch_failed: AtomicBool::new(false),
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

    /// Whether both trust the same authorities and go the same way to the tenant.
    pub(crate) fn reaches_like(&self, other: &Self) -> bool {
        self.http.trusts_like(&other.http) && self.http.goes_like(&other.http)
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
                why: NoAnswer::Untrusted { problem, why },
                ..
            }) => Err(ca_error(&self.issuer, Problem::Untrusted(problem, why))),
            _ => Ok(()),
        }
    }

    /// Has the endpoints discovered again by the next [`Self::rediscover`], or where no keys are fetched by the next
    /// sign-in.
    pub(crate) fn rediscover_soon(&self) {
        self.rediscover.store(true, Ordering::Relaxed);
    }

    /// Discovers the endpoints again, if they were discovered before and it is time: after [`Self::rediscover_soon`],
    /// after a fetch of keys that failed, and once a day.
    ///
    /// # Errors
    ///
    /// Returns why that failed, if it was called for. What was discovered before stays in use.
    pub(crate) fn rediscover(&self) -> Result<(), JwksError> {
        let called_for = self.rediscover.swap(false, Ordering::Relaxed);
        let failed = self.fetch_failed.swap(false, Ordering::Relaxed);
        let known = lock(&self.endpoints).clone();
        let Some(known) = known.filter(|_| self.discovers()) else {
            return Ok(());
        };
        if !called_for && !failed && !known.are_old(moment()) {
            return Ok(());
        }
        match self.discover(Deadline::after(self.timeout)) {
            // The fetch of keys that follows fails too, and is reported.
            Err(why) if called_for => Err(self.no_keys(why)),
            _ => Ok(()),
        }
    }

    /// Whether the tenant is asked where its endpoints are.
    fn discovers(&self) -> bool {
        matches!(self.issuer.tenant, TenantAddress::Issuer(_))
    }

    /// Fetches the signing keys, within the configured timeout.
    ///
    /// # Errors
    ///
    /// Returns why there are none, and when the tenant accepts the next request.
    pub(crate) fn fetch_keys(&self) -> Result<KeySet, JwksError> {
        let deadline = Deadline::after(self.timeout);
        let fetch = || -> Result<KeySet, DocumentError> {
            let url = match &self.issuer.jwks_uri {
                Some(url) => url.clone(),
                None => {
                    let endpoints = self.endpoints(deadline)?;
                    endpoints.jwks.clone().ok_or(NoAnswer::NoKeysAddress)?
                }
            };
            let answer = document(self.http.get(&url, deadline))?;
            KeySet::parse(&answer.body).map_err(|why| NoAnswer::BadKeys(why.to_string()).into())
        };
        fetch().map_err(|why| {
            self.fetch_failed.store(true, Ordering::Relaxed);
            self.no_keys(why)
        })
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
            Ok((answer, auth)) => {
                let (tokens, feedback) = answer::interpret(&answer, auth, clock::now());
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

    /// Returns the response to a user name and a password, or to a request that leaves both out, and how the
    /// application proved who it is. Without a response, returns why there is none and whether the tenant may have
    /// received the request.
    fn ask_for_tokens(
        &self,
        user: Option<(&str, &Secret)>,
        device: Option<std::net::IpAddr>,
        deadline: Deadline,
    ) -> Result<(TenantResponse, ClientAuth), (Refusal, bool)> {
        let unasked = |reason, why: Detail| (Refusal::new(reason, why), false);
        let Some(application) = &self.issuer.application else {
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
        let auth = application.auth.unwrap_or(endpoints.client_auth);
        let proof = ApplicationProof::new(
            &application.client_id,
            &application.credential,
            auth,
            &self.issuer.tenant.issuer(),
            clock::now(),
        );
        let proof =
            proof.map_err(|_| unasked(Reason::LoginConfiguration, NoAnswer::NotSigned.into()))?;
        let mut form = form::password_form(application, &self.issuer);
        form.extend(proof.fields());
        if let Some((username, password)) = user {
            let Some(password) = password.reveal_str() else {
                let detail = ConnectDetail::NotUtf8(Field::Password).into();
                return Err(unasked(Reason::NotUtf8, detail));
            };
            form.extend([("username", username), ("password", password)]);
        }
        let address = device.map(|ip| ip.to_string());
        let address = address.iter().map(|text| (forwarded::HEADER, &**text));
        let authorization = proof
            .authorization
            .iter()
            .map(|text| ("authorization", &**text));
        let headers: Vec<_> = address.chain(authorization).collect();
        self.http
            .post_form(url, &form, &headers, deadline)
            .map(|answer| (answer, auth))
            .map_err(|RequestError { why, sent }| {
                (Refusal::new(Reason::TenantUnreachable, why), sent)
            })
    }

    fn name(&self) -> &str {
        self.issuer.tenant.name()
    }

    /// Returns how long the tenant's keys stay valid without a fetch.
    pub(crate) fn jwks_max_stale(&self) -> Duration {
        self.issuer.jwks_max_stale
    }

    /// Returns the issuers that the discovery document may name: those whose tokens are accepted. Azure AD B2C serves
    /// the document below another address than the issuer's.
    fn issuers(&self) -> Vec<&str> {
        self.issuer.names.iter().map(String::as_str).collect()
    }

    /// Returns the endpoints, which are discovered when they are first needed (OpenID Connect Discovery 1.0, section
    /// 4). Two threads may both ask the first time; the results are the same.
    ///
    /// Where keys are fetched, [`Self::rediscover`] discovers them again. Elsewhere this does, and if that fails, what
    /// was discovered before stays in use.
    fn endpoints(&self, deadline: Deadline) -> Result<Arc<Endpoints>, DocumentError> {
        let rediscovers = self.discovers() && !self.issuer.fetches_keys();
        let called_for = rediscovers && self.rediscover.swap(false, Ordering::Relaxed);
        let mut endpoints = lock(&self.endpoints);
        let Some(known) = endpoints.clone() else {
            drop(endpoints);
            return self.discover(deadline);
        };
        if !rediscovers || (!called_for && !known.are_old(moment())) {
            return Ok(known);
        }
        // Others use what is known meanwhile.
        *endpoints = Some(Arc::new(Endpoints {
            old_at: moment() + ENDPOINTS_KEPT,
            ..Endpoints::clone(&known)
        }));
        drop(endpoints);
        // The sign-in that follows needs time too.
        let half = Deadline::after(deadline.remaining() / 2);
        Ok(self.discover(half).unwrap_or(known))
    }

    /// Returns the address of the discovery document.
    fn discovery_url(&self) -> String {
        let of_option = self.issuer.discovery_url.clone();
        of_option.unwrap_or_else(|| discovery_url(&self.issuer.tenant))
    }

    fn discover(&self, deadline: Deadline) -> Result<Arc<Endpoints>, DocumentError> {
        let (url, issuers) = (self.discovery_url(), self.issuers());
        let found = Arc::new(discover(&self.http, &url, &issuers, deadline)?);
        *lock(&self.endpoints) = Some(Arc::clone(&found));
        Ok(found)
    }
}

fn ca_error(issuer: &IssuerConfig, problem: Problem) -> ConfigError {
    match &issuer.ca_file {
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

/// Returns the address of the discovery document, if no option says where it is.
fn discovery_url(tenant: &TenantAddress) -> String {
    let issuer = match tenant {
        TenantAddress::Domain(domain) => &format!("https://{domain}"),
        TenantAddress::Issuer(issuer) => issuer,
    };
    let issuer = issuer.trim_end_matches('/');
    format!("{issuer}/.well-known/openid-configuration")
}

/// Fetches the discovery document, which has to name one of these issuers.
fn discover(
    http: &HttpClient,
    url: &str,
    issuers: &[&str],
    deadline: Deadline,
) -> Result<Endpoints, DocumentError> {
    let answer = document(http.get(url, deadline))?;
    Ok(discovered(url, issuers, &answer.body)?)
}

/// Reads the discovery document that is at this address.
fn discovered(url: &str, issuers: &[&str], body: &[u8]) -> Result<Endpoints, NoAnswer> {
    let document = json::object(body).map_err(NoAnswer::BadDiscovery)?;
    let text = |name: &str| document.get(name).and_then(Value::as_str);
    // OpenID Connect Discovery 1.0, section 4.3: otherwise one issuer could serve another issuer's keys.
    match text("issuer") {
        Some(one) if issuers.contains(&one) => {}
        Some(other) => {
            let found = other.to_owned();
            let usual = |issuer: &str| discovery_url(&TenantAddress::Issuer(issuer.to_owned()));
            let is_usual = issuers.iter().any(|one| usual(one) == url);
            return Err(NoAnswer::AnotherIssuer(Box::new(AnotherIssuer {
                found,
                expected: issuers.iter().map(|one| (*one).to_owned()).collect(),
                // Not where an option says already that it is there.
                elsewhere: (is_usual && usual(other) != url).then(|| url.to_owned()),
            })));
        }
        None => return Err(NoAnswer::NoIssuer),
    }
    let https = |name: &'static str| match text(name) {
        Some(url) if url.starts_with("https://") => Ok(Some(url.to_owned())),
        Some(url) => Err(NoAnswer::WithoutTls {
            name,
            url: url.to_owned(),
        }),
        None => Ok(None),
    };
    Ok(Endpoints {
        token: https("token_endpoint")?,
        jwks: https("jwks_uri")?,
        device: https("device_authorization_endpoint")?,
        client_auth: client_auth(document.get("token_endpoint_auth_methods_supported")),
        old_at: moment() + ONE_DAY,
    })
}

/// Returns how an application may send its secret. A document that does not say means the header (OpenID Connect
/// Discovery 1.0, section 3).
fn client_auth(offered: Option<&Value>) -> ClientAuth {
    let Some(Value::Array(offered)) = offered else {
        return ClientAuth::Basic;
    };
    let known = ClientAuth::WITH_SECRET.into_iter();
    let mut known = known.filter(|one| offered.iter().any(|name| name == one.name()));
    // If there is neither, the tenant's error says what is missing.
    known.next().unwrap_or(ClientAuth::Post)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use serde_json::json;

    fn client_of(
        config: &Config,
        number: u64,
        before: Option<&TenantClient>,
    ) -> Result<TenantClient, ConfigError> {
        let issuer = Arc::clone(&config.issuers[0]);
        TenantClient::new(issuer, config.timeout, number, before)
    }

    #[test]
    fn discovery_accepts_https_endpoints_of_the_same_issuer_only() {
        let issuer = "https://id.example/";
        let url = "https://id.example/.well-known/openid-configuration";
        let good = br#"{"issuer":"https://id.example/","jwks_uri":"https://id.example/k","token_endpoint":"https://id.example/t"}"#;
        let found = discovered(url, &[issuer], good).unwrap();
        assert_eq!(found.token.as_deref(), Some("https://id.example/t"));
        assert_eq!(found.jwks.as_deref(), Some("https://id.example/k"));
        assert!(discovered(url, &["https://other.example/", issuer], good).is_ok());
        for (body, why) in [
            (
                r#"{"issuer":"https://id.example","jwks_uri":"https://id.example/k"}"#,
                "calls itself 'https://id.example' ",
            ),
            (
                r#"{"jwks_uri":"https://id.example/k"}"#,
                "has no issuer in its discovery document",
            ),
            (
                r#"{"issuer":"https://id.example/","jwks_uri":"http://id.example/k"}"#,
                "jwks_uri without TLS",
            ),
            (
                r#"{"issuer":"https://id.example/","jwks_uri":"https://id.example/k","token_endpoint":"http://x"}"#,
                "token_endpoint without TLS",
            ),
            ("<html>", "not valid JSON"),
        ] {
            let error = discovered(url, &[issuer], body.as_bytes())
                .err()
                .unwrap()
                .to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    /// What to write leads to the document again.
    #[test]
    fn another_issuer_is_to_be_written_and_its_document_if_it_is_elsewhere() {
        let issuer = "https://id.example/plant-1.onmicrosoft.com/B2C_1A_SIGN_IN/v2.0";
        let at = |url: &str| {
            let document = br#"{"issuer":"https://id.example/guid/"}"#;
            let error = discovered(url, &[issuer], document);
            error.err().unwrap().to_string()
        };
        // Where the other issuer has it, and where `discovery_url` says that it is.
        for issuer in ["guid", "elsewhere"] {
            let error = at(&format!(
                "https://id.example/{issuer}/.well-known/openid-configuration"
            ));
            assert!(error.ends_with("; write it exactly so"), "{error}");
        }
        let url = &format!("{issuer}/.well-known/openid-configuration");
        let error = at(url);
        let also = format!("; write it exactly so, and set discovery_url to '{url}'");
        assert!(error.ends_with(&also), "{error}");
    }

    #[test]
    fn endpoints_are_discovered_again_after_a_failed_fetch_and_once_a_day() {
        use testbed::tenant::{Behaviour, Endpoint, Tenant};

        let tenant = Tenant::start();
        let options = [
            ("issuer", tenant.issuer()),
            ("audience", "https://mqtt.example/"),
            ("ca_file", tenant.ca_file().to_str().unwrap()),
        ];
        let options = options.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let config = Config::read(options.to_vec()).unwrap();
        let client = client_of(&config, 1, None).unwrap();
        let discovered = |times| {
            client.rediscover().unwrap();
            assert_eq!(tenant.count(Endpoint::Discovery), times);
        };
        discovered(0);
        client.fetch_keys().unwrap();
        discovered(1);
        tenant.on(Endpoint::Jwks, Behaviour::Html(502));
        client.fetch_keys().unwrap_err();
        discovered(2);
        discovered(2);
        client.rediscover_soon();
        discovered(3);

        let known = client
            .endpoints(Deadline::after(Duration::ZERO))
            .ok()
            .unwrap();
        let hours = |hours: u64| moment() + Duration::from_secs(hours * 60 * 60);
        assert!(!known.are_old(hours(23)) && known.are_old(hours(24)));
    }

    #[test]
    fn sign_in_discovers_endpoints_again_where_no_keys_are_fetched() {
        use testbed::tenant::{Behaviour, Endpoint, Tenant};

        let tenant = Tenant::start();
        let keys = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(keys.path(), tenant.jwks().to_string()).unwrap();
        let options = [
            ("issuer", tenant.issuer()),
            ("audience", "https://mqtt.example/"),
            ("ca_file", tenant.ca_file().to_str().unwrap()),
            ("jwks_file", keys.path().to_str().unwrap()),
        ];
        let options = options.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let config = Config::read(options.to_vec()).unwrap();
        let first = client_of(&config, 1, None).unwrap();
        let asks = |client: &TenantClient, times| {
            let deadline = Deadline::after(Duration::from_secs(20));
            assert!(client.endpoints(deadline).is_ok());
            assert_eq!(tenant.count(Endpoint::Discovery), times);
        };
        asks(&first, 1);
        asks(&first, 1);
        first.rediscover_soon();
        asks(&first, 2);
        let a_day_later = Endpoints {
            old_at: moment(),
            ..Endpoints::clone(lock(&first.endpoints).as_deref().unwrap())
        };
        *lock(&first.endpoints) = Some(Arc::new(a_day_later));
        asks(&first, 3);
        asks(&first, 3);

        // After SIGHUP, while the tenant has an outage.
        let next = client_of(&config, 2, Some(&first)).unwrap();
        tenant.on(Endpoint::Discovery, Behaviour::Html(503));
        asks(&next, 4);
        asks(&next, 4);
    }

    #[test]
    fn the_secret_goes_where_the_discovery_document_says() {
        use ClientAuth::{Basic, Post};
        for (offered, expected) in [
            (None, Basic),
            (Some(json!(null)), Basic),
            (Some(json!(["client_secret_basic"])), Basic),
            (
                Some(json!(["private_key_jwt", "client_secret_basic"])),
                Basic,
            ),
            (
                Some(json!(["client_secret_basic", "client_secret_post"])),
                Post,
            ),
            (Some(json!(["private_key_jwt"])), Post),
        ] {
            assert_eq!(client_auth(offered.as_ref()), expected, "{offered:?}");
        }
    }
}
