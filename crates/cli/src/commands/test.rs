//! `test`: whether a policy does what is expected of it.

use std::{
    collections::{HashMap, hash_map::Entry},
    fs,
    io::{self, Write},
    path::PathBuf,
};

use serde_json::{Value, json};

use auth::{clock, engine::Decision, refusal::Refusal};

use super::can::{self, Reply};
use crate::{
    arguments::TestArguments,
    configuration::{self, AtListener},
    device::{Instance, Tenant},
    exit::Exit,
    expectations::{self, Expectation},
    messages,
    output::{Failure, Outcome},
};

/// What came of the expectations.
struct Tested {
    file: PathBuf,
    devices: usize,
    deeds: usize,
    failed: Vec<Failed>,
}

/// An expectation that is not met.
struct Failed {
    device: String,
    line: usize,
    what: Unmet,
    policy_file: Option<PathBuf>,
}

/// What is not met.
enum Unmet {
    /// The device is not let in.
    Refused(Box<Refusal>),
    /// The device is let in.
    LetIn,
    /// It may do what it should not, or may not do what it should.
    Deed(Box<Reply>),
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
            mount_point,
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
        deeds: expectations.iter().map(|one| one.deeds.len()).sum(),
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
    let failed = |line, what| Failed {
        device: name.clone(),
        line,
        what,
        policy_file: policy_file.clone(),
    };
    let device = match (at.instance.sign_in(&device, now), let_in) {
        (Ok(device), true) => device,
        (Ok(_), false) => return vec![failed(line, Unmet::LetIn)],
        (Err(_), false) => return Vec::new(),
        (Err(refusal), true) => return vec![failed(line, Unmet::Refused(Box::new(refusal)))],
    };
    let mount_point = at.mount_point.clone();
    let replies = deeds.into_iter().map(|(question, may, line)| {
        let reply = can::ask(&mut at.instance, &device, question, &mount_point, now);
        (reply, may, line)
    });
    let wrong = replies.filter(|(reply, may, _)| (reply.decision == Decision::Allow) != *may);
    wrong
        .map(|(reply, _, line)| failed(line, Unmet::Deed(Box::new(reply))))
        .collect()
}

impl Outcome for Tested {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        for Failed {
            device,
            line,
            what,
            policy_file,
        } in &self.failed
        {
            let place = format!("{}:{line}", self.file.display());
            let device = input::text::Quoted(device);
            match what {
                Unmet::Refused(refusal) => {
                    writeln!(out, "{place}: {device} is not let in: {refusal}")?;
                }
                Unmet::LetIn => writeln!(out, "{place}: {device} is let in, and should not be")?,
                Unmet::Deed(reply) => {
                    let may = match reply.decision {
                        Decision::Allow => "may",
                        Decision::Deny | Decision::Defer => "may not",
                    };
                    let question = input::text::line(&reply.question.to_string());
                    writeln!(out, "{place}: {device} {may} {question}")?;
                    for line in messages::can::explanation(&reply.why, policy_file.as_deref()) {
                        writeln!(out, "       {line}")?;
                    }
                }
            }
        }
        let (deeds, devices, failed) = (self.deeds, self.devices, self.failed.len());
        match failed {
            0 => writeln!(
                out,
                "All {deeds} expectations of {devices} devices are met."
            ),
            failed => writeln!(
                out,
                "Not met: {failed}, of {deeds} expectations of {devices} devices."
            ),
        }
    }

    fn json(&self) -> Value {
        let failed = |one: &Failed| {
            let policy_file = one.policy_file.as_deref();
            json!({
                "device": one.device,
                "line": one.line,
                "refused": match &one.what {
                    Unmet::Refused(refusal) => Some(can::refused(refusal)),
                    Unmet::LetIn | Unmet::Deed(_) => None,
                },
                "answer": match &one.what {
                    Unmet::Deed(reply) => Some(reply.json(policy_file)),
                    Unmet::LetIn | Unmet::Refused(_) => None,
                },
            })
        };
        json!({
            "file": self.file.display().to_string(),
            "devices": self.devices,
            "expectations": self.deeds,
            "failed": self.failed.iter().map(failed).collect::<Vec<_>>(),
        })
    }

    fn exit(&self) -> Exit {
        match self.failed.is_empty() {
            true => Exit::Yes,
            false => Exit::No,
        }
    }
}
