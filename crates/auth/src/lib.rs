//! Everything between a CONNECT and the rights that a client gets.
//!
//! [`engine`] decides. Read it from top to bottom: `authenticate.rs`, `verify.rs`, `admission.rs`, `access.rs`. It
//! knows neither the broker nor the network, and takes the time as an argument. Work that has to wait is a value, a
//! [`workers::Job`]. A pool of threads runs jobs; those threads never touch the broker.
//!
//! | question | file |
//! |---|---|
//! | Whose tokens are accepted, and with what is a token verified? | `engine/issuers.rs`; an issuer's options, `config/issuer.rs` |
//! | Is this token valid? | [`jwt`]; its outer layer and signature, [`jwt::jws`] |
//! | What follows when the tenant revokes a key? | `engine/signing_keys.rs` |
//! | Which algorithms may sign a token, and with which kind of key? | [`algorithm`]; how a key is read, `jwt/jwk.rs` |
//! | Which keys are current, and when are they fetched again? | [`jwt::jwks_cache`]; over a restart, [`jwt::saved_jwks`] |
//! | How is the tenant asked? | [`auth0`]; its connections and timeouts, `auth0/http.rs` |
//! | How does the application prove who it is? | [`client_auth`]; which way the tenant takes, [`auth0`] |
//! | Is there a proxy between this machine and the tenant? | [`http_proxy`]; how a request gets through it, `auth0/tunnel.rs` |
//! | What does the tenant's response mean? | [`auth0::answer`]; which of its tokens counts, `engine/verify.rs` |
//! | Which policy file is in force? | [`policy_file`] |
//! | May a client sign in that lacks what the policy file requires? | `engine/admission.rs` asks [`acl::policy_file`] |
//! | Where are the claims of a provider that names them otherwise? | [`claim_sources`]; the options, `config/issuer.rs` |
//! | Which claims hold topics and permissions? | the options, `reading` in `config/rules.rs`; they are read from a token in `engine/verify.rs`; what they grant, [`acl::claims`] |
//! | Which client IDs may a token use? | [`identity`] |
//! | May a client take over the client ID of another one? | `engine/admission.rs`, which asks [`sessions`] who has it |
//! | Who is connected, until when, under which client ID? | [`sessions`] |
//! | May a connected client have other rights from now on? | `engine/renew.rs` |
//! | Which subscriptions does a renewal remove? | [`sessions`]: `filters.rs` remembers them, `engine/renew.rs` decides |
//! | How does a client present a token by an authentication method (MQTT 5)? | `engine/exchange.rs`; where it is in the data, `engine/oauth_methods.rs` |
//! | When do rights end, and who is told before? | `engine/expiry.rs` decides; [`sessions`]: `expiry.rs` keeps the times |
//! | Does a session stay as it is on SIGHUP? | [`sessions`]: `stays` and `recheck`; its whole course is in `src/lib.rs` |
//! | What do several instances of the plugin share? | [`engine::Common`] |
//! | What did the tenant say about this login before? | [`cache::logins`] |
//! | Which tokens were checked before? | [`cache::tokens`] |
//! | Where does a CONNECT wait? | on 2.1 in [`pending`], under a client ID that [`pending::client_ids`] allows; on 2.0 in [`engine::Engine::wait`] |
//! | Where does its job wait? | a password, for a thread of [`workers::pool`]; a token with an unknown `kid`, parked there until [`jwt::jwks_cache`] has fetched keys |
//! | How long may the broker wait (2.0)? | [`stall_budget`] |
//! | May the tenant be asked now, about this user, from there? | [`limits`] |
//! | Who goes first where there is not enough for all? | [`limits::known_callers`], [`limits::fair_shares`] |
//! | Which threads wait for the tenant? | [`workers::pool`] |
//! | What keeps a password from being sent twice? | one job for each credential, [`workers::pool`]; no second attempt once something was sent, `auth0/http.rs`; both are tested in `tests/e2e/tenant_faults.rs` |
//! | Which user name does a token give? | `username.rs` |
//! | Which user name does the broker get? | `engine/usernames.rs` |
//! | How is a file read that an option names? | [`files`]; whether a secret was mounted for a container, `mount.rs` |
//! | What is kept on disk, and when is it trusted? | [`state_dir`] |
//! | Which rights has a session that the broker restored from disk? | [`saved_sessions`]; they are made in `engine/restored.rs` |
//! | What is kept out of core dumps? | [`secret`] |
//! | Why was a client refused, and how is that fixed? | [`refusal`], one table |
//! | What may an administrator command, and what comes of it? | [`control`], `engine/administration.rs`; `refreshKeys`, `engine/refresh_keys.rs` |
//! | Who may command on this machine, without a token? | [`control::socket`] |
//! | Who gets the answer to a token that a client has published? | `engine/published_renewal.rs` |
//! | Which proxies may tell a client's address? | [`proxies`] |
//! | What is in the decision log, and who writes it? | [`decision_log`]; what it sees, `engine/observer.rs` |
//! | What does the shadow policy do? | `engine/observer.rs` |
//! | Which options are there? | [`config`], [`config::options`] |
//! | What does mosquitto.conf say by now? | [`config::mosquitto_conf`], [`config::on_disk`] |
//! | Which numbers are there for dashboards? | [`metrics::table`]; what is counted, [`mod@metrics`]; who collects it, `engine/observe.rs` |
//! | How often is the same refusal logged? | `engine/repeats.rs`; for messages, [`sessions`]: `reported.rs` |
//! | What do operators read? | `messages/`; those of `src/` are in `src/messages.rs` |

// Read with `cargo doc --document-private-items`.
#![allow(rustdoc::private_intra_doc_links)]

/// The generation of the file `sessions` in `state_dir` that this version reads and writes.
pub use saved_sessions::GENERATION as SESSIONS_FILE_GENERATION;

pub mod account;
pub mod algorithm;
pub mod auth0;
mod cache;
mod claim_sources;
pub mod client;
pub mod client_auth;
pub mod clock;
pub mod config;
pub mod control;
pub mod decision_log;
pub mod engine;
pub mod files;
pub mod fuzzing;
mod hash;
pub mod http_proxy;
mod identity;
pub mod jwt;
pub mod limits;
pub mod log;
mod messages;
pub mod metrics;
mod mount;
mod pending;
pub mod policy_file;
pub mod proxies;
pub mod refusal;
mod saved_sessions;
pub mod secret;
pub mod sessions;
pub mod sign_in;
mod stall_budget;
mod state_dir;
pub mod threads;
mod username;
pub mod workers;
