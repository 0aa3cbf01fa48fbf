use std::{cell::Cell, collections::HashSet};

use super::{
    unsure::MAX_UNSURE,
    wills::{LONGEST_DELAY, WILLS_AT_A_TICK},
    *,
};
use crate::{client::Client, secret::Fingerprinter};

const NOW: Unix = Unix(1000);

fn known<'a>(client_id: &'a str, username: &'a str, connected: bool) -> Client<&'a str> {
    Client {
        id: client_id,
        username: Some(username),
        address: connected.then_some("192.0.2.1"),
        ..Client::default()
    }
}

struct Table {
    sessions: Sessions,
    prints: Fingerprinter,
    /// How sessions end that are admitted from now on.
    ending: Ending,
}

fn account(subject: &str) -> Account {
    Account {
        issuer: "https://tenant.example/".into(),
        subject: subject.into(),
    }
}

impl Table {
    fn new() -> Self {
        Self {
            sessions: Sessions::default(),
            prints: Fingerprinter::new().unwrap(),
            ending: Ending::default(),
        }
    }

    fn admit(&mut self, client: usize, id: &str, until: u64) {
        self.admit_of(client, id, "s", until);
    }

    fn admit_of(&mut self, client: usize, id: &str, subject: &str, until: u64) {
        let session = Session {
            client_id: id.into(),
            username: format!("user-{id}").into(),
            account: account(subject),
            rights: Rights::default(),
            until: Unix(until),
            ending: self.ending,
            credential: self.prints.of(b"password"),
            instance: InstanceId::default(),
            issuer: IssuerNumber::default(),
            is_by_method: false,
            filters: SubscribedFilters::default(),
            observed: None,
        };
        self.sessions.admit(ClientKey(client), session);
    }

    /// Returns whether the client is connected, if it is known.
    fn asks(&mut self, client: usize, who: &Client<&str>) -> Option<bool> {
        self.sessions
            .look(ClientKey(client), who, |found| found.connected)
    }

    /// Returns the client IDs of those whose rights have ended.
    fn expired(&mut self, now: u64, most: usize) -> Vec<String> {
        let ended = self.sessions.expired(Unix(now), most).into_iter();
        ended.map(|one| one.client_id.to_string()).collect()
    }

    fn knows(&mut self, client: usize, id: &str) -> bool {
        self.asks(client, &known(id, &format!("user-{id}"), true))
            .is_some()
    }

    fn recheck(
        &mut self,
        client_key: usize,
        id: &str,
        password: &[u8],
        origin: Origin,
        now: u64,
    ) -> RecheckAnswer {
        let credential = self.prints.of(password);
        let username = format!("user-{id}");
        let client = known(id, &username, false);
        let sessions = &mut self.sessions;
        sessions.recheck(
            ClientKey(client_key),
            &client,
            credential,
            origin,
            Unix(now),
        )
    }
}

#[test]
fn a_key_is_no_identity() {
    let mut table = Table::new();
    table.admit(1, "a", 2000);
    assert!(table.knows(1, "a"));
    assert!(!table.knows(2, "a"), "another pointer");
    assert!(!table.knows(1, "b"), "another client ID");
    assert!(
        table.asks(1, &known("a", "user-b", true)).is_none(),
        "another user name"
    );
    let nameless = Client {
        username: None,
        ..known("a", "", true)
    };
    assert!(table.asks(1, &nameless).is_none());
}

#[test]
fn a_client_id_is_held_while_there_is_something_to_hold() {
    let mut table = Table::new();
    assert!(
        !table
            .sessions
            .is_held_by_another("a", Some(&account("other")))
    );
    table.admit(1, "a", 2000);
    let held = |table: &Table| {
        assert!(
            !table.sessions.is_held_by_another("a", Some(&account("s"))),
            "its own"
        );
        table
            .sessions
            .is_held_by_another("a", Some(&account("other")))
    };
    assert!(held(&table));
    for (after_disconnect, holds) in [
        (AfterDisconnect::Kept, true),
        (AfterDisconnect::Unsure, true),
        (AfterDisconnect::Ended, false),
        (AfterDisconnect::Will, false),
    ] {
        table.admit(1, "a", 2000);
        table.sessions.leave(ClientKey(1), after_disconnect);
        assert_eq!(held(&table), holds, "{after_disconnect:?}, just gone");
        table.sessions.reap(Unix(0));
        assert_eq!(held(&table), holds, "{after_disconnect:?}");
    }
}

