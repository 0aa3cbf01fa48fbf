//! `check`: reads a configuration as the plugin reads it.

use std::io::{self, Write};

use serde_json::{Value, json};

use auth::config::ConfigError;

use crate::{
    arguments::Configuration,
    configuration,
    exit::Exit,
    output::{Failure, Outcome},
};

/// What is wrong with a configuration.
struct Checked {
    /// What the plugin says.
    mistakes: Vec<ConfigError>,
}

impl Outcome for Checked {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.mistakes.is_empty() {
            return writeln!(out, "The configuration is right.");
        }
        let mut mistakes = self.mistakes.iter();
        mistakes.try_for_each(|mistake| writeln!(out, "{mistake}"))
    }

    fn json(&self) -> Value {
        let mistakes = self.mistakes.iter().map(ToString::to_string);
        json!({ "mistakes": mistakes.collect::<Vec<_>>() })
    }

    fn exit(&self) -> Exit {
        match self.mistakes.is_empty() {
            true => Exit::Yes,
            false => Exit::No,
        }
    }
}

/// Reads the configuration.
///
/// # Errors
///
/// Returns a failure if the file does not load the plugin.
pub(crate) fn run(at: &Configuration) -> Result<Box<dyn Outcome>, Failure> {
    let mistakes = configuration::read(&at.conf)?.err().unwrap_or_default();
    Ok(Box::new(Checked { mistakes }))
}
