//! `lint`: what is suspicious in policy files that have no mistake.

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
    /// The policy files, each with what was found in it.
    files: Vec<(PathBuf, Vec<Lint>)>,
}

/// What a configuration says about the rules of a policy file.
struct Around {
    binds_client_ids: bool,
    ports: Vec<u16>,
}

/// Looks at the policy files: that of all issuers, and those of issuers that have their own.
///
/// # Errors
///
/// Returns a failure if the configuration or a policy file cannot be used.
pub(crate) fn run(arguments: &LintArguments) -> Result<Box<dyn Outcome>, Failure> {
    let conf = &arguments.conf;
    let chosen = arguments.policy_file.as_deref();
    // A file may be looked at before there is a broker.
    if let Some(file) = chosen.filter(|_| !conf.exists()) {
        let files = vec![(file.to_owned(), found(file, None)?)];
        return Ok(Box::new(Linted { files }));
    }
    let config = configuration::at_listener(conf, arguments.port)?.config;
    let listeners = MosquittoConf::read(conf).listeners;
    let ports: Vec<_> = listeners.iter().map(|one| one.port).collect();
    let mut of_issuers: Vec<(&Path, bool)> = Vec::new();
    for issuer in &config.issuers {
        let Some(file) = chosen.or_else(|| config.policy_file_of(issuer)) else {
            continue;
        };
        let binds = issuer.binds_client_ids();
        match of_issuers.iter_mut().find(|(known, _)| *known == file) {
            Some((_, all_bind)) => *all_bind &= binds,
            None => of_issuers.push((file, binds)),
        }
    }
    let files = of_issuers.into_iter().map(|(file, binds_client_ids)| {
        let around = Around {
            binds_client_ids,
            ports: ports.clone(),
        };
        Ok((file.to_owned(), found(file, Some(&around))?))
    });
    Ok(Box::new(Linted {
        files: files.collect::<Result<_, Failure>>()?,
    }))
}

fn found(path: &Path, around: Option<&Around>) -> Result<Vec<Lint>, Failure> {
    let shown = path.display();
    let text = fs::read_to_string(path).map_err(|why| Failure::new(format!("{shown}: {why}")))?;
    let rules = PolicyFile::compile(&text).map_err(|mistake| {
        Failure::new(format!("{shown}: {mistake}")).fix("fix it first; `check` shows all mistakes")
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
        if self.files.is_empty() {
            return writeln!(
                out,
                "There is no policy file, so there are no rules to look at."
            );
        }
        for (file, one) in self.all() {
            let (_, severity) = messages::code(one);
            let Words { seen, means, fix } = messages::words(one);
            let (before, label, after) = output::label(severity);
            let line = one.rule().line;
            writeln!(
                out,
                "{before}{label:<9}{after} {}:{line}: {seen}",
                file.display()
            )?;
            for (label, text) in [("devices:", means), ("fix:", fix)] {
                if let Some(text) = text {
                    writeln!(out, "          {label} {text}")?;
                }
            }
        }
        match self.all().count() {
            0 => {
                let files = self
                    .files
                    .iter()
                    .map(|(file, _)| file.display().to_string());
                let files: Vec<_> = files.collect();
                writeln!(out, "Nothing is suspicious in {}.", files.join(" and "))
            }
            many => writeln!(out, "Suspicious: {many}."),
        }
    }

    fn json(&self) -> Value {
        let found = |(file, one): (&Path, &Lint)| {
            let (code, severity) = messages::code(one);
            let Words { seen, means, fix } = messages::words(one);
            let rule = one.rule();
            json!({
                "finding": code,
                "severity": severity.name(),
                "file": file.display().to_string(),
                "line": rule.line,
                "rule": rule.name,
                "seen": seen,
                "means": means,
                "fix": fix,
            })
        };
        json!({
            "files": self.files.iter().map(|(file, _)| file.display().to_string()).collect::<Vec<_>>(),
            "findings": self.all().map(found).collect::<Vec<_>>(),
        })
    }

    fn exit(&self) -> Exit {
        let mut severities = self.all().map(|(_, one)| messages::code(one).1);
        match severities.any(|severity| severity > Severity::Note) {
            true => Exit::No,
            false => Exit::Yes,
        }
    }
}

impl Linted {
    /// Returns all that was found, each with its file.
    fn all(&self) -> impl Iterator<Item = (&Path, &Lint)> {
        let files = self.files.iter();
        files.flat_map(|(file, found)| found.iter().map(|one| (file.as_path(), one)))
    }
}
