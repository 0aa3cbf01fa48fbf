//! Some 2.0 brokers take a websockets client's address from a header that the client writes.
//!
//! **The bug.** From 2.0.15 on, 2.0 reports the header `X-Forwarded-For` as the address of a websockets client
//! (src/websockets.c). Without a proxy in front of the broker, the client itself writes that header.
//!
//! **The workaround.** The address of a websockets client of 2.0 is marked as [`AddressFrom::Header`]. It counts only
//! where the operator lists trusted proxies ([`auth::proxies`]).
//!
//! **Versions.** 2.0.15 and later 2.0 versions. A 2.0 broker does not say which version it is, so this treats all of
//! them alike. 2.1 ignores the header (src/http_serv.c).
//!
//! **Proof.** `cargo test --test e2e isolation::a_forged_forwarded_header_is_ignored`.
//!
//! **Delete it** when 2.0 is no longer supported.

use auth::proxies::AddressFrom;

use crate::{
    abi,
    codes::Generation,
    host::{Broker, ClientRef},
};

/// Returns where the broker has the address of this client from.
pub fn address_from(broker: &Broker, client: ClientRef<'_>) -> AddressFrom {
    let is_websocket = broker.protocol(client) == Some(abi::mp_websockets as i32);
    match is_websocket && broker.generation() == Generation::V2_0 {
        true => AddressFrom::Header,
        false => AddressFrom::Transport,
    }
}
