//! `test`: whether a policy does what is expected of it.

use std::{
    collections::{HashMap, hash_map::Entry},
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use auth::{
    clock,
    config::{Config, local_users::LocalUsers},
    engine::Decision,
};

use super::can::{self, Reply};
use crate::{
    arguments::TestArguments,
    configuration::{self, AtListener},
    device::{self, Credential, Instance, NotIn, Tenant},
    exit::Exit,
    expectations::{self, Expectation},
    messages,
    output::{Failure, Outcome},
};

/// What came of the expectations.
struct Tested {
    file: PathBuf,
    devices: usize,
    /// How many expectations there are: whether each device is let in, and what it may do.
    expectations: usize,
    failed: Vec<Failed>,
}

/// An expectation that is not met.
struct Failed {
    device: String,
    line: usize,
    /// Whether it should be let in, or may do it.
    expected: bool,
    what: Unmet,
    policy_file: Option<PathBuf>,
}

/// What is not met, or of which nobody knows whether it is.
enum Unmet {
    /// The device is not let in.
    NotIn(NotIn),
    /// The device is let in.
    LetIn,
    /// It may do what it should not, or may not do what it should.
    Deed(Box<Reply>),
}

impl Unmet {
    /// Whether the tenant gave no answer, or others decide.
    fn is_unknown(&self) -> bool {
        match self {
            Self::NotIn(not_in) => not_in.exit() == Exit::Unknown,
            Self::LetIn => false,
            Self::Deed(reply) => reply.decision == Decision::Defer,
        }
    }
}

/// What devices meet at a listener.
struct At {
    config: Config,
    local_users: LocalUsers,
    mount_point: String,
}

impl At {
    fn listener(arguments: &TestArguments, port: Option<u16>) -> Result<Self, Failure> {
        let AtListener {
            config,
            local_users,
            mount_point,
        } = configuration::at_listener(&arguments.conf, port)?;
        Ok(Self {
            config,
            local_users,
            mount_point: mount_point?,
        })
    }

    /// Returns an instance for one device. No device has the instance of another one, because the plugin remembers
    /// logins and counts failed ones: the result would depend on the order.
    fn instance(&self, offline: bool, credential: &Credential) -> Result<Instance, Failure> {
        let tenant = match (offline, credential) {
            (true, _) | (false, Credential::Claims { .. }) => Tenant::LeftAlone,
            (false, Credential::Token(_) | Credential::Password { .. }) => Tenant::Asked,
        };
        device::check_users(&self.config, &self.local_users, credential)?;
        Instance::new(self.config.clone(), &self.local_users, tenant)
    }
}

/// Tests what a file expects.
///
/// # Errors
///
/// Returns a failure if the configuration or the file is wrong.
pub(crate) fn run(arguments: &TestArguments) -> Result<Box<dyn Outcome>, Failure> {
    let file = &arguments.file;
    let text = fs::read_to_string(file)
        .map_err(|why| Failure::new(format!("{}: {why}", file.display())))?;
    let expectations = expectations::parse(&text, file)?;
    let mut tested = Tested {
        file: file.clone(),
        devices: expectations.len(),
        expectations: expectations.iter().map(|one| 1 + one.deeds.len()).sum(),
        failed: Vec::new(),
    };
    let mut listeners = HashMap::new();
    for expectation in expectations {
        let port = expectation.device.port;
        let at = match listeners.entry(port) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(At::listener(arguments, port)?),
        };
        let credential = &expectation.device.credential;
        let mut instance = at.instance(arguments.offline, credential)?;
        tested.failed.extend(unmet(expectation, at, &mut instance));
    }
    Ok(Box::new(tested))
}

