//! Authentication and authorization: who may connect, and what they may do.
//!
//! * this file: what an instance consists of, and how it is started, reloaded and stopped
//! * `issuers`: whose tokens are accepted
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
//! * `diagnosis`: what only the operator's tool uses
//! * `observe`: numbers for dashboards
//! * `report`: what the operator is told · `repeats`: how often · `tally`: a summary per minute of devices that had to
//!   try again
//!
//! Nothing here knows the broker or the network, and the time is an argument. What has to wait becomes a
//! [`Job`](crate::workers::Job), and comes back as a [`FinishedJob`](crate::workers::FinishedJob).

mod access;
mod administration;
mod admission;
mod authenticate;
mod common;
mod delays;
mod diagnosis;
mod exchange;
mod expiry;
mod issuers;
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

use std::{io, sync::Arc, time::Instant};

use crate::{
    account::IssuerNumber,
    cache::{logins::LoginCache, tokens::TokenCache},
    client::ClientKey,
    clock::Unix,
    config::{Config, ConfigError},
    control::socket::LocalSocket,
    jwt::jwks_cache::{FetchSchedule, JwksCache},
    limits::known_callers::KnownCallers,
    log::Log,
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
use acl::{answer_cache::AnswerCache, interner::Interner};

pub use access::{Access, Action, Decision};
pub use administration::{AdminAnswer, Administered, administer};
pub use admission::Admission;
pub use authenticate::{Connect, Step};
use common::TenantId;
pub use common::{Admitted, Common};
pub use diagnosis::{WhyDecided, mistakes_in_files};
use exchange::Exchanges;
pub use exchange::{AuthPacket, ExchangeStep, PresentedToken};
use expiry::SessionEnds;
pub use expiry::Warning;
use issuers::Issuers;
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
use usernames::LocalUsernames;

/// One instance of the plugin. Only the broker's thread uses it, so nothing in it has a lock, except what the threads
/// of the pool and of the key cache share with it.
pub struct Engine {
    id: InstanceId,
    config: Arc<Config>,
    issuers: Issuers,
    pool: Pool,
    fingerprinter: Fingerprinter,
    log: Log,
    login_cache: LoginCache,
    token_cache: TokenCache,
    interned_claims: Interner<SharedClaims>,
    restored_rules: RestoredRules,
    /// The policy file of the issuers that have none of their own.
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
    local_usernames: LocalUsernames,
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
        let issuers = Issuers::new(&config, schedule, &policy_reader, spawn)?;
        let worker = {
            let in_use = issuers.password_issuer().in_use.clone();
            move |login: &Login, deadline| workers::log_in(&in_use.current(), login, deadline)
        };
        let pool = Pool::new(
            config.login_workers,
            spawn,
            Box::new(worker),
            issuers.keys(),
        );
        Ok(Self {
            id: common.new_instance(),
            issuers,
            pool,
            spawn,
            fingerprinter: Fingerprinter::new()?,
            login_cache: LoginCache::new(config.login_cache),
            token_cache: TokenCache::default(),
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
            local_usernames: LocalUsernames::default(),
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
        let for_all = (&self.config.policy_file, &self.policy_file);
        let of_issuers = self.issuers.iter();
        let of_issuers = of_issuers.map(|issuer| (&issuer.config.policy_file, &issuer.policy_file));
        for (path, policy) in std::iter::once(for_all).chain(of_issuers) {
            if let (Some(path), Some(policy)) = (path, policy) {
                self.policy_reader.check(path, policy.rules())?;
                let size = policy.rules().size();
                self.tell(&Report::PolicyFile { path, size });
            }
        }
        self.warn_of_free_client_ids();
        match &self.config.state_dir {
            Some(_) if features.restores_nothing => self.tell(&Report::NoPersistence),
            Some(dir) => common.saved.open(dir, self.spawn, &self.log),
            None => {}
        }
        self.start_observer()?;
        self.open_socket(common);
        if self.issuers.check_passwords() {
            self.pool.fill();
        }
        self.start_fetching(true)
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
        for issuer in self.issuers.iter() {
            issuer.keys.stop();
        }
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

    /// Returns the keys of the first issuer.
    pub fn keys(&self) -> &JwksCache {
        &self.issuers[IssuerNumber::default()].keys
    }

    /// Whether a rule may ask for the fingerprint of a certificate.
    pub fn looks_at_certificates(&self) -> bool {
        self.policies().next().is_some()
    }

    /// Returns the proxies that may tell the address of a client.
    pub fn trusted_proxies(&self) -> &TrustedProxies {
        &self.config.trusted_proxies
    }

    /// Warns once that a client counts as having no address, because every client could make up the one that the broker
    /// tells.
    fn warn_of_unverified_address(&mut self) {
        let matters = self.issuers.check_passwords() || self.looks_at_certificates();
        if matters && !std::mem::replace(&mut self.warned_of_address, true) {
            self.tell(&Report::UnverifiedAddress);
        }
    }

    /// Warns of rights that depend on the client ID. A device chooses its client ID, so everybody has such rights
    /// unless an option binds client IDs. This is not an error, because in some fleets every device is trusted.
    fn warn_of_free_client_ids(&self) {
        for (place, issuer) in self.issuers.iter().enumerate() {
            if issuer.config.binds_client_ids() {
                continue;
            }
            let policy_file = self.policy_of(IssuerNumber::of(place));
            let entry = policy_file.and_then(InForce::looks_at_client_id);
            if entry.is_some() || issuer.config.reading.placeholders {
                let own = issuer.config.policy_file.as_deref();
                let path = own.or(self.config.policy_file.as_deref());
                return self.tell(&Report::UnboundClientIds {
                    entry: entry.zip(path),
                });
            }
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
        for issuer in self.issuers.iter_mut() {
            issuer.interned_rules.tidy();
        }
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
