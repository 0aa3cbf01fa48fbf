//! Authentication and authorization: who may connect, and what they may do.
//!
//! * this file: what an instance consists of, and how it is started, reloaded and stopped
//! * `authenticate`: one CONNECT · `verify`: tokens · `admission`: the session that follows
//! * `pending`: sign-ins that wait for the tenant · `delays`: which of them may wait while the broker holds the CONNECT
//! * `renew`: a new token for a client that is in · `published_renewal`: one that the client has published
//! * `exchange`: tokens in the authentication data of MQTT 5 · `oauth_methods`: where they are in it
//! * `usernames`: the user names that the broker is told
//! * `access`: messages and subscriptions · `expiry`: when rights end, and what follows
//! * `administration`: commands of administrators · `refresh_keys`: one that may have to wait for a disk
//! * `reload`: what SIGHUP does · `rereading`: a reading of files on a thread
//! * `observer`: what the decision log and the shadow policy see
//! * `signing_keys`: which key admitted whom, and what follows when it is revoked
//! * `restored`: sessions that the broker restored from disk
//! * `aside`: what only the operator's tool uses
//! * `observe`: numbers for dashboards
//! * `report`: what the operator is told · `repeats`: how often · `tally`: a summary per minute of devices that had to
//!   try again
//!
//! Nothing here knows the broker or the network, and the time is an argument. What has to wait becomes a
//! [`Job`](crate::workers::Job), and comes back as a [`FinishedJob`](crate::workers::FinishedJob).

mod access;
mod administration;
mod admission;
mod aside;
mod authenticate;
mod common;
mod delays;
mod exchange;
mod expiry;
mod oauth_methods;
mod observe;
mod observer;
mod pending;
mod published_renewal;
mod refresh_keys;
pub(crate) mod reload;
mod renew;
pub(crate) mod repeats;
pub(crate) mod report;
mod rereading;
mod restored;
mod signing_keys;
pub(crate) mod tally;
mod usernames;
mod verify;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use crate::{
    auth0::{TenantClient, TenantInUse},
    cache::{logins::LoginCache, tokens::TokenCache},
    client::ClientKey,
    clock::Unix,
    config::{Config, ConfigError},
    control::socket::LocalSocket,
    identity::ClientIds,
    jwt::{
        self,
        fetch_report::FetchReport,
        jwks::KeySet,
        jwks_cache::{Fetch, FetchSchedule, JwksCache},
        saved_jwks::SavedJwks,
    },
    limits::known_callers::KnownCallers,
    log::{Level, Log},
    metrics::Counters,
    pending::PendingAuthentications,
    policy_file::{BrokerFeatures, InForce, PolicyReader},
    proxies::TrustedProxies,
    saved_sessions::SharedClaims,
    secret::{Fingerprinter, NoRandomness},
    sessions::{AfterDisconnect, InstanceId},
    threads::Spawn,
    workers::{self, Login, pool::Pool},
};
use acl::{answer_cache::AnswerCache, claims::TokenRules, interner::Interner};

pub use access::{Access, Action, Decision};
pub use administration::{AdminAnswer, Administered, administer};
pub use admission::Admission;
pub use aside::{WhyDecided, mistakes_in_files};
pub use authenticate::{Connect, Step};
use common::TenantId;
pub use common::{Admitted, Common};
use exchange::Exchanges;
pub use exchange::{AuthPacket, ExchangeStep, PresentedToken};
use expiry::SessionEnds;
pub use expiry::Warning;
pub use observe::collect as collect_metrics;
use observer::Observer;
pub use pending::{DelayedAnswer, Wait};
use published_renewal::PublishedRenewals;
pub use published_renewal::RenewalAnswer;
use refresh_keys::KeyFile;
use reload::Reloading;
use renew::Renewals;
pub use renew::{FinishedRenewal, Renewal, RenewalWait};
use repeats::Repeats;
use report::Report;
use restored::RestoredRules;
use signing_keys::SigningKeys;
use tally::Tally;
pub use usernames::LocalUsers;

