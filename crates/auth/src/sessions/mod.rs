//! Who is connected, with which rights, and until when.
//!
//! A session is found by the [`ClientKey`] of its client. A table by client ID would lose the newer session at a
//! takeover, because the DISCONNECT of the old client comes after the new one has signed in. But the broker reuses
//! keys, so each check also compares client ID and user name: the texts, or their addresses while the client is
//! connected. A client that differs in one of them is unknown.
//!
//! A session is `Active` until DISCONNECT, then `Leaving`. While it is leaving the broker may still send the will,
//! because all versions up to 2.1.2 check it after DISCONNECT. At the next tick the session is removed, or becomes
//! `Offline` if the broker keeps it and queues messages for it, or may send its will later.
//!
//! On SIGHUP nobody who was let in and is away may be refused. So a session that is dropped from the table while the
//! broker may still have it leaves a trace ([`dropped`]). SIGHUP also shows which sessions the broker no longer has:
//! see [`recheck`].
//!
//! All instances of the plugin in a broker share one table, because a client ID belongs to the whole broker. The table
//! also has the clients that another plugin or the broker let in ([`deferred`]), because their client IDs are taken.

mod address_hasher;
mod deferred;
mod dropped;
mod expiry;
mod filters;
mod observed;
mod overview;
mod recheck;
mod reported;
mod restored;
mod unsure;
mod wills;

use std::{
    collections::{BTreeMap, HashMap},
    hash::BuildHasherDefault,
    sync::Arc,
};

use crate::{
    account::{Account, IssuerNumber},
    client::{ClientKey, ClientView, TextAddresses},
    clock::Unix,
    secret::Fingerprint,
};
use acl::rights::Rights;
use address_hasher::AddressHasher;
use deferred::DeferredClients;
use dropped::DroppedSessions;
use expiry::Expiries;
pub(crate) use expiry::{EndCause, EndedSession, Ending};
pub(crate) use filters::{SubscribedFilters, denies_for_good};
pub(crate) use observed::Observed;
pub(crate) use overview::SessionOverview;
use recheck::Recheck;
pub use recheck::{Origin, RecheckAnswer};
pub(crate) use reported::{Note, ReportedRefusals};
use unsure::UnsureSessions;
use wills::Wills;

/// One instance of the plugin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InstanceId(pub(crate) u32);

/// A session, as it is when its client is admitted.
#[derive(Debug)]
pub(crate) struct Session {
    /// The client ID.
    pub client_id: Arc<str>,
    /// The user name: from a verified claim, or one that the tenant checked.
    pub username: Arc<str>,
    /// The account that it belongs to. The user name need not tell.
    pub account: Account,
    /// What the client may publish and subscribe.
    pub rights: Rights,
    /// When its rights end.
    pub until: Unix,
    /// Why they end then, and what follows.
    pub ending: Ending,
    /// What the client signed in with. On SIGHUP the broker checks it again with the same.
    pub credential: Fingerprint,
    /// The instance that admitted the client.
    pub instance: InstanceId,
    /// The issuer of its token, as this instance counts them.
    pub issuer: IssuerNumber,
    /// Whether it signed in by an authentication method (MQTT 5). Then the broker checks it again on SIGHUP with
    /// whatever is in the password field of its CONNECT, which says nothing.
    pub is_by_method: bool,
    /// The filters that it subscribed to, where they are remembered.
    pub filters: SubscribedFilters,
    /// What the decision log and the shadow policy need, if there is either.
    pub observed: Option<Box<Observed>>,
}

/// What the broker does with a session after its client has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterDisconnect {
    /// It removes the session.
    Ended,
    /// It keeps the session and queues messages.
    Kept,
    /// One of the two: 2.0 does not tell the Session Expiry Interval of an MQTT 5 client.
    Unsure,
    /// It queues nothing, but may send the will later (Will Delay Interval).
    Will,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SessionState {
    Active,
    Leaving(AfterDisconnect),
    Offline(AfterDisconnect),
}

