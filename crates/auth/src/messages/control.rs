//! Answers on the plugin's own topics in JSON, and the lines of the log about what administrators did.
//!
//! Answers to commands have the form that Mosquitto's dynamic-security plugin gave them.

use std::fmt;

use serde_json::{Value, json};

use crate::{
    control::{
        MAX_COMMANDS,
        command::{
            AccountFilter, AdminCommand, ClientIdFilter, CommandError, KickTarget, LoginOwner,
            MAX_REQUEST, ParsedCommand,
        },
        requests::Administrator,
        response::{CommandData, CommandResponse, ListedSession, Responses},
        socket::SocketReport,
    },
    engine::{AdminAnswer, RenewalAnswer},
};
use input::text::Quoted;

impl fmt::Display for AdminAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.content)
    }
}

impl fmt::Display for SocketReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(path) => write!(
                f,
                "administrators on this machine can command at {}",
                path.display()
            ),
            Self::OfAnother(path) => write!(
                f,
                "another broker answers at {}, so administrators on this machine cannot command this one; fix: give \
                 each broker a state_dir of its own",
                path.display()
            ),
            Self::Failed(path, why) => write!(
                f,
                "administrators on this machine cannot command: {} cannot be created: {why}; fix: check that the disk \
                 has room, and that the path of state_dir has fewer than 80 bytes, and restart the broker",
                path.display()
            ),
        }
    }
}

impl fmt::Display for Responses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let responses = match &self.0 {
            Ok(responses) => responses.iter().map(response).collect(),
            Err(why) => vec![json!({"error": why.to_string()})],
        };
        write!(f, "{}", json!({"responses": responses}))
    }
}

impl fmt::Display for RenewalAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (until, seconds) = self.end;
        let mut members = json!({"expires_at": until.0, "expires_in": seconds});
        match &self.result {
            Ok(()) => members["result"] = "renewed".into(),
            Err(refusal) => {
                members["result"] = "refused".into();
                members["reason"] = refusal.reason.code().into();
                members["error"] = format!("{}; fix: {}", refusal.detail, refusal.fix()).into();
            }
        }
        if let Some(correlation) = &self.correlation {
            members["correlationData"] = correlation.as_str().into();
        }
        write!(f, "{members}")
    }
}

fn response(response: &CommandResponse) -> Value {
    let mut members = json!({"command": response.name});
    match &response.result {
        Ok(done) => members["data"] = data(done),
        Err(why) => members["error"] = why.to_string().into(),
    }
    if let Some(correlation) = &response.correlation {
        members["correlationData"] = correlation.as_str().into();
    }
    members
}

fn data(data: &CommandData) -> Value {
    match data {
        CommandData::Sessions { sessions, cursor } => {
            let sessions: Vec<_> = sessions.iter().map(session).collect();
            let mut data = json!({"sessions": sessions});
            if let Some(cursor) = cursor {
                data["cursor"] = (**cursor).into();
            }
            data
        }
        CommandData::Kicked(clients) => json!({"clients": clients}),
        CommandData::Forgotten { logins, tokens } => json!({"logins": logins, "tokens": tokens}),
        CommandData::Released { is_known } => json!({"known": is_known}),
        CommandData::KeysRefreshed => json!({}),
    }
}

fn session(session: &ListedSession) -> Value {
    json!({
        "clientId": *session.client_id,
        "username": *session.username,
        "subject": *session.account.subject,
        "issuer": *session.account.issuer,
        "connected": session.connected,
        "restored": session.restored,
        "released": session.released,
        "until": session.until.0,
    })
}

