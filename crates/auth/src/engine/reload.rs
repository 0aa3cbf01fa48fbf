//! SIGHUP: the configuration is read again, and takes effect whole or not at all.
//!
//! What the options and the files say at one time is a generation. [`Reader`] reads the next one on a thread and builds
//! all that depends on it off to the side. Only if nothing is wrong with any of it, [`Engine::put_in_force`] exchanges
//! it on the broker's thread, between two events. So no event sees a part of it.
//!
//! Sessions keep the rights and the time that they were admitted with. Only the rules of the policy file reach them, at
//! their next message (`access.rs`). What is remembered about credentials is forgotten if an option has changed that it
//! may depend on: the table of options says which ([`Reread::Forgets`]). A sign-in that waits for the tenant meanwhile
//! is decided by the generation in force when the answer comes; its answer is not remembered for later ones, because
//! the key of the login cache contains the number of the client that asks.
//!
//! The tenant's keys are no part of a generation, because the tenant changes them when it likes. SIGHUP has them
//! fetched soon, and the endpoints discovered again.

use std::{path::PathBuf, sync::Arc, time::Duration};

use super::{
    Common, Engine,
    issuers::Issuer,
    report::Report,
    rereading::{self, ReadBy, Rereading},
};
use crate::{
    auth0::TenantClient,
    cache::logins::LoginCache,
    config::{
        Config, ConfigError, IssuerConfig,
        options::{self, Reread},
    },
    jwt::{Requirements, jwks::KeySet, jwks_cache::JwksCache},
    policy_file::{Edition, InForce, PolicyReader},
    threads::Spawn,
};

/// Why a generation stays in force.
#[derive(Debug)]
pub(crate) enum ReloadError {
    /// An option or a file is wrong.
    Config(ConfigError),
    /// These options have changed, and take a restart.
    NeedsRestart(Vec<&'static str>),
    /// The thread that read has panicked.
    Panicked,
}

impl From<ConfigError> for ReloadError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

/// What is being read.
pub(super) type Reloading = Rereading<Result<NewGeneration, ReloadError>>;

/// A generation that is not in force yet.
pub(super) struct NewGeneration {
    config: Arc<Config>,
    /// The options that differ from the generation in force, in value or in the content of their files.
    changes: Vec<&'static str>,
    /// Whether to forget what is remembered about credentials.
    forgets: bool,
    /// What is new about each issuer.
    issuers: Vec<NewIssuer>,
    /// The rules of the common policy file, if they are others.
    policy: Option<Edition>,
    /// The shadow policy, if it is another, or what is wrong with it.
    shadow: Result<Option<Edition>, ConfigError>,
}

/// What is new about an issuer.
struct NewIssuer {
    tenant_client: TenantClient,
    /// The keys in `jwks_file`, if they are others.
    keys: Option<KeySet>,
    /// The keys in use when the file was read.
    known_keys: Arc<KeySet>,
    /// The rules of its own policy file, if they are others.
    policy: Option<Edition>,
}

/// An issuer as it is.
#[derive(Clone)]
struct KnownIssuer {
    tenant_client: Arc<TenantClient>,
    keys: Arc<JwksCache>,
    /// The hash of its own policy file, if it has one.
    policy: Option<[u8; 32]>,
}

/// Reads the next generation.
#[derive(Clone)]
struct Reader {
    /// The number of the next generation.
    number: u64,
    config: Arc<Config>,
    issuers: Vec<KnownIssuer>,
    policy: PolicyReader,
    /// The hash of the policy file in force.
    known_policy: Option<[u8; 32]>,
    shadow: PolicyReader,
    /// The hash of the shadow policy in use.
    known_shadow: Option<[u8; 32]>,
}

impl Reader {
    /// Reads it. Only a thread asks the tenant as well, to see whether changed authorities are the right ones.
    fn read(&self, by: ReadBy, is_long: &dyn Fn()) -> Result<NewGeneration, ReloadError> {
        let config = Arc::new(self.config.read_again()?);
        let mut changes = self.config.changes(&config);
        let waiting = self.config.needs_restart(&config, &changes);
        if !waiting.is_empty() {
            return Err(ReloadError::NeedsRestart(waiting));
        }
        let mut rows = changes.iter().filter_map(|name| options::find(name));
        let forgets = rows.any(|option| option.reread == Reread::Forgets);
        let mut issuers = Vec::new();
        for (known, issuer) in self.issuers.iter().zip(&config.issuers) {
            let number = match forgets {
                true => self.number,
                false => known.tenant_client.number(),
            };
            issuers.push(self.issuer((known, issuer), config.timeout, number, by, is_long)?);
        }
        let policy = self.policy(&config.policy_file, self.known_policy, is_long)?;
        let shadow = match &config.shadow_policy {
            Some(path) => self.shadow.read(path, self.known_shadow, is_long),
            None => Ok(None),
        };
        let mut all = self.issuers.iter().zip(&issuers);
        let trusts_others =
            all.any(|(known, new)| !new.tenant_client.trusts_like(&known.tenant_client));
        let has_own_policy = issuers.iter().any(|new| new.policy.is_some());
        for (name, has_changed) in [
            ("ca_file", trusts_others),
            ("jwks_file", issuers.iter().any(|new| new.keys.is_some())),
            ("policy_file", policy.is_some() || has_own_policy),
            ("shadow_policy", matches!(shadow, Ok(Some(_)))),
        ] {
            if has_changed && !changes.contains(&name) {
                changes.push(name);
            }
        }
        Ok(NewGeneration {
            config,
            changes,
            forgets,
            issuers,
            policy,
            shadow,
        })
    }

