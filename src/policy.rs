//! The decisions, top to bottom: who may come in, and what they may do.
//!
//! Nothing here knows the broker or the network; time is an argument. What has to wait becomes a
//! [`Job`] for a thread that may, and comes back as a [`Done`].

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::Value;
use zeroize::Zeroizing;

use crate::{
    auth0::{Tenant, answer::Tokens, forwarded},
    clock::{Deadline, Unix, moment},
    config::{Algorithm, Config, ConfigError, KeySource},
    files,
    grants::{Grants, shared::Shared},
    identity,
    json::Place,
    keys::{
        KeySet,
        saved::Saved,
        store::{Fetch, Pace, Store},
    },
    log::{Level, Log},
    logins::{
        Claimant, Desk, Done, Errand, Evidence, Job, Terms, Verdict,
        arrivals::{self, Arrival, Arrivals},
        budget::Budget,
        memory::Memory,
        pool::Pool,
        restraint::Restraint,
        verified::Verified,
    },
    refusal::{Fault, Reason, Refusal, Told},
    rights::{Hopeless, Profile, Rights},
    rulebook::in_force::{InForce, Tells},
    rules::Ask,
    secret::{Fingerprinter, Secret},
    sessions::{Afterlife, Client, Note, Noted, Session, Sessions},
    text::Quoted,
    threads::Spawn,
    token::{self, Claims, jws},
};

/// A CONNECT, as the broker tells it.
pub struct Connect<'a> {
    /// Who.
    pub client: Client,
    /// The client id.
    pub client_id: &'a str,
    /// The user name, unverified. On a re-check (SIGHUP) it is the one that was given.
    pub username: Option<&'a str>,
    /// The password: any bytes.
    pub password: Option<&'a [u8]>,
    /// The address the broker saw.
    pub address: Option<&'a str>,
    /// The port of the listener, if the broker tells it.
    pub port: Option<u16>,
    /// The SHA-256 fingerprint of its certificate, if the broker tells it and
    /// [`Policy::looks_at_certificates`].
    pub certificate: Option<[u8; 32]>,
    /// Whether the broker says that it has no session under this client id. 2.0 does not say.
    pub id_is_free: bool,
    /// No CONNECT, perhaps: the broker may be asking again about a client that is in (SIGHUP).
    pub again: bool,
    /// No CONNECT at all: SIGHUP asks about a session restored from disk, whose client has not
    /// come back yet.
    pub restored: bool,
}

/// What a client wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Be sent a message.
    Receive,
    /// Send a message, or have its will sent.
    Publish,
    /// Subscribe to a filter.
    Subscribe,
    /// End a subscription.
    Unsubscribe,
}

/// A question about a message or a subscription. Texts are bytes here, to be compared with text: that
/// they are UTF-8 themselves is looked at only where it matters, because this is asked at every
/// message.
#[derive(Debug)]
pub struct Access<'a> {
    /// Who.
    pub client: Client,
    /// The client id.
    pub client_id: &'a [u8],
    /// The user name the broker has.
    pub username: Option<&'a [u8]>,
    /// Whether there is a connection (an address).
    pub connected: bool,
    /// What.
    pub action: Action,
    /// The topic, or the filter.
    pub topic: &'a [u8],
    /// The QoS, of the message or asked for.
    pub qos: u8,
    /// The message's retain flag.
    pub retain: bool,
    /// The length of its payload, in bytes.
    pub payload: u32,
}

/// How a sign-in goes on.
#[must_use]
pub enum Step {
    /// It is good. Give the client this user name, then [`Policy::admit`] it.
    Admit(Admission),
    /// It is not.
    Refuse(Refusal),
    /// It has to wait: [`Policy::wait`] here, or [`Policy::delay`] where the broker takes the answer
    /// later.
    Wait(Box<Wait>),
    /// The client is already in, or is nobody yet: let the broker keep it, with what it has.
    Keep,
    /// It is none of ours: the next plugin, or the broker itself, decides.
    Defer,
}

/// What becomes of a message or a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Decision {
    /// It passes.
    Allow,
    /// It does not.
    Deny,
    /// Others decide: another plugin, or the broker's own files.
    Defer,
}

/// A sign-in that cannot be decided from memory.
#[must_use]
pub struct Wait {
    claimant: Claimant,
    job: Job,
    /// The user name that the client will have if it comes in: what its token says, unverified.
    /// `None` where it keeps the one it sent.
    pub username: Option<String>,
}

/// A client whose CONNECT the broker holds, and what to tell it.
pub struct Answer {
    /// Its client id, by which the broker is told.
    pub client_id: Arc<str>,
    /// The terms, or `None` for a refusal. It is explained in the log.
    pub admission: Option<Admission>,
}

/// The terms on which a client comes in.
#[must_use]
#[derive(Debug)]
pub struct Admission {
    /// Who.
    pub client: Client,
    session: Session,
}