/// A session in the table. The table itself holds no more than a recheck reads. On SIGHUP the broker asks about all
/// sessions while it serves nobody, and to fetch one more block of memory for each takes longer than all the rest.
struct SessionEntry {
    record: Box<SessionRecord>,
    /// Where the broker kept client ID and user name when they were last compared. Zeros if they were not compared
    /// since the last CONNECT.
    addresses: TextAddresses,
    /// The last recheck at which the broker asked about it, or the newest one when it was admitted.
    asked: u32,
    state: SessionState,
}

/// What a recheck does not read. Boxed also because up to half of a hash table is empty.
struct SessionRecord {
    session: Session,
    reported: ReportedRefusals,
    /// Whether a newer session has its client ID. What the broker asks about it is its will.
    superseded: bool,
    /// The number of the departure, if the broker may remove the session without a word; else 0.
    departure: u64,
    /// Whether another account may have the client ID although the broker keeps the session.
    released: bool,
    /// Where it comes from.
    origin: SessionOrigin,
    /// The round of [`Sessions::round`] in which it was added.
    round: u32,
}

/// Where a session comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SessionOrigin {
    /// Its client signed in.
    SignIn,
    /// Its client signed in, and may resume the session that the broker restored under its client ID.
    Resumed,
    /// The broker restored it from disk, and its rights were saved. Its client has not been back.
    Restored,
    /// Its client signed in and took over a session of another user ([`restored`]). It has no rights.
    Seized,
}

/// The capacity that is worth returning memory to the system for.
const MUCH: usize = 1000;

impl SessionState {
    /// Whether nothing is queued for it any more.
    fn is_over(self) -> bool {
        use AfterDisconnect::{Ended, Will};
        matches!(
            self,
            Self::Leaving(Ended | Will) | Self::Offline(Ended | Will)
        )
    }
}

impl SessionEntry {
    /// Whether it is unsure that the broker keeps it.
    fn is_unsure(&self) -> bool {
        self.state == SessionState::Offline(AfterDisconnect::Unsure)
    }

    /// Whether it was restored, and its rights have to be made again. Those of a released session stay: nothing is
    /// saved of it any more.
    fn is_outdated(&self, round: u32) -> bool {
        let record = &self.record;
        record.origin == SessionOrigin::Restored && record.round != round && !record.released
    }

    /// Whether this is the client that signed in. The texts are compared once; afterwards it is enough that the broker
    /// still keeps them at the same addresses. Call it only where these cannot be the addresses of other texts by now:
    ///
    /// * for a client that is connected, because the broker tells when it goes;
    /// * for a session that the broker certainly rechecks. If the client is away, the broker may have freed the session
    ///   without a word. But every other client that signs in at its address brings a CONNECT, which removes the entry.
    ///   (The exception is a client that another plugin answered: by extended authentication, or because it is loaded
    ///   first. That client stays connected, as others have decided, and gets no rights: at a message the texts are
    ///   compared, because the session is not active.)
    #[inline]
    fn recognises(&mut self, client: &impl ClientView) -> bool {
        let addresses = client.text_addresses();
        if addresses == self.addresses && addresses != TextAddresses::default() {
            return true;
        }
        let same = self.is(client);
        if same {
            self.addresses = addresses;
        }
        same
    }

    /// Whether this is the client that signed in.
    fn is(&self, client: &impl ClientView) -> bool {
        let session = &self.record.session;
        client.is(&session.client_id, &session.username)
    }

    /// Returns the session for a check.
    #[inline]
    fn found(&mut self, connected: bool) -> SessionView<'_> {
        SessionView {
            connected,
            superseded: self.record.superseded,
            session: &mut self.record.session,
            reported: &mut self.record.reported,
        }
    }
}

type SessionsByKey = HashMap<ClientKey, SessionEntry, BuildHasherDefault<AddressHasher>>;

/// A departure of a client after which the broker may remove its session without a word.
#[derive(Clone, Copy)]
struct Departure {
    number: u64,
    key: ClientKey,
}

