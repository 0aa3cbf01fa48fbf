//! Authentication of one CONNECT, from its fields to the result. [`Engine::authenticate`] comes first, and its steps
//! follow in order.

use super::{Admission, Common, Engine, pending::Wait, verify::KeyFetch};
use crate::{
    auth0::forwarded,
    client::{Client, ClientKey},
    clock::{Deadline, Unix, moment},
    identity::{Identity, Verdict},
    jwt::jws::{self, PresentedToken},
    limits::{LoginAttempt, source::SourceNetwork},
    refusal::{ConnectDetail, Detail, Field, Reason, Refusal},
    secret::Secret,
    sessions::{Origin, RecheckAnswer},
    sign_in::{Presented, SignIn},
    workers::{Job, Login, Task, UnverifiedTokens},
};
use input::recognise::{self, Token};
use std::borrow::Cow;

/// A CONNECT, as the broker tells it.
pub struct Connect<'a> {
    /// The broker's pointer to the client.
    pub key: ClientKey,
    /// The client. Its user name is unverified; on a recheck (SIGHUP) it is the one that the client was given.
    pub client: Client<&'a str>,
    /// The password, or the token in the authentication data: any bytes.
    pub password: Option<&'a [u8]>,
    /// Whether the broker told an address that every client can make up. The client has none then.
    pub unverified_address: bool,
    /// Whether this is a CONNECT, or a recheck of a session that the broker has (SIGHUP).
    pub origin: Origin,
    /// Whether the broker says at a CONNECT that it has no session under this client ID. 2.0 does not say.
    pub id_is_free: bool,
    /// Where the client presents its credential.
    pub presented: Presented,
    /// The user name of the session that the broker restored from disk under this client ID, if it says so. 2.0 does
    /// not say.
    pub restored_for: Option<&'a str>,
    /// Whether the broker certainly ends the session with the connection: Clean Session of MQTT 3.
    pub ends_with_connection: bool,
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
    /// The client is in already: it keeps what it has.
    Keep,
    /// The next plugin or the broker itself decides.
    Defer,
}

/// The longest user name and password that the tenant is asked about, in bytes. Those of Auth0 have at most 128; one of
/// 64 KB would only load the tenant.
const MAX_CREDENTIAL: usize = 1024;

/// The end of a sign-in.
pub(super) enum Outcome {
    /// This is no CONNECT, and the client keeps what it has.
    Keep,
    /// Another plugin or the broker decides.
    Defer,
    /// The credential was checked, or need not be.
    Verdict(Verdict),
    /// The sign-in cannot be decided from memory.
    Wait(Box<Wait>),
}

impl From<Refusal> for Outcome {
    fn from(refusal: Refusal) -> Self {
        Self::Verdict(Err(refusal))
    }
}

/// The result of a step that may end the sign-in. `Ok` is what the next steps need.
type StepResult<T> = Result<T, Outcome>;

/// What a client presents.
enum Credential<'a> {
    /// A token that has to be verified.
    Token(&'a str),
    /// The user name and password of a user of the tenant.
    Login {
        username: &'a str,
        password: &'a str,
    },
    /// A user name that the broker has in a file of its own, and a password.
    LocalUser,
    /// Neither. The refusal says why.
    Neither(Refusal),
}

impl Engine {
    /// Decides about a client that connects, without waiting.
    pub fn authenticate(&mut self, common: &mut Common, connect: &Connect, now: Unix) -> Step {
        if !connect.origin.may_be_recheck() {
            self.exchanges.forget(connect.key);
            self.pending
                .forget(&mut common.tickets, connect.key, connect.client.id);
        }
        if connect.unverified_address {
            self.warn_of_unverified_address();
        }
        let mut sign_in = self.sign_in(connect);
        let outcome = match self.credential(common, connect, &sign_in, now) {
            Err(ended) => ended,
            Ok(Credential::Token(token)) => self.authenticate_token(&sign_in, token, now),
            Ok(Credential::Login { username, password }) => {
                self.authenticate_login(common, &mut sign_in, username, password, now)
            }
            Ok(Credential::LocalUser) => self.defer(common, connect.origin, &sign_in),
            Ok(Credential::Neither(refusal)) => {
                self.defer_or_refuse(common, connect.origin, &sign_in, refusal)
            }
        };
        match outcome {
            Outcome::Keep => Step::Keep,
            Outcome::Defer => Step::Defer,
            Outcome::Verdict(verdict) => {
                match self.admit_or_refuse(common, &sign_in, verdict, now) {
                    Ok(admission) => Step::Admit(admission),
                    Err(refusal) => Step::Refuse(refusal),
                }
            }
            Outcome::Wait(wait) => Step::Wait(wait),
        }
    }

