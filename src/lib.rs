//! Lets devices into Eclipse Mosquitto with Auth0.
//!
//! A shared object that Mosquitto loads with a `plugin` line. A device proves who it is with a
//! token in the password field, or with the user name and password of its Auth0 account, and then
//! publishes and subscribes only to the topics in its profile claim `topics`.
//!
//! The README is for operators. This page is for whoever changes the code.
//!
//! # One way through
//!
//! ```text
//!  broker's thread                                          where waiting is allowed
//!  C event ─► broker::event ─► policy.authenticate ─► Step
//!             (null-safe,        │                    ├─ Admit, Refuse, Keep ─► broker::codes ─► C
//!              UTF-8 refused,    │                    └─ Wait(Pending) ─► logins::Desk.perform
//!              not mended)       │                                          │ auth0, keys
//!                                └── policy.settle ◄── Answered ◄───────────┘
//!  C event ─► broker::event ─► policy.authorise (memory only) ─► codes ─► C
//!  tick ─► policy.reap, policy.expire ─► kick, log       (nothing is locked here: they call back)
//! ```
//!
//! [`policy`] decides and is read top to bottom. It knows neither broker nor network, and takes
//! the time as an argument. What has to wait is handed out as a value, a [`logins::Pending`], and
//! comes back as a [`logins::Answered`]: today the broker's callback runs it on the spot, which is
//! all that Mosquitto 2.0 offers; a pool of threads and 2.1's delayed answer can take its place in
//! `broker::basic_auth` without a change anywhere else.
//!
//! # Where things live
//!
//! | question | file |
//! |---|---|
//! | Is this token good? | [`token`], its outer layer in [`token::jws`] |
//! | Which key, and when is it fetched again? | [`keys`], [`keys::store`] |
//! | What does the tenant's answer mean? | [`auth0::answer`] |
//! | May it publish this, subscribe to that? | [`grants`]; what a claim grants, [`grants::claim`] |
//! | Who is connected, until when? | [`sessions`] |
//! | Why was it refused, and what helps? | [`refusal`], one table |
//! | Which options are there? | [`config`], [`config::options`] |
//! | What does the broker call, what do we call? | [`broker`] |
//!
//! # Rules, each held by a test (`tests/architecture.rs`)
//!
//! * Only `broker/` has unsafe code or names anything of Mosquitto's.
//! * Only `auth0/http.rs` names `ureq`; only `token/jws.rs` and `keys/` name `jsonwebtoken`.
//! * Only [`clock`] reads the time.
//! * Dependencies point one way: `broker` → `policy` → `logins` → `token`, `sessions`, `auth0` →
//!   `keys`, `grants` → `config` → `secret`, `files`, `json`, `refusal`, `text`,
//!   `log`, `clock`.
//!
//! # Choices, and what was turned down
//!
//! * **Weak references, not dlsym**, to reach the broker: the C compiler checks every signature
//!   against Mosquitto's header ([`broker::host`], `src/broker/host.c`).
//! * **Our own check of claims, not `jsonwebtoken`'s `Validation`**: that reads the clock, and
//!   checks `iss`, `aud` and `nbf` only where they are present. The signature is the library's.
//! * **One table of refusals**, not an error type in each module: an operator sees one vocabulary,
//!   and every row has a cure.
//! * **A tree of levels for grants**, not a list: a check costs what the topic's levels cost, not
//!   what the number of grants would. (Grants with a name and a `+` beside each other at every level
//!   cost both ways; no check visits a node of the tree twice.)
//! * **Log lines wait for the tick**: with `log_dest topic` a line becomes a message, which becomes
//!   a question to us.
//! * **Rights end with the token**: at `exp` a connected client is refused and disconnected, its will
//!   goes out, and it signs in again. Rights that last as long as a connection would make `exp`
//!   meaningless for devices that never hang up.

#![deny(unsafe_code)]

pub mod auth0;
#[allow(unsafe_code)]
pub mod broker;
pub mod clock;
pub mod config;
pub mod files;
pub mod grants;
pub mod json;
pub mod keys;
pub mod log;
pub mod logins;
pub mod policy;
pub mod refusal;
pub mod secret;
pub mod sessions;
pub mod text;
pub mod token;
