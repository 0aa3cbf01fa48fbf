//! The issuers whose tokens are accepted, and which of them a token names.
//!
//! Each issuer has its own keys, requirements, meaning of claims and, if it likes, policy file. A token is verified
//! with what its own issuer has, and with nothing else: the `iss` that nobody has verified yet only selects the issuer,
//! which accepts no other `iss`. At most one issuer checks passwords.

use std::{
    ops::{Index, IndexMut},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::{Map, Value};

use super::{Engine, EngineError, report::Report};
use crate::{
    account::{Account, IssuerNumber},
    auth0::{TenantClient, TenantInUse},
    config::{Config, ConfigError, IssuerConfig},
    jwt::{
        Requirements,
        fetch_report::FetchReport,
        jwks::KeySet,
        jwks_cache::{Fetch, FetchSchedule, JwksCache},
        jws::PresentedToken,
        saved_jwks::SavedJwks,
    },
    log::Level,
    policy_file::{InForce, PolicyReader},
    refusal::{Reason, Refusal, TokenDetail},
    threads::Spawn,
};
use acl::{claims::TokenRules, interner::Interner};

/// One issuer, and what is in force of its options.
pub(super) struct Issuer {
    pub(super) config: Arc<IssuerConfig>,
    pub(super) requirements: Requirements,
    pub(super) keys: Arc<JwksCache>,
    /// The tenant's client, which the threads use.
    pub(super) in_use: TenantInUse,
    /// The number of that client.
    pub(super) client_number: u64,
    /// Its own policy file, if it has one, or no rules in place of one that is gone.
    pub(super) policy_file: Option<InForce>,
    /// The rules in its tokens. The same claims may mean something else to another issuer.
    pub(super) interned_rules: Interner<TokenRules>,
}

/// All issuers; at least one.
pub(super) struct Issuers {
    all: Vec<Issuer>,
    /// Whether any of them has a policy file of its own.
    have_policies: bool,
}

impl Issuer {
    /// Prepares an issuer and starts nothing.
    fn new(
        config: &Config,
        issuer: &Arc<IssuerConfig>,
        schedule: FetchSchedule,
        (policy_reader, spawn): (&PolicyReader, Spawn),
    ) -> Result<Self, ConfigError> {
        let client_number = 1;
        let client = TenantClient::new(Arc::clone(issuer), config.timeout, client_number, None)?;
        let schedule = FetchSchedule {
            max_stale: issuer.jwks_max_stale,
            ..schedule
        };
        let keys = Arc::new(JwksCache::new(schedule, spawn));
        if let Some(set) = KeySet::of_file(issuer)? {
            keys.replace(set);
        }
        let policy_file = match &issuer.policy_file {
            Some(path) => policy_reader.read(path, None, &|| {})?,
            None => None,
        };
        Ok(Self {
            requirements: Requirements::of(issuer, config.leeway),
            keys,
            in_use: TenantInUse::new(client),
            client_number,
            policy_file: policy_file.map(|edition| InForce::new(edition, spawn)),
            interned_rules: Interner::default(),
            config: Arc::clone(issuer),
        })
    }

    /// Whether tokens of this issuer have this `iss`.
    fn is_named(&self, iss: &str) -> bool {
        self.config.names.iter().any(|name| name == iss)
    }
}

impl Issuers {
    /// Prepares the issuers of a configuration and starts nothing.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with a file that an option names.
    pub(super) fn new(
        config: &Config,
        schedule: FetchSchedule,
        policy_reader: &PolicyReader,
        spawn: Spawn,
    ) -> Result<Self, ConfigError> {
        let issuers = config.issuers.iter();
        let issuers =
            issuers.map(|issuer| Issuer::new(config, issuer, schedule, (policy_reader, spawn)));
        let mut new = Self {
            all: issuers.collect::<Result<_, _>>()?,
            have_policies: false,
        };
        new.follow();
        Ok(new)
    }

    /// Follows a change of the options.
    pub(super) fn follow(&mut self) {
        let have_policies = self.policies().next().is_some();
        self.have_policies = have_policies;
    }

    /// Returns all of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Issuer> {
        self.all.iter()
    }

    /// Returns all of them, to be changed.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Issuer> {
        self.all.iter_mut()
    }

    /// Returns the number of the one that checks passwords, or the first if none does.
    pub(super) fn passwords(&self) -> IssuerNumber {
        let asks = |issuer: &Issuer| issuer.config.application.is_some();
        IssuerNumber::of(self.all.iter().position(asks).unwrap_or_default())
    }

    /// Returns the one that checks passwords, or the first if none does.
    pub(super) fn password_issuer(&self) -> &Issuer {
        &self[self.passwords()]
    }

    /// Whether one of them checks passwords.
    pub(super) fn check_passwords(&self) -> bool {
        self.password_issuer().config.application.is_some()
    }

    /// Whether any of them has a policy file of its own.
    #[inline]
    pub(super) fn have_policies(&self) -> bool {
        self.have_policies
    }

    /// Returns the policy files that issuers have of their own.
    pub(super) fn policies(&self) -> impl Iterator<Item = &InForce> {
        self.iter().filter_map(|issuer| issuer.policy_file.as_ref())
    }

    /// Returns the issuer that a token names, which is not verified yet. Where there is only one, that verifies all
    /// tokens.
    ///
    /// # Errors
    ///
    /// Returns [`Reason::TokenIssuer`] if the token names none of them.
    pub(super) fn of_token(&self, token: &PresentedToken) -> Result<IssuerNumber, Refusal> {
        if self.all.len() == 1 {
            return Ok(IssuerNumber::default());
        }
        let named = token.issuer()?;
        self.of_name(&named).ok_or_else(|| {
            let detail = TokenDetail::Issuer {
                accepted: self.names(),
                found: named,
            };
            Refusal::new(Reason::TokenIssuer, detail)
        })
    }

    /// Returns the issuer with this `iss`.
    pub(super) fn of_name(&self, iss: &str) -> Option<IssuerNumber> {
        let place = self.iter().position(|issuer| issuer.is_named(iss));
        place.map(IssuerNumber::of)
    }

    /// Returns the issuer of an account, if its tokens are accepted.
    pub(super) fn of_account(&self, account: &Account) -> Option<IssuerNumber> {
        self.of_name(&account.issuer)
    }

    /// Returns the issuer that these claims name; the first if they name none.
    pub(super) fn of_claims(&self, claims: &Map<String, Value>) -> IssuerNumber {
        let iss = claims.get("iss").and_then(Value::as_str);
        iss.and_then(|iss| self.of_name(iss)).unwrap_or_default()
    }

    /// Returns all accepted values of `iss`.
    fn names(&self) -> Vec<Arc<str>> {
        let issuers = self.iter();
        let names = issuers.flat_map(|issuer| issuer.requirements.issuers.iter().cloned());
        names.collect()
    }

    /// Returns the keys of each, by number.
    pub(super) fn keys(&self) -> Vec<Arc<JwksCache>> {
        self.iter().map(|issuer| Arc::clone(&issuer.keys)).collect()
    }
}

