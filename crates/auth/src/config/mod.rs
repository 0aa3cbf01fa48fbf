//! The options become a typed configuration, or the broker does not start.
//!
//! | question | file |
//! |---|---|
//! | Which options are there, with which defaults and ranges? | [`options`], one table |
//! | How is one option read? | `given.rs` |
//! | Which options go together? | `rules.rs`; those of an issuer, `issuer.rs` |
//! | What can be wrong? | [`errors`]; the sentences are in `messages/` |
//! | What are all the mistakes, for a tool that must not change anything? | `all_mistakes.rs` |
//! | Which option is a misspelt one meant to be? | `nearest.rs` |
//! | Which users does the broker have by itself? | [`local_users`] |
//! | What has changed since it was read, on SIGHUP? | this file; in mosquitto.conf, [`on_disk`] |

mod all_mistakes;
pub(crate) mod errors;
mod given;
mod issuer;
pub mod local_users;
pub mod mosquitto_conf;
mod nearest;
pub mod on_disk;
pub mod options;
mod proxy;
mod rules;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use crate::{
    algorithm::Algorithm,
    client_auth::{ApplicationCredential, ClientAuth},
    http_proxy::HttpProxy,
    proxies::TrustedProxies,
    state_dir::StateDir,
};
use given::Given;
use options::Reread;

pub use errors::ConfigError;
pub use issuer::IssuerConfig;

/// The minimum length of a secret for HS256, in bytes: as long as the hash (RFC 7518, section 3.2).
pub(crate) const HS256_MIN_SECRET: usize = 32;

/// Where the tenant's endpoints are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TenantAddress {
    /// An Auth0 tenant: the paths follow from the domain.
    Domain(String),
    /// Any OpenID Connect provider: they are discovered at this issuer.
    Issuer(String),
}

impl TenantAddress {
    /// Returns the domain or the issuer.
    pub fn name(&self) -> &str {
        match self {
            Self::Domain(name) | Self::Issuer(name) => name,
        }
    }

    /// Returns the tenant's issuer.
    pub(crate) fn issuer(&self) -> String {
        match self {
            Self::Domain(domain) => format!("https://{domain}/"),
            Self::Issuer(issuer) => issuer.clone(),
        }
    }
}

/// Which decisions about messages and subscriptions are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoggedMessages {
    /// Those that deny.
    Denied,
    /// All.
    All,
    /// None.
    None,
}

/// Where the signing keys come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// The tenant.
    Tenant,
    /// A file with a JWK Set.
    File(PathBuf),
}

/// The application in whose name the plugin asks for tokens.
#[derive(Clone, Debug)]
pub struct Application {
    /// Its client ID.
    pub client_id: String,
    /// Its credentials.
    pub credential: ApplicationCredential,
    /// How it authenticates, if that is not left to the discovery document.
    pub auth: Option<ClientAuth>,
    /// The connection (realm) of the devices, or `None` for the tenant's default directory.
    pub connection: Option<String>,
    /// The scope asked for.
    pub scope: String,
}

/// The configuration. The table in [`options`] describes each option.
#[derive(Clone, Debug)]
pub struct Config {
    /// The issuers whose tokens are accepted; never empty.
    pub issuers: Vec<Arc<IssuerConfig>>,
    /// The policy file, if there is one.
    pub(crate) policy_file: Option<PathBuf>,
    /// Whether an account may take over a client ID that another one holds.
    pub(crate) any_takeover: bool,
    /// Whether clients without a token or a password are left to the next plugin or the broker.
    pub(crate) defer_others: bool,
    /// Whether decisions about messages and subscriptions are left to the next plugin or the broker.
    pub(crate) defer_acl: bool,
    /// How many seconds clocks may differ.
    pub leeway: u64,
    /// Whether a client stays connected when its rights end, and is denied everything.
    pub(crate) stays_after_expiry: bool,
    /// By how many seconds at most rights end early, so that not all clients come back at once.
    pub(crate) expiry_jitter: u64,
    /// How many seconds a sign-in or a renewal gives at most.
    pub(crate) max_session: Option<u64>,
    /// How many seconds after the end of its rights messages are queued for a client that is away; `None` if that has
    /// no end.
    pub(crate) offline_grace: Option<u64>,
    /// How many seconds before its rights end a client is told; 0 if it is not.
    pub(crate) expiry_warning: u32,
    /// Whether clients stay whose tokens are signed with a key that was revoked.
    pub(crate) keeps_revoked: bool,
    /// How long one CONNECT may wait for the tenant, and how long one fetch of keys may take.
    pub(crate) timeout: Duration,
    /// How long the broker may block for one CONNECT.
    pub(crate) login_wait: Duration,
    /// How many percent of any ten seconds the broker may block.
    pub(crate) stall_budget: u32,
    /// How many requests to the tenant there may be at a time.
    pub(crate) login_workers: usize,
    /// How many requests to the tenant there may be a second, in the long run.
    pub(crate) login_rate: u32,
    /// How many seconds a good login is remembered.
    pub(crate) login_cache: u64,
    /// The proxies that may report a client's address.
    pub(crate) trusted_proxies: TrustedProxies,
    /// Whether MQTT 5 clients, too, are answered later on 2.1.
    pub(crate) delay_mqtt5: bool,
    /// The folder in which keys are kept over a restart, if there is one.
    pub(crate) state_dir: Option<StateDir>,
    /// How often metrics are published; zero for never.
    pub(crate) metrics_interval: Duration,
    /// The file into which they are written.
    pub(crate) metrics_file: Option<PathBuf>,
    /// The decision log, if there is one.
    pub(crate) decision_log: Option<PathBuf>,
    /// Which decisions about messages are logged.
    pub(crate) logged_messages: LoggedMessages,
    /// The policy that is tried out, if there is one.
    pub(crate) shadow_policy: Option<PathBuf>,
    /// All options that are set.
    given: Given,
    /// Those of them that are in mosquitto.conf.
    lines: Given,
}

