//! `replay`: decides what is in a decision log once more, by another policy file, and says what would be different.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fs::{self, File},
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::{Value, json};

use acl::{
    claims::TokenRules,
    client::ClientAttributes,
    explanation::RuleName,
    policy_file::PolicyFile,
    rights::{Rights, RightsError},
    rules::AccessRequest,
};
use auth::{
    clock::Unix,
    config::Config,
    control::ControlTopic,
    decision_log::record::{DecisionInput, DecisionPath, DecisionRecord, RecordedRule},
};

use crate::{
    arguments::ReplayArguments,
    configuration,
    exit::Exit,
    messages,
    output::{Failure, Outcome},
};

/// What would be different, and for whom. Equal ones are counted together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Change {
    /// The client ID.
    pub(crate) client_id: String,
    /// The user name.
    pub(crate) username: Option<String>,
    /// What the client did.
    pub(crate) path: DecisionPath,
    /// Whether it would be allowed.
    pub(crate) allowed: bool,
    /// The rule that would decide, if there is one.
    pub(crate) rule: Option<RecordedRule>,
    /// The rule that decided, if it is known.
    pub(crate) before: Option<RecordedRule>,
}

/// How often, and an example.
#[derive(Clone, Debug)]
pub(crate) struct Times {
    /// How often.
    pub(crate) times: u64,
    /// The last topic. Empty for a sign-in.
    pub(crate) example: String,
}

/// What came of a replay.
#[derive(Default)]
pub(crate) struct Replayed {
    /// The policy file.
    pub(crate) policy: PathBuf,
    /// How many decisions were made again.
    pub(crate) compared: u64,
    /// About how many devices.
    pub(crate) devices: HashSet<String>,
    /// Whether messages or subscriptions that were allowed are among them.
    pub(crate) has_allowed: bool,
    /// How many decisions were not about rules.
    pub(crate) others: u64,
    /// Of how many decisions the log does not have the claims.
    pub(crate) unknown: u64,
    /// How many lines are no decisions.
    pub(crate) unreadable: u64,
    /// The claims that the policy file asks for, and that the log leaves out.
    pub(crate) claims_not_logged: BTreeSet<String>,
    /// What would be different.
    pub(crate) changes: BTreeMap<Change, Times>,
}

/// A client that signed in, by the other policy file.
enum Client {
    In(Rights),
    /// Because of this rule it is refused.
    Refused(RuleName),
    /// Nothing can be said.
    Unknown,
}

/// Decides again.
struct Replay {
    policy: Arc<PolicyFile>,
    config: Config,
    /// By process and session.
    clients: HashMap<(String, u64), Client>,
    replayed: Replayed,
}

/// Decides again what is in a decision log.
///
/// # Errors
///
/// Returns a failure if a file cannot be read, or if something is wrong with it.
pub(crate) fn run(arguments: &ReplayArguments) -> Result<Box<dyn Outcome>, Failure> {
    let config = configuration::at_listener(&arguments.conf, None)?.config;
    let path = &arguments.policy;
    let text = fs::read_to_string(path).map_err(|why| unreadable(path, &why))?;
    let policy = PolicyFile::compile(&text)
        .map_err(|mistake| Failure::new(format!("{}: {mistake}", path.display())))?;
    let mut replay = Replay {
        policy: Arc::new(policy),
        config,
        clients: HashMap::new(),
        replayed: Replayed {
            policy: path.clone(),
            ..Replayed::default()
        },
    };
    for log in &arguments.logs {
        let lines: Box<dyn BufRead> = match log.as_os_str() == "-" {
            true => Box::new(io::stdin().lock()),
            false => {
                let file = File::open(log).map_err(|why| unreadable(log, &why))?;
                Box::new(BufReader::new(file))
            }
        };
        for line in lines.split(b'\n') {
            let line = line.map_err(|why| unreadable(log, &why))?;
            let record = std::str::from_utf8(&line).ok();
            match record.and_then(|line| DecisionRecord::parse(line).ok()) {
                Some(record) => replay.take(record),
                None => replay.replayed.unreadable += u64::from(!line.is_empty()),
            }
        }
    }
    Ok(Box::new(replay.replayed))
}

fn unreadable(path: &Path, why: &io::Error) -> Failure {
    Failure::new(format!("{} cannot be read: {why}", path.display()))
}

impl Replay {
    /// Decides once more.
    fn take(&mut self, record: DecisionRecord) {
        let is_by_rules = record.result.allowed
            || matches!(
                record.result.reason.as_deref(),
                Some("not-granted" | "policy-value" | "claim-required")
            );
        let is_own = |topic: &str| ControlTopic::of(topic.as_bytes()).is_some();
        let message = record.input.message.as_ref();
        // A line may stand for several refused sign-ins.
        let times = record.result.repeats.map_or(1, |repeats| repeats.times);
        if !is_by_rules
            || record.path == DecisionPath::Unsubscribe
            || message.is_some_and(|message| is_own(&message.topic))
        {
            self.replayed.others += times;
            return;
        }
        let Some(session) = record.input.session else {
            self.replayed.unknown += times;
            return;
        };
        let key = (record.process.clone(), session);
        if !self.clients.contains_key(&key) {
            let client = self.client(&record.input, record.timestamp);
            self.clients.insert(key.clone(), client);
        }
        let decided = match &self.clients[&key] {
            Client::Unknown => {
                self.replayed.unknown += 1;
                return;
            }
            Client::Refused(rule) => (false, Some(rule.clone())),
            Client::In(rights) => match request(&record) {
                None => (true, None),
                Some((request, topic)) => {
                    let (topic, now) = (topic.as_bytes(), record.timestamp);
                    match rights.allow(request, topic, now) {
                        true => (true, rights.deciding_rule(request, topic, now)),
                        false => (
                            false,
                            rights.explain_denial_briefly(request, topic, now).rule(),
                        ),
                    }
                }
            },
        };
        self.compare(record, decided);
    }

