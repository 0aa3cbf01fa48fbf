//! What is remembered of earlier sign-ins.
//!
//! * [`logins`]: what the tenant said about a user name and password
//! * [`tokens`]: which tokens were verified
//! * [`expiring`]: the table behind both
//! * `generations`: a set that forgets its oldest members

pub mod expiring;
pub(crate) mod generations;
pub mod logins;
pub mod tokens;
