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
    /// The first mistake, if there is one.
    mistake: Option<ConfigError>,
}

impl Outcome for Checked {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        match &self.mistake {
            None => writeln!(out, "The configuration is right."),
            Some(mistake) => writeln!(out, "{mistake}"),
        }
    }

    fn json(&self) -> Value {
        let mistakes = self.mistake.iter().map(ToString::to_string);
        json!({ "mistakes": mistakes.collect::<Vec<_>>() })
    }

    fn exit(&self) -> Exit {
        match self.mistake {
            None => Exit::Yes,
            Some(_) => Exit::No,
        }
    }
}

/// Reads the configuration.
///
/// # Errors
///
/// Returns a failure if the file does not load the plugin.
pub(crate) fn run(at: &Configuration) -> Result<Box<dyn Outcome>, Failure> {
    let mistake = configuration::read(&at.conf)?.err();
    Ok(Box::new(Checked { mistake }))
}
