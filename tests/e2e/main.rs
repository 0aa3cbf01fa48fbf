//! The whole thing: real brokers, real clients, and a tenant over real HTTPS. One test for each
//! of Mosquitto 2.0.11, 2.0.21 and 2.1.2.

mod credentials;
mod glewlwyd;
mod keys;
mod life;
mod loading;
mod setting;
mod tokens;
mod topics;
mod waiting;
