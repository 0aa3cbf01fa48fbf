//! Authentication of one CONNECT, from its fields to the result. [`Engine::authenticate`] comes first, and its steps
//! follow in order.

use super::{Admission, Common, Engine, admission::client_id_is_held, pending::Wait};
use crate::{
    auth0::forwarded,
    client::{Client, ClientKey},
    clock::{Deadline, Unix, moment},
    identity::{Identity, Verdict},
    jwt::jws,
    limits::{LoginAttempt, source::SourceNetwork},
    refusal::{ConnectDetail, Detail, Field, Reason, Refusal},
    secret::Secret,
    sign_in::SignIn,
    workers::{Job, Login, Task, UnverifiedTokens},
};
use input::recognise::{self, Token};

/// A CONNECT, as the broker tells it.
pub struct Connect<'a> {
    /// The broker's pointer to the client.
    pub key: ClientKey,
    /// The client. Its user name is unverified; on a recheck (SIGHUP) it is the one that the client was given.
    pub client: Client<&'a str>,
    /// The password: any bytes.
    pub password: Option<&'a [u8]>,
    /// Whether the broker told an address that every client can make up. The client has none then.
    pub unverified_address: bool,
    /// Whether the broker says that it has no session under this client ID. 2.0 does not say.
    pub id_is_free: bool,
    /// Whether this may be a recheck (SIGHUP) of a client that is in, and not a CONNECT.
    pub may_be_recheck: bool,
    /// Whether this is a recheck of a session that the broker restored from disk. Its client has not come back yet.
    pub is_restored: bool,
    /// Whether this is certainly a recheck. Only 2.0 makes it certain.
    pub is_recheck: bool,
}

/// What happens next with a sign-in.
#[must_use]
pub enum Step {
    /// The client is admitted. Give it this user name, then call [`Common::admit`].
    Admit(Admission),
    /// The client is refused.
    Refuse(Refusal),
    /// The sign-in has to wait: [`Engine::wait`] does so at once. Where the broker takes the answer later,
    /// [`Engine::delay`] or [`Engine::postpone`] takes its place.
    Wait(Box<Wait>),
    /// The client is in already, or its session has no client yet: it keeps what it has.
    Keep,
    /// Others decide: the next plugin, or the broker itself.
    Defer,
}

/// The longest user name and password that the tenant is asked about, in bytes. Those of Auth0 have at most 128; one of
/// 64 KB would only load the tenant.
const MAX_CREDENTIAL: usize = 1024;

/// The result of a step that ends the sign-in.
enum Outcome {
    /// This is no CONNECT, and the client keeps what it has.
    Keep,
    /// Others decide.
    Defer,
    /// The credential was checked, or need not be.
    Verdict(Verdict),
    /// The sign-in cannot be decided from memory.
    Wait(Box<Wait>),
}

/// The result of a step that may end the sign-in. `Ok` is what the next steps need.
type StepResult<T> = Result<T, Outcome>;

fn refuse<T>(reason: Reason, detail: impl Into<Detail>) -> StepResult<T> {
    Err(Outcome::Verdict(Err(Refusal::new(reason, detail))))
}

impl Engine {
    /// Decides about a client that connects, without waiting.
    pub fn authenticate(&mut self, common: &mut Common, connect: &Connect, now: Unix) -> Step {
        if !connect.may_be_recheck {
            self.pending
                .forget(&mut common.tickets, connect.key, connect.client.id);
        }
        if connect.unverified_address {
            self.warn_of_unverified_address();
        }
        let mut sign_in = self.sign_in(connect);
        let outcome = self.outcome(common, connect, &mut sign_in, now);
        match outcome.unwrap_or_else(|ended| ended) {
            Outcome::Keep => Step::Keep,
            Outcome::Defer => Step::Defer,
            Outcome::Verdict(verdict) => self.admit_or_refuse(common, &sign_in, verdict, now),
            Outcome::Wait(wait) => Step::Wait(wait),
        }
    }

    fn outcome(
        &mut self,
        common: &mut Common,
        connect: &Connect,
        sign_in: &mut SignIn,
        now: Unix,
    ) -> StepResult<Outcome> {
        recheck_session(common, connect, sign_in, now)?;
        let cached = self.cached_token(sign_in, now);
        // First of all, because whoever else sees the field might pass the token on, or log it.
        let is_token = recognise_token(connect, cached.is_some())?;
        if let Some(identity) = cached {
            return Ok(Outcome::Verdict(Ok(identity)));
        }
        let password = password_of(connect)?;
        // The old integration sent the user name `JWT` with a token.
        if is_token || connect.client.username == Some("JWT") && !password.is_empty() {
            return Ok(self.authenticate_token(sign_in, password, now));
        }
        match self.login_username(connect, password)? {
            Ok(username) => {
                self.authenticate_login(common, connect, sign_in, username, password, now)
            }
            Err(refusal) => Ok(self.not_ours(common, connect, sign_in, refusal)),
        }
    }

