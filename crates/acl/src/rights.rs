//! What one client may do: the policy file's rules and its token's, in their order.
//!
//! *The first rule that applies decides.* The order is: rules of the policy file by priority (highest first, 0 if not
//! given) and then as written; the token's rules in their order; the file's rules with a negative priority. A request
//! to which no rule applies is denied.

use std::{net::IpAddr, sync::Arc};

use serde_json::{Map, Value};

use crate::time::Unix;
use crate::{
    claims::Grants,
    explanation::{Explanation, Limit, RuleName},
    policy_file::Inapplicable,
    policy_file::Rulebook,
    policy_file::Share,
    policy_file::conditions::Subject,
    rules::{
        Ask, Effect, Limits,
        bind::{Bindings, Unusable, Values},
        gates::Gates,
        matcher::{Asked, Matcher, Ruling, ask},
    },
};

/// A client, as rules see it. Kept where there is a policy file, which may be another one tomorrow.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Its client id.
    pub client_id: Arc<str>,
    /// Its user name.
    pub username: Arc<str>,
    /// The claims of its token.
    pub claims: Arc<Map<String, Value>>,
    /// Its address, if the broker tells it.
    pub address: Option<IpAddr>,
    /// The listener's port, if the broker tells it.
    pub port: Option<u16>,
    /// The SHA-256 fingerprint of its certificate, if the broker tells it.
    pub certificate: Option<[u8; 32]>,
}

impl Profile {
    fn subject(&self) -> Subject<'_> {
        Subject {
            client_id: &self.client_id,
            username: &self.username,
            claims: &self.claims,
            address: self.address,
            port: self.port,
            certificate: self.certificate,
        }
    }
}

/// Why the rights of a client cannot be determined. It is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RightsError {
    /// A filter in its token has a placeholder, and the value cannot stand there.
    Token(Unusable),
    /// A rule of the policy file that denies has one.
    Policy(Inapplicable),
}

/// Where the rule that decides is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// In the policy file.
    Policy,
    /// In the token.
    Token,
}

/// The rights of one client.
#[derive(Debug, Default)]
pub struct Rights {
    grants: Arc<Grants>,
    bindings: Bindings,
    policy: Option<Box<Policy>>,
}

#[derive(Debug)]
struct Policy {
    book: Arc<Rulebook>,
    share: Result<Share, Inapplicable>,
    profile: Profile,
}

impl Rights {
    /// Determines what this client may do.
    ///
    /// # Errors
    ///
    /// If a placeholder in the token, or in a rule that denies, has no value that can stand in a topic.
    pub fn new(
        grants: Arc<Grants>,
        book: Option<&Arc<Rulebook>>,
        profile: Profile,
    ) -> Result<Self, RightsError> {
        let values = Values {
            client_id: &profile.client_id,
            username: &profile.username,
            claims: &profile.claims,
        };
        let bindings = grants.matcher().bind(&values).map_err(RightsError::Token)?;
        let policy = book
            .map(|book| {
                let share = book
                    .share(&profile.subject())
                    .map_err(RightsError::Policy)?;
                Ok(Box::new(Policy {
                    book: Arc::clone(book),
                    share: Ok(share),
                    profile,
                }))
            })
            .transpose()?;
        Ok(Self {
            grants,
            bindings,
            policy,
        })
    }

    /// Returns the policy file that is applied.
    #[inline]
    pub fn policy_file(&self) -> Option<&Arc<Rulebook>> {
        self.policy.as_ref().map(|policy| &policy.book)
    }

    /// Applies another policy file. A client to which it cannot be applied has no rights from here on.
    #[cold]
    pub fn apply(&mut self, book: Arc<Rulebook>) {
        if let Some(policy) = &mut self.policy {
            policy.share = book.share(&policy.profile.subject());
            policy.book = book;
        }
    }

    /// Whether there is no rule at all. Then the operator is warned that the device may do nothing.
    pub fn is_empty(&self) -> bool {
        let policy = self.policy.as_ref().map(|policy| &policy.share);
        self.grants.is_empty()
            && !policy
                .is_some_and(|share| share.as_ref().is_ok_and(|share| !share.matcher.is_empty()))
    }

    /// Whether the client may do this. Does not allocate.
    #[inline]
    pub fn allow(&self, what: Ask, topic: &[u8], now: Unix) -> bool {
        self.decide(what, topic, now)
            .is_some_and(|(_, ruling)| ruling.effect == Effect::Allow)
    }

    /// Returns until when an allowing decision holds for every message of the same class, which is until a gate opens
    /// or shuts. `None` if it depends on the payload.
    pub fn until(&self, what: Ask) -> Option<Unix> {
        let weighs =
            |matcher: &Matcher| matches!(what, Ask::Publish { .. }) && matcher.checks_payloads();
        let policy = self.policy.as_deref();
        let share = policy.and_then(|policy| policy.share.as_ref().ok());
        if weighs(self.grants.matcher()) || share.is_some_and(|share| weighs(&share.matcher)) {
            return None;
        }
        Some(policy.map_or(Unix(u64::MAX), |policy| policy.book.until()))
    }