    /// Returns the credential that has to be checked. Ends the sign-in if there is nothing to check.
    fn credential<'a>(
        &mut self,
        common: &mut Common,
        connect: &Connect<'a>,
        sign_in: &SignIn,
        now: Unix,
    ) -> StepResult<Credential<'a>> {
        recheck_session(common, connect, sign_in, now)?;
        let cached = self.cached_token(sign_in, now);
        // First of all, because whoever else sees the field might pass the token on, or log it.
        let is_token = recognise_token(connect, cached.is_some())?;
        if let Some(identity) = cached {
            return Err(Outcome::Verdict(Ok(identity)));
        }
        let password = password_of(connect)?;
        let for_token_alone = connect.presented.is_authentication_data();
        // The old integration sent the user name `JWT` with a token.
        let says_jwt = connect.client.username == Some("JWT") && !password.is_empty();
        if is_token || for_token_alone || says_jwt {
            return Ok(Credential::Token(password));
        }
        Ok(self.login(common, connect, password)?)
    }

    pub(super) fn sign_in(&self, connect: &Connect) -> SignIn {
        let source = SourceNetwork::of(connect.client.address);
        let password = connect.password.unwrap_or_default();
        let credential = self.fingerprinter.of(password);
        SignIn {
            key: connect.key,
            client: connect.client.to_shared(),
            credential,
            user: None,
            login: None,
            caller: self.known_callers.caller(None, source, moment()),
            id_is_free: connect.id_is_free,
            presented: connect.presented.clone(),
            token_id: self.token_id(credential, password),
            restored_for: connect.restored_for.map(Into::into),
            ends_with_connection: connect.ends_with_connection,
        }
    }

    /// Returns the identity in this token, if it was verified before with the same keys.
    pub(super) fn cached_token(&mut self, sign_in: &SignIn, now: Unix) -> Option<Identity> {
        let issuers = &self.issuers;
        let keys_of = |issuer| issuers[issuer].keys.current();
        let identity = self.token_cache.get(sign_in.credential, keys_of, now)?;
        self.counters.token_cache.count(true);
        Some(identity)
    }

    /// Verifies a token, or makes it wait for the key that signed it.
    fn authenticate_token(&mut self, sign_in: &SignIn, token: &str, now: Unix) -> Outcome {
        let print = sign_in.credential;
        let deadline = Deadline::after(self.config.timeout);
        let presented = PresentedToken::new(token);
        let number = match self.issuers.of_token(&presented) {
            Ok(number) => number,
            Err(refusal) => return refusal.into(),
        };
        let presented = (&presented, number);
        if let Some(verdict) = self.verify_presented(sign_in, presented, KeyFetch::NotTried, now) {
            return Outcome::Verdict(verdict);
        }
        let unverified = UnverifiedTokens::FromClient {
            issuer: number,
            token: token.to_owned(),
        };
        let issuer = &self.issuers[number].config;
        Outcome::Wait(Box::new(Wait {
            job: Job {
                sign_in: sign_in.clone(),
                key: print,
                deadline,
                task: Task::Keys(unverified),
            },
            username: jws::unverified_claims(token)
                .and_then(|mut claims| {
                    issuer.sources.apply(&mut claims);
                    issuer.usernames.of(&claims).ok().map(Cow::into_owned)
                })
                .map(|name| issuer.username_for_broker(&name.into()).to_string()),
        }))
    }

    /// Returns the login that this password may belong to.
    fn login<'a>(
        &self,
        common: &Common,
        connect: &Connect<'a>,
        password: &'a str,
    ) -> Result<Credential<'a>, Refusal> {
        let neither =
            |reason, detail: ConnectDetail| Ok(Credential::Neither(Refusal::new(reason, detail)));
        if password.is_empty() {
            return neither(Reason::NoPassword, ConnectDetail::NoPassword);
        }
        if !self.issuers.check_passwords() {
            return neither(Reason::CredentialsOff, ConnectDetail::CredentialsModeOff);
        }
        let username = connect
            .client
            .username
            .map(|name| self.username_of_tenant(name, connect.origin));
        let Some(username) = username.filter(|name| !name.is_empty()) else {
            return neither(Reason::NoUsername, ConnectDetail::NoUsername);
        };
        // A client that others let in may be in no file any more, and its password is still not the tenant's. Once it
        // is away, the broker alone knows its session.
        let was_let_in = match connect.origin {
            Origin::Connect => false,
            Origin::Recheck { .. } => self.config.defer_others,
            Origin::Unknown => common.sessions.is_deferred(connect.key),
        };
        if was_let_in || self.local_usernames.contains(username) {
            return Ok(Credential::LocalUser);
        }
        for (field, bytes) in [
            (Field::Username, username.len()),
            (Field::Password, password.len()),
        ] {
            if bytes > MAX_CREDENTIAL {
                let most = MAX_CREDENTIAL;
                let detail = ConnectDetail::TooLong { field, bytes, most };
                return Err(Refusal::new(Reason::TooLong, detail));
            }
        }
        Ok(Credential::Login { username, password })
    }

    /// Answers a login from the login cache, or makes it wait for the tenant.
    fn authenticate_login(
        &mut self,
        common: &mut Common,
        sign_in: &mut SignIn,
        username: &str,
        password: &str,
        now: Unix,
    ) -> Outcome {
        let deadline = Deadline::after(self.config.timeout);
        // Auth0 takes `Device` for `device`.
        let user = self
            .fingerprinter
            .of(username.trim().to_lowercase().as_bytes());
        sign_in.user = Some(user);
        let source = sign_in.caller.source;
        sign_in.caller = self.known_callers.caller(sign_in.user, source, moment());
        // The length makes a difference between `a` with `bc` and `ab` with `c`. The number makes one between answers
        // to requests with other options (`reload.rs`).
        let issuer = self.issuers.password_issuer();
        let (number, length) = (issuer.client_number, username.len());
        let both = format!("{number}:{length}:{username}{password}");
        let key = self.fingerprinter.of(both.as_bytes());
        sign_in.login = Some(key);
        let known = self.login_cache.get(key, now);
        self.counters.login_cache.count(known.is_some());
        if let Some(verdict) = known {
            return Outcome::Verdict(verdict);
        }
        let address = sign_in.client.address.as_deref();
        let address = address.and_then(forwarded::device_address);
        let attempt = LoginAttempt { user, address };
        // The same login is being checked already, so this one needs no request.
        let permit = match self.pool.is_busy(key) {
            true => None,
            false => {
                let limits = common.limits(self.tenant);
                let permit = match limits.begin(attempt, sign_in.caller, moment()) {
                    Ok(permit) => permit,
                    Err(refusal) => return refusal.into(),
                };
                self.known_callers.asked(user, moment());
                self.count_question(sign_in.caller);
                Some(permit)
            }
        };
        let issuer = &self.issuers.password_issuer().config;
        let login = Login {
            username: username.into(),
            password: Secret::new(password),
            address,
            permit,
        };
        Outcome::Wait(Box::new(Wait {
            job: Job {
                sign_in: sign_in.clone(),
                key,
                deadline,
                task: Task::Login(login),
            },
            username: (!issuer.username_prefix.is_empty())
                .then(|| issuer.username_for_broker(&username.into()).to_string()),
        }))
    }

    /// Leaves a client that brought neither a token nor a login to another plugin or the broker, or refuses it.
    pub(super) fn defer_or_refuse(
        &mut self,
        common: &mut Common,
        origin: Origin,
        sign_in: &SignIn,
        refusal: Refusal,
    ) -> Outcome {
        match self.config.defer_others {
            true => self.defer(common, origin, sign_in),
            false => refusal.into(),
        }
    }

    /// Leaves a client to another plugin or the broker. They never decide about a client ID that one of our sessions
    /// holds.
    fn defer(&mut self, common: &mut Common, origin: Origin, sign_in: &SignIn) -> Outcome {
        if let Err(refusal) = self.client_id_is_available(common, sign_in, None) {
            return refusal.into();
        }
        let sessions = &mut common.sessions;
        sessions.defer(sign_in.key, &sign_in.client.id, origin);
        self.counters.logins.deferred += 1;
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
    let (key, origin, sessions) = (connect.key, connect.origin, &mut common.sessions);
    match sessions.recheck(key, &connect.client, sign_in.credential, origin, now) {
        RecheckAnswer::Keep => Err(Outcome::Keep),
        RecheckAnswer::RightsEnded => {
            Err(Refusal::new(Reason::TokenExpired, ConnectDetail::RightsEnded).into())
        }
        // Another plugin or the broker let it in, and it is still connected: its client ID stays taken.
        RecheckAnswer::NotSignedIn if origin.may_be_recheck() && sessions.is_deferred(key) => {
            Ok(())
        }
        RecheckAnswer::NotSignedIn => {
            // A new connection at a reused memory address must not get the old session.
            sessions.arrives(key);
            match origin {
                // A certificate or another plugin let it in, and decides again when it comes back.
                Origin::Recheck { may_refuse: false } => Err(Outcome::Keep),
                _ => Ok(()),
            }
        }
    }
}

