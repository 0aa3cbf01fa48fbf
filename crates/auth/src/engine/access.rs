//! Authorization of messages and subscriptions. It is decided from memory, because the broker asks about every message.

use std::sync::Arc;

use super::{
    Common, Engine,
    expiry::{end_reason, end_refusal},
};
use crate::{
    account::IssuerNumber,
    client::{ClientKey, ClientView},
    clock::Unix,
    control::ControlTopic,
    refusal::{Detail, Reason, Refusal},
    sessions::{Note, ReportedRefusals, Session, SessionView},
};
use acl::{answer_cache::Question, rights::Rights, rules::AccessRequest};

/// What a client wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Receive a message.
    Receive,
    /// Publish a message, or have its will published.
    Publish,
    /// Subscribe to a filter.
    Subscribe,
    /// End a subscription.
    Unsubscribe,
}

/// A check of a message or a subscription.
#[derive(Clone, Copy, Debug)]
pub struct Access<'a, C> {
    /// The broker's pointer to the client.
    pub key: ClientKey,
    /// The client.
    pub client: C,
    /// What the client wants to do.
    pub action: Action,
    /// The topic, or the filter: as bytes, like everything of [`ClientView`].
    pub topic: &'a [u8],
    /// The QoS of the message, or the requested one.
    pub qos: u8,
    /// The retain flag of the message.
    pub retain: bool,
    /// The length of the payload, in bytes.
    pub payload: u32,
}

impl<C> Access<'_, C> {
    /// Returns what the rights have to allow.
    #[inline]
    pub(super) fn request(&self, connected: bool) -> AccessRequest {
        match self.action {
            Action::Publish => AccessRequest::Publish {
                qos: self.qos,
                retain: self.retain,
                payload: self.payload,
            },
            // When a client leaves, the broker checks its subscriptions again, with QoS 0.
            Action::Subscribe => AccessRequest::Subscribe {
                qos: connected.then_some(self.qos),
            },
            Action::Receive | Action::Unsubscribe => AccessRequest::Receive,
        }
    }
}

/// The decision about a message or a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Decision {
    /// It is allowed.
    Allow,
    /// It is denied.
    Deny,
    /// Others decide: another plugin, or the broker's own files.
    Defer,
}

impl Decision {
    /// Whether it is allowed.
    pub fn allows(self) -> bool {
        self == Self::Allow
    }
}

impl Engine {
    /// Decides whether a client may do something.
    ///
    /// This is inlined into the broker's callback, because the broker asks about every message. Whatever is rarer than
    /// a message of a connected client is in functions that take copies: for a reference, every field would have to be
    /// in memory.
    #[inline(always)]
    pub fn authorize(
        &mut self,
        common: &mut Common,
        access: &Access<impl ClientView + Copy>,
        now: Unix,
    ) -> Decision {
        let decision = self.decision(common, access, now);
        // What is denied is counted where the reason is known.
        let decisions = &mut self.counters.decisions;
        match decision {
            Decision::Allow => {
                decisions.granted += 1;
                if self.observer.sees_allowed {
                    self.observe_allowed_access(common, *access, now);
                }
            }
            Decision::Defer => decisions.deferred += 1,
            Decision::Deny => {}
        }
        decision
    }

    /// Shows a message or a subscription that is allowed to the decision log and the shadow policy.
    #[cold]
    #[inline(never)]
    fn observe_allowed_access(
        &mut self,
        common: &mut Common,
        access: Access<impl ClientView + Copy>,
        now: Unix,
    ) {
        let sessions = &mut common.sessions;
        sessions.look(access.key, &access.client, |found| {
            self.observe_allowed(&access, found, now);
        });
    }

    #[inline(always)]
    fn decision(
        &mut self,
        common: &mut Common,
        access: &Access<impl ClientView + Copy>,
        now: Unix,
    ) -> Decision {
        let client = access.client;
        if access.topic.first() != Some(&b'$')
            && let Some(found) = common.sessions.look_at_connected(access.key, &client)
        {
            return self.decide(access, found, now);
        }
        self.decide_rarer(common, *access, now)
    }

    /// Decides about the topics that begin with `$`, and about clients that are not connected.
    #[inline(never)]
    fn decide_rarer(
        &mut self,
        common: &mut Common,
        access: Access<impl ClientView + Copy>,
        now: Unix,
    ) -> Decision {
        if let Some(topic) = ControlTopic::of(access.topic) {
            return self.decide_control(common, &access, topic, now);
        }
        let sessions = &mut common.sessions;
        let known = sessions.look(access.key, &access.client, |found| {
            self.decide(&access, found, now)
        });
        known.unwrap_or_else(|| self.decide_unknown_client(common, &access, now))
    }

