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
//! One table for all instances of the plugin in a broker: a client id is the whole broker's. Clients that
//! are left to others are noted, too, as long as they are connected: their client ids are taken.

mod asker;
mod noted;

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    hash::{BuildHasherDefault, Hasher},
    sync::Arc,
};

use crate::{clock::Unix, rights::Rights, secret::Fingerprint};
pub use asker::{Asker, Known, Places};
pub use noted::{Note, Noted};

/// The broker's pointer to a client, as a number: never followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Client(pub usize);

/// What a session is admitted with.
#[derive(Debug)]
pub struct Session {
    /// Its client id.
    pub client_id: Arc<str>,
    /// Its user name: from a verified claim, or one that the tenant checked.
    pub username: Arc<str>,
    /// Whose it is: the `sub` of the token, which the user name need not be.
    pub subject: Arc<str>,
    /// What it may publish and subscribe.
    pub rights: Rights,
    /// When that ends.
    pub until: Unix,
    /// What it signed in with. The broker asks again on SIGHUP, with the same.
    pub credential: Fingerprint,
}

/// What becomes of a session whose client has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Afterlife {
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
enum State {
    Active,
    Leaving(Afterlife),
    Offline(Afterlife),
}

struct Entry {
    session: Session,
    state: State,
    noted: Noted,
    /// Which departure it is, of those after which the broker may forget the session without a word.
    departure: Option<u64>,
}

/// How many sessions of which it is unsure that the broker still has them are kept. `mosquitto_pub -V 5`
/// in a cron job makes a new one every time. Beyond that the oldest of the account with the most go, so
/// that nobody makes others' go.
const MAX_UNSURE: usize = 10_000;

/// The longest that a will may be delayed, in seconds, where the broker does not say when it has gone (2.0).
const LONGEST_DELAY: u64 = 3600;

/// How many wills are looked after at a tick.
const WILLS_AT_A_TICK: usize = 64;

/// So much room given back is worth a look at the heap as a whole.
const MUCH: usize = 1000;

/// Hashes the broker's addresses. Nobody chooses them, so a multiplication will do, and a check at
/// every message is cheaper for it than with the standard library's hash.
#[derive(Default)]
pub struct Address(u64);

impl Hasher for Address {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("an address is one number")
    }

    fn write_usize(&mut self, address: usize) {
        let mixed = (address as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // The table looks at the lowest bits and at the highest seven.
        self.0 = mixed ^ (mixed >> 32);
    }
}

impl State {
    /// Whether nothing waits for it any more.
    fn is_over(self) -> bool {
        use Afterlife::{Ended, Will};
        matches!(
            self,
            Self::Leaving(Ended | Will) | Self::Offline(Ended | Will)
        )
    }
}

impl Entry {
    /// Whether it is one of those of which it is unsure that the broker keeps them.
    fn is_unsure(&self) -> bool {
        self.state == State::Offline(Afterlife::Unsure)
    }

    /// Whether this is who signed in.
    #[inline]
    fn is(&self, who: &impl Asker) -> bool {
        who.is(&self.session.client_id, &self.session.username)
    }

    /// It as it stands at a question.
    #[inline]
    fn found(&mut self, connected: bool) -> Found<'_> {
        Found {
            connected,
            session: &mut self.session,
            noted: &mut self.noted,
        }
    }
}

/// The table of sessions.
#[derive(Default)]
pub struct Sessions {
    /// Boxed: up to half of a hash table is empty room.
    by_client: HashMap<Client, Box<Entry>, BuildHasherDefault<Address>>,
    by_id: HashMap<Arc<str>, Client>,
    expiries: BinaryHeap<Reverse<(Unix, Client)>>,
    departed: Vec<Client>,
    departures: u64,
    /// Departures of each account in their order; one is over when its entry is no longer the same.
    unsure: HashMap<Arc<str>, VecDeque<(u64, Client)>>,
    unsure_kept: usize,
    /// Departures with nothing left but a will, and until when that is waited for.
    wills: VecDeque<(u64, Unix, Client)>,
    /// Clients that others let in, and those of them that have gone.
    others: HashMap<Client, Arc<str>, BuildHasherDefault<Address>>,
    others_by_id: HashMap<Arc<str>, Client>,
    others_departed: Vec<Client>,
}

