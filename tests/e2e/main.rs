//! End-to-end tests: real brokers, real clients, and a tenant over real HTTPS. There is one test for each of
//! Mosquitto 2.0.11, 2.0.21 and 2.1.2; [`sanitized`] uses builds of them with AddressSanitizer.

mod client_ids;
mod clock;
mod control;
mod credentials;
mod decision_log;
mod dump;
mod events;
mod expiry;
mod extended_auth;
mod faults;
mod glewlwyd;
mod helpers;
mod identity;
mod isolation;
mod issuers;
mod keys;
mod loading;
mod log_lines;
mod memory;
mod metrics;
mod outage;
mod providers;
mod proxy;
mod reconnects;
mod reload;
mod renewal;
mod restart;
mod rights;
mod sanitized;
mod sessions;
mod shares;
mod tenant_faults;
mod tokens;
mod topics;
mod waiting;