impl fmt::Display for CommandError {
    // Longer than a screen, because it is one sentence for each kind of mistake.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(bytes) => write!(
                f,
                "the request has {bytes} bytes; fix: send at most {MAX_REQUEST} bytes at once"
            ),
            Self::NotJson(why) => write!(
                f,
                "the request cannot be read: {why}; fix: send {{\"commands\":[{{\"command\":\"listSessions\"}}]}}"
            ),
            Self::NoCommands => f.write_str(
                "member commands is missing or no list with commands; fix: send \
                 {\"commands\":[{\"command\":\"listSessions\"}]}",
            ),
            Self::TooMany(number) => write!(
                f,
                "the request has {number} commands; fix: send at most {MAX_COMMANDS} at once"
            ),
            Self::NotAnObject => f.write_str(
                "an element of commands is no object; fix: write it as {\"command\":\"listSessions\"}",
            ),
            Self::Unknown(name) => write!(
                f,
                "there is no command {}; fix: use listSessions, kick, forgetLogin, releaseClientId or refreshKeys",
                Quoted(name)
            ),
            Self::Missing(member) => {
                write!(f, "member {member} is missing; fix: {}", what_to_add(member))
            }
            Self::WrongValue { member, wanted } => {
                write!(f, "member {member} has a wrong value; fix: give it {wanted}")
            }
            Self::UnknownMember { name, known: [] } => write!(
                f,
                "member {} is unknown; fix: leave it out: the command takes none",
                Quoted(name)
            ),
            Self::UnknownMember { name, known } => write!(
                f,
                "member {} is unknown; fix: use {}",
                Quoted(name),
                known.join(", ")
            ),
            Self::Both(one, other) => write!(
                f,
                "members {one} and {other} are both there; fix: leave one of the two out"
            ),
            Self::Alone { member, without } => write!(
                f,
                "member {member} means nothing without {without}; fix: add {without}"
            ),
            Self::NotConnected(client_id) => write!(
                f,
                "no client is connected with the client ID {}; fix: list sessions to see who is connected",
                Quoted(client_id)
            ),
            Self::NoSession(client_id) => write!(
                f,
                "no client of this administrator's has the client ID {}; fix: check the client ID, or release it on the \
                 broker's machine",
                Quoted(client_id)
            ),
            Self::StillConnected(client_id) => write!(
                f,
                "the client with the client ID {} is connected and holds it; fix: take its token away or block its \
                 user, kick it, and release the client ID then",
                Quoted(client_id)
            ),
            Self::NoTicks => f.write_str(
                "Mosquitto 2.0.11 with per_listener_settings true gives a plugin no occasion to disconnect a client; \
                 fix: use a later Mosquitto",
            ),
            Self::Busy => f.write_str("too many requests wait; fix: wait for an answer before you send more"),
            Self::NoAnswer(seconds) => write!(
                f,
                "the broker has not answered within {seconds} s; fix: try again when it is less busy. Mosquitto 2.0.11 \
                 with per_listener_settings true gives a plugin no occasion to answer: use $CONTROL/auth0/v1 there"
            ),
            Self::Keys(why) => write!(f, "the keys read before stay in use: {why}"),
            Self::KeysSlow => f.write_str(
                "the file of keys is still being read, and counts when it is; fix: check the disk that jwks_file is on",
            ),
        }
    }
}

fn what_to_add(member: &str) -> &'static str {
    match member {
        "command" => "name the command, as in \"command\":\"listSessions\"",
        "username" => "name the user, as in \"username\":\"d1\", or the account by its subject",
        _ => "name the client, as in \"clientId\":\"d1\", or for kick the account by its subject",
    }
}

impl fmt::Display for Administrator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client {
                client_id,
                username,
                ..
            } => write!(
                f,
                "administrator {} (user {})",
                Quoted(client_id),
                Quoted(username)
            ),
            Self::Local(_) => f.write_str("an administrator on this machine"),
        }
    }
}

/// A line of the log about a command: who commanded what, and what came of it.
pub(super) struct CommandLine<'a> {
    pub from: &'a Administrator,
    pub command: &'a ParsedCommand,
    pub result: &'a Result<CommandData, CommandError>,
}

impl fmt::Display for CommandLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.from)?;
        match &self.command.command {
            Ok(command) => write!(f, "{command}")?,
            Err(_) => write!(f, "command {}", Quoted(&self.command.name))?,
        }
        match self.result {
            Ok(CommandData::Sessions { sessions, .. }) => write!(f, ": {} listed", sessions.len()),
            Ok(CommandData::Kicked(1)) => f.write_str(": 1 client is disconnected"),
            Ok(CommandData::Kicked(clients)) => write!(f, ": {clients} clients are disconnected"),
            Ok(CommandData::Forgotten { logins, tokens }) => {
                write!(f, ": {logins} logins and {tokens} tokens are forgotten")
            }
            Ok(CommandData::Released { .. }) => f.write_str(": any account may have it"),
            Ok(CommandData::KeysRefreshed) => Ok(()),
            Err(why) => write!(f, ": failed: {why}"),
        }
    }
}

