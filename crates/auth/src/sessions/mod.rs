//! Who is connected, with which rights, and until when.
//!
//! A session is found by the [`ClientKey`] of its client. A table by client ID would lose the newer session at a
//! takeover, because the DISCONNECT of the old client comes after the new one has signed in. But the broker reuses
//! keys, so client ID and user name are compared at every check. A client that differs in one of them is unknown.
//!
//! A session is `Active` until DISCONNECT, then `Leaving`. While it is leaving the broker may still send the will,
//! because all versions up to 2.1.2 check it after DISCONNECT. At the next tick the session is removed, or becomes
//! `Offline` if the broker keeps it and queues messages for it, or may send its will later.
//!
//! On SIGHUP nobody who was let in and is away may be refused. So a session that is dropped from the table while the
//! broker may still have it leaves a trace ([`dropped`]). SIGHUP also shows which sessions the broker no longer has:
//! see [`Sessions::end_recheck`].
//!
//! All instances of the plugin in a broker share one table, because a client ID belongs to the whole broker. The table
//! also has the clients that others let in, as long as they are connected, because their client IDs are taken.

mod address_hasher;
mod dropped;
mod reported;

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    hash::BuildHasherDefault,
    sync::Arc,
};

use crate::{
    client::{Client, ClientKey, ClientView, TextAddresses},
    clock::Unix,
    identity::Account,
    secret::Fingerprint,
};
use acl::rights::Rights;
pub use address_hasher::AddressHasher;
use dropped::DroppedSessions;
pub(crate) use reported::{Note, ReportedRefusals};

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
    /// What the client signed in with. On SIGHUP the broker checks it again with the same.
    pub credential: Fingerprint,
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
    /// The number of the departure, if the broker may remove the session without a word.
    departure: Option<u64>,
}

/// The maximum number of sessions of which it is unsure that the broker keeps them. `mosquitto_pub -V 5` in a cron job
/// makes a new one every time. Beyond that the oldest of the account with the most are dropped, so that nobody
/// displaces the sessions of others. A trace of them stays.
const MAX_UNSURE: usize = 10_000;

/// The longest delay of a will, in seconds, where the broker does not say when it was sent (2.0).
const LONGEST_DELAY: u64 = 3600;

/// The number of wills to look after at a tick.
const WILLS_AT_A_TICK: usize = 64;

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

    /// Whether this is the client that signed in. The texts are compared once; afterwards it is enough that the broker
    /// still keeps them at the same addresses. Call it only where these cannot be the addresses of other texts by now:
    ///
    /// * for a client that is connected, because the broker tells when it goes;
    /// * for a session that the broker certainly rechecks. If the client is away, the broker may have freed the session
    ///   without a word. But every other client that signs in at its address brings a CONNECT, which removes the entry.
    ///   (The exception is extended authentication by another plugin. That client stays connected, as others have
    ///   decided, and gets no rights: at a message the texts are compared, because the session is not active.)
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
            session: &mut self.record.session,
            reported: &mut self.record.reported,
        }
    }
}

/// The table of sessions.
#[derive(Default)]
pub(crate) struct Sessions {
    by_key: HashMap<ClientKey, SessionEntry, BuildHasherDefault<AddressHasher>>,
    by_id: HashMap<Arc<str>, ClientKey>,
    expiries: BinaryHeap<Reverse<(Unix, ClientKey)>>,
    departed: Vec<ClientKey>,
    departures: u64,
    /// The departures of each account, in order. An entry is stale if its session has another departure now.
    unsure: HashMap<Account, VecDeque<(u64, ClientKey)>>,
    unsure_kept: usize,
    /// The departures after which only a will is left, and until when.
    wills: VecDeque<(u64, Unix, ClientKey)>,
    /// The clients that others let in, and those of them that have gone.
    others: HashMap<ClientKey, Arc<str>, BuildHasherDefault<AddressHasher>>,
    others_by_id: HashMap<Arc<str>, ClientKey>,
    others_departed: Vec<ClientKey>,
    /// Traces of sessions that were in the table.
    dropped: DroppedSessions,
    recheck: Recheck,
}

/// The recheck after a SIGHUP: the broker asks about every session that it has.
#[derive(Default)]
struct Recheck {
    number: u32,
    under_way: bool,
    /// How many sessions in the table have this number as [`SessionEntry::asked`].
    asked: usize,
    /// Whether this broker asks about sessions whose clients are away. With `per_listener_settings true` 2.0.12 and
    /// later do not: they refuse them.
    asks_about_absent: bool,
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
}