impl Admission {
    /// The user name that the client gets.
    pub fn username(&self) -> &str {
        &self.session.username
    }
}

/// Passwords and user names longer than this, in bytes, are refused without asking anybody:
/// Auth0's end at 128, and a 64 KB one would only be a load on the tenant.
const MAX_CREDENTIAL: usize = 1024;

/// How long, in seconds, a trouble that concerns every device stays reported.
const REPORT_AGAIN: u64 = 60;

/// All that decides.
pub struct Policy {
    config: Arc<Config>,
    rules: token::Rules,
    desk: Arc<Desk>,
    pool: Pool,
    prints: Fingerprinter,
    log: Log,
    sessions: Mutex<Sessions>,
    memory: Mutex<Memory>,
    verified: Mutex<Verified>,
    shared: Mutex<Shared>,
    policy_file: Option<InForce>,
    tells: OnceLock<Tells>,
    budget: Mutex<Budget>,
    arrivals: Mutex<Arrivals>,
    restraint: Mutex<Restraint>,
    /// Refusals of clients that have no session, and troubles that concern everybody.
    reports: Mutex<Reports>,
}

#[derive(Default)]
struct Reports {
    strangers: Noted,
    strangers_since: Option<Unix>,
    troubles: HashMap<Reason, (Unix, u64)>,
}

impl Policy {
    /// Prepares everything; starts nothing.
    ///
    /// # Errors
    ///
    /// One line that names the option, its value and the cure.
    pub fn new(config: Config, pace: Pace, log: Log, spawn: Spawn) -> Result<Self, String> {
        let config = Arc::new(config);
        let tenant = Arc::new(Tenant::new(&config).map_err(|why| match &config.ca_file {
            Some(path) => format!(
                "option ca_file, value {}: it {why}",
                Quoted(&path.display().to_string())
            ),
            None => format!("option ca_file is missing: {why}"),
        })?);
        let max_stale = config.jwks_max_stale;
        let keys = Arc::new(Store::new(Pace { max_stale, ..pace }, spawn));
        if let Some(set) = keys_from_file(&config)? {
            keys.replace(set);
        }
        let rules = token::Rules {
            issuers: config.issuers.clone(),
            algorithms: config.algorithms.clone(),
            secret: config
                .hs256_secret
                .as_ref()
                .and_then(|secret| jws::HmacSecret::new(secret.reveal())),
            leeway: config.leeway,
        };
        let desk = Arc::new(Desk {
            config: Arc::clone(&config),
            tenant,
            keys,
        });
        let worker = Arc::clone(&desk);
        Ok(Self {
            rules,
            desk,
            pool: Pool::new(
                config.login_workers,
                spawn,
                Box::new(move |job| worker.perform(job)),
            ),
            prints: Fingerprinter::new()?,
            memory: Mutex::new(Memory::new(config.login_cache)),
            verified: Mutex::default(),
            shared: Mutex::default(),
            policy_file: config
                .policy_file
                .as_deref()
                .map(InForce::read)
                .transpose()?,
            tells: OnceLock::new(),
            budget: Mutex::new(Budget::new(config.login_wait, config.stall_budget)),
            arrivals: Mutex::default(),
            restraint: Mutex::new(Restraint::new(config.login_rate, moment())),
            config,
            log,
            sessions: Mutex::default(),
            reports: Mutex::default(),
        })
    }

    /// Starts fetching keys in the background. `tells` is what the broker can.
    ///
    /// # Errors
    ///
    /// If there is no thread to be had, or the policy file needs what the broker cannot.
    pub fn start(&self, tells: Tells) -> Result<(), String> {
        if let Some(policy) = &self.policy_file {
            policy.check(*self.tells.get_or_init(|| tells), &self.log)?;
            let rules = policy.book().len();
            self.log
                .line(Level::Info, format!("the policy file has {rules} rules"));
        }
        let only_secrets = self.config.algorithms == [Algorithm::Hs256];
        if self.config.keys != KeySource::Tenant || only_secrets {
            return Ok(());
        }
        let tenant = Arc::clone(&self.desk.tenant);
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
        self.desk.keys.start(fetch, self.log.clone())
    }

