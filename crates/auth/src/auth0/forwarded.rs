//! `auth0-forwarded-for`: whose address counts in Auth0's attack protection.
//!
//! Without it every device shares the broker's address, and ten wrong passwords of one lock a user
//! out for the whole fleet (Auth0, "Avoid Common Issues with Resource Owner Password Flow and
//! Attack Protection").

use std::net::IpAddr;

/// The header's name.
pub const HEADER: &str = "auth0-forwarded-for";

/// The device's address as Auth0 takes it, from the one the broker saw: bare, without a zone, IPv4
/// where it is one inside IPv6. `None` for what names no device on a network: loopback, a Unix
/// socket, an address that is none.
pub fn device_address(seen: &str) -> Option<IpAddr> {
    let bare = seen.split('%').next().unwrap_or_default();
    let address = bare.parse::<IpAddr>().ok()?.to_canonical();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_device_s_own_address_is_sent() {
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