    fn issuer(
        &self,
        (known, issuer): (&KnownIssuer, &Arc<IssuerConfig>),
        timeout: Duration,
        number: u64,
        by: ReadBy,
        is_long: &dyn Fn(),
    ) -> Result<NewIssuer, ReloadError> {
        let before = &*known.tenant_client;
        let tenant_client = TenantClient::new(Arc::clone(issuer), timeout, number, Some(before))?;
        let same_authorities = tenant_client.trusts_like(before);
        if !same_authorities && by == ReadBy::Thread && issuer.fetches_keys() {
            is_long();
            tenant_client.check_trust()?;
        }
        let known_keys = known.keys.current();
        let keys = KeySet::of_file(issuer)?.filter(|set| !known_keys.has_same_keys(set));
        Ok(NewIssuer {
            tenant_client,
            keys,
            known_keys,
            policy: self.policy(&issuer.policy_file, known.policy, is_long)?,
        })
    }

    /// Returns the rules of a policy file, if they are others than those with this hash. Where the option is gone, that
    /// is no rules.
    fn policy(
        &self,
        path: &Option<PathBuf>,
        known: Option<[u8; 32]>,
        is_long: &dyn Fn(),
    ) -> Result<Option<Edition>, ReloadError> {
        Ok(match path {
            Some(path) => self.policy.read(path, known, is_long)?,
            None => known.and_then(PolicyReader::no_rules),
        })
    }
}

impl KnownIssuer {
    fn of(issuer: &Issuer) -> Self {
        Self {
            tenant_client: issuer.in_use.current(),
            keys: Arc::clone(&issuer.keys),
            policy: issuer.policy_file.as_ref().map(InForce::digest),
        }
    }
}

impl Issuer {
    /// Exchanges what is in force. Returns whether nobody knows if its keys are the newest: `refreshKeys` may have read
    /// the file meanwhile.
    fn put_in_force(
        &mut self,
        (options, leeway): (Arc<IssuerConfig>, u64),
        new: NewIssuer,
        spawn: Spawn,
    ) -> bool {
        self.requirements = Requirements::of(&options, leeway);
        let in_doubt = new.keys.is_some() && !Arc::ptr_eq(&self.keys.current(), &new.known_keys);
        if let Some(keys) = new.keys.filter(|_| !in_doubt) {
            self.keys.replace(keys);
        }
        self.keys.set_max_stale(options.jwks_max_stale);
        let same_way = new.tenant_client.reaches_like(&self.in_use.current());
        self.client_number = new.tenant_client.number();
        self.in_use.replace(new.tenant_client);
        // Only now, or the fetch could go the old way.
        if !same_way && options.fetches_keys() {
            self.keys.refresh_soon();
        }
        put_policy_in_force(&mut self.policy_file, new.policy, spawn);
        self.config = options;
        in_doubt
    }
}

/// Exchanges the rules of a policy file, if there are others.
fn put_policy_in_force(policy: &mut Option<InForce>, edition: Option<Edition>, spawn: Spawn) {
    match (policy, edition) {
        (Some(policy), Some(edition)) => policy.replace(edition),
        (none @ None, Some(edition)) => *none = Some(InForce::new(edition, spawn)),
        (_, None) => {}
    }
}

impl Engine {
    /// Reads the configuration again (SIGHUP), and has the tenant's keys fetched. If rules, keys or options come from
    /// files, a small configuration is in force when this returns. [`Self::finish_reload`] puts everything else in
    /// force: the broker serves nobody while this waits. Where the broker does not tick, all of it is read before this
    /// returns. With a mistake in it, what was read before stays in force.
    pub fn reload(&mut self, common: &mut Common, ticks: bool) {
        common.limits(self.tenant).reset_after_reload();
        self.observer.reopen();
        for issuer in self.issuers.iter() {
            issuer.in_use.current().rediscover_soon();
            if issuer.config.fetches_keys() {
                issuer.keys.refresh_soon();
            }
        }
        match self.reloading.is_under_way() {
            true => self.reloading.want_once_more(),
            false => self.begin_reading(ticks),
        }
        self.take_generation(common, self.config.has_urgent_files());
    }

