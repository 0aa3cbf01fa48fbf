//! One decision, as data: what the decision log writes, and what the tool reads from it.
//!
//! The names of the members are those of OPA's decision logs, so that what reads these can read this. Beside them
//! stands what MQTT has: a client, a topic, a QoS.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::timestamp;
use acl::{explanation::RuleName, policy_file::PolicyFile, time::Unix};
use input::text;

/// A decision. One line of the decision log is one of these.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DecisionRecord {
    /// A name for this decision, which no other has.
    pub decision_id: String,
    /// The broker process that decided. It is the label `id`.
    pub process: String,
    /// When it was decided.
    pub timestamp: Unix,
    /// What was decided about.
    pub path: DecisionPath,
    /// What the decision rests on.
    pub input: DecisionInput,
    /// The decision.
    pub result: DecisionResult,
}

/// What a decision is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DecisionPath {
    /// A sign-in.
    #[default]
    Connect,
    /// A new token of a client that is in.
    Renew,
    /// A message that a client publishes.
    Publish,
    /// A message that a client would receive.
    Receive,
    /// A subscription.
    Subscribe,
    /// The end of a subscription.
    Unsubscribe,
}

/// What a decision rests on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DecisionInput {
    /// The client ID.
    pub client_id: String,
    /// The user name: of a client that is in, the verified one; else what it sent.
    pub username: Option<String>,
    /// The client's address, if it is known.
    pub address: Option<String>,
    /// The port of the listener, if the broker tells it.
    pub port: Option<u16>,
    /// The SHA-256 fingerprint of the client's certificate, if a rule may ask for it.
    pub certificate: Option<[u8; 32]>,
    /// The first eight bytes of the SHA-256 hash of the token that the client presented.
    pub token_id: Option<TokenId>,
    /// The issuer of the token, verified.
    pub issuer: Option<String>,
    /// Its subject, verified.
    pub subject: Option<String>,
    /// The number of the sign-in or renewal that gave the client its rights. With [`DecisionRecord::process`] it is
    /// the only one.
    pub session: Option<u64>,
    /// The claims that rights come from. They stand in the first line about a session in a file.
    pub claims: Option<RecordedClaims>,
    /// The message or the subscription.
    pub message: Option<RecordedMessage>,
}

/// The first eight bytes of the SHA-256 hash of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TokenId(pub [u8; 8]);

/// The claims of a token that rights come from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RecordedClaims {
    /// The claims.
    pub present: Map<String, Value>,
    /// Those that would count, and that the token does not have.
    pub missing: Vec<String>,
}

/// A message or a subscription.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RecordedMessage {
    /// The topic or the filter.
    pub topic: String,
    /// The QoS.
    pub qos: u8,
    /// The retain flag.
    pub retain: bool,
    /// The length of the payload, in bytes.
    pub payload_bytes: u32,
}

/// A decision.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DecisionResult {
    /// Whether it is allowed.
    pub allowed: bool,
    /// The code of the refusal.
    pub reason: Option<String>,
    /// What was found, as a sentence.
    pub explanation: Option<String>,
    /// The rule that decides, if it is known.
    pub rule: Option<RecordedRule>,
    /// When the rights of a client end that was admitted.
    pub expires_at: Option<Unix>,
    /// What the shadow policy would have decided, if there is one.
    pub shadow: Option<ShadowResult>,
    /// How many refused sign-ins this line stands for, if it is about some that were like an earlier one.
    pub repeats: Option<RecordedRepeats>,
}

/// How often sign-ins were refused like one that has a line of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordedRepeats {
    /// How often.
    pub times: u64,
    /// Whose sign-ins they were.
    pub of: RepeatsOf,
}

/// Whose refused sign-ins are counted together, for one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepeatsOf {
    /// Those of one client ID from one address.
    Client,
    /// Those of many client IDs from one address. The line names the last one.
    Address,
    /// Those from many addresses. The line names the last one.
    All,
}

impl RepeatsOf {
    /// Returns its name.
    fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Address => "address",
            Self::All => "all",
        }
    }
}

/// What the shadow policy would have decided.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ShadowResult {
    /// Whether it would have been allowed.
    pub allowed: bool,
    /// The rule that would have decided.
    pub rule: Option<RecordedRule>,
}

/// A rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordedRule {
    /// The file that it is in; `None` if it is a rule of the token.
    pub file: Option<String>,
    /// The line on which it begins, if that is known.
    pub line: Option<u32>,
    /// Its name in the file, or its filter in the token, if that is known.
    pub name: Option<String>,
}