#[test]
fn a_takeover_keeps_the_new_session_when_the_old_disconnect_comes_late() {
    let mut table = Table::new();
    table.admit(1, "a", 2000);
    table.admit(2, "a", 2000);
    assert!(table.knows(1, "a"), "its will is still to come");
    table.sessions.leave(ClientKey(1), AfterDisconnect::Kept);
    assert!(table.knows(1, "a"));
    table.sessions.reap(Unix(0));
    assert!(!table.knows(1, "a") && table.knows(2, "a"));
    assert_eq!(table.sessions.len(), 1);
}

#[test]
fn the_broker_checks_the_will_of_a_client_that_is_taken_over_before_it_lets_it_go() {
    let mut table = Table::new();
    let superseded = |table: &mut Table, client| {
        let who = known("a", "user-a", true);
        let key = ClientKey(client);
        table.sessions.look(key, &who, |found| found.superseded)
    };
    table.admit(1, "a", 1000);
    assert_eq!(superseded(&mut table, 1), Some(false));
    table.admit(2, "a", 2000);
    assert_eq!(superseded(&mut table, 1), Some(true));
    assert_eq!(superseded(&mut table, 2), Some(false));
    table.sessions.retract(ClientKey(2), Some(ClientKey(1)));
    assert_eq!(
        superseded(&mut table, 1),
        Some(false),
        "it was not taken over"
    );
}

#[test]
fn a_takeover_with_the_same_credential_does_not_end_it() {
    let mut table = Table::new();
    table.admit(1, "a", 2000);
    table.admit(2, "a", 2000);
    assert_eq!(
        table.sessions.leave(ClientKey(1), AfterDisconnect::Ended),
        None
    );
    let last = table.sessions.leave(ClientKey(2), AfterDisconnect::Ended);
    assert_eq!(last, Some(table.prints.of(b"password")));
}

#[test]
fn an_old_session_without_a_disconnect_is_removed_too() {
    let mut table = Table::new();
    table.admit(1, "a", 2000);
    table.sessions.leave(ClientKey(1), AfterDisconnect::Kept);
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
    table.sessions.leave(ClientKey(1), AfterDisconnect::Ended);
    let connected = table.asks(1, &known("a", "user-a", true));
    assert_eq!(connected, Some(false), "cut off by its expiry, it says so");
    table.sessions.reap(Unix(0));
    assert!(table.sessions.is_empty());
}

#[test]
fn an_offline_session_may_receive_whatever_the_hour_and_send_its_will() {
    for after_disconnect in [
        AfterDisconnect::Kept,
        AfterDisconnect::Unsure,
        AfterDisconnect::Will,
    ] {
        let mut table = Table::new();
        table.admit(1, "a", 2000);
        table.sessions.leave(ClientKey(1), after_disconnect);
        table.sessions.reap(Unix(0));
        let connected = table.asks(1, &known("a", "user-a", true));
        assert_eq!(connected, Some(false));
    }
}

#[test]
fn a_session_waits_for_its_will_but_not_for_ever() {
    let mut table = Table::new();
    for i in 0..2 * WILLS_AT_A_TICK {
        table.admit(i, &format!("c{i}"), 1_000_000);
        table.sessions.leave(ClientKey(i), AfterDisconnect::Will);
    }
    table.admit(9999, "back", 1_000_000);
    table.sessions.leave(ClientKey(9999), AfterDisconnect::Will);
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
    assert!(table.sessions.wills.len() == 0 && table.sessions.wills().is_empty());
}

/// A client that comes back has another key, and the broker tells the end of the old one again.
#[test]
fn coming_back_again_and_again_counts_as_one() {
    let mut table = Table::new();
    table.admit(0, "a", 2000);
    table.sessions.leave(ClientKey(0), AfterDisconnect::Unsure);
    table.sessions.reap(Unix(0));
    for i in 1..100 {
        table.admit(i, "a", 2000);
        table
            .sessions
            .leave(ClientKey(i - 1), AfterDisconnect::Unsure);
        table.sessions.reap(Unix(0));
        table.sessions.leave(ClientKey(i), AfterDisconnect::Unsure);
        table.sessions.reap(Unix(0));
        assert_eq!((table.sessions.len(), table.sessions.unsure.len()), (1, 1));
    }
    table.sessions.remove(ClientKey(99));
    assert_eq!(table.sessions.unsure.len(), 0);
}

