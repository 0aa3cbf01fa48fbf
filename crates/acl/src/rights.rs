//! The rights of one client: the rules of the policy file and those of its token, in their order.
//!
//! *The first rule that applies decides.* The order is: rules of the policy file by priority (highest first, 0 if not
//! given) and then as written; the token's rules in their order; the file's rules with a negative priority. A request
//! to which no rule applies is denied.

use std::sync::Arc;

use crate::{
    claims::TokenRules,
    client::ClientAttributes,
    explanation::{Explanation, Limit, RuleName},
    policy_file::{ClientRules, PolicyFile, UnusableRule},
    rules::{
        AccessRequest, Effect, Limits, Ruling, UnusableValue,
        bind::Bindings,
        compile,
        matcher::{Matcher, PreparedRequest, prepare},
        windows::OpenWindows,
    },
    time::Unix,
};

/// Why the rights of a client cannot be determined. The client is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RightsError {
    /// A placeholder in its token has no usable value.
    Token(UnusableValue),
    /// A placeholder in a deny rule of the policy file has no usable value.
    Policy(UnusableRule),
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
    token: Arc<TokenRules>,
    bindings: Bindings,
    policy: Option<Box<AppliedPolicy>>,
    id: RightsId,
}

/// A number for rights. Two clients have the same only if they may do the same, now and later. Rights that change get
/// another one, and none is used again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RightsId {
    token: u64,
    policy: u64,
}

impl RightsId {
    /// The number of no rights.
    pub(crate) const NONE: Self = Self {
        token: 0,
        policy: 0,
    };

    fn of(token: &TokenRules, bindings: &Bindings, policy: Option<&AppliedPolicy>) -> Self {
        let id = |matcher: &Matcher, bindings: &Bindings| match bindings.is_empty() {
            true => matcher.id(),
            false => compile::fresh_id(),
        };
        Self {
            token: id(token.matcher(), bindings),
            policy: match policy.map(|policy| &policy.rules) {
                None => 0,
                Some(Ok(rules)) => id(&rules.matcher, &rules.bindings),
                Some(Err(_)) => compile::fresh_id(),
            },
        }
    }

    /// Returns a part of a hash.
    #[inline]
    pub(crate) fn mixed(self) -> u64 {
        self.token ^ self.policy.rotate_left(32)
    }
}

/// A policy file, applied to one client.
#[derive(Debug)]
struct AppliedPolicy {
    file: Arc<PolicyFile>,
    rules: Result<ClientRules, UnusableRule>,
    /// Kept to apply another policy file later.
    client: ClientAttributes,
}

impl Rights {
    /// Determines what this client may do.
    ///
    /// # Errors
    ///
    /// Returns an error if a placeholder in the token, or in a deny rule of the policy file, has no usable value.
    pub fn new(
        token: Arc<TokenRules>,
        policy_file: Option<&Arc<PolicyFile>>,
        client: ClientAttributes,
    ) -> Result<Self, RightsError> {
        let token = token.for_client(&client);
        let bindings = token.matcher().bind(&client).map_err(RightsError::Token)?;
        let policy = match policy_file {
            None => None,
            Some(file) => Some(Box::new(AppliedPolicy {
                rules: Ok(file.rules_for(&client).map_err(RightsError::Policy)?),
                file: Arc::clone(file),
                client,
            })),
        };
        Ok(Self {
            id: RightsId::of(&token, &bindings, policy.as_deref()),
            token,
            bindings,
            policy,
        })
    }

    /// Returns the number of these rights.
    #[inline]
    pub fn id(&self) -> RightsId {
        self.id
    }

    /// Returns the policy file that is applied.
    #[inline]
    pub fn policy_file(&self) -> Option<&Arc<PolicyFile>> {
        self.policy.as_ref().map(|policy| &policy.file)
    }

    /// Applies another policy file. If that is not possible for this client, it has no rights from here on.
    #[cold]
    pub fn apply(&mut self, file: Arc<PolicyFile>) {
        if let Some(policy) = &mut self.policy {
            policy.rules = file.rules_for(&policy.client);
            policy.file = file;
            self.id = RightsId::of(&self.token, &self.bindings, Some(policy));
        }
    }

    /// Whether there is no rule at all. Then the operator is warned that the device may do nothing.
    pub fn is_empty(&self) -> bool {
        let policy = self.policy.as_ref().map(|policy| &policy.rules);
        self.token.is_empty()
            && !policy
                .is_some_and(|rules| rules.as_ref().is_ok_and(|rules| !rules.matcher.is_empty()))
    }

    /// Returns the deny rule that cannot be applied to the client, if there is one: then it has no rights.
    pub(crate) fn unusable(&self) -> Option<&UnusableRule> {
        self.policy.as_ref()?.rules.as_ref().err()
    }

    /// Whether the client is an administrator.
    pub fn administers(&self) -> bool {
        self.token.administers()
    }

