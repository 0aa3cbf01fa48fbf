//! Clients whose CONNECT the broker holds until the plugin answers (Mosquitto 2.1, delayed authentication).
//!
//! The broker does not tell when such a client hangs up. It frees the client, and takes the answer by client ID, so the
//! answer might reach somebody else. Therefore each pending authentication has a ticket. Only the newest ticket of a
//! client ID is valid, among all instances of the plugin ([`Tickets`]), and a client without one gets no answer.

pub(crate) mod client_ids;

use std::{collections::HashMap, sync::Arc};

use crate::{
    client::ClientKey,
    clock::Deadline,
    identity::Verdict,
    limits::{fair_shares::FairShares, known_callers::Caller},
    secret::Fingerprint,
    sign_in::SignIn,
};

/// How many clients may wait at a time. Each has a connection to the broker, or had one moments ago.
const MAX_WAITING: usize = 4096;

/// The newest ticket of each client ID under which a client waits, in whichever instance.
#[derive(Default)]
pub(crate) struct Tickets {
    by_client_id: HashMap<Arc<str>, Ticket>,
    issued: u64,
}

/// Proof that a client still waits.
pub(crate) struct Ticket {
    number: u64,
    /// The address of the client, if the broker told it.
    pub address: Option<Arc<str>>,
}

impl Tickets {
    /// Issues a ticket. An older one of that client ID becomes invalid: its client has hung up, because the broker asks
    /// about no second client with the same client ID before.
    fn issue(&mut self, sign_in: &SignIn) -> u64 {
        self.issued += 1;
        let ticket = Ticket {
            number: self.issued,
            address: sign_in.client.address.clone(),
        };
        let client_id = Arc::clone(&sign_in.client.id);
        self.by_client_id.insert(client_id, ticket);
        self.issued
    }

    /// Takes a ticket back. Returns whether it was valid.
    fn redeem(&mut self, client_id: &str, number: u64) -> bool {
        let newest = self.by_client_id.get(client_id);
        let valid = newest.is_some_and(|newest| newest.number == number);
        if valid {
            self.by_client_id.remove(client_id);
        }
        valid
    }

    /// Returns the ticket of the client that waits under this client ID.
    pub(crate) fn get(&self, client_id: &str) -> Option<&Ticket> {
        self.by_client_id.get(client_id)
    }

    /// Whether nobody waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_client_id.is_empty()
    }
}

/// A client that waits.
struct PendingAuthentication {
    sign_in: SignIn,
    /// The credential whose verdict it waits for.
    key: Fingerprint,
    deadline: Deadline,
    ticket: u64,
}

impl PendingAuthentication {
    /// Takes its ticket back. Returns whether it was still valid.
    fn redeem_ticket(&self, tickets: &mut Tickets) -> bool {
        tickets.redeem(&self.sign_in.client.id, self.ticket)
    }
}

/// The clients of one instance that wait, and those whose verdict is known.
#[derive(Default)]
pub(crate) struct PendingAuthentications {
    waiting: Vec<PendingAuthentication>,
    ready: Vec<(PendingAuthentication, Verdict)>,
    /// How many of them come from which address.
    places: FairShares,
}

impl PendingAuthentications {
    /// Adds a client that begins to wait for the verdict of this credential.
    pub(crate) fn wait(
        &mut self,
        tickets: &mut Tickets,
        sign_in: SignIn,
        key: Fingerprint,
        deadline: Deadline,
    ) {
        self.places.take(sign_in.caller.source, 1.0);
        let ticket = tickets.issue(&sign_in);
        self.waiting.push(PendingAuthentication {
            sign_in,
            key,
            deadline,
            ticket,
        });
    }

    /// Whether this caller may wait too. Clients that hung up count until their deadline, because the broker does not
    /// tell.
    pub(crate) fn has_room(&self, caller: Caller) -> bool {
        self.places.has_one(caller, MAX_WAITING)
    }

    /// Whether this client waits.
    pub(crate) fn has(&self, key: ClientKey) -> bool {
        let ready = self.ready.iter().map(|(pending, _)| pending);
        let mut all = self.waiting.iter().chain(ready);
        all.any(|pending| pending.sign_in.key == key)
    }

    /// Forgets who waited with this key or under this client ID: the broker asks about another client now, so the
    /// earlier one has hung up. Its answer would be taken for the other's.
    pub(crate) fn forget(&mut self, tickets: &mut Tickets, key: ClientKey, client_id: &str) {
        tickets.by_client_id.remove(client_id);
        let has_gone = |pending: &PendingAuthentication| {
            pending.sign_in.key == key || &*pending.sign_in.client.id == client_id
        };
        let waiting = self.waiting.extract_if(.., |pending| has_gone(pending));
        let ready = self.ready.extract_if(.., |(pending, _)| has_gone(pending));
        for pending in waiting.chain(ready.map(|(pending, _)| pending)) {
            self.places.give_back(pending.sign_in.caller.source, 1.0);
            pending.redeem_ticket(tickets);
        }
    }

    /// Gives a verdict to all who presented that credential. Returns how many they are.
    pub(crate) fn resolve(&mut self, key: Fingerprint, verdict: &Verdict) -> usize {
        let before = self.ready.len();
        let resolved = self.waiting.extract_if(.., |pending| pending.key == key);
        let resolved = resolved.map(|pending| (pending, verdict.clone()));
        self.ready.extend(resolved);
        self.ready.len() - before
    }

    /// Gives a verdict to those whose deadline has passed.
    pub(crate) fn give_up(&mut self, verdict: impl Fn() -> Verdict) {
        let late = |pending: &mut PendingAuthentication| pending.deadline.has_passed();
        let late = self.waiting.extract_if(.., late);
        self.ready.extend(late.map(|pending| (pending, verdict())));
    }

