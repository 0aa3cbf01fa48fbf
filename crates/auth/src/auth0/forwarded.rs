//! `auth0-forwarded-for`: the client address that Auth0's attack protection counts.
//!
//! Without this header all devices share the broker's address, and ten wrong passwords from one device lock a
//! user out for the whole fleet (Auth0, "Avoid Common Issues with Resource Owner Password Flow and Attack
//! Protection").

use std::net::IpAddr;

/// The header's name.
pub(crate) const HEADER: &str = "auth0-forwarded-for";

/// Returns a client's address in the form that Auth0 accepts: without a zone, and an IPv4-mapped IPv6 address
/// as IPv4.
///
/// Returns `None` for an address that does not identify a device on a network: loopback, a Unix socket, or a
/// text that is not an address.
pub(crate) fn device_address(seen: &str) -> Option<IpAddr> {
    let bare = seen.split('%').next().unwrap_or_default();
    let address = bare.parse::<IpAddr>().ok()?.to_canonical();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_that_identify_a_device_are_sent() {
        for (seen, sent) in [
            ("192.0.2.7", Some("192.0.2.7")),
            ("2001:db8::7", Some("2001:db8::7")),
            ("::ffff:192.0.2.7", Some("192.0.2.7")),
            ("fe80::1%eth0", Some("fe80::1")),
            ("127.0.0.1", None),
            ("127.9.9.9", None),
            ("::1", None),
            ("::ffff:127.0.0.1", None),
            ("0.0.0.0", None),
            ("::", None),
            ("", None),
            ("/run/mosquitto.sock", None),
            ("unix", None),
            ("192.0.2.7:1883", None),
            ("[2001:db8::7]", None),
            ("192.0.2.7\r\nx: y", None),
        ] {
            assert_eq!(
                device_address(seen).map(|a| a.to_string()).as_deref(),
                sent,
                "{seen}"
            );
        }
    }
}