    fn sign_in(&self, connect: &Connect) -> SignIn {
        let source = SourceNetwork::of(connect.client.address);
        SignIn {
            key: connect.key,
            client: connect.client.to_shared(),
            credential: self.prints.of(connect.password.unwrap_or_default()),
            user: None,
            caller: self.known_callers.caller(None, source, moment()),
            id_is_free: connect.id_is_free,
        }
    }

    /// Returns the identity in this token, if it was verified before with the same keys.
    fn cached_token(&mut self, sign_in: &SignIn, now: Unix) -> Option<Identity> {
        let keys = self.keys.current();
        self.token_cache.get(sign_in.credential, &keys, now)
    }

    /// Verifies a token, or makes it wait for the key that signed it.
    fn authenticate_token(&mut self, sign_in: &SignIn, token: &str, now: Unix) -> Outcome {
        let print = sign_in.credential;
        let deadline = Deadline::after(self.config.timeout);
        if let Some(verdict) = self.verify_presented(token, print, None, now) {
            return Outcome::Verdict(verdict);
        }
        let unverified = UnverifiedTokens::FromClient {
            token: token.to_owned(),
            print,
        };
        Outcome::Wait(Box::new(Wait {
            job: Job {
                sign_in: sign_in.clone(),
                key: print,
                deadline,
                task: Task::Keys(unverified),
            },
            username: jws::unverified_text_claim(token, &self.config.username_claim)
                .map(|name| self.username_for_broker(&name.into()).to_string()),
        }))
    }

    /// Returns the user of the tenant whose password this may be. The inner error says why the tenant is not to be
    /// asked.
    fn login_username<'a>(
        &self,
        connect: &Connect<'a>,
        password: &str,
    ) -> StepResult<Result<&'a str, Refusal>> {
        let not_ours = |reason, detail: ConnectDetail| Ok(Err(Refusal::new(reason, detail)));
        if password.is_empty() {
            return not_ours(Reason::NoPassword, ConnectDetail::NoPassword);
        }
        if self.config.application.is_none() {
            return not_ours(Reason::CredentialsOff, ConnectDetail::CredentialsModeOff);
        }
        let username = connect
            .client
            .username
            .map(|name| self.username_of_tenant(name, connect.may_be_recheck));
        let Some(username) = username.filter(|name| !name.is_empty()) else {
            return not_ours(Reason::NoUsername, ConnectDetail::NoUsername);
        };
        for (field, bytes) in [
            (Field::Username, username.len()),
            (Field::Password, password.len()),
        ] {
            if bytes > MAX_CREDENTIAL {
                let most = MAX_CREDENTIAL;
                let detail = ConnectDetail::TooLong { field, bytes, most };
                return refuse(Reason::TooLong, detail);
            }
        }
        Ok(Ok(username))
    }

    /// Answers a login from the login cache, or makes it wait for the tenant.
    fn authenticate_login(
        &mut self,
        common: &mut Common,
        connect: &Connect,
        sign_in: &mut SignIn,
        username: &str,
        password: &str,
        now: Unix,
    ) -> StepResult<Outcome> {
        let deadline = Deadline::after(self.config.timeout);
        // Auth0 takes `Device` for `device`.
        let user = self.prints.of(username.trim().to_lowercase().as_bytes());
        sign_in.user = Some(user);
        let source = sign_in.caller.source;
        sign_in.caller = self.known_callers.caller(sign_in.user, source, moment());
        // The length makes a difference between `a` with `bc` and `ab` with `c`.
        let both = format!("{}:{username}{password}", username.len());
        let key = self.prints.of(both.as_bytes());
        if let Some(verdict) = self.login_cache.get(key, now) {
            return Ok(Outcome::Verdict(verdict));
        }
        let address = connect.client.address.and_then(forwarded::device_address);
        let attempt = LoginAttempt { user, address };
        // The same login is being checked already, so this one needs no request.
        let permit = match self.pool.is_busy(key) {
            true => None,
            false => {
                let limits = common.limits(self.tenant);
                let permit = limits
                    .begin(attempt, sign_in.caller, moment())
                    .map_err(|refusal| Outcome::Verdict(Err(refusal)))?;
                self.known_callers.asked(user, moment());
                self.count_question(sign_in.caller);
                Some(permit)
            }
        };
        let login = Login {
            username: username.into(),
            password: Secret::new(password),
            address,
            permit,
        };
        Ok(Outcome::Wait(Box::new(Wait {
            job: Job {
                sign_in: sign_in.clone(),
                key,
                deadline,
                task: Task::Login(login),
            },
            username: (!self.config.username_prefix.is_empty())
                .then(|| self.username_for_broker(&username.into()).to_string()),
        })))
    }

    /// Leaves a client that brought neither a token nor a login to others, or refuses it. Others never decide about a
    /// client ID that one of our sessions holds.
    fn not_ours(
        &self,
        common: &mut Common,
        connect: &Connect,
        sign_in: &SignIn,
        refusal: Refusal,
    ) -> Outcome {
        if !self.config.defer_others {
            return Outcome::Verdict(Err(refusal));
        }
        let sessions = &mut common.sessions;
        let free = self.config.any_takeover || sign_in.id_is_free;
        if !free && sessions.is_held_by_another(&sign_in.client.id, None) {
            return Outcome::Verdict(Err(client_id_is_held()));
        }
        sessions.other_comes(sign_in.key, &sign_in.client.id, connect.may_be_recheck);
        Outcome::Defer
    }
}

