//! The way to the tenant through an HTTP proxy (RFC 9110, section 9.3.6). The proxy is told the tenant's name and port,
//! looks the name up, and passes bytes on in both directions. TLS runs through it to the tenant, so the proxy sees
//! neither a password nor a token.
//!
//! ureq has a way through proxies of its own. It would keep the proxy's password in memory that ends up in core dumps,
//! wait for the proxy and for the tenant for the whole timeout each, and say what went wrong as a text.

use std::{error, fmt};

use base64::{Engine, engine::general_purpose::STANDARD};
use ureq::{
    Error,
    config::Config,
    http::Uri,
    unversioned::{
        resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver},
        transport::{ConnectionDetails, Connector, NextTimeout, TcpConnector, Transport},
    },
};

use super::resolver::SharedResolver;
use crate::{clock::Deadline, http_proxy::HttpProxy, refusal::ProxyProblem};

/// Looks up the proxy's name in place of the tenant's, if there is a proxy.
#[derive(Debug, Default)]
pub(super) struct FirstHop {
    proxy: Option<Uri>,
    resolver: SharedResolver<DefaultResolver>,
}

impl FirstHop {
    /// Resolves names for connections through this proxy.
    pub(super) fn new(proxy: Option<&HttpProxy>) -> Self {
        let uri = |proxy: &HttpProxy| {
            let uri = format!("http://{}", proxy.address).parse();
            uri.expect("the configuration took only an address")
        };
        Self {
            proxy: proxy.map(uri),
            resolver: SharedResolver::default(),
        }
    }
}

impl Resolver for FirstHop {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        match &self.proxy {
            None => self.resolver.resolve(uri, config, timeout),
            Some(proxy) => {
                let found = self.resolver.resolve(proxy, config, timeout);
                found.map_err(|why| match why {
                    Error::Timeout(_) => failed(ProxyProblem::Timeout),
                    Error::HostNotFound => failed(ProxyProblem::UnknownHost),
                    why => failed(ProxyProblem::Unreachable(why.to_string())),
                })
            }
        }
    }
}

/// Opens connections: to the tenant, or to the proxy and through it to the tenant.
#[derive(Debug)]
pub(super) struct Tunnel {
    proxy: Option<HttpProxy>,
    tcp: TcpConnector,
}

impl Tunnel {
    /// Opens connections through this proxy.
    pub(super) fn new(proxy: Option<HttpProxy>) -> Self {
        let tcp = TcpConnector::default();
        Self { proxy, tcp }
    }
}

impl<In: Transport> Connector<In> for Tunnel {
    type Out = <TcpConnector as Connector<In>>::Out;

    fn connect(
        &self,
        details: &ConnectionDetails,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        let Some(proxy) = &self.proxy else {
            return self.tcp.connect(details, chained);
        };
        let time = Time {
            deadline: Deadline::after(*details.timeout.after),
            of: details.timeout,
        };
        // The addresses are the proxy's: see FirstHop.
        let opened = self.tcp.connect(details, chained);
        let mut opened = opened.map_err(|why| match why {
            Error::Timeout(_) => failed(ProxyProblem::Timeout),
            why => failed(ProxyProblem::Unreachable(why.to_string())),
        })?;
        if let Some(transport) = &mut opened {
            ask_for_tunnel(transport, &connect_request(proxy, details.uri), &time)
                .map_err(failed)?;
        }
        Ok(opened)
    }
}

/// The time that is left for a connection, tenant included.
struct Time {
    deadline: Deadline,
    of: NextTimeout,
}

impl Time {
    fn left(&self) -> Result<NextTimeout, ProxyProblem> {
        if self.deadline.has_passed() {
            return Err(ProxyProblem::Timeout);
        }
        Ok(NextTimeout {
            after: self.deadline.remaining().into(),
            ..self.of
        })
    }
}