/// Returns what a device does not do as expected.
fn unmet(expectation: Expectation, at: &At, instance: &mut Instance) -> Vec<Failed> {
    let Expectation {
        name,
        line,
        device,
        at: time,
        let_in,
        deeds,
    } = expectation;
    let now = time.unwrap_or_else(clock::now);
    let issuer = device.credential.issuer(&at.config);
    let policy_file = at.config.policy_file_of(issuer).map(Path::to_owned);
    let failed = |line, expected, what| Failed {
        device: name.clone(),
        line,
        expected,
        what,
        policy_file: policy_file.clone(),
    };
    let device = match (instance.sign_in(&device, now), let_in) {
        (Ok(device), true) => device,
        (Ok(_), false) => return vec![failed(line, let_in, Unmet::LetIn)],
        (Err(not_in), false) if not_in.exit() == Exit::No => return Vec::new(),
        (Err(not_in), _) => return vec![failed(line, let_in, Unmet::NotIn(not_in))],
    };
    let replies = deeds.into_iter().map(|(question, may, line)| {
        let reply = can::ask(instance, &device, question, &at.mount_point, now);
        (reply, may, line)
    });
    let wrong = replies.filter(|(reply, may, _)| match reply.decision {
        Decision::Allow => !may,
        Decision::Deny => *may,
        Decision::Defer => true,
    });
    wrong
        .map(|(reply, may, line)| failed(line, may, Unmet::Deed(Box::new(reply))))
        .collect()
}

impl Outcome for Tested {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        for Failed {
            device,
            line,
            what,
            policy_file,
            ..
        } in &self.failed
        {
            let place = format!("{}:{line}", self.file.display());
            let device = input::text::Quoted(device);
            match what {
                Unmet::NotIn(not_in) if what.is_unknown() => {
                    writeln!(
                        out,
                        "{place}: whether {device} is let in is unknown: {not_in}"
                    )?;
                }
                Unmet::NotIn(not_in) => {
                    writeln!(out, "{place}: {device} is not let in: {not_in}")?;
                }
                Unmet::LetIn => writeln!(out, "{place}: {device} is let in, and should not be")?,
                Unmet::Deed(reply) => {
                    let question = input::text::line(&reply.question.to_string());
                    let said = match reply.decision {
                        Decision::Allow => format!("{device} may {question}"),
                        Decision::Deny => format!("{device} may not {question}"),
                        Decision::Defer => format!("whether {device} may {question} is unknown"),
                    };
                    writeln!(out, "{place}: {said}")?;
                    for line in messages::can::explanation(&reply.why, policy_file.as_deref()) {
                        writeln!(out, "       {line}")?;
                    }
                }
            }
        }
        let count = |number: usize, word: &str| match number {
            1 => format!("1 {word}"),
            number => format!("{number} {word}s"),
        };
        let of = format!(
            "{} of {}",
            count(self.expectations, "expectation"),
            count(self.devices, "device")
        );
        let unknown = self.unknown();
        match (self.failed.len() - unknown, unknown) {
            (0, 0) => writeln!(out, "Met: {of}."),
            (failed, 0) => writeln!(out, "Not met: {failed}, out of {of}."),
            (0, unknown) => writeln!(out, "Unknown: {unknown}, out of {of}."),
            (failed, unknown) => {
                writeln!(out, "Not met: {failed}, unknown: {unknown}, out of {of}.")
            }
        }
    }

    fn json(&self) -> Value {
        let failed = |one: &Failed| {
            let policy_file = one.policy_file.as_deref();
            json!({
                "device": one.device,
                "line": one.line,
                "expected": one.expected,
                "unknown": one.what.is_unknown(),
                "refused": match &one.what {
                    Unmet::NotIn(not_in) => Some(not_in.json()),
                    Unmet::LetIn | Unmet::Deed(_) => None,
                },
                "answer": match &one.what {
                    Unmet::Deed(reply) => Some(reply.json(policy_file)),
                    Unmet::LetIn | Unmet::NotIn(_) => None,
                },
            })
        };
        json!({
            "file": self.file.display().to_string(),
            "devices": self.devices,
            "expectations": self.expectations,
            "failed": self.failed.iter().map(failed).collect::<Vec<_>>(),
        })
    }

    fn exit(&self) -> Exit {
        match (self.failed.len(), self.unknown()) {
            (0, _) => Exit::Yes,
            (all, unknown) if all == unknown => Exit::Unknown,
            _ => Exit::No,
        }
    }
}

impl Tested {
    /// Returns of how many expectations nobody knows whether they are met.
    fn unknown(&self) -> usize {
        let unknown = self.failed.iter().filter(|one| one.what.is_unknown());
        unknown.count()
    }
}