    /// The rule that decides. Allocates nothing.
    #[inline]
    pub fn decide(&self, what: Ask, topic: &[u8], now: Unix) -> Option<(Source, Ruling)> {
        let share = match &self.policy {
            None => None,
            Some(policy) => {
                policy.book.turn(now);
                Some((policy.share.as_ref().ok()?, policy.book.gates()))
            }
        };
        ask(what, topic, |asked| self.first(asked, share)).flatten()
    }

    #[inline]
    fn first(&self, asked: &Asked, share: Option<(&Share, &Gates)>) -> Option<(Source, Ruling)> {
        let policy =
            share.and_then(|(share, gates)| share.matcher.first(asked, &share.bindings, gates));
        if let Some(ruling) = policy
            && ruling.order < Rulebook::LATE
        {
            return Some((Source::Policy, ruling));
        }
        let token = self
            .grants
            .matcher()
            .first(asked, &self.bindings, &Gates::default());
        match token {
            Some(ruling) => Some((Source::Token, ruling)),
            None => policy.map(|ruling| (Source::Policy, ruling)),
        }
    }

    /// Explains why it may not.
    pub fn explain_denial(&self, what: Ask, topic: &[u8], now: Unix) -> Explanation {
        if let Some(Policy {
            share: Err(why), ..
        }) = self.policy.as_deref()
        {
            return Explanation::Inapplicable(why.clone());
        }
        let decided = self.decide(what, topic, now);
        if let Some((of, limit)) = self.exceeded_limit(what, topic, now, decided) {
            return Explanation::BeyondLimit { of, limit };
        }
        if let Some((source, ruling)) = decided {
            let by = self.name(source, ruling.order);
            return Explanation::Denied { by };
        }
        let lost = self
            .policy
            .as_ref()
            .and_then(|policy| policy.book.lost(&policy.profile.subject()))
            .map(|(rule, why)| (rule.into(), why));
        Explanation::NotCovered { lost }
    }

    /// Returns the rule that would allow it, before any other denies it, and the limit that keeps it from that.
    fn exceeded_limit(
        &self,
        what: Ask,
        topic: &[u8],
        now: Unix,
        decided: Option<(Source, Ruling)>,
    ) -> Option<(RuleName, Limit)> {
        relaxed(what).into_iter().find_map(|(limit, ask)| {
            let (source, ruling) = self.decide(ask, topic, now)?;
            let is_before = decided.is_none_or(|decided| place((source, ruling)) < place(decided));
            if ruling.effect == Effect::Deny || !is_before {
                return None;
            }
            let limit = match (limit, source, &self.policy) {
                (Limit::Payload { bytes, .. }, Source::Policy, Some(policy)) => Limit::Payload {
                    bytes,
                    most: policy.book.limits(ruling.order).max_payload,
                },
                (limit, ..) => limit,
            };
            Some((self.name(source, ruling.order), limit))
        })
    }

    fn name(&self, source: Source, order: u32) -> RuleName {
        match (source, &self.policy) {
            (Source::Policy, Some(policy)) => RuleName::Policy(policy.book.name(order).into()),
            _ => match self.grants.text(order) {
                Some(filter) => RuleName::Filter(filter.into()),
                None => RuleName::Token,
            },
        }
    }
}

/// Returns the same question with fewer properties that a limit may exclude, each with the limit that would be
/// exceeded if that is allowed.
fn relaxed(what: Ask) -> Vec<(Limit, Ask)> {
    const QOS: [u8; 3] = [0, 1, 2];
    match what {
        Ask::Receive => Vec::new(),
        Ask::Subscribe { qos: asked } => {
            let ask = |qos| (Limit::Qos(asked), Ask::Subscribe { qos: Some(qos) });
            QOS.map(ask).into()
        }
        Ask::Publish {
            qos: asked,
            retain,
            payload,
        } => {
            let ask = |qos, retain, payload| Ask::Publish {
                qos,
                retain,
                payload,
            };
            let bytes = payload;
            let most = Limits::NONE.max_payload;
            let mut questions: Vec<_> = QOS
                .map(|qos| (Limit::Qos(Some(asked)), ask(qos, retain, payload)))
                .into();
            questions.push((Limit::Retain(retain), ask(asked, !retain, payload)));
            questions.push((Limit::Payload { bytes, most }, ask(asked, retain, 0)));
            for qos in QOS {
                questions.extend([false, true].map(|retain| (Limit::Several, ask(qos, retain, 0))));
            }
            questions
        }
    }
}

