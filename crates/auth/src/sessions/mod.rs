//! Who is connected, with which rights, until when.
//!
//! A session is found by the broker's client pointer: a takeover delivers the old client's
//! DISCONNECT after the new one's sign-in, so a table by client id would lose the new one. But a
//! pointer is no identity either: it is reused. So client id and user name are compared at every
//! question, and whoever differs is a stranger.
//!
//! Life: `Active` → (DISCONNECT) → `Leaving`, in which the will still goes out, because every
//! broker up to 2.1.2 asks about it after DISCONNECT → at the next tick gone, or `Offline` if the
//! broker keeps the session and queues messages for it, or may send its will later.
//!
//! A session that leaves the table while the broker may still have it leaves a trace ([`dropped`]): on SIGHUP
//! nobody who was let in and is away may be refused. SIGHUP is also a recheck_pass: see [`Sessions::end_recheck`].
//!
//! One table for all instances of the plugin in a broker: a client id is the whole broker's. Clients that
//! are left to others are reported, too, as long as they are connected: their client ids are taken.

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
pub use reported::{Note, ReportedRefusals};

/// What a session is admitted with.
#[derive(Debug)]
pub struct Session {
    /// Its client id.
    pub client_id: Arc<str>,
    /// Its user name: from a verified claim, or one that the tenant checked.
    pub username: Arc<str>,
    /// Whose it is, which the user name need not tell.
    pub account: Account,
    /// What it may publish and subscribe.
    pub rights: Rights,
    /// When that ends.
    pub until: Unix,
    /// What it signed in with. The broker asks again on SIGHUP, with the same.
    pub credential: Fingerprint,
}

/// What becomes of a session whose client has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterDisconnect {
    /// The broker forgets it.
    Ended,
    /// The broker keeps it and queues messages.
    Kept,
    /// One of the two: 2.0 does not tell an MQTT 5 client's Session Expiry Interval.
    Unsure,
    /// The broker queues nothing for it, but may send its will later (Will Delay Interval).
    Will,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SessionState {
    Active,
    Leaving(AfterDisconnect),
    Offline(AfterDisconnect),
}

struct SessionEntry {
    session: Session,
    state: SessionState,
    reported: ReportedRefusals,
    /// Where the broker kept client ID and user name when they were last compared. Zeros if they have not been
    /// compared since the last CONNECT.
    addresses: TextAddresses,
    /// Which departure it is, of those after which the broker may forget the session without a word.
    departure: Option<u64>,
    /// At which recheck_pass the broker asked about it last.
    asked: u32,
}

/// How many sessions of which it is unsure that the broker still has them are kept. `mosquitto_pub -V 5`
/// in a cron job makes a new one every time. Beyond that the oldest of the account with the most go, so
/// that nobody makes others' go; a trace of them stays.
const MAX_UNSURE: usize = 10_000;

/// The longest that a will may be delayed, in seconds, where the broker does not say when it has gone (2.0).
const LONGEST_DELAY: u64 = 3600;

/// How many wills are looked after at a tick.
const WILLS_AT_A_TICK: usize = 64;

/// So much room given back is worth a look at the heap as a whole.
const MUCH: usize = 1000;

impl SessionState {
    /// Whether nothing waits for it any more.
    fn is_over(self) -> bool {
        use AfterDisconnect::{Ended, Will};
        matches!(
            self,
            Self::Leaving(Ended | Will) | Self::Offline(Ended | Will)
        )
    }
}

impl SessionEntry {
    /// Whether it is one of those of which it is unsure that the broker keeps them.
    fn is_unsure(&self) -> bool {
        self.state == SessionState::Offline(AfterDisconnect::Unsure)
    }

    /// Whether this is who signed in, for a session that is [`SessionState::Active`]. The texts are compared at the first
    /// message; while the client is connected the broker keeps no other texts in the same places.
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

    /// Whether this is who signed in.
    fn is(&self, client: &impl ClientView) -> bool {
        client.is(&self.session.client_id, &self.session.username)
    }

    /// It as it stands at a question.
    #[inline]
    fn found(&mut self, connected: bool) -> SessionView<'_> {
        SessionView {
            connected,
            session: &mut self.session,
            reported: &mut self.reported,
        }
    }
}

