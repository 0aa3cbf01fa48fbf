//! The address of a client, as limits count it.
//!
//! Whoever has one IPv6 address has the rest of its /64 too (RFC 7934), so a /64 counts as one address. If an address
//! cannot be trusted, or is no IP address, it counts as none. All clients without an address count as one.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// An IPv4 address, an IPv6 /64, or neither.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SourceNetwork {
    /// An IPv4 address, also if it is written as an IPv6 address.
    V4(Ipv4Addr),
    /// An IPv6 network of 64 bits: its first address.
    V6(Ipv6Addr),
    /// No address, or none that counts.
    #[default]
    Unknown,
}

impl SourceNetwork {
    /// Returns the source of a client, from the address as the broker writes it.
    pub fn of(address: Option<&str>) -> Self {
        // An IPv6 address may name the interface (RFC 4007, section 11).
        let bare = address.and_then(|address| address.split('%').next());
        bare.and_then(|bare| bare.parse::<IpAddr>().ok()).into()
    }
}

impl From<IpAddr> for SourceNetwork {
    fn from(address: IpAddr) -> Self {
        const NETWORK: u128 = !0 << 64;
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => Self::V6(Ipv6Addr::from_bits(address.to_bits() & NETWORK)),
        }
    }
}

impl From<Option<IpAddr>> for SourceNetwork {
    fn from(address: Option<IpAddr>) -> Self {
        address.map_or(Self::Unknown, Self::from)
    }
}

impl fmt::Display for SourceNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(address) => write!(f, "{address}"),
            Self::V6(network) => write!(f, "{network}/64"),
            Self::Unknown => f.write_str("unknown addresses"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_address_and_an_ipv6_network_are_one_source_each() {
        for (address, source) in [
            (Some("192.0.2.7"), "192.0.2.7"),
            (Some("::ffff:192.0.2.7"), "192.0.2.7"),
            (Some("127.0.0.1"), "127.0.0.1"),
            (Some("2001:db8:0:1::7"), "2001:db8:0:1::/64"),
            (Some("2001:db8:0:1:ffff::"), "2001:db8:0:1::/64"),
            (Some("fe80::1%eth0"), "fe80::/64"),
            (Some("/run/mosquitto.sock"), "unknown addresses"),
            (Some("192.0.2.7:1883"), "unknown addresses"),
            (Some(""), "unknown addresses"),
            (None, "unknown addresses"),
        ] {
            assert_eq!(
                SourceNetwork::of(address).to_string(),
                source,
                "{address:?}"
            );
        }
    }
}
