//! End-to-end tests: real brokers, real clients, and a tenant over real HTTPS. There is one test for each of
//! Mosquitto 2.0.11, 2.0.21 and 2.1.2; [`sanitized`] uses builds of them with AddressSanitizer.

mod clock;
mod credentials;
mod dump;
mod glewlwyd;
mod identity;
mod keys;
mod life;
mod lines;
mod loading;
mod memory;
mod names;
mod outage;
mod rights;
mod sanitized;
mod setting;
mod shares;
mod storm;
mod strangers;
mod tokens;
mod topics;
mod trouble;
mod waiting;
