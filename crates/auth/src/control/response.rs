//! What comes of commands.

use std::sync::Arc;

use super::command::CommandError;
use crate::{account::Account, clock::Unix};

/// What came of a request: of each of its commands, or why none could be read. Displayed as JSON.
#[derive(Debug)]
pub(crate) struct Responses(pub Result<Vec<CommandResponse>, CommandError>);

/// The answer to one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CommandResponse {
    /// The name of the command, as written.
    pub name: String,
    /// What the command gave to be repeated.
    pub correlation: Option<String>,
    /// What came of it.
    pub result: Result<CommandData, CommandError>,
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CommandData {
    /// A page of sessions.
    Sessions {
        /// The sessions.
        sessions: Vec<ListedSession>,
        /// The client ID after which the next page begins, if there may be more.
        cursor: Option<Arc<str>>,
    },
    /// So many clients are disconnected.
    Kicked(usize),
    /// So many logins and tokens were forgotten.
    Forgotten {
        /// Logins.
        logins: usize,
        /// Tokens.
        tokens: usize,
    },
    /// The client ID is free.
    Released {
        /// Whether a session was known under it. The broker may have restored one of which nothing is known.
        is_known: bool,
    },
    /// The keys are fetched now, or were read.
    KeysRefreshed,
}

/// A session in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListedSession {
    /// The client ID.
    pub client_id: Arc<str>,
    /// The user name.
    pub username: Arc<str>,
    /// The account that it belongs to.
    pub account: Account,
    /// Whether the client is connected. Otherwise the broker keeps its session.
    pub connected: bool,
    /// Whether the broker restored it from disk, and its client has not been back.
    pub restored: bool,
    /// Whether another account may have the client ID.
    pub released: bool,
    /// When its rights end.
    pub until: Unix,
}

impl ListedSession {
    /// Returns the length of its texts, in bytes.
    pub(crate) fn text_length(&self) -> usize {
        let Account { issuer, subject } = &self.account;
        let texts = [&self.client_id, &self.username, issuer, subject];
        texts.iter().map(|text| text.len()).sum()
    }
}
