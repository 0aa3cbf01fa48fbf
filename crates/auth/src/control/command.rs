//! Commands of administrators, as they are read from JSON:
//! `{"commands":[{"command":"kick","clientId":"d1","correlationData":"7"}]}`.
//!
//! A member that is misspelt is a mistake, because a filter that is not read would select everybody.

use serde_json::{Map, Value};

use super::{MAX_COMMANDS, MAX_PAGE};
use input::json::{self, JsonError};

/// The longest request, in bytes: a client ID may have 65,535, and twice as many where each has to be escaped.
pub(crate) const MAX_REQUEST: usize = 160 * 1024;

/// How many sessions a page has, if the command does not say.
const DEFAULT_COUNT: u64 = 100;

/// What an administrator wants to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AdminCommand {
    /// List sessions.
    ListSessions {
        /// Of which account.
        account: Option<AccountFilter>,
        /// Under which client IDs.
        client_ids: ClientIdFilter,
        /// How many at most.
        count: usize,
        /// The client ID after which the page begins.
        cursor: Option<String>,
    },
    /// Disconnect clients.
    Kick(KickTarget),
    /// Forget the logins and the tokens of an account.
    ForgetLogin(LoginOwner),
    /// Let another account have the client ID of a client that is away.
    ReleaseClientId(String),
    /// Fetch or read the tenant's keys again.
    RefreshKeys,
}

/// An account. A subject is unique within its issuer only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AccountFilter {
    /// The subject.
    pub subject: String,
    /// The issuer; `None` for each.
    pub issuer: Option<String>,
}

/// Which client IDs are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ClientIdFilter {
    /// All.
    Any,
    /// This one.
    Exactly(String),
    /// Those that begin with this.
    Prefix(String),
}

impl ClientIdFilter {
    /// Returns a text that comes before every client ID that is meant.
    pub(crate) fn first(&self) -> &str {
        match self {
            Self::Any => "",
            Self::Exactly(text) | Self::Prefix(text) => text,
        }
    }

    /// Whether this client ID is meant.
    pub(crate) fn has(&self, client_id: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exactly(one) => client_id == one,
            Self::Prefix(prefix) => client_id.starts_with(prefix.as_str()),
        }
    }
}

/// Who is disconnected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KickTarget {
    /// The client with this client ID.
    ClientId(String),
    /// All clients of an account.
    Account(AccountFilter),
}

/// Whose logins are forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LoginOwner {
    /// The user with this name.
    Username(String),
    /// An account.
    Account(AccountFilter),
}

/// Why a command, or a whole request, is not executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CommandError {
    /// The request is longer than [`MAX_REQUEST`].
    TooLong(usize),
    /// The request is not JSON, or not an object.
    NotJson(JsonError),
    /// The request has no list of commands.
    NoCommands,
    /// The request has more than [`MAX_COMMANDS`] commands.
    TooMany(usize),
    /// An element of the list is not an object.
    NotAnObject,
    /// There is no such command.
    Unknown(String),
    /// A member is missing.
    Missing(&'static str),
    /// A member has a value of another kind.
    WrongValue {
        /// The member.
        member: &'static str,
        /// What it takes.
        wanted: &'static str,
    },
    /// There is no such member.
    UnknownMember {
        /// The member.
        name: String,
        /// Those that there are.
        known: &'static [&'static str],
    },
    /// Two members exclude each other.
    Both(&'static str, &'static str),
    /// A member means nothing without another.
    Alone {
        /// The member.
        member: &'static str,
        /// The other.
        without: &'static str,
    },
    /// No client is connected with this client ID.
    NotConnected(String),
    /// No session has this client ID.
    NoSession(String),
    /// The client is connected, and keeps its client ID until it goes.
    StillConnected(String),
    /// The broker does not tick, so nobody can be disconnected.
    NoTicks,
    /// Too many requests wait.
    Busy,
    /// The broker has not answered within so many seconds.
    NoAnswer(u64),
    /// The keys cannot be read from their file. The sentence says why.
    Keys(String),
    /// The file of keys is still being read.
    KeysSlow,
}

