//! HTTPS to the tenant: certificates are verified, bodies have a maximum size, requests have a timeout,
//! redirects are not followed, and a few connections are kept for the next request. Only this module,
//! [`super::tunnel`] and [`super::resolver`] use `ureq`.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use ureq::{
    Agent, SendBody,
    tls::{Certificate, PemItem, RootCerts, TlsConfig},
    unversioned::transport::{Connector, RustlsConnector},
};

use super::{
    form::Outgoing,
    tunnel::{FirstHop, ProxyFailure, Tunnel},
};
use crate::{
    clock::{Deadline, Unix},
    config::errors::Problem,
    files,
    http_proxy::{self, HttpProxy},
    refusal::{CertificateProblem, NoAnswer},
    secret::sha256,
};

/// The longest body that is read, in bytes. A token with the most claims that Auth0 allows (100 KB) fits
/// twice, as access token and ID token. A key set has a few kilobytes.
const MAX_BODY: u64 = 384 * 1024;

/// The size of the buffers for reading and writing, in bytes. Headers have to fit.
const BUFFER: usize = 16 * 1024;

/// How many connections stay open between requests. Each costs about 50 KB here and a socket at the tenant.
const MAX_IDLE: usize = 8;

/// How long a connection is kept that no request uses. Edges and load balancers close idle connections after a
/// minute or later.
const MAX_IDLE_AGE: Duration = Duration::from_secs(30);

/// An HTTP client for one tenant.
pub(super) struct HttpClient {
    agent: Agent,
    timeout: Duration,
    /// The hash of the authorities that are trusted.
    trusted: [u8; 32],
    proxy: Option<HttpProxy>,
    /// The environment variable that names a proxy which is not used.
    ignored_proxy: Option<&'static str>,
}

/// A response, whatever its status.
pub(crate) struct TenantResponse {
    /// The HTTP status.
    pub status: u16,
    /// Whether the response says that its body is JSON.
    pub json: bool,
    /// Auth0's ID of the request, which Auth0's support asks for.
    pub request_id: Option<String>,
    /// `Retry-After`: seconds, or a date.
    pub retry_after: Option<String>,
    /// When the rate limit is full again, if it is used up (Unix time in seconds).
    pub used_up_until: Option<u64>,
    /// The size of the rate limit, and how much of it is left.
    pub rate_limit: Option<(u32, u32)>,
    /// The time at which the tenant answered, by its own clock.
    pub date: Option<Unix>,
    /// The body. It may hold tokens.
    pub body: Vec<u8>,
}

impl TenantResponse {
    /// Returns how long the tenant wants clients to wait before the next request, if it says so: in seconds
    /// or as a date (RFC 9110, section 10.2.3).
    pub(crate) fn retry_in(&self, now: Unix) -> Option<Duration> {
        let after = self.retry_after.as_deref()?.trim();
        let seconds = after.parse().ok().or_else(|| {
            let date = httpdate::parse_http_date(after).ok()?;
            let date = date.duration_since(UNIX_EPOCH).ok()?;
            Some(date.as_secs().saturating_sub(now.0))
        });
        seconds
            .filter(|seconds| *seconds > 0)
            .map(Duration::from_secs)
    }
}

/// No usable response came back.
#[derive(Debug)]
pub(super) struct RequestError {
    /// Why there is no answer.
    pub why: NoAnswer,
    /// Whether the tenant may have received the request nevertheless.
    pub sent: bool,
}

