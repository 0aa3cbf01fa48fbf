//! Who looks on while the engine decides: the decision log, and the shadow policy.
//!
//! Neither changes a decision. A message that is allowed costs no more than a look at one flag, unless all messages are
//! logged or there is a shadow policy.

use std::{cell::Cell, path::PathBuf, sync::Arc};

use super::{
    Engine,
    access::{Access, Action},
    repeats::{Kind, Repeats, Scope},
    report::{Attempt, Report, ShadowDifference, Subject},
};
use crate::{
    account::IssuerNumber,
    client::{Client, ClientView},
    clock::Unix,
    config::{Config, ConfigError, LoggedMessages, errors::Problem},
    control::ControlTopic,
    decision_log::{
        Decided, DecidedMessage, DecisionLog, OpenError, PolicyPlace, PolicyPlaces, SessionFacts,
        ShadowDecision, Who,
        record::{DecisionPath, RecordedRepeats, RepeatsOf, TokenId},
    },
    identity::Identity,
    limits::source::SourceNetwork,
    metrics::{DecisionLogCounts, ShadowCounts},
    policy_file::InForce,
    refusal::{Reason, Refusal},
    secret::Fingerprint,
    sessions::{Observed, Session, SessionView},
    sign_in::SignIn,
};
use acl::{
    client::ClientAttributes,
    explanation::RuleName,
    rights::{Rights, RightsError},
    rules::AccessRequest,
};
use input::recognise::{self, Token};

/// The decision log and the shadow policy.
#[derive(Default)]
pub(super) struct Observer {
    log: Option<DecisionLog>,
    /// The refused CONNECTs of the current minute. Anybody can send as many as the network carries.
    refused: Repeats<Decided>,
    messages: Option<LoggedMessages>,
    pub(super) shadow: Option<InForce>,
    places: PolicyPlaces,
    /// How many sessions had their facts noted.
    sessions: Cell<u64>,
    counts: ShadowCounts,
    /// Whether to look at messages that are allowed.
    pub(super) sees_allowed: bool,
}

/// Returns where the rules of a policy file are, if there is one.
fn place(path: &Option<PathBuf>, policy: Option<&InForce>) -> Option<PolicyPlace> {
    Some(PolicyPlace {
        path: path.as_deref()?.into(),
        rules: Arc::clone(policy?.rules()),
    })
}

impl Observer {
    /// Whether sessions need to be observed.
    fn is_on(&self) -> bool {
        self.log.is_some() || self.shadow.is_some()
    }

    /// Follows the configuration, and the policy file in force.
    pub(super) fn follow(&mut self, config: &Config, policy: Option<&InForce>) {
        if config.shadow_policy.is_none() {
            self.shadow = None;
        }
        self.places = PolicyPlaces {
            policy: place(&config.policy_file, policy),
            shadow: place(&config.shadow_policy, self.shadow.as_ref()),
        };
        self.messages = self.log.as_ref().map(|_| config.logged_messages);
        self.sees_allowed = self.shadow.is_some() || self.messages == Some(LoggedMessages::All);
    }

    /// Has the decision log opened again by its name.
    pub(super) fn reopen(&self) {
        if let Some(log) = &self.log {
            log.reopen();
        }
    }

    /// Has everything written that waits.
    pub(super) fn stop(&mut self) {
        if let Some(log) = &mut self.log {
            log.stop();
        }
    }

    /// Whether messages and subscriptions that are denied are logged.
    pub(super) fn logs_denied(&self) -> bool {
        matches!(
            self.messages,
            Some(LoggedMessages::Denied | LoggedMessages::All)
        )
    }

    /// Whether claims are kept for the sessions to come. What is remembered about a token outlives a shadow policy that
    /// could not be read.
    pub(super) fn needs_claims(&self, config: &Config) -> bool {
        self.log.is_some() || config.shadow_policy.is_some()
    }