impl Sessions {
    /// Admits a client. Returns the older session of its client ID, for [`Self::retract`]. That session stays until the
    /// broker lets it go.
    pub(crate) fn admit(&mut self, key: ClientKey, session: Session) -> Option<ClientKey> {
        self.arrives(key);
        let older = self.by_id.insert(Arc::clone(&session.client_id), key);
        if let Some(older) = older {
            // Usually its DISCONNECT follows. If the session expired in the broker, none does.
            self.departed.push(older);
        }
        self.expiries.push(Reverse((session.until, key)));
        self.recheck.asked += 1;
        self.by_key.insert(
            key,
            SessionEntry {
                record: Box::new(SessionRecord {
                    session,
                    reported: ReportedRefusals::default(),
                    departure: None,
                }),
                addresses: TextAddresses::default(),
                asked: self.recheck.number,
                state: SessionState::Active,
            },
        );
        older
    }

    /// Takes an admission back, because the client hung up before. The older session of its client ID counts again.
    pub(crate) fn retract(&mut self, key: ClientKey, older: Option<ClientKey>) {
        let Some(entry) = self.by_key.get(&key) else {
            return;
        };
        let client_id = Arc::clone(&entry.record.session.client_id);
        self.remove(key);
        if let Some(older) = older
            && self
                .by_key
                .get(&older)
                .is_some_and(|entry| entry.record.session.client_id == client_id)
        {
            self.by_id.entry(client_id).or_insert(older);
        }
    }

    /// Whether a client of another account is connected with this client ID, or may have messages queued under it.
    /// `None` stands for a client without an account.
    pub(crate) fn is_held_by_another(&self, client_id: &str, account: Option<&Account>) -> bool {
        let holder = self.by_id.get(client_id);
        let ours = holder
            .and_then(|key| self.by_key.get(key))
            .is_some_and(|entry| {
                Some(&entry.record.session.account) != account && !entry.state.is_over()
            });
        ours || account.is_some() && self.others_by_id.contains_key(client_id)
    }

    /// Records that others decide about this client. With `may_be_recheck` this may be a recheck (SIGHUP) of a kept
    /// session, whose end the broker does not tell, and it is not recorded.
    pub(crate) fn other_comes(&mut self, key: ClientKey, client_id: &str, may_be_recheck: bool) {
        if may_be_recheck && !self.is_other(key) {
            return;
        }
        self.forget_other(key);
        let client_id: Arc<str> = client_id.into();
        self.others_by_id.insert(Arc::clone(&client_id), key);
        self.others.insert(key, client_id);
    }

    /// Whether others decided about this client.
    pub(crate) fn is_other(&self, key: ClientKey) -> bool {
        self.others.contains_key(&key)
    }

    fn forget_other(&mut self, key: ClientKey) {
        if let Some(client_id) = self.others.remove(&key)
            && self.others_by_id.get(&client_id) == Some(&key)
        {
            self.others_by_id.remove(&client_id);
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
            // Where nobody's rights have ended, those of this client have not.
            SessionState::Active => {
                let earliest = self.expiries.peek();
                earliest.is_some_and(|Reverse((until, _))| now < *until)
                    || now < entry.record.session.until
            }
            SessionState::Offline(_) => {
                self.recheck.asks_about_absent = true;
                true
            }
            SessionState::Leaving(_) => false,
        }
    }

