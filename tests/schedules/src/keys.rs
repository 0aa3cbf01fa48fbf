//! Keys.

pub use mosquitto_auth0::keys::KeySet;

#[path = "../../../src/keys/store.rs"]
pub mod store;
