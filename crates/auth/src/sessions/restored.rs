//! Sessions that the broker restored from disk: those whose rights were saved, and those that somebody else took over.
//!
//! On 2.0 nobody can be asked which sessions the broker restored. A client that resumes one has signed in already when
//! the broker disconnects the old session, which is before it checks what is queued. If the old session belonged to
//! another user, and nothing is saved about it, only then is that seen.

use std::{collections::HashMap, sync::Arc};

use super::{
    AfterDisconnect, Ending, ReportedRefusals, Session, SessionOrigin, SessionState, Sessions,
};
use crate::{
    client::{ClientKey, ClientView},
    clock::Unix,
};
use acl::rights::Rights;

/// The maximum number of client IDs whose owners are remembered.
const MAX_OWNERS: usize = 10_000;

/// Sessions that were taken over by another user than the one that they belong to.
#[derive(Default)]
pub(super) struct SeizedSessions {
    /// The clients that have to be disconnected, with the user names of the owners.
    to_disconnect: Vec<Seized>,
    /// The user names of the owners that have not been back, by client ID.
    owners: HashMap<Arc<str>, Arc<str>>,
}

/// A session that was taken over by another user than the one that it belongs to.
#[derive(Debug)]
pub(crate) struct Seized {
    /// The client that has it.
    pub(crate) key: ClientKey,
    /// Its client ID.
    pub(crate) client_id: Arc<str>,
    /// The user name of the owner.
    pub(crate) owner: Arc<str>,
}

impl Sessions {
    /// Adds a session that the broker restored, with the rights that were saved. Its client is away. Under its client
    /// ID there must be no session, or one [to be made again](Self::remake_restored).
    pub(crate) fn restore(&mut self, key: ClientKey, mut session: Session) {
        let outdated = self.by_id.get(&session.client_id).copied();
        let outdated = outdated.and_then(|key| self.take(key));
        // If its rights have ended since, because its key was revoked, that stays so.
        if let Some(outdated) = outdated.map(|entry| entry.record.session)
            && outdated.until < session.until
        {
            (session.until, session.ending) = (outdated.until, outdated.ending);
        }
        self.take(key);
        self.by_id.insert(Arc::clone(&session.client_id), key);
        let state = SessionState::Offline(AfterDisconnect::Kept);
        self.insert(key, session, SessionOrigin::Restored, state);
    }

    /// Whether there is a session under this client ID.
    pub(crate) fn has_id(&self, client_id: &str) -> bool {
        self.by_id.contains_key(client_id)
    }

    /// Removes the restored session with this client ID: the broker does not have it.
    pub(crate) fn forget_restored(&mut self, client_id: &str) {
        if let Some(key) = self.by_id.get(client_id).copied()
            && let Some(entry) = self.by_key.get(&key)
            && entry.record.origin == SessionOrigin::Restored
        {
            self.take(key);
        }
    }

    /// Whether there is a session under this client ID whose rights need not be made again.
    pub(crate) fn is_ready(&self, client_id: &str) -> bool {
        let Some(key) = self.by_id.get(client_id) else {
            return false;
        };
        let entry = self.by_key.get(key);
        entry.is_none_or(|entry| !entry.is_outdated(self.round))
    }

    /// Has the rights of the restored sessions made again whose clients have not been back. Until then these sessions
    /// are not found, but the broker has them and their client IDs stay taken. To remove so many takes too long.
    pub(crate) fn remake_restored(&mut self) {
        self.round += 1;
    }

    /// Records that a client may resume the session that the broker restored: it was saved for its account, or an
    /// administrator has released the client ID.
    pub(crate) fn may_resume(&mut self, key: ClientKey) {
        if let Some(entry) = self.by_key.get_mut(&key) {
            entry.record.origin = SessionOrigin::Resumed;
        }
    }

    /// Records that the broker disconnects a restored session of which nothing is saved, because a client has resumed
    /// it (2.0). If that client is another user, it has no rights from now on.
    pub(crate) fn restored_is_resumed(&mut self, old: ClientKey, client: &impl ClientView) {
        let text = |bytes| std::str::from_utf8(bytes).ok();
        let (Some(client_id), Some(owner)) =
            (text(client.client_id()), client.username().and_then(text))
        else {
            return;
        };
        let Some(&key) = self.by_id.get(client_id).filter(|key| **key != old) else {
            return;
        };
        let Some(entry) = self.by_key.get_mut(&key) else {
            return;
        };
        let record = &mut entry.record;
        if entry.state != SessionState::Active
            || record.origin != SessionOrigin::SignIn
            || *record.session.username == *owner
        {
            return;
        }
        record.origin = SessionOrigin::Seized;
        // Nobody else decides about it either, and it cannot be renewed.
        record.session.rights = Rights::default();
        record.session.until = Unix(0);
        record.session.ending = Ending::default();
        record.reported = ReportedRefusals::full();
        let client_id = Arc::clone(&record.session.client_id);
        let owner: Arc<str> = owner.into();
        if self.seized.owners.len() < MAX_OWNERS {
            let (client_id, owner) = (Arc::clone(&client_id), Arc::clone(&owner));
            self.seized.owners.insert(client_id, owner);
        }
        self.seized.to_disconnect.push(Seized {
            key,
            client_id,
            owner,
        });
    }

    /// Returns the clients that have to be disconnected because they took over sessions of other users, each once.
    pub(crate) fn take_seized(&mut self) -> Vec<Seized> {
        let mut seized = std::mem::take(&mut self.seized.to_disconnect);
        seized.retain(|one| {
            let entry = self.by_key.get(&one.key);
            entry.is_some_and(|entry| {
                entry.state == SessionState::Active && entry.record.origin == SessionOrigin::Seized
            })
        });
        seized
    }

    /// Returns the user name of the owner of a session that another user took over, if the owner has not been back.
    pub(crate) fn owner(&self, client_id: &str) -> Option<&Arc<str>> {
        self.seized.owners.get(client_id)
    }

    /// Records that a session is with its owner again.
    pub(crate) fn owner_is_back(&mut self, client_id: &str) {
        if !self.seized.owners.is_empty() {
            self.seized.owners.remove(client_id);
        }
    }
}
