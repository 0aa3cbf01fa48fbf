//! Sessions as an administrator sees them: one for each client ID, in the order of the client IDs.

use std::{ops::Bound, sync::Arc};

use super::{Session, SessionEntry, SessionOrigin, SessionState, Sessions};
use crate::client::ClientKey;

/// A session, and where its client is.
pub(crate) struct SessionOverview<'a> {
    /// The broker's pointer to the client.
    pub key: ClientKey,
    /// The session.
    pub session: &'a Session,
    /// Whether the client is connected. Otherwise the broker keeps its session.
    pub connected: bool,
    /// Whether the broker restored it from disk, and its client has not been back.
    pub restored: bool,
    /// Whether another account may have the client ID.
    pub released: bool,
}

impl<'a> SessionOverview<'a> {
    /// Returns `None` for a session of which at most a will is left.
    fn of(key: ClientKey, entry: &'a SessionEntry) -> Option<Self> {
        (!entry.state.is_over()).then(|| Self {
            key,
            session: &entry.record.session,
            connected: entry.state == SessionState::Active,
            restored: entry.record.origin == SessionOrigin::Restored,
            released: entry.record.released,
        })
    }
}

impl Sessions {
    /// Returns the client IDs from here on, each with its session. A client ID may have none any more.
    pub(crate) fn in_order(
        &self,
        from: Bound<&str>,
    ) -> impl Iterator<Item = (&Arc<str>, Option<SessionOverview<'_>>)> {
        let rest = self.by_id.range::<str, _>((from, Bound::Unbounded));
        rest.map(|(client_id, key)| {
            let entry = self.by_key.get(key);
            let overview = entry.and_then(|entry| SessionOverview::of(*key, entry));
            (client_id, overview)
        })
    }

    /// Returns the session with this client ID.
    pub(crate) fn find(&self, client_id: &str) -> Option<SessionOverview<'_>> {
        let key = self.by_id.get(client_id)?;
        SessionOverview::of(*key, self.by_key.get(key)?)
    }

    /// Lets another account have the client ID of a client that is away. Until somebody comes, messages are queued for
    /// the session as before. Whoever resumes it receives of them what its own token grants.
    pub(crate) fn release(&mut self, client_id: &str) {
        self.owner_is_back(client_id);
        let entry = self
            .by_id
            .get(client_id)
            .and_then(|key| self.by_key.get_mut(key));
        if let Some(entry) = entry
            && entry.state != SessionState::Active
        {
            entry.record.released = true;
        }
        self.owner_is_back(client_id);
    }

    /// Returns the very session that this client ID was taken from, if its client is still connected.
    pub(crate) fn still_connected(&self, key: ClientKey, client_id: &Arc<str>) -> Option<&Session> {
        let entry = self.by_key.get(&key)?;
        let session = &entry.record.session;
        let is_same = Arc::ptr_eq(&session.client_id, client_id);
        (is_same && entry.state == SessionState::Active).then_some(session)
    }
}