impl Departure {
    /// Returns whether the client has neither come back nor departed again since.
    fn is_current(self, sessions: &SessionsByKey) -> bool {
        let entry = sessions.get(&self.key);
        entry.is_some_and(|entry| entry.record.departure == self.number)
    }
}

/// The table of sessions.
#[derive(Default)]
pub(crate) struct Sessions {
    by_key: SessionsByKey,
    /// In order, so that an administrator can go through all sessions in pages.
    by_id: BTreeMap<Arc<str>, ClientKey>,
    expiries: Expiries,
    departed: Vec<ClientKey>,
    departures: u64,
    unsure: UnsureSessions,
    wills: Wills,
    deferred: DeferredClients,
    /// Traces of sessions that were in the table.
    dropped: DroppedSessions,
    recheck: Recheck,
    /// The client IDs whose sessions are over. They may be over in between only.
    ended: Vec<Arc<str>>,
    seized: restored::SeizedSessions,
    /// How often the rights of all restored sessions had to be made again.
    round: u32,
    /// How many clients are connected.
    active: usize,
}

/// A session, as a check sees it.
pub(crate) struct SessionView<'a> {
    /// The session.
    pub session: &'a mut Session,
    /// The refusals that were reported.
    pub reported: &'a mut ReportedRefusals,
    /// Whether the client is connected. Then its rights end at [`Session::until`]. When a client leaves, its will is
    /// sent then or later, and the broker checks its subscriptions again; both were granted in time. What is queued for
    /// it is checked when it is back.
    pub connected: bool,
    /// Whether another client has taken it over, and the broker is about to let it go: at that moment 2.0 checks its
    /// will before it says that the client has gone.
    pub superseded: bool,
}

impl Sessions {
    /// Admits a client. Returns the older session of its client ID, for [`Self::retract`]. That session stays until the
    /// broker lets it go.
    pub(crate) fn admit(&mut self, key: ClientKey, mut session: Session) -> Option<ClientKey> {
        self.arrives(key);
        let older = self.by_id.insert(Arc::clone(&session.client_id), key);
        if let Some(older) = older.and_then(|older| self.by_key.get_mut(&older))
            && older.record.session.account == session.account
        {
            // The broker may keep the subscriptions.
            session.filters = std::mem::take(&mut older.record.session.filters);
        }
        if let Some(older) = older {
            // Usually its DISCONNECT follows. If the session expired in the broker, none does.
            self.departed.push(older);
            self.set_superseded(older, true);
        }
        self.expiries.insert(key, &session);
        self.insert(key, session, SessionOrigin::SignIn, SessionState::Active);
        older
    }

    /// Adds a session to the table. A recheck need not ask about it.
    fn insert(
        &mut self,
        key: ClientKey,
        session: Session,
        origin: SessionOrigin,
        state: SessionState,
    ) {
        self.recheck.asked += 1;
        let record = SessionRecord {
            session,
            reported: ReportedRefusals::default(),
            superseded: false,
            departure: 0,
            released: false,
            origin,
            round: self.round,
        };
        let entry = SessionEntry {
            record: Box::new(record),
            addresses: TextAddresses::default(),
            asked: self.recheck.number,
            state,
        };
        self.active += usize::from(state == SessionState::Active);
        self.by_key.insert(key, entry);
    }

    /// Returns the session of a client that is connected, unless a newer client has taken it over.
    pub(crate) fn connected(&self, key: ClientKey, client: &impl ClientView) -> Option<&Session> {
        let entry = self.by_key.get(&key)?;
        let session = &entry.record.session;
        let is_newest = self.by_id.get(&session.client_id) == Some(&key);
        (entry.state == SessionState::Active && entry.is(client) && is_newest).then_some(session)
    }

    /// Whether this client is connected, and no newer client has taken its client ID over.
    pub(crate) fn is_connected(&self, key: ClientKey, client_id: &str) -> bool {
        let entry = self.by_key.get(&key);
        entry.is_some_and(|entry| entry.state == SessionState::Active)
            && self.by_id.get(client_id) == Some(&key)
    }