impl DecisionPath {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Connect,
        Self::Renew,
        Self::Publish,
        Self::Receive,
        Self::Subscribe,
        Self::Unsubscribe,
    ];

    /// Returns the action's name.
    pub fn action(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Renew => "renew",
            Self::Publish => "publish",
            Self::Receive => "receive",
            Self::Subscribe => "subscribe",
            Self::Unsubscribe => "unsubscribe",
        }
    }
}

impl TokenId {
    /// Returns the ID of a token.
    pub fn of(token: &[u8]) -> Self {
        let digest = crate::secret::sha256(token);
        let (first, _) = digest.split_first_chunk().expect("there are 32");
        Self(*first)
    }
}

/// Why a line is not a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordError {
    /// It is not a JSON object.
    NotJson,
    /// This member is missing, or not what it should be.
    Member(&'static str),
}

impl DecisionRecord {
    /// Returns the record as JSON in one line, without the line end. `labels` are further members of `labels`.
    pub fn line(&self, labels: &[(&str, &str)]) -> String {
        let path = format!("mqtt/{}", self.path.action());
        let mut all = Map::new();
        all.insert("id".into(), self.process.as_str().into());
        all.extend(
            labels
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into())),
        );
        let mut members = Members::default();
        members
            .set("decision_id", Some(self.decision_id.as_str()))
            .set("labels", Some(all))
            .set("timestamp", Some(timestamp::write(self.timestamp)))
            .set("path", Some(path))
            .set("requested_by", self.input.address.as_deref())
            .set("input", Some(self.input.json(self.path)))
            .set("result", Some(self.result.json()));
        text::json_line(&members.object().to_string())
    }

    /// Reads a line.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with it.
    pub fn parse(line: &str) -> Result<Self, RecordError> {
        use RecordError::{Member, NotJson};
        let value: Value = serde_json::from_str(line).map_err(|_| NotJson)?;
        let record = Reader(value.as_object().ok_or(NotJson)?);
        let path = record.text("path").ok_or(Member("path"))?;
        let path = DecisionPath::ALL
            .into_iter()
            .find(|one| path.strip_prefix("mqtt/") == Some(one.action()));
        let labels = record.object("labels").ok_or(Member("labels"))?;
        let time = record.text("timestamp");
        Ok(Self {
            decision_id: record.text("decision_id").ok_or(Member("decision_id"))?,
            process: labels.text("id").ok_or(Member("labels"))?,
            timestamp: time
                .and_then(|time| timestamp::read(&time))
                .ok_or(Member("timestamp"))?,
            path: path.ok_or(Member("path"))?,
            input: record
                .object("input")
                .and_then(DecisionInput::read)
                .ok_or(Member("input"))?,
            result: record
                .object("result")
                .and_then(DecisionResult::read)
                .ok_or(Member("result"))?,
        })
    }
}

impl DecisionInput {
    fn json(&self, path: DecisionPath) -> Value {
        let message = self.message.as_ref();
        let claims = self.claims.as_ref();
        let mut members = Members::default();
        members
            .set("action", Some(path.action()))
            .set("client_id", Some(self.client_id.as_str()))
            .set("username", self.username.as_deref())
            .set("address", self.address.as_deref())
            .set("port", self.port)
            .set("certificate", self.certificate.map(|print| hex(&print)))
            .set("token_id", self.token_id.map(|id| hex(&id.0)))
            .set("issuer", self.issuer.as_deref())
            .set("subject", self.subject.as_deref())
            .set("session", self.session)
            .set("claims", claims.map(|claims| claims.present.clone()))
            .set(
                "claims_missing",
                claims
                    .filter(|claims| !claims.missing.is_empty())
                    .map(|claims| claims.missing.clone()),
            )
            .set("topic", message.map(|message| message.topic.as_str()))
            .set("qos", message.map(|message| message.qos))
            .set("retain", message.map(|message| message.retain))
            .set(
                "payload_bytes",
                message.map(|message| message.payload_bytes),
            );
        members.object()
    }

    fn read(input: Reader<'_>) -> Option<Self> {
        let message = || {
            Some(RecordedMessage {
                topic: input.text("topic")?,
                qos: input.number("qos")?,
                retain: input.0.get("retain")?.as_bool()?,
                payload_bytes: input.number("payload_bytes")?,
            })
        };
        let claims = || {
            let missing = input.0.get("claims_missing").and_then(Value::as_array);
            let missing = missing.into_iter().flatten().filter_map(Value::as_str);
            Some(RecordedClaims {
                present: input.0.get("claims")?.as_object()?.clone(),
                missing: missing.map(str::to_owned).collect(),
            })
        };
        Some(Self {
            client_id: input.text("client_id")?,
            username: input.text("username"),
            address: input.text("address"),
            port: input.number("port"),
            certificate: input.text("certificate").and_then(|text| bytes(&text)),
            token_id: input
                .text("token_id")
                .and_then(|text| bytes(&text))
                .map(TokenId),
            issuer: input.text("issuer"),
            subject: input.text("subject"),
            session: input.number("session"),
            claims: claims(),
            message: message(),
        })
    }
}

