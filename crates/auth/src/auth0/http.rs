//! HTTPS to the tenant: verified, capped, timed, and never redirected. With [`super::names`]
//! the only user of `ureq`.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use ureq::{
    Agent, SendBody,
    tls::{Certificate, PemItem, RootCerts, TlsConfig},
    unversioned::transport::DefaultConnector,
};

use super::{form::Outgoing, names::Names};
use crate::{
    clock::{Deadline, Unix},
    files,
};

/// The longest body read, in bytes. A token with Auth0's most claims (100 KB) comes twice, as
/// access and as ID token, and still fits; a key set has a few kilobytes.
const MAX_BODY: u64 = 384 * 1024;

/// What is read or written at a time, in bytes. Headers have to fit.
const BUFFER: usize = 16 * 1024;

/// An agent for one tenant.
pub struct Http {
    agent: Agent,
    timeout: Duration,
}

/// What came back, whatever its status.
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Whether the body says it is JSON.
    pub json: bool,
    /// Auth0's own number for the request; its support asks for it.
    pub request_id: Option<String>,
    /// Seconds, or a date, until the next try is welcome.
    pub retry_after: Option<String>,
    /// When the rate limit is full again (seconds since 1970), if it is used up.
    pub used_up_until: Option<u64>,
    /// The body. It may hold tokens.
    pub body: Vec<u8>,
}