/// One instance of the plugin. Only the broker's thread uses it, so nothing in it has a lock, except what the threads
/// of the pool and of the key cache share with it.
pub struct Engine {
    id: InstanceId,
    config: Arc<Config>,
    requirements: jwt::Requirements,
    keys: Arc<JwksCache>,
    /// The tenant's client, which the threads use.
    in_use: TenantInUse,
    /// The number of that client.
    client_number: u64,
    pool: Pool,
    fingerprinter: Fingerprinter,
    log: Log,
    login_cache: LoginCache,
    token_cache: TokenCache,
    interned_rules: Interner<TokenRules>,
    interned_claims: Interner<SharedClaims>,
    restored_rules: RestoredRules,
    policy_file: Option<InForce>,
    policy_reader: PolicyReader,
    /// The number of the configuration in force.
    generation: u64,
    /// Whether a later one was read that could not be used.
    reload_failed: bool,
    reloading: Reloading,
    key_file: KeyFile,
    spawn: Spawn,
    /// Messages that were allowed a moment ago.
    answers: AnswerCache,
    warned_of_address: bool,
    /// Whether admissions tell the client as rules see it, with all its claims. Only a tool needs that.
    keeps_claims: bool,
    pending: PendingAuthentications,
    renewals: Renewals,
    /// Whether the broker removes subscriptions, so that it is worth remembering them.
    removes_subscriptions: bool,
    /// Subscriptions that a renewal no longer covers, until a tick removes them.
    uncovered: Vec<(Arc<str>, Box<str>)>,
    exchanges: Exchanges,
    published: PublishedRenewals,
    /// Where administrators on this machine command, if it is open.
    socket: Option<LocalSocket>,
    tenant: TenantId,
    known_callers: KnownCallers,
    /// The refusals that were reported, and how often they were repeated.
    repeats: Repeats,
    /// When it was last reported that the clock was set.
    clock_reported: Option<Instant>,
    tally: Tally,
    session_ends: SessionEnds,
    signing_keys: SigningKeys,
    /// What happened, as numbers for a dashboard.
    counters: Counters,
    observer: Observer,
}

/// Why an instance cannot start.
#[derive(Debug)]
pub enum EngineError {
    /// An option or a file is wrong.
    Config(ConfigError),
    /// The system gave no random bytes.
    NoRandomness,
    /// No thread can be started to fetch the tenant's keys.
    NoThread(io::Error),
}

impl From<ConfigError> for EngineError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl From<NoRandomness> for EngineError {
    fn from(_: NoRandomness) -> Self {
        Self::NoRandomness
    }
}

impl Engine {
    /// Prepares an instance and starts nothing. All instances in a broker share `common`; every later call gets the
    /// same.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the configuration or the system.
    pub fn new(
        config: Config,
        schedule: FetchSchedule,
        log: Log,
        spawn: Spawn,
        common: &mut Common,
    ) -> Result<Self, EngineError> {
        // Longer than a screen, because it is one field after the other.
        let config = Arc::new(config);
        let client_number = 1;
        let tenant_client = TenantClient::new(
            Arc::clone(&config.issuers[0]),
            config.timeout,
            client_number,
            None,
        )?;
        let in_use = TenantInUse::new(tenant_client);
        let max_stale = config.only().jwks_max_stale;
        let keys = Arc::new(JwksCache::new(
            FetchSchedule {
                max_stale,
                ..schedule
            },
            spawn,
        ));
        if let Some(set) = KeySet::of_file(config.only())? {
            keys.replace(set);
        }
        let policy_reader = PolicyReader {
            option: "policy_file",
            // What the broker cannot tell is found out when it starts.
            features: BrokerFeatures::ALL,
            log: log.clone(),
        };
        let policy_file = match &config.policy_file {
            Some(path) => policy_reader.read(path, None, &|| {})?,
            None => None,
        };
        let worker = {
            let in_use = in_use.clone();
            move |login: &Login, deadline| workers::log_in(&in_use.current(), login, deadline)
        };
        let pool = Pool::new(
            config.login_workers,
            spawn,
            Box::new(worker),
            Arc::clone(&keys),
        );
        Ok(Self {
            id: common.new_instance(),
            requirements: jwt::Requirements::of(config.only(), config.leeway),
            keys,
            in_use,
            client_number,
            pool,
            spawn,
            fingerprinter: Fingerprinter::new()?,
            login_cache: LoginCache::new(config.login_cache),
            token_cache: TokenCache::default(),
            interned_rules: Interner::default(),
            policy_file: policy_file.map(|edition| InForce::new(edition, spawn)),
            policy_reader,
            generation: 1,
            reload_failed: false,
            reloading: Reloading::default(),
            key_file: KeyFile::default(),
            answers: AnswerCache::default(),
            interned_claims: Interner::default(),
            restored_rules: RestoredRules::default(),
            warned_of_address: false,
            keeps_claims: false,
            pending: PendingAuthentications::default(),
            renewals: Renewals::default(),
            removes_subscriptions: false,
            uncovered: Vec::new(),
            exchanges: Exchanges::default(),
            published: PublishedRenewals::default(),
            socket: None,
            tenant: common.tenant(&config),
            known_callers: KnownCallers::default(),
            config,
            log,
            repeats: Repeats::default(),
            clock_reported: None,
            tally: Tally::default(),
            session_ends: SessionEnds::default(),
            signing_keys: SigningKeys::default(),
            counters: Counters::default(),
            observer: Observer::default(),
        })
    }

