//! Commands that wait for their turn. A tick executes them, a bounded part at a time, because some look at every
//! session and the broker serves nobody meanwhile.

use std::{collections::VecDeque, sync::Arc};

use super::{
    command::{CommandError, ParsedCommand},
    response::CommandResponse,
};
use crate::{client::ClientKey, clock::Deadline, sessions::InstanceId};

/// How many requests may wait.
const MAX_WAITING: usize = 64;

/// Who commands, and gets the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Administrator {
    /// A client whose token makes it an administrator.
    Client {
        /// The broker's pointer to it.
        key: ClientKey,
        /// Its client ID.
        client_id: Arc<str>,
        /// Its user name.
        username: Arc<str>,
        /// The instance that admitted it. It sees only the clients of that instance, because another one may be for
        /// another tenant.
        instance: InstanceId,
    },
    /// Root or the broker's user, on this machine. The number tells requests apart.
    Local(u64),
}

/// The commands of one administrator that came together, and what has come of them.
#[derive(Debug)]
pub(crate) struct AdminRequest {
    pub from: Administrator,
    pub commands: VecDeque<ParsedCommand>,
    pub responses: Vec<CommandResponse>,
    pub progress: Progress,
}

/// How far a command has got that takes several ticks.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// The last client ID that it has looked at.
    pub cursor: Option<Arc<str>>,
    /// How many clients it has disconnected.
    pub kicked: usize,
    /// Until when it waits for a file.
    pub deadline: Option<Deadline>,
}

/// The requests that wait, oldest first.
#[derive(Debug, Default)]
pub(crate) struct AdminRequests(VecDeque<AdminRequest>);

impl AdminRequests {
    /// Adds a request.
    ///
    /// # Errors
    ///
    /// Returns [`CommandError::Busy`] if too many wait.
    pub(crate) fn add(
        &mut self,
        from: Administrator,
        commands: Vec<ParsedCommand>,
    ) -> Result<(), CommandError> {
        if self.0.len() >= MAX_WAITING {
            return Err(CommandError::Busy);
        }
        self.0.push_back(AdminRequest {
            from,
            commands: commands.into(),
            responses: Vec::new(),
            progress: Progress::default(),
        });
        Ok(())
    }

    /// Whether none waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes the oldest. [`Self::put_back`] returns it if it is not finished.
    pub(crate) fn take_oldest(&mut self) -> Option<AdminRequest> {
        self.0.pop_front()
    }

    /// Puts a request back that is not finished.
    pub(crate) fn put_back(&mut self, request: AdminRequest) {
        self.0.push_front(request);
    }
}
