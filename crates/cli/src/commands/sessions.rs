//! `sessions`: lists connected clients and kept sessions.

use std::io::{self, Write};

use serde_json::{Value, json};

use auth::control::MAX_PAGE;

use crate::{
    arguments::Sessions,
    control::{ControlSocket, of_account},
    exit::Exit,
    messages::administration,
    output::{Failure, Outcome, time},
    table,
};

/// Why the plugin lists no sessions.
struct Refused(String);

impl Outcome for Refused {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}", administration::nothing_done(&self.0))
    }

    fn json(&self) -> Value {
        json!({ "error": self.0 })
    }

    fn exit(&self) -> Exit {
        Exit::No
    }
}

/// The sessions, as the plugin lists them.
struct Listed(Vec<Value>);

impl Outcome for Listed {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.0.is_empty() {
            return writeln!(out, "There is no such session.");
        }
        let text =
            |session: &Value, member: &str| session[member].as_str().unwrap_or_default().to_owned();
        let issuer = |session: &Value| text(session, "issuer");
        let several_issuers = self
            .0
            .iter()
            .any(|session| issuer(session) != issuer(&self.0[0]));
        let row = |session: &Value| {
            let mut row = vec![
                text(session, "clientId"),
                text(session, "username"),
                text(session, "subject"),
                state(session).to_owned(),
                session["until"].as_i64().map(time).unwrap_or_default(),
            ];
            row.extend(several_issuers.then(|| issuer(session)));
            row
        };
        let rows: Vec<_> = self.0.iter().map(row).collect();
        let mut titles = vec!["CLIENT ID", "USER NAME", "SUBJECT", "STATE", "RIGHTS END"];
        titles.extend(several_issuers.then_some("ISSUER"));
        table::write(out, &titles, &rows)
    }

    fn json(&self) -> Value {
        json!({ "sessions": self.0 })
    }

    fn exit(&self) -> Exit {
        match self.0.is_empty() {
            false => Exit::Yes,
            true => Exit::No,
        }
    }
}

fn state(session: &Value) -> &'static str {
    match (
        session["connected"].as_bool(),
        session["released"].as_bool(),
    ) {
        (Some(true), _) => "connected",
        (_, Some(true)) => "away, released",
        _ => "away",
    }
}

/// Lists the sessions, page by page.
///
/// # Errors
///
/// Returns a failure if the broker does not answer.
pub(crate) fn run(wanted: Sessions) -> Result<Box<dyn Outcome>, Failure> {
    let mut socket = ControlSocket::open(&wanted.broker)?;
    let mut command = of_account(
        json!({ "command": "listSessions", "count": MAX_PAGE }),
        wanted.account,
    );
    for (member, value) in [
        ("clientId", wanted.client_id),
        ("clientIdPrefix", wanted.prefix),
    ] {
        if let Some(value) = value {
            command[member] = value.into();
        }
    }
    let mut sessions = Vec::new();
    loop {
        let mut page = match socket.ask_one(command.clone())? {
            Ok(page) => page,
            Err(why) => return Ok(Box::new(Refused(why))),
        };
        if let Value::Array(listed) = page["sessions"].take() {
            sessions.extend(listed);
        }
        match page["cursor"].take() {
            Value::String(cursor) => command["cursor"] = cursor.into(),
            _ => return Ok(Box::new(Listed(sessions))),
        }
    }
}