type Result<T> = std::result::Result<T, ConfigError>;

impl Config {
    /// Reads `plugin_opt_` pairs, and the file that `config_file` names.
    ///
    /// # Errors
    ///
    /// Returns the first thing that is wrong.
    pub fn read(pairs: Vec<(String, String)>) -> Result<Self> {
        let mut lines = Given::default();
        for (name, value) in pairs {
            lines.set(&name, &value)?;
        }
        Self::of(&lines, None)
    }

    /// Reads the same options for a tool: finds all mistakes, and changes nothing on disk. A folder of state that does
    /// not exist yet counts as not set.
    ///
    /// # Errors
    ///
    /// Returns everything that is wrong.
    pub fn look(pairs: &[(String, String)]) -> std::result::Result<Self, Vec<ConfigError>> {
        all_mistakes::read(pairs)
    }

    /// Reads the file that `config_file` names and the files of secrets again. The options in mosquitto.conf are those
    /// of the start.
    ///
    /// # Errors
    ///
    /// Returns the first thing that is wrong.
    pub(crate) fn read_again(&self) -> Result<Self> {
        Self::of(&self.lines, Some(self))
    }

    fn of(lines: &Given, before: Option<&Self>) -> Result<Self> {
        let mut given = lines.clone();
        if let Some(path) = lines.given("config_file") {
            given.add_file(path)?;
        }
        rules::config(&given, lines, before).map_err(|error| given.locate(error))
    }

    /// Returns the issuer that this `iss` names; the first if it names none of them.
    pub fn issuer_named(&self, iss: Option<&str>) -> &IssuerConfig {
        let is_named =
            |issuer: &&Arc<IssuerConfig>| issuer.names.iter().any(|one| Some(&**one) == iss);
        self.issuers
            .iter()
            .find(is_named)
            .unwrap_or(&self.issuers[0])
    }

    /// Returns the issuer that checks passwords; the first if none does.
    pub fn password_issuer(&self) -> &IssuerConfig {
        let mut issuers = self.issuers.iter();
        let asks = issuers.find(|issuer| issuer.application.is_some());
        asks.unwrap_or(&self.issuers[0])
    }

    /// Returns the path of the policy file for clients of one of the issuers, if there is one.
    pub fn policy_file_of<'c>(&'c self, issuer: &'c IssuerConfig) -> Option<&'c Path> {
        let own = issuer.policy_file.as_deref();
        own.or(self.policy_file.as_deref())
    }

    /// Returns the path of the policy file, if there is one.
    pub fn policy_file(&self) -> Option<&Path> {
        self.policy_file.as_deref()
    }

    /// Whether clients that are not the tenant's are left to others.
    pub fn defers_others(&self) -> bool {
        self.defer_others
    }

    /// Whether the answer to a login is remembered, so that the same login is not sent again at once.
    pub fn remembers_logins(&self) -> bool {
        self.login_cache > 0
    }

    /// Whether what SIGHUP reads again may change who comes in and what they may do. Beside these files only those of
    /// the authorities, of the client secret or key and of the proxy's credentials are read again, which count when the
    /// tenant is asked.
    pub(crate) fn has_urgent_files(&self) -> bool {
        let urgent = [
            "config_file",
            "policy_file",
            "jwks_file",
            "hs256_secret_file",
        ];
        let values = urgent.iter().flat_map(|name| self.values_of(name));
        values.flatten().next().is_some()
    }