#[test]
fn no_account_displaces_the_kept_sessions_of_another() {
    let mut table = Table::new();
    table.admit_of(1, "meter", "victim", 2000);
    table.sessions.leave(ClientKey(1), AfterDisconnect::Unsure);
    for i in 2..MAX_UNSURE + 50 {
        table.admit_of(i, &format!("c{i}"), "attacker", 2000);
        table.sessions.leave(ClientKey(i), AfterDisconnect::Unsure);
        table.sessions.reap(Unix(0));
    }
    assert!(table.knows(1, "meter"));
    assert!(
        table
            .sessions
            .is_held_by_another("meter", Some(&account("attacker")))
    );
    assert!(!table.knows(2, "c2"));
}

#[test]
fn the_client_id_of_a_client_that_others_let_in_is_taken() {
    let mut table = Table::new();
    let held = |table: &Table| table.sessions.is_held_by_another("a", Some(&account("s")));
    table.sessions.defer(ClientKey(1), "a", Origin::Connect);
    assert!(held(&table) && table.sessions.is_deferred(ClientKey(1)));
    assert!(
        !table.sessions.is_held_by_another("a", None),
        "theirs to decide"
    );
    table.sessions.leave(ClientKey(1), AfterDisconnect::Ended);
    assert!(
        table.sessions.is_deferred(ClientKey(1)),
        "its will is still to come"
    );
    table.sessions.reap(Unix(0));
    assert!(!held(&table) && !table.sessions.is_deferred(ClientKey(1)));
    table.sessions.defer(ClientKey(2), "kept", Origin::Unknown);
    assert!(
        !table
            .sessions
            .is_held_by_another("kept", Some(&account("s")))
    );
    // One of our clients comes with the same key.
    table.sessions.defer(ClientKey(1), "a", Origin::Connect);
    table.admit(1, "b", 2000);
    assert!(!held(&table) && table.sessions.deferred.is_empty());
    assert!(
        table.sessions.is_held_by_another("b", None),
        "ours is not for others"
    );
}

#[test]
fn a_client_that_hung_up_leaves_the_older_session_as_it_was() {
    let mut table = Table::new();
    table.admit(1, "a", 1000);
    table.sessions.leave(ClientKey(1), AfterDisconnect::Kept);
    table.sessions.reap(Unix(0));
    let session = Session {
        client_id: "a".into(),
        username: "user-a".into(),
        account: account("s"),
        rights: Rights::default(),
        until: Unix(2000),
        ending: Ending::default(),
        credential: table.prints.of(b"password"),
        instance: InstanceId::default(),
        issuer: IssuerNumber::default(),
        is_by_method: false,
        filters: SubscribedFilters::default(),
        observed: None,
    };
    let older = table.sessions.admit(ClientKey(2), session);
    assert_eq!(older, Some(ClientKey(1)));
    table.sessions.retract(ClientKey(2), older);
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
        table.sessions.leave(ClientKey(i), AfterDisconnect::Unsure);
        table.sessions.reap(Unix(0));
    }
    assert_eq!(table.sessions.len(), MAX_UNSURE);
    assert!(!table.knows(0, "c0") && table.knows(MAX_UNSURE, &format!("c{MAX_UNSURE}")));
}

#[test]
fn a_recheck_needs_the_same_credential_and_living_rights() {
    let mut table = Table::new();
    table.admit(1, "a", 2000);
    for again in [Origin::Connect, Origin::Unknown] {
        assert_eq!(
            table.recheck(1, "a", b"password", again, 1999),
            RecheckAnswer::Keep
        );
        assert_eq!(
            table.recheck(1, "a", b"password", again, 2000),
            RecheckAnswer::RightsEnded
        );
        assert_eq!(
            table.recheck(1, "a", b"other", again, 1000),
            RecheckAnswer::NotSignedIn
        );
        assert_eq!(
            table.recheck(2, "a", b"password", again, 1000),
            RecheckAnswer::NotSignedIn
        );
        assert_eq!(
            table.recheck(1, "b", b"password", again, 1000),
            RecheckAnswer::NotSignedIn
        );
    }
}

