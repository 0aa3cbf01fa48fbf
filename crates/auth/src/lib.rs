//! Everything between a CONNECT and the rights that a client gets.
//!
//! [`policy`] decides and is read top to bottom (`authenticate.rs`, `verify.rs`, `admission.rs`, `access.rs`). It knows
//! neither broker nor network, and takes the time as an argument. What has to wait is a value, a [`logins::Job`], done by a pool of
//! threads that never touch the broker.
//!
//! | question | file |
//! |---|---|
//! | Is this token good? | [`token`], its outer layer in [`token::jws`] |
//! | Which key, and when is it fetched again? | [`keys`], [`keys::store`]; over a restart, [`keys::saved`] |
//! | What does the tenant's answer mean? | [`auth0::answer`] |
//! | Which policy file is in force? | [`policy_file`] |
//! | Which client ID may it use? | [`identity`]; who holds one, [`sessions`] |
//! | Who is connected, until when? | [`sessions`]; what several instances share, [`policy::Common`] |
//! | Who waits for the tenant, and what did it say before? | [`logins`], [`logins::memory`] |
//! | Under which client ID may a login wait? | [`logins::names`] |
//! | May the tenant be asked now, about this user, from there? | [`logins::restraint`] |
//! | Whose turn is it, where there is not enough for all? | [`logins::known`], [`logins::shares`] |
//! | Which token was good before? | [`logins::verified`] |
//! | What is kept on disk, and is it believed? | [`state_dir`] |
//! | What is kept out of core dumps? | [`secret`] |
//! | Why was it refused, and what helps? | [`refusal`], one table |
//! | Whose address does the broker tell? | [`proxies`] |
//! | Which options are there? | [`config`], [`config::options`] |
//! | What do operators read? | `messages.rs` |

pub mod auth0;
pub mod clock;
pub mod config;
pub mod files;
pub mod identity;
pub mod keys;
pub mod log;
pub mod logins;
mod messages;
pub mod policy;
pub mod policy_file;
pub mod proxies;
pub mod refusal;
pub mod secret;
pub mod sessions;
pub mod state_dir;
pub mod threads;
pub mod token;