/// A session as it stands at a question.
pub struct Found<'a> {
    /// Its terms.
    pub session: &'a mut Session,
    /// Which refusals were reported.
    pub noted: &'a mut Noted,
    /// Whether it is connected: then its rights end at [`Session::until`]. One that leaves sends its will,
    /// then or later, and the broker asks again about its subscriptions: both were granted in time. What is
    /// queued for it is asked about again when it is back.
    pub connected: bool,
}

impl Sessions {
    /// Admits a client. An older session of its client id stays until the broker lets it go; which
    /// that is, is returned for [`Self::retract`].
    pub fn admit(&mut self, client: Client, session: Session) -> Option<Client> {
        self.remove(client);
        let older = self.by_id.insert(Arc::clone(&session.client_id), client);
        if let Some(older) = older {
            // Usually its DISCONNECT follows; an expired session of the broker's gives none.
            self.departed.push(older);
        }
        self.expiries.push(Reverse((session.until, client)));
        self.by_client.insert(
            client,
            Box::new(Entry {
                session,
                state: State::Active,
                noted: Noted::default(),
                departure: None,
            }),
        );
        older
    }

    /// Takes an admission back: the client had hung up before it was let in. The older session of its
    /// client id is the one again.
    pub fn retract(&mut self, client: Client, older: Option<Client>) {
        let Some(entry) = self.by_client.get(&client) else {
            return;
        };
        let client_id = Arc::clone(&entry.session.client_id);
        self.remove(client);
        if let Some(older) = older
            && self
                .by_client
                .get(&older)
                .is_some_and(|entry| entry.session.client_id == client_id)
        {
            self.by_id.entry(client_id).or_insert(older);
        }
    }

    /// Whether somebody else than this account holds this client id: is connected with it, or may have
    /// messages waiting under it. `None` is somebody who is no account's.
    pub fn is_held_by_another(&self, client_id: &str, subject: Option<&str>) -> bool {
        let holder = self.by_id.get(client_id);
        let ours = holder
            .and_then(|client| self.by_client.get(client))
            .is_some_and(|entry| {
                Some(&*entry.session.subject) != subject && !entry.state.is_over()
            });
        ours || subject.is_some() && self.others_by_id.contains_key(client_id)
    }

    /// Others are to decide about this client. `again` says that it may be no CONNECT (SIGHUP): then it may
    /// be a kept session, of whose end nobody tells, and is none that comes.
    pub fn other_comes(&mut self, client: Client, client_id: &str, again: bool) {
        if again && !self.is_other(client) {
            return;
        }
        self.forget_other(client);
        let client_id: Arc<str> = client_id.into();
        self.others_by_id.insert(Arc::clone(&client_id), client);
        self.others.insert(client, client_id);
    }

    /// Whether others were to decide about this client.
    pub fn is_other(&self, client: Client) -> bool {
        self.others.contains_key(&client)
    }

    fn forget_other(&mut self, client: Client) {
        if let Some(client_id) = self.others.remove(&client)
            && self.others_by_id.get(&client_id) == Some(&client)
        {
            self.others_by_id.remove(&client_id);
        }
    }