/// Returns the request for a tunnel to this address.
fn connect_request(proxy: &HttpProxy, target: &Uri) -> String {
    let host = target.host().unwrap_or_default();
    let port = target.port_u16().unwrap_or(443);
    let agent = concat!("mosquitto-auth0/", env!("CARGO_PKG_VERSION"));
    let authorization = match &proxy.credentials {
        None => String::new(),
        Some(pair) => format!(
            "Proxy-Authorization: Basic {}\r\n",
            STANDARD.encode(pair.reveal())
        ),
    };
    format!(
        "CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\nUser-Agent: {agent}\r\n{authorization}\r\n"
    )
}

/// Asks the proxy for a tunnel, and reads its answer.
fn ask_for_tunnel(
    transport: &mut impl Transport,
    request: &str,
    time: &Time,
) -> Result<(), ProxyProblem> {
    let broken = |why: Error| match why {
        Error::Timeout(_) => ProxyProblem::Timeout,
        why => ProxyProblem::Unreachable(why.to_string()),
    };
    let output = transport.buffers().output();
    let Some(place) = output.get_mut(..request.len()) else {
        return Err(ProxyProblem::NotHttp);
    };
    place.copy_from_slice(request.as_bytes());
    let sent = transport.transmit_output(request.len(), time.left()?);
    // It may hold the proxy's password, and the buffer lives as long as the connection.
    transport.buffers().output()[..request.len()].fill(0);
    sent.map_err(broken)?;
    loop {
        let has_more = transport.await_input(time.left()?).map_err(broken)?;
        let input = transport.buffers().input();
        if let Some(end) = input.windows(4).position(|four| four == b"\r\n\r\n") {
            let status = status(input);
            transport.buffers().input_consume(end + 4);
            return match status {
                Some(200..=299) => Ok(()),
                Some(status) => Err(ProxyProblem::Status(status)),
                None => Err(ProxyProblem::NotHttp),
            };
        }
        // It has closed the connection, or its answer does not fit into the buffer.
        if !has_more {
            return Err(ProxyProblem::NotHttp);
        }
    }
}

/// Returns the status of an HTTP response.
fn status(head: &[u8]) -> Option<u16> {
    let line = head.split(|byte| *byte == b'\r').next()?;
    let rest = line.strip_prefix(b"HTTP/1.")?.get(2..5)?;
    let is_number = rest.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(rest)
        .ok()
        .filter(|_| is_number)?
        .parse()
        .ok()
}

/// What ureq passes on of a proxy that fails.
#[derive(Debug)]
pub(super) struct ProxyFailure(pub(super) ProxyProblem);

impl fmt::Display for ProxyFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl error::Error for ProxyFailure {}

