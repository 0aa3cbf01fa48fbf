//! When rights end, and which clients are told before.
//!
//! Both are heaps of times, so a tick looks at the earliest ones and at no others. An entry may be stale, because
//! neither a departure nor a renewal removes one: it counts only if the session still has the end that it was made for.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    hash::BuildHasher,
    sync::Arc,
};

use super::{InstanceId, Note, Session, SessionEntry, SessionState, Sessions};
use crate::{client::ClientKey, clock::Unix, identity::SigningKey};

/// How a session ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ending {
    /// Why its rights end.
    pub cause: EndCause,
    /// How many seconds before, its client is told; 0 if it is not told.
    pub warning: u32,
    /// Whether the client stays connected when its rights have ended, and is denied everything.
    pub stays: bool,
    /// The key that admitted it. If that is revoked, its rights end at once.
    pub signing_key: SigningKey,
}

/// Why the rights of a session end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum EndCause {
    /// Its token expires.
    #[default]
    Token,
    /// It has lasted for `max_session`.
    MaxSession,
    /// The key that admitted it was revoked.
    KeyRevoked,
}

/// A connected client whose rights have ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EndedSession {
    /// The broker's pointer to the client.
    pub key: ClientKey,
    /// The client ID.
    pub client_id: Arc<str>,
    /// Why its rights ended, and whether it stays.
    pub ending: Ending,
}

/// The ends of all sessions, and the warnings before them.
#[derive(Default)]
pub(super) struct Expiries {
    ends: BinaryHeap<Reverse<(Unix, ClientKey)>>,
    /// When to warn, and the end to warn of.
    warnings: BinaryHeap<Reverse<(Unix, Unix, ClientKey)>>,
}

impl Session {
    /// Whether its client may stay connected now.
    pub(crate) fn may_stay(&self, now: Unix) -> bool {
        now < self.until || self.ending.stays
    }
}

impl SessionEntry {
    /// Whether an instance admitted it by one of these keys.
    fn is_admitted_by(&self, instance: InstanceId, keys: &[SigningKey]) -> bool {
        let session = &self.record.session;
        session.instance == instance && keys.contains(&session.ending.signing_key)
    }
}

impl Expiries {
    /// Adds the end of a session.
    pub(super) fn insert(&mut self, key: ClientKey, session: &Session) {
        let (until, warning) = (session.until, u64::from(session.ending.warning));
        self.ends.push(Reverse((until, key)));
        if warning > 0 {
            let at = Unix(until.0.saturating_sub(warning));
            self.warnings.push(Reverse((at, until, key)));
        }
    }

    /// Returns the earliest end. It may be stale.
    #[inline]
    pub(super) fn earliest(&self) -> Option<Unix> {
        self.ends.peek().map(|Reverse((until, _))| *until)
    }

    /// Forgets stale entries if they are many.
    pub(super) fn tidy<S: BuildHasher>(&mut self, sessions: &HashMap<ClientKey, SessionEntry, S>) {
        let many = 2 * sessions.len() + 64;
        let has_end = |key: &ClientKey, until: Unix| {
            let entry = sessions.get(key);
            entry.is_some_and(|entry| entry.record.session.until == until)
        };
        if self.ends.len() > many {
            keep_only(&mut self.ends, |(until, key)| has_end(key, *until));
        }
        if self.warnings.len() > many {
            keep_only(&mut self.warnings, |(_, until, key)| has_end(key, *until));
        }
    }

    /// Returns the number of entries, with the stale ones.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.ends.len() + self.warnings.len()
    }

    /// Adjusts to a clock that was set by this many seconds.
    pub(super) fn clock_was_set(&mut self, by: i64) {
        let ends = self.ends.drain();
        self.ends = ends
            .map(|Reverse((until, key))| Reverse((until.moved(by), key)))
            .collect();
        let warnings = self.warnings.drain();
        self.warnings = warnings
            .map(|Reverse((at, until, key))| Reverse((at.moved(by), until.moved(by), key)))
            .collect();
    }
}

