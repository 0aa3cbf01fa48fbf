//! `check`: reads a configuration as the broker and the plugin read it, and says all that is wrong.

use std::io::{self, Write};

use serde_json::{Value, json};

use crate::{
    arguments::Configuration,
    check::{self, flaw::Found},
    doctor::finding::Severity,
    exit::Exit,
    messages::{check as messages, doctor::Words},
    output::{self, Failure, Outcome},
};

/// What is wrong with a configuration.
struct Checked {
    found: Vec<Found>,
}

impl Outcome for Checked {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        for one in &self.found {
            let Words { seen, means, fix } = messages::words(&one.flaw);
            let (before, label, after) = output::label(one.severity());
            let place = one
                .place
                .as_ref()
                .map(|place| format!("{}: ", messages::place(place)));
            let place = place.unwrap_or_default();
            writeln!(out, "{before}{label:<9}{after} {place}{seen}")?;
            for (label, text) in [("devices:", means), ("fix:", fix)] {
                if let Some(text) = text {
                    writeln!(out, "          {label} {text}")?;
                }
            }
        }
        let count = |severity| {
            self.found
                .iter()
                .filter(|one| one.severity() == severity)
                .count()
        };
        match (count(Severity::Wrong), count(Severity::Warning)) {
            (0, 0) => writeln!(out, "The configuration is right."),
            (0, warnings) => writeln!(out, "The configuration can be used; warnings: {warnings}."),
            (wrong, _) => writeln!(
                out,
                "The configuration cannot be used as it is; mistakes: {wrong}."
            ),
        }
    }

    fn json(&self) -> Value {
        let found = |one: &Found| {
            let (code, severity) = one.flaw.code();
            let Words { seen, means, fix } = messages::words(&one.flaw);
            json!({
                "finding": code,
                "severity": severity.name(),
                "file": one.place.as_ref().map(|place| place.file.display().to_string()),
                "line": one.place.as_ref().map(|place| place.line),
                "seen": seen,
                "means": means,
                "fix": fix,
            })
        };
        json!({ "findings": self.found.iter().map(found).collect::<Vec<_>>() })
    }

    fn exit(&self) -> Exit {
        match self
            .found
            .iter()
            .any(|one| one.severity() == Severity::Wrong)
        {
            true => Exit::No,
            false => Exit::Yes,
        }
    }
}

/// Reads the configuration.
///
/// # Errors
///
/// Returns a failure if there is no such file.
pub(crate) fn run(at: &Configuration) -> Result<Box<dyn Outcome>, Failure> {
    let path = &at.conf;
    if let Err(why) = std::fs::metadata(path) {
        return Err(Failure::new(format!("{}: {why}", path.display())).fix(
            "name the broker's configuration, as in `mosquitto-auth0 check \
                 /etc/mosquitto/mosquitto.conf`",
        ));
    }
    let found = check::examine(path);
    Ok(Box::new(Checked { found }))
}