/// Where a rule comes in the order of all.
fn place((source, ruling): (Source, Ruling)) -> (u8, u32) {
    let part = match source {
        Source::Policy if ruling.order < Rulebook::LATE => 0,
        Source::Token => 1,
        Source::Policy => 2,
    };
    (part, ruling.order)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::topics;
    use serde_json::json;

    fn rights(policy: &str, topics: Value, client_id: &str) -> Result<Rights, RightsError> {
        let rules = topics::topics(&topics, true).unwrap();
        let book = Arc::new(Rulebook::read(policy).unwrap());
        let profile = Profile {
            client_id: client_id.into(),
            username: "auth0|1".into(),
            claims: Arc::default(),
            address: None,
            port: None,
            certificate: None,
        };
        Rights::new(Arc::new(Grants::compile(&rules)), Some(&book), profile)
    }

    fn publish(qos: u8, retain: bool, payload: u32) -> Ask {
        Ask::Publish {
            qos,
            retain,
            payload,
        }
    }

    const BOOK: &str = r#"
        [[rule]]
        name = "closed"
        deny.both = "a/closed"
        [[rule]]
        name = "small"
        allow.both = "small/#"
        qos = [0, 1]
        retain = false
        max_payload = 10
        [[rule]]
        name = "site"
        allow.both = "${site}/#"
        [[rule]]
        name = "in the end"
        priority = -1
        allow.both = "b"
    "#;

    #[test]
    fn a_denial_names_its_rule() {
        let topics = json!([
            "a/#",
            {"permission": "deny", "action": "all", "topic": "b"},
            {"permission": "allow", "action": "pub", "topic": "c", "qos": 0},
            {"permission": "deny", "action": "pub", "topic": "d", "retain": true},
            "d"
        ]);
        let rights = rights(BOOK, topics, "x").unwrap();
        let now = Unix(0);
        for (what, topic, why) in [
            (publish(0, false, 0), "a/x", None),
            (
                publish(0, false, 0),
                "a/closed",
                Some("rule 'closed' of the policy file denies it"),
            ),
            (
                publish(0, false, 0),
                "b",
                Some("its token's rule for 'b' denies it"),
            ),
            (publish(0, false, 10), "small/x", None),
            (
                publish(2, false, 10),
                "small/x",
                Some("rule 'small' of the policy file allows it, but not with QoS 2"),
            ),
            (
                publish(0, true, 10),
                "small/x",
                Some("allows it, but not with the retain flag"),
            ),
            (
                publish(0, false, 11),
                "small/x",
                Some(
                    "its payload has 11 bytes, more than the 10 that rule 'small' of the policy file allows",
                ),
            ),
            (
                publish(2, true, 11),
                "small/x",
                Some("with another QoS, retain flag or payload"),
            ),
            (
                Ask::Subscribe { qos: Some(2) },
                "small/x",
                Some("but not with QoS 2"),
            ),
            (
                publish(0, true, 0),
                "d",
                Some("its token's rule for 'd' denies it"),
            ),
            (publish(0, false, 0), "d", None),
            (Ask::Receive, "small/x", None),
            (
                publish(1, false, 0),
                "c",
                Some("its token's rule for 'c' allows it, but not with QoS 1"),
            ),
            (
                Ask::Receive,
                "c",
                Some(
                    "no rule applies (rule 'site' of the policy file is not for it: its claim 'site' is missing",
                ),
            ),
        ] {
            assert_eq!(
                rights.allow(what, topic.as_bytes(), now),
                why.is_none(),
                "{what:?} {topic}"
            );
            if let Some(why) = why {
                let said = rights
                    .explain_denial(what, topic.as_bytes(), now)
                    .to_string();
                assert!(said.contains(why), "{topic}: {said}");
            }
        }
    }

    #[test]
    fn a_value_that_cannot_be_pasted_ends_it() {
        let error = rights("", json!(["dev/%c"]), "a/b").unwrap_err();
        assert!(matches!(error, RightsError::Token(_)));
        let error = rights(
            "[[rule]]\nname = \"x\"\ndeny.both = \"dev/%c\"",
            json!([]),
            "a/b",
        )
        .unwrap_err();
        assert!(matches!(error, RightsError::Policy(_)));
    }

    #[test]
    fn another_policy_file_is_in_force_at_the_next_question() {
        let mut rights = rights(BOOK, json!(["a/#"]), "a+").unwrap();
        let now = Unix(0);
        assert!(
            !rights.allow(Ask::Receive, b"a/closed", now) && rights.allow(Ask::Receive, b"b", now)
        );
        rights.apply(Arc::new(Rulebook::read("").unwrap()));
        assert!(
            rights.allow(Ask::Receive, b"a/closed", now) && !rights.allow(Ask::Receive, b"b", now)
        );
        let own = "[[rule]]\nname = \"own\"\ndeny.both = \"%c/x\"";
        rights.apply(Arc::new(Rulebook::read(own).unwrap()));
        assert!(!rights.allow(Ask::Receive, b"a/x", now));
        assert!(
            rights
                .explain_denial(Ask::Receive, b"a/x", now)
                .to_string()
                .contains("rule 'own' of the policy file: its client id is 'a+'")
        );
    }
}
