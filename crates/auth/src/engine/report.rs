//! What operators are told: each kind of refusal once, and then how often it came again.

use std::{fmt, path::Path};

use super::{
    Access, Action, Engine,
    reload::ReloadError,
    repeats::{Count, Kind, Scope},
    tally::Minute,
};
use crate::{
    account::IssuerNumber,
    client::{Client, ClientView},
    clock::{Unix, moment},
    config::ConfigError,
    control::{
        command::{CommandError, ParsedCommand},
        requests::Administrator,
        response::CommandData,
    },
    decision_log::record::TokenId,
    limits::source::SourceNetwork,
    log::Level,
    refusal::{ConnackReason, Detail, Reason, Refusal, Responsible},
    sign_in::SignIn,
};
use acl::{
    explanation::RuleName,
    policy_file::{Entry, PolicySize},
};
use input::text::Quoted;

/// How many seconds must pass until it is told again that the clock was set.
const CLOCK_AGAIN: u64 = 60;

/// What the operator is told. Displayed as a line of the log.
#[derive(Debug)]
pub(crate) enum Report<'a> {
    /// A client was refused.
    Refused {
        /// What was refused, and to whom.
        subject: Subject<'a>,
        /// Why.
        refusal: &'a Refusal,
        /// Which refusals are counted, and not told, from now on.
        scope: Scope,
    },
    /// Refusals came again.
    Repeated(Count),
    /// A client is disconnected, because it may stay no longer.
    Disconnected {
        /// Its client ID.
        client_id: &'a str,
        /// Why.
        refusal: &'a Refusal,
    },
    /// The rights of a client have ended, and it stays connected.
    RightsEnded {
        /// Its client ID.
        client_id: &'a str,
        /// Why.
        refusal: &'a Refusal,
    },
    /// A signing key was revoked that admitted connected clients.
    KeyRevoked {
        /// How many clients.
        clients: usize,
        /// Whether they stay.
        stay: bool,
    },
    /// Further refusals of a client are not told.
    Silenced {
        /// Its client ID.
        client_id: &'a str,
    },
    /// Known clients had to try again.
    Minute(Minute),
    /// A client signed in and has no rights.
    NoRights {
        /// Its client ID.
        client_id: &'a str,
        /// The claim that should list topics.
        claim: &'a str,
        /// Whether there is a policy file.
        has_policy_file: bool,
    },
    /// A client has no address, because it could have written the one that the broker reports.
    UnverifiedAddress,
    /// Rights depend on the client ID, and no option binds that.
    UnboundClientIds {
        /// The rule or requirement, and its policy file; `None` if it is the tokens that name the client ID.
        entry: Option<(&'a Entry, &'a Path)>,
    },
    /// Users of the tenant may have the rights of the broker's own users.
    LocalUsers {
        /// The name of one of these.
        first: &'a str,
        /// How many others there are.
        others: usize,
    },
    /// The names of users that are left to others cannot be read.
    UsersUnread {
        /// The file with the users.
        file: &'a Path,
        /// Why it cannot be read.
        why: &'a str,
        /// How many are known from an earlier time.
        known: usize,
    },
    /// This option leaves decisions about messages to others, and there are none.
    NobodyAuthorizes {
        /// The option.
        option: &'static str,
    },
    /// A policy file was read at the start.
    PolicyFile {
        /// Where it is.
        path: &'a Path,
        /// How much is in it.
        size: PolicySize,
    },
    /// The shadow policy was read.
    ShadowPolicy {
        /// How much is in it.
        size: PolicySize,
    },
    /// The shadow policy has a mistake.
    ShadowUnusable(&'a ConfigError),
    /// The shadow policy would have decided otherwise.
    ShadowDiffers(ShadowDifference<'a>),
    /// The configuration was read again, and is in force.
    GenerationInForce {
        /// Its number.
        number: u64,
        /// The options that have changed.
        changes: &'a [&'static str],
        /// How much is in the policy file, if that has changed.
        size: Option<PolicySize>,
    },
    /// What was read before stays in force.
    GenerationStays {
        /// Its number.
        number: u64,
        /// Why.
        why: &'a ReloadError,
    },
    /// The configuration has been read again for some seconds, and is not read yet.
    ReloadSlow {
        /// The number of the one in force.
        number: u64,
    },
    /// Nothing is saved of sessions, because the broker keeps none over a restart.
    NoPersistence,
    /// Keys that were saved before a restart are in use.
    KeysRestored {
        /// The tenant's domain or issuer.
        tenant: &'a str,
        /// How many.
        keys: usize,
        /// How many seconds ago they were fetched.
        seconds: u64,
    },
    /// An administrator has commanded something.
    Commanded {
        /// Who.
        from: &'a Administrator,
        /// What.
        command: &'a ParsedCommand,
        /// What came of it.
        result: &'a Result<CommandData, CommandError>,
    },
    /// The broker no longer has so many of the sessions that it kept.
    SessionsGone(usize),
    /// The wall clock was set by so many seconds.
    ClockSet(i64),
}