/// Keeps each entry once, of those that are wanted.
fn keep_only<T: Ord>(heap: &mut BinaryHeap<Reverse<T>>, is_wanted: impl Fn(&T) -> bool) {
    let mut entries = std::mem::take(heap).into_sorted_vec();
    entries.dedup();
    entries.retain(|Reverse(entry)| is_wanted(entry));
    entries.shrink_to_fit();
    *heap = entries.into();
}

impl Sessions {
    /// Returns connected clients whose rights have ended, at most this many of them, each once.
    pub(crate) fn expired(&mut self, now: Unix, most: usize) -> Vec<EndedSession> {
        let mut expired = Vec::new();
        while expired.len() < most
            && let Some(&end @ Reverse((until, key))) = self.expiries.ends.peek()
            && until <= now
        {
            // A client that came back with the same token has the same end again.
            while self.expiries.ends.peek() == Some(&end) {
                self.expiries.ends.pop();
            }
            let Some(entry) = self.connected_until(key, until) else {
                continue;
            };
            // One that stays may have been told by its first refusal.
            let session = &entry.record.session;
            let (client_id, ending) = (Arc::clone(&session.client_id), session.ending);
            if !ending.stays || entry.record.reported.note_end(until) != Note::Silent {
                expired.push(EndedSession {
                    key,
                    client_id,
                    ending,
                });
            }
        }
        expired
    }

    /// Returns connected clients that are to be told when their rights end, at most this many of them, each once for an
    /// end.
    pub(crate) fn due_for_warning(&mut self, now: Unix, most: usize) -> Vec<(Arc<str>, Unix)> {
        let mut to_warn = Vec::new();
        while to_warn.len() < most
            && let Some(&warning @ Reverse((at, until, key))) = self.expiries.warnings.peek()
            && at <= now
        {
            while self.expiries.warnings.peek() == Some(&warning) {
                self.expiries.warnings.pop();
            }
            if let Some(entry) = self.connected_until(key, until)
                && now < until
            {
                to_warn.push((Arc::clone(&entry.record.session.client_id), until));
            }
        }
        to_warn
    }

    /// Ends the rights of the sessions that an instance admitted by these keys. Returns how many of their clients are
    /// connected.
    ///
    /// For those that are away it is as if their tokens expired now: messages are queued for `offline_grace`, and when
    /// a client signs in, its own rights decide.
    pub(crate) fn end_admitted_by(
        &mut self,
        instance: InstanceId,
        keys: &[SigningKey],
        now: Unix,
    ) -> usize {
        let mut number = 0;
        for (key, entry) in &mut self.by_key {
            if entry.is_admitted_by(instance, keys) {
                let session = &mut entry.record.session;
                session.until = session.until.min(now);
                session.ending.cause = EndCause::KeyRevoked;
                session.ending.stays = false;
                if entry.state == SessionState::Active {
                    self.expiries.insert(*key, session);
                    number += 1;
                }
            }
        }
        number
    }

    /// Returns how many connected clients an instance admitted by these keys.
    pub(crate) fn count_admitted_by(&self, instance: InstanceId, keys: &[SigningKey]) -> usize {
        let entries = self.by_key.values();
        let connected = entries.filter(|entry| entry.state == SessionState::Active);
        let admitted = connected.filter(|entry| entry.is_admitted_by(instance, keys));
        admitted.count()
    }

    /// Returns the session of a client that is connected with rights until exactly this time.
    fn connected_until(&mut self, key: ClientKey, until: Unix) -> Option<&mut SessionEntry> {
        let entry = self.by_key.get_mut(&key)?;
        let session = &entry.record.session;
        let is_newest = self.by_id.get(&session.client_id) == Some(&key);
        (entry.state == SessionState::Active && session.until == until && is_newest)
            .then_some(entry)
    }
}