    /// Returns what the shadow policy says about a request. `None` if there is none, or none that was applied to this
    /// session.
    fn shadow_allows(
        &self,
        observed: &mut Observed,
        request: AccessRequest,
        topic: &[u8],
        now: Unix,
    ) -> Option<bool> {
        let current = self.shadow.as_ref()?;
        let rights = observed.shadow.as_mut()?.as_mut().ok()?;
        if rights
            .policy_file()
            .is_some_and(|applied| !current.is(applied))
        {
            rights.apply(Arc::clone(current.rules()));
        }
        Some(rights.allow(request, topic, now))
    }

    fn count(&mut self, allowed: bool) {
        let count = match allowed {
            true => &mut self.counts.would_allow,
            false => &mut self.counts.would_deny,
        };
        *count += 1;
    }
}

/// Returns the rule that decides about a request. `None` if none covers it.
fn deciding_rule(
    rights: &Rights,
    allowed: bool,
    request: AccessRequest,
    topic: &[u8],
    now: Unix,
) -> Option<RuleName> {
    match allowed {
        true => rights.deciding_rule(request, topic, now),
        false => rights.explain_denial_briefly(request, topic, now).rule(),
    }
}

impl From<Action> for DecisionPath {
    fn from(action: Action) -> Self {
        match action {
            Action::Receive => Self::Receive,
            Action::Publish => Self::Publish,
            Action::Subscribe => Self::Subscribe,
            Action::Unsubscribe => Self::Unsubscribe,
        }
    }
}

impl From<Attempt> for DecisionPath {
    fn from(attempt: Attempt) -> Self {
        match attempt {
            Attempt::Connect => Self::Connect,
            Attempt::Renewal => Self::Renew,
            Attempt::Access(action) => action.into(),
        }
    }
}

impl Engine {
    /// Opens the decision log, and reads the shadow policy.
    ///
    /// # Errors
    ///
    /// Returns why the decision log cannot be written. A shadow policy with a mistake is reported only.
    pub(super) fn start_observer(&mut self) -> Result<(), super::EngineError> {
        if let Some(path) = &self.config.decision_log {
            let log = DecisionLog::open(path, self.spawn, self.log.clone());
            self.observer.log = Some(log.map_err(|why| match why {
                OpenError::NoThread(why) => super::EngineError::NoThread(why),
                OpenError::File(why) => {
                    let path = path.display().to_string();
                    ConfigError::new("decision_log", &path, Problem::NotLogged(why)).into()
                }
            })?);
        }
        if let Some(path) = &self.config.shadow_policy {
            match self.shadow_reader().read(path, None, &|| {}) {
                Ok(None) => {}
                Ok(Some(edition)) => {
                    let policy = InForce::new(edition, self.spawn);
                    let size = policy.rules().size();
                    self.observer.shadow = Some(policy);
                    self.tell(&Report::ShadowPolicy { size });
                }
                Err(why) => self.tell(&Report::ShadowUnusable(&why)),
            }
        }
        self.observer
            .follow(&self.config, self.policy_file.as_ref());
        Ok(())
    }

    /// Returns who reads the shadow policy.
    pub(super) fn shadow_reader(&self) -> crate::policy_file::PolicyReader {
        crate::policy_file::PolicyReader {
            option: "shadow_policy",
            ..self.policy_reader.clone()
        }
    }

    /// Returns how many decisions were logged, if there is a decision log.
    pub(super) fn decision_log_counts(&self) -> Option<DecisionLogCounts> {
        self.observer.log.as_ref().map(DecisionLog::counts)
    }

    /// Returns how often the shadow policy would have decided otherwise, if there is one.
    pub fn shadow_counts(&self) -> Option<ShadowCounts> {
        self.observer.shadow.as_ref().map(|_| self.observer.counts)
    }

    /// Returns the ID of a token for the decision log. `None` if this is none, or nothing is logged.
    pub(super) fn token_id(&self, print: Fingerprint, presented: &[u8]) -> Option<TokenId> {
        self.observer.log.as_ref()?;
        // To hash a token takes longer than all the rest of a sign-in with one that was verified before.
        self.token_cache.token_id(print).or_else(|| {
            let is_token = matches!(recognise::token(presented), Some(Token::Alone));
            is_token.then(|| TokenId::of(presented))
        })
    }