/// Returns the text in a field that is for a token alone.
///
/// # Errors
///
/// Returns why it cannot be a token: it is not text, it is incomplete, or there is something around it.
pub(super) fn token_alone(bytes: &[u8], field: Field) -> Result<&str, Refusal> {
    if let Some(refusal) = recognise::token(bytes).and_then(|token| not_alone(field, token)) {
        return Err(refusal);
    }
    std::str::from_utf8(bytes)
        .map_err(|_| Refusal::new(Reason::NotUtf8, ConnectDetail::NotUtf8(field)))
}

/// Returns why what was found in a field is not a token alone, or `None` if it is.
fn not_alone(field: Field, token: Token) -> Option<Refusal> {
    let reason = match token {
        Token::Alone => return None,
        Token::Wrapped(_) => Reason::TokenWrapped,
        Token::Piece(_) => Reason::TokenMalformed,
    };
    Some(Refusal::new(reason, Detail::Misused { field, token }))
}

/// Whether the password is a token. `cached` says that it was verified before.
fn recognise_token(connect: &Connect, cached: bool) -> StepResult<bool> {
    let token = match cached {
        true => Some(Token::Alone),
        false => recognise::token(connect.password.unwrap_or_default()),
    };
    match misused(connect, token) {
        Some(refusal) => Err(refusal.into()),
        None => Ok(token.is_some()),
    }
}