/// A client, where its texts lie in the broker's memory, and how often they were read.
struct Rechecked {
    client: Client<&'static str>,
    addresses: TextAddresses,
    reads: Cell<usize>,
}

impl ClientView for Rechecked {
    fn client_id(&self) -> &[u8] {
        self.client.client_id()
    }

    fn username(&self) -> Option<&[u8]> {
        self.client.username()
    }

    fn is_connected(&self) -> bool {
        self.client.is_connected()
    }

    fn text_addresses(&self) -> TextAddresses {
        self.addresses
    }

    fn is(&self, client_id: &str, username: &str) -> bool {
        self.reads.set(self.reads.get() + 1);
        self.client.is(client_id, username)
    }
}

#[test]
fn a_certain_recheck_reads_the_texts_of_a_session_once() {
    let mut table = Table::new();
    let at = |id: &'static str, name: &'static str, address| Rechecked {
        client: known(id, name, false),
        addresses: TextAddresses {
            client_id: address,
            username: address + 1,
        },
        reads: Cell::new(0),
    };
    let stays = |table: &mut Table, client: &Rechecked, now| {
        table.sessions.stays(ClientKey(1), client, Unix(now))
    };
    let (a, moved) = (at("a", "user-a", 10), at("a", "user-a", 20));
    let (other_id, other_name) = (at("b", "user-a", 30), at("a", "user-b", 40));
    table.admit(1, "a", 2000);
    for _ in 0..3 {
        assert!(stays(&mut table, &a, 1999));
        assert!(!stays(&mut table, &a, 2000), "its rights have ended");
    }
    assert_eq!(a.reads.get(), 1);
    for other in [&other_id, &other_name] {
        assert!(!stays(&mut table, other, 1000));
    }
    assert!(stays(&mut table, &moved, 1000));
    assert_eq!(moved.reads.get(), 1, "the broker keeps them elsewhere");

    // Away, it is kept whatever the time is. While it leaves, the answer is left to the caller.
    table.sessions.leave(ClientKey(1), AfterDisconnect::Kept);
    assert!(!stays(&mut table, &moved, 1000));
    table.sessions.reap(Unix(0));
    assert!(stays(&mut table, &moved, 9000));
    assert_eq!(moved.reads.get(), 1);
    // A message on behalf of an absent client shows its texts.
    assert!(table.sessions.look(ClientKey(1), &moved, |_| ()).is_some());
    assert_eq!(moved.reads.get(), 2);

    // The texts were read when the client left.
    table.admit(1, "a", 2000);
    table.sessions.compare_texts(ClientKey(1), &moved);
    table.sessions.leave(ClientKey(1), AfterDisconnect::Kept);
    table.sessions.reap(Unix(0));
    assert_eq!(moved.reads.replace(0), 3);
    assert!(stays(&mut table, &moved, 9000));
    assert_eq!(moved.reads.get(), 0);

    // A client that signs in at the same addresses is another one.
    table.admit(1, "b", 2000);
    assert!(!stays(&mut table, &moved, 1000));
}

#[test]
fn an_offline_session_is_rechecked_only_when_the_broker_asks_again() {
    let mut table = Table::new();
    table.admit(1, "a", 2000);
    table.sessions.leave(ClientKey(1), AfterDisconnect::Kept);
    table.sessions.reap(Unix(0));
    assert_eq!(
        table.recheck(1, "a", b"password", Origin::Unknown, 3000),
        RecheckAnswer::Keep,
        "2.0 must not be made to drop it"
    );
    assert_eq!(
        table.recheck(1, "a", b"password", Origin::Connect, 1000),
        RecheckAnswer::NotSignedIn,
        "a new connection at its address"
    );
}

#[test]
fn departures_of_one_client_do_not_crowd_out_others() {
    let mut table = Table::new();
    table.admit(7, "durable", 2000);
    table.sessions.leave(ClientKey(7), AfterDisconnect::Kept);
    table.sessions.reap(Unix(0));
    for i in 0..3 * MAX_UNSURE {
        table.admit(i % 2, &format!("c{i}"), 2000);
        table
            .sessions
            .leave(ClientKey(i % 2), AfterDisconnect::Unsure);
        table.sessions.reap(Unix(0));
        // A session that is kept gets its key.
        if i == 5 {
            table.admit(0, "kept", 2000);
            table.sessions.leave(ClientKey(0), AfterDisconnect::Kept);
            table.sessions.reap(Unix(0));
            table.admit(3, "other", 2000);
        }
    }
    assert!(table.knows(7, "durable"));
    assert!(table.sessions.len() <= 5 && table.sessions.unsure.departures() < 200);
}