    /// Returns what is needed to observe a session with this identity. `None` if nobody observes.
    pub(super) fn observed(
        &self,
        client: &Client,
        identity: &Identity,
        now: Unix,
    ) -> Option<Box<Observed>> {
        let observer = &self.observer;
        if !observer.is_on() {
            return None;
        }
        let claims = identity.claims.clone().unwrap_or_default();
        let policies = [self.policy_of(identity.issuer), observer.shadow.as_ref()];
        let of_policies = policies.into_iter().flatten();
        let of_policies =
            of_policies.flat_map(|file| file.members().union(file.required_members()).cloned());
        let of_token = identity.token_rules.claims().map(str::to_owned);
        let counting = self.issuers[identity.issuer].config.reading.members();
        let mut named: Vec<String> = counting.chain(of_policies).chain(of_token).collect();
        named.sort_unstable();
        named.dedup();
        observer.sessions.set(observer.sessions.get() + 1);
        let facts = Arc::new(SessionFacts {
            number: observer.sessions.get(),
            client: Client {
                username: Some(Arc::clone(&identity.username)),
                ..client.clone()
            },
            account: identity.account.clone(),
            token_id: identity.token_id,
            claims: Arc::clone(&claims),
            named: named.into(),
        });
        let shadow = observer.shadow.as_ref().and_then(|policy| {
            let attributes = ClientAttributes {
                client_id: Arc::clone(&client.id),
                username: Arc::clone(&identity.username),
                claims,
                address: super::admission::address(client),
                port: client.port,
                certificate: client.certificate,
            };
            if let Some(unmet) = policy.rules().unmet_requirement(&attributes, now) {
                return Some(Err(RuleName::Requirement(unmet.name)));
            }
            let rules = Arc::clone(&identity.token_rules);
            match Rights::new(rules, Some(policy.rules()), attributes) {
                Ok(rights) => Some(Ok(rights)),
                Err(RightsError::Policy(unusable)) => Some(Err(RuleName::Policy(unusable.rule))),
                // Then the client is refused anyway.
                Err(RightsError::Token(_)) => None,
            }
        });
        Some(Box::new(Observed { facts, shadow }))
    }

    /// Notes that a client was admitted, or that its rights were renewed.
    pub(super) fn observe_admitted(
        &mut self,
        attempt: Attempt,
        sign_in: &SignIn,
        observed: Option<&Observed>,
        until: Unix,
        now: Unix,
    ) {
        let Some(observed) = observed else { return };
        let shadow = observed.shadow.as_ref().map(|rights| ShadowDecision {
            allowed: rights.is_ok(),
            rule: rights.as_ref().err().cloned(),
        });
        if let Some(shadow) = shadow.as_ref().filter(|shadow| !shadow.allowed) {
            let client = &sign_in.client.borrowed();
            self.tell_shadow(Subject { attempt, client }, "", shadow, now);
        }
        if let Some(log) = &self.observer.log {
            log.push(Decided {
                at: now,
                path: attempt.into(),
                who: Who::Session(Arc::clone(&observed.facts)),
                message: None,
                refusal: None,
                rule: None,
                until: Some(until),
                shadow,
                places: self.places_for(None),
                repeats: None,
            });
        }
    }

    /// Notes that a client was refused that is not in, or that its rights were not renewed. A CONNECT that is refused
    /// like one before is counted only, and the count becomes a line when the minute is over.
    pub(super) fn observe_refused(
        &mut self,
        attempt: Attempt,
        client: &Client<&str>,
        token_id: Option<TokenId>,
        refusal: &Refusal,
        now: Unix,
    ) {
        if self.observer.log.is_none() {
            return;
        }
        let places = self.places_for(None);
        let decided = || {
            let mut decided = Decided {
                at: now,
                path: attempt.into(),
                who: Who::Client {
                    client: client.to_shared(),
                    token_id,
                },
                message: None,
                refusal: Some(refusal.clone()),
                rule: refusal.detail.rule(),
                until: None,
                shadow: None,
                places: places.clone(),
                repeats: None,
            };
            decided.cut_unverified();
            decided
        };
        self.log_repeats(false, now);
        let is_told = attempt != Attempt::Connect || {
            let scope = Scope::device(client.id, SourceNetwork::of(client.address));
            let refused = &mut self.observer.refused;
            let noted = refused.note(refusal.reason, scope, decided, now);
            noted.is_some()
        };
        if let Some(log) = self.observer.log.as_ref().filter(|_| is_told) {
            log.push(decided());
        }
    }

