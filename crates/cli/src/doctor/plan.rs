//! What an examination sends, and what it leaves out. It is known, and said, before anything is sent.

use std::net::{IpAddr, Ipv6Addr};

/// One thing that is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sending {
    /// A question to DNS.
    Resolve {
        /// The name.
        host: String,
    },
    /// A request for the discovery document.
    Discovery {
        /// Its address.
        url: String,
    },
    /// A request for the keys.
    Keys {
        /// Their address, if it is known before.
        url: Option<String>,
    },
    /// A request for a password grant without a user.
    Application {
        /// The token endpoint, if it is known before.
        url: Option<String>,
        /// The application.
        client_id: String,
    },
    /// Logins of a user that does not exist.
    Probe {
        /// The token endpoint, if it is known before.
        url: Option<String>,
        /// The user's name.
        username: String,
        /// The addresses that are passed on, one login each.
        addresses: [IpAddr; 2],
    },
    /// The login of a user.
    SignIn {
        /// The token endpoint, if it is known before.
        url: Option<String>,
        /// The user's name.
        username: String,
    },
}

/// Something that is not examined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Omitted {
    /// Everything that takes a request, with `--offline`.
    Network,
    /// What only a login tells: the audience, the connection, attack protection.
    Login,
    /// What only a token tells: opaque or encrypted, its claims.
    Token,
    /// What is in the token, because `--offline` there are no keys to verify it with.
    TokenWithoutKeys,
    /// What comes after something that is wrong.
    AfterWrong,
}

/// Returns a name that no user has, and two addresses that no device has (RFC 3849). A new name and new addresses each
/// time, so that no count of earlier failures is in the way.
pub(crate) fn nobody(random: u64) -> (String, [IpAddr; 2]) {
    let part = |shift: u32| (random >> shift) as u16;
    let address = |last| {
        Ipv6Addr::new(
            0x2001,
            0xdb8,
            part(0),
            part(16),
            part(32),
            part(48),
            0,
            last,
        )
        .into()
    };
    let username = format!("mosquitto-auth0-doctor-{random:016x}");
    (username, [address(1), address(2)])
}