    #[cold]
    fn deny(&mut self, reason: Reason) -> Decision {
        self.counters.decisions.refused.count(reason);
        Decision::Deny
    }

    /// Decides about the plugin's own topics, whatever the rules say, and whoever else decides about other topics.
    ///
    /// Many client libraries only hand on what was subscribed to, so a client may subscribe. It receives nothing
    /// through the subscription: the plugin sends its answers to one client without a check, and nobody else publishes
    /// there.
    #[cold]
    fn decide_control(
        &mut self,
        common: &mut Common,
        access: &Access<impl ClientView + Copy>,
        topic: ControlTopic,
        now: Unix,
    ) -> Decision {
        let allowed = common.sessions.look(access.key, &access.client, |found| {
            let is_in = found.connected && now < found.session.until;
            match (access.action, topic) {
                (Action::Unsubscribe, _) => true,
                (Action::Subscribe, _) => is_in || !found.connected,
                // If its rights have ended, the answer says so.
                (Action::Publish, ControlTopic::Renew) => found.connected,
                (Action::Publish, ControlTopic::Commands) => {
                    is_in && found.session.rights.administers()
                }
                (Action::Publish, ControlTopic::Other) | (Action::Receive, _) => false,
            }
        });
        match (allowed, access.action) {
            (Some(true), _) => Decision::Allow,
            (None, Action::Subscribe | Action::Unsubscribe) => {
                self.decide_unknown_client(common, access, now)
            }
            (_, Action::Receive) => self.deny(Reason::ControlTopic),
            (Some(false) | None, _) => {
                let topic = String::from_utf8_lossy(access.topic).into_owned();
                let refusal = Refusal::new(Reason::ControlTopic, Detail::ControlTopic { topic });
                self.log_denied(access, None, &refusal, None, now);
                self.report_refused_access(access, &refusal, now);
                self.deny(Reason::ControlTopic)
            }
        }
    }

    /// Decides about a client that is known. Most messages were allowed a moment ago.
    #[inline(always)]
    pub(super) fn decide(
        &mut self,
        access: &Access<impl ClientView + Copy>,
        found: SessionView<'_>,
        now: Unix,
    ) -> Decision {
        let rights = &found.session.rights;
        let is_message = matches!(access.action, Action::Receive | Action::Publish);
        let question = match is_message && self.is_current(rights, found.session.issuer) {
            true => Question::about(rights.id(), access.request(true), access.topic),
            false => None,
        };
        let mut was_allowed = false;
        if let Some(question) = &question {
            was_allowed = self.answers.allows(question, now);
            self.counters.answer_cache.count(was_allowed);
        }
        if was_allowed && found.connected && now < found.session.until {
            return Decision::Allow;
        }
        self.decide_anew(*access, found, (question, was_allowed), now)
    }