    /// Returns the filters of a client that its rights never allow it to subscribe to, and forgets them.
    pub(crate) fn take_denied_filters(&mut self, key: ClientKey, now: Unix) -> Vec<Box<str>> {
        let Some(entry) = self.by_key.get_mut(&key) else {
            return Vec::new();
        };
        let Session {
            rights, filters, ..
        } = &mut entry.record.session;
        let allowed = |filter: &str| !denies_for_good(rights, filter, now);
        filters.take_denied(allowed)
    }

    /// Notes that a client is being asked for its credential, and has not come in. Until it does, it is certain that
    /// nobody let it in.
    pub(crate) fn never_came_in(&mut self, key: ClientKey, client: &impl ClientView) {
        self.arrives(key);
        self.dropped.note(key, client);
    }

    /// Gives a session other rights, until another time. What was refused before may be reported again.
    pub(crate) fn renew(&mut self, key: ClientKey, rights: Rights, until: Unix, ending: Ending) {
        let Some(entry) = self.by_key.get_mut(&key) else {
            return;
        };
        entry.record.session.rights = rights;
        entry.record.session.until = until;
        entry.record.session.ending = ending;
        entry.record.reported = ReportedRefusals::default();
        self.expiries.insert(key, &entry.record.session);
    }

    /// Takes an admission back, because the client hung up before. The older session of its client ID counts again.
    pub(crate) fn retract(&mut self, key: ClientKey, older: Option<ClientKey>) {
        let Some(entry) = self.by_key.get(&key) else {
            return;
        };
        let client_id = Arc::clone(&entry.record.session.client_id);
        self.take(key);
        if let Some(older) = older
            && self
                .by_key
                .get(&older)
                .is_some_and(|entry| entry.record.session.client_id == client_id)
        {
            self.by_id.entry(client_id).or_insert(older);
            self.set_superseded(older, false);
        }
    }

    fn set_superseded(&mut self, key: ClientKey, superseded: bool) {
        if let Some(entry) = self.by_key.get_mut(&key) {
            entry.record.superseded = superseded;
        }
    }

    /// Returns whether a client of another account is connected with this client ID, or may have messages queued under
    /// it. `None` stands for a client without an account.
    pub(crate) fn is_held_by_another(&self, client_id: &str, account: Option<&Account>) -> bool {
        let holder = self.by_id.get(client_id);
        let held_by_session = holder
            .and_then(|key| self.by_key.get(key))
            .is_some_and(|entry| {
                Some(&entry.record.session.account) != account
                    && !entry.state.is_over()
                    && !entry.record.released
                    && entry.record.origin != SessionOrigin::Seized
            });
        held_by_session || account.is_some() && self.deferred.has_id(client_id)
    }

    /// Records that another plugin or the broker decides about this client. If this may be a recheck of a kept session,
    /// whose end the broker does not tell, it is not recorded.
    pub(crate) fn defer(&mut self, key: ClientKey, client_id: &str, origin: Origin) {
        if !origin.may_be_recheck() || self.deferred.has(key) {
            self.deferred.insert(key, client_id);
        }
    }

    /// Returns whether another plugin or the broker let this client in.
    pub(crate) fn is_deferred(&self, key: ClientKey) -> bool {
        self.deferred.has(key)
    }

    /// Whether this client was let in once and its session is dropped. It has no rights then.
    pub(crate) fn is_forgotten(&self, key: ClientKey, client: &impl ClientView) -> bool {
        self.dropped.has(key, client)
    }