impl Answer {
    /// How long the tenant wants to wait for the next try, if it says so: in seconds, or by the date
    /// at which that is (RFC 9110, section 10.2.3).
    pub fn retry_in(&self, now: Unix) -> Option<Duration> {
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

/// Nothing usable came back.
#[derive(Debug)]
pub struct Failure {
    /// A sentence that completes "the tenant …".
    pub why: String,
    /// Whether the tenant may have read the request all the same.
    pub sent: bool,
}

impl Http {
    /// Loads the certificates to trust. No request takes longer than `timeout` in all: name
    /// resolution, connection, TLS, question and answer.
    ///
    /// # Errors
    ///
    /// A sentence about the file, or about the system's store.
    pub fn new(ca_file: Option<&Path>, timeout: Duration) -> Result<Self, String> {
        let roots = match ca_file {
            Some(path) => from_file(path)?,
            None => from_system()?,
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::new_with_certs(&roots))
            .unversioned_rustls_crypto_provider(provider)
            .build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .timeout_global(Some(timeout))
            .https_only(true)
            // A token endpoint that redirects would have us send the password elsewhere.
            .max_redirects(0)
            .http_status_as_error(false)
            .user_agent(concat!("mosquitto-auth0/", env!("CARGO_PKG_VERSION")))
            // An environment variable must not decide where passwords go.
            .proxy(None)
            // A pooled connection that the other side has closed meanwhile fails a login that is
            // good, and a POST may not be repeated. One handshake per login is the price.
            .max_idle_connections(0)
            .max_idle_connections_per_host(0)
            // The usual 128 KiB each are taken from the system for every request and given back, while the
            // broker waits for the process's memory map.
            .input_buffer_size(BUFFER)
            .output_buffer_size(BUFFER)
            .build();
        let agent = Agent::with_parts(config, DefaultConnector::default(), Names::default());
        Ok(Self { agent, timeout })
    }

    /// GET, for a JSON document.
    pub fn get(&self, url: &str, deadline: Deadline) -> Result<Answer, Failure> {
        let request = self.agent.get(url).header("accept", "application/json");
        let response = match self.less_than_usual(deadline) {
            None => request.call(),
            less => request.config().timeout_global(less).build().call(),
        };
        response
            .and_then(collect)
            .map_err(|error| failure(error, true))
    }

    /// POST of a form (RFC 6749, section 4.3.2), with extra headers.
    pub fn post_form(
        &self,
        url: &str,
        form: &[(&str, &str)],
        headers: &[(&str, &str)],
        deadline: Deadline,
    ) -> Result<Answer, Failure> {
        let mut form = Outgoing::new(form);
        let mut request = self
            .agent
            .post(url)
            .header("accept", "application/json")
            .header("content-type", "application/x-www-form-urlencoded")
            // Without it the body would be chunked, and not every token endpoint takes that.
            .header("content-length", form.len());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = SendBody::from_reader(&mut form);
        let response = match self.less_than_usual(deadline) {
            None => request.send(body),
            less => request.config().timeout_global(less).build().send(body),
        };
        response
            .and_then(collect)
            .map_err(|error| failure(error, form.was_taken()))
    }

    /// A timeout of its own for a request that comes late. The others use the agent's: a request
    /// with a setting of its own makes ureq read all certificates again.
    fn less_than_usual(&self, deadline: Deadline) -> Option<Duration> {
        let left = deadline.remaining();
        // What comes a little after the deadline finds nobody waiting, and is remembered all the same.
        (left + self.timeout / 5 < self.timeout).then_some(left)
    }
}

fn collect(mut response: ureq::http::Response<ureq::Body>) -> Result<Answer, ureq::Error> {
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
    let status = response.status().as_u16();
    let body = response
        .body_mut()
        .with_config()
        .limit(MAX_BODY)
        .read_to_vec()?;
    Ok(Answer {
        status,
        json,
        request_id,
        retry_after,
        used_up_until,
        body,
    })
}

fn failure(error: ureq::Error, sent: bool) -> Failure {
    use ureq::Error;
    let why = match error {
        Error::Timeout(_) => "did not answer in time".into(),
        Error::HostNotFound => "has a name that DNS does not know".into(),
        Error::BodyExceedsLimit(limit) => format!("answered with more than {limit} bytes"),
        Error::Rustls(e) => format!("could not be trusted: {e}"),
        // rustls' verdict on a certificate arrives wrapped in an I/O error.
        Error::Io(e) if e.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) => {
            format!("could not be trusted: {e}")
        }
        Error::Io(e) => format!("could not be reached: {e}"),
        Error::ConnectionFailed => "could not be reached".into(),
        other => format!("answered in no way that HTTP knows: {other}"),
    };
    Failure { why, sent }
}

fn from_file(path: &Path) -> Result<Vec<Certificate<'static>>, String> {
    /// Four times the system's whole bundle.
    const MAX_FILE: u64 = 1024 * 1024;
    let pem = files::read(path, MAX_FILE)?;
    let mut certificates = Vec::new();
    for item in ureq::tls::parse_pem(&pem.bytes) {
        match item {
            Ok(PemItem::Certificate(certificate)) => {
                // ureq passes over what it cannot read, and then trusts nobody.
                let der = rustls::pki_types::CertificateDer::from(certificate.der());
                let read = rustls::RootCertStore::empty().add(der);
                read.map_err(|e| format!("holds a certificate that cannot be read ({e})"))?;
                certificates.push(certificate);
            }
            Ok(_) => {}
            Err(e) => return Err(format!("is not good PEM ({e})")),
        }
    }
    if certificates.is_empty() {
        return Err(
            "holds no certificate; name the PEM file of the authority that signed the tenant's"
                .into(),
        );
    }
    Ok(certificates)
}

fn from_system() -> Result<Vec<Certificate<'static>>, String> {
    let loaded = rustls_native_certs::load_native_certs();
    if loaded.certs.is_empty() {
        return Err("this machine trusts no certificate authority; install the package ca-certificates, or set ca_file".into());
    }
    Ok(loaded
        .certs
        .iter()
        .map(|der| Certificate::from_der(der).to_owned())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_try_is_welcome_after_seconds_or_at_a_date() {
        let in_seconds = |retry_after: &str| {
            let answer = Answer {
                status: 429,
                json: true,
                request_id: None,
                retry_after: Some(retry_after.to_owned()),
                used_up_until: None,
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
