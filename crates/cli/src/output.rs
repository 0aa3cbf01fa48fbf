//! How the result of a command is shown: as text for people, with colours on a terminal, or as JSON (`--json`).

use std::io::{self, Write};

use serde_json::{Value, json};

use anstyle::{AnsiColor, Style};

use crate::{doctor::finding::Severity, exit::Exit};

/// The result of a command.
pub(crate) trait Outcome {
    /// Writes it for people. Colours are left out where the output is no terminal.
    ///
    /// # Errors
    ///
    /// Returns the error of the output.
    fn write(&self, out: &mut dyn Write) -> io::Result<()>;

    /// Returns it for programs.
    fn json(&self) -> Value;

    /// Returns the exit code that belongs to it.
    fn exit(&self) -> Exit;
}

/// Why a command has no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// What could not be done, and why.
    pub(crate) what: String,
    /// How to fix it.
    pub(crate) fix: Option<String>,
}

impl Failure {
    /// Returns a failure without a known fix.
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            fix: None,
        }
    }

    /// Adds how to fix it.
    pub(crate) fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }
}

/// Says something before a command has its result, to people only.
pub(crate) fn announce(text: &str) {
    // Nobody needs it if the error output is closed.
    let _ = writeln!(anstream::stderr().lock(), "{text}");
}

/// Returns the label of a finding, between the beginning and the end of its colour.
pub(crate) fn label(severity: Severity) -> (Style, &'static str, anstyle::Reset) {
    let (color, label) = match severity {
        Severity::Right => (AnsiColor::Green, "right"),
        Severity::Note => (AnsiColor::Cyan, "note"),
        Severity::Warning => (AnsiColor::Yellow, "WARNING"),
        Severity::Unreached => (AnsiColor::Red, "NO ANSWER"),
        Severity::Wrong => (AnsiColor::Red, "WRONG"),
    };
    (color.on_default().bold(), label, anstyle::Reset)
}

/// Shows what came of a command, and returns its exit code.
pub(crate) fn show(result: Result<Box<dyn Outcome>, Failure>, as_json: bool) -> Exit {
    let mut out = anstream::stdout().lock();
    let shown = match (&result, as_json) {
        (Ok(outcome), false) => outcome.write(&mut out),
        (Ok(outcome), true) => writeln!(out, "{:#}", outcome.json()),
        (Err(failure), true) => {
            let Failure { what, fix } = failure;
            writeln!(out, "{:#}", json!({ "error": what, "fix": fix }))
        }
        (Err(failure), false) => {
            let mut out = anstream::stderr().lock();
            let written = writeln!(out, "mosquitto-auth0: {}", failure.what);
            match &failure.fix {
                Some(fix) => written.and_then(|()| writeln!(out, "fix: {fix}")),
                None => written,
            }
        }
    };
    match (result, shown) {
        // The reader has left, as `head` does. That is no mistake.
        (Ok(outcome), Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => outcome.exit(),
        (_, Err(_)) | (Err(_), _) => Exit::Unknown,
        (Ok(outcome), Ok(())) => outcome.exit(),
    }
}

/// Returns a time as people read it, in UTC.
pub(crate) fn time(seconds: i64) -> String {
    match jiff::Timestamp::from_second(seconds) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        Err(_) => seconds.to_string(),
    }
}