/// A command of a request, or why it cannot be executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ParsedCommand {
    /// Its name as written.
    pub name: String,
    /// What the answer repeats, so that its reader knows to what it belongs.
    pub correlation: Option<String>,
    /// The command.
    pub command: Result<AdminCommand, CommandError>,
}

/// Reads a request.
///
/// # Errors
///
/// Returns why no command of it can be read.
pub(crate) fn parse(request: &[u8]) -> Result<Vec<ParsedCommand>, CommandError> {
    if request.len() > MAX_REQUEST {
        return Err(CommandError::TooLong(request.len()));
    }
    let mut members = json::object(request).map_err(CommandError::NotJson)?;
    let commands = match members.remove("commands") {
        Some(Value::Array(commands)) if !commands.is_empty() => commands,
        _ => return Err(CommandError::NoCommands),
    };
    if commands.len() > MAX_COMMANDS {
        return Err(CommandError::TooMany(commands.len()));
    }
    let mut members = Members(members);
    members.nothing_else(&["commands"])?;
    Ok(commands.into_iter().map(parsed).collect())
}

fn parsed(command: Value) -> ParsedCommand {
    let failed = |name, correlation, why| ParsedCommand {
        name,
        correlation,
        command: Err(why),
    };
    let Value::Object(members) = command else {
        return failed(String::new(), None, CommandError::NotAnObject);
    };
    let mut members = Members(members);
    let correlation = members.text("correlationData");
    let name = members.text("command").and_then(needed("command"));
    match (name, correlation) {
        (Ok(name), Ok(correlation)) => ParsedCommand {
            command: members.command(&name),
            name,
            correlation,
        },
        (Ok(name), Err(why)) => failed(name, None, why),
        (Err(why), correlation) => failed(String::new(), correlation.ok().flatten(), why),
    }
}

fn needed<T>(member: &'static str) -> impl Fn(Option<T>) -> Result<T, CommandError> {
    move |value| value.ok_or(CommandError::Missing(member))
}

/// The members of a command that were not read yet.
struct Members(Map<String, Value>);

impl Members {
    fn command(&mut self, name: &str) -> Result<AdminCommand, CommandError> {
        match name {
            "listSessions" => self.list_sessions(),
            "kick" => {
                let (client_id, account) = (self.text("clientId")?, self.account()?);
                self.nothing_else(&["clientId", "subject", "issuer"])?;
                match (client_id, account) {
                    (Some(_), Some(_)) => Err(CommandError::Both("clientId", "subject")),
                    (Some(client_id), None) => {
                        Ok(AdminCommand::Kick(KickTarget::ClientId(client_id)))
                    }
                    (None, Some(account)) => Ok(AdminCommand::Kick(KickTarget::Account(account))),
                    (None, None) => Err(CommandError::Missing("clientId")),
                }
            }
            "forgetLogin" => {
                let (username, account) = (self.text("username")?, self.account()?);
                self.nothing_else(&["username", "subject", "issuer"])?;
                match (username, account) {
                    (Some(_), Some(_)) => Err(CommandError::Both("username", "subject")),
                    (Some(name), None) => Ok(AdminCommand::ForgetLogin(LoginOwner::Username(name))),
                    (None, Some(account)) => {
                        Ok(AdminCommand::ForgetLogin(LoginOwner::Account(account)))
                    }
                    (None, None) => Err(CommandError::Missing("username")),
                }
            }
            "releaseClientId" => {
                let client_id = self.text("clientId").and_then(needed("clientId"))?;
                self.nothing_else(&["clientId"])?;
                Ok(AdminCommand::ReleaseClientId(client_id))
            }
            "refreshKeys" => {
                self.nothing_else(&[])?;
                Ok(AdminCommand::RefreshKeys)
            }
            other => Err(CommandError::Unknown(other.to_owned())),
        }
    }