    /// Returns the session of a client that is connected. Returns `None` if the client is not the one that signed in.
    #[inline(always)]
    pub(crate) fn look_at_connected(
        &mut self,
        key: ClientKey,
        client: &impl ClientView,
    ) -> Option<SessionView<'_>> {
        let entry = self.by_key.get_mut(&key)?;
        let is_active = entry.state == SessionState::Active && entry.recognises(client);
        is_active.then(|| entry.found(true))
    }

    /// Calls `at` with the session of a client, which may be away. Returns `None` if the client is not the one that
    /// signed in, or if its rights have to be made again.
    pub(crate) fn look<R>(
        &mut self,
        key: ClientKey,
        client: &impl ClientView,
        at: impl FnOnce(SessionView<'_>) -> R,
    ) -> Option<R> {
        if let Some(entry) = self.by_key.get_mut(&key) {
            if entry.state == SessionState::Active {
                return entry.recognises(client).then(|| at(entry.found(true)));
            }
            if matches!(entry.state, SessionState::Offline(_)) {
                self.recheck.asks_about_absent = true;
            }
            let is_known = entry.is(client) && !entry.is_outdated(self.round);
            return is_known.then(|| at(entry.found(false)));
        }
        self.publisher_of_retained(client).map(at)
    }

    /// Finds the publisher of a retained message. With `check_retain_source` the broker asks about it with a key that
    /// is made up for the question. What it published was granted in time.
    #[cold]
    fn publisher_of_retained(&mut self, client: &impl ClientView) -> Option<SessionView<'_>> {
        // The broker asks about some things on behalf of no connection.
        if client.is_connected() {
            return None;
        }
        let key = self
            .by_id
            .get(std::str::from_utf8(client.client_id()).ok()?)?;
        let entry = self.by_key.get_mut(key)?;
        let is_known = entry.is(client) && !entry.is_outdated(self.round);
        is_known.then(|| entry.found(false))
    }

    /// Records that a client has gone. The broker may still check its will. Returns what it signed in with, unless it
    /// is back with the same: at a takeover the end of the older connection comes after the newer one is in.
    pub(crate) fn leave(
        &mut self,
        key: ClientKey,
        after_disconnect: AfterDisconnect,
    ) -> Option<Fingerprint> {
        self.deferred.leave(key);
        let entry = self.by_key.get_mut(&key)?;
        // A kept session that is taken over leaves a second time.
        if entry.is_unsure() {
            self.unsure.remove_one();
        }
        entry.record.departure = 0;
        self.active -= usize::from(entry.state == SessionState::Active);
        entry.state = SessionState::Leaving(after_disconnect);
        self.departed.push(key);
        let credential = entry.record.session.credential;
        let newest = self.by_id.get(&entry.record.session.client_id);
        if entry.state.is_over() && newest == Some(&key) {
            let client_id = &entry.record.session.client_id;
            self.ended.push(Arc::clone(client_id));
        }
        let is_back = newest
            .filter(|newest| **newest != key)
            .is_some_and(|newest| {
                let newest = self.by_key.get(newest);
                newest.is_some_and(|newest| newest.record.session.credential == credential)
            });
        (!is_back).then_some(credential)
    }

    /// Removes the sessions that have ended. Call it while the broker is not disconnecting a client. Returns whether so
    /// many are gone that memory should be returned to the system.
    pub(crate) fn reap(&mut self, now: Unix) -> bool {
        for key in std::mem::take(&mut self.departed) {
            let Some(entry) = self.by_key.get_mut(&key) else {
                continue;
            };
            let superseded = self.by_id.get(&entry.record.session.client_id) != Some(&key);
            match entry.state {
                // An older session whose DISCONNECT is still to come (2.0 with websockets).
                SessionState::Active => {}
                SessionState::Leaving(AfterDisconnect::Ended) => self.remove(key),
                _ if superseded => self.drop_from_table(key),
                SessionState::Leaving(after_disconnect) => {
                    entry.state = SessionState::Offline(after_disconnect);
                    self.departures += 1;
                    let number = self.departures;
                    let departure = Departure { number, key };
                    match after_disconnect {
                        AfterDisconnect::Unsure => {
                            entry.record.departure = number;
                            let account = entry.record.session.account.clone();
                            self.unsure.insert(account, departure);
                        }
                        AfterDisconnect::Will => {
                            entry.record.departure = number;
                            self.wills.insert(departure, now);
                        }
                        AfterDisconnect::Kept | AfterDisconnect::Ended => {}
                    }
                }
                SessionState::Offline(_) => {}
            }
        }
        self.deferred.reap();
        while let Some(departure) = self.unsure.pop_beyond_limit() {
            if departure.is_current(&self.by_key) {
                self.drop_from_table(departure.key);
            }
        }
        while let Some(key) = self.wills.pop_over(&self.by_key, now) {
            self.drop_from_table(key);
        }
        self.give_back()
    }

    /// Returns some of the sessions of which only a will is left, in turn. Where the broker says which clients it has,
    /// it shows whether it still has them.
    pub(crate) fn wills(&mut self) -> Vec<(ClientKey, Arc<str>)> {
        self.wills.take_turn(&self.by_key)
    }

    /// Returns the memory of a fleet that has gone. It runs at every tick, so it does nothing until there is much to
    /// return.
    fn give_back(&mut self) -> bool {
        let sessions = self.by_key.len();
        self.expiries.tidy(&self.by_key);
        self.unsure.tidy(&self.by_key);
        let room = self.by_key.capacity();
        if sessions >= room / 8 {
            return false;
        }
        self.by_key.shrink_to(2 * sessions);
        room > MUCH
    }

    /// Adjusts to a clock that was set by this many seconds: rights last as long as before, and so do waits. The rights
    /// of a restored session end when its token does: its client signed in by an earlier clock.
    pub(crate) fn clock_was_set(&mut self, by: i64) {
        let entries = self.by_key.values_mut();
        for entry in entries.filter(|entry| entry.record.origin != SessionOrigin::Restored) {
            entry.record.session.until = entry.record.session.until.moved(by);
        }
        self.expiries.clock_was_set(by);
        self.wills.clock_was_set(by);
    }

    /// Records that a client signs in with this key. Whoever had the key before is gone.
    pub(crate) fn arrives(&mut self, key: ClientKey) {
        self.remove(key);
        self.dropped.make_room(key);
    }

    /// Removes a session that the broker no longer has.
    pub(crate) fn remove(&mut self, key: ClientKey) {
        if let Some(client_id) = self.newest_id(key) {
            self.ended.push(client_id);
        }
        self.take(key);
    }

    /// Returns the client ID of a session that no newer one has replaced.
    fn newest_id(&self, key: ClientKey) -> Option<Arc<str>> {
        let client_id = &self.by_key.get(&key)?.record.session.client_id;
        (self.by_id.get(client_id) == Some(&key)).then(|| Arc::clone(client_id))
    }

    /// Returns the client IDs whose sessions have ended since the last call, for what is saved of them. Call it before
    /// a session is saved.
    pub(crate) fn take_ended(&mut self) -> Vec<Arc<str>> {
        std::mem::take(&mut self.ended)
    }

    /// Removes a session that the broker may still have.
    fn drop_from_table(&mut self, key: ClientKey) {
        if let Some(client_id) = self.newest_id(key) {
            self.ended.push(client_id);
        }
        if let Some(entry) = self.take(key) {
            self.dropped.keep(key, &entry.record.session, entry.asked);
        }
    }

    fn take(&mut self, key: ClientKey) -> Option<SessionEntry> {
        self.deferred.remove(key);
        let entry = self.by_key.remove(&key)?;
        if entry.is_unsure() {
            self.unsure.remove_one();
        }
        self.recheck.asked -= usize::from(entry.asked == self.recheck.number);
        self.active -= usize::from(entry.state == SessionState::Active);
        if self.by_id.get(&entry.record.session.client_id) == Some(&key) {
            self.by_id.remove(&entry.record.session.client_id);
        }
        Some(entry)
    }

    /// Returns how many clients are connected, and how many sessions of other clients there are.
    pub(crate) fn count(&self) -> (u64, u64) {
        let away = self.by_key.len() - self.active;
        (self.active as u64, away as u64)
    }

    /// Returns the number of sessions.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether there are no sessions.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }
}

#[cfg(test)]
mod tests;