    /// Notes what was decided then and now.
    fn compare(&mut self, record: DecisionRecord, (allowed, rule): (bool, Option<RuleName>)) {
        let replayed = &mut self.replayed;
        replayed.compared += 1;
        replayed.has_allowed |= record.result.allowed && record.input.message.is_some();
        if !replayed.devices.contains(&record.input.client_id) {
            replayed.devices.insert(record.input.client_id.clone());
        }
        if allowed == record.result.allowed {
            return;
        }
        let rule = rule.map(|rule| RecordedRule::of(&rule, Some((&replayed.policy, &self.policy))));
        let change = Change {
            client_id: record.input.client_id,
            username: record.input.username,
            path: record.path,
            allowed,
            rule,
            before: record.result.rule,
        };
        let message = record.input.message;
        let times = replayed.changes.entry(change).or_insert(Times {
            times: 0,
            example: String::new(),
        });
        times.times += 1;
        times.example = message.map(|message| message.topic).unwrap_or_default();
    }

    /// Returns what a client may do by the other policy file.
    fn client(&mut self, input: &DecisionInput, now: Unix) -> Client {
        let Some(claims) = &input.claims else {
            return Client::Unknown;
        };
        let is_known =
            |name: &String| claims.present.contains_key(name) || claims.missing.contains(name);
        let needed = self.policy.members().into_iter();
        let needed = needed.chain(self.policy.required_members());
        let missing = needed.filter(|name| !is_known(name));
        self.replayed.claims_not_logged.extend(missing);
        let issuer = self.config.issuer_named(input.issuer.as_deref());
        // Its tokens are read as nobody here knows, or another policy file is about them.
        let is_foreign = |iss: &String| !issuer.names.contains(iss);
        let common = self.config.policy_file();
        if input.issuer.as_ref().is_some_and(is_foreign)
            || common.is_some() && self.config.policy_file_of(issuer) != common
        {
            return Client::Unknown;
        }
        let Ok(rules) = issuer.reading.rules(&claims.present) else {
            return Client::Unknown;
        };
        let address = input.address.as_deref();
        let address = address.and_then(|address| address.split('%').next()?.parse().ok());
        let attributes = ClientAttributes {
            client_id: input.client_id.as_str().into(),
            username: input.username.as_deref().unwrap_or_default().into(),
            claims: Arc::new(claims.present.clone()),
            address,
            port: input.port,
            certificate: input.certificate,
        };
        if let Some(unmet) = self.policy.unmet_requirement(&attributes, now) {
            return Client::Refused(RuleName::Requirement(unmet.name));
        }
        let token = Arc::new(TokenRules::compile(&rules));
        match Rights::new(token, Some(&self.policy), attributes) {
            Ok(rights) => Client::In(rights),
            Err(RightsError::Policy(unusable)) => Client::Refused(RuleName::Policy(unusable.rule)),
            Err(RightsError::Token(_)) => Client::Unknown,
        }
    }
}

/// Returns what was asked. `None` if it was a sign-in.
fn request(record: &DecisionRecord) -> Option<(AccessRequest, &str)> {
    let message = record.input.message.as_ref()?;
    let request = match record.path {
        DecisionPath::Publish => AccessRequest::Publish {
            qos: message.qos,
            retain: message.retain,
            payload: message.payload_bytes,
        },
        DecisionPath::Subscribe => AccessRequest::Subscribe {
            qos: Some(message.qos),
        },
        DecisionPath::Receive => AccessRequest::Receive,
        DecisionPath::Connect | DecisionPath::Renew | DecisionPath::Unsubscribe => return None,
    };
    Some((request, &message.topic))
}

impl Replayed {
    /// Whether something would be different.
    fn changes(&self) -> bool {
        !self.changes.is_empty()
    }

    /// Whether something may be different that the log does not tell.
    pub(crate) fn is_uncertain(&self) -> bool {
        !self.has_allowed || self.unknown > 0 || !self.claims_not_logged.is_empty()
    }
}

impl Outcome for Replayed {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        messages::replay::write(self, out)
    }

    fn json(&self) -> Value {
        let word = |allowed: bool| if allowed { "allowed" } else { "denied" };
        let changes = self.changes.iter().map(|(change, times)| {
            json!({
                "client_id": change.client_id,
                "username": change.username,
                "action": change.path.action(),
                "was": word(!change.allowed),
                "becomes": word(change.allowed),
                "rule": change.rule.as_ref().map(RecordedRule::json),
                "rule_before": change.before.as_ref().map(RecordedRule::json),
                "times": times.times,
                "example": times.example,
            })
        });
        json!({
            "policy": self.policy.display().to_string(),
            "compared": self.compared,
            "devices": self.devices.len(),
            "different": self.changes.values().map(|times| times.times).sum::<u64>(),
            "changes": changes.collect::<Vec<_>>(),
            "not_about_rules": self.others,
            "without_claims": self.unknown,
            "unreadable_lines": self.unreadable,
            "claims_not_logged": self.claims_not_logged,
            "has_allowed_messages": self.has_allowed,
        })
    }

    fn exit(&self) -> Exit {
        match (self.changes(), self.is_uncertain()) {
            (true, _) => Exit::No,
            (false, true) => Exit::Unknown,
            (false, false) => Exit::Yes,
        }
    }
}
