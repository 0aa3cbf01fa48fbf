//! `test`: whether a policy does what is expected of it.

use std::{
    collections::{HashMap, hash_map::Entry},
    fs,
    io::{self, Write},
    path::PathBuf,
};

use serde_json::{Value, json};

use auth::{clock, engine::Decision};

use super::can::{self, Reply};
use crate::{
    arguments::TestArguments,
    configuration::{self, AtListener},
    device::{Instance, NotIn, Tenant},
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

/// An instance for a listener.
struct At {
    instance: Instance,
    mount_point: String,
    policy_file: Option<PathBuf>,
}

impl At {
    fn listener(arguments: &TestArguments, port: Option<u16>) -> Result<Self, Failure> {
        let AtListener {
            config,
            mount_point,
        } = configuration::at_listener(&arguments.conf, port)?;
        let tenant = match arguments.offline {
            true => Tenant::LeftAlone,
            false => Tenant::Asked,
        };
        Ok(Self {
            policy_file: config.policy_file().map(Into::into),
            instance: Instance::new(config, tenant)?,
            mount_point: mount_point?,
        })
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
    let mut instances = HashMap::new();
    for expectation in expectations {
        let port = expectation.device.port;
        let at = match instances.entry(port) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(At::listener(arguments, port)?),
        };
        tested.failed.extend(unmet(expectation, at));
    }
    Ok(Box::new(tested))
}

/// Returns what a device does not do as expected.
fn unmet(expectation: Expectation, at: &mut At) -> Vec<Failed> {
    let Expectation {
        name,
        line,
        device,
        at: time,
        let_in,
        deeds,
    } = expectation;
    let now = time.unwrap_or_else(clock::now);
    let policy_file = at.policy_file.clone();
    let failed = |line, expected, what| Failed {
        device: name.clone(),
        line,
        expected,
        what,
        policy_file: policy_file.clone(),
    };
    let device = match (at.instance.sign_in(&device, now), let_in) {
        (Ok(device), true) => device,
        (Ok(_), false) => return vec![failed(line, let_in, Unmet::LetIn)],
        (Err(not_in), false) if not_in.exit() == Exit::No => return Vec::new(),
        (Err(not_in), _) => return vec![failed(line, let_in, Unmet::NotIn(not_in))],
    };
    let mount_point = at.mount_point.clone();
    let replies = deeds.into_iter().map(|(question, may, line)| {
        let reply = can::ask(&mut at.instance, &device, question, &mount_point, now);
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
