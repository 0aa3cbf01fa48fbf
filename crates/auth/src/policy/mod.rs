//! The decisions, top to bottom: who may come in, and what they may do.
//!
//! * this file: what there is to decide with, started, reloaded and stopped
//! * `authenticate`: one CONNECT, on one page · `verify`: what tokens are worth · `admission`: which session follows
//! * `pending`: sign-ins that wait for the tenant
//! * `usernames`: the user names that the broker is told
//! * `delays`: under which client IDs a sign-in may wait
//! * `access`: messages and subscriptions · `report`: what the operator is told, and `repeats`: how often
//! * `tally`: once a minute, which devices had to try again
//!
//! Nothing here knows the broker or the network; time is an argument. What has to wait becomes a
//! [`Job`](crate::workers::Job) for a thread that may, and comes back as a [`FinishedJob`](crate::workers::FinishedJob).

mod access;
mod admission;
mod authenticate;
mod common;
mod delays;
mod pending;
pub(crate) mod repeats;
pub(crate) mod report;
pub(crate) mod tally;
mod usernames;
mod verify;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use crate::{
    auth0::TenantClient,
    cache::{logins::LoginCache, tokens::TokenCache},
    client::ClientKey,
    clock::Unix,
    config::{Algorithm, Config, ConfigError, KeySource, errors::Problem},
    files,
    identity::ClientIds,
    jwt::{
        self,
        jwks::KeySet,
        jwks_cache::{Fetch, FetchSchedule, JwksCache},
        jws,
        saved_jwks::SavedJwks,
    },
    limits::known_callers::KnownCallers,
    log::{Level, Log},
    pending::PendingAuthentications,
    policy_file::{InForce, Tells},
    proxies::TrustedProxies,
    refusal::{Reason, Refusal},
    secret::Fingerprinter,
    sessions::AfterDisconnect,
    threads::Spawn,
    workers::{self, Login, pool::Pool},
};
use acl::{claims::Grants, interner::Interner};
use input::text::Quoted;

pub use access::{Access, Action, Decision};
pub use admission::Admission;
pub use authenticate::{Connect, Step};
pub use common::Common;
use common::TenantId;
pub use pending::{DelayedAnswer, Wait};
use repeats::Repeats;
use report::Report;
use tally::Tally;
pub use usernames::LocalUsers;

/// All that one instance of the plugin decides with. Only the broker's thread touches it, so nothing in it
/// has a lock but what the threads of the pool and of the key store share with it.
pub struct Engine {
    config: Arc<Config>,
    rules: jwt::Requirements,
    keys: Arc<JwksCache>,
    tenant_client: Arc<TenantClient>,
    pool: Pool,
    prints: Fingerprinter,
    log: Log,
    login_cache: LoginCache,
    token_cache: TokenCache,
    shared: Interner<Grants>,
    policy_file: Option<InForce>,
    tells: Tells,
    warned_of_address: bool,
    pending: PendingAuthentications,
    tenant: TenantId,
    known_callers: KnownCallers,
    /// Which refusals were told, and how often they came again.
    repeats: Repeats,
    /// When it was told last that the clock was set.
    clock_told: Option<Instant>,
    tally: Tally,
}

impl Engine {
    /// Prepares everything; starts nothing. `common` is what all instances in the broker share: every later
    /// call takes the same.
    ///
    /// # Errors
    ///
    /// One line that names the option, its value and the fix.
    pub fn new(
        config: Config,
        pace: FetchSchedule,
        log: Log,
        spawn: Spawn,
        common: &mut Common,
    ) -> Result<Self, String> {
        let config = Arc::new(config);
        let tenant = Arc::new(tenant_client(&config)?);
        let max_stale = config.jwks_max_stale;
        let keys = Arc::new(JwksCache::new(FetchSchedule { max_stale, ..pace }, spawn));
        if let Some(set) = keys_from_file(&config)? {
            keys.replace(set);
        }
        let rules = jwt::Requirements {
            issuers: config.issuers.iter().map(|one| (&**one).into()).collect(),
            algorithms: config.algorithms.clone(),
            secret: config.hs256_secret.as_ref().and_then(jws::HmacSecret::new),
            leeway: config.leeway,
        };
        let worker = {
            let (tenant, config) = (Arc::clone(&tenant), Arc::clone(&config));
            move |login: &Login, deadline| workers::log_in(&tenant, &config, login, deadline)
        };
        let pool = Pool::new(
            config.login_workers,
            spawn,
            Box::new(worker),
            Arc::clone(&keys),
        );
        Ok(Self {
            rules,
            keys,
            tenant_client: tenant,
            pool,
            prints: Fingerprinter::new()?,
            login_cache: LoginCache::new(config.login_cache),
            token_cache: TokenCache::default(),
            shared: Interner::default(),
            policy_file: config
                .policy_file
                .as_deref()
                .map(InForce::read)
                .transpose()?,
            tells: Tells::default(),
            warned_of_address: false,
            pending: PendingAuthentications::default(),
            tenant: common.tenant(&config),
            known_callers: KnownCallers::default(),
            config,
            log,
            repeats: Repeats::default(),
            clock_told: None,
            tally: Tally::default(),
        })
    }

