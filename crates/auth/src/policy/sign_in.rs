//! Who may come in: from the CONNECT to the answer, with a wait in between where it takes one.

use std::{sync::Arc, time::Duration};

use super::{Common, Policy, report::Who};
use crate::{
    auth0::forwarded,
    clock::{Deadline, Unix, moment},
    identity,
    log::Level,
    logins::{
        Claimant, Done, Errand, Evidence, Job, Origin, Question, Terms, Verdict,
        arrivals::{self, Arrival},
        source::Source,
    },
    refusal::{Reason, Refusal},
    secret::Secret,
    sessions::{Client, Session},
    token::jws,
};
use input::{
    json::Place,
    recognise::{self, Token},
    text::Quoted,
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
    /// Its own address, if the broker told it and it counts ([`crate::proxies`]).
    pub address: Option<&'a str>,
    /// Whether everybody could have written the address that the broker told.
    pub unverified_address: bool,
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
    /// No CONNECT, for certain: SIGHUP asks about a session that the broker has. 2.0 only.
    pub rechecked: bool,
}

/// How a sign-in goes on.
#[must_use]
pub enum Step {
    /// It is good. Give the client this user name, then [`Common::admit`] it.
    Admit(Admission),
    /// It is not.
    Refuse(Refusal),
    /// It has to wait: [`Policy::wait`] here, or, where the broker takes the answer later, [`Policy::delay`]
    /// or [`Policy::postpone`].
    Wait(Box<Wait>),
    /// The client is already in, or is nobody yet: let the broker keep it, with what it has.
    Keep,
    /// It is none of ours: the next plugin, or the broker itself, decides.
    Defer,
}

/// A sign-in that cannot be decided from memory.
#[must_use]
pub struct Wait {
    pub(super) claimant: Claimant,
    pub(super) job: Job,
    /// The user name that the client will have if it comes in: what its token says, unverified.
    /// `None` where it keeps the one it sent.
    pub username: Option<String>,
}

impl Wait {
    /// Whether it is the tenant that has to be asked, and not only for its keys.
    pub fn is_login(&self) -> bool {
        !self.job.is_for_keys()
    }
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

    pub(super) fn into_session(self) -> (Client, Session) {
        (self.client, self.session)
    }
}

/// Passwords and user names longer than this, in bytes, are refused without asking anybody:
/// Auth0's end at 128, and a 64 KB one would only be a load on the tenant.
const MAX_CREDENTIAL: usize = 1024;

impl Policy {
    /// A client wants to come in.
    pub fn authenticate(&mut self, common: &mut Common, connect: &Connect, now: Unix) -> Step {
        if !connect.again {
            self.arrivals.forget(connect.client, connect.client_id);
        }
        if connect.unverified_address {
            self.warn_of_unverified_address();
        }
        let password = connect.password.unwrap_or_default();
        let credential = self.prints.of(password);
        let mut claimant = Claimant {
            client: connect.client,
            client_id: connect.client_id.into(),
            username: connect.username.map(Into::into),
            address: connect.address.map(Into::into),
            port: connect.port,
            certificate: connect.certificate,
            credential,
            login: None,
            caller: self
                .known
                .caller(None, Source::of(connect.address), moment()),
            id_is_free: connect.id_is_free,
        };
        match self.consider(common, connect, &mut claimant, now) {
            Considered::Keep => Step::Keep,
            Considered::Defer => Step::Defer,
            Considered::Judged(verdict) => self.conclude(common, &claimant, verdict, now),
            Considered::Open { job, username } => Step::Wait(Box::new(Wait {
                claimant,
                job: *job,
                username,
            })),
        }
    }

    fn consider(
        &mut self,
        common: &mut Common,
        connect: &Connect,
        claimant: &mut Claimant,
        now: Unix,
    ) -> Considered {
        let refuse = |reason, detail: &str| Considered::Judged(Err(Refusal::new(reason, detail)));
        if connect.restored {
            return Considered::Keep;
        }
        let sessions = &mut common.sessions;
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
            // Others let it in, and it is still connected: its client ID stays taken.
            None if connect.again && sessions.is_other(connect.client) => {}
            None => {
                // A new connection at an old address inherits nothing.
                sessions.arrives(connect.client);
                // Its certificate let it in, or another plugin: whoever did decides when it comes back. 2.0
                // must not be told no about one that is away (`sessions::forgotten`), and does not tell
                // whether this one is.
                if connect.rechecked {
                    return Considered::Keep;
                }
            }
        }