/// Keeps a client that is in when the broker asks about it again (SIGHUP).
fn recheck_session(
    common: &mut Common,
    connect: &Connect,
    sign_in: &SignIn,
    now: Unix,
) -> StepResult<()> {
    if connect.is_restored {
        return Err(Outcome::Keep);
    }
    let sessions = &mut common.sessions;
    match sessions.recheck(
        connect.key,
        connect.client.id,
        connect.client.username,
        sign_in.credential,
        connect.may_be_recheck,
        now,
    ) {
        Some(true) => Err(Outcome::Keep),
        Some(false) => refuse(Reason::TokenExpired, ConnectDetail::RightsEnded),
        // Others let it in, and it is still connected: its client ID stays taken.
        None if connect.may_be_recheck && sessions.is_other(connect.key) => Ok(()),
        None => {
            // A new connection at an old address inherits nothing.
            sessions.arrives(connect.key);
            match connect.is_recheck {
                // A certificate or another plugin let it in, and decides again when it comes back. 2.0 must not refuse
                // a client that is away (`sessions::dropped`), and does not say whether this one is.
                true => Err(Outcome::Keep),
                false => Ok(()),
            }
        }
    }
}

/// Whether the password is a token. `cached` says that it was verified before.
fn recognise_token(connect: &Connect, cached: bool) -> StepResult<bool> {
    let token = match cached {
        true => Some(Token::Alone),
        false => recognise::token(connect.password.unwrap_or_default()),
    };
    match misused(connect, token) {
        Some(refusal) => Err(Outcome::Verdict(Err(refusal))),
        None => Ok(token.is_some()),
    }
}

fn password_of<'a>(connect: &Connect<'a>) -> StepResult<&'a str> {
    match std::str::from_utf8(connect.password.unwrap_or_default()) {
        Ok(password) => Ok(password),
        Err(_) => refuse(Reason::NotUtf8, ConnectDetail::NotUtf8(Field::Password)),
    }
}

/// Returns why a token cannot be used as it arrived: it is incomplete, there is something around it, or it is in
/// another field.
fn misused(connect: &Connect, password: Option<Token>) -> Option<Refusal> {
    let refusal = |reason, field, token| {
        let detail = Detail::Misused { field, token };
        Some(Refusal::new(reason, detail))
    };
    match password {
        Some(token @ Token::Wrapped(_)) => {
            return refusal(Reason::TokenWrapped, Field::Password, token);
        }
        Some(token @ Token::Piece(_)) => {
            return refusal(Reason::TokenMalformed, Field::Password, token);
        }
        Some(Token::Alone) | None => {}
    }
    // With a token as the password the user name is ignored.
    let username = connect.client.username.filter(|_| password.is_none());
    // A shorter client ID can only hold the beginning of the header of a token, which is no secret.
    const LEAST: usize = 16;
    let client_id = Some(connect.client.id).filter(|id| id.len() >= LEAST);
    let fields = [(Field::Username, username), (Field::ClientId, client_id)];
    fields.into_iter().find_map(|(field, text)| {
        let token = recognise::token(text?.as_bytes())?;
        refusal(Reason::TokenMisplaced, field, token)
    })
}
