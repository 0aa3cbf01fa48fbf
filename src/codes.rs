//! The return codes that the broker understands.
//!
//! 2.0 has two answers to a CONNECT: success and "not authorized". After any other code it hangs up without a CONNACK.
//! 2.1 also passes some MQTT 5 reason codes on. (src/handle_connect.c in both.)

use std::ffi::c_int;

use crate::abi;
use auth::refusal::ConnackReason;

/// The client, the message or the subscription is allowed.
pub const SUCCESS: c_int = abi::MOSQUITTO_AUTH0_ERR_SUCCESS as c_int;
/// A message or a subscription is denied. Any other refusal of a READ would disconnect the publisher.
pub const ACL_DENIED: c_int = abi::MOSQUITTO_AUTH0_ERR_ACL_DENIED as c_int;
/// The CONNECT is refused with "not authorized", which every broker understands.
pub const AUTH: c_int = abi::MOSQUITTO_AUTH0_ERR_AUTH as c_int;
/// An AUTH packet asks the client to go on with extended authentication.
pub const AUTH_CONTINUE: c_int = abi::MOSQUITTO_AUTH0_ERR_AUTH_CONTINUE as c_int;
/// The plugin does not start.
pub const INVAL: c_int = abi::MOSQUITTO_AUTH0_ERR_INVAL as c_int;
/// The plugin does not start, because of a bug in it. To a client that re-authenticates: the connection is closed.
pub const UNKNOWN: c_int = abi::MOSQUITTO_AUTH0_ERR_UNKNOWN as c_int;

/// Other plugins or the broker decide. If none does, it is refused (src/security.c, src/plugin_acl_check.c).
pub const DEFER: c_int = abi::MOSQUITTO_AUTH0_ERR_PLUGIN_DEFER as c_int;
/// The answer to the CONNECT comes later (2.1 only).
pub const AUTH_DELAYED: c_int = abi::MOSQUITTO_AUTH0_ERR_AUTH_DELAYED as c_int;
/// A callback is registered already.
pub const ALREADY_EXISTS: c_int = abi::MOSQUITTO_AUTH0_ERR_ALREADY_EXISTS as c_int;

/// The generation of the running broker, which decides the codes and events that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    /// 2.0.x
    V2_0,
    /// 2.1 and later
    V2_1,
}

/// Returns the code that refuses a CONNECT.
pub fn refusal(reason: ConnackReason, generation: Generation) -> c_int {
    if generation == Generation::V2_0 {
        return AUTH;
    }
    (match reason {
        ConnackReason::NotAuthorized => abi::MOSQUITTO_AUTH0_ERR_AUTH,
        ConnackReason::BadCredential => abi::MOSQUITTO_AUTH0_ERR_BAD_USERNAME_OR_PASSWORD,
        ConnackReason::Unavailable => abi::MOSQUITTO_AUTH0_ERR_SERVER_UNAVAILABLE,
        ConnackReason::Busy => abi::MOSQUITTO_AUTH0_ERR_SERVER_BUSY,
        ConnackReason::Banned => abi::MOSQUITTO_AUTH0_ERR_BANNED,
    }) as c_int
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reason code that 2.1 puts into an MQTT 5 CONNACK for a return code.
    fn connack(code: c_int) -> Option<ConnackReason> {
        Some(match code {
            11 => ConnackReason::NotAuthorized,
            0x86 => ConnackReason::BadCredential,
            0x88 => ConnackReason::Unavailable,
            0x89 => ConnackReason::Busy,
            0x8a => ConnackReason::Banned,
            _ => return None,
        })
    }

    #[test]
    fn codes_go_both_ways_on_2_1() {
        let mut found = 0;
        for code in -100..300 {
            if let Some(told) = connack(code) {
                assert_eq!(refusal(told, Generation::V2_1), code);
                found += 1;
            }
        }
        assert_eq!(found, 5);
    }

    #[test]
    fn a_2_0_broker_hears_one_code_only() {
        for told in [
            ConnackReason::BadCredential,
            ConnackReason::NotAuthorized,
            ConnackReason::Unavailable,
            ConnackReason::Busy,
            ConnackReason::Banned,
        ] {
            assert_eq!(refusal(told, Generation::V2_0), 11);
        }
    }
}
