//! What `replay` says.

use std::{
    fmt,
    io::{self, Write},
};

use auth::decision_log::record::{DecisionPath, RecordedRule};
use input::text::Quoted;

use crate::commands::replay::{Change, Replayed, Times};

/// A rule, for people.
struct Rule<'a>(&'a RecordedRule);

impl fmt::Display for Rule<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RecordedRule { file, line, name } = self.0;
        match (file, name) {
            (Some(_), Some(name)) => write!(f, "rule {}", Quoted(name))?,
            (None, Some(filter)) => write!(f, "the token's rule for {}", Quoted(filter))?,
            (_, None) => f.write_str("a rule of the token")?,
        }
        match (file, line) {
            (Some(file), Some(line)) => write!(f, " ({file}:{line})"),
            (Some(file), None) => write!(f, " ({file})"),
            (None, _) => Ok(()),
        }
    }
}

/// Writes what would be different, one line for each device and rule, and what is uncertain.
pub(crate) fn write(replayed: &Replayed, out: &mut dyn Write) -> io::Result<()> {
    let different: u64 = replayed.changes.values().map(|times| times.times).sum();
    writeln!(
        out,
        "{} decisions about {} devices were made again by {}: {} would be different.",
        replayed.compared,
        replayed.devices.len(),
        replayed.policy.display(),
        match different {
            0 => "none".to_owned(),
            many => many.to_string(),
        }
    )?;
    for (change, times) in &replayed.changes {
        write_change(change, times, out)?;
    }
    write_doubts(replayed, out)
}

fn write_change(change: &Change, times: &Times, out: &mut dyn Write) -> io::Result<()> {
    let word = if change.allowed { "allow" } else { "deny " };
    let action = change.path.action();
    write!(
        out,
        "{word}  {action}, {} times, {}",
        times.times,
        Quoted(&change.client_id)
    )?;
    if let Some(username) = &change.username {
        write!(out, " (user {})", Quoted(username))?;
    }
    if !matches!(change.path, DecisionPath::Connect | DecisionPath::Renew) {
        write!(out, ", such as {}", Quoted(&times.example))?;
    }
    match (&change.rule, change.allowed) {
        (Some(rule), true) => write!(out, ": {} allows it", Rule(rule))?,
        (Some(rule), false) => write!(out, ": {} decides", Rule(rule))?,
        (None, _) => write!(out, ": no rule covers it")?,
    }
    match &change.before {
        Some(rule) => writeln!(out, "; so far {} decides", Rule(rule)),
        None => writeln!(out),
    }
}

/// Writes what the log does not tell.
fn write_doubts(replayed: &Replayed, out: &mut dyn Write) -> io::Result<()> {
    if !replayed.has_allowed {
        writeln!(
            out,
            "note: the log has no message that was allowed, so it does not tell what would be denied; fix: write it with \
             decision_log_messages all for a while, or set shadow_policy"
        )?;
    }
    if !replayed.claims_not_logged.is_empty() {
        let names = replayed.claims_not_logged.iter();
        let names: Vec<_> = names.map(|name| Quoted(name).to_string()).collect();
        writeln!(
            out,
            "note: the log leaves out claims that this policy file asks for, and they counted as missing: {}; fix: set \
             shadow_policy to this file for a while, which has them logged",
            names.join(", ")
        )?;
    }
    if replayed.unknown > 0 {
        writeln!(
            out,
            "note: of {} decisions the log does not tell the claims: the devices had not signed in, or the file with \
             the first line about their session is missing",
            replayed.unknown
        )?;
    }
    if replayed.unreadable > 0 {
        writeln!(out, "note: {} lines are no decisions", replayed.unreadable)?;
    }
    Ok(())
}
