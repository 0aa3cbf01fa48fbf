//! The options become a typed configuration, or the broker does not start.
//!
//! | question | file |
//! |---|---|
//! | Which options are there, with which defaults and ranges? | [`options`], one table |
//! | How is one option read? | `given.rs` |
//! | Which options go together? | `rules.rs` |
//! | What can be wrong? | [`errors`]; the sentences are in `messages.rs` |
//! | Which option is a misspelt one meant to be? | `nearest.rs` |
//! | Has the file changed since the start? | [`on_disk`] |

pub mod errors;
mod given;
mod nearest;
pub mod on_disk;
pub mod options;
mod rules;

use std::{path::PathBuf, time::Duration};

use crate::{identity::ClientIds, proxies::TrustedProxies, secret::Secret, state_dir::StateDir};
use acl::claims::Reading;
use given::Given;

pub use errors::ConfigError;

/// The shortest secret of HS256, in bytes: as long as the hash (RFC 7518, section 3.2).
pub const HS256_MIN_SECRET: usize = 32;

/// A signature algorithm that Auth0 uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256, Auth0's default.
    Rs256,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// HMAC with SHA-256: everyone who can verify can forge.
    Hs256,
}

impl Algorithm {
    const ALL: [Self; 3] = [Self::Rs256, Self::Ps256, Self::Hs256];

    /// Its name in a JOSE header (RFC 7518, section 3.1).
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Ps256 => "PS256",
            Self::Hs256 => "HS256",
        }
    }

    /// The algorithm of that name, exactly as written.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.name() == name)
    }
}

/// Where the tenant's endpoints are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Home {
    /// An Auth0 tenant: the paths follow from the domain.
    Domain(String),
    /// Any OpenID provider: they are discovered at this issuer.
    Issuer(String),
}

impl Home {
    /// The domain or the issuer.
    pub fn name(&self) -> &str {
        match self {
            Self::Domain(name) | Self::Issuer(name) => name,
        }
    }
}

/// Where the signing keys come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// The tenant.
    Tenant,
    /// A JWK Set on this machine.
    File(PathBuf),
}

/// The application that credentials mode acts for.
#[derive(Clone, Debug)]
pub struct Application {
    /// Its client ID.
    pub client_id: String,
    /// Its client secret.
    pub client_secret: Secret,
    /// The connection (realm) in which the devices are; the tenant's default directory if none.
    pub connection: Option<String>,
    /// The scope asked for.
    pub scope: String,
}

/// Everything an operator decides.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the tenant is.
    pub home: Home,
    /// Accepted values of `iss`.
    pub issuers: Vec<String>,
    /// Accepted values of `aud`; never empty. The first is what credentials mode asks for.
    pub audiences: Vec<String>,
    /// Credentials mode, if it is on.
    pub application: Option<Application>,
    /// Which claims say what a device may do.
    pub reading: Reading,
    /// The policy file, if there is one.
    pub policy_file: Option<PathBuf>,
    /// The claim that becomes the user name in token mode.
    pub username_claim: String,
    /// What the broker is told in front of the user names of those who come in through the tenant.
    pub username_prefix: String,
    /// Which client ids a token's bearer may use.
    pub client_ids: ClientIds,
    /// Whether a client id that one subject holds may be taken over by another.
    pub any_takeover: bool,
    /// Whether clients that are not ours are left to others.
    pub defer_others: bool,
    /// Whether messages and subscriptions of our clients are left to others.
    pub defer_acl: bool,
    /// Accepted signature algorithms; never empty.
    pub algorithms: Vec<Algorithm>,
    /// The secret of HS256 tokens; there exactly if HS256 is accepted.
    pub hs256_secret: Option<Secret>,
    /// Seconds that clocks may differ.
    pub leeway: u64,
    /// The most that one CONNECT may wait for the tenant, and the most one fetch of keys may take.
    pub timeout: Duration,
    /// The most that the broker stands still for one CONNECT.
    pub login_wait: Duration,
    /// The most of any ten seconds that the broker stands still, in percent.
    pub stall_budget: u32,
    /// The most requests to the tenant at a time.
    pub login_workers: usize,
    /// The most requests to the tenant a second, in the long run.
    pub login_rate: u32,
    /// The most seconds that a good login is remembered.
    pub login_cache: u64,
    /// The proxies whose word about a client's address counts.
    pub trusted_proxies: TrustedProxies,
    /// Whether MQTT 5 clients, too, are answered later.
    pub delay_mqtt5: bool,
    /// Certificates to trust for the tenant, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Where the signing keys come from.
    pub keys: KeySource,
    /// How long fetched keys stay good while the tenant cannot be asked.
    pub jwks_max_stale: Duration,
    /// Where keys are kept over a restart, if anywhere.
    pub state_dir: Option<StateDir>,
}

type Result<T> = std::result::Result<T, ConfigError>;

impl Config {
    /// Reads `plugin_opt_` pairs, and the file that `config_file` names.
    ///
    /// # Errors
    ///
    /// Returns the first thing that is wrong.
    pub fn read(pairs: Vec<(String, String)>) -> Result<Self> {
        let mut given = Given::default();
        for (name, value) in pairs {
            given.set(&name, &value)?;
        }
        if let Some(path) = given.given("config_file").map(str::to_owned) {
            given.add_file(&path)?;
        }
        rules::config(&given)
    }
}

#[cfg(test)]
mod tests;