/// The table of sessions.
#[derive(Default)]
pub struct Sessions {
    /// Boxed: up to half of a hash table is empty room.
    by_key: HashMap<ClientKey, Box<SessionEntry>, BuildHasherDefault<AddressHasher>>,
    by_id: HashMap<Arc<str>, ClientKey>,
    expiries: BinaryHeap<Reverse<(Unix, ClientKey)>>,
    departed: Vec<ClientKey>,
    departures: u64,
    /// Departures of each account in their order; one is over when its entry is no longer the same.
    unsure: HashMap<Account, VecDeque<(u64, ClientKey)>>,
    unsure_kept: usize,
    /// Departures with nothing left but a will, and until when that is waited for.
    wills: VecDeque<(u64, Unix, ClientKey)>,
    /// Clients that others let in, and those of them that have gone.
    others: HashMap<ClientKey, Arc<str>, BuildHasherDefault<AddressHasher>>,
    others_by_id: HashMap<Arc<str>, ClientKey>,
    others_departed: Vec<ClientKey>,
    /// What was in the table.
    dropped: DroppedSessions,
    recheck_pass: Recheck,
}

/// The questions that SIGHUP brings: the broker asks about every session that it has.
#[derive(Default)]
struct Recheck {
    number: u32,
    under_way: bool,
    /// Whether this broker asks about sessions whose clients are away. With `per_listener_settings true` 2.0.12
    /// and later do not: they refuse them.
    asks_about_absent: bool,
}

/// A session as it stands at a question.
pub struct SessionView<'a> {
    /// Its terms.
    pub session: &'a mut Session,
    /// Which refusals were reported.
    pub reported: &'a mut ReportedRefusals,
    /// Whether it is connected: then its rights end at [`Session::until`]. One that leaves sends its will,
    /// then or later, and the broker asks again about its subscriptions: both were granted in time. What is
    /// queued for it is asked about again when it is back.
    pub connected: bool,
}

impl Sessions {
    /// Admits a client. An older session of its client id stays until the broker lets it go; which
    /// that is, is returned for [`Self::retract`].
    pub fn admit(&mut self, key: ClientKey, session: Session) -> Option<ClientKey> {
        self.arrives(key);
        let older = self.by_id.insert(Arc::clone(&session.client_id), key);
        if let Some(older) = older {
            // Usually its DISCONNECT follows; an expired session of the broker's gives none.
            self.departed.push(older);
        }
        self.expiries.push(Reverse((session.until, key)));
        self.by_key.insert(
            key,
            Box::new(SessionEntry {
                session,
                state: SessionState::Active,
                reported: ReportedRefusals::default(),
                addresses: TextAddresses::default(),
                departure: None,
                asked: self.recheck_pass.number,
            }),
        );
        older
    }

    /// Takes an admission back: the client had hung up before it was let in. The older session of its
    /// client id is the one again.
    pub fn retract(&mut self, key: ClientKey, older: Option<ClientKey>) {
        let Some(entry) = self.by_key.get(&key) else {
            return;
        };
        let client_id = Arc::clone(&entry.session.client_id);
        self.remove(key);
        if let Some(older) = older
            && self
                .by_key
                .get(&older)
                .is_some_and(|entry| entry.session.client_id == client_id)
        {
            self.by_id.entry(client_id).or_insert(older);
        }
    }

    /// Whether somebody else than this account holds this client id: is connected with it, or may have
    /// messages waiting under it. `None` is somebody who is no account's.
    pub fn is_held_by_another(&self, client_id: &str, account: Option<&Account>) -> bool {
        let holder = self.by_id.get(client_id);
        let ours = holder
            .and_then(|key| self.by_key.get(key))
            .is_some_and(|entry| Some(&entry.session.account) != account && !entry.state.is_over());
        ours || account.is_some() && self.others_by_id.contains_key(client_id)
    }

    /// Others are to decide about this client. `again` says that it may be no CONNECT (SIGHUP): then it may
    /// be a kept session, of whose end nobody tells, and is none that comes.
    pub fn other_comes(&mut self, key: ClientKey, client_id: &str, again: bool) {
        if again && !self.is_other(key) {
            return;
        }
        self.forget_other(key);
        let client_id: Arc<str> = client_id.into();
        self.others_by_id.insert(Arc::clone(&client_id), key);
        self.others.insert(key, client_id);
    }

    /// Whether others were to decide about this client.
    pub fn is_other(&self, key: ClientKey) -> bool {
        self.others.contains_key(&key)
    }

    fn forget_other(&mut self, key: ClientKey) {
        if let Some(client_id) = self.others.remove(&key)
            && self.others_by_id.get(&client_id) == Some(&key)
        {
            self.others_by_id.remove(&client_id);
        }
    }