impl fmt::Display for AdminCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ListSessions {
                account,
                client_ids,
                ..
            } => {
                f.write_str("list of sessions")?;
                match client_ids {
                    ClientIdFilter::Any => {}
                    ClientIdFilter::Exactly(one) => write!(f, " with client ID {}", Quoted(one))?,
                    ClientIdFilter::Prefix(prefix) => {
                        write!(f, " with client IDs that begin with {}", Quoted(prefix))?;
                    }
                }
                match account {
                    Some(account) => write!(f, " of {account}"),
                    None => Ok(()),
                }
            }
            Self::Kick(KickTarget::ClientId(one)) => write!(f, "kick of client {}", Quoted(one)),
            Self::Kick(KickTarget::Account(account)) => write!(f, "kick of {account}"),
            Self::ForgetLogin(LoginOwner::Username(name)) => {
                write!(f, "forgetting the logins of user {}", Quoted(name))
            }
            Self::ForgetLogin(LoginOwner::Account(account)) => {
                write!(f, "forgetting the logins of {account}")
            }
            Self::ReleaseClientId(one) => write!(f, "release of client ID {}", Quoted(one)),
            Self::RefreshKeys => f.write_str("the tenant's keys are fetched or read again"),
        }
    }
}

impl fmt::Display for AccountFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "subject {}", Quoted(&self.subject))?;
        match &self.issuer {
            Some(issuer) => write!(f, " of issuer {}", Quoted(issuer)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{account::Account, clock::Unix, control::command};

    #[test]
    fn answers_have_the_form_that_dynamic_security_gives_them() {
        let listed = ListedSession {
            client_id: "d\"1".into(),
            username: "u".into(),
            account: Account {
                issuer: "https://t/".into(),
                subject: "auth0|7".into(),
            },
            connected: true,
            restored: false,
            released: false,
            until: Unix(1700),
        };
        let of = |name: &str, correlation: Option<&str>, result| CommandResponse {
            name: name.into(),
            correlation: correlation.map(str::to_owned),
            result,
        };
        let sessions = CommandData::Sessions {
            sessions: vec![listed],
            cursor: Some("d\"1".into()),
        };
        let answer = Responses(Ok(vec![
            of("listSessions", Some("x"), Ok(sessions)),
            of("kick", None, Err(CommandError::Missing("clientId"))),
            of("kick", None, Ok(CommandData::Kicked(2))),
        ]));
        let answer: Value = serde_json::from_str(&answer.to_string()).unwrap();
        assert_eq!(
            answer,
            json!({"responses": [
                {
                    "command": "listSessions",
                    "correlationData": "x",
                    "data": {
                        "cursor": "d\"1",
                        "sessions": [{
                            "clientId": "d\"1", "username": "u", "issuer": "https://t/", "subject": "auth0|7",
                            "connected": true, "restored": false, "released": false, "until": 1700,
                        }],
                    },
                },
                {
                    "command": "kick",
                    "error": "member clientId is missing; fix: name the client, as in \"clientId\":\"d1\", or for \
                              kick the account by its subject",
                },
                {"command": "kick", "data": {"clients": 2}},
            ]})
        );
    }

    #[test]
    fn every_mistake_has_a_fix() {
        for request in [
            "x",
            "{}",
            r#"{"commands":[7]}"#,
            r#"{"commands":[{"command":"nonsense"}]}"#,
            r#"{"commands":[{"command":"kick"}]}"#,
            r#"{"commands":[{"command":"kick","clientid":"d"}]}"#,
            r#"{"commands":[{"command":"kick","issuer":"i"}]}"#,
            r#"{"commands":[{"command":"kick","clientId":"d","subject":"s"}]}"#,
            r#"{"commands":[{"command":"listSessions","count":0}]}"#,
            r#"{"commands":[{"command":"refreshKeys","x":0}]}"#,
        ] {
            let why = match command::parse(request.as_bytes()) {
                Err(why) => why,
                Ok(mut commands) => commands.remove(0).command.unwrap_err(),
            };
            assert!(why.to_string().contains("; fix: "), "{why}");
        }
    }
}
