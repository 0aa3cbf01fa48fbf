//! Sessions that are out of the table, and that the broker may still have.
//!
//! On SIGHUP 2.0 asks about every session that it has. It must not be told no about one whose client is away: it
//! would put that on its list of sessions that expire a second time, and later use memory that it has freed. So of
//! a session that leaves the table a trace stays, by which it is recognised. It has no rights.
//!
//! # How many there are
//!
//! Two clients of the broker's never lie across each other in memory. So one that comes shows that each session of
//! which there is a trace within [`LENGTH`] of it is gone, and the traces of those go, too. What remains takes
//! 75 bytes at most for each [`LENGTH`] bytes of the memory that the broker once needed for its clients.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
};

use super::Session;
use crate::{
    client::{ClientKey, ClientView},
    secret::Fingerprint,
};

/// How many bytes of memory a client takes in the broker, at least. (624 in 2.0.11, more in each later one.)
const LENGTH: usize = 512;

/// The traces.
#[derive(Default)]
pub struct DroppedSessions {
    by_address: BTreeMap<usize, Trace>,
    hashes: RandomState,
}

struct Trace {
    /// A hash of its client id and user name.
    who: u64,
    /// A part of the fingerprint of what it signed in with.
    credential: u64,
    /// At which recheck_pass the broker asked about it last.
    asked: u32,
}

impl DroppedSessions {
    /// Keeps a trace of a session.
    pub fn keep(&mut self, key: ClientKey, session: &Session, asked: u32) {
        let (id, name) = (session.client_id.as_bytes(), session.username.as_bytes());
        let trace = Trace {
            who: self.hashes.hash_one((id, Some(name))),
            credential: session.credential.part(),
            asked,
        };
        self.make_room(key);
        self.by_address.insert(key.0, trace);
    }

    /// A client has come: what was there is gone.
    pub fn make_room(&mut self, key: ClientKey) {
        let across = key.0.saturating_sub(LENGTH - 1)..key.0.saturating_add(LENGTH);
        while let Some((&address, _)) = self.by_address.range(across.clone()).next() {
            self.by_address.remove(&address);
        }
    }

    /// Whether there is a trace of who asks.
    pub fn has(&self, key: ClientKey, client: &impl ClientView) -> bool {
        self.by_address.get(&key.0).is_some_and(|trace| {
            trace.who
                == self
                    .hashes
                    .hash_one((client.client_id(), client.username()))
        })
    }

    /// Whether there is a trace of who signed in with this. The broker asks about it at this recheck_pass.
    pub fn recheck(
        &mut self,
        key: ClientKey,
        client: &impl ClientView,
        credential: Option<Fingerprint>,
        recheck_pass: u32,
    ) -> bool {
        if !self.has(key, client) {
            return false;
        }
        self.by_address.get_mut(&key.0).is_some_and(|trace| {
            trace.asked = recheck_pass;
            credential.is_none_or(|credential| trace.credential == credential.part())
        })
    }

    /// Drops all that the broker was not asking about at this recheck_pass.
    pub fn keep_only(&mut self, recheck_pass: u32) {
        self.by_address
            .retain(|_, trace| trace.asked == recheck_pass);
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.by_address.len()
    }
}