    /// Returns whether a client that the broker asks about is in already, and whether its rights last. `None` if it is
    /// not in: key, client ID, user name (the one that it was given) and credential must be the same. Anyone who has
    /// all of them could sign in.
    ///
    /// With `may_be_recheck` this may be a recheck (SIGHUP). Otherwise the key of an offline session belongs to a new
    /// connection in memory that was freed: the broker frees such sessions without a word.
    pub(crate) fn recheck(
        &mut self,
        key: ClientKey,
        client_id: &str,
        username: Option<&str>,
        credential: Fingerprint,
        may_be_recheck: bool,
        now: Unix,
    ) -> Option<bool> {
        let client = Client {
            id: client_id,
            username,
            ..Client::default()
        };
        let Some(entry) = self.by_key.get_mut(&key) else {
            let kept = may_be_recheck && self.recheck_dropped(key, &client, Some(credential));
            return kept.then_some(true);
        };
        entry.addresses = TextAddresses::default();
        if !entry.is(&client) || entry.record.session.credential != credential {
            return None;
        }
        if may_be_recheck {
            self.recheck.asked_about(entry);
        }
        match entry.state {
            SessionState::Active => Some(now < entry.record.session.until),
            // Refusing an offline session on SIGHUP makes 2.0 put it on its expiry list twice and
            // free it twice (fixed in 2.0.23). Keeping it is safe: it can only receive, and what it
            // receives is queued until its client signs in again.
            SessionState::Offline(_) if may_be_recheck => {
                self.recheck.asks_about_absent = true;
                Some(true)
            }
            SessionState::Offline(_) | SessionState::Leaving(_) => None,
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

    /// Whether this client was let in once and its session is dropped. It has no rights then.
    pub(crate) fn is_forgotten(&self, key: ClientKey, client: &impl ClientView) -> bool {
        self.dropped.has(key, client)
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

    /// Ends a recheck. The broker no longer has the absent sessions that it did not ask about, so their client IDs are
    /// free. Returns how many these are.
    ///
    /// No session is removed unless the broker asks about absent sessions at all, and asked about every session that is
    /// known to be connected. Otherwise another plugin may have answered first.
    pub(crate) fn end_recheck(&mut self) -> usize {
        if !std::mem::take(&mut self.recheck.under_way) || !self.recheck.asks_about_absent {
            return 0;
        }
        let recheck_pass = self.recheck.number;
        if self.recheck.asked == self.by_key.len() {
            // All of them. To look at each would take as long as the recheck did.
            self.dropped.keep_only(recheck_pass);
            return 0;
        }
        let mut gone = Vec::new();
        for (key, entry) in &self.by_key {
            match entry.state {
                _ if entry.asked == recheck_pass => {}
                SessionState::Offline(_) => gone.push((*key, !entry.state.is_over())),
                SessionState::Active
                    if self.by_id.get(&entry.record.session.client_id) == Some(key) =>
                {
                    return 0;
                }
                SessionState::Active | SessionState::Leaving(_) => {}
            }
        }
        self.dropped.keep_only(recheck_pass);
        for (key, _) in &gone {
            self.remove(*key);
        }
        gone.iter().filter(|(_, held)| *held).count()
    }

    /// Calls `at` with the session of a client. Returns `None` if the client is not the one that signed in.
    #[inline]
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
            return entry.is(client).then(|| at(entry.found(false)));
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
        entry.is(client).then(|| entry.found(false))
    }

    /// Records that a client has gone. The broker may still check its will. Returns what it signed in with, unless it
    /// is back with the same: at a takeover the end of the older connection comes after the newer one is in.
    pub(crate) fn leave(
        &mut self,
        key: ClientKey,
        after_disconnect: AfterDisconnect,
    ) -> Option<Fingerprint> {
        if self.is_other(key) {
            self.others_departed.push(key);
        }
        let entry = self.by_key.get_mut(&key)?;
        // A kept session that is taken over leaves a second time.
        self.unsure_kept -= usize::from(entry.is_unsure());
        entry.record.departure = None;
        entry.state = SessionState::Leaving(after_disconnect);
        self.departed.push(key);
        let credential = entry.record.session.credential;
        let newest = self.by_id.get(&entry.record.session.client_id);
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
                    let departure = self.departures;
                    match after_disconnect {
                        AfterDisconnect::Unsure => {
                            entry.record.departure = Some(departure);
                            let account = entry.record.session.account.clone();
                            let of = self.unsure.entry(account).or_default();
                            of.push_back((departure, key));
                            self.unsure_kept += 1;
                        }
                        AfterDisconnect::Will => {
                            entry.record.departure = Some(departure);
                            let until = now.plus(LONGEST_DELAY);
                            self.wills.push_back((departure, until, key));
                        }
                        AfterDisconnect::Kept | AfterDisconnect::Ended => {}
                    }
                }
                SessionState::Offline(_) => {}
            }
        }
        for key in std::mem::take(&mut self.others_departed) {
            self.forget_other(key);
        }
        self.limit_unsure();
        while let Some(&(departure, until, key)) = self.wills.front() {
            let is_it = self.is_departure(key, departure);
            if is_it && now < until && self.wills.len() <= MAX_UNSURE {
                break;
            }
            if is_it {
                self.drop_from_table(key);
            }
            self.wills.pop_front();
        }
        self.give_back()
    }

    fn is_departure(&self, key: ClientKey, departure: u64) -> bool {
        let entry = self.by_key.get(&key);
        entry.and_then(|entry| entry.record.departure) == Some(departure)
    }

    fn limit_unsure(&mut self) {
        while self.unsure_kept > MAX_UNSURE {
            let most = self.unsure.iter().max_by_key(|(_, of)| of.len());
            let Some(account) = most.map(|(account, _)| account.clone()) else {
                return;
            };
            let oldest = self.unsure.get_mut(&account).and_then(VecDeque::pop_front);
            match oldest {
                Some((departure, key)) if self.is_departure(key, departure) => {
                    self.drop_from_table(key);
                }
                // It came back, or is gone.
                Some(_) => {}
                None => drop(self.unsure.remove(&account)),
            }
        }
    }

    /// Returns some of the sessions of which only a will is left, in turn. Where the broker says which clients it has,
    /// it shows whether it still has them.
    pub(crate) fn wills(&mut self) -> Vec<(ClientKey, Arc<str>)> {
        let mut found = Vec::new();
        for _ in 0..self.wills.len().min(WILLS_AT_A_TICK) {
            let Some(will @ (departure, _, key)) = self.wills.pop_front() else {
                break;
            };
            if self.is_departure(key, departure)
                && let Some(entry) = self.by_key.get(&key)
            {
                found.push((key, Arc::clone(&entry.record.session.client_id)));
                self.wills.push_back(will);
            }
        }
        found
    }

    /// Returns the memory of a fleet that has gone. It runs at every tick, so it does nothing until there is much to
    /// return.
    fn give_back(&mut self) -> bool {
        let sessions = self.by_key.len();
        if self.expiries.len() > 2 * sessions + 64 {
            self.expiries = self
                .by_key
                .iter()
                .map(|(key, entry)| Reverse((entry.record.session.until, *key)))
                .collect();
        }
        let departures: usize = self.unsure.values().map(VecDeque::len).sum();
        if departures > 2 * self.unsure_kept + 64 {
            let by_key = &self.by_key;
            self.unsure.retain(|_, of| {
                of.retain(|(departure, key)| {
                    by_key.get(key).and_then(|entry| entry.record.departure) == Some(*departure)
                });
                !of.is_empty()
            });
        }
        let room = self.by_key.capacity();
        if sessions >= room / 8 {
            return false;
        }
        self.by_key.shrink_to(2 * sessions);
        self.by_id.shrink_to(2 * sessions);
        room > MUCH
    }

    /// Returns the connected clients whose rights have ended, each of them once.
    pub(crate) fn expired(&mut self, now: Unix) -> Vec<(ClientKey, Arc<str>)> {
        let mut expired = Vec::new();
        while let Some(&Reverse((until, key))) = self.expiries.peek() {
            if until > now {
                break;
            }
            self.expiries.pop();
            // Departures do not change the heap, so an entry may be stale.
            if let Some(entry) = self.by_key.get(&key)
                && entry.state == SessionState::Active
                && entry.record.session.until == until
                && self.by_id.get(&entry.record.session.client_id) == Some(&key)
            {
                expired.push((key, Arc::clone(&entry.record.session.client_id)));
            }
        }
        expired
    }

    /// Adjusts to a clock that was set by this many seconds: rights last as long as before, and so do waits.
    pub(crate) fn clock_was_set(&mut self, by: i64) {
        for entry in self.by_key.values_mut() {
            entry.record.session.until = entry.record.session.until.moved(by);
        }
        self.expiries = self
            .expiries
            .drain()
            .map(|Reverse((until, key))| Reverse((until.moved(by), key)))
            .collect();
        for (_, until, _) in &mut self.wills {
            *until = until.moved(by);
        }
    }

    /// Records that a client signs in with this key. Whoever had the key before is gone.
    pub(crate) fn arrives(&mut self, key: ClientKey) {
        self.remove(key);
        self.dropped.make_room(key);
    }

    /// Removes a session that the broker no longer has.
    pub(crate) fn remove(&mut self, key: ClientKey) {
        self.take(key);
    }

    /// Removes a session that the broker may still have.
    fn drop_from_table(&mut self, key: ClientKey) {
        if let Some(entry) = self.take(key) {
            self.dropped.keep(key, &entry.record.session, entry.asked);
        }
    }

    fn take(&mut self, key: ClientKey) -> Option<SessionEntry> {
        self.forget_other(key);
        let entry = self.by_key.remove(&key)?;
        self.unsure_kept -= usize::from(entry.is_unsure());
        self.recheck.asked -= usize::from(entry.asked == self.recheck.number);
        if self.by_id.get(&entry.record.session.client_id) == Some(&key) {
            self.by_id.remove(&entry.record.session.client_id);
        }
        Some(entry)
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