    /// Starts fetching keys in the background. `tells` is what the broker can.
    ///
    /// # Errors
    ///
    /// If there is no thread to be had, or the policy file needs what the broker cannot.
    pub fn start(&mut self, tells: Tells) -> Result<(), String> {
        self.tells = tells;
        if let Some(policy) = &self.policy_file {
            policy.check(tells, &self.log)?;
            let rules = policy.book().len();
            self.log
                .line(Level::Info, format!("the policy file has {rules} rules"));
        }
        self.warn_of_free_client_ids();
        if self.config.application.is_some() {
            self.pool.fill();
        }
        let only_secrets = self.config.algorithms == [Algorithm::Hs256];
        if self.config.keys != KeySource::Tenant || only_secrets {
            return Ok(());
        }
        let tenant = Arc::clone(&self.tenant_client);
        let fetch: Fetch = match self.saved_keys() {
            None => Box::new(move || tenant.fetch_keys()),
            Some(saved) => {
                let log = self.log.clone();
                let complained = AtomicBool::new(false);
                Box::new(move || {
                    let keys = tenant.fetch_keys()?;
                    match saved.save(&keys) {
                        Ok(()) => complained.store(false, Ordering::Relaxed),
                        Err(why) if !complained.swap(true, Ordering::Relaxed) => {
                            log.line(Level::Warning, why);
                        }
                        Err(_) => {}
                    }
                    Ok(keys)
                })
            }
        };
        self.keys
            .start(fetch, self.pool.on_keys_fetched(), self.log.clone())
    }

    /// Where the keys are kept over a restart. Puts those to use that are there.
    fn saved_keys(&self) -> Option<SavedJwks> {
        let dir = self.config.state_dir.clone()?;
        let saved = SavedJwks::new(dir, self.config.tenant.name(), self.config.jwks_max_stale);
        match saved.load() {
            Ok(Some((keys, age))) => {
                self.log.line(
                    Level::Info,
                    format!(
                        "{} signing keys of the tenant, fetched {} s ago, are in use until it answers",
                        keys.len(),
                        age.as_secs()
                    ),
                );
                self.keys.restore(keys, age);
            }
            Ok(None) => {}
            Err(why) => self.log.line(Level::Warning, why),
        }
        Some(saved)
    }

    /// Ends what [`Self::start`] started, and waits for it.
    pub fn stop(&self) {
        self.keys.stop();
        self.pool.stop();
    }

    /// Forgets the clients whose CONNECT the broker holds for this instance. They get no answer.
    pub fn forget_pending(&mut self, common: &mut Common) {
        self.pending.clear(&mut common.tickets);
    }

    /// Whether MQTT 5 clients, too, are answered later where the broker can.
    pub fn delays_mqtt5(&self) -> bool {
        self.config.delay_mqtt5
    }

    /// The tenant's keys.
    pub fn keys(&self) -> &JwksCache {
        &self.keys
    }

    /// Whether the fingerprints of certificates are of interest.
    pub fn looks_at_certificates(&self) -> bool {
        self.policy_file.is_some()
    }

    /// The proxies whose word about a client's address counts.
    pub fn trusted_proxies(&self) -> &TrustedProxies {
        &self.config.trusted_proxies
    }

    /// Says once that a client has no address because everybody could have written the one that the broker
    /// tells.
    fn warn_of_unverified_address(&mut self) {
        let matters = self.config.application.is_some() || self.policy_file.is_some();
        if matters && !std::mem::replace(&mut self.warned_of_address, true) {
            self.log.line(
                Level::Warning,
                "a websockets client came, and this broker takes its address from the header X-Forwarded-For, which \
                 every client can write: such clients count as having no address; fix: let them come through a proxy \
                 only, and list it in trusted_proxies",
            );
        }
    }

    /// SIGHUP: keys are read or fetched again, and the policy file is read again. A file that is
    /// broken now changes nothing.
    pub fn reload(&mut self, common: &mut Common) {
        common.limits(self.tenant).reset_after_reload();
        if let Some(policy) = &mut self.policy_file {
            match policy.reload(self.tells, &self.log) {
                Ok(rules) => {
                    let line =
                        format!("the policy file was read again: {rules} rules are in force");
                    self.log.line(Level::Info, line);
                    self.warn_of_free_client_ids();
                }
                Err(why) => self.log.line(
                    Level::Error,
                    format!("{why}; the policy read before stays in force"),
                ),
            }
        }
        match keys_from_file(&self.config) {
            Ok(Some(set)) => self.keys.replace(set),
            Ok(None) => self.keys.refresh_soon(),
            Err(why) => self.log.line(
                Level::Error,
                format!("{why}; the keys read before stay in use"),
            ),
        }
    }

