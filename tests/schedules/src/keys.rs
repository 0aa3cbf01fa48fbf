//! The key store.

pub use auth::keys::KeySet;

#[path = "../../../crates/auth/src/keys/store.rs"]
pub mod store;