impl HttpClient {
    /// Loads the trusted certificates. `timeout` limits a whole request: name resolution, connection, TLS, request and
    /// response, also those of the proxy. If nothing has changed since `before`, returns that, with its open
    /// connections.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the file, or with the system's certificates.
    pub(super) fn new(
        ca_file: Option<&Path>,
        timeout: Duration,
        proxy: Option<&HttpProxy>,
        before: Option<&Arc<Self>>,
    ) -> Result<Arc<Self>, Problem> {
        let authorities = match ca_file {
            Some(path) => Authorities::of_file(path)?,
            None => Authorities::of_system()?,
        };
        let trusted = authorities.hash();
        if let Some(same) = before.filter(|one| {
            one.trusted == trusted && one.timeout == timeout && one.proxy.as_ref() == proxy
        }) {
            return Ok(Arc::clone(same));
        }
        let roots = authorities.certificates()?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::new_with_certs(&roots))
            .unversioned_rustls_crypto_provider(provider)
            .build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .timeout_global(Some(timeout))
            .https_only(true)
            // A token endpoint that redirects would make us send the password elsewhere.
            .max_redirects(0)
            .http_status_as_error(false)
            .user_agent(concat!("mosquitto-auth0/", env!("CARGO_PKG_VERSION")))
            // An environment variable must not decide where passwords go. For the option `proxy` there is Tunnel.
            .proxy(None)
            // ureq probes a kept connection before it sends anything and drops one that the server has closed.
            // So a login that finds none open makes a new one, and no password is sent twice.
            .max_idle_connections(MAX_IDLE)
            .max_idle_connections_per_host(MAX_IDLE)
            .max_idle_age(MAX_IDLE_AGE)
            // The default buffers of 128 KiB each would be mapped and unmapped for every request, and the
            // broker would wait for the lock on the process's memory map. The longest silence of a run (`make
            // silence`) would be above 20 ms in 5 of 22 runs, and 34 ms at most, instead of 9 ms.
            .input_buffer_size(BUFFER)
            .output_buffer_size(BUFFER)
            .build();
        let agent = Agent::with_parts(
            config,
            Tunnel::new(proxy.cloned()).chain(RustlsConnector::default()),
            FirstHop::new(proxy),
        );
        Ok(Arc::new(Self {
            agent,
            timeout,
            trusted,
            proxy: proxy.cloned(),
            ignored_proxy: http_proxy::variable_of_environment().filter(|_| proxy.is_none()),
        }))
    }

    /// Whether both trust the same authorities.
    pub(super) fn trusts_like(&self, other: &Self) -> bool {
        self.trusted == other.trusted
    }

    /// Whether both go the same way: directly, or through the same proxy with the same credentials.
    pub(super) fn goes_like(&self, other: &Self) -> bool {
        self.proxy == other.proxy
    }

    /// Sends a GET request for a JSON document.
    pub(super) fn get(
        &self,
        url: &str,
        deadline: Deadline,
    ) -> Result<TenantResponse, RequestError> {
        let request = self.agent.get(url).header("accept", "application/json");
        let response = match self.shorter_timeout(deadline) {
            None => request.call(),
            less => request.config().timeout_global(less).build().call(),
        };
        response
            .and_then(collect)
            .map_err(|error| self.failure(error, true))
    }

    /// Sends a form by POST (RFC 6749, section 4.3.2), with extra headers.
    pub(super) fn post_form(
        &self,
        url: &str,
        form: &[(&str, &str)],
        headers: &[(&str, &str)],
        deadline: Deadline,
    ) -> Result<TenantResponse, RequestError> {
        let mut form = Outgoing::new(form);
        let mut request = self
            .agent
            .post(url)
            .header("accept", "application/json")
            .header("content-type", "application/x-www-form-urlencoded")
            // Without this header the body would be chunked, which not every token endpoint accepts.
            .header("content-length", form.len());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = SendBody::from_reader(&mut form);
        let response = match self.shorter_timeout(deadline) {
            None => request.send(body),
            less => request.config().timeout_global(less).build().send(body),
        };
        response
            .and_then(collect)
            .map_err(|error| self.failure(error, form.was_taken()))
    }

    /// Returns a timeout for a request that starts late, or `None` if the agent's own timeout fits. Requests
    /// use the agent's where they can: with a setting of its own, a request makes ureq read all certificates
    /// again.
    fn shorter_timeout(&self, deadline: Deadline) -> Option<Duration> {
        let left = deadline.remaining();
        // A response that comes shortly after the deadline is too late for the client, but its result is
        // still cached.
        (left + self.timeout / 5 < self.timeout).then_some(left)
    }

    /// Returns why there is no response.
    fn failure(&self, error: ureq::Error, sent: bool) -> RequestError {
        let why = match (self.ignored_proxy, no_answer(error, self.proxy.as_ref())) {
            (
                Some(variable),
                why @ (NoAnswer::Timeout | NoAnswer::UnknownHost | NoAnswer::Unreachable(_)),
            ) => NoAnswer::WithoutProxy {
                variable,
                why: Box::new(why),
            },
            (_, why) => why,
        };
        RequestError { why, sent }
    }
}

fn collect(mut response: ureq::http::Response<ureq::Body>) -> Result<TenantResponse, ureq::Error> {
    let header = |name: &str| {
        let value = response.headers().get(name)?.to_str().ok()?;
        Some(value.chars().take(64).collect::<String>())
    };
    let media_type = header("content-type")
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    let json = media_type == "application/json" || media_type.ends_with("+json");
    let (request_id, retry_after) = (header("x-auth0-requestid"), header("retry-after"));
    let used_up = header("x-ratelimit-remaining").is_some_and(|left| left.trim() == "0");
    let used_up_until = header("x-ratelimit-reset")
        .and_then(|reset| reset.trim().parse().ok())
        .filter(|_| used_up);
    let number = |name| header(name)?.trim().parse().ok();
    let rate_limit = number("x-ratelimit-limit").zip(number("x-ratelimit-remaining"));
    let date = header("date")
        .and_then(|date| httpdate::parse_http_date(&date).ok())
        .and_then(|date| date.duration_since(UNIX_EPOCH).ok())
        .map(|since| Unix(since.as_secs()));
    let status = response.status().as_u16();
    let body = response
        .body_mut()
        .with_config()
        .limit(MAX_BODY)
        .read_to_vec()?;
    Ok(TenantResponse {
        status,
        json,
        request_id,
        retry_after,
        used_up_until,
        rate_limit,
        date,
        body,
    })
}

