//! The key cache.

pub use auth::jwt::{fetch_report, jwks};

#[path = "../../../crates/auth/src/jwt/jwks_cache.rs"]
pub mod jwks_cache;