    /// Starts fetching keys in the background. `features` is what the broker tells and does.
    ///
    /// # Errors
    ///
    /// Returns an error if no thread can be started, or if the policy file needs what the broker cannot tell.
    pub fn start(
        &mut self,
        common: &mut Common,
        features: BrokerFeatures,
    ) -> Result<(), EngineError> {
        self.policy_reader.features = features;
        self.removes_subscriptions = features.removes_subscriptions;
        if let (Some(path), Some(policy)) = (&self.config.policy_file, &self.policy_file) {
            self.policy_reader.check(path, policy.rules())?;
            let size = policy.rules().size();
            self.tell(&Report::PolicyFile { size });
        }
        self.warn_of_free_client_ids();
        match &self.config.state_dir {
            Some(_) if features.restores_nothing => self.tell(&Report::NoPersistence),
            Some(dir) => common.saved.open(dir, self.spawn, &self.log),
            None => {}
        }
        self.start_observer()?;
        self.open_socket(common);
        if self.config.only().application.is_some() {
            self.pool.fill();
        }
        if !self.config.only().fetches_keys() {
            return Ok(());
        }
        let (in_use, log, saved) = (self.in_use.clone(), self.log.clone(), self.saved_keys());
        let complained = AtomicBool::new(false);
        let fetch: Fetch = Box::new(move || {
            let tenant = in_use.current();
            if let Err(error) = tenant.rediscover() {
                let line = FetchReport::EndpointsKept(&error).to_string();
                log.line(Level::Warning, line);
            }
            let keys = tenant.fetch_keys()?;
            let good_for = tenant.jwks_max_stale();
            match saved.as_ref().map(|saved| saved.save(&keys, good_for)) {
                None => {}
                Some(Ok(())) => complained.store(false, Ordering::Relaxed),
                Some(Err(why)) if !complained.swap(true, Ordering::Relaxed) => {
                    log.line(Level::Warning, why.to_string());
                }
                Some(Err(_)) => {}
            }
            Ok(keys)
        });
        self.keys
            .start(fetch, self.pool.on_keys_fetched(), self.log.clone())
            .map_err(EngineError::NoThread)
    }

    /// Returns the file in which the keys are kept over a restart, and puts the keys in it to use.
    fn saved_keys(&self) -> Option<SavedJwks> {
        let dir = self.config.state_dir.clone()?;
        let saved = SavedJwks::new(dir, self.config.only());
        match saved.load(self.config.only().jwks_max_stale) {
            Ok(Some((keys, age))) => {
                self.tell(&Report::KeysRestored {
                    keys: keys.len(),
                    seconds: age.as_secs(),
                });
                self.keys.restore(keys, age);
            }
            Ok(None) => {}
            Err(why) => self.log.line(Level::Warning, why.to_string()),
        }
        Some(saved)
    }

    /// Ends what [`Self::start`] started, and waits for it: first for what is being written, because the tenant may not
    /// respond, and no thread is waited for after one that was left behind.
    pub fn stop(&mut self) {
        self.observer.stop();
        if let Some(socket) = self.socket.take() {
            socket.stop();
        }
        self.reloading.stop();
        self.stop_reading_keys();
        self.keys.stop();
        self.pool.stop();
    }

    /// Forgets the clients whose CONNECT the broker holds for this instance. They get no answer.
    pub fn forget_pending(&mut self, common: &mut Common) {
        self.pending.clear(&mut common.tickets);
    }

    /// Whether MQTT 5 clients may wait too, where the broker takes the answer later.
    pub fn delays_mqtt5(&self) -> bool {
        self.config.delay_mqtt5
    }

    /// Returns which instance this is.
    pub fn id(&self) -> InstanceId {
        self.id
    }