#[test]
fn a_made_up_key_finds_its_session_only_offline() {
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
    table.sessions.leave(ClientKey(2), AfterDisconnect::Kept);
    table.admit(5, "e", 1000);
    table.admit(5, "e", 1000);
    assert_eq!(table.expired(1000, 10), ["a", "e"]);
    assert!(table.expired(1000, 10).is_empty());
    assert_eq!(table.expired(1001, 10), ["c"]);
}

#[test]
fn sessions_that_expire_together_are_returned_in_parts() {
    let mut table = Table::new();
    for i in 0..10 {
        table.admit(i, &format!("c{i}"), 1000);
    }
    assert_eq!(table.expired(1000, 4).len(), 4);
    assert_eq!(table.expired(1000, 4).len(), 4);
    // The broker asks again about one that waits to be disconnected.
    assert_eq!(table.sessions.expiries.earliest(), Some(NOW));
    assert_eq!(table.expired(1000, 4).len(), 2);
}

/// Admits clients that stay when their rights end, and that are told 100 seconds before.
fn admit_staying(table: &mut Table, client: usize, id: &str, until: u64) {
    table.ending = Ending {
        warning: 100,
        stays: true,
        ..Ending::default()
    };
    table.admit(client, id, until);
}

#[test]
fn a_client_that_stays_is_reported_once_and_rechecked_like_any_other() {
    let mut table = Table::new();
    admit_staying(&mut table, 1, "a", 1000);
    assert_eq!(table.expired(1000, 10), ["a"]);
    // What is forgotten about ends is found again.
    let session = &table.sessions.by_key[&ClientKey(1)].record.session;
    table.sessions.expiries.insert(ClientKey(1), session);
    assert!(table.expired(1000, 10).is_empty());
    let client = known("a", "user-a", true);
    assert!(table.sessions.stays(ClientKey(1), &client, Unix(2000)));
    let origin = Origin::Recheck { may_refuse: true };
    let answer = table.recheck(1, "a", b"password", origin, 2000);
    assert_eq!(answer, RecheckAnswer::Keep);
}

#[test]
fn a_connected_client_is_warned_once_before_its_end() {
    let mut table = Table::new();
    admit_staying(&mut table, 1, "a", 1000);
    admit_staying(&mut table, 2, "away", 1000);
    admit_staying(&mut table, 3, "later", 1001);
    admit_staying(&mut table, 4, "renewed", 1000);
    admit_staying(&mut table, 4, "renewed", 2000);
    table.sessions.leave(ClientKey(2), AfterDisconnect::Kept);
    let mut warned = |now| {
        let warned = table.sessions.due_for_warning(Unix(now), 10).into_iter();
        let warned = warned.map(|(id, until)| (id.to_string(), until.0));
        warned.collect::<Vec<_>>()
    };
    assert!(warned(899).is_empty());
    assert_eq!(warned(900), [("a".into(), 1000)]);
    assert!(warned(900).is_empty());
    // Too late: its rights have ended.
    assert!(warned(1001).is_empty());
    assert_eq!(warned(1950), [("renewed".into(), 2000)]);
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
        table.sessions.leave(ClientKey(i), AfterDisconnect::Ended);
    }
    table.sessions.reap(Unix(0));
    let left = &table.sessions;
    assert!(left.is_empty() && left.by_id.is_empty() && left.expiries.len() == 0);
    assert!(left.by_key.capacity() < 100 && left.by_id.len() < 100);
}

#[test]
fn a_clock_that_is_set_ends_no_rights_and_prolongs_none() {
    for by in [-900_i64, -2, 2, 900, 40_000_000] {
        let now = |seconds: u64| Unix(seconds.saturating_add_signed(by));
        let mut table = Table::new();
        table.admit(1, "a", 2000);
        table.admit(2, "for ever", u64::MAX);
        table.sessions.clock_was_set(by);
        let until = |table: &mut Table, client, id: &str| {
            let (id, name) = (id.to_owned(), format!("user-{id}"));
            let who = known(&id, &name, true);
            table
                .sessions
                .look(ClientKey(client), &who, |found| found.session.until)
        };
        assert_eq!(until(&mut table, 1, "a"), Some(now(2000)));
        assert_eq!(until(&mut table, 2, "for ever"), Some(Unix(u64::MAX)));
        assert!(table.expired(now(1999).0, 10).is_empty());
        assert_eq!(table.expired(now(2000).0, 10).len(), 1);
    }
}