impl Index<IssuerNumber> for Issuers {
    type Output = Issuer;

    /// Returns the first for a number that another instance of the plugin has given: where two instances are asked
    /// about one client, its session may be the other one's.
    #[inline]
    fn index(&self, number: IssuerNumber) -> &Issuer {
        self.all.get(number.place()).unwrap_or(&self.all[0])
    }
}

impl IndexMut<IssuerNumber> for Issuers {
    fn index_mut(&mut self, number: IssuerNumber) -> &mut Issuer {
        &mut self.all[number.place()]
    }
}

impl Engine {
    /// Returns the policy file that applies to clients of this issuer.
    #[inline]
    pub(super) fn policy_of(&self, issuer: IssuerNumber) -> Option<&InForce> {
        match self.issuers.have_policies() {
            true => self.own_or_common_policy(issuer),
            false => self.policy_file.as_ref(),
        }
    }

    #[inline(never)]
    fn own_or_common_policy(&self, issuer: IssuerNumber) -> Option<&InForce> {
        let issuer = &self.issuers[issuer];
        let (own, common) = (issuer.policy_file.as_ref(), self.policy_file.as_ref());
        match issuer.config.policy_file {
            Some(_) => own,
            // Where there is no common file, the empty one in place of an own file that is gone takes its rules
            // from the sessions that have them.
            None => common.or(own),
        }
    }

    /// Returns all policy files: the common one, and those of issuers.
    pub(super) fn policies(&self) -> impl Iterator<Item = &InForce> {
        self.policy_file.iter().chain(self.issuers.policies())
    }

    /// Starts fetching the keys of each issuer in the background. `saves` says that they are kept over a restart.
    ///
    /// # Errors
    ///
    /// Returns an error if no thread can be started.
    pub(super) fn start_fetching(&self, saves: bool) -> Result<(), EngineError> {
        for (place, issuer) in self.issuers.iter().enumerate() {
            if !issuer.config.fetches_keys() {
                continue;
            }
            let saved = self.saved_keys(issuer).filter(|_| saves);
            let fetched = self.pool.on_keys_fetched(IssuerNumber::of(place));
            let fetch = self.fetch(issuer, saved);
            issuer
                .keys
                .start(
                    issuer.config.tenant.name(),
                    fetch,
                    fetched,
                    self.log.clone(),
                )
                .map_err(EngineError::NoThread)?;
        }
        Ok(())
    }

    /// Puts the keys to use that were kept over a restart, and fetches none.
    pub(super) fn use_saved_keys(&self) {
        for issuer in self.issuers.iter().filter(|one| one.config.fetches_keys()) {
            drop(self.saved_keys(issuer));
        }
    }

    /// Returns what fetches the keys of an issuer, and saves them.
    fn fetch(&self, issuer: &Issuer, saved: Option<SavedJwks>) -> Fetch {
        let (in_use, log) = (issuer.in_use.clone(), self.log.clone());
        let complained = AtomicBool::new(false);
        Box::new(move || {
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
        })
    }

    /// Returns the file in which the keys of an issuer are kept over a restart, and puts the keys in it to use.
    fn saved_keys(&self, issuer: &Issuer) -> Option<SavedJwks> {
        let dir = self.config.state_dir.clone()?;
        let saved = SavedJwks::new(dir, &issuer.config);
        match saved.load(issuer.config.jwks_max_stale) {
            Ok(Some((keys, age))) => {
                self.tell(&Report::KeysRestored {
                    tenant: issuer.config.tenant.name(),
                    keys: keys.len(),
                    seconds: age.as_secs(),
                });
                issuer.keys.restore(keys, age);
            }
            Ok(None) => {}
            Err(why) => self.log.line(Level::Warning, why.to_string()),
        }
        Some(saved)
    }
}
