//! A decision, as the broker's thread hands it over. What takes time, such as sentences and JSON, is left to the thread
//! that writes.

use std::{path::Path, sync::Arc};

use serde_json::{Map, Value};

use super::record::{
    DecisionInput, DecisionPath, DecisionRecord, DecisionResult, RecordedClaims, RecordedMessage,
    RecordedRepeats, RecordedRule, ShadowResult, TokenId,
};
use crate::{account::Account, client::Client, clock::Unix, refusal::Refusal};
use acl::{explanation::RuleName, policy_file::PolicyFile};
use input::text::{cut, without_token};

/// How many bytes of each text are kept that a client sent about which nothing is verified. MQTT allows 64 KB.
const MAX_UNVERIFIED: usize = 1024;

/// What is the same in all decisions about a session, until its rights are renewed.
#[derive(Debug)]
pub(crate) struct SessionFacts {
    /// A number that no other session of this process has.
    pub number: u64,
    /// The client, with its verified user name.
    pub client: Client,
    /// The account.
    pub account: Account,
    /// The token that it presented, if it presented one.
    pub token_id: Option<TokenId>,
    /// The claims of its token.
    pub claims: Arc<Map<String, Value>>,
    /// The names of those that rights come from. Only these are written.
    pub named: Box<[String]>,
}

impl SessionFacts {
    /// Returns about how many bytes they take.
    fn size(&self) -> usize {
        let named: usize = self.named.iter().map(String::len).sum();
        let account = self.account.issuer.len() + self.account.subject.len();
        size_of_client(&self.client) + account + size_of_members(&self.claims) + named
    }

    /// Returns the claims that rights come from.
    fn recorded_claims(&self) -> RecordedClaims {
        let mut picked = RecordedClaims::default();
        for name in &self.named {
            match self.claims.get(name) {
                Some(value) => drop(picked.present.insert(name.clone(), value.clone())),
                None => picked.missing.push(name.clone()),
            }
        }
        picked
    }
}

fn size_of_client(client: &Client) -> usize {
    client.id.len() + client.username.as_ref().map_or(0, |name| name.len())
}

fn size_of_json(value: &Value) -> usize {
    let held: usize = match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(values) => values.iter().map(size_of_json).sum(),
        Value::Object(members) => size_of_members(members),
    };
    size_of::<Value>() + held
}

fn size_of_members(members: &Map<String, Value>) -> usize {
    let members = members.iter();
    members
        .map(|(name, value)| name.len() + size_of_json(value))
        .sum()
}

/// A decision.
#[derive(Clone, Debug)]
pub(crate) struct Decided {
    /// When.
    pub at: Unix,
    /// What about.
    pub path: DecisionPath,
    /// Whom.
    pub who: Who,
    /// The message or the subscription, if it is about one.
    pub message: Option<DecidedMessage>,
    /// Why it is refused; `None` if it is allowed.
    pub refusal: Option<Refusal>,
    /// The rule that decides, if one does.
    pub rule: Option<RuleName>,
    /// When the rights of a client end that is admitted.
    pub until: Option<Unix>,
    /// What the shadow policy says.
    pub shadow: Option<ShadowDecision>,
    /// Where the rules are written.
    pub places: PolicyPlaces,
    /// How many refusals it stands for, if it is not the first of its kind.
    pub repeats: Option<RecordedRepeats>,
}

/// Where the rules are written.
#[derive(Clone, Debug, Default)]
pub(crate) struct PolicyPlaces {
    /// The policy file in force.
    pub policy: Option<PolicyPlace>,
    /// The shadow policy.
    pub shadow: Option<PolicyPlace>,
}

/// A policy file, and where it is.
#[derive(Clone, Debug)]
pub(crate) struct PolicyPlace {
    /// Its path.
    pub path: Arc<Path>,
    /// What it says.
    pub rules: Arc<PolicyFile>,
}

/// Whom a decision is about.
#[derive(Clone, Debug)]
pub(crate) enum Who {
    /// A client that is in.
    Session(Arc<SessionFacts>),
    /// Another client. Nothing about it is verified.
    Client {
        /// The client.
        client: Client,
        /// The token that it presented, if it presented one.
        token_id: Option<TokenId>,
    },
}

/// A message or a subscription.
#[derive(Clone, Debug)]
pub(crate) struct DecidedMessage {
    /// The topic, which may be no text.
    pub topic: Box<[u8]>,
    /// The QoS.
    pub qos: u8,
    /// The retain flag.
    pub retain: bool,
    /// The length of the payload, in bytes.
    pub payload: u32,
}