    /// Logs how often CONNECTs were refused like one before: those whose minute is over, or all.
    pub(super) fn log_repeats(&mut self, all: bool, now: Unix) {
        let Some(log) = &self.observer.log else {
            return;
        };
        let counts = match all {
            true => self.observer.refused.take_all(now),
            false => self.observer.refused.take_due(now),
        };
        for count in counts {
            log.push(Decided {
                at: now,
                repeats: Some(RecordedRepeats {
                    times: count.times,
                    of: match count.scope {
                        Scope::Device(..) | Scope::Access(..) => RepeatsOf::Client,
                        Scope::Source(_) => RepeatsOf::Address,
                        Scope::All => RepeatsOf::All,
                    },
                }),
                ..count.subject
            });
        }
    }

    /// Notes that a message or a subscription was allowed.
    #[cold]
    pub(super) fn observe_allowed(
        &mut self,
        access: &Access<impl ClientView>,
        found: SessionView<'_>,
        now: Unix,
    ) {
        let request = access.request(found.connected);
        // A client that leaves asks for nothing.
        let is_leaving = access.action == Action::Subscribe && !found.connected;
        let is_judged =
            access.action != Action::Unsubscribe && ControlTopic::of(access.topic).is_none();
        if is_leaving {
            return;
        }
        let session = found.session;
        let shadow = match is_judged {
            true => self.ask_shadow(access, session, request, true, now),
            false => None,
        };
        let differs = shadow.as_ref().is_some_and(|shadow| !shadow.allowed);
        let is_logged = match self.observer.messages {
            Some(LoggedMessages::All) => true,
            Some(LoggedMessages::Denied) => differs,
            Some(LoggedMessages::None) | None => false,
        };
        if is_logged {
            let rule = match is_judged {
                true => session.rights.deciding_rule(request, access.topic, now),
                false => None,
            };
            self.log_access(access, Some(session), None, rule, shadow, now);
        }
    }

    /// Logs that a message or a subscription was denied, if such decisions are logged. `shadow` is what the shadow
    /// policy says.
    #[cold]
    pub(super) fn log_denied(
        &self,
        access: &Access<impl ClientView>,
        session: Option<&Session>,
        refusal: &Refusal,
        shadow: Option<ShadowDecision>,
        now: Unix,
    ) {
        if self.observer.logs_denied() {
            let rule = refusal.detail.rule();
            self.log_access(access, session, Some(refusal), rule, shadow, now);
        }
    }

    /// Returns what the shadow policy says, and reports it if that is something else.
    pub(super) fn ask_shadow(
        &mut self,
        access: &Access<impl ClientView>,
        session: &mut Session,
        request: AccessRequest,
        allowed: bool,
        now: Unix,
    ) -> Option<ShadowDecision> {
        let (topic, observed) = (access.topic, session.observed.as_mut()?);
        let shadow_allows = self.observer.shadow_allows(observed, request, topic, now)?;
        let differs = shadow_allows != allowed;
        if !differs && self.observer.messages.is_none() {
            return None;
        }
        let rights = observed.shadow.as_ref()?.as_ref().ok()?;
        let shadow = ShadowDecision {
            allowed: shadow_allows,
            rule: deciding_rule(rights, shadow_allows, request, topic, now),
        };
        if differs {
            let facts = Arc::clone(&observed.facts);
            let client = &Client {
                id: &*facts.client.id,
                username: facts.client.username.as_deref(),
                ..Client::default()
            };
            let attempt = Attempt::Access(access.action);
            let topic = String::from_utf8_lossy(topic);
            self.tell_shadow(Subject { attempt, client }, &topic, &shadow, now);
        }
        Some(shadow)
    }

