//! The key cache.

pub use auth::jwt::jwks;

#[path = "../../../crates/auth/src/jwt/jwks_cache.rs"]
pub mod jwks_cache;