fn password_of<'a>(connect: &Connect<'a>) -> StepResult<&'a str> {
    match std::str::from_utf8(connect.password.unwrap_or_default()) {
        Ok(password) => Ok(password),
        Err(_) => {
            let detail = ConnectDetail::NotUtf8(connect.presented.field());
            Err(Refusal::new(Reason::NotUtf8, detail).into())
        }
    }
}

/// Returns why a token cannot be used as it arrived: it is incomplete, there is something around it, or it is in
/// another field.
fn misused(connect: &Connect, password: Option<Token>) -> Option<Refusal> {
    if let Some(refusal) = password.and_then(|token| not_alone(connect.presented.field(), token)) {
        return Some(refusal);
    }
    // With a token as the password the user name is ignored.
    let username = connect.client.username.filter(|_| password.is_none());
    // A shorter client ID can only hold the beginning of the header of a token, which is no secret.
    const LEAST: usize = 16;
    let client_id = Some(connect.client.id).filter(|id| id.len() >= LEAST);
    let fields = [(Field::Username, username), (Field::ClientId, client_id)];
    fields.into_iter().find_map(|(field, text)| {
        let token = recognise::token(text?.as_bytes())?;
        let detail = Detail::Misused { field, token };
        Some(Refusal::new(Reason::TokenMisplaced, detail))
    })
}