    /// Tells that the shadow policy differs: once for each client, action and rule, and then how often.
    fn tell_shadow(&mut self, subject: Subject, topic: &str, shadow: &ShadowDecision, now: Unix) {
        self.observer.count(shadow.allowed);
        let rule = shadow.rule.as_ref();
        let action = DecisionPath::from(subject.attempt).action();
        let scope = Scope::access((subject.client.id, action), rule);
        let kind = Kind::Shadow(shadow.allowed);
        if self.note_told(kind, scope, subject, now).is_some() {
            self.tell(&Report::ShadowDiffers(ShadowDifference {
                subject,
                topic,
                allows: shadow.allowed,
                rule,
            }));
        }
    }

    /// Returns where the rules are that decide about a client of this issuer. `None` is a client whose issuer nobody
    /// knows: if issuers have policy files of their own, its rules may be in any of them.
    fn places_for(&self, issuer: Option<IssuerNumber>) -> PolicyPlaces {
        let common = self.observer.places.clone();
        if !self.issuers.have_policies() {
            return common;
        }
        let policy = issuer.and_then(|number| {
            let issuer = &self.issuers[number];
            let own = place(&issuer.config.policy_file, issuer.policy_file.as_ref());
            own.or(common.policy)
        });
        PolicyPlaces { policy, ..common }
    }

    fn log_access(
        &self,
        access: &Access<impl ClientView>,
        session: Option<&Session>,
        refusal: Option<&Refusal>,
        rule: Option<RuleName>,
        shadow: Option<ShadowDecision>,
        now: Unix,
    ) {
        let Some(log) = &self.observer.log else {
            return;
        };
        let facts = session.and_then(|session| session.observed.as_ref());
        let text = |bytes: &[u8]| Arc::<str>::from(String::from_utf8_lossy(bytes));
        let who = match facts {
            Some(observed) => Who::Session(Arc::clone(&observed.facts)),
            None => Who::Client {
                client: Client {
                    id: text(access.client.client_id()),
                    username: access.client.username().map(text),
                    ..Client::default()
                },
                token_id: None,
            },
        };
        log.push(Decided {
            at: now,
            path: access.action.into(),
            who,
            message: Some(DecidedMessage {
                topic: access.topic.into(),
                qos: access.qos,
                retain: access.retain,
                payload: access.payload,
            }),
            refusal: refusal.cloned(),
            rule,
            until: None,
            shadow,
            places: self.places_for(session.map(|session| session.issuer)),
            repeats: None,
        });
    }

    /// Notes that a client is denied something without having signed in.
    pub(super) fn observe_unknown(
        &mut self,
        access: &Access<impl ClientView>,
        refusal: &Refusal,
        now: Unix,
    ) {
        if refusal.reason == Reason::UnknownClient {
            self.log_denied(access, None, refusal, None, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        client::ClientKey,
        decision_log::record::DecisionRecord,
        engine::{Common, Renewal, testing::engine_with},
        refusal::Detail,
        sessions::{Ending, SubscribedFilters},
    };
    use acl::policy_file::PolicyFile;

    /// Whoever can connect must not fill the disk, and no refusal is lost.
    #[test]
    fn refused_connects_of_strangers_become_a_line_and_a_count() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let (mut engine, _) = engine_with(&[("decision_log", path.to_str().unwrap())]);
        engine.start_observer().unwrap();
        let refusal = Refusal::new(Reason::AuthMethod, Detail::AuthMethod("m".into()));
        let mut refuse = |attempt, id: &str, now| {
            let client = Client {
                id,
                address: Some("192.0.2.1"),
                ..Client::default()
            };
            let token_id = Some(TokenId([7; 8]));
            engine.observe_refused(attempt, &client, token_id, &refusal, Unix(now));
        };
        let long = "x".repeat(60_000);
        for second in 0..59 {
            for _ in 0..5 {
                refuse(Attempt::Connect, "pump-1", 1000 + second);
            }
        }
        for other in 0..100 {
            refuse(Attempt::Connect, &format!("{other}{long}"), 1059);
        }
        for _ in 0..3 {
            refuse(Attempt::Renewal, "pump-1", 1059);
        }
        engine.tell_repeats(Unix(1060));
        engine.tell_last_repeats(Unix(1061));
        engine.observer.stop();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.len() < 100_000, "{}", text.len());
        let records: Vec<_> = text
            .lines()
            .map(|line| DecisionRecord::parse(line).unwrap())
            .collect();
        assert!(records.iter().all(|one| one.input.token_id.is_some()));
        let (renewals, connects): (Vec<_>, Vec<_>) = records
            .into_iter()
            .partition(|one| one.path == DecisionPath::Renew);
        assert_eq!(renewals.len(), 3, "only a client that is in can renew");
        let counts: Vec<_> = connects
            .iter()
            .filter_map(|one| Some((&one.input.client_id, one.result.repeats?)))
            .collect();
        let [(id, own), (_, others)] = &counts[..] else {
            panic!("{counts:?}")
        };
        assert_eq!((id.as_str(), own.times), ("pump-1", 294));
        assert_eq!(own.of, RepeatsOf::Client);
        assert_eq!(others.of, RepeatsOf::Address);
        let lines = (connects.len() - counts.len()) as u64;
        assert_eq!(lines + own.times + others.times, 295 + 100);
        assert_eq!(lines, 17, "16 client IDs, and one for the others");
    }