impl DecisionResult {
    fn json(&self) -> Value {
        let shadow = self.shadow.as_ref().map(|shadow| {
            let mut members = Members::default();
            members
                .set("allowed", Some(shadow.allowed))
                .set("rule", shadow.rule.as_ref().map(RecordedRule::json));
            members.object()
        });
        let repeats = self.repeats.map(|repeats| {
            let mut members = Members::default();
            members
                .set("times", Some(repeats.times))
                .set("of", Some(repeats.of.name()));
            members.object()
        });
        let mut members = Members::default();
        members
            .set("allowed", Some(self.allowed))
            .set("reason", self.reason.as_deref())
            .set("explanation", self.explanation.as_deref())
            .set("rule", self.rule.as_ref().map(RecordedRule::json))
            .set("expires_at", self.expires_at.map(timestamp::write))
            .set("shadow", shadow)
            .set("repeats", repeats);
        members.object()
    }

    fn read(result: Reader<'_>) -> Option<Self> {
        let shadow = result.object("shadow");
        Some(Self {
            allowed: result.0.get("allowed")?.as_bool()?,
            reason: result.text("reason"),
            explanation: result.text("explanation"),
            rule: result.object("rule").map(RecordedRule::read),
            expires_at: result
                .text("expires_at")
                .and_then(|time| timestamp::read(&time)),
            shadow: shadow.and_then(|shadow| {
                Some(ShadowResult {
                    allowed: shadow.0.get("allowed")?.as_bool()?,
                    rule: shadow.object("rule").map(RecordedRule::read),
                })
            }),
            repeats: result.object("repeats").and_then(|repeats| {
                let of = repeats.text("of")?;
                let all = [RepeatsOf::Client, RepeatsOf::Address, RepeatsOf::All];
                Some(RecordedRepeats {
                    times: repeats.number("times")?,
                    of: all.into_iter().find(|one| one.name() == of)?,
                })
            }),
        })
    }
}

impl RecordedRule {
    /// Returns a rule, as its author knows it. `policy` is the policy file that such rules are in.
    pub fn of(rule: &RuleName, policy: Option<(&Path, &PolicyFile)>) -> Self {
        match rule {
            RuleName::Policy(name) => Self {
                file: Some(
                    policy.map_or_else(|| "?".into(), |(path, _)| path.display().to_string()),
                ),
                line: policy.and_then(|(_, rules)| rules.line_of(name)),
                name: Some(name.to_string()),
            },
            RuleName::Requirement(name) => Self {
                line: policy.and_then(|(_, rules)| rules.line_of_requirement(name)),
                ..Self::of(&RuleName::Policy(name.clone()), policy)
            },
            RuleName::Filter(filter) => Self {
                name: Some(text::without_token(filter).into_owned()),
                ..Self::default()
            },
            RuleName::Token => Self::default(),
        }
    }

    /// Returns it as JSON.
    pub fn json(&self) -> Value {
        let source = match self.file {
            Some(_) => "policy_file",
            None => "token",
        };
        let mut members = Members::default();
        members
            .set("source", Some(source))
            .set("file", self.file.as_deref())
            .set("line", self.line)
            .set("name", self.name.as_deref());
        members.object()
    }

    fn read(rule: Reader<'_>) -> Self {
        Self {
            file: rule.text("file"),
            line: rule.number("line"),
            name: rule.text("name"),
        }
    }
}

/// The members of an object that is written.
#[derive(Default)]
struct Members(Map<String, Value>);

impl Members {
    /// Adds a member, if it has a value.
    fn set(&mut self, name: &str, value: Option<impl Into<Value>>) -> &mut Self {
        if let Some(value) = value {
            self.0.insert(name.to_owned(), value.into());
        }
        self
    }

    fn object(self) -> Value {
        json!(self.0)
    }
}

/// An object that is read.
#[derive(Clone, Copy)]
struct Reader<'v>(&'v Map<String, Value>);

impl<'v> Reader<'v> {
    fn text(self, name: &str) -> Option<String> {
        Some(self.0.get(name)?.as_str()?.to_owned())
    }