        let print = claimant.credential;
        let keys = self.desk.keys.current();
        // A token that was good a moment ago needs no second look.
        let known = self.verified.recall(print, &keys, now);
        let token = match known {
            Some(_) => Some(Token::Alone),
            None => recognise::token(connect.password.unwrap_or_default()),
        };
        // Before anything is asked, counted or left to others: they might pass it on, or log it.
        if let Some(refusal) = misused(connect, token) {
            return Considered::Judged(Err(refusal));
        }
        if let Some(terms) = known {
            return Considered::Judged(Ok(terms));
        }
        let Ok(password) = std::str::from_utf8(connect.password.unwrap_or_default()) else {
            return refuse(Reason::NotUtf8, "its password is not UTF-8 text");
        };
        // Neither a token nor something to ask the tenant about.
        let not_ours = |policy: &Self, common: &mut Common, claimant: &Claimant, reason, detail| {
            if policy.config.defer_others {
                policy.leave_to_others(common, claimant, connect.again)
            } else {
                refuse(reason, detail)
            }
        };
        if password.is_empty() {
            let detail = "it sent no password";
            return not_ours(self, common, claimant, Reason::NoPassword, detail);
        }
        let deadline = Deadline::after(self.config.timeout);

        // `JWT` as the user name is how the old integration told a token from a password.
        if connect.username == Some("JWT") || token.is_some() {
            if let Some(verdict) = self.judge_presented(password, print, None, now) {
                return Considered::Judged(verdict);
            }
            let token = password.to_owned();
            return Considered::Open {
                job: Box::new(Job {
                    claimant: claimant.clone(),
                    key: print,
                    question: None,
                    errand: Errand::Keys(Evidence::Presented { token, print }),
                    deadline,
                }),
                username: jws::unverified_text_claim(password, &self.config.username_claim)
                    .map(|name| self.username_for_broker(&name.into()).to_string()),
            };
        }