/// A decision that the shadow policy would have made otherwise.
#[derive(Debug)]
pub(crate) struct ShadowDifference<'a> {
    pub subject: Subject<'a>,
    /// The topic or the filter. Empty for a sign-in.
    pub topic: &'a str,
    /// Whether it would have allowed.
    pub allows: bool,
    /// Its rule that would have decided, if there is one.
    pub rule: Option<&'a RuleName>,
}

/// What was refused, and to whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    pub attempt: Attempt,
    pub client: &'a Client<&'a str>,
}

/// What a client tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attempt {
    Connect,
    Renewal,
    Access(Action),
}

impl Report<'_> {
    fn level(&self) -> Level {
        match self {
            Self::Refused { refusal, .. } => level(refusal.reason),
            Self::Repeated(count) => match count.kind {
                Kind::Refusal(reason) => level(reason),
                Kind::NoRights | Kind::Shadow(_) => Level::Warning,
                Kind::Silenced => Level::Notice,
            },
            Self::PolicyFile { .. }
            | Self::ShadowPolicy { .. }
            | Self::GenerationInForce { .. }
            | Self::NoPersistence
            | Self::KeysRestored { .. }
            | Self::SessionsGone(_) => Level::Info,
            Self::Disconnected { .. }
            | Self::RightsEnded { .. }
            | Self::KeyRevoked { stay: true, .. }
            | Self::Silenced { .. }
            | Self::Commanded { .. }
            | Self::ClockSet(_) => Level::Notice,
            Self::Minute(_)
            | Self::NoRights { .. }
            | Self::UnverifiedAddress
            | Self::UnboundClientIds { .. }
            | Self::LocalUsers { .. }
            | Self::UsersUnread { .. }
            | Self::NobodyAuthorizes { .. }
            | Self::KeyRevoked { stay: false, .. }
            | Self::ReloadSlow { .. }
            | Self::ShadowDiffers(_) => Level::Warning,
            Self::GenerationStays { .. } | Self::ShadowUnusable(_) => Level::Error,
        }
    }
}

impl Engine {
    pub(super) fn tell(&self, report: &Report) {
        self.log.line(report.level(), report.to_string());
    }

    pub(super) fn report_refused_connect(
        &mut self,
        sign_in: &SignIn,
        refusal: &Refusal,
        now: Unix,
    ) {
        self.count_refusal(sign_in, refusal);
        self.report_connect(&sign_in.client.borrowed(), sign_in.token_id, refusal, now);
    }

    /// Reports why a client will be refused that comes back for this. It was refused before, and has no other CONNECT.
    pub(super) fn report_late_answer(&mut self, sign_in: &SignIn, refusal: &Refusal, now: Unix) {
        self.count_refusal(sign_in, refusal);
        self.report_attempt(Attempt::Connect, &sign_in.client.borrowed(), refusal, now);
    }

    pub(super) fn report_refused_renewal(
        &mut self,
        client: &Client<&str>,
        token: Option<TokenId>,
        refusal: &Refusal,
        now: Unix,
    ) {
        self.counters.renewals.refused.count(refusal.reason);
        self.observe_refused(Attempt::Renewal, client, token, refusal, now);
        self.report_attempt(Attempt::Renewal, client, refusal, now);
    }