    /// Returns the options that have another value in `new`, or name a file with another secret.
    pub(crate) fn changes(&self, new: &Self) -> Vec<&'static str> {
        if self.issuers.len() != new.issuers.len() {
            return vec!["issuer"];
        }
        let names = options::all().map(|option| option.name);
        let differs = |name: &&str| {
            let (before, after) = (self.values_of(name), new.values_of(name));
            before != after || self.secrets_in_files(name) != new.secrets_in_files(name)
        };
        names.filter(differs).collect()
    }

    /// Returns the values of an option: the plain one, and those in the tables of issuers.
    fn values_of(&self, name: &str) -> Vec<Option<&str>> {
        let tables = self.given.issuers.iter().map(|table| &table.given);
        let all = std::iter::once(&self.given).chain(tables);
        all.map(|given| given.text(name)).collect()
    }

    /// Returns those of the changes to `new` that take a restart.
    pub(crate) fn needs_restart(&self, new: &Self, changes: &[&'static str]) -> Vec<&'static str> {
        let has_changed = |name: &&'static str| changes.contains(name);
        let rows = changes.iter().filter_map(|name| options::find(name));
        let rows = rows.filter(|option| option.reread == Reread::Restart);
        let mut names: Vec<_> = rows.map(|option| option.name).collect();
        let tenants = |config: &Self| -> Vec<TenantAddress> {
            let issuers = config.issuers.iter();
            issuers.map(|issuer| issuer.tenant.clone()).collect()
        };
        // Sessions know their issuer by its place.
        let has_moved = |name: &String, place: usize| {
            let mut others = new.issuers.iter().enumerate();
            others.any(|(other, issuer)| other != place && issuer.names.contains(name))
        };
        let mut issuers = self.issuers.iter().enumerate();
        let have_moved =
            issuers.any(|(place, issuer)| issuer.names.iter().any(|name| has_moved(name, place)));
        // Without a domain, the first `iss` is the tenant's address.
        if (tenants(self) != tenants(new) || have_moved) && !has_changed(&"domain") {
            names.push("issuer");
        }
        let both = || self.issuers.iter().zip(&new.issuers);
        if both().any(|(before, after)| before.fetches_keys() != after.fetches_keys()) {
            names.extend(["jwks_file", "algorithms"].into_iter().filter(has_changed));
        }
        let asks = |issuer: &IssuerConfig| issuer.application.is_some();
        let asks_another = both().any(|(before, after)| asks(before) != asks(after));
        if asks_another && self.issuers.len() > 1 {
            names.push("client_id");
        }
        names
    }

    /// Returns the secrets of the issuers, if this option names a file with one.
    fn secrets_in_files(&self, option: &str) -> Vec<Option<&[u8]>> {
        let issuers = self.issuers.iter();
        let secrets = issuers.map(|issuer| {
            let credential = issuer.application.as_ref().map(|one| &one.credential);
            match (option, credential) {
                ("client_secret_file", Some(ApplicationCredential::Secret(secret))) => Some(secret),
                ("client_assertion_key_file", Some(ApplicationCredential::Key(key))) => {
                    Some(key.pem())
                }
                ("hs256_secret_file", _) => issuer.hs256_secret.as_ref(),
                ("proxy_credentials_file", _) => issuer.proxy.as_ref()?.credentials.as_ref(),
                _ => None,
            }
        });
        secrets
            .map(|secret| secret.map(|secret| secret.reveal()))
            .collect()
    }
}

/// The options as an operator has written them: which have a value, not whether the values are right together. No file
/// of a secret is read, but that of the proxy's credentials.
#[derive(Debug)]
pub struct WrittenOptions(Given);

impl WrittenOptions {
    /// Reads `plugin_opt_` pairs, and the file that `config_file` names.
    ///
    /// # Errors
    ///
    /// Returns the first thing that is wrong with how they are written.
    pub fn read(pairs: &[(String, String)]) -> Result<Self> {
        let mut given = Given::default();
        for (name, value) in pairs {
            given.set(name, value)?;
        }
        if let Some(path) = given.given("config_file").map(str::to_owned) {
            given.add_file(&path)?;
        }
        Ok(Self(given))
    }

    /// Returns where the tenant is, and the issuers of its tokens.
    pub(crate) fn tenant(&self) -> Result<(TenantAddress, Vec<String>)> {
        issuer::tenant(&self.0)
    }

    /// Returns how an application authenticates, if an option says so.
    pub(crate) fn client_auth(&self) -> Result<Option<ClientAuth>> {
        issuer::client_auth(&self.0)
    }

    /// Returns the proxy through which the tenant is asked.
    pub(crate) fn proxy(&self) -> Result<Option<HttpProxy>> {
        proxy::read(&self.0)
    }

    /// Returns the value of an option that is no secret: the one that is set, or the default.
    ///
    /// # Panics
    ///
    /// Panics if there is no such option.
    pub fn text(&self, name: &str) -> Option<&str> {
        let row = options::find(name).expect("a row of the table");
        self.0.text(name).filter(|_| !row.secret)
    }
}

#[cfg(test)]
mod tests;