    /// A device chooses its client id, so a right that rests on it is everybody's unless an option says
    /// whose it is. Not an error: there are fleets in which every device is trusted.
    fn warn_of_free_client_ids(&self) {
        if !matches!(self.config.client_ids, ClientIds::Any) {
            return;
        }
        let book = self.policy_file.as_ref().map(InForce::book);
        let what = match book.and_then(|book| book.looks_at_client_id()) {
            Some(rule) => format!("rule {} of the policy file looks at", Quoted(rule)),
            None if self.config.reading.placeholders => {
                "with claim_placeholders a token's filters may hold".into()
            }
            None => return,
        };
        self.log.line(
            Level::Warning,
            format!("{what} the client id, which every device chooses for itself; fix: set client_id_template or client_id_claim"),
        );
    }

    /// A client has gone.
    pub fn leave(
        &mut self,
        common: &mut Common,
        key: ClientKey,
        after_disconnect: AfterDisconnect,
        now: Unix,
    ) {
        let credential = common.sessions.leave(key, after_disconnect);
        // A session that the broker keeps is a device that comes back.
        if let Some(credential) = credential
            && after_disconnect != AfterDisconnect::Kept
        {
            self.token_cache.client_left(credential, now);
        }
    }

    /// The broker has asked about every session that it has ([`Common::begin_recheck`]).
    pub fn end_recheck(&self, common: &mut Common) {
        let gone = common.sessions.end_recheck();
        if gone > 0 {
            self.log.line(
                Level::Info,
                format!("the broker no longer has {gone} of the sessions that it kept: their client ids are free"),
            );
        }
    }

    /// Forgets who has gone for good, and what need not be remembered any longer; for a moment when
    /// the broker disconnects nobody. Whether it was so much that the memory should be given back.
    pub fn reap(&mut self, common: &mut Common, now: Unix) -> bool {
        self.tell_tally(now);
        let sessions = common.sessions.reap(now);
        let tokens = self.token_cache.remove_expired(now);
        let logins = self.login_cache.remove_expired(now);
        sessions || tokens || logins
    }

    /// The wall clock was set by this many seconds. What the instances share is told by itself:
    /// [`Common::clock_was_set`]. A token that was verified is as good as its own `exp` says.
    pub fn clock_was_set(&mut self, by: i64) {
        self.login_cache.clock_was_set(by);
    }

    /// The clients to disconnect, because their rights have ended.
    pub fn expire(&mut self, common: &mut Common, now: Unix) -> Vec<(ClientKey, Arc<str>)> {
        let expired = common.sessions.expired(now);
        for (_, client_id) in &expired {
            let refusal = Refusal::new(Reason::RightsExpired, "its token has expired");
            let refusal = &refusal;
            self.tell(&Report::Disconnected { client_id, refusal });
        }
        expired
    }
}

fn tenant_client(config: &Config) -> Result<TenantClient, String> {
    TenantClient::new(config).map_err(|problem| {
        let error = match &config.ca_file {
            Some(path) => ConfigError::new("ca_file", &path.display().to_string(), problem),
            None => ConfigError::hidden("ca_file", problem),
        };
        error.to_string()
    })
}

fn keys_from_file(config: &Config) -> Result<Option<KeySet>, ConfigError> {
    /// A key set has a few kilobytes.
    const MAX_FILE: u64 = 256 * 1024;
    let KeySource::File(path) = &config.keys else {
        return Ok(None);
    };
    let error = |problem| ConfigError::new("jwks_file", &path.display().to_string(), problem);
    let content = files::read(path, MAX_FILE).map_err(|why| error(Problem::File(why)))?;
    let keys =
        KeySet::parse(&content.bytes).map_err(|why| error(Problem::Keys(why.to_string())))?;
    Ok(Some(keys))
}

#[cfg(test)]
mod testing {
    use super::*;
    use crate::{jwt::jwks_cache::FetchSchedule, threads};

    /// A policy that needs no network, and its log.
    pub fn policy() -> (Engine, Log) {
        let mut secret = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut secret, &[b'x'; 32]).unwrap();
        let options = [
            ("issuer", "https://t.example/"),
            ("audience", "https://mqtt.example/"),
            ("algorithms", "HS256"),
            ("hs256_secret_file", secret.path().to_str().unwrap()),
        ];
        let options = options.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let config = Config::read(options.to_vec()).unwrap();
        let log = Log::default();
        let policy = Engine::new(
            config,
            FetchSchedule::default(),
            log.clone(),
            threads::plain,
            &mut Common::default(),
        );
        (policy.unwrap(), log)
    }
}
