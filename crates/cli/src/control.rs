//! Commands the broker on this machine, through the socket that the plugin has in `state_dir`.
//!
//! A request is one line of JSON, and so is its answer: `auth::control`.

use std::{
    io::{self, BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};

use auth::{
    config::WrittenOptions,
    control::{MAX_COMMANDS, SOCKET},
};

use crate::{
    arguments::{Account, Broker},
    configuration,
    exit::Exit,
    messages::administration::{self, Unanswered},
    output::{Failure, Outcome},
};

/// How long the broker may take to answer. The plugin itself gives up after ten seconds, and says so.
const PATIENCE: Duration = Duration::from_secs(15);

/// The data of an answer, or why the command was not executed.
pub(crate) type Answer = Result<Value, String>;

/// A connection to the socket.
pub(crate) struct ControlSocket {
    stream: BufReader<UnixStream>,
    path: PathBuf,
}

impl ControlSocket {
    /// Connects.
    ///
    /// # Errors
    ///
    /// Returns why there is no connection.
    pub(crate) fn open(broker: &Broker) -> Result<Self, Failure> {
        let path = match &broker.socket {
            Some(path) => path.clone(),
            None => state_dir(&broker.conf)?.join(SOCKET),
        };
        let connected = UnixStream::connect(&path).and_then(|stream| {
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            Ok(stream)
        });
        let stream = connected.map_err(|why| administration::no_connection(&path, &why))?;
        Ok(Self {
            stream: BufReader::new(stream),
            path,
        })
    }

    /// Sends commands, and returns what came of each.
    ///
    /// # Errors
    ///
    /// Returns a failure if the broker does not answer.
    pub(crate) fn ask(&mut self, commands: &[Value]) -> Result<Vec<Answer>, Failure> {
        let mut answers = Vec::with_capacity(commands.len());
        for commands in commands.chunks(MAX_COMMANDS) {
            let line = self
                .line(&json!({ "commands": commands }))
                .map_err(|why| administration::no_answer(&self.path, Unanswered::Failed(why)))?;
            let answer: Option<Value> = serde_json::from_str(&line).ok();
            let responses = answer
                .as_ref()
                .and_then(|value| value["responses"].as_array());
            let responses = responses.filter(|list| list.len() == commands.len());
            let responses = responses.ok_or_else(|| {
                administration::no_answer(&self.path, Unanswered::Unreadable(line.clone()))
            })?;
            answers.extend(responses.iter().map(|response| match &response["error"] {
                Value::String(why) => Err(why.clone()),
                _ => Ok(response["data"].clone()),
            }));
        }
        Ok(answers)
    }

    /// Sends one command, and returns what came of it.
    ///
    /// # Errors
    ///
    /// Returns a failure if the broker does not answer.
    pub(crate) fn ask_one(&mut self, command: Value) -> Result<Answer, Failure> {
        Ok(self.ask(&[command])?.swap_remove(0))
    }

    fn line(&mut self, request: &Value) -> io::Result<String> {
        self.stream
            .get_mut()
            .write_all(format!("{request}\n").as_bytes())?;
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        match line.ends_with('\n') {
            true => Ok(line),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// Returns the folder that an instance of the plugin in this mosquitto.conf keeps its state in. Instances share one
/// socket, so the first folder is as good as any other.
fn state_dir(conf: &Path) -> Result<PathBuf, Failure> {
    for instance in configuration::instances(conf)? {
        let options = WrittenOptions::read(&instance.options)
            .map_err(|error| administration::bad_options(conf, &error))?;
        if let Some(folder) = options.text("state_dir") {
            return Ok(folder.into());
        }
    }
    Err(administration::no_state_dir(conf))
}

/// Adds the account that is meant, if one is, to a command.
pub(crate) fn of_account(mut command: Value, account: Account) -> Value {
    let members = [("subject", account.subject), ("issuer", account.issuer)];
    for (name, value) in members {
        if let Some(value) = value {
            command[name] = value.into();
        }
    }
    command
}

/// What came of the same command for one or several clients or accounts.
pub(crate) struct Commanded {
    /// Each target, and what came of it.
    pub(crate) results: Vec<(Target, Answer)>,
    /// Returns the sentence about a target and the data of its answer.
    pub(crate) sentence: fn(&Target, &Value) -> String,
}

/// Whom or what a command is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A client ID.
    Client(String),
    /// A user name.
    User(String),
    /// A subject.
    Subject(String),
    /// The tenant's keys.
    Keys,
}

impl Target {
    fn member(&self) -> Option<(&'static str, &str)> {
        match self {
            Self::Client(id) => Some(("clientId", id)),
            Self::User(name) => Some(("username", name)),
            Self::Subject(subject) => Some(("subject", subject)),
            Self::Keys => None,
        }
    }
}

impl Commanded {
    /// Sends the command with this name for every target, or for the account if there is one.
    ///
    /// # Errors
    ///
    /// Returns a failure if the broker does not answer.
    pub(crate) fn run(
        broker: &Broker,
        name: &str,
        mut targets: Vec<Target>,
        account: Account,
        sentence: fn(&Target, &Value) -> String,
    ) -> Result<Box<dyn Outcome>, Failure> {
        let issuer = account.issuer;
        targets.extend(account.subject.map(Target::Subject));
        let command = |target: &Target| {
            let mut command = json!({ "command": name });
            if let Some((member, value)) = target.member() {
                command[member] = value.into();
            }
            if let (Target::Subject(_), Some(issuer)) = (target, &issuer) {
                command["issuer"] = issuer.as_str().into();
            }
            command
        };
        let commands: Vec<_> = targets.iter().map(command).collect();
        let answers = ControlSocket::open(broker)?.ask(&commands)?;
        Ok(Box::new(Self {
            results: targets.into_iter().zip(answers).collect(),
            sentence,
        }))
    }
}

impl Outcome for Commanded {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        for (target, answer) in &self.results {
            match answer {
                Ok(data) => writeln!(out, "{}", (self.sentence)(target, data))?,
                Err(why) => writeln!(out, "{}", administration::nothing_done(why))?,
            }
        }
        Ok(())
    }

    fn json(&self) -> Value {
        let result = |(target, answer): &(Target, Answer)| {
            let mut result = match answer {
                Ok(data) if data.is_object() => data.clone(),
                Ok(_) => json!({}),
                Err(why) => json!({ "error": why }),
            };
            if let Some((member, value)) = target.member() {
                result[member] = value.into();
            }
            result
        };
        json!({ "results": self.results.iter().map(result).collect::<Vec<_>>() })
    }

    fn exit(&self) -> Exit {
        match self.results.iter().all(|(_, answer)| answer.is_ok()) {
            true => Exit::Yes,
            false => Exit::No,
        }
    }
}
