//! `token`: gets a token, or keeps one fresh in a file.

use std::io::{self, Write};

use serde_json::{Value, json};

use auth::clock;

use crate::{
    arguments::Token,
    exit::Exit,
    output::{Failure, Outcome},
    token::{
        Source, StoredTokens,
        watch::{self, Watched},
    },
};

/// A token.
struct Got(StoredTokens);

impl Outcome for Got {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}", self.0.access_token)
    }

    fn json(&self) -> Value {
        json!({
            "access_token": self.0.access_token,
            "expires_at": self.0.expires.0,
            "scope": self.0.scope,
        })
    }

    fn exit(&self) -> Exit {
        Exit::Yes
    }
}

/// Gets a token, or keeps one fresh.
///
/// # Errors
///
/// Returns a failure if there is none.
pub(crate) fn run(arguments: &Token) -> Result<Box<dyn Outcome>, Failure> {
    let source = Source::new(arguments)?;
    let Some(file) = &arguments.watch else {
        return Ok(Box::new(Got(source.tokens(clock::now())?)));
    };
    let watched = Watched {
        file,
        connection: arguments.connection.as_deref(),
        on_change: arguments.on_change.as_deref(),
    };
    match watch::run(&source, &watched)? {}
}