    /// Where the keys are kept over a restart. Puts those to use that are there.
    fn saved_keys(&self) -> Option<Saved> {
        let dir = self.config.state_dir.clone()?;
        let saved = Saved::new(dir, self.config.home.name(), self.config.jwks_max_stale);
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
                self.desk.keys.restore(keys, age);
            }
            Ok(None) => {}
            Err(why) => self.log.line(Level::Warning, why),
        }
        Some(saved)
    }

    /// Ends what [`Self::start`] started, and waits for it.
    pub fn stop(&self) {
        self.desk.keys.stop();
        self.pool.stop();
    }

    /// Whether MQTT 5 clients, too, are answered later where the broker can.
    pub fn delays_mqtt5(&self) -> bool {
        self.config.delay_mqtt5
    }

    /// The tenant's keys.
    pub fn keys(&self) -> &Store {
        &self.desk.keys
    }

    /// Whether the fingerprints of certificates are of interest.
    pub fn looks_at_certificates(&self) -> bool {
        self.policy_file.is_some()
    }

    /// SIGHUP: keys are read or fetched again, and the policy file is read again. A file that is
    /// broken now changes nothing.
    pub fn reload(&self) {
        lock(&self.restraint).look_again();
        if let Some(policy) = &self.policy_file {
            let tells = self.tells.get().copied().unwrap_or_default();
            match policy.reload(tells, &self.log) {
                Ok(rules) => {
                    let line =
                        format!("the policy file was read again: {rules} rules are in force");
                    self.log.line(Level::Info, line);
                }
                Err(why) => self.log.line(
                    Level::Error,
                    format!("{why}; the policy read before stays in force"),
                ),
            }
        }
        match keys_from_file(&self.config) {
            Ok(Some(set)) => self.desk.keys.replace(set),
            Ok(None) => self.desk.keys.refresh_soon(),
            Err(why) => self.log.line(
                Level::Error,
                format!("{why}; the keys read before stay in use"),
            ),
        }
    }

    /// A client wants to come in.
    pub fn authenticate(&self, connect: &Connect, now: Unix) -> Step {
        if !connect.again {
            lock(&self.arrivals).forget(connect.client);
        }
        let password = connect.password.unwrap_or_default();
        let credential = self.prints.of(password);
        let claimant = Claimant {
            client: connect.client,
            client_id: connect.client_id.into(),
            username: connect.username.map(Into::into),
            address: connect.address.map(Into::into),
            port: connect.port,
            certificate: connect.certificate,
            credential,
            id_is_free: connect.id_is_free,
        };
        match self.consider(connect, &claimant, now) {
            Considered::Keep => Step::Keep,
            Considered::Defer => Step::Defer,
            Considered::Judged(verdict) => self.conclude(&claimant, verdict, now),
            Considered::Open { job, username } => Step::Wait(Box::new(Wait {
                claimant,
                job: *job,
                username,
            })),
        }
    }

    fn consider(&self, connect: &Connect, claimant: &Claimant, now: Unix) -> Considered {
        let refuse = |reason, detail: &str| Considered::Judged(Err(Refusal::new(reason, detail)));
        if connect.restored {
            return Considered::Keep;
        }
        {
            let mut sessions = self.sessions();
            match sessions.recheck(
                connect.client,
                connect.client_id,
                connect.username,
                claimant.credential,
                connect.again,
                now,
            ) {
                Some(true) => return Considered::Keep,
                Some(false) => {
                    return refuse(
                        Reason::TokenExpired,
                        "its rights have ended since it signed in",
                    );
                }
                // A new connection at an old address inherits nothing.
                None => sessions.remove(connect.client),
            }
        }

        let Ok(password) = std::str::from_utf8(connect.password.unwrap_or_default()) else {
            return refuse(Reason::NotUtf8, "its password is not UTF-8 text");
        };
        // Neither a token nor something to ask the tenant about.
        let not_ours = |reason, detail| {
            if self.config.defer_others {
                Considered::Defer
            } else {
                refuse(reason, detail)
            }
        };
        if password.is_empty() {
            return not_ours(Reason::NoPassword, "it sent no password");
        }
        let deadline = Deadline::after(self.config.timeout);

        // `JWT` as the user name is how the old integration told a token from a password.
        if connect.username == Some("JWT") || jws::looks_like_token(password) {
            let print = claimant.credential;
            let keys = self.desk.keys.current();
            if let Some(terms) = lock(&self.verified).recall(print, &keys, now) {
                return Considered::Judged(Ok(terms));
            }
            let token = Zeroizing::new(password.to_owned());
            let evidence = Evidence::Presented { token, print };
            return match self.judge(evidence, None, now) {
                Judged::Verdict(verdict) => Considered::Judged(verdict),
                Judged::NeedsKeys(evidence) => Considered::Open {
                    job: Box::new(Job {
                        claimant: claimant.clone(),
                        key: print,
                        user: None,
                        errand: Errand::Keys(evidence),
                        deadline,
                    }),
                    username: jws::unverified_text_claim(password, &self.config.username_claim),
                },
            };
        }

        if self.config.application.is_none() {
            return not_ours(
                Reason::CredentialsOff,
                "it sent a password, and credentials mode is off",
            );
        }
        let Some(username) = connect.username.filter(|name| !name.is_empty()) else {
            return not_ours(Reason::NoUsername, "it sent a password and no user name");
        };
        for (what, length) in [("user name", username.len()), ("password", password.len())] {
            if length > MAX_CREDENTIAL {
                return refuse(
                    Reason::TooLong,
                    &format!("its {what} has {length} bytes, more than {MAX_CREDENTIAL}"),
                );
            }
        }
        // With the length in front, `a` with `bc` is not `ab` with `c`.
        let both = Zeroizing::new(format!("{}:{username}{password}", username.len()));
        let key = self.prints.of(both.as_bytes());
        if let Some(verdict) = lock(&self.memory).recall(key, now) {
            return Considered::Judged(verdict);
        }
        // As Auth0 compares them: it takes `Device` for `device`.
        let user = self.prints.of(username.trim().to_lowercase().as_bytes());
        // Who joins a question that is under way asks none.
        if !self.pool.is_busy(key)
            && let Err(refusal) = lock(&self.restraint).ask(user, moment())
        {
            return Considered::Judged(Err(refusal));
        }
        let errand = Errand::Login {
            username: username.into(),
            password: Secret::new(password),
            address: connect.address.and_then(forwarded::device_address),
        };
        Considered::Open {
            job: Box::new(Job {
                claimant: claimant.clone(),
                key,
                user: Some(user),
                errand,
                deadline,
            }),
            username: None,
        }
    }

    /// Waits for the outcome within the budget. Beyond it the client is turned away, and the tenant
    /// asked all the same: it is let in from memory when it comes back.
    pub fn wait(&self, wait: Box<Wait>, clock: fn() -> Unix) -> Step {
        let Wait { claimant, job, .. } = *wait;
        let (key, deadline) = (job.key, job.deadline);
        let began = moment();
        let allowance = lock(&self.budget).allowance(began);
        let until = Deadline::after(allowance.min(deadline.remaining()));
        let verdict = match self.submit(job) {
            Err(refusal) => Err(refusal),
            Ok(()) => loop {
                match self
                    .pool
                    .wait(key, until)
                    .map(|done| self.settle(done, clock()))
                {
                    Some(Some((verdict, _))) => break verdict,
                    // It needs the keys as well, and that is under way.
                    Some(None) => {}
                    None if deadline.has_passed() => break self.too_late(),
                    None => {
                        break Err(Refusal::new(
                            Reason::LoginPending,
                            "the tenant is being asked, and the broker may not wait longer",
                        ));
                    }
                }
            },
        };
        let ended = moment();
        lock(&self.budget).spend(ended, ended - began);
        self.conclude(&claimant, verdict, clock())
    }

    /// Has the outcome found while the broker holds the CONNECT; [`Self::collect`] brings it.
    ///
    /// # Errors
    ///
    /// A refusal if there is too much to do already.
    pub fn delay(&self, wait: Box<Wait>, now: Unix) -> Result<(), Refusal> {
        let Wait { claimant, job, .. } = *wait;
        let (key, deadline) = (job.key, job.deadline);
        if let Err(refusal) = self.submit(job) {
            self.report_refused_connect(&claimant, &refusal, now);
            return Err(refusal);
        }
        lock(&self.arrivals).wait(Arrival::new(claimant, key, deadline));
        Ok(())
    }

    /// Whether a client waits whose CONNECT the broker holds: one of this policy's or of another's.
    pub fn somebody_waits(&self) -> bool {
        arrivals::somebody_waits()
    }

    /// Whether jobs have come to an end since the last time.
    pub fn has_news(&self) -> bool {
        self.pool.has_finished()
    }

    /// Remembers what has come of jobs since the last time.
    pub fn absorb(&self, now: Unix) {
        for done in self.pool.take_finished() {
            let (key, claimant) = (done.key, done.claimant.clone());
            match self.settle(done, now) {
                // Whoever asked was turned away meanwhile, and comes back for it.
                Some((verdict @ Ok(_), 0)) => lock(&self.memory).hold(key, &verdict, now),
                Some((Err(refusal), 0)) => self.report_refused_connect(&claimant, &refusal, now),
                _ => {}
            }
        }
    }

    /// What has come of jobs since the last time: remembers it, and brings the clients to answer.
    pub fn collect(&self, now: Unix) -> Vec<Answer> {
        self.absorb(now);
        let ready = {
            let mut arrivals = lock(&self.arrivals);
            if arrivals.is_empty() {
                return Vec::new();
            }
            arrivals.give_up(|| self.too_late());
            arrivals.take_ready()
        };
        ready
            .into_iter()
            .filter(|(arrival, _)| arrival.is_awaited())
            .map(|(arrival, verdict)| Answer {
                client_id: Arc::clone(&arrival.claimant.client_id),
                admission: match self.conclude(&arrival.claimant, verdict, now) {
                    Step::Admit(admission) => Some(admission),
                    _ => None,
                },
            })
            .collect()
    }

    fn submit(&self, job: Job) -> Result<(), Refusal> {
        let user = job.user;
        let submitted = self.pool.submit(job);
        if submitted.is_err()
            && let Some(user) = user
        {
            lock(&self.restraint).give_back(user);
        }
        submitted
    }

    fn too_late(&self) -> Verdict {
        let timeout = self.config.timeout.as_secs();
        let detail = format!("the tenant did not answer within {timeout} s");
        Err(Refusal::new(Reason::TenantUnreachable, detail))
    }

    /// Judges what came of a job, remembers it, and hands it to the clients that wait; how many they
    /// are. `None` if it takes another job first.
    fn settle(&self, done: Done, now: Unix) -> Option<(Verdict, usize)> {
        let Done {
            claimant,
            key,
            user,
            pause,
            result,
            keys_refetched,
            deadline,
        } = done;
        if let Some(user) = user {
            let no = result.as_ref().err().map(|refusal| refusal.reason);
            lock(&self.restraint).heard(user, no, pause, moment());
        }
        let is_login = !matches!(result, Ok(Evidence::Presented { .. }));
        let verdict = match result {
            Err(refusal) => Err(refusal),
            Ok(evidence) => match self.judge(evidence, keys_refetched, now) {
                Judged::Verdict(verdict) => verdict,
                Judged::NeedsKeys(evidence) => {
                    match self.pool.submit(Job {
                        claimant,
                        key,
                        user: None,
                        errand: Errand::Keys(evidence),
                        deadline,
                    }) {
                        Ok(()) => return None,
                        Err(refusal) => Err(refusal),
                    }
                }
            },
        };
        if is_login {
            lock(&self.memory).remember(key, &verdict, now);
        }
        let woken = lock(&self.arrivals).resolve(key, &verdict);
        Some((verdict, woken))
    }

    /// What a verdict means for one client.
    fn conclude(&self, claimant: &Claimant, verdict: Verdict, now: Unix) -> Step {
        let admitted = verdict.and_then(|terms| {
            self.may_use_client_id(claimant, &terms)?;
            let (username, subject) = (Arc::clone(&terms.username), Arc::clone(&terms.subject));
            let until = terms.until;
            self.rights(claimant, terms)
                .map(|rights| (username, subject, rights, until))
        });
        match admitted {
            Ok((username, subject, rights, until)) => {
                if rights.is_empty() && !self.config.defer_acl {
                    self.log.line(
                        Level::Warning,
                        format!(
                            "{} came in and may do nothing: its token lists no topic{}; cure: add topics to the device's app_metadata in the tenant, and an Action that copies them into the token's claim {}",
                            Quoted(&claimant.client_id),
                            if self.policy_file.is_some() { ", and no rule of the policy file is for it" } else { "" },
                            Quoted(self.config.reading.topics.as_ref().map_or("permissions", Place::text))
                        ),
                    );
                }
                let client_id = Arc::clone(&claimant.client_id);
                let session = Session {
                    client_id,
                    username,
                    subject,
                    rights,
                    until,
                    credential: claimant.credential,
                };
                Step::Admit(Admission {
                    client: claimant.client,
                    session,
                })
            }
            Err(refusal) => {
                self.report_refused_connect(claimant, &refusal, now);
                Step::Refuse(refusal)
            }
        }
    }

    /// Whether the client id is one that this token may be used with, and nobody else's.
    fn may_use_client_id(&self, claimant: &Claimant, terms: &Terms) -> Result<(), Refusal> {
        identity::check(&terms.client_ids, &claimant.client_id)?;
        if self.config.any_takeover
            || claimant.id_is_free
            || !self
                .sessions()
                .is_held_by_another(&claimant.client_id, &terms.subject)
        {
            return Ok(());
        }
        Err(Refusal::new(
            Reason::ClientIdHeld,
            "another account is connected with this client id, or has a kept session under it",
        ))
    }

    fn judge(&self, evidence: Evidence, keys_refetched: Option<bool>, now: Unix) -> Judged {
        let keys = self.desk.keys.current();
        let judged = match &evidence {
            Evidence::Presented { token, .. } => self.judge_presented(token, &keys, now),
            Evidence::Issued { username, tokens } => {
                self.judge_issued(tokens, username, &keys, now)
            }
        };
        let verdict = judged.and_then(|(claims, username)| self.terms(claims, username));
        // A key that is not here may have been published since: worth one look, for everybody.
        if let Err(refusal) = &verdict
            && matches!(
                refusal.reason,
                Reason::TokenKeyUnknown | Reason::KeysUnavailable
            )
        {
            if keys_refetched.is_none() && self.desk.keys.may_bring_news() {
                return Judged::NeedsKeys(evidence);
            }
            // They came between the look at them and the question whether they will.
            if !Arc::ptr_eq(&keys, &self.desk.keys.current()) {
                return self.judge(evidence, keys_refetched, now);
            }
            // Only a look that brought keys proves that this is none of them.
            if refusal.reason == Reason::TokenKeyUnknown
                && keys_refetched != Some(true)
                && self.desk.keys.is_live()
            {
                let why = match keys_refetched {
                    None => "were asked for moments ago",
                    Some(_) => "cannot be had now",
                };
                let detail = format!("{}, and its keys {why}", refusal.detail);
                return Judged::Verdict(Err(Refusal::new(Reason::TokenKeyPending, detail)));
            }
        }
        if let (Evidence::Presented { print, .. }, Ok(terms)) = (&evidence, &verdict) {
            lock(&self.verified).remember(*print, terms, keys, now);
        }
        Judged::Verdict(verdict)
    }

    /// A token from a client: the user name it sent is nobody's, the token says who it is.
    fn judge_presented(
        &self,
        token: &str,
        keys: &KeySet,
        now: Unix,
    ) -> Result<(Claims, String), Refusal> {
        let claims = token::verify(token, &self.rules, &self.config.audiences, keys, now)?;
        let username = claims.username(&self.config.username_claim)?.to_owned();
        Ok((claims, username))
    }

    /// Tokens from the tenant: the access token if it is one for our API, else the ID token. That
    /// either cannot be used is never the device's fault.
    fn judge_issued(
        &self,
        tokens: &Tokens,
        username: &str,
        keys: &KeySet,
        now: Unix,
    ) -> Result<(Claims, String), Refusal> {
        let unusable = |which: &str, refusal: Refusal| match refusal.reason {
            Reason::KeysUnavailable | Reason::TokenKeyUnknown => refusal,
            _ => Refusal::new(
                Reason::LoginToken,
                format!(
                    "the tenant let it in, and its {which} cannot be used: {}",
                    refusal.detail
                ),
            ),
        };
        let access = match &tokens.access {
            None => "there is no access token".to_owned(),
            Some(token) if !jws::looks_like_token(token) => "the access token is opaque".to_owned(),
            Some(token) => {
                match token::verify(token, &self.rules, &self.config.audiences, keys, now) {
                    Ok(claims) => return Ok((claims, username.to_owned())),
                    Err(refusal) if refusal.reason == Reason::TokenAudience => {
                        format!("of the access token, {}", refusal.detail)
                    }
                    Err(refusal) => return Err(unusable("access token", refusal)),
                }
            }
        };
        let application = self
            .config
            .application
            .as_ref()
            .expect("the tenant was asked for its sake");
        let Some(id) = &tokens.id else {
            return Err(Refusal::new(
                Reason::LoginToken,
                format!("the tenant let it in, but {access}, and there is no ID token"),
            ));
        };
        let client_id = std::slice::from_ref(&application.client_id);
        match token::verify(id, &self.rules, client_id, keys, now) {
            Ok(claims) => Ok((claims, username.to_owned())),
            Err(mut refusal) => {
                refusal.detail = format!("{} ({access})", refusal.detail);
                Err(unusable("ID token", refusal))
            }
        }
    }

    fn terms(&self, claims: Claims, username: String) -> Verdict {
        let reading = &self.config.reading;
        let same = self.prints.of(reading.digest(claims.members()).as_bytes());
        let grants = lock(&self.shared)
            .obtain(same, || {
                let rules = reading.rules(claims.members())?;
                Ok(Grants::compile(&rules))
            })
            .map_err(|why: String| Refusal::new(Reason::TokenTopics, why))?;
        let username: Arc<str> = username.into();
        let subject = match claims.get("sub") {
            // Two issuers may call two subjects the same.
            Some(Value::String(sub)) if self.rules.issuers.len() > 1 => {
                let issuer = claims.get("iss").and_then(Value::as_str);
                format!("{} {sub}", issuer.unwrap_or_default()).into()
            }
            Some(Value::String(sub)) if **sub == *username => Arc::clone(&username),
            Some(Value::String(sub)) => sub.as_str().into(),
            _ => Arc::clone(&username),
        };
        let client_ids = self.config.client_ids.of(&username, claims.members())?;
        let until = claims.until;
        let topics = match &reading.topics {
            Some(Place::Name(name)) => Some(name.as_str()),
            _ => None,
        };
        let token_names = |one: &str| grants.rules().claims().any(|claim| claim == one);
        // The largest. A policy file, the next one too, may look at it; a token's own rules seldom do.
        let spare = topics.filter(|one| self.policy_file.is_none() && !token_names(one));
        let named = self.policy_file.is_some() || grants.rules().claims().next().is_some();
        let claims = named.then(|| {
            let mut members = claims.into_members();
            if let Some(topics) = spare {
                members.remove(topics);
            }
            Arc::new(members)
        });
        Ok(Terms {
            username,
            subject,
            client_ids,
            grants,
            claims,
            until,
        })
    }

    /// What one client may do with a credential.
    fn rights(&self, claimant: &Claimant, terms: Terms) -> Result<Rights, Refusal> {
        // IPv6 addresses may name the interface (RFC 4007, section 11).
        let address = claimant.address.as_deref();
        let address = address.and_then(|text| text.split('%').next()?.parse().ok());
        let profile = Profile {
            client_id: Arc::clone(&claimant.client_id),
            username: terms.username,
            claims: terms.claims.unwrap_or_default(),
            address,
            port: claimant.port,
            certificate: claimant.certificate,
        };
        let book = self.policy_file.as_ref().map(InForce::book);
        Rights::new(terms.grants, book.as_ref(), profile).map_err(|why| match why {
            Hopeless::Token(why) => Refusal::new(Reason::TokenTopics, why.to_string()),
            Hopeless::Policy(why) => Refusal::new(Reason::PolicyValue, why.to_string()),
        })
    }

    /// A client that was let in has its user name: from here on it has rights. The older session of
    /// its client id is returned.
    pub fn admit(&self, admission: Admission) -> Option<Client> {
        self.sessions().admit(admission.client, admission.session)
    }

    /// Takes an admission back that the broker had no use for.
    pub fn retract(&self, client: Client, older: Option<Client>) {
        self.sessions().retract(client, older);
    }

    /// The broker would not give a client its user name: then it does not come in.
    pub fn refuse_username(&self, client_id: &str, now: Unix) {
        let refusal = Refusal::new(
            Reason::TokenUsername,
            "the broker does not take its user name",
        );
        let who = Who {
            client_id,
            username: None,
            address: None,
        };
        self.report(&who, &refusal, now);
    }

    /// A client wants to do something.
    pub fn authorise(&self, access: &Access, now: Unix) -> Decision {
        let mut sessions = self.sessions();
        let Some(found) = sessions.find(
            access.client,
            access.client_id,
            access.username,
            access.connected,
        ) else {
            drop(sessions);
            // Who waits for the tenant is nobody yet, and is denied (its will, if it hangs up).
            if self.config.defer_others && !lock(&self.arrivals).has(access.client) {
                return Decision::Defer;
            }
            self.report_stranger(access, now);
            return Decision::Deny;
        };
        let session = found.session;
        if let Some(policy) = &self.policy_file {
            session.rights.renew(policy);
        }
        let what = match access.action {
            Action::Publish => Ask::Publish {
                qos: access.qos,
                retain: access.retain,
                payload: access.payload,
            },
            // When a client leaves, the broker asks again about its subscriptions, with QoS 0.
            Action::Subscribe if !found.send_expires => Ask::Subscribe { qos: None },
            Action::Subscribe => Ask::Subscribe {
                qos: Some(access.qos),
            },
            Action::Receive | Action::Unsubscribe => Ask::Receive,
        };
        let expires = if access.action == Action::Receive {
            found.receive_expires
        } else {
            found.send_expires
        };
        let reason = match access.action {
            _ if expires && now >= session.until && access.action != Action::Unsubscribe => {
                Reason::RightsExpired
            }
            _ if self.config.defer_acl => return Decision::Defer,
            // To want less is always allowed.
            Action::Unsubscribe if std::str::from_utf8(access.topic).is_ok() => {
                return Decision::Allow;
            }
            // A client that leaves asks for nothing new: the broker goes through what it has, and drops
            // what is denied now. It may be its hour again when it comes back, and each delivery is looked
            // at by itself.
            Action::Subscribe if !found.send_expires && self.policy_file.is_some() => {
                return Decision::Allow;
            }
            _ if session.rights.allow(what, access.topic, now) => return Decision::Allow,
            _ => Reason::NotGranted,
        };
        let note = found.noted.note((reason, access.action, access.topic));
        if note != Note::Silent {
            let topic = String::from_utf8_lossy(access.topic);
            let detail = match reason {
                Reason::RightsExpired => "its token has expired".into(),
                _ => format!(
                    "{} is not allowed: {}",
                    Quoted(&topic),
                    session.rights.why_not(what, &topic, now)
                ),
            };
            self.report_refused_access(access, &Refusal::new(reason, detail));
        }
        if note == Note::ReportLast {
            self.log.line(
                Level::Notice,
                format!(
                    "further refusals of {} are not logged until it connects again",
                    Quoted(&String::from_utf8_lossy(access.client_id))
                ),
            );
        }
        Decision::Deny
    }

    /// A client has gone.
    pub fn leave(&self, client: Client, afterlife: Afterlife, now: Unix) {
        let credential = self.sessions().leave(client, afterlife);
        // A session that the broker keeps is a device that comes back.
        if let Some(credential) = credential
            && afterlife != Afterlife::Kept
        {
            lock(&self.verified).release(credential, now);
        }
    }

    /// Forgets a client: from here on it has no rights.
    pub fn forget(&self, client: Client) {
        self.sessions().remove(client);
    }

    /// Forgets who has gone for good, and what need not be remembered any longer; for a moment when
    /// the broker disconnects nobody. Whether it was so much that the memory should be given back.
    pub fn reap(&self, now: Unix) -> bool {
        let sessions = self.sessions().reap();
        let tokens = lock(&self.verified).forget_old(now);
        let logins = lock(&self.memory).forget_old(now);
        sessions || tokens || logins
    }

    /// The clients to disconnect, because their rights have ended.
    pub fn expire(&self, now: Unix) -> Vec<(Client, Arc<str>)> {
        let expired = self.sessions().expired(now);
        for (_, client_id) in &expired {
            let refusal = Refusal::new(Reason::RightsExpired, "its token has expired");
            self.log.line(
                Level::Notice,
                format!("disconnecting {} {refusal}", Quoted(client_id)),
            );
        }
        expired
    }

    fn report_refused_connect(&self, claimant: &Claimant, refusal: &Refusal, now: Unix) {
        let (username, address) = (claimant.username.as_deref(), claimant.address.as_deref());
        self.report(
            &Who {
                client_id: &claimant.client_id,
                username,
                address,
            },
            refusal,
            now,
        );
    }

    fn report(&self, who: &Who, refusal: &Refusal, now: Unix) {
        let mut more = String::new();
        // What the device is not to blame for concerns all of them: once a minute is enough.
        if matches!(refusal.reason.told(), Told::Unavailable | Told::Busy) {
            let mut reports = lock(&self.reports);
            match reports.troubles.get_mut(&refusal.reason) {
                // A clock that was set back must not silence it for hours.
                Some((since, silent)) if (*since..since.plus(REPORT_AGAIN)).contains(&now) => {
                    *silent += 1;
                    return;
                }
                Some((_, silent @ 1..)) => {
                    more = format!(
                        "; {silent} more were refused for this reason since the last such line"
                    )
                }
                _ => {}
            }
            reports.troubles.insert(refusal.reason, (now, 0));
        }
        let level = match refusal.reason.fault() {
            Fault::Device => Level::Notice,
            Fault::Account | Fault::Passing => Level::Warning,
            Fault::Configuration => Level::Error,
        };
        self.log
            .line(level, format!("refused CONNECT of {who} {refusal}{more}"));
    }

    fn report_refused_access(&self, access: &Access, refusal: &Refusal) {
        let what = match access.action {
            Action::Receive => "delivery to",
            Action::Publish => "PUBLISH of",
            Action::Subscribe => "SUBSCRIBE of",
            Action::Unsubscribe => "UNSUBSCRIBE of",
        };
        let client_id = String::from_utf8_lossy(access.client_id);
        let username = access.username.map(String::from_utf8_lossy);
        let who = Who {
            client_id: &client_id,
            username: username.as_deref(),
            address: None,
        };
        self.log
            .line(Level::Notice, format!("refused {what} {who} {refusal}"));
    }

    fn report_stranger(&self, access: &Access, now: Unix) {
        let note = {
            let mut reports = lock(&self.reports);
            if reports
                .strangers_since
                .is_none_or(|since| !(since..since.plus(REPORT_AGAIN)).contains(&now))
            {
                reports.strangers = Noted::default();
                reports.strangers_since = Some(now);
            }
            reports.strangers.note((access.client_id, access.action))
        };
        if note != Note::Silent {
            let refusal = Refusal::new(
                Reason::UnknownClient,
                format!(
                    "it has not signed in, so {} is refused",
                    Quoted(&String::from_utf8_lossy(access.topic))
                ),
            );
            self.report_refused_access(access, &refusal);
        }
    }

    /// No call inside these locks leaves this crate, so they are held for moments. A panic under
    /// one poisons it, and then everything is refused: [`PoisonError`] would hand out a table of
    /// which nobody knows what it says.
    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions
            .lock()
            .expect("no decision has panicked before")
    }
}

