//! The recheck after a SIGHUP: the broker asks again about the sessions that it has.
//!
//! No session may be refused whose client is away, because that makes 2.0 put it on its expiry list twice and free it
//! twice (fixed in 2.0.23). To keep it is safe: it can only receive, and what it receives is queued until its client
//! signs in again.

use super::{ClientKey, ClientView, SessionEntry, SessionState, Sessions, TextAddresses};
use crate::{client::Client, clock::Unix, secret::Fingerprint};

/// What a basic-auth event of the broker is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A client connects.
    Connect,
    /// The broker checks a session that it has.
    Recheck {
        /// Whether the session may be refused. 2.0 must not refuse one whose client is away, and does not say whether
        /// it is.
        may_refuse: bool,
    },
    /// A client connects, or the broker checks a session without subscriptions (2.0 only).
    Unknown,
}

impl Origin {
    /// Returns whether the broker may be checking a session that it has.
    pub(crate) fn may_be_recheck(self) -> bool {
        self != Self::Connect
    }
}

/// The answer about a client that may be signed in already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecheckAnswer {
    /// The session stays as it is.
    Keep,
    /// The client is signed in, and its rights have ended.
    RightsEnded,
    /// This client is not signed in.
    NotSignedIn,
}

/// The state of the recheck.
#[derive(Default)]
pub(super) struct Recheck {
    pub(super) number: u32,
    under_way: bool,
    /// How many sessions in the table have this number as [`SessionEntry::asked`].
    pub(super) asked: usize,
    /// Whether this broker asks about sessions whose clients are away. With `per_listener_settings true` 2.0.12 and
    /// later do not: they refuse them.
    pub(super) asks_about_absent: bool,
}

impl Recheck {
    /// Records that the broker asked about this session.
    #[inline]
    fn asked_about(&mut self, entry: &mut SessionEntry) {
        if entry.asked != self.number {
            entry.asked = self.number;
            self.asked += 1;
        }
    }
}

impl Sessions {
    /// Compares the texts of a connected client with those of its session, so that [`Self::stays`] need not.
    pub(crate) fn compare_texts(&mut self, key: ClientKey, client: &impl ClientView) {
        if let Some(entry) = self.by_key.get_mut(&key) {
            entry.recognises(client);
        }
    }

    /// Returns whether a session that the broker certainly rechecks (SIGHUP) stays as it is. Nobody presents a
    /// credential then.
    #[inline]
    pub(crate) fn stays(&mut self, key: ClientKey, client: &impl ClientView, now: Unix) -> bool {
        let Some(entry) = self.by_key.get_mut(&key) else {
            return self.recheck_dropped(key, client, None);
        };
        if !entry.recognises(client) {
            return false;
        }
        self.recheck.asked_about(entry);
        match entry.state {
            // The earliest end is in the cache already, and the record is not. An end that was handled is none of them:
            // that client is being disconnected or stays, and what it does is denied.
            SessionState::Active => {
                self.expiries.earliest().is_some_and(|until| now < until)
                    || entry.record.session.may_stay(now)
            }
            SessionState::Offline(_) => {
                self.recheck.asks_about_absent = true;
                true
            }
            SessionState::Leaving(_) => false,
        }
    }

    /// Returns the answer about a client that may be signed in already. Key, client ID, user name (the one that it was
    /// given) and credential must be the same. Anyone who has all of them could sign in.
    ///
    /// At a CONNECT the key of an offline session belongs to a new connection in memory that was freed: the broker
    /// frees such sessions without a word.
    pub(crate) fn recheck(
        &mut self,
        key: ClientKey,
        client: &Client<&str>,
        credential: Fingerprint,
        origin: Origin,
        now: Unix,
    ) -> RecheckAnswer {
        let may_be_recheck = origin.may_be_recheck();
        let Some(entry) = self.by_key.get_mut(&key) else {
            return match may_be_recheck && self.recheck_dropped(key, client, Some(credential)) {
                true => RecheckAnswer::Keep,
                false => RecheckAnswer::NotSignedIn,
            };
        };
        entry.addresses = TextAddresses::default();
        let session = &entry.record.session;
        // A client that is connected has its address for itself, so it need not prove again who it is.
        let by_method = session.is_by_method && may_be_recheck;
        if !entry.is(client) || session.credential != credential && !by_method {
            return RecheckAnswer::NotSignedIn;
        }
        if may_be_recheck {
            self.recheck.asked_about(entry);
        }
        match entry.state {
            SessionState::Active if entry.record.session.may_stay(now) => RecheckAnswer::Keep,
            SessionState::Active => RecheckAnswer::RightsEnded,
            // A client that connects may have the address of a session that is gone, and its credential cannot be
            // compared. It gets no rights. If it is a session after all, nothing is lost: it has no subscriptions,
            // because then its origin would be known.
            SessionState::Offline(_) if by_method && origin == Origin::Unknown => {
                self.recheck.asks_about_absent = true;
                self.drop_from_table(key);
                RecheckAnswer::Keep
            }
            SessionState::Offline(_) if may_be_recheck => {
                self.recheck.asks_about_absent = true;
                RecheckAnswer::Keep
            }
            SessionState::Offline(_) | SessionState::Leaving(_) => RecheckAnswer::NotSignedIn,
        }
    }

    /// Returns whether a client that may be rechecked has a trace.
    fn recheck_dropped(
        &mut self,
        key: ClientKey,
        client: &impl ClientView,
        credential: Option<Fingerprint>,
    ) -> bool {
        let number = self.recheck.number;
        let recognised = self.dropped.recheck(key, client, credential, number);
        self.recheck.asks_about_absent |= recognised;
        recognised
    }

    /// Begins a recheck (SIGHUP): the broker will ask about every session that it has. Each instance of the plugin
    /// calls this before the first question.
    pub(crate) fn begin_recheck(&mut self) {
        if !self.recheck.under_way {
            self.recheck.under_way = true;
            self.recheck.number += 1;
            self.recheck.asked = 0;
        }
    }

    /// Records that the broker asks about a restored session that is not in the table.
    pub(crate) fn asks_about_restored(&mut self) {
        self.recheck.asks_about_absent = true;
    }

    /// Ends a recheck. The broker no longer has the absent sessions that it did not ask about, so their client IDs are
    /// free. Returns how many these are, or `None` if that is not known.
    ///
    /// No session is removed unless the broker asks about absent sessions at all, and asked about every session that is
    /// known to be connected. Otherwise another plugin may have answered first.
    pub(crate) fn end_recheck(&mut self) -> Option<usize> {
        if !std::mem::take(&mut self.recheck.under_way) || !self.recheck.asks_about_absent {
            return None;
        }
        let recheck_pass = self.recheck.number;
        if self.recheck.asked == self.by_key.len() {
            // All of them. To look at each would take as long as the recheck did.
            self.dropped.keep_only(recheck_pass);
            return Some(0);
        }
        let mut gone = Vec::new();
        for (key, entry) in &self.by_key {
            match entry.state {
                _ if entry.asked == recheck_pass => {}
                SessionState::Offline(_) => gone.push((*key, !entry.state.is_over())),
                SessionState::Active
                    if self.by_id.get(&entry.record.session.client_id) == Some(key) =>
                {
                    return None;
                }
                SessionState::Active | SessionState::Leaving(_) => {}
            }
        }
        self.dropped.keep_only(recheck_pass);
        for (key, _) in &gone {
            self.remove(*key);
        }
        Some(gone.iter().filter(|(_, held)| *held).count())
    }
}
