//! `lint`: what is suspicious in a policy file that has no mistake.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use acl::{
    lint::{self, Lint},
    policy_file::PolicyFile,
};
use auth::config::mosquitto_conf::MosquittoConf;

use crate::{
    arguments::LintArguments,
    configuration,
    doctor::finding::Severity,
    exit::Exit,
    messages::{doctor::Words, lint as messages},
    output::{self, Failure, Outcome},
};

/// What was found.
struct Linted {
    /// The policy file, if there is one.
    file: Option<PathBuf>,
    found: Vec<Lint>,
}

/// What a configuration says about rules.
struct Around {
    binds_client_ids: bool,
    ports: Vec<u16>,
}

/// Looks at the policy file.
///
/// # Errors
///
/// Returns a failure if the configuration or the policy file cannot be used.
pub(crate) fn run(arguments: &LintArguments) -> Result<Box<dyn Outcome>, Failure> {
    let conf = &arguments.conf;
    let (file, around) = match &arguments.policy_file {
        // The file may be looked at before there is a broker.
        Some(file) if !conf.exists() => (Some(file.clone()), None),
        chosen => {
            let config = configuration::at_listener(conf, None)?.config;
            let listeners = MosquittoConf::read(conf).listeners;
            let around = Around {
                binds_client_ids: config.issuers.iter().all(|one| one.binds_client_ids()),
                ports: listeners.iter().map(|one| one.port).collect(),
            };
            let named = config.policy_file().map(Path::to_owned);
            (chosen.clone().or(named), Some(around))
        }
    };
    let found = match &file {
        None => Vec::new(),
        Some(path) => found(path, around.as_ref())?,
    };
    Ok(Box::new(Linted { file, found }))
}

fn found(path: &Path, around: Option<&Around>) -> Result<Vec<Lint>, Failure> {
    let shown = path.display();
    let text = fs::read_to_string(path).map_err(|why| Failure::new(format!("{shown}: {why}")))?;
    let rules = PolicyFile::compile(&text).map_err(|mistake| {
        Failure::new(format!("{shown}: {mistake}")).fix("mend it first; `check` shows all mistakes")
    })?;
    let mut found = lint::lint(&rules);
    found.retain(|one| match (one, around) {
        (Lint::LooksAtClientId(_), Some(around)) => !around.binds_client_ids,
        (Lint::LooksAtPort { ports, .. }, Some(around)) => {
            !around.ports.is_empty() && ports.iter().all(|port| !around.ports.contains(port))
        }
        (Lint::LooksAtClientId(_) | Lint::LooksAtPort { .. }, None) => false,
        _ => true,
    });
    Ok(found)
}

impl Outcome for Linted {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let Some(file) = &self.file else {
            return writeln!(
                out,
                "There is no policy file, so there are no rules to look at."
            );
        };
        for one in &self.found {
            let (_, severity) = messages::code(one);
            let Words { seen, means, mend } = messages::words(one);
            let (before, label, after) = output::label(severity);
            let line = one.rule().line;
            writeln!(
                out,
                "{before}{label:<9}{after} {}:{line}: {seen}",
                file.display()
            )?;
            for (label, text) in [("devices:", means), ("fix:", mend)] {
                if let Some(text) = text {
                    writeln!(out, "          {label} {text}")?;
                }
            }
        }
        match self.found.len() {
            0 => writeln!(out, "Nothing is suspicious in {}.", file.display()),
            many => writeln!(out, "Suspicious: {many}."),
        }
    }

    fn json(&self) -> Value {
        let found = |one: &Lint| {
            let (code, severity) = messages::code(one);
            let Words { seen, means, mend } = messages::words(one);
            let rule = one.rule();
            json!({
                "finding": code,
                "severity": severity.name(),
                "line": rule.line,
                "rule": rule.name,
                "seen": seen,
                "means": means,
                "fix": mend,
            })
        };
        json!({
            "file": self.file.as_ref().map(|file| file.display().to_string()),
            "findings": self.found.iter().map(found).collect::<Vec<_>>(),
        })
    }

    fn exit(&self) -> Exit {
        let mut severities = self.found.iter().map(|one| messages::code(one).1);
        match severities.any(|severity| severity > Severity::Note) {
            true => Exit::No,
            false => Exit::Yes,
        }
    }
}
