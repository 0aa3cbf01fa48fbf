//! A renewal that is refused is answered with a second CONNACK.
//!
//! **The bug.** If a plugin refuses a client that re-authenticates (MQTT 5), the broker sends a CONNACK and closes the
//! connection (src/handle_auth.c, issue 2339). A second CONNACK breaks the protocol, so a client may take it for
//! anything. Later brokers send DISCONNECT with reason code 0x87.
//!
//! **The workaround.** There a renewal is refused with a code that this broker does not know. It closes the connection
//! without a packet (2.0.13 and later send DISCONNECT with 0x80). Which brokers these are is told by another mistake
//! of theirs: they take the empty string for a topic. 2.0.20 and later do not, so a few brokers that have no bug are
//! treated as if they had.
//!
//! **Versions.** 2.0.0 to 2.0.12.
//!
//! **Proof.** `cargo test --test e2e extended_auth::a_refused_renewal_closes_the_connection`.
//!
//! **Delete it** when 2.0.13 is the oldest supported broker.

use std::ffi::c_int;

use crate::{codes, host::Broker};

/// Returns the code that refuses a renewal.
pub fn refusal(broker: &Broker) -> c_int {
    match broker.takes_empty_topics() {
        true => codes::UNKNOWN,
        false => codes::AUTH,
    }
}