    /// Whether this is the broker asking again about somebody who is in: the same pointer, client
    /// id, user name (the one we gave) and credential. Anyone who can present all of them could
    /// have signed in; whether the rights have ended is in the answer.
    ///
    /// `again` says that the broker may be asking again at all (SIGHUP). Otherwise an offline
    /// session's pointer is a new connection at an address that became free: the broker frees such
    /// sessions without a word.
    pub fn recheck(
        &self,
        client: Client,
        client_id: &str,
        username: Option<&str>,
        credential: Fingerprint,
        again: bool,
        now: Unix,
    ) -> Option<bool> {
        let entry = self.by_client.get(&client)?;
        let session = &entry.session;
        let same = &*session.client_id == client_id
            && Some(&*session.username) == username
            && session.credential == credential;
        match entry.state {
            _ if !same => None,
            State::Active => Some(now < session.until),
            // Refusing an offline session on SIGHUP makes 2.0 put it on its expiry list twice and
            // free it twice (fixed in 2.0.23). Keeping it is safe: it can only receive, and what it
            // receives is queued until its client signs in again.
            State::Offline(_) if again => Some(true),
            State::Offline(_) | State::Leaving(_) => None,
        }
    }

    /// Looks at the session behind a question; `None` if who asks is not who signed in.
    #[inline]
    pub fn look<R>(
        &mut self,
        client: Client,
        who: &impl Asker,
        at: impl FnOnce(Found<'_>) -> R,
    ) -> Option<R> {
        if let Some(entry) = self.by_client.get_mut(&client) {
            let connected = entry.state == State::Active;
            return entry.is(who).then(|| at(entry.found(connected)));
        }
        self.source(who).map(at)
    }

    /// With check_retain_source the broker asks about the publisher of a retained message by a pointer
    /// made up for the question. What it published was granted in time, too.
    #[cold]
    fn source(&mut self, who: &impl Asker) -> Option<Found<'_>> {
        // What the broker asks about on behalf of nobody's connection.
        if who.is_connected() {
            return None;
        }
        let client = self.by_id.get(std::str::from_utf8(who.client_id()).ok()?)?;
        let entry = self.by_client.get_mut(client)?;
        entry.is(who).then(|| entry.found(false))
    }

    /// The client has gone. Its will may still be asked about. What it signed in with is returned, unless
    /// it is back with the same: a takeover tells of the older connection's end when the newer one is in.
    pub fn leave(&mut self, client: Client, afterlife: Afterlife) -> Option<Fingerprint> {
        if self.is_other(client) {
            self.others_departed.push(client);
        }
        let entry = self.by_client.get_mut(&client)?;
        // A kept session that is taken over leaves a second time.
        self.unsure_kept -= usize::from(entry.is_unsure());
        entry.departure = None;
        entry.state = State::Leaving(afterlife);
        self.departed.push(client);
        let credential = entry.session.credential;
        let newest = self.by_id.get(&entry.session.client_id);
        let is_back = newest
            .filter(|newest| **newest != client)
            .is_some_and(|newest| {
                let newest = self.by_client.get(newest);
                newest.is_some_and(|newest| newest.session.credential == credential)
            });
        (!is_back).then_some(credential)
    }

    /// Forgets who has gone for good. For a moment when the broker is not in the middle of
    /// disconnecting somebody. Whether it was so many that the memory should be given back.
    pub fn reap(&mut self, now: Unix) -> bool {
        for client in std::mem::take(&mut self.departed) {
            let Some(entry) = self.by_client.get_mut(&client) else {
                continue;
            };
            let superseded = self.by_id.get(&entry.session.client_id) != Some(&client);
            match entry.state {
                // An older session whose DISCONNECT is still to come (2.0 with websockets).
                State::Active => {}
                _ if superseded => self.remove(client),
                State::Leaving(Afterlife::Ended) => self.remove(client),
                State::Leaving(afterlife) => {
                    entry.state = State::Offline(afterlife);
                    self.departures += 1;
                    let departure = self.departures;
                    match afterlife {
                        Afterlife::Unsure => {
                            entry.departure = Some(departure);
                            let subject = Arc::clone(&entry.session.subject);
                            let of = self.unsure.entry(subject).or_default();
                            of.push_back((departure, client));
                            self.unsure_kept += 1;
                        }
                        Afterlife::Will => {
                            entry.departure = Some(departure);
                            let until = now.plus(LONGEST_DELAY);
                            self.wills.push_back((departure, until, client));
                        }
                        Afterlife::Kept | Afterlife::Ended => {}
                    }
                }
                State::Offline(_) => {}
            }
        }
        for client in std::mem::take(&mut self.others_departed) {
            self.forget_other(client);
        }
        self.limit_unsure();
        while let Some(&(departure, until, client)) = self.wills.front() {
            let is_it = self.is_departure(client, departure);
            if is_it && now < until && self.wills.len() <= MAX_UNSURE {
                break;
            }
            if is_it {
                self.remove(client);
            }
            self.wills.pop_front();
        }
        self.give_back()
    }