    /// Takes those to be answered now. A client whose ticket is invalid has hung up and gets no answer.
    pub(crate) fn take_ready(&mut self, tickets: &mut Tickets) -> Vec<(SignIn, Verdict)> {
        let mut answers = Vec::new();
        for (pending, verdict) in self.ready.drain(..) {
            self.places.give_back(pending.sign_in.caller.source, 1.0);
            if pending.redeem_ticket(tickets) {
                answers.push((pending.sign_in, verdict));
            }
        }
        answers
    }

    /// Forgets everybody, when the instance stops.
    pub(crate) fn clear(&mut self, tickets: &mut Tickets) {
        let ready = self.ready.drain(..).map(|(pending, _)| pending);
        for pending in self.waiting.drain(..).chain(ready) {
            pending.redeem_ticket(tickets);
        }
        self.places = FairShares::default();
    }

    /// Whether nobody waits or is to be answered.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.ready.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::ConnectDetail;
    use crate::sign_in::Presented;
    use crate::{
        client::Client,
        limits::source::SourceNetwork,
        refusal::{Reason, Refusal},
        secret::Fingerprinter,
    };
    use std::time::Duration;

    #[derive(Default)]
    struct PendingTest {
        tickets: Tickets,
        pending: PendingAuthentications,
    }

    fn sign_in(client: usize, client_id: &str) -> SignIn {
        SignIn {
            key: ClientKey(client),
            client: Client {
                id: client_id.into(),
                ..Client::default()
            },
            id_is_free: false,
            presented: Presented::default(),
            token_id: None,
            restored_for: None,
            ends_with_connection: false,
            credential: Fingerprinter::new().unwrap().of(b"a password"),
            user: None,
            login: None,
            caller: Caller::default(),
        }
    }

    impl PendingTest {
        fn wait(&mut self, sign_in: SignIn) -> Fingerprint {
            let key = sign_in.credential;
            let deadline = Deadline::after(Duration::from_secs(60));
            self.pending.wait(&mut self.tickets, sign_in, key, deadline);
            key
        }

        fn forget(&mut self, client: usize, client_id: &str) {
            let key = ClientKey(client);
            self.pending.forget(&mut self.tickets, key, client_id);
        }

        fn has_ticket(&self, client_id: &str) -> bool {
            self.tickets.get(client_id).is_some()
        }
    }

    fn refused() -> Verdict {
        Err(Refusal::new(Reason::LoginQueue, ConnectDetail::NoPassword))
    }

    #[test]
    fn a_client_that_is_forgotten_has_no_ticket() {
        let mut instance = PendingTest::default();
        instance.wait(sign_in(1, "forgotten"));
        assert!(instance.has_ticket("forgotten") && !instance.tickets.is_empty());
        instance.forget(1, "another");
        assert!(!instance.has_ticket("forgotten") && instance.tickets.is_empty());

        instance.wait(sign_in(1, "its name"));
        instance.forget(2, "its name");
        assert!(!instance.has_ticket("its name") && instance.pending.is_empty());

        instance.wait(sign_in(2, "stopped"));
        instance.pending.clear(&mut instance.tickets);
        assert!(!instance.has_ticket("stopped") && instance.pending.is_empty());
    }

    #[test]
    fn every_client_gives_its_place_back() {
        let mut instance = PendingTest::default();
        let keys: Vec<_> = (0..4)
            .map(|client| instance.wait(sign_in(client, &format!("place {client}"))))
            .collect();
        instance.forget(0, "another");
        assert_eq!(instance.pending.resolve(keys[1], &refused()), 1);
        instance.forget(1, "another");
        assert!(!instance.pending.is_empty());
        assert!(
            instance
                .pending
                .take_ready(&mut instance.tickets)
                .is_empty()
        );
        instance.pending.resolve(keys[2], &refused());
        assert_eq!(instance.pending.take_ready(&mut instance.tickets).len(), 1);
        instance.forget(3, "another");
        assert!(instance.pending.is_empty() && instance.tickets.is_empty());
        assert_eq!(instance.pending.places.total(), 0.0);
    }

    #[test]
    fn one_source_leaves_room_to_others() {
        let from = |number: u32| Caller {
            source: SourceNetwork::V4(number.into()),
            ..Caller::default()
        };
        let mut instance = PendingTest::default();
        let mut waiting = 0;
        while instance.pending.has_room(from(1)) {
            let mut sign_in = sign_in(waiting, &format!("room {waiting}"));
            sign_in.caller = from(1);
            instance.wait(sign_in);
            waiting += 1;
        }
        assert_eq!(waiting, MAX_WAITING * 2 / 5 + 1, "four fifths of a half");
        assert!(instance.pending.has_room(from(2)));
    }

    /// An answer goes to the newest client of a client ID only, in whichever instance it waits.
    #[test]
    fn an_older_ticket_is_invalid_and_does_not_affect_the_newer() {
        let mut older = PendingTest::default();
        let first = older.wait(sign_in(1, "twice"));
        let mut newer = PendingAuthentications::default();
        let second = sign_in(2, "twice");
        let key = second.credential;
        let deadline = Deadline::after(Duration::from_secs(60));
        newer.wait(&mut older.tickets, second, key, deadline);
        older.pending.resolve(first, &refused());
        assert!(older.pending.take_ready(&mut older.tickets).is_empty());
        newer.resolve(key, &refused());
        assert_eq!(newer.take_ready(&mut older.tickets).len(), 1);
        assert!(!older.has_ticket("twice"));
    }
}