/// Far enough from each other for two clients.
const APART: usize = 1024;

/// Drops a session from the table of which it is unsure that the broker keeps it.
fn dropped(table: &mut Table, client: usize, id: &str) {
    table.admit(client, id, 2000);
    table
        .sessions
        .leave(ClientKey(client), AfterDisconnect::Will);
    table.sessions.reap(Unix(0));
    table.sessions.reap(Unix(LONGEST_DELAY));
    assert!(!table.knows(client, id), "it is out of the table");
}

#[test]
fn a_dropped_session_is_kept_at_a_recheck_however_long_ago() {
    let mut table = Table::new();
    dropped(&mut table, 0, "a");
    assert_eq!(
        table.recheck(0, "a", b"password", Origin::Unknown, 1 << 40),
        RecheckAnswer::Keep
    );
    for (client, id, password) in [
        (0, "a", &b"other"[..]),
        (0, "b", b"password"),
        (APART, "a", b"password"),
    ] {
        assert_eq!(
            table.recheck(client, id, password, Origin::Unknown, 0),
            RecheckAnswer::NotSignedIn
        );
    }
    assert_eq!(
        table.recheck(0, "a", b"password", Origin::Connect, 0),
        RecheckAnswer::NotSignedIn,
        "a CONNECT is not let in for that"
    );
    let who = known("a", "user-a", false);
    assert!(table.sessions.is_forgotten(ClientKey(0), &who));
    assert_eq!(table.asks(0, &who), None, "it has no rights");
}

#[test]
fn dropped_sessions_are_kept_at_a_recheck_however_many_there_are() {
    for after_disconnect in [AfterDisconnect::Unsure, AfterDisconnect::Will] {
        let mut table = Table::new();
        let all = MAX_UNSURE + 300;
        for i in 0..all {
            table.admit(i * APART, &format!("c{i}"), 2000);
            table.sessions.leave(ClientKey(i * APART), after_disconnect);
            table.sessions.reap(Unix(0));
        }
        let kept = |i| {
            table.recheck(
                i * APART,
                &format!("c{i}"),
                b"password",
                Origin::Unknown,
                9000,
            )
        };
        assert!((0..all).map(kept).all(|keep| keep == RecheckAnswer::Keep));
        assert_eq!(table.sessions.dropped.len(), 300, "{after_disconnect:?}");
    }
}

#[test]
fn a_session_that_a_newer_one_replaced_is_kept_at_a_recheck_too() {
    // The broker may have refused the newer one for reasons of its own.
    let mut table = Table::new();
    table.admit(0, "a", 2000);
    table.sessions.leave(ClientKey(0), AfterDisconnect::Kept);
    table.sessions.reap(Unix(0));
    table.admit(APART, "a", 2000);
    table.sessions.reap(Unix(0));
    assert_eq!(
        table.recheck(0, "a", b"password", Origin::Unknown, 9000),
        RecheckAnswer::Keep
    );
}

#[test]
fn a_client_that_comes_shows_which_sessions_are_gone() {
    for (at, gone) in [
        (APART, true),
        (APART + 511, true),
        (APART - 511, true),
        (APART + 512, false),
    ] {
        let mut table = Table::new();
        dropped(&mut table, APART, "a");
        table.sessions.arrives(ClientKey(at));
        let answer = table.recheck(APART, "a", b"password", Origin::Unknown, 0);
        assert_eq!(answer == RecheckAnswer::NotSignedIn, gone, "{at}");
    }
}

#[test]
fn traces_take_a_bounded_part_of_what_clients_took() {
    let mut table = Table::new();
    // An allocator returns any multiple of 16 over the years.
    for i in 0..20_000 {
        dropped(&mut table, (i * 7919) % 4096 * 16, "a");
    }
    assert!(table.sessions.dropped.len() <= 4096 * 16 / 512);
}

fn ask_about(table: &mut Table, clients: &[(usize, &str)]) {
    for (client, id) in clients {
        let answer = table.recheck(*client, id, b"password", Origin::Unknown, 0);
        assert_ne!(answer, RecheckAnswer::NotSignedIn);
    }
}