        if self.config.application.is_none() {
            let detail = "it sent a password, and credentials mode is off";
            return not_ours(self, common, claimant, Reason::CredentialsOff, detail);
        }
        let username = connect
            .username
            .map(|name| self.username_of_tenant(name, connect.again));
        let Some(username) = username.filter(|name| !name.is_empty()) else {
            let detail = "it sent a password and no user name";
            return not_ours(self, common, claimant, Reason::NoUsername, detail);
        };
        for (what, length) in [("user name", username.len()), ("password", password.len())] {
            if length > MAX_CREDENTIAL {
                return refuse(
                    Reason::TooLong,
                    &format!("its {what} has {length} bytes, more than {MAX_CREDENTIAL}"),
                );
            }
        }
        // As Auth0 compares them: it takes `Device` for `device`.
        let user = self.prints.of(username.trim().to_lowercase().as_bytes());
        claimant.login = Some(user);
        let source = claimant.caller.source;
        claimant.caller = self.known.caller(claimant.login, source, moment());
        // With the length in front, `a` with `bc` is not `ab` with `c`.
        let both = format!("{}:{username}{password}", username.len());
        let key = self.prints.of(both.as_bytes());
        if let Some(verdict) = self.memory.recall(key, now) {
            return Considered::Judged(verdict);
        }
        let address = connect.address.and_then(forwarded::device_address);
        let origin = Origin { user, address };
        // Who joins a question that is under way asks none.
        let question = match self.pool.is_busy(key) {
            true => None,
            false => match common
                .restraint(self.tenant)
                .ask(origin, claimant.caller, moment())
            {
                Ok(question) => {
                    self.known.asked(user, moment());
                    self.count_question(claimant.caller);
                    Some(question)
                }
                Err(refusal) => return Considered::Judged(Err(refusal)),
            },
        };
        let errand = Errand::Login {
            username: username.into(),
            password: Secret::new(password),
            address,
        };
        Considered::Open {
            job: Box::new(Job {
                claimant: claimant.clone(),
                key,
                question,
                errand,
                deadline,
            }),
            username: (!self.config.username_prefix.is_empty())
                .then(|| self.username_for_broker(&username.into()).to_string()),
        }
    }

    /// Others decide about it; but not with a client id that one of ours holds.
    fn leave_to_others(&self, common: &mut Common, claimant: &Claimant, again: bool) -> Considered {
        let sessions = &mut common.sessions;
        let free = self.config.any_takeover || claimant.id_is_free;
        if !free && sessions.is_held_by_another(&claimant.client_id, None) {
            return Considered::Judged(Err(held()));
        }
        sessions.other_comes(claimant.client, &claimant.client_id, again);
        Considered::Defer
    }

    /// Waits for the outcome within the budget. Beyond it the client is turned away, and the tenant
    /// asked all the same: it is let in from memory when it comes back.
    pub fn wait(&mut self, common: &mut Common, wait: Box<Wait>, clock: fn() -> Unix) -> Step {
        let Wait { claimant, job, .. } = *wait;
        let (key, deadline) = (job.key, job.deadline);
        let began = moment();
        let allowance = match self.pool.is_busy(key) {
            // The broker has waited for this answer before.
            true => Duration::ZERO,
            false => {
                let (most, percent) = (self.config.login_wait, self.config.stall_budget);
                let budget = &mut common.budget;
                budget.allowance(key, claimant.caller, began, most, percent)
            }
        };
        let until = Deadline::after(allowance.min(deadline.remaining()));
        let mut answered = true;
        let verdict = match self.submit(common, job) {
            Err(refusal) => Err(refusal),
            Ok(()) => loop {
                match self
                    .pool
                    .wait(key, until)
                    .map(|done| self.settle(common, done, clock()))
                {
                    Some(Some((verdict, _))) => break verdict,
                    // It needs the keys as well, and that is under way.
                    Some(None) => {}
                    None if deadline.has_passed() => {
                        answered = false;
                        break self.too_late();
                    }
                    None => {
                        answered = false;
                        break Err(Refusal::new(
                            Reason::LoginPending,
                            "the tenant is being asked, and the broker may not wait longer",
                        ));
                    }
                }
            },
        };
        let ended = moment();
        let budget = &mut common.budget;
        budget.spend(ended, claimant.caller.source, ended - began);
        if !answered && !allowance.is_zero() {
            budget.waited_for_nothing(key, ended);
        }
        self.conclude(common, &claimant, verdict, clock())
    }

    /// Has the outcome found while the broker holds the CONNECT; [`Self::collect`] brings it.
    ///
    /// # Errors
    ///
    /// A refusal if there is too much to do already.
    pub fn delay(
        &mut self,
        common: &mut Common,
        wait: Box<Wait>,
        now: Unix,
    ) -> Result<(), Refusal> {
        let Wait { claimant, job, .. } = *wait;
        let (key, deadline) = (job.key, job.deadline);
        let submitted = match self.arrivals.has_room(claimant.caller) {
            true => self.submit(common, job),
            false => {
                self.give_back(common, job.question);
                Err(Refusal::new(Reason::LoginQueue, "too many sign-ins wait"))
            }
        };
        if let Err(refusal) = submitted {
            self.report_refused_connect(&claimant, &refusal, now);
            return Err(refusal);
        }
        common.names.try_once(&claimant.client_id, moment());
        self.arrivals.wait(Arrival::new(claimant, key, deadline));
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
    pub fn absorb(&mut self, common: &mut Common, now: Unix) {
        for done in self.pool.take_finished() {
            let (key, claimant) = (done.key, done.claimant.clone());
            match self.settle(common, done, now) {
                // Whoever asked was turned away meanwhile, and comes back for it.
                Some((verdict @ Ok(_), 0)) => self.memory.hold(key, &verdict, now),
                Some((Err(refusal), 0)) => self.report_refused_connect(&claimant, &refusal, now),
                _ => {}
            }
        }
    }

    /// What has come of jobs since the last time: remembers it, and brings the clients to answer.
    pub fn collect(&mut self, common: &mut Common, now: Unix) -> Vec<Answer> {
        self.absorb(common, now);
        if self.arrivals.is_empty() {
            return Vec::new();
        }
        let too_late = self.too_late();
        self.arrivals.give_up(|| too_late.clone());
        let ready = self.arrivals.take_ready().into_iter();
        ready
            .filter(|(arrival, _)| arrival.is_awaited())
            .map(|(arrival, verdict)| Answer {
                client_id: Arc::clone(&arrival.claimant.client_id),
                admission: match self.conclude(common, &arrival.claimant, verdict, now) {
                    Step::Admit(admission) => Some(admission),
                    _ => None,
                },
            })
            .collect()
    }

    pub(super) fn submit(&self, common: &mut Common, job: Job) -> Result<(), Refusal> {
        let question = job.question;
        let submitted = self.pool.submit(job);
        if submitted.is_err() {
            self.give_back(common, question);
        }
        submitted
    }

    /// The tenant is not asked after all.
    fn give_back(&self, common: &mut Common, question: Option<Question>) {
        if let Some(question) = question {
            common.restraint(self.tenant).give_back(question, moment());
        }
    }

    fn too_late(&self) -> Verdict {
        let timeout = self.config.timeout.as_secs();
        let detail = format!("the tenant did not answer within {timeout} s");
        Err(Refusal::new(Reason::TenantUnreachable, detail))
    }

    /// Judges what came of a job, remembers it, and hands it to the clients that wait; how many they
    /// are. `None` if it takes another job first.
    fn settle(&mut self, common: &mut Common, done: Done, now: Unix) -> Option<(Verdict, usize)> {
        let restraint = common.restraint(self.tenant);
        let Done {
            claimant,
            key,
            question,
            aftermath,
            result,
            keys_refetched,
            deadline,
        } = done;
        if let Some(question) = question {
            let no = result.as_ref().err().map(|refusal| refusal.reason);
            restraint.heard(question, no, aftermath, moment());
        }
        let issued_to = match &result {
            Ok(Evidence::Issued { origin, .. }) => *origin,
            _ => None,
        };
        let is_login = !matches!(result, Ok(Evidence::Presented { .. }));
        let verdict = match result {
            Err(refusal) => Err(refusal),
            Ok(evidence) => match self.judge(&evidence, keys_refetched, now) {
                Some(verdict) => verdict,
                None => {
                    match self.pool.submit(Job {
                        claimant,
                        key,
                        question: None,
                        errand: Errand::Keys(evidence),
                        deadline,
                    }) {
                        Ok(()) => return None,
                        Err(refusal) => Err(refusal),
                    }
                }
            },
        };
        if let Some(origin) = issued_to {
            let no = verdict.as_ref().err().map(|refusal| refusal.reason);
            restraint.judged(origin, no, moment());
        }
        if is_login {
            self.memory.remember(key, &verdict, now);
        }
        let woken = self.arrivals.resolve(key, &verdict);
        Some((verdict, woken))
    }

    /// What a verdict means for one client.
    pub(super) fn conclude(
        &mut self,
        common: &Common,
        claimant: &Claimant,
        verdict: Verdict,
        now: Unix,
    ) -> Step {
        let admitted = verdict.and_then(|terms| {
            self.may_use_client_id(common, claimant, &terms)?;
            let account = terms.account.clone();
            let username = self.username_for_broker(&terms.username);
            let until = terms.until;
            self.rights(claimant, terms)
                .map(|rights| (username, account, rights, until))
        });
        match admitted {
            Ok((username, account, rights, until)) => {
                self.known.came_in(claimant.login, claimant.caller.source);
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
                    account,
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
    fn may_use_client_id(
        &self,
        common: &Common,
        claimant: &Claimant,
        terms: &Terms,
    ) -> Result<(), Refusal> {
        identity::check(&terms.client_ids, &claimant.client_id)?;
        if self.config.any_takeover
            || claimant.id_is_free
            || !common
                .sessions
                .is_held_by_another(&claimant.client_id, Some(&terms.account))
        {
            return Ok(());
        }
        Err(held())
    }

    /// The broker would not give a client its user name: then it does not come in.
    pub fn refuse_username(&mut self, client_id: &str, now: Unix) {
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
}

/// Why a token cannot be taken as it arrived: it is not whole, has something around it, or stands in
/// another field.
fn misused(connect: &Connect, password: Option<Token>) -> Option<Refusal> {
    match password {
        Some(token @ Token::Wrapped(_)) => {
            let detail = format!("its password {token}");
            return Some(Refusal::new(Reason::TokenWrapped, detail));
        }
        Some(token @ Token::Piece(_)) => {
            let detail = format!("its password {token}");
            return Some(Refusal::new(Reason::TokenMalformed, detail));
        }
        Some(Token::Alone) | None => {}
    }
    // With a token as the password the user name is nobody's, whatever it is.
    let username = connect.username.filter(|_| password.is_none());
    // A shorter client ID holds no more of a token than the beginning of its header, which is no secret.
    const LEAST: usize = 16;
    let client_id = Some(connect.client_id).filter(|id| id.len() >= LEAST);
    let fields = [("user name", username), ("client ID", client_id)];
    fields.into_iter().find_map(|(field, text)| {
        let token = recognise::token(text?.as_bytes())?;
        let detail = format!("its {field} {token}");
        Some(Refusal::new(Reason::TokenMisplaced, detail))
    })
}

fn held() -> Refusal {
    Refusal::new(
        Reason::ClientIdHeld,
        "somebody else is connected with this client id, or has a kept session under it",
    )
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