    /// Puts in force what was read meanwhile. Returns whether the configuration is different from before.
    pub fn finish_reload(&mut self, common: &mut Common) -> bool {
        let changed = self.take_generation(common, false);
        self.take_read_keys();
        let own = self.issuers.iter_mut();
        let own = own.filter_map(|issuer| issuer.policy_file.as_mut());
        for policy in self.policy_file.iter_mut().chain(own) {
            policy.free_replaced();
        }
        if let Some(policy) = &mut self.observer.shadow {
            policy.free_replaced();
        }
        changed
    }

    /// Returns whether the configuration or the file of keys is being read again.
    pub fn is_rereading(&self) -> bool {
        self.reloading.is_under_way() || self.is_reading_keys()
    }

    fn begin_reading(&mut self, on_thread: bool) {
        let reader = Reader {
            number: self.generation + 1,
            config: Arc::clone(&self.config),
            issuers: self.issuers.iter().map(KnownIssuer::of).collect(),
            policy: self.policy_reader.clone(),
            known_policy: self.policy_file.as_ref().map(InForce::digest),
            shadow: self.shadow_reader(),
            known_shadow: self.observer.shadow.as_ref().map(InForce::digest),
        };
        let spawn = on_thread.then_some(self.spawn);
        self.reloading
            .begin(spawn, move |by, is_long| reader.read(by, is_long));
    }

    fn take_generation(&mut self, common: &mut Common, wait: bool) -> bool {
        let read = match self.reloading.take(wait) {
            Some(rereading::Reread::Finished(read)) => read,
            Some(rereading::Reread::Panicked) => Err(ReloadError::Panicked),
            None => {
                if self.reloading.is_slow() {
                    let number = self.generation;
                    self.tell(&Report::ReloadSlow { number });
                }
                return false;
            }
        };
        let changed = match read {
            Ok(new) => {
                self.reload_failed = false;
                self.put_in_force(common, new)
            }
            Err(why) => {
                self.reload_failed = true;
                let number = self.generation;
                self.tell(&Report::GenerationStays { number, why: &why });
                false
            }
        };
        if self.reloading.takes_once_more() {
            self.begin_reading(true);
        }
        changed
    }