    fn list_sessions(&mut self) -> Result<AdminCommand, CommandError> {
        let account = self.account()?;
        let client_ids = match (self.text("clientId")?, self.text("clientIdPrefix")?) {
            (Some(_), Some(_)) => return Err(CommandError::Both("clientId", "clientIdPrefix")),
            (Some(one), None) => ClientIdFilter::Exactly(one),
            (None, Some(prefix)) => ClientIdFilter::Prefix(prefix),
            (None, None) => ClientIdFilter::Any,
        };
        let (count, cursor) = (self.count()?, self.text("cursor")?);
        self.nothing_else(&[
            "subject",
            "issuer",
            "clientId",
            "clientIdPrefix",
            "count",
            "cursor",
        ])?;
        Ok(AdminCommand::ListSessions {
            account,
            client_ids,
            count,
            cursor,
        })
    }

    fn account(&mut self) -> Result<Option<AccountFilter>, CommandError> {
        let (subject, issuer) = (self.text("subject")?, self.text("issuer")?);
        match (subject, issuer) {
            (Some(subject), issuer) => Ok(Some(AccountFilter { subject, issuer })),
            (None, None) => Ok(None),
            (None, Some(_)) => Err(CommandError::Alone {
                member: "issuer",
                without: "subject",
            }),
        }
    }

    fn text(&mut self, member: &'static str) -> Result<Option<String>, CommandError> {
        match self.0.remove(member) {
            None => Ok(None),
            Some(Value::String(text)) if !text.is_empty() => Ok(Some(text)),
            Some(_) => Err(CommandError::WrongValue {
                member,
                wanted: "a text that is not empty",
            }),
        }
    }

    fn count(&mut self) -> Result<usize, CommandError> {
        let count = match self.0.remove("count") {
            None => Some(DEFAULT_COUNT),
            Some(value) => value
                .as_u64()
                .filter(|count| (1..=MAX_PAGE).contains(count)),
        };
        count
            .map(|count| count as usize)
            .ok_or(CommandError::WrongValue {
                member: "count",
                wanted: "a whole number from 1 to 1000",
            })
    }