fn no_answer(error: ureq::Error, proxy: Option<&HttpProxy>) -> NoAnswer {
    use ureq::Error;
    match error {
        Error::Timeout(_) => NoAnswer::Timeout,
        Error::HostNotFound => NoAnswer::UnknownHost,
        Error::BodyExceedsLimit(limit) => NoAnswer::TooLong(limit),
        Error::Rustls(e) => untrusted(&e),
        // rustls's verdict on a certificate arrives wrapped in an I/O error.
        Error::Io(e) => match e.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(verdict) => untrusted(verdict),
            None => NoAnswer::Unreachable(Some(e.to_string())),
        },
        Error::ConnectionFailed => NoAnswer::Unreachable(None),
        Error::Other(e) => match (e.downcast_ref::<ProxyFailure>(), proxy) {
            (Some(failure), Some(proxy)) => NoAnswer::Proxy {
                address: proxy.address.clone(),
                why: failure.0.clone(),
            },
            _ => NoAnswer::Unreachable(Some(e.to_string())),
        },
        other => NoAnswer::NotHttp(other.to_string()),
    }
}

fn untrusted(verdict: &rustls::Error) -> NoAnswer {
    use rustls::{CertificateError as Bad, Error};
    let problem = match verdict {
        Error::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => {
            CertificateProblem::Expired
        }
        Error::InvalidCertificate(Bad::NotValidYet | Bad::NotValidYetContext { .. }) => {
            CertificateProblem::NotYet
        }
        Error::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => {
            CertificateProblem::AnotherName
        }
        Error::InvalidCertificate(Bad::UnknownIssuer) => CertificateProblem::UnknownAuthority,
        // rustls has no name of its own for it, and passes on that of webpki.
        Error::InvalidCertificate(Bad::Other(other))
            if other.to_string() == "CaUsedAsEndEntity" =>
        {
            CertificateProblem::OfAuthority
        }
        _ => CertificateProblem::Other,
    };
    NoAnswer::Untrusted {
        problem,
        why: verdict.to_string(),
    }
}

/// The authorities to trust, as they were read.
enum Authorities {
    /// A file in PEM.
    Pem(Vec<u8>),
    /// Certificates.
    Der(Vec<Vec<u8>>),
}

impl Authorities {
    fn of_file(path: &Path) -> Result<Self, Problem> {
        /// Four times the size of the system's whole bundle.
        const MAX_FILE: u64 = 1024 * 1024;
        let pem = files::read(path, MAX_FILE).map_err(Problem::File)?;
        Ok(Self::Pem(pem.bytes))
    }

    fn of_system() -> Result<Self, Problem> {
        let found = rustls_native_certs::load_native_certs().certs;
        let mut certificates: Vec<_> = found.iter().map(|der| der.to_vec()).collect();
        if certificates.is_empty() {
            return Err(Problem::NoAuthority);
        }
        // A folder is read in no order.
        certificates.sort_unstable();
        Ok(Self::Der(certificates))
    }

    fn hash(&self) -> [u8; 32] {
        match self {
            Self::Pem(text) => sha256(text),
            Self::Der(certificates) => sha256(&certificates.concat()),
        }
    }

    fn certificates(&self) -> Result<Vec<Certificate<'static>>, Problem> {
        let text = match self {
            Self::Pem(text) => text,
            Self::Der(certificates) => {
                let owned = certificates.iter().map(|der| Certificate::from_der(der));
                return Ok(owned.map(|certificate| certificate.to_owned()).collect());
            }
        };
        let mut certificates = Vec::new();
        for item in ureq::tls::parse_pem(text) {
            match item {
                Ok(PemItem::Certificate(certificate)) => {
                    // ureq skips certificates that it cannot parse, and would then trust none.
                    let der = rustls::pki_types::CertificateDer::from(certificate.der());
                    let read = rustls::RootCertStore::empty().add(der);
                    read.map_err(|e| Problem::BadCertificate(e.to_string()))?;
                    certificates.push(certificate);
                }
                Ok(_) => {}
                Err(e) => return Err(Problem::NotPem(e.to_string())),
            }
        }
        match certificates.is_empty() {
            true => Err(Problem::NoCertificate),
            false => Ok(certificates),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let in_seconds = |retry_after: &str| {
            let answer = TenantResponse {
                status: 429,
                json: true,
                request_id: None,
                retry_after: Some(retry_after.to_owned()),
                used_up_until: None,
                rate_limit: None,
                date: None,
                body: Vec::new(),
            };
            // 2026-10-21T07:27:00Z.
            answer
                .retry_in(Unix(1_792_567_620))
                .map(|wait| wait.as_secs())
        };
        for (retry_after, wait) in [
            ("7", Some(7)),
            (" 7 ", Some(7)),
            ("Wed, 21 Oct 2026 07:28:00 GMT", Some(60)),
            ("Wednesday, 21-Oct-26 07:28:00 GMT", Some(60)),
            ("Wed Oct 21 07:28:00 2026", Some(60)),
            ("Wed, 21 Oct 2026 07:26:00 GMT", None),
            ("0", None),
            ("-7", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(in_seconds(retry_after), wait, "{retry_after}");
        }
    }
}