    fn is_departure(&self, client: Client, departure: u64) -> bool {
        let entry = self.by_client.get(&client);
        entry.and_then(|entry| entry.departure) == Some(departure)
    }

    fn limit_unsure(&mut self) {
        while self.unsure_kept > MAX_UNSURE {
            let most = self.unsure.iter().max_by_key(|(_, of)| of.len());
            let Some(subject) = most.map(|(subject, _)| Arc::clone(subject)) else {
                return;
            };
            let oldest = self.unsure.get_mut(&subject).and_then(VecDeque::pop_front);
            match oldest {
                Some((departure, client)) if self.is_departure(client, departure) => {
                    self.remove(client);
                }
                // It came back, or went otherwise.
                Some(_) => {}
                None => drop(self.unsure.remove(&subject)),
            }
        }
    }

    /// Some of those with nothing left but a will, in turn: whether the broker still has them can be seen
    /// where it says which clients it has.
    pub fn wills(&mut self) -> Vec<(Client, Arc<str>)> {
        let mut found = Vec::new();
        for _ in 0..self.wills.len().min(WILLS_AT_A_TICK) {
            let Some(will @ (departure, _, client)) = self.wills.pop_front() else {
                break;
            };
            if self.is_departure(client, departure)
                && let Some(entry) = self.by_client.get(&client)
            {
                found.push((client, Arc::clone(&entry.session.client_id)));
                self.wills.push_back(will);
            }
        }
        found
    }

    /// Gives back the room of a fleet that has gone. Asked at every tick, so only once it is much.
    fn give_back(&mut self) -> bool {
        let sessions = self.by_client.len();
        if self.expiries.len() > 2 * sessions + 64 {
            self.expiries = self
                .by_client
                .iter()
                .map(|(client, entry)| Reverse((entry.session.until, *client)))
                .collect();
        }
        let departures: usize = self.unsure.values().map(VecDeque::len).sum();
        if departures > 2 * self.unsure_kept + 64 {
            let by_client = &self.by_client;
            self.unsure.retain(|_, of| {
                of.retain(|(departure, client)| {
                    by_client.get(client).and_then(|entry| entry.departure) == Some(*departure)
                });
                !of.is_empty()
            });
        }
        let room = self.by_client.capacity();
        if sessions >= room / 8 {
            return false;
        }
        self.by_client.shrink_to(2 * sessions);
        self.by_id.shrink_to(2 * sessions);
        room > MUCH
    }

    /// The connected clients whose rights have ended, each once.
    pub fn expired(&mut self, now: Unix) -> Vec<(Client, Arc<str>)> {
        let mut expired = Vec::new();
        while let Some(&Reverse((until, client))) = self.expiries.peek() {
            if until > now {
                break;
            }
            self.expiries.pop();
            // The heap is not told of departures: an entry may be stale.
            if let Some(entry) = self.by_client.get(&client)
                && entry.state == State::Active
                && entry.session.until == until
                && self.by_id.get(&entry.session.client_id) == Some(&client)
            {
                expired.push((client, Arc::clone(&entry.session.client_id)));
            }
        }
        expired
    }