struct Who<'a> {
    client_id: &'a str,
    username: Option<&'a str>,
    address: Option<&'a str>,
}

impl fmt::Display for Who<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Quoted(self.client_id))?;
        match (self.username, self.address) {
            (None, None) => Ok(()),
            (Some(name), None) => write!(f, " (user {})", Quoted(name)),
            (None, Some(address)) => write!(f, " (from {address})"),
            (Some(name), Some(address)) => write!(f, " (user {}, from {address})", Quoted(name)),
        }
    }
}

/// What a look at a CONNECT came to.
enum Considered {
    Keep,
    Defer,
    Judged(Verdict),
    Open {
        job: Box<Job>,
        username: Option<String>,
    },
}

/// What a look at evidence came to.
enum Judged {
    Verdict(Verdict),
    NeedsKeys(Evidence),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing is half done under these locks, so a panic elsewhere leaves them good.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn keys_from_file(config: &Config) -> Result<Option<KeySet>, String> {
    /// A key set has a few kilobytes.
    const MAX_FILE: u64 = 256 * 1024;
    let KeySource::File(path) = &config.keys else {
        return Ok(None);
    };
    let error = |why: String| {
        ConfigError::of(
            "jwks_file",
            &path.display().to_string(),
            format!("it {why}"),
        )
        .to_string()
    };
    let content = files::read(path, MAX_FILE).map_err(error)?;
    KeySet::parse(&content.bytes).map(Some).map_err(|why| {
        error(format!(
            "{why}; save the tenant's /.well-known/jwks.json there"
        ))
    })
}