    /// Reports a CONNECT that the plugin could not read.
    pub fn report_unreadable(
        &mut self,
        client_id: &str,
        address: Option<&str>,
        refusal: &Refusal,
        now: Unix,
    ) {
        let client = Client {
            id: client_id,
            address,
            ..Client::default()
        };
        self.report(&client, refusal, now);
    }

    pub(super) fn report(&mut self, client: &Client<&str>, refusal: &Refusal, now: Unix) {
        self.report_connect(client, None, refusal, now);
    }

    fn report_connect(
        &mut self,
        client: &Client<&str>,
        token: Option<TokenId>,
        refusal: &Refusal,
        now: Unix,
    ) {
        self.counters.logins.refused.count(refusal.reason);
        self.observe_refused(Attempt::Connect, client, token, refusal, now);
        self.report_attempt(Attempt::Connect, client, refusal, now);
    }

    fn report_attempt(
        &mut self,
        attempt: Attempt,
        client: &Client<&str>,
        refusal: &Refusal,
        now: Unix,
    ) {
        let scope = match concerns_all(refusal.reason) {
            true => Scope::All,
            false => Scope::device(client.id, SourceNetwork::of(client.address)),
        };
        self.tell_once(Subject { attempt, client }, scope, refusal, now);
    }

    pub(super) fn report_refused_access(
        &mut self,
        access: &Access<impl ClientView>,
        refusal: &Refusal,
        now: Unix,
    ) {
        let client_id = access.client.client_id();
        let client = (client_id, access.action);
        let scope = Scope::access(client, (access.topic, &refusal.detail));
        self.report_access(access, scope, refusal, now);
    }

    /// Reports a client that acts without having signed in.
    pub(super) fn report_unknown_client(&mut self, access: &Access<impl ClientView>, now: Unix) {
        let topic = String::from_utf8_lossy(access.topic).into_owned();
        let refusal = Refusal::new(Reason::UnknownClient, Detail::NotSignedIn { topic });
        self.observe_unknown(access, &refusal, now);
        let client = (access.client.client_id(), access.action);
        let scope = Scope::device(client, SourceNetwork::Unknown);
        self.report_access(access, scope, &refusal, now);
    }

    fn report_access(
        &mut self,
        access: &Access<impl ClientView>,
        scope: Scope,
        refusal: &Refusal,
        now: Unix,
    ) {
        let client_id = String::from_utf8_lossy(access.client.client_id());
        let username = access.client.username().map(String::from_utf8_lossy);
        let client = &Client {
            id: &*client_id,
            username: username.as_deref(),
            ..Client::default()
        };
        let attempt = Attempt::Access(access.action);
        self.tell_once(Subject { attempt, client }, scope, refusal, now);
    }

    /// Tells the first refusal of its kind, and counts those that follow.
    fn tell_once(&mut self, subject: Subject, scope: Scope, refusal: &Refusal, now: Unix) {
        if let Some(scope) = self.note_told(refusal.reason, scope, subject, now) {
            self.tell(&Report::Refused {
                subject,
                refusal,
                scope,
            });
        }
    }

    /// Notes something that may come again. Returns `None` if it is counted only.
    pub(super) fn note_told(
        &mut self,
        kind: impl Into<Kind>,
        scope: Scope,
        subject: impl fmt::Display,
        now: Unix,
    ) -> Option<Scope> {
        let counts = self.repeats.take_due(now);
        let scope = self.repeats.note(kind, scope, || subject.to_string(), now);
        self.tell_counts(counts);
        scope
    }

    /// Tells that a client has no rights.
    pub(super) fn report_no_rights(&mut self, client: &Client, issuer: IssuerNumber, now: Unix) {
        let scope = Scope::device(&*client.id, SourceNetwork::of(client.address.as_deref()));
        let subject = client.borrowed();
        if self
            .note_told(Kind::NoRights, scope, subject, now)
            .is_some()
        {
            self.tell(&Report::NoRights {
                client_id: &client.id,
                claim: self.topics_claim(issuer),
                has_policy_file: self.policy_of(issuer).is_some(),
            });
        }
    }