/// What the shadow policy says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ShadowDecision {
    /// Whether it allows.
    pub allowed: bool,
    /// The rule that decides, if one does.
    pub rule: Option<RuleName>,
}

impl Decided {
    /// Returns about how many bytes it takes.
    pub(super) fn size(&self) -> usize {
        const FIXED: usize = 512;
        let who = match &self.who {
            // If clients sign in again and again, only the decision keeps the facts of an earlier sign-in.
            Who::Session(facts) if self.message.is_none() => facts.size(),
            Who::Session(_) => 0,
            Who::Client { client, .. } => size_of_client(client),
        };
        let message = self.message.as_ref();
        let topic = message.map_or(0, |message| message.topic.len());
        let refusal = self.refusal.as_ref();
        let detail = refusal.map_or(0, |refusal| refusal.detail.text_len());
        FIXED + who + topic + detail
    }

    /// Cuts long texts of a client about which nothing is verified. Whoever can connect could fill the disk with them.
    pub(crate) fn cut_unverified(&mut self) {
        let Who::Client { client, .. } = &mut self.who else {
            return;
        };
        let texts = [Some(&mut client.id), client.username.as_mut()];
        for text in texts.into_iter().flatten() {
            if text.len() > MAX_UNVERIFIED {
                *text = cut_text(text).into();
            }
        }
        if let Some(message) = &mut self.message
            && message.topic.len() > MAX_UNVERIFIED
        {
            let topic = cut_text(&String::from_utf8_lossy(&message.topic));
            message.topic = topic.into_bytes().into();
        }
    }

    /// Returns the session that it is about.
    pub(super) fn session(&self) -> Option<u64> {
        match &self.who {
            Who::Session(facts) => Some(facts.number),
            Who::Client { .. } => None,
        }
    }

    /// Returns the decision as a record. `with_claims` says that it has the claims of the session.
    pub(super) fn record(
        &self,
        decision_id: String,
        process: &str,
        with_claims: bool,
    ) -> DecisionRecord {
        DecisionRecord {
            decision_id,
            process: process.to_owned(),
            timestamp: self.at,
            path: self.path,
            input: self.input(with_claims),
            result: DecisionResult {
                allowed: self.refusal.is_none(),
                reason: self
                    .refusal
                    .as_ref()
                    .map(|refusal| refusal.reason.code().to_owned()),
                explanation: self
                    .refusal
                    .as_ref()
                    .map(|refusal| refusal.detail.to_string()),
                rule: self
                    .rule
                    .as_ref()
                    .map(|rule| RecordedRule::of(rule, place(&self.places.policy))),
                expires_at: self.until,
                shadow: self.shadow.as_ref().map(|shadow| ShadowResult {
                    allowed: shadow.allowed,
                    rule: shadow
                        .rule
                        .as_ref()
                        .map(|rule| RecordedRule::of(rule, place(&self.places.shadow))),
                }),
                repeats: self.repeats,
            },
        }
    }

    fn input(&self, with_claims: bool) -> DecisionInput {
        let (client, token_id, facts) = match &self.who {
            Who::Session(facts) => (&facts.client, facts.token_id, Some(facts)),
            Who::Client { client, token_id } => (client, *token_id, None),
        };
        let text = |text: &Arc<str>| without_token(text).into_owned();
        DecisionInput {
            client_id: text(&client.id),
            username: client.username.as_ref().map(text),
            address: client.address.as_ref().map(text),
            port: client.port,
            certificate: client.certificate,
            token_id,
            issuer: facts.map(|facts| facts.account.issuer.to_string()),
            subject: facts.map(|facts| facts.account.subject.to_string()),
            session: facts.map(|facts| facts.number),
            claims: facts
                .filter(|_| with_claims)
                .map(|facts| facts.recorded_claims()),
            message: self.message.as_ref().map(|message| RecordedMessage {
                topic: without_token(&String::from_utf8_lossy(&message.topic)).into_owned(),
                qos: message.qos,
                retain: message.retain,
                payload_bytes: message.payload,
            }),
        }
    }
}

/// Returns the beginning of a text. A token is recognised before that, because a part of one may look like none.
fn cut_text(text: &str) -> String {
    cut(&without_token(text), MAX_UNVERIFIED)
}

/// Returns a policy file, and where it is.
fn place(place: &Option<PolicyPlace>) -> Option<(&Path, &PolicyFile)> {
    let place = place.as_ref()?;
    Some((&place.path, &place.rules))
}