    /// Exchanges the generation in force for this one. Returns whether anything is different.
    fn put_in_force(&mut self, common: &mut Common, new: NewGeneration) -> bool {
        let NewGeneration {
            config, changes, ..
        } = new;
        let shadow = new.shadow.unwrap_or_else(|why| {
            self.tell(&Report::ShadowUnusable(&why));
            None
        });
        if changes.is_empty() {
            self.tell_generation(&changes);
            return false;
        }
        self.generation += 1;
        if new.forgets {
            self.forget_credentials(&config);
        }
        let checked_passwords = self.issuers.check_passwords();
        let mut keys_in_doubt = false;
        for (new, (issuer, options)) in new
            .issuers
            .into_iter()
            .zip(self.issuers.iter_mut().zip(&config.issuers))
        {
            let options = (Arc::clone(options), config.leeway);
            keys_in_doubt |= issuer.put_in_force(options, new, self.spawn);
        }
        self.issuers.follow();
        let checks_passwords = self.issuers.check_passwords();
        if config.login_workers != self.config.login_workers
            || checks_passwords != checked_passwords
        {
            self.pool.resize(config.login_workers);
            if checks_passwords {
                self.pool.fill();
            }
        }
        if config.login_rate != self.config.login_rate {
            common.limits(self.tenant).set_rate(config.login_rate);
        }
        self.config = config;
        common.metrics.collect_soon();
        put_policy_in_force(&mut self.policy_file, new.policy, self.spawn);
        put_policy_in_force(&mut self.observer.shadow, shadow, self.spawn);
        self.observer
            .follow(&self.config, self.policy_file.as_ref());
        self.remake_restored(common);
        if keys_in_doubt {
            self.refresh_keys(true);
        }
        self.tell_generation(&changes);
        self.warn_of_free_client_ids();
        true
    }

    /// Forgets what is remembered about credentials. To free what ten thousand devices left takes some milliseconds, so
    /// a thread does it.
    fn forget_credentials(&mut self, config: &Config) {
        let logins = LoginCache::new(config.login_cache);
        let logins = std::mem::replace(&mut self.login_cache, logins);
        let tokens = std::mem::take(&mut self.token_cache);
        let issuers = self.issuers.iter_mut();
        let rules: Vec<_> = issuers
            .map(|issuer| std::mem::take(&mut issuer.interned_rules))
            .collect();
        // Without a thread the closure is dropped here, and all that with it.
        let free = move || drop((logins, tokens, rules));
        let _ = (self.spawn)("auth0-reload", Box::new(free));
    }

    fn tell_generation(&self, changes: &[&'static str]) {
        let policy = self.policy_file.as_ref();
        let size = policy.map(|policy| policy.rules().size());
        self.tell(&Report::GenerationInForce {
            number: self.generation,
            changes,
            size: size.filter(|_| changes.contains(&"policy_file")),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{jwt::jwks_cache::FetchSchedule, log::Log, threads};
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

    fn jwks(kid: &str) -> String {
        let modulus = URL_SAFE_NO_PAD.encode([0xb1; 256]);
        format!(r#"{{"keys":[{{"kty":"RSA","kid":"{kid}","n":"{modulus}","e":"AQAB"}}]}}"#)
    }

    #[test]
    fn keys_that_were_read_before_a_refresh_do_not_replace_its_keys() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let write = |kid: &str| std::fs::write(file.path(), jwks(kid)).unwrap();
        let options = [
            ("issuer", "https://t.example/"),
            ("audience", "https://mqtt.example/"),
            ("jwks_file", file.path().to_str().unwrap()),
        ];
        let options = options.map(|(name, value)| (name.to_owned(), value.to_owned()));
        write("first");
        let mut common = Common::default();
        let mut engine = Engine::new(
            Config::read(options.into()).unwrap(),
            FetchSchedule::default(),
            Log::default(),
            threads::plain,
            &mut common,
        )
        .unwrap();
        let has = |engine: &Engine, kid: &str| {
            let expected = KeySet::parse(jwks(kid).as_bytes()).unwrap();
            engine.keys().current().has_same_keys(&expected)
        };
        // Without a thread the files are read at once.
        write("second");
        engine.begin_reading(false);
        write("third");
        engine.refresh_keys(false);
        engine.take_read_keys();
        // Nobody knows which of the two is older, so the file is read once more.
        write("fourth");
        engine.take_generation(&mut common, false);
        assert!(has(&engine, "third"));
        while engine.is_rereading() {
            engine.finish_reload(&mut common);
        }
        assert!(has(&engine, "fourth"));
        write("fifth");
        engine.begin_reading(false);
        engine.take_generation(&mut common, false);
        assert!(has(&engine, "fifth"), "no refresh came between");
    }
}