    fn nothing_else(&mut self, known: &'static [&'static str]) -> Result<(), CommandError> {
        match std::mem::take(&mut self.0).into_iter().next() {
            None => Ok(()),
            Some((name, _)) => Err(CommandError::UnknownMember { name, known }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(command: &str) -> Result<AdminCommand, CommandError> {
        let request = format!(r#"{{"commands":[{command}]}}"#);
        let mut commands = parse(request.as_bytes()).unwrap();
        assert_eq!(commands.len(), 1);
        commands.remove(0).command
    }

    #[test]
    fn every_command_is_read() {
        let account = |issuer: Option<&str>| AccountFilter {
            subject: "auth0|7".into(),
            issuer: issuer.map(str::to_owned),
        };
        let list = |account, client_ids, count, cursor: Option<&str>| AdminCommand::ListSessions {
            account,
            client_ids,
            count,
            cursor: cursor.map(str::to_owned),
        };
        for (text, command) in [
            (
                r#"{"command":"listSessions"}"#,
                list(None, ClientIdFilter::Any, 100, None),
            ),
            (
                r#"{"command":"listSessions","subject":"auth0|7","clientIdPrefix":"d","count":7,"cursor":"d3"}"#,
                list(
                    Some(account(None)),
                    ClientIdFilter::Prefix("d".into()),
                    7,
                    Some("d3"),
                ),
            ),
            (
                r#"{"command":"listSessions","clientId":"d"}"#,
                list(None, ClientIdFilter::Exactly("d".into()), 100, None),
            ),
            (
                r#"{"command":"kick","clientId":"d"}"#,
                AdminCommand::Kick(KickTarget::ClientId("d".into())),
            ),
            (
                r#"{"command":"kick","subject":"auth0|7","issuer":"https://t/"}"#,
                AdminCommand::Kick(KickTarget::Account(account(Some("https://t/")))),
            ),
            (
                r#"{"command":"forgetLogin","username":"u"}"#,
                AdminCommand::ForgetLogin(LoginOwner::Username("u".into())),
            ),
            (
                r#"{"command":"forgetLogin","subject":"auth0|7"}"#,
                AdminCommand::ForgetLogin(LoginOwner::Account(account(None))),
            ),
            (
                r#"{"command":"releaseClientId","clientId":"d"}"#,
                AdminCommand::ReleaseClientId("d".into()),
            ),
            (r#"{"command":"refreshKeys"}"#, AdminCommand::RefreshKeys),
        ] {
            assert_eq!(one(text), Ok(command), "{text}");
        }
    }

    #[test]
    fn a_mistake_is_named() {
        use CommandError as E;
        let text = "a text that is not empty";
        let wrong = |member| E::WrongValue {
            member,
            wanted: text,
        };
        for (command, why) in [
            (r"7", E::NotAnObject),
            (r"{}", E::Missing("command")),
            (r#"{"command":7}"#, wrong("command")),
            (r#"{"command":"Kick"}"#, E::Unknown("Kick".into())),
            (r#"{"command":"kick"}"#, E::Missing("clientId")),
            (r#"{"command":"kick","clientId":""}"#, wrong("clientId")),
            (r#"{"command":"kick","clientId":null}"#, wrong("clientId")),
            (
                r#"{"command":"kick","clientId":"a","subject":"b"}"#,
                E::Both("clientId", "subject"),
            ),
            (
                r#"{"command":"kick","issuer":"b"}"#,
                E::Alone {
                    member: "issuer",
                    without: "subject",
                },
            ),
            (
                r#"{"command":"listSessions","subjekt":"b"}"#,
                E::UnknownMember {
                    name: "subjekt".into(),
                    known: &[
                        "subject",
                        "issuer",
                        "clientId",
                        "clientIdPrefix",
                        "count",
                        "cursor",
                    ],
                },
            ),
            (
                r#"{"command":"refreshKeys","now":true}"#,
                E::UnknownMember {
                    name: "now".into(),
                    known: &[],
                },
            ),
            (r#"{"command":"forgetLogin"}"#, E::Missing("username")),
            (
                r#"{"command":"refreshKeys","correlationData":7}"#,
                wrong("correlationData"),
            ),
        ] {
            assert_eq!(one(command), Err(why), "{command}");
        }
        for count in ["0", "1001", "-1", "1.5", "\"7\"", "null", "1e2"] {
            let command = format!(r#"{{"command":"listSessions","count":{count}}}"#);
            assert!(matches!(
                one(&command),
                Err(E::WrongValue {
                    member: "count",
                    ..
                })
            ));
        }
    }

    #[test]
    fn a_request_is_limited_and_has_commands() {
        use CommandError as E;
        for request in ["{}", r#"{"commands":[]}"#, r#"{"commands":{}}"#] {
            assert_eq!(parse(request.as_bytes()), Err(E::NoCommands), "{request}");
        }
        for request in ["", "[]", "x", r#"{"commands":[{}],"commands":[{}]}"#] {
            assert!(matches!(parse(request.as_bytes()), Err(E::NotJson(_))));
        }
        assert!(matches!(
            parse(b"\xff"),
            Err(E::NotJson(JsonError::NotUtf8))
        ));
        let many = |number| {
            let commands = vec![r#"{"command":"refreshKeys"}"#; number].join(",");
            parse(format!(r#"{{"commands":[{commands}]}}"#).as_bytes())
        };
        assert_eq!(many(MAX_COMMANDS).unwrap().len(), MAX_COMMANDS);
        assert_eq!(many(MAX_COMMANDS + 1), Err(E::TooMany(MAX_COMMANDS + 1)));
        let long = vec![b' '; MAX_REQUEST + 1];
        assert_eq!(parse(&long), Err(E::TooLong(MAX_REQUEST + 1)));
        assert!(matches!(
            parse(br#"{"commands":[{"command":"refreshKeys"}],"x":1}"#),
            Err(E::UnknownMember { .. })
        ));
    }

    #[test]
    fn correlation_data_is_kept_also_with_a_mistake() {
        let request = r#"{"commands":[
            {"command":"refreshKeys","correlationData":"a"},
            {"command":"nonsense","correlationData":"b"},
            {"correlationData":"c"}
        ]}"#;
        let commands = parse(request.as_bytes()).unwrap();
        let data: Vec<_> = commands
            .iter()
            .map(|one| one.correlation.as_deref())
            .collect();
        assert_eq!(data, [Some("a"), Some("b"), Some("c")]);
        assert_eq!(commands[1].name, "nonsense");
    }
}