#[test]
fn a_recheck_shows_which_sessions_are_gone() {
    let mut table = Table::new();
    table.admit(0, "here", 2000);
    for (i, after_disconnect) in [
        AfterDisconnect::Kept,
        AfterDisconnect::Unsure,
        AfterDisconnect::Kept,
    ]
    .into_iter()
    .enumerate()
    {
        let client = (i + 1) * APART;
        table.admit(client, &format!("away{i}"), 2000);
        table.sessions.leave(ClientKey(client), after_disconnect);
    }
    table.sessions.reap(Unix(0));
    dropped(&mut table, 9 * APART, "dropped");
    table.sessions.begin_recheck();
    ask_about(&mut table, &[(0, "here"), (APART, "away0")]);
    // This client comes in the middle of it.
    table.admit(5 * APART, "new", 2000);
    assert_eq!(table.sessions.end_recheck(), Some(2));
    assert!(
        table
            .sessions
            .is_held_by_another("away0", Some(&account("other")))
    );
    for id in ["away1", "away2"] {
        assert!(
            !table
                .sessions
                .is_held_by_another(id, Some(&account("other"))),
            "{id}"
        );
    }
    assert!(table.knows(0, "here") && table.knows(5 * APART, "new"));
    assert_eq!(table.sessions.dropped.len(), 0);
    assert_eq!(table.sessions.end_recheck(), None, "it is over");
}

/// Clients come and go during a recheck.
#[test]
fn a_session_that_ends_during_a_recheck_does_not_stand_for_one_that_was_not_asked_about() {
    let mut table = Table::new();
    for (client, id) in [
        (0, "here"),
        (APART, "ends"),
        (2 * APART, "absent"),
        (3 * APART, "gone"),
    ] {
        table.admit(client, id, 2000);
    }
    for client in [2 * APART, 3 * APART] {
        table
            .sessions
            .leave(ClientKey(client), AfterDisconnect::Kept);
    }
    table.sessions.reap(Unix(0));
    table.sessions.begin_recheck();
    ask_about(
        &mut table,
        &[(0, "here"), (APART, "ends"), (2 * APART, "absent")],
    );
    table.sessions.remove(ClientKey(APART));
    assert_eq!(table.sessions.end_recheck(), Some(1));
    assert!(table.knows(0, "here"));
    let held = |id| {
        table
            .sessions
            .is_held_by_another(id, Some(&account("other")))
    };
    assert!(held("absent") && !held("gone"));
}

#[test]
fn a_recheck_that_may_be_incomplete_removes_no_session() {
    let held = |table: &Table| {
        table
            .sessions
            .is_held_by_another("away", Some(&account("other")))
    };
    let mut table = Table::new();
    for (client, id) in [
        (0, "here"),
        (APART, "here too"),
        (2 * APART, "away"),
        (3 * APART, "absent"),
    ] {
        table.admit(client, id, 2000);
    }
    for client in [2 * APART, 3 * APART] {
        table
            .sessions
            .leave(ClientKey(client), AfterDisconnect::Unsure);
    }
    table.sessions.reap(Unix(0));
    // The broker does not ask about absent sessions.
    table.sessions.begin_recheck();
    ask_about(&mut table, &[(0, "here"), (APART, "here too")]);
    assert_eq!(table.sessions.end_recheck(), None);
    assert!(held(&table));
    // Another plugin answers for some clients.
    table.sessions.begin_recheck();
    ask_about(&mut table, &[(0, "here"), (3 * APART, "absent")]);
    assert_eq!(table.sessions.end_recheck(), None);
    assert!(held(&table));
    // Each instance learns of the reload.
    table.sessions.begin_recheck();
    table.sessions.begin_recheck();
    ask_about(
        &mut table,
        &[(0, "here"), (APART, "here too"), (3 * APART, "absent")],
    );
    assert_eq!(table.sessions.end_recheck(), Some(1));
    assert!(!held(&table));
}

impl Table {
    /// Admits a client that signed in by an authentication method.
    fn admit_by_method(&mut self, client: usize, id: &str) {
        self.admit(client, id, 2000);
        let entry = self.sessions.by_key.get_mut(&ClientKey(client)).unwrap();
        entry.record.session.is_by_method = true;
        entry.record.session.credential = self.prints.of(b"token");
    }
}

