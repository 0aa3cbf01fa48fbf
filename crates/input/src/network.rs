//! Networks of addresses, as options and rules name them.

use std::net::IpAddr;

/// A network, as `10.0.0.0/8` or `2001:db8::/32` (RFC 4632, RFC 4291).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

/// IPv4 addresses in IPv6 form: `::ffff:0:0/96`.
const MAPPED: u128 = 0xffff_0000_0000;
const MAPPED_BITS: u8 = 96;

impl Network {
    /// Reads it; an address alone is a network of one. `None` if it is none, or if bits are set
    /// behind its length: then one of the two is a slip. A network of IPv4 addresses in IPv6 form
    /// (RFC 4291, section 2.5.5.2) is the IPv4 network, as such a client is an IPv4 client; one that has
    /// IPv4 addresses among others is none, because it would hold for half of what it says. (Not so
    /// `::/0`, by which everybody means IPv6.)
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
        if bits > most || network.cut(number(address)) != number(address) {
            return None;
        }
        match (address.to_canonical(), bits.checked_sub(MAPPED_BITS)) {
            (v4 @ IpAddr::V4(_), Some(bits)) if address.is_ipv6() => {
                Some(Self { address: v4, bits })
            }
            (IpAddr::V6(_), None) if bits > 0 && network.cut(MAPPED) == number(address) => None,
            _ => Some(network),
        }
    }

    /// Whether the address is in it.
    pub fn holds(self, address: IpAddr) -> bool {
        // A listener for both protocols tells IPv4 clients as ::ffff:192.0.2.1.
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4()
            && self.cut(number(address)) == number(self.address)
    }

    /// The first bits.
    fn cut(self, number: u128) -> u128 {
        number
            & u128::MAX
                .checked_shl(128 - u32::from(self.bits))
                .unwrap_or(0)
    }
}

/// The address's bits, from the highest on.
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
    fn networks() {
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
            let holds_it = Network::parse(network)
                .unwrap()
                .holds(address.parse().unwrap());
            assert_eq!(holds_it, holds, "{network} {address}");
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