    /// Tells that further refusals of a client are not told.
    pub(super) fn report_silenced(&mut self, client: &impl ClientView, now: Unix) {
        let client_id = &*String::from_utf8_lossy(client.client_id());
        let scope = Scope::device(client_id, SourceNetwork::Unknown);
        let subject = Quoted(client_id);
        if self
            .note_told(Kind::Silenced, scope, subject, now)
            .is_some()
        {
            self.tell(&Report::Silenced { client_id });
        }
    }

    /// Tells how often refusals were repeated, when it is time.
    pub fn tell_repeats(&mut self, now: Unix) {
        let counts = self.repeats.take_due(now);
        self.tell_counts(counts);
        self.log_repeats(false, now);
    }

    /// Tells how often refusals were repeated, because the broker stops.
    pub fn tell_last_repeats(&mut self, now: Unix) {
        let counts = self.repeats.take_all(now);
        self.tell_counts(counts);
        self.log_repeats(true, now);
    }

    fn tell_counts(&self, counts: Vec<Count>) {
        for count in counts {
            self.tell(&Report::Repeated(count));
        }
    }

    /// Tells that the wall clock was set: once a minute at most, because some clocks are set all the time.
    pub fn report_clock(&mut self, by: i64) {
        let told = self.clock_reported.replace(moment());
        if told.is_none_or(|at| at.elapsed().as_secs() >= CLOCK_AGAIN) {
            self.tell(&Report::ClockSet(by));
        }
    }
}

/// Whether one line is enough for all devices: no device is to blame, and all are to try again.
fn concerns_all(reason: Reason) -> bool {
    matches!(
        reason.connack_reason(),
        ConnackReason::Unavailable | ConnackReason::Busy
    ) && matches!(
        reason.responsible(),
        Responsible::Passing | Responsible::Configuration
    )
}

fn level(reason: Reason) -> Level {
    match reason.responsible() {
        Responsible::Device => Level::Notice,
        Responsible::Account | Responsible::Passing => Level::Warning,
        Responsible::Configuration => Level::Error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::engine;
    use crate::refusal::ConnectDetail;

    #[test]
    fn temporary_refusals_share_a_line_and_others_have_their_own() {
        let (mut engine, log) = engine();
        let lines = |engine: &mut Engine, client_id, reason, now| {
            let client = Client {
                id: client_id,
                ..Client::default()
            };
            engine.report(
                &client,
                &Refusal::new(reason, ConnectDetail::NoPassword),
                Unix(now),
            );
            let lines = log.take().into_iter();
            lines.map(|(_, line)| line).collect::<Vec<_>>()
        };
        let first = lines(&mut engine, "a", Reason::LoginRate, 0);
        assert_eq!(first.len(), 1);
        assert!(first[0].contains("of any client, are counted and logged once a minute"));
        assert!(
            lines(&mut engine, "b", Reason::LoginRate, 1).is_empty(),
            "it is everybody's"
        );
        let own = lines(&mut engine, "a", Reason::LoginRefused, 2);
        assert!(
            own[0].ends_with("repeats are counted and logged once a minute"),
            "{own:?}"
        );
        assert_eq!(lines(&mut engine, "b", Reason::LoginRefused, 3).len(), 1);
        assert!(lines(&mut engine, "a", Reason::LoginRefused, 4).is_empty());
        assert_eq!(
            lines(&mut engine, "a", Reason::LoginBackoff, 5).len(),
            1,
            "other news"
        );
        engine.tell_repeats(Unix(59));
        assert!(log.is_empty());
        engine.tell_repeats(Unix(62));
        let told: Vec<_> = log.take().into_iter().map(|(_, line)| line).collect();
        assert_eq!(told.len(), 2, "{told:?}");
        let all = "refused 1 more [login-rate] within a minute, the last: CONNECT of 'b'";
        assert!(told.iter().any(|line| line == all), "{told:?}");
        let one = "refused 1 more times [login-refused] within a minute: CONNECT of 'a'";
        assert!(told.iter().any(|line| line == one), "{told:?}");
        lines(&mut engine, "a", Reason::LoginRefused, 63);
        engine.tell_last_repeats(Unix(64));
        assert_eq!(log.take().len(), 1);
    }
}