    /// Whether the client may do this. Does not allocate.
    #[inline]
    pub fn allow(&self, request: AccessRequest, topic: &[u8], now: Unix) -> bool {
        self.decide(request, topic, now)
            .is_some_and(|(_, ruling)| ruling.effect == Effect::Allow)
    }

    /// Returns until when an allowing decision holds for every message of the same class, which is until a time window
    /// opens or closes. `None` if it depends on the payload.
    pub fn until(&self, request: AccessRequest) -> Option<Unix> {
        let is_publish = matches!(request, AccessRequest::Publish { .. });
        let depends = |matcher: &Matcher| is_publish && matcher.checks_payloads();
        let policy = self.policy.as_deref();
        let rules = policy.and_then(|policy| policy.rules.as_ref().ok());
        if depends(self.token.matcher()) || rules.is_some_and(|rules| depends(&rules.matcher)) {
            return None;
        }
        Some(policy.map_or(Unix(u64::MAX), |policy| policy.file.windows_hold_until()))
    }

    /// Returns the rule that decides. Does not allocate.
    #[inline]
    pub fn decide(
        &self,
        request: AccessRequest,
        topic: &[u8],
        now: Unix,
    ) -> Option<(Source, Ruling)> {
        let policy = match &self.policy {
            None => None,
            Some(policy) => {
                policy.file.update_windows(now);
                Some((policy.rules.as_ref().ok()?, policy.file.open_windows()))
            }
        };
        prepare(request, topic, |request| self.first(request, policy)).flatten()
    }

    #[inline]
    fn first(
        &self,
        request: &PreparedRequest,
        policy: Option<(&ClientRules, &OpenWindows)>,
    ) -> Option<(Source, Ruling)> {
        let policy = policy
            .and_then(|(rules, windows)| rules.matcher.first(request, &rules.bindings, windows));
        if let Some(ruling) = policy
            && ruling.order < PolicyFile::LATE
        {
            return Some((Source::Policy, ruling));
        }
        let token = self
            .token
            .matcher()
            .first(request, &self.bindings, &OpenWindows::default());
        match token {
            Some(ruling) => Some((Source::Token, ruling)),
            None => policy.map(|ruling| (Source::Policy, ruling)),
        }
    }

    /// Returns the name of the rule that decides.
    pub fn deciding_rule(
        &self,
        request: AccessRequest,
        topic: &[u8],
        now: Unix,
    ) -> Option<RuleName> {
        let (source, ruling) = self.decide(request, topic, now)?;
        Some(self.name(source, ruling.order))
    }

    /// Explains why the client may not do this. If no rule applies, that takes a look at each rule of the policy file.
    pub fn explain_denial(&self, request: AccessRequest, topic: &[u8], now: Unix) -> Explanation {
        let explanation = self.explain_denial_briefly(request, topic, now);
        match (&explanation, &self.policy) {
            (Explanation::NotCovered { .. }, Some(policy)) => Explanation::NotCovered {
                skipped: policy.file.first_unusable(&policy.client),
            },
            _ => explanation,
        }
    }

    /// Explains why the client may not do this. If no rule applies, it does not say which rule is skipped for the
    /// client.
    pub fn explain_denial_briefly(
        &self,
        request: AccessRequest,
        topic: &[u8],
        now: Unix,
    ) -> Explanation {
        let policy = self.policy.as_deref();
        if let Some(AppliedPolicy {
            rules: Err(unusable),
            ..
        }) = policy
        {
            return Explanation::NoRights(unusable.clone());
        }
        let decided = self.decide(request, topic, now);
        if let Some((of, limit)) = self.exceeded_limit(request, topic, now, decided) {
            return Explanation::BeyondLimit { of, limit };
        }
        if let Some((source, ruling)) = decided {
            let by = self.name(source, ruling.order);
            return Explanation::Denied { by };
        }
        Explanation::NotCovered { skipped: None }
    }

    /// Returns the rule that would allow this, before any other denies it, and its limit that the request exceeds.
    fn exceeded_limit(
        &self,
        request: AccessRequest,
        topic: &[u8],
        now: Unix,
        decided: Option<(Source, Ruling)>,
    ) -> Option<(RuleName, Limit)> {
        relaxed(request).into_iter().find_map(|(limit, request)| {
            let (source, ruling) = self.decide(request, topic, now)?;
            let is_before = decided.is_none_or(|decided| place((source, ruling)) < place(decided));
            if ruling.effect == Effect::Deny || !is_before {
                return None;
            }
            let limit = match (limit, source, &self.policy) {
                (Limit::Payload { bytes, .. }, Source::Policy, Some(policy)) => Limit::Payload {
                    bytes,
                    most: policy.file.limits(ruling.order).max_payload,
                },
                (limit, ..) => limit,
            };
            Some((self.name(source, ruling.order), limit))
        })
    }

