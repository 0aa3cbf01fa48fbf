//! The options of the HTTP proxy through which the tenant is asked.

use std::net::Ipv6Addr;

use super::{
    ConfigError, Result,
    errors::Problem,
    given::{Given, wrong},
};
use crate::{http_proxy::HttpProxy, secret::Secret};

/// Whether this is the name of a host, or an IPv4 address.
pub(super) fn is_host(text: &str) -> bool {
    let is_of_host = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-');
    !text.is_empty() && text.len() <= 253 && text.bytes().all(is_of_host)
}

/// Whether this is the number of a port.
pub(super) fn is_port(text: &str) -> bool {
    let has_digits_only = text.bytes().all(|b| b.is_ascii_digit());
    has_digits_only && text.parse::<u16>().is_ok_and(|port| port > 0)
}

/// Returns the proxy through which the tenant is asked, with its credentials.
pub(super) fn read(given: &Given) -> Result<Option<HttpProxy>> {
    const NAME: &str = "proxy";
    const FILE: &str = "proxy_credentials_file";
    let credentials = given.secret_file(FILE)?;
    let file = given.given(FILE).unwrap_or_default();
    let Some(value) = given.given(NAME) else {
        let problem = Problem::Alone { without: NAME };
        return match credentials {
            Some(_) => Err(ConfigError::new(FILE, file, problem)),
            None => Ok(None),
        };
    };
    if value.contains('@') {
        return Err(ConfigError::hidden(NAME, Problem::CredentialsInAddress));
    }
    let address = value.strip_prefix("http://").unwrap_or_default();
    let address = address.strip_suffix('/').unwrap_or(address);
    let is_address = address.rsplit_once(':').is_some_and(|(host, port)| {
        let inside = host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        let is_ipv6 = inside.is_some_and(|inside| inside.parse::<Ipv6Addr>().is_ok());
        (is_ipv6 || is_host(host)) && is_port(port)
    });
    if !is_address {
        return Err(wrong(NAME, value));
    }
    let is_pair = |pair: &Secret| {
        let text = pair.reveal_str().unwrap_or_default();
        text.contains(':') && !text.contains(char::is_control)
    };
    if !credentials.as_ref().is_none_or(is_pair) {
        return Err(ConfigError::new(FILE, file, Problem::NotCredentials));
    }
    Ok(Some(HttpProxy {
        address: address.to_owned(),
        credentials,
    }))
}
