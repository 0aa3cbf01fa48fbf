//! Whose address it is that the broker tells.
//!
//! Of a client behind a proxy the transport's address is the proxy's, and of a websockets client some
//! brokers take the address from the header `X-Forwarded-For`, in which a client without a proxy writes
//! what it likes. So an address counts only if it is the transport's, or if the operator lists the
//! proxies through which websockets clients come. No address is better than a wrong one: what is limited
//! by address then counts for the user, or for all such clients together.

use std::net::IpAddr;

use input::network::Network;

/// Where the broker has a client's address from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressFrom {
    /// From the connection itself.
    Transport,
    /// From the connection, or from the header `X-Forwarded-For` if the client or a proxy sent one.
    Header,
}

/// The proxies whose word about a client's address counts.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(Vec<Network>);

impl TrustedProxies {
    /// Reads a list of addresses and networks.
    ///
    /// # Errors
    ///
    /// The first that is neither.
    pub fn parse(list: &[String]) -> Result<Self, &str> {
        let networks = list.iter().map(|one| Network::parse(one).ok_or(&**one));
        networks.collect::<Result<_, _>>().map(Self)
    }

    /// Whether none is listed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The client's own address, if the broker told it. Of the header it is the last address that is not
    /// a listed proxy's: each proxy appends whom it saw, so what stands before that is hearsay.
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
        address.is_ok_and(|address| self.0.iter().any(|network| network.holds(address)))
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
    fn an_address_counts_if_it_is_the_transport_s_and_no_proxy_s() {
        let of = |list: &[&str], told| proxies(list).client(told, AddressFrom::Transport).is_some();
        assert!(of(&[], "192.0.2.7") && of(&[], "127.0.0.1") && of(&[], "fe80::1%eth0"));
        assert!(of(&["10.0.0.0/8"], "192.0.2.7"));
        for proxy in ["10.1.2.3", "::ffff:10.1.2.3", "::1"] {
            assert!(!of(&["10.0.0.0/8", "::1"], proxy), "{proxy}");
        }
    }

    #[test]
    fn of_a_header_only_what_listed_proxies_saw_counts() {
        let of = |told| proxies(&["10.0.0.0/8", "127.0.0.1"]).client(told, AddressFrom::Header);
        assert_eq!(
            proxies(&[]).client("203.0.113.7", AddressFrom::Header),
            None
        );
        for (told, client) in [
            ("203.0.113.7", Some("203.0.113.7")),
            ("2001:db8::7", Some("2001:db8::7")),
            // Whoever is in front of the proxy wrote the first of these.
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
    fn a_list_is_of_addresses_and_networks() {
        let list = ["127.0.0.1".to_owned(), "proxy.example".to_owned()];
        assert_eq!(TrustedProxies::parse(&list).unwrap_err(), "proxy.example");
    }
}