    /// The same with all that a decision may depend on. `answer` is the question to the answer cache, if there is one,
    /// and whether it was answered.
    #[inline(never)]
    fn decide_anew(
        &mut self,
        access: Access<impl ClientView + Copy>,
        found: SessionView<'_>,
        answer: (Option<Question<'_>>, bool),
        now: Unix,
    ) -> Decision {
        let access = &access;
        let session = found.session;
        self.follow_policy_file(&mut session.rights, session.issuer);
        let what = access.request(found.connected);
        let reason = match access.action {
            Action::Receive | Action::Publish | Action::Subscribe
                if found.connected
                    && now >= session.until
                    && !(found.superseded && access.action == Action::Publish) =>
            {
                Reason::RightsExpired
            }
            Action::Receive if !found.connected && self.is_grace_over(session.until, now) => {
                Reason::RightsExpired
            }
            _ if self.config.defer_acl => return Decision::Defer,
            // Giving something up is always allowed.
            Action::Unsubscribe if std::str::from_utf8(access.topic).is_ok() => {
                session.filters.remove(access.topic);
                return Decision::Allow;
            }
            // A client that leaves asks for nothing new: the broker goes through its subscriptions, and drops those
            // that are denied now. A rule may apply again when the client comes back, and each delivery is checked by
            // itself.
            Action::Subscribe if !found.connected && self.policy_of(session.issuer).is_some() => {
                return Decision::Allow;
            }
            _ if self.allows(&session.rights, what, access.topic, answer, now) => {
                if access.action == Action::Subscribe && self.removes_subscriptions {
                    session.filters.insert(access.topic);
                }
                return Decision::Allow;
            }
            _ => Reason::NotGranted,
        };
        self.note_refusal(access, what, session, reason, found.reported, now);
        self.deny(match reason {
            Reason::RightsExpired => end_reason(session.ending.cause),
            _ => reason,
        })
    }

    /// Applies the policy file in force to rights that come of an older one.
    pub(super) fn follow_policy_file(&self, rights: &mut Rights, issuer: IssuerNumber) {
        if let Some(current) = self.policy_of(issuer)
            && !self.is_current(rights, issuer)
        {
            rights.apply(Arc::clone(current.rules()));
        }
    }

    /// Whether these rights do not come of an older policy file than the one in force.
    #[inline]
    fn is_current(&self, rights: &Rights, issuer: IssuerNumber) -> bool {
        self.policy_of(issuer).is_none_or(|current| {
            let applied = rights.policy_file();
            applied.is_none_or(|applied| current.is(applied))
        })
    }

    /// Whether nothing is queued any more for a client that is away and whose rights ended then.
    #[inline]
    fn is_grace_over(&self, until: Unix, now: Unix) -> bool {
        let grace = self.config.offline_grace;
        grace.is_some_and(|grace| now >= until.plus(grace))
    }

    /// Whether these rights allow a request. If they do, that is kept.
    fn allows(
        &mut self,
        rights: &Rights,
        what: AccessRequest,
        topic: &[u8],
        (question, was_allowed): (Option<Question<'_>>, bool),
        now: Unix,
    ) -> bool {
        if was_allowed {
            return true;
        }
        let allowed = rights.allow(what, topic, now);
        if allowed
            && let Some(question) = question
            && let Some(until) = rights.until(what)
        {
            self.answers.keep(&question, now, until);
        }
        allowed
    }

    /// Reports each refusal of a client once.
    #[cold]
    fn note_refusal(
        &mut self,
        access: &Access<impl ClientView>,
        what: AccessRequest,
        session: &mut Session,
        reason: Reason,
        reported: &mut ReportedRefusals,
        now: Unix,
    ) {
        let note = match reason {
            // One line for all that is refused from now on.
            Reason::RightsExpired => reported.note_end(session.until),
            _ => reported.note((reason, access.action, access.topic)),
        };
        let judged = (reason == Reason::NotGranted).then_some(what);
        let shadow =
            judged.and_then(|request| self.ask_shadow(access, session, request, false, now));
        if note != Note::Silent || self.observer.logs_denied() {
            // A device may be denied at each message, so only what is told has the longer explanation.
            let explain = match note {
                Note::Silent => Rights::explain_denial_briefly,
                _ => Rights::explain_denial,
            };
            let refusal = match reason {
                Reason::RightsExpired => end_refusal(session.ending.cause),
                _ => Refusal::new(
                    reason,
                    Detail::NotAllowed {
                        topic: String::from_utf8_lossy(access.topic).into_owned(),
                        why: Box::new(explain(&session.rights, what, access.topic, now)),
                        empty: session
                            .rights
                            .is_empty()
                            .then(|| self.topics_claim(session.issuer).into()),
                    },
                ),
            };
            self.log_denied(access, Some(session), &refusal, shadow, now);
            if note != Note::Silent {
                self.report_refused_access(access, &refusal, now);
            }
        }
        if note == Note::ReportLast {
            self.report_silenced(&access.client, now);
        }
    }

    #[cold]
    fn decide_unknown_client(
        &mut self,
        common: &mut Common,
        access: &Access<impl ClientView + Copy>,
        now: Unix,
    ) -> Decision {
        if let Some(decision) = self.decide_saved(common, access, now) {
            return decision;
        }
        if self.config.defer_others && !self.was_never_in(common, access) {
            return Decision::Defer;
        }
        if let Some(decision) = self.decide_restored(access) {
            return decision;
        }
        self.report_unknown_client(access, now);
        self.deny(Reason::UnknownClient)
    }

    /// Whether it is certain that no others let this client in. That is so if it was let in here and is dropped, or
    /// waits for the tenant. If a waiting client hangs up, its will is published without a user name (2.1.2,
    /// src/context.c).
    fn was_never_in(&self, common: &Common, access: &Access<impl ClientView>) -> bool {
        self.pending.has(access.key)
            || common.sessions.is_forgotten(access.key, &access.client)
            || access.action == Action::Publish
                && access.client.username().is_none()
                && !common.sessions.is_deferred(access.key)
    }
}
