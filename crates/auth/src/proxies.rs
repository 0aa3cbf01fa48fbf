//! Decides whether the address that the broker reports is the client's own.
//!
//! For a client behind a proxy, the transport's address is the proxy's. For a websockets client, some brokers
//! take the address from the header `X-Forwarded-For`, which a client without a proxy can forge. So an
//! address counts only if it is the transport's and not a proxy's, or if the operator lists the proxies of
//! websockets clients. No address is better than a wrong one: limits by address then apply to the user, or to
//! all such clients together.

use std::net::IpAddr;

use input::network::Network;

/// Where the broker got a client's address from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressFrom {
    /// From the connection itself.
    Transport,
    /// From the connection, or from the header `X-Forwarded-For` if the client or a proxy sent one.
    Header,
}

/// The proxies that may report a client's address.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(Vec<Network>);

impl TrustedProxies {
    /// Parses a list of addresses and networks.
    ///
    /// # Errors
    ///
    /// Returns the first entry that is neither.
    pub fn parse(list: &[String]) -> Result<Self, &str> {
        let networks = list.iter().map(|one| Network::parse(one).ok_or(&**one));
        networks.collect::<Result<_, _>>().map(Self)
    }

    /// Whether no proxy is listed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the client's own address, if the broker reported it. In the header, that is the last address
    /// that does not belong to a listed proxy: each proxy appends the address that it saw, and anybody could
    /// have written the ones before.
    pub fn client<'a>(&self, told: &'a str, from: AddressFrom) -> Option<&'a str> {
        match from {
            AddressFrom::Transport => (!self.lists(told)).then_some(told),
            AddressFrom::Header if self.is_empty() => None,
            AddressFrom::Header => {
                let mut hops = told.rsplit(',').map(str::trim);
                let client = hops.find(|hop| !self.lists(hop))?;
                client.parse::<IpAddr>().is_ok().then_some(client)
            }
        }
    }

    fn lists(&self, address: &str) -> bool {
        if self.is_empty() {
            return false;
        }
        let address = address.parse::<IpAddr>();
        address.is_ok_and(|address| self.0.iter().any(|network| network.contains(address)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(list: &[&str]) -> TrustedProxies {
        let list: Vec<_> = list.iter().map(|one| (*one).to_owned()).collect();
        TrustedProxies::parse(&list).unwrap()
    }

    #[test]
    fn a_transport_address_counts_unless_it_is_a_proxy() {
        let of = |list: &[&str], told| proxies(list).client(told, AddressFrom::Transport).is_some();
        assert!(of(&[], "192.0.2.7") && of(&[], "127.0.0.1") && of(&[], "fe80::1%eth0"));
        assert!(of(&["10.0.0.0/8"], "192.0.2.7"));
        for proxy in ["10.1.2.3", "::ffff:10.1.2.3", "::1"] {
            assert!(!of(&["10.0.0.0/8", "::1"], proxy), "{proxy}");
        }
    }

    #[test]
    fn in_the_header_only_addresses_seen_by_trusted_proxies_count() {
        let of = |told| proxies(&["10.0.0.0/8", "127.0.0.1"]).client(told, AddressFrom::Header);
        assert_eq!(
            proxies(&[]).client("203.0.113.7", AddressFrom::Header),
            None
        );
        for (told, client) in [
            ("203.0.113.7", Some("203.0.113.7")),
            ("2001:db8::7", Some("2001:db8::7")),
            // The first address was written by an unknown party in front of the proxy.
            ("198.51.100.1, 203.0.113.7", Some("203.0.113.7")),
            ("203.0.113.7 , 10.0.0.9,127.0.0.1", Some("203.0.113.7")),
            ("198.51.100.1, unknown, 10.0.0.9", None),
            ("198.51.100.1,", None),
            ("10.0.0.9", None),
            ("203.0.113.7:1234", None),
            ("203.0.113.7\x1b[2J", None),
            ("", None),
        ] {
            assert_eq!(of(told), client, "{told}");
        }
    }

    #[test]
    fn a_list_contains_addresses_and_networks() {
        let list = ["127.0.0.1".to_owned(), "proxy.example".to_owned()];
        assert_eq!(TrustedProxies::parse(&list).unwrap_err(), "proxy.example");
    }
}