    fn number<T: TryFrom<u64>>(self, name: &str) -> Option<T> {
        self.0.get(name)?.as_u64()?.try_into().ok()
    }

    fn object(self, name: &str) -> Option<Reader<'v>> {
        self.0.get(name)?.as_object().map(Reader)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes<const N: usize>(hex: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if hex.len() != 2 * N || !hex.is_ascii() {
        return None;
    }
    for (place, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[2 * place..2 * place + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> DecisionRecord {
        let rule = |file: Option<&str>, name: &str| RecordedRule {
            file: file.map(Into::into),
            line: file.map(|_| 7),
            name: Some(name.into()),
        };
        DecisionRecord {
            decision_id: "4ca636c1-55e4-417a-b1d8-4aceb67960d1".into(),
            process: "1780d507-aea2-45cc-ae50-fa153c8e4a5a".into(),
            timestamp: Unix(1_795_795_277),
            path: DecisionPath::Publish,
            input: DecisionInput {
                client_id: "pump-1\n".into(),
                username: Some("auth0|1".into()),
                address: Some("192.0.2.1".into()),
                port: Some(8883),
                certificate: Some([0xab; 32]),
                token_id: Some(TokenId::of(b"token")),
                issuer: Some("https://t.example/".into()),
                subject: Some("auth0|1".into()),
                session: Some(3),
                claims: Some(RecordedClaims {
                    present: json!({"topics": ["a/#"]}).as_object().unwrap().clone(),
                    missing: vec!["role".into()],
                }),
                message: Some(RecordedMessage {
                    topic: "a/\u{9b}31m".into(),
                    qos: 1,
                    retain: true,
                    payload_bytes: 17,
                }),
            },
            result: DecisionResult {
                allowed: false,
                reason: Some("not-granted".into()),
                explanation: Some("it is".into()),
                rule: Some(rule(Some("/etc/p.toml"), "closed")),
                expires_at: Some(Unix(1_795_795_278)),
                shadow: Some(ShadowResult {
                    allowed: true,
                    rule: Some(rule(None, "a/#")),
                }),
                repeats: Some(RecordedRepeats {
                    times: 3,
                    of: RepeatsOf::Address,
                }),
            },
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let line = full().line(&[("app", "mosquitto-auth0")]);
        assert!(!line.contains(char::is_control), "{line}");
        assert_eq!(DecisionRecord::parse(&line).unwrap(), full());
        let least = DecisionRecord::default();
        assert_eq!(DecisionRecord::parse(&least.line(&[])).unwrap(), least);
    }

    /// The names are those of <https://www.openpolicyagent.org/docs/management-decision-logs>.
    #[test]
    fn the_members_have_the_names_of_opa() {
        let line = full().line(&[("app", "mosquitto-auth0"), ("version", "1")]);
        let value: Value = serde_json::from_str(&line).unwrap();
        let names: Vec<_> = value.as_object().unwrap().keys().collect();
        let all = [
            "decision_id",
            "input",
            "labels",
            "path",
            "requested_by",
            "result",
            "timestamp",
        ];
        assert_eq!(names, all);
        assert_eq!(value["timestamp"], "2026-11-27T16:01:17Z");
        assert_eq!(value["path"], "mqtt/publish");
        assert_eq!(value["labels"]["app"], "mosquitto-auth0");
        assert_eq!(value["requested_by"], "192.0.2.1");
        // printf token | sha256sum
        assert_eq!(value["input"]["token_id"], "3c469e9d6c5875d3");
        assert_eq!(value["result"]["rule"]["source"], "policy_file");
        assert_eq!(value["result"]["shadow"]["rule"]["source"], "token");
    }

    #[test]
    fn what_is_no_decision_is_refused() {
        let line = full().line(&[]);
        for (line, why) in [
            (String::new(), RecordError::NotJson),
            ("[]".into(), RecordError::NotJson),
            (line[..line.len() - 1].into(), RecordError::NotJson),
            ("{}".into(), RecordError::Member("path")),
            (
                line.replace("mqtt/publish", "http/x"),
                RecordError::Member("path"),
            ),
            (
                line.replace("2026-11", "2026-13"),
                RecordError::Member("timestamp"),
            ),
            (
                line.replace("client_id", "id"),
                RecordError::Member("input"),
            ),
            (
                line.replace("allowed", "allow"),
                RecordError::Member("result"),
            ),
        ] {
            assert_eq!(DecisionRecord::parse(&line), Err(why), "{line}");
        }
    }
}