    #[test]
    fn a_refused_renewal_names_its_token() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let (mut engine, _) = engine_with(&[("decision_log", path.to_str().unwrap())]);
        engine.start_observer().unwrap();
        let client = Client {
            id: "pump-1",
            ..Client::default()
        };
        let token = b"eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2VjcmV0";
        // It has not signed in.
        let mut common = Common::default();
        let renewal = engine.renew(&mut common, ClientKey(1), &client, token, Unix(1000));
        assert!(matches!(renewal, Renewal::Refused(_)));
        engine.observer.stop();
        let text = std::fs::read_to_string(&path).unwrap();
        let record = DecisionRecord::parse(text.trim_end()).unwrap();
        assert_eq!(record.path, DecisionPath::Renew);
        assert_eq!(record.input.token_id, Some(TokenId::of(token)));
    }

    /// To find a rule that is skipped, each rule is looked at. A device that publishes where it may not, again and
    /// again, must not cause that each time.
    #[test]
    fn only_a_denial_that_is_told_says_which_rule_is_skipped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let (mut engine, _) = engine_with(&[("decision_log", path.to_str().unwrap())]);
        engine.start_observer().unwrap();
        let mut common = Common::default();
        let rules = "[[rule]]\nname = \"site\"\nallow.both = \"${site}/#\"";
        let rules = Arc::new(PolicyFile::compile(rules).unwrap());
        let client = ClientAttributes::default();
        let session = Session {
            client_id: "pump-1".into(),
            username: "u".into(),
            account: crate::account::Account {
                issuer: "https://t.example/".into(),
                subject: "u".into(),
            },
            rights: Rights::new(Arc::default(), Some(&rules), client).unwrap(),
            until: Unix(2000),
            ending: Ending::default(),
            credential: engine.fingerprinter.of(b"password"),
            instance: engine.id(),
            issuer: crate::account::IssuerNumber::default(),
            filters: SubscribedFilters::default(),
            observed: None,
            is_by_method: false,
        };
        common.sessions.admit(ClientKey(1), session);
        let access = Access {
            key: ClientKey(1),
            client: Client {
                id: "pump-1",
                username: Some("u"),
                ..Client::default()
            },
            action: Action::Publish,
            topic: b"a/1",
            qos: 0,
            retain: false,
            payload: 1,
        };
        for _ in 0..2 {
            let decision = engine.authorize(&mut common, &access, Unix(1000));
            assert!(!decision.allows());
        }
        engine.observer.stop();
        let text = std::fs::read_to_string(&path).unwrap();
        let records = text
            .lines()
            .map(|line| DecisionRecord::parse(line).unwrap());
        let explanations: Vec<_> = records
            .map(|record| record.result.explanation.unwrap())
            .collect();
        let [told, silent] = &explanations[..] else {
            panic!("{explanations:?}")
        };
        assert!(
            told.contains("rule 'site' of the policy file is skipped"),
            "{told}"
        );
        assert!(!silent.contains("skipped"), "{silent}");
    }
}