    fn name(&self, source: Source, order: u32) -> RuleName {
        match (source, &self.policy) {
            (Source::Policy, Some(policy)) => RuleName::Policy(policy.file.name(order).into()),
            _ => match self.token.filter(order) {
                Some(filter) => RuleName::Filter(filter.into()),
                None => RuleName::Token,
            },
        }
    }
}

/// Returns the same request with fewer properties that a limit may exclude, each with the limit that is exceeded if
/// that request is allowed.
fn relaxed(request: AccessRequest) -> Vec<(Limit, AccessRequest)> {
    const QOS: [u8; 3] = [0, 1, 2];
    match request {
        AccessRequest::Receive => Vec::new(),
        AccessRequest::Subscribe { qos: asked } => {
            let with = |qos| AccessRequest::Subscribe { qos: Some(qos) };
            QOS.map(|qos| (Limit::Qos(asked), with(qos))).into()
        }
        AccessRequest::Publish {
            qos: asked,
            retain,
            payload,
        } => {
            let with = |qos, retain, payload| AccessRequest::Publish {
                qos,
                retain,
                payload,
            };
            let bytes = payload;
            let most = Limits::NONE.max_payload;
            let mut requests: Vec<_> = QOS
                .map(|qos| (Limit::Qos(Some(asked)), with(qos, retain, payload)))
                .into();
            requests.push((Limit::Retain(retain), with(asked, !retain, payload)));
            requests.push((Limit::Payload { bytes, most }, with(asked, retain, 0)));
            for qos in QOS {
                let several = |retain| (Limit::Several, with(qos, retain, 0));
                requests.extend([false, true].map(several));
            }
            requests
        }
    }
}

/// Returns the position of a rule among those of the policy file and the token.
fn place((source, ruling): (Source, Ruling)) -> (u8, u32) {
    let part = match source {
        Source::Policy if ruling.order < PolicyFile::LATE => 0,
        Source::Token => 1,
        Source::Policy => 2,
    };
    (part, ruling.order)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::topics;
    use serde_json::{Value, json};

    fn rights(policy: &str, claim: Value, client_id: &str) -> Result<Rights, RightsError> {
        let rules = topics(&claim, true).unwrap();
        let file = Arc::new(PolicyFile::compile(policy).unwrap());
        let client = ClientAttributes::with_claims(client_id, json!({}));
        Rights::new(Arc::new(TokenRules::compile(&rules)), Some(&file), client)
    }

    fn publish(qos: u8, retain: bool, payload: u32) -> AccessRequest {
        AccessRequest::Publish {
            qos,
            retain,
            payload,
        }
    }

    const RULES: &str = r#"
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
        let rights = rights(RULES, topics, "x").unwrap();
        let now = Unix(0);
        for (request, topic, why) in [
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
                AccessRequest::Subscribe { qos: Some(2) },
                "small/x",
                Some("but not with QoS 2"),
            ),
            (
                publish(0, true, 0),
                "d",
                Some("its token's rule for 'd' denies it"),
            ),
            (publish(0, false, 0), "d", None),
            (AccessRequest::Receive, "small/x", None),
            (
                publish(1, false, 0),
                "c",
                Some("its token's rule for 'c' allows it, but not with QoS 1"),
            ),
            (
                AccessRequest::Receive,
                "c",
                Some(
                    "no rule applies (rule 'site' of the policy file is skipped for this client: its claim 'site' is \
                     missing",
                ),
            ),
        ] {
            assert_eq!(
                rights.allow(request, topic.as_bytes(), now),
                why.is_none(),
                "{request:?} {topic}"
            );
            if let Some(why) = why {
                let said = rights
                    .explain_denial(request, topic.as_bytes(), now)
                    .to_string();
                assert!(said.contains(why), "{topic}: {said}");
            }
        }
    }

    #[test]
    fn unusable_value_of_a_placeholder_is_an_error() {
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
    fn another_policy_file_applies_to_the_next_request() {
        let mut rights = rights(RULES, json!(["a/#"]), "a+").unwrap();
        let now = Unix(0);
        assert!(
            !rights.allow(AccessRequest::Receive, b"a/closed", now)
                && rights.allow(AccessRequest::Receive, b"b", now)
        );
        rights.apply(Arc::new(PolicyFile::compile("").unwrap()));
        assert!(
            rights.allow(AccessRequest::Receive, b"a/closed", now)
                && !rights.allow(AccessRequest::Receive, b"b", now)
        );
        let own = "[[rule]]\nname = \"own\"\ndeny.both = \"%c/x\"";
        rights.apply(Arc::new(PolicyFile::compile(own).unwrap()));
        assert!(!rights.allow(AccessRequest::Receive, b"a/x", now));
        assert!(
            rights
                .explain_denial(AccessRequest::Receive, b"a/x", now)
                .to_string()
                .contains("rule 'own' of the policy file: its client ID is 'a+'")
        );
    }
}