    /// Whether this is the broker asking again about somebody who is in: the same pointer, client
    /// id, user name (the one we gave) and credential. Anyone who can present all of them could
    /// have signed in; whether the rights have ended is in the answer.
    ///
    /// `credential` is `None` where the broker certainly asks about a session that it has: then nobody presents any.
    ///
    /// `again` says that the broker may be asking again at all (SIGHUP). Otherwise an offline
    /// session's pointer is a new connection at an address that became free: the broker frees such
    /// sessions without a word.
    pub fn recheck(
        &mut self,
        key: ClientKey,
        client_id: &str,
        username: Option<&str>,
        credential: Option<Fingerprint>,
        again: bool,
        now: Unix,
    ) -> Option<bool> {
        let recheck_pass = self.recheck_pass.number;
        let Some(entry) = self.by_key.get_mut(&key) else {
            let client = Client {
                id: client_id,
                username,
                ..Client::default()
            };
            let recognised = again && self.dropped.recheck(key, &client, credential, recheck_pass);
            self.recheck_pass.asks_about_absent |= recognised;
            return recognised.then_some(true);
        };
        entry.addresses = TextAddresses::default();
        let session = &entry.session;
        let same = &*session.client_id == client_id
            && Some(&*session.username) == username
            && credential.is_none_or(|credential| session.credential == credential);
        if !same {
            return None;
        }
        if again {
            entry.asked = recheck_pass;
        }
        match entry.state {
            SessionState::Active => Some(now < session.until),
            // Refusing an offline session on SIGHUP makes 2.0 put it on its expiry list twice and
            // free it twice (fixed in 2.0.23). Keeping it is safe: it can only receive, and what it
            // receives is queued until its client signs in again.
            SessionState::Offline(_) if again => {
                self.recheck_pass.asks_about_absent = true;
                Some(true)
            }
            SessionState::Offline(_) | SessionState::Leaving(_) => None,
        }
    }

    /// Whether who asks was let in once and is out of the table: then it has no rights.
    pub fn is_forgotten(&self, key: ClientKey, client: &impl ClientView) -> bool {
        self.dropped.has(key, client)
    }

    /// SIGHUP: the broker begins to ask about every session that it has. Once for each instance of the plugin,
    /// before the first question.
    pub fn begin_recheck(&mut self) {
        if !self.recheck_pass.under_way {
            self.recheck_pass.under_way = true;
            self.recheck_pass.number += 1;
        }
    }

    /// The broker has asked about all: it no longer has the absent ones that it did not ask about. Their client
    /// ids are free; how many those are.
    ///
    /// Nobody is taken for gone unless the broker asks about the absent at all, and asked about everyone of whom
    /// it is known that they are connected: another plugin may answer in our place.
    pub fn end_recheck(&mut self) -> usize {
        if !std::mem::take(&mut self.recheck_pass.under_way) || !self.recheck_pass.asks_about_absent
        {
            return 0;
        }
        let recheck_pass = self.recheck_pass.number;
        let mut gone = Vec::new();
        for (key, entry) in &self.by_key {
            match entry.state {
                _ if entry.asked == recheck_pass => {}
                SessionState::Offline(_) => gone.push((*key, !entry.state.is_over())),
                SessionState::Active if self.by_id.get(&entry.session.client_id) == Some(key) => {
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

    /// Looks at the session behind a question; `None` if who asks is not who signed in.
    #[inline]
    pub fn look<R>(
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
                self.recheck_pass.asks_about_absent = true;
            }
            return entry.is(client).then(|| at(entry.found(false)));
        }
        self.source(client).map(at)
    }

    /// With check_retain_source the broker asks about the publisher of a retained message by a pointer
    /// made up for the question. What it published was granted in time, too.
    #[cold]
    fn source(&mut self, client: &impl ClientView) -> Option<SessionView<'_>> {
        // What the broker asks about on behalf of nobody's connection.
        if client.is_connected() {
            return None;
        }
        let key = self
            .by_id
            .get(std::str::from_utf8(client.client_id()).ok()?)?;
        let entry = self.by_key.get_mut(key)?;
        entry.is(client).then(|| entry.found(false))
    }

    /// The client has gone. Its will may still be asked about. What it signed in with is returned, unless
    /// it is back with the same: a takeover tells of the older connection's end when the newer one is in.
    pub fn leave(
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
        entry.departure = None;
        entry.state = SessionState::Leaving(after_disconnect);
        self.departed.push(key);
        let credential = entry.session.credential;
        let newest = self.by_id.get(&entry.session.client_id);
        let is_back = newest
            .filter(|newest| **newest != key)
            .is_some_and(|newest| {
                let newest = self.by_key.get(newest);
                newest.is_some_and(|newest| newest.session.credential == credential)
            });
        (!is_back).then_some(credential)
    }

    /// Forgets who has gone for good. For a moment when the broker is not in the middle of
    /// disconnecting somebody. Whether it was so many that the memory should be given back.
    pub fn reap(&mut self, now: Unix) -> bool {
        for key in std::mem::take(&mut self.departed) {
            let Some(entry) = self.by_key.get_mut(&key) else {
                continue;
            };
            let superseded = self.by_id.get(&entry.session.client_id) != Some(&key);
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
                            entry.departure = Some(departure);
                            let account = entry.session.account.clone();
                            let of = self.unsure.entry(account).or_default();
                            of.push_back((departure, key));
                            self.unsure_kept += 1;
                        }
                        AfterDisconnect::Will => {
                            entry.departure = Some(departure);
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
        entry.and_then(|entry| entry.departure) == Some(departure)
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
                // It came back, or went otherwise.
                Some(_) => {}
                None => drop(self.unsure.remove(&account)),
            }
        }
    }