/// On SIGHUP the broker presents the password field, and the token was elsewhere.
#[test]
fn a_client_of_a_method_stays_whatever_its_password_field_holds() {
    const KEPT: Origin = Origin::Recheck { may_refuse: false };
    let mut table = Table::new();
    table.admit_by_method(1, "a");
    for origin in [KEPT, Origin::Unknown] {
        let answer = table.recheck(1, "a", b"", origin, 1000);
        assert_eq!(answer, RecheckAnswer::Keep, "{origin:?}");
        let ended = table.recheck(1, "a", b"", origin, 2000);
        assert_eq!(ended, RecheckAnswer::RightsEnded);
        let other = table.recheck(1, "b", b"", origin, 1000);
        assert_eq!(other, RecheckAnswer::NotSignedIn, "another client ID");
    }
    let connect = table.recheck(1, "a", b"", Origin::Connect, 1000);
    assert_eq!(connect, RecheckAnswer::NotSignedIn);

    table.sessions.leave(ClientKey(1), AfterDisconnect::Kept);
    table.sessions.reap(NOW);
    assert_eq!(table.recheck(1, "a", b"", KEPT, 1000), RecheckAnswer::Keep);
    assert!(table.knows(1, "a"), "it keeps its rights");
}

/// While it is uncertain whether a client connects, nobody gets the rights of a session that may be gone.
#[test]
fn a_kept_session_of_a_method_gives_no_rights_to_whoever_has_its_address() {
    let mut table = Table::new();
    table.admit_by_method(1, "a");
    table.sessions.leave(ClientKey(1), AfterDisconnect::Kept);
    table.sessions.reap(NOW);
    let answer = table.recheck(1, "a", b"", Origin::Unknown, 1000);
    assert_eq!(answer, RecheckAnswer::Keep, "refusing it may crash 2.0");
    assert!(!table.knows(1, "a"));
    let client = known("a", "user-a", true);
    assert!(table.sessions.is_forgotten(ClientKey(1), &client));
    let again = table.recheck(1, "a", b"", Origin::Unknown, 1000);
    assert_eq!(again, RecheckAnswer::Keep);
}

/// A client that is asked for its credential leaves a trace, because of its will, and gets nothing by it.
#[test]
fn a_client_that_never_came_in_is_known_as_such() {
    let mut table = Table::new();
    let client = known("a", "user-a", true);
    table.sessions.never_came_in(ClientKey(1), &client);
    assert!(table.sessions.is_forgotten(ClientKey(1), &client));
    for origin in [Origin::Connect, Origin::Unknown] {
        let answer = table.recheck(1, "a", b"password", origin, 1000);
        assert_eq!(answer, RecheckAnswer::NotSignedIn, "{origin:?}");
    }
    table.admit(1, "a", 2000);
    assert!(!table.sessions.is_forgotten(ClientKey(1), &client));
    assert!(table.knows(1, "a"));
}

/// The filters of a client go to the session that continues its own.
#[test]
fn filters_are_remembered_across_a_reconnect_of_the_same_account() {
    let mut table = Table::new();
    let with_filters = |table: &mut Table, client: usize, subject: &str| {
        let session = Session {
            client_id: "a".into(),
            username: "user-a".into(),
            account: account(subject),
            rights: Rights::default(),
            until: Unix(2000),
            ending: Ending::default(),
            credential: table.prints.of(b"token"),
            instance: InstanceId::default(),
            issuer: IssuerNumber::default(),
            is_by_method: true,
            filters: SubscribedFilters::default(),
            observed: None,
        };
        table.sessions.admit(ClientKey(client), session);
    };
    with_filters(&mut table, 1, "s");
    let client = known("a", "user-a", true);
    table.sessions.look(ClientKey(1), &client, |found| {
        found.session.filters.insert(b"x/#");
    });
    with_filters(&mut table, 2, "s");
    let denied = table.sessions.take_denied_filters(ClientKey(2), NOW);
    assert_eq!(denied, ["x/#".into()], "no rights cover it");
    table.sessions.look(ClientKey(2), &client, |found| {
        found.session.filters.insert(b"x/#");
    });
    with_filters(&mut table, 3, "another");
    assert!(
        table
            .sessions
            .take_denied_filters(ClientKey(3), NOW)
            .is_empty()
    );
}
