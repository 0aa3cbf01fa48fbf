//! IP networks, as options and rules write them.

use std::net::IpAddr;

/// An IP network, such as `10.0.0.0/8` or `2001:db8::/32` (RFC 4632, RFC 4291).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

/// The network of IPv4-mapped IPv6 addresses: `::ffff:0:0/96`.
const MAPPED: u128 = 0xffff_0000_0000;
const MAPPED_BITS: u8 = 96;

impl Network {
    /// Parses a network. An address without a length is a network of one address.
    ///
    /// Returns `None` if the text is not a network, or if bits behind the prefix are set: then either the
    /// address or the length is a mistake. An IPv4-mapped network (RFC 4291, section 2.5.5.2) becomes the
    /// IPv4 network, because such a client is an IPv4 client. An IPv6 network that contains the mapped
    /// addresses and others is refused: it could never match the IPv4 clients that it seems to name. The
    /// exception is `::/0`, by which everybody means IPv6.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            Some(bits) if bits.bytes().all(|b| b.is_ascii_digit()) => bits.parse().ok()?,
            Some(_) => return None,
            None => most,
        };
        let network = Self { address, bits };
        if bits > most || network.prefix(number(address)) != number(address) {
            return None;
        }
        match (address.to_canonical(), bits.checked_sub(MAPPED_BITS)) {
            (v4 @ IpAddr::V4(_), Some(bits)) if address.is_ipv6() => {
                Some(Self { address: v4, bits })
            }
            (IpAddr::V6(_), None) if bits > 0 && network.prefix(MAPPED) == number(address) => None,
            _ => Some(network),
        }
    }

    /// Whether the network contains this address.
    pub fn contains(self, address: IpAddr) -> bool {
        // A dual-stack listener reports IPv4 clients as ::ffff:192.0.2.1.
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4()
            && self.prefix(number(address)) == number(self.address)
    }

    /// Returns the prefix of an address: all bits behind it are zero.
    fn prefix(self, number: u128) -> u128 {
        number
            & u128::MAX
                .checked_shl(128 - u32::from(self.bits))
                .unwrap_or(0)
    }
}

/// Returns the bits of an address, left-aligned in 128 bits.
fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
        IpAddr::V6(address) => address.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_contains_its_addresses() {
        for (network, address, holds) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("0.0.0.0/0", "192.0.2.1", true),
            ("0.0.0.0/0", "::1", false),
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1/32", "192.0.2.2", false),
            ("192.0.2.128/25", "192.0.2.127", false),
            ("192.0.2.0/24", "::ffff:192.0.2.9", true),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("::/0", "2001:db8::1", true),
            ("::1", "::1", true),
            ("::ffff:10.0.0.0/104", "10.1.2.3", true),
            ("::ffff:10.0.0.0/104", "::ffff:10.1.2.3", true),
            ("::ffff:10.0.0.0/104", "11.1.2.3", false),
            ("::ffff:10.0.0.0/104", "::10.1.2.3", false),
            ("::ffff:0:0/96", "192.0.2.1", true),
            ("::ffff:192.0.2.1", "192.0.2.1", true),
        ] {
            let contains_it = Network::parse(network)
                .unwrap()
                .contains(address.parse().unwrap());
            assert_eq!(contains_it, holds, "{network} {address}");
        }
        for bad in [
            "",
            "10.0.0.0/33",
            "10.0.0.1/8",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0/8",
            "::1/129",
            "2001:db8::1/32",
            "::ffff:0:0/95",
            "::ffff:10.0.0.1/104",
            "::fffe:0:0/95",
            "::/8",
            "host",
        ] {
            assert_eq!(Network::parse(bad), None, "{bad}");
        }
    }
}