fn failed(problem: ProxyProblem) -> Error {
    Error::Other(Box::new(ProxyFailure(problem)))
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, time::Duration};

    use testbed::{
        proxy::{ConnectProxy, ProxyConduct},
        tenant::{Behaviour, Endpoint, Tenant},
    };

    use super::*;
    use crate::{auth0::http::HttpClient, refusal::NoAnswer, secret::Secret};

    /// Asks a tenant that only the proxy finds for its keys.
    fn ask(tenant: &Tenant, address: &str, credentials: Option<&str>) -> Result<u16, NoAnswer> {
        let proxy = HttpProxy {
            address: address.replace("http://", ""),
            credentials: credentials.map(Secret::new),
        };
        let timeout = Duration::from_secs(1);
        let client = HttpClient::new(Some(tenant.ca_file()), timeout, Some(&proxy), None).unwrap();
        let url = tenant.url(".well-known/jwks.json");
        let got = client.get(&url, Deadline::after(timeout));
        got.map(|response| response.status)
            .map_err(|error| error.why)
    }

    fn tenant() -> Tenant {
        let names = Tenant::builder().names(&["tenant.invalid"]);
        names.start().unwrap()
    }

    #[test]
    fn a_proxy_that_tunnels_is_used() {
        let tenant = tenant();
        let proxy = ConnectProxy::start(ProxyConduct::TunnelFor("a:b:c".to_owned()));
        assert_eq!(ask(&tenant, &proxy.url(), Some("a:b:c")), Ok(200));
        assert_eq!(proxy.targets(), [tenant.domain()]);
        assert_eq!(tenant.count(Endpoint::Jwks), 1);
    }

    #[test]
    fn a_connection_through_a_proxy_is_kept() {
        let tenant = tenant();
        let proxy = ConnectProxy::start(ProxyConduct::Tunnel);
        let options = HttpProxy {
            address: proxy.url().replace("http://", ""),
            credentials: None,
        };
        let timeout = Duration::from_secs(20);
        let client = HttpClient::new(Some(tenant.ca_file()), timeout, Some(&options), None);
        let client = client.unwrap();
        for _ in 0..3 {
            let url = tenant.url(".well-known/jwks.json");
            assert!(client.get(&url, Deadline::after(timeout)).is_ok());
        }
        assert_eq!(proxy.targets().len(), 1);
        let same = HttpClient::new(
            Some(tenant.ca_file()),
            timeout,
            Some(&options),
            Some(&client),
        );
        assert!(std::sync::Arc::ptr_eq(&same.unwrap(), &client));
        let direct = HttpClient::new(Some(tenant.ca_file()), timeout, None, Some(&client));
        assert!(!std::sync::Arc::ptr_eq(&direct.unwrap(), &client));
    }

    #[test]
    fn each_way_in_which_a_proxy_fails_is_told_apart() {
        let tenant = tenant();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let nobody = free.local_addr().unwrap().to_string();
        drop(free);
        let failure = |address: &str| match ask(&tenant, address, None) {
            Err(NoAnswer::Proxy { why, .. }) => why,
            other => panic!("{address}: {other:?}"),
        };
        let of = |conduct| failure(&ConnectProxy::start(conduct).url());
        assert!(matches!(failure(&nobody), ProxyProblem::Unreachable(_)));
        assert!(matches!(
            failure("proxy.invalid:1"),
            ProxyProblem::UnknownHost | ProxyProblem::Unreachable(_)
        ));
        assert_eq!(of(ProxyConduct::Status(403)), ProxyProblem::Status(403));
        let asks = ProxyConduct::TunnelFor("x:y".to_owned());
        assert_eq!(of(asks), ProxyProblem::Status(407));
        assert_eq!(of(ProxyConduct::Silence), ProxyProblem::Timeout);
        assert_eq!(of(ProxyConduct::Drip), ProxyProblem::Timeout);
        assert_eq!(of(ProxyConduct::Noise), ProxyProblem::NotHttp);
        assert_eq!(tenant.count(Endpoint::Jwks), 0);
    }

    #[test]
    fn what_the_tenant_does_is_not_the_fault_of_the_proxy() {
        let tenant = tenant();
        let proxy = ConnectProxy::start(ProxyConduct::Tunnel);
        tenant.once(Endpoint::Jwks, Behaviour::Html(503));
        assert_eq!(ask(&tenant, &proxy.url(), None), Ok(503));
        let leaf = tenant.authority().issue(&["other.invalid"]);
        tenant.use_certificate(&leaf);
        let why = ask(&tenant, &proxy.url(), None).unwrap_err();
        assert!(matches!(why, NoAnswer::Untrusted { .. }), "{why:?}");
        tenant.stop_listening();
        let why = ask(&tenant, &proxy.url(), None).unwrap_err();
        assert!(
            matches!(
                &why,
                NoAnswer::Proxy {
                    why: ProxyProblem::Status(503),
                    ..
                }
            ),
            "{why:?}"
        );
    }

    #[test]
    fn a_status_is_three_digits_behind_the_version() {
        for (head, expected) in [
            ("HTTP/1.1 200 OK\r\n\r\n", Some(200)),
            ("HTTP/1.0 407\r\n\r\n", Some(407)),
            ("HTTP/1.1 20\r\n\r\n", None),
            ("HTTP/2 200 OK\r\n\r\n", None),
            ("HTTP/1.1 +20\r\n\r\n", None),
            ("", None),
        ] {
            assert_eq!(status(head.as_bytes()), expected, "{head:?}");
        }
    }
}