    /// A pointer that signs in anew is no longer whoever it was.
    pub fn remove(&mut self, client: Client) {
        self.forget_other(client);
        let Some(entry) = self.by_client.remove(&client) else {
            return;
        };
        self.unsure_kept -= usize::from(entry.is_unsure());
        if self.by_id.get(&entry.session.client_id) == Some(&client) {
            self.by_id.remove(&entry.session.client_id);
        }
    }

    /// How many sessions are remembered.
    pub fn len(&self) -> usize {
        self.by_client.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.by_client.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::secret::Fingerprinter;

    const NOW: Unix = Unix(1000);

    fn known<'a>(client_id: &'a str, username: &'a str, connected: bool) -> Known<'a> {
        Known {
            client_id,
            username: Some(username),
            connected,
        }
    }

    struct Table {
        sessions: Sessions,
        prints: Fingerprinter,
    }

    impl Table {
        fn new() -> Self {
            Self {
                sessions: Sessions::default(),
                prints: Fingerprinter::new().unwrap(),
            }
        }

        fn admit(&mut self, client: usize, id: &str, until: u64) {
            self.admit_of(client, id, "s", until);
        }

        fn admit_of(&mut self, client: usize, id: &str, subject: &str, until: u64) {
            let session = Session {
                client_id: id.into(),
                username: format!("user-{id}").into(),
                subject: subject.into(),
                rights: Rights::default(),
                until: Unix(until),
                credential: self.prints.of(b"password"),
            };
            self.sessions.admit(Client(client), session);
        }

        /// Whether it is connected, if it is known.
        fn asks(&mut self, client: usize, who: &Known) -> Option<bool> {
            self.sessions
                .look(Client(client), who, |found| found.connected)
        }

        fn knows(&mut self, client: usize, id: &str) -> bool {
            self.asks(client, &known(id, &format!("user-{id}"), true))
                .is_some()
        }

        fn recheck(
            &self,
            client: usize,
            id: &str,
            password: &[u8],
            again: bool,
            now: u64,
        ) -> Option<bool> {
            self.sessions.recheck(
                Client(client),
                id,
                Some(&format!("user-{id}")),
                self.prints.of(password),
                again,
                Unix(now),
            )
        }
    }

    #[test]
    fn a_pointer_is_no_identity() {
        let mut table = Table::new();
        table.admit(1, "a", 2000);
        assert!(table.knows(1, "a"));
        assert!(!table.knows(2, "a"), "another pointer");
        assert!(!table.knows(1, "b"), "another client id");
        assert!(
            table.asks(1, &known("a", "user-b", true)).is_none(),
            "another user name"
        );
        let nameless = Known {
            username: None,
            ..known("a", "", true)
        };
        assert!(table.asks(1, &nameless).is_none());
    }

    #[test]
    fn a_client_id_is_held_while_there_is_something_to_hold() {
        let mut table = Table::new();
        assert!(!table.sessions.is_held_by_another("a", Some("other")));
        table.admit(1, "a", 2000);
        let held = |table: &Table| {
            assert!(
                !table.sessions.is_held_by_another("a", Some("s")),
                "its own"
            );
            table.sessions.is_held_by_another("a", Some("other"))
        };
        assert!(held(&table));
        for (afterlife, holds) in [
            (Afterlife::Kept, true),
            (Afterlife::Unsure, true),
            (Afterlife::Ended, false),
            (Afterlife::Will, false),
        ] {
            table.admit(1, "a", 2000);
            table.sessions.leave(Client(1), afterlife);
            assert_eq!(held(&table), holds, "{afterlife:?}, just gone");
            table.sessions.reap(Unix(0));
            assert_eq!(held(&table), holds, "{afterlife:?}");
        }
    }

    #[test]
    fn a_takeover_keeps_the_new_session_when_the_old_disconnect_comes_late() {
        let mut table = Table::new();
        table.admit(1, "a", 2000);
        table.admit(2, "a", 2000);
        assert!(table.knows(1, "a"), "its will is still to come");
        table.sessions.leave(Client(1), Afterlife::Kept);
        assert!(table.knows(1, "a"));
        table.sessions.reap(Unix(0));
        assert!(!table.knows(1, "a") && table.knows(2, "a"));
        assert_eq!(table.sessions.len(), 1);
    }

    #[test]
    fn a_takeover_with_the_same_credential_does_not_end_it() {
        let mut table = Table::new();
        table.admit(1, "a", 2000);
        table.admit(2, "a", 2000);
        assert_eq!(table.sessions.leave(Client(1), Afterlife::Ended), None);
        let last = table.sessions.leave(Client(2), Afterlife::Ended);
        assert_eq!(last, Some(table.prints.of(b"password")));
    }

    #[test]
    fn an_old_session_that_gives_no_disconnect_goes_too() {
        let mut table = Table::new();
        table.admit(1, "a", 2000);
        table.sessions.leave(Client(1), Afterlife::Kept);
        table.sessions.reap(Unix(0));
        table.admit(2, "a", 2000);
        table.sessions.reap(Unix(0));
        assert_eq!(table.sessions.len(), 1);
        assert!(table.knows(2, "a"));
    }

    #[test]
    fn the_will_of_a_client_is_known_until_the_next_tick() {
        let mut table = Table::new();
        table.admit(1, "a", 900);
        table.sessions.leave(Client(1), Afterlife::Ended);
        let connected = table.asks(1, &known("a", "user-a", true));
        assert_eq!(connected, Some(false), "cut off by its expiry, it says so");
        table.sessions.reap(Unix(0));
        assert!(table.sessions.is_empty());
    }

    #[test]
    fn an_offline_session_may_receive_whatever_the_hour_and_send_its_will() {
        for afterlife in [Afterlife::Kept, Afterlife::Unsure, Afterlife::Will] {
            let mut table = Table::new();
            table.admit(1, "a", 2000);
            table.sessions.leave(Client(1), afterlife);
            table.sessions.reap(Unix(0));
            let connected = table.asks(1, &known("a", "user-a", true));
            assert_eq!(connected, Some(false));
        }
    }

    #[test]
    fn a_will_is_waited_for_and_not_for_ever() {
        let mut table = Table::new();
        for i in 0..2 * WILLS_AT_A_TICK {
            table.admit(i, &format!("c{i}"), 1_000_000);
            table.sessions.leave(Client(i), Afterlife::Will);
        }
        table.admit(9999, "back", 1_000_000);
        table.sessions.leave(Client(9999), Afterlife::Will);
        table.sessions.reap(Unix(100));
        table.admit(9999, "back", 1_000_000);
        let mut seen = HashSet::new();
        for _ in 0..2 {
            let wills = table.sessions.wills();
            assert!(wills.len() <= WILLS_AT_A_TICK);
            seen.extend(wills.into_iter().map(|(client, _)| client.0));
        }
        assert!(
            (0..2 * WILLS_AT_A_TICK - 1).all(|i| seen.contains(&i)),
            "in turn"
        );
        assert!(!seen.contains(&9999), "it is back");
        table.sessions.reap(Unix(99 + LONGEST_DELAY));
        assert_eq!(table.sessions.len(), 2 * WILLS_AT_A_TICK + 1);
        table.sessions.reap(Unix(100 + LONGEST_DELAY));
        assert_eq!(table.sessions.len(), 1);
        assert!(table.sessions.wills.is_empty() && table.sessions.wills().is_empty());
    }

    /// A client that comes back is another pointer, and the broker tells of the old one's end again.
    #[test]
    fn coming_back_again_and_again_counts_as_one() {
        let mut table = Table::new();
        table.admit(0, "a", 2000);
        table.sessions.leave(Client(0), Afterlife::Unsure);
        table.sessions.reap(Unix(0));
        for i in 1..100 {
            table.admit(i, "a", 2000);
            table.sessions.leave(Client(i - 1), Afterlife::Unsure);
            table.sessions.reap(Unix(0));
            table.sessions.leave(Client(i), Afterlife::Unsure);
            table.sessions.reap(Unix(0));
            assert_eq!((table.sessions.len(), table.sessions.unsure_kept), (1, 1));
        }
        table.sessions.remove(Client(99));
        assert_eq!(table.sessions.unsure_kept, 0);
    }

    #[test]
    fn nobody_makes_another_one_s_kept_session_go() {
        let mut table = Table::new();
        table.admit_of(1, "meter", "victim", 2000);
        table.sessions.leave(Client(1), Afterlife::Unsure);
        for i in 2..MAX_UNSURE + 50 {
            table.admit_of(i, &format!("c{i}"), "attacker", 2000);
            table.sessions.leave(Client(i), Afterlife::Unsure);
            table.sessions.reap(Unix(0));
        }
        assert!(table.knows(1, "meter"));
        assert!(table.sessions.is_held_by_another("meter", Some("attacker")));
        assert!(!table.knows(2, "c2"));
    }

    #[test]
    fn a_client_id_of_somebody_whom_others_let_in_is_taken() {
        let mut table = Table::new();
        let held = |table: &Table| table.sessions.is_held_by_another("a", Some("s"));
        table.sessions.other_comes(Client(1), "a", false);
        assert!(held(&table) && table.sessions.is_other(Client(1)));
        assert!(
            !table.sessions.is_held_by_another("a", None),
            "theirs to decide"
        );
        table.sessions.leave(Client(1), Afterlife::Ended);
        assert!(
            table.sessions.is_other(Client(1)),
            "its will is still to come"
        );
        table.sessions.reap(Unix(0));
        assert!(!held(&table) && !table.sessions.is_other(Client(1)));
        table.sessions.other_comes(Client(2), "kept", true);
        assert!(!table.sessions.is_held_by_another("kept", Some("s")));
        // At the same address one of ours comes.
        table.sessions.other_comes(Client(1), "a", false);
        table.admit(1, "b", 2000);
        assert!(!held(&table) && table.sessions.others_by_id.is_empty());
        assert!(
            table.sessions.is_held_by_another("b", None),
            "ours is not for others"
        );
    }

    #[test]
    fn a_client_that_hung_up_leaves_the_older_session_as_it_was() {
        let mut table = Table::new();
        table.admit(1, "a", 1000);
        table.sessions.leave(Client(1), Afterlife::Kept);
        table.sessions.reap(Unix(0));
        let session = Session {
            client_id: "a".into(),
            username: "user-a".into(),
            subject: "s".into(),
            rights: Rights::default(),
            until: Unix(2000),
            credential: table.prints.of(b"password"),
        };
        let older = table.sessions.admit(Client(2), session);
        assert_eq!(older, Some(Client(1)));
        table.sessions.retract(Client(2), older);
        table.sessions.reap(Unix(0));
        assert!(
            table.knows(1, "a") && !table.knows(2, "a"),
            "its messages still wait for it"
        );
    }

    #[test]
    fn unsure_sessions_are_kept_up_to_a_number() {
        let mut table = Table::new();
        for i in 0..MAX_UNSURE + 5 {
            table.admit(i, &format!("c{i}"), 2000);
            table.sessions.leave(Client(i), Afterlife::Unsure);
            table.sessions.reap(Unix(0));
        }
        assert_eq!(table.sessions.len(), MAX_UNSURE);
        assert!(!table.knows(0, "c0") && table.knows(MAX_UNSURE, &format!("c{MAX_UNSURE}")));
    }

    #[test]
    fn a_recheck_needs_the_same_credential_and_living_rights() {
        let mut table = Table::new();
        table.admit(1, "a", 2000);
        for again in [false, true] {
            assert_eq!(table.recheck(1, "a", b"password", again, 1999), Some(true));
            assert_eq!(table.recheck(1, "a", b"password", again, 2000), Some(false));
            assert_eq!(table.recheck(1, "a", b"other", again, 1000), None);
            assert_eq!(table.recheck(2, "a", b"password", again, 1000), None);
            assert_eq!(table.recheck(1, "b", b"password", again, 1000), None);
        }
    }

    #[test]
    fn an_offline_session_is_rechecked_only_when_the_broker_asks_again() {
        let mut table = Table::new();
        table.admit(1, "a", 2000);
        table.sessions.leave(Client(1), Afterlife::Kept);
        table.sessions.reap(Unix(0));
        assert_eq!(
            table.recheck(1, "a", b"password", true, 3000),
            Some(true),
            "2.0 must not be made to drop it"
        );
        assert_eq!(
            table.recheck(1, "a", b"password", false, 1000),
            None,
            "a new connection at its address"
        );
    }

    #[test]
    fn departures_of_one_client_do_not_crowd_out_others() {
        let mut table = Table::new();
        table.admit(7, "durable", 2000);
        table.sessions.leave(Client(7), Afterlife::Kept);
        table.sessions.reap(Unix(0));
        for i in 0..3 * MAX_UNSURE {
            table.admit(i % 2, &format!("c{i}"), 2000);
            table.sessions.leave(Client(i % 2), Afterlife::Unsure);
            table.sessions.reap(Unix(0));
            // Its address is given to a session that is kept.
            if i == 5 {
                table.admit(0, "kept", 2000);
                table.sessions.leave(Client(0), Afterlife::Kept);
                table.sessions.reap(Unix(0));
                table.admit(3, "other", 2000);
            }
        }
        assert!(table.knows(7, "durable"));
        assert!(
            table.sessions.len() <= 5
                && table
                    .sessions
                    .unsure
                    .values()
                    .map(VecDeque::len)
                    .sum::<usize>()
                    < 200
        );
    }

    #[test]
    fn a_made_up_pointer_finds_its_session_only_off_line() {
        let mut table = Table::new();
        table.admit(1, "a", 2000);
        assert!(table.asks(99, &known("a", "user-a", false)).is_some());
        assert!(table.asks(99, &known("a", "user-b", false)).is_none());
        assert!(table.asks(99, &known("a", "user-a", true)).is_none());
    }

    #[test]
    fn each_session_expires_once_and_only_while_connected() {
        let mut table = Table::new();
        table.admit(1, "a", 1000);
        table.admit(2, "b", 1000);
        table.admit(3, "c", 1001);
        table.admit(4, "d", 900);
        table.admit(4, "d", 5000);
        table.sessions.leave(Client(2), Afterlife::Kept);
        assert_eq!(table.sessions.expired(NOW), [(Client(1), "a".into())]);
        assert!(table.sessions.expired(NOW).is_empty());
        assert_eq!(
            table.sessions.expired(Unix(1001)),
            [(Client(3), "c".into())]
        );
    }

    #[test]
    fn the_expiry_queue_does_not_grow_with_reconnects() {
        let mut table = Table::new();
        for _ in 0..10_000 {
            table.admit(1, "a", 5000);
            table.sessions.reap(Unix(0));
        }
        assert!(table.sessions.expiries.len() < 100);
    }

    #[test]
    fn a_fleet_that_has_gone_leaves_nothing_behind() {
        let mut table = Table::new();
        for i in 0..10_000 {
            table.admit(i, &format!("c{i}"), 5000);
        }
        for i in 0..10_000 {
            table.sessions.leave(Client(i), Afterlife::Ended);
        }
        table.sessions.reap(Unix(0));
        let left = &table.sessions;
        assert!(left.is_empty() && left.by_id.is_empty() && left.expiries.is_empty());
        assert!(left.by_client.capacity() < 100 && left.by_id.capacity() < 100);
    }
}
