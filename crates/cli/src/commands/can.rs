//! `can`: says what a device may do, and why.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use acl::diagnosis::{NearMiss, Obstacle, PlacedRule, RulePlace};
use auth::{
    clock::Unix,
    engine::{Decision, WhyDecided},
};

use crate::{
    arguments::CanArguments,
    configuration::{self, AtListener},
    device::{self, Credential, Device, Instance, NotIn, SignedIn, Tenant},
    exit::Exit,
    messages,
    output::{Failure, Outcome},
    question::{BrokerRefuses, Question},
};

/// The answer to a question.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    /// The question.
    pub(crate) question: Question,
    /// The decision.
    pub(crate) decision: Decision,
    /// Why.
    pub(crate) why: Why,
}

/// Why a question has its answer.
#[derive(Clone, Debug)]
pub(crate) enum Why {
    /// The broker decides by itself.
    Broker(BrokerRefuses),
    /// The plugin does not let the device in.
    NotIn,
    /// The plugin decides.
    Decided(WhyDecided),
}

/// The answers to all questions.
struct Replies {
    /// Why the device is not let in, if it is not.
    not_in: Option<NotIn>,
    /// What the plugin would have logged until then.
    log: Vec<String>,
    /// When the rights of the device end.
    until: Option<Unix>,
    /// Whether the claims are taken as they are.
    is_unverified: bool,
    replies: Vec<Reply>,
    explain: bool,
    policy_file: Option<PathBuf>,
}

/// Answers what the command line asks.
///
/// # Errors
///
/// Returns a failure if the configuration, a file or the question is wrong.
pub(crate) fn run(arguments: &CanArguments) -> Result<Box<dyn Outcome>, Failure> {
    let (conf, questions) = questions(arguments)?;
    let AtListener {
        config,
        local_users,
        mount_point,
    } = configuration::at_listener(&conf, arguments.device.port)?;
    let mount_point = mount_point?;
    let device = Device::of(&arguments.device)?;
    let tenant = match arguments.device.offline {
        true => Tenant::LeftAlone,
        false => Tenant::Asked,
    };
    device::check_users(&config, &local_users, &device.credential)?;
    let policy_file = config
        .policy_file_of(device.credential.issuer(&config))
        .map(Path::to_owned);
    let mut instance = Instance::new(config, &local_users, tenant)?;
    let now = device::time_of(&arguments.device);
    let signed_in = instance.sign_in(&device, now);
    let log = instance.lines();
    let replies = questions.into_iter();
    let replies = replies.map(|question| match &signed_in {
        Ok(device) => ask(&mut instance, device, question, &mount_point, now),
        Err(not_in) => Reply {
            question,
            decision: match not_in {
                NotIn::Refused(_) => Decision::Deny,
                NotIn::OthersDecide => Decision::Defer,
            },
            why: Why::NotIn,
        },
    });
    Ok(Box::new(Replies {
        replies: replies.collect(),
        not_in: signed_in.as_ref().err().cloned(),
        log,
        until: signed_in.as_ref().ok().map(|device| device.until),
        is_unverified: matches!(device.credential, Credential::Claims { .. }),
        explain: arguments.explain,
        policy_file,
    }))
}

/// Asks whether a device that is in may do something, on a listener with this mount point.
pub(crate) fn ask(
    instance: &mut Instance,
    device: &SignedIn,
    question: Question,
    mount_point: &str,
    now: Unix,
) -> Reply {
    let deed = question.deed(mount_point);
    let (decision, why) = match deed.refused_by_broker() {
        Some(refuses) => (Decision::Deny, Why::Broker(refuses)),
        None => {
            let (decision, why) = instance.may(device, &deed, now);
            (decision, Why::Decided(why))
        }
    };
    Reply {
        question,
        decision,
        why,
    }
}

