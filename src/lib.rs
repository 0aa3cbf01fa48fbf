//! Lets devices into Eclipse Mosquitto with Auth0.

pub mod auth0;
pub mod broker;
pub mod clock;
pub mod config;
pub mod grants;
pub mod keys;
pub mod log;
pub mod logins;
pub mod policy;
pub mod refusal;
pub mod secret;
pub mod sessions;
pub mod text;
pub mod token;