    /// Some of those with nothing left but a will, in turn: whether the broker still has them can be seen
    /// where it says which clients it has.
    pub fn wills(&mut self) -> Vec<(ClientKey, Arc<str>)> {
        let mut found = Vec::new();
        for _ in 0..self.wills.len().min(WILLS_AT_A_TICK) {
            let Some(will @ (departure, _, key)) = self.wills.pop_front() else {
                break;
            };
            if self.is_departure(key, departure)
                && let Some(entry) = self.by_key.get(&key)
            {
                found.push((key, Arc::clone(&entry.session.client_id)));
                self.wills.push_back(will);
            }
        }
        found
    }

    /// Gives back the room of a fleet that has gone. Asked at every tick, so only once it is much.
    fn give_back(&mut self) -> bool {
        let sessions = self.by_key.len();
        if self.expiries.len() > 2 * sessions + 64 {
            self.expiries = self
                .by_key
                .iter()
                .map(|(key, entry)| Reverse((entry.session.until, *key)))
                .collect();
        }
        let departures: usize = self.unsure.values().map(VecDeque::len).sum();
        if departures > 2 * self.unsure_kept + 64 {
            let by_key = &self.by_key;
            self.unsure.retain(|_, of| {
                of.retain(|(departure, key)| {
                    by_key.get(key).and_then(|entry| entry.departure) == Some(*departure)
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

    /// The connected clients whose rights have ended, each once.
    pub fn expired(&mut self, now: Unix) -> Vec<(ClientKey, Arc<str>)> {
        let mut expired = Vec::new();
        while let Some(&Reverse((until, key))) = self.expiries.peek() {
            if until > now {
                break;
            }
            self.expiries.pop();
            // The heap is not told of departures: an entry may be stale.
            if let Some(entry) = self.by_key.get(&key)
                && entry.state == SessionState::Active
                && entry.session.until == until
                && self.by_id.get(&entry.session.client_id) == Some(&key)
            {
                expired.push((key, Arc::clone(&entry.session.client_id)));
            }
        }
        expired
    }

    /// The wall clock was set by this many seconds: rights end when they would have ended, and what is waited
    /// for is waited for as long.
    pub fn clock_was_set(&mut self, by: i64) {
        for entry in self.by_key.values_mut() {
            entry.session.until = entry.session.until.moved(by);
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

    /// A pointer that signs in anew is no longer whoever it was.
    pub fn arrives(&mut self, key: ClientKey) {
        self.remove(key);
        self.dropped.make_room(key);
    }

    /// The broker no longer has it.
    pub fn remove(&mut self, key: ClientKey) {
        self.take(key);
    }

    /// The broker may still have it.
    fn drop_from_table(&mut self, key: ClientKey) {
        if let Some(entry) = self.take(key) {
            self.dropped.keep(key, &entry.session, entry.asked);
        }
    }

    fn take(&mut self, key: ClientKey) -> Option<Box<SessionEntry>> {
        self.forget_other(key);
        let entry = self.by_key.remove(&key)?;
        self.unsure_kept -= usize::from(entry.is_unsure());
        if self.by_id.get(&entry.session.client_id) == Some(&key) {
            self.by_id.remove(&entry.session.client_id);
        }
        Some(entry)
    }

    /// How many sessions are remembered.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }
}

#[cfg(test)]
mod tests;