    /// Returns the keys of the tenant.
    pub fn keys(&self) -> &JwksCache {
        &self.keys
    }

    /// Whether a rule may ask for the fingerprint of a certificate.
    pub fn looks_at_certificates(&self) -> bool {
        self.policy_file.is_some()
    }

    /// Returns the proxies that may tell the address of a client.
    pub fn trusted_proxies(&self) -> &TrustedProxies {
        &self.config.trusted_proxies
    }

    /// Warns once that a client counts as having no address, because every client could make up the one that the broker
    /// tells.
    fn warn_of_unverified_address(&mut self) {
        let matters = self.config.only().application.is_some() || self.policy_file.is_some();
        if matters && !std::mem::replace(&mut self.warned_of_address, true) {
            self.tell(&Report::UnverifiedAddress);
        }
    }

    /// Warns of rights that depend on the client ID. A device chooses its client ID, so everybody has such rights
    /// unless an option binds client IDs. This is not an error, because in some fleets every device is trusted.
    fn warn_of_free_client_ids(&self) {
        if !matches!(self.config.only().client_ids, ClientIds::Any) {
            return;
        }
        let policy_file = self.policy_file.as_ref();
        let entry = policy_file.and_then(InForce::looks_at_client_id);
        if entry.is_some() || self.config.only().reading.placeholders {
            self.tell(&Report::UnboundClientIds { entry });
        }
    }

    /// Records that a client has gone.
    pub fn leave(
        &mut self,
        common: &mut Common,
        key: ClientKey,
        after_disconnect: AfterDisconnect,
        now: Unix,
    ) {
        self.exchanges.forget(key);
        self.renewals.forget(key);
        let credential = common.sessions.leave(key, after_disconnect);
        // If the broker keeps the session, the device will come back.
        if let Some(credential) = credential
            && after_disconnect != AfterDisconnect::Kept
        {
            self.token_cache.client_left(credential, now);
        }
    }

    /// Records that the broker has asked about every session that it has ([`Common::begin_recheck`]).
    pub fn end_recheck(&mut self, common: &mut Common) {
        let gone = common.sessions.end_recheck();
        let sessions = &common.sessions;
        let saved = &mut common.saved;
        let gone = saved.end_recheck(gone.is_some(), |id| sessions.has_id(id)) + gone.unwrap_or(0);
        // Afterwards, because a restored session in the table is one that the broker asked about.
        self.check_restored(common);
        if gone > 0 {
            self.tell(&Report::SessionsGone(gone));
        }
    }

    /// Forgets sessions that have ended, and what has expired. Call it while the broker disconnects nobody. Returns
    /// whether it was so much that memory should be returned to the system.
    pub fn reap(&mut self, common: &mut Common, now: Unix) -> bool {
        self.tell_tally(now);
        let sessions = common.sessions.reap(now);
        let tokens = self.token_cache.remove_expired(now);
        let logins = self.login_cache.remove_expired(now);
        self.interned_rules.tidy();
        self.interned_claims.tidy();
        common.end_saved();
        sessions || tokens || logins
    }

    /// Adjusts to a wall clock that was set by this many seconds. [`Common::clock_was_set`] does the same for what
    /// instances share. A verified token still ends at its own `exp`.
    pub fn clock_was_set(&mut self, by: i64) {
        self.login_cache.clock_was_set(by);
    }
}

/// Returns what a token must satisfy.
#[cfg(test)]
mod testing {
    use super::*;
    use crate::{jwt::jwks_cache::FetchSchedule, threads};

    /// Returns an instance that needs no network, and its log.
    pub(super) fn engine() -> (Engine, Log) {
        engine_with(&[])
    }

    /// The same with further options.
    pub(super) fn engine_with(further: &[(&str, &str)]) -> (Engine, Log) {
        let mut secret = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut secret, &[b'x'; 32]).unwrap();
        let options = [
            ("issuer", "https://t.example/"),
            ("audience", "https://mqtt.example/"),
            ("algorithms", "HS256"),
            ("hs256_secret_file", secret.path().to_str().unwrap()),
        ];
        let options = options.iter().chain(further);
        let options = options.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let options = options.collect();
        let config = Config::read(options).unwrap();
        let log = Log::default();
        let engine = Engine::new(
            config,
            FetchSchedule::default(),
            log.clone(),
            threads::plain,
            &mut Common::default(),
        );
        (engine.unwrap(), log)
    }
}