/// Returns the configuration and the questions that the command line names.
fn questions(arguments: &CanArguments) -> Result<(PathBuf, Vec<Question>), Failure> {
    let usage = || {
        Failure::new("nothing is asked").fix(
            "end the command with publish TOPIC, subscribe FILTER or receive TOPIC, or name a file of questions \
             (--questions FILE)",
        )
    };
    let default = || PathBuf::from(crate::arguments::CONF);
    if let Some(path) = &arguments.questions {
        let text = fs::read_to_string(path)
            .map_err(|why| Failure::new(format!("{}: {why}", path.display())))?;
        let conf = match arguments.words.as_slice() {
            [] => default(),
            [conf] => conf.into(),
            _ => return Err(usage()),
        };
        let questions = Question::parse_file(&text, path)?;
        return match questions.is_empty() {
            false => Ok((conf, questions)),
            true => Err(Failure::new(format!("{} asks nothing", path.display()))
                .fix("write a line such as `publish a/b` for each question")),
        };
    }
    let (conf, action, topic) = match arguments.words.as_slice() {
        [action, topic] => (default(), action, topic),
        [conf, action, topic] => (conf.into(), action, topic),
        _ => return Err(usage()),
    };
    let question = Question::new(action, topic).ok_or_else(usage)?;
    let question = Question {
        qos: arguments.qos,
        retain: arguments.retain,
        payload: arguments.payload_bytes,
        ..question
    };
    Ok((conf, vec![question]))
}

impl Outcome for Replies {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.is_unverified {
            writeln!(out, "(Nobody has verified these claims.)")?;
        }
        if let Some(not_in) = &self.not_in {
            writeln!(out, "{}", messages::can::turned_away(not_in))?;
            if self.explain {
                self.log
                    .iter()
                    .try_for_each(|line| writeln!(out, "       {line}"))?;
            }
        }
        for reply in &self.replies {
            writeln!(out, "{reply}")?;
            if self.explain {
                let policy_file = self.policy_file.as_deref();
                for line in messages::can::explanation(&reply.why, policy_file) {
                    writeln!(out, "       {line}")?;
                }
            }
        }
        Ok(())
    }

    fn json(&self) -> Value {
        let replies = self.replies.iter();
        let replies = replies.map(|reply| reply.json(self.policy_file.as_deref()));
        json!({
            "verified": !self.is_unverified,
            "refused": self.not_in.as_ref().map(NotIn::json),
            "rights_end": self.until.map(|until| until.0),
            "answers": replies.collect::<Vec<_>>(),
        })
    }

    fn exit(&self) -> Exit {
        if let Some(not_in) = &self.not_in {
            return not_in.exit();
        }
        let has = |decision| self.replies.iter().any(|reply| reply.decision == decision);
        match (has(Decision::Deny), has(Decision::Defer)) {
            (true, _) => Exit::No,
            (false, true) => Exit::Unknown,
            (false, false) => Exit::Yes,
        }
    }
}

impl Reply {
    /// Returns it for programs.
    pub(crate) fn json(&self, policy_file: Option<&Path>) -> Value {
        let (mut rule, mut nearest) = (None, None);
        if let Why::Decided(WhyDecided::Rules(why)) = &self.why {
            rule = why.decided_by.as_ref();
            nearest = why.nearest.as_ref();
        }
        json!({
            "question": self.question.to_string(),
            "decision": match self.decision {
                Decision::Allow => "allow",
                Decision::Deny => "deny",
                Decision::Defer => "defer",
            },
            "why": messages::can::explanation(&self.why, policy_file),
            "rule": rule.map(|rule| rule_json(rule, policy_file)),
            "nearest": nearest.map(|NearMiss { rule, obstacles }| json!({
                "rule": rule_json(rule, policy_file),
                "obstacles": obstacles.iter().map(Obstacle::to_string).collect::<Vec<_>>(),
            })),
        })
    }
}

/// Returns a rule for programs.
pub(crate) fn rule_json(rule: &PlacedRule, policy_file: Option<&Path>) -> Value {
    let mut shown = json!({
        "effect": match rule.effect {
            acl::rules::Effect::Allow => "allow",
            acl::rules::Effect::Deny => "deny",
        },
        "filter": rule.filter,
    });
    match &rule.place {
        RulePlace::Policy { name, line } => {
            shown["name"] = json!(name);
            shown["file"] = json!(policy_file);
            shown["line"] = json!(line);
        }
        RulePlace::Claim { name, number } => {
            shown["claim"] = json!(name);
            shown["entry"] = json!(number);
        }
    }
    shown
}
