//! Traces of sessions that were dropped from the table, and that the broker may still have.
//!
//! On SIGHUP 2.0 asks about every session that it has. If the plugin refuses one whose client is away, the broker puts
//! it on its list of expiring sessions a second time, and later uses memory that it has freed. So a dropped session
//! leaves a trace by which it is recognised. It has no rights. A client that is asked for its credential and has not
//! come in leaves a trace too, because the broker may ask about its will.
//!
//! # How many there are
//!
//! Two clients of the broker never overlap in memory. So a client that comes proves that each session with a trace
//! within [`LENGTH`] bytes of it is gone, and these traces are removed. The rest takes at most 75 bytes for each
//! [`LENGTH`] bytes of the memory that the broker once needed for its clients.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
};

use super::Session;
use crate::{
    client::{ClientKey, ClientView},
    secret::Fingerprint,
};

/// The memory that a client takes in the broker, in bytes, at least. (624 in 2.0.11, more in each later version.)
const LENGTH: usize = 512;

/// The traces.
#[derive(Default)]
pub(super) struct DroppedSessions {
    by_address: BTreeMap<usize, Trace>,
    hashes: RandomState,
}

struct Trace {
    /// A hash of its client ID and user name.
    who: u64,
    credential: TracedCredential,
    /// The last recheck at which the broker asked about it.
    asked: u32,
}

/// What a client signed in with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TracedCredential {
    /// A password: a part of its fingerprint.
    Password(u64),
    /// Authentication data, which the broker does not present again.
    AuthenticationData,
    /// It did not sign in.
    Missing,
}

impl DroppedSessions {
    /// Keeps a trace of a client that has not come in. The broker keeps no session for it.
    pub(super) fn note(&mut self, key: ClientKey, client: &impl ClientView) {
        self.make_room(key);
        let trace = Trace {
            who: self
                .hashes
                .hash_one((client.client_id(), client.username())),
            credential: TracedCredential::Missing,
            asked: 0,
        };
        self.by_address.insert(key.0, trace);
    }

    /// Keeps a trace of a session.
    pub(super) fn keep(&mut self, key: ClientKey, session: &Session, asked: u32) {
        let (id, name) = (session.client_id.as_bytes(), session.username.as_bytes());
        let trace = Trace {
            who: self.hashes.hash_one((id, Some(name))),
            credential: match session.is_by_method {
                true => TracedCredential::AuthenticationData,
                false => TracedCredential::Password(session.credential.part()),
            },
            asked,
        };
        self.make_room(key);
        self.by_address.insert(key.0, trace);
    }

    /// Removes the traces of all that cannot exist beside this client.
    pub(super) fn make_room(&mut self, key: ClientKey) {
        let across = key.0.saturating_sub(LENGTH - 1)..key.0.saturating_add(LENGTH);
        while let Some((&address, _)) = self.by_address.range(across.clone()).next() {
            self.by_address.remove(&address);
        }
    }

    /// Whether there is a trace of this client.
    pub(super) fn has(&self, key: ClientKey, client: &impl ClientView) -> bool {
        self.by_address.get(&key.0).is_some_and(|trace| {
            trace.who
                == self
                    .hashes
                    .hash_one((client.client_id(), client.username()))
        })
    }

    /// Whether there is a trace of a client that signed in with this credential. The broker asks about it at this
    /// recheck.
    pub(super) fn recheck(
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
            match trace.credential {
                TracedCredential::Password(part) => {
                    credential.is_none_or(|credential| credential.part() == part)
                }
                // Without rights there is nothing to gain by pretending to be this client.
                TracedCredential::AuthenticationData => true,
                TracedCredential::Missing => false,
            }
        })
    }

    /// Removes the traces of sessions that the broker did not ask about at this recheck.
    pub(super) fn keep_only(&mut self, recheck_pass: u32) {
        self.by_address.retain(|_, trace| {
            trace.asked == recheck_pass || trace.credential == TracedCredential::Missing
        });
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.by_address.len()
    }
}
