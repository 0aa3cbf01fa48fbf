//! Clients whose CONNECT the broker holds until we answer (Mosquitto 2.1, delayed authentication).
//!
//! The broker tells nobody when such a client hangs up, frees it, and takes our answer by client
//! id. So every arrival has a ticket, the newest of a client id counts, in all instances of the
//! plugin together, and an answer for an older one is not given.

pub mod client_ids;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    client::ClientKey,
    clock::Deadline,
    identity::Verdict,
    limits::{fair_shares::FairShares, known_callers::Caller},
    secret::Fingerprint,
    sign_in::SignIn,
};

/// The newest ticket of each client id that waits, whichever instance it waits in.
static NEWEST: Mutex<Option<HashMap<Arc<str>, Ticket>>> = Mutex::new(None);
static TICKETS: AtomicU64 = AtomicU64::new(0);

/// How many clients may wait at a time: each has a connection of the broker's, or had one moments ago.
const MAX_WAITING: usize = 4096;

struct Ticket {
    number: u64,
    address: Option<Arc<str>>,
}

/// A client that waits.
pub struct PendingAuthentication {
    /// Who.
    pub sign_in: SignIn,
    /// The credential whose verdict it waits for.
    pub key: Fingerprint,
    /// How long it may wait.
    pub deadline: Deadline,
    ticket: u64,
}

impl PendingAuthentication {
    /// A client that begins to wait. Whoever waited under its client id has hung up: the broker
    /// asks about no second one before.
    pub fn new(sign_in: SignIn, key: Fingerprint, deadline: Deadline) -> Self {
        let number = TICKETS.fetch_add(1, Ordering::Relaxed);
        let address = sign_in.client.address.clone();
        newest()
            .get_or_insert_default()
            .insert(Arc::clone(&sign_in.client.id), Ticket { number, address });
        Self {
            sign_in,
            key,
            deadline,
            ticket: number,
        }
    }

    /// Whether an answer is still for this client. Asked once; afterwards nobody waits.
    pub fn is_awaited(&self) -> bool {
        let mut newest = newest();
        let tickets = newest.get_or_insert_default();
        let newest = tickets.get(&self.sign_in.client.id);
        let awaited = newest.is_some_and(|newest| newest.number == self.ticket);
        if awaited {
            tickets.remove(&self.sign_in.client.id);
        }
        awaited
    }
}

impl Drop for PendingAuthentication {
    /// Whoever is forgotten waits no more.
    fn drop(&mut self) {
        self.is_awaited();
    }
}

/// Whether a client waits, in whichever instance. Of one that hung up nobody knows: it counts until it
/// is answered, or until something else shows that it has gone.
pub fn somebody_waits() -> bool {
    newest().as_ref().is_some_and(|tickets| !tickets.is_empty())
}

/// From which address the client connects that waits under this client id, if one does: `None` for an address
/// that the broker did not tell.
pub fn who_waits_under(client_id: &str) -> Option<Option<Arc<str>>> {
    let newest = newest();
    let ticket = newest.as_ref()?.get(client_id)?;
    Some(ticket.address.clone())
}

fn newest() -> MutexGuard<'static, Option<HashMap<Arc<str>, Ticket>>> {
    NEWEST.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The clients of one instance that wait, and those whose verdict is here.
#[derive(Default)]
pub struct PendingAuthentications {
    waiting: Vec<PendingAuthentication>,
    ready: Vec<(PendingAuthentication, Verdict)>,
    /// Whose they are.
    places: FairShares,
}

impl PendingAuthentications {
    /// A client waits.
    pub fn wait(&mut self, arrival: PendingAuthentication) {
        self.places.take(arrival.sign_in.caller.source, 1.0);
        self.waiting.push(arrival);
    }

    /// Whether this caller may wait as well. The broker forgets who hangs up; here they count until their
    /// time is over.
    pub fn has_room(&self, caller: Caller) -> bool {
        self.places.has_one(caller, MAX_WAITING)
    }

    /// Whether this client waits.
    pub fn has(&self, key: ClientKey) -> bool {
        let ready = self.ready.iter().map(|(arrival, _)| arrival);
        self.waiting
            .iter()
            .chain(ready)
            .any(|arrival| arrival.sign_in.key == key)
    }

    /// The broker asks about a connection at this address, with this client id. Whoever waited at that address
    /// has hung up, and its answer would be taken for the other's. So has whoever waited under that client id:
    /// the broker asks about no second one before.
    pub fn forget(&mut self, key: ClientKey, client_id: &str) {
        if let Some(tickets) = newest().as_mut() {
            tickets.remove(client_id);
        }
        let has_gone = |arrival: &PendingAuthentication| {
            arrival.sign_in.key == key || &*arrival.sign_in.client.id == client_id
        };
        let waiting = self.waiting.extract_if(.., |arrival| has_gone(arrival));
        let ready = self.ready.extract_if(.., |(arrival, _)| has_gone(arrival));
        for arrival in waiting.chain(ready.map(|(arrival, _)| arrival)) {
            self.places.give_back(arrival.sign_in.caller.source, 1.0);
        }
    }

    /// A verdict is here, for all who presented that credential; how many they are.
    pub fn resolve(&mut self, key: Fingerprint, verdict: &Verdict) -> usize {
        let before = self.ready.len();
        self.ready.extend(
            self.waiting
                .extract_if(.., |arrival| arrival.key == key)
                .map(|arrival| (arrival, verdict.clone())),
        );
        self.ready.len() - before
    }

    /// Ends the wait of those whose deadline has passed.
    pub fn give_up(&mut self, verdict: impl Fn() -> Verdict) {
        self.ready.extend(
            self.waiting
                .extract_if(.., |arrival| arrival.deadline.has_passed())
                .map(|arrival| (arrival, verdict())),
        );
    }

    /// Those to be answered now.
    pub fn take_ready(&mut self) -> Vec<(PendingAuthentication, Verdict)> {
        for (arrival, _) in &self.ready {
            self.places.give_back(arrival.sign_in.caller.source, 1.0);
        }
        std::mem::take(&mut self.ready)
    }

    /// Whether anybody waits or is to be answered: asked at every tick.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.ready.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        client::Client,
        limits::source::SourceNetwork,
        refusal::{Reason, Refusal},
        secret::Fingerprinter,
    };
    use std::time::Duration;

    fn arrival(client: usize, client_id: &str) -> PendingAuthentication {
        let key = Fingerprinter::new().unwrap().of(b"a password");
        let sign_in = SignIn {
            key: ClientKey(client),
            client: Client {
                id: client_id.into(),
                ..Client::default()
            },
            id_is_free: false,
            credential: key,
            user: None,
            caller: Caller::default(),
        };
        PendingAuthentication::new(sign_in, key, Deadline::after(Duration::from_secs(60)))
    }

    fn has_ticket(client_id: &str) -> bool {
        newest().as_ref().unwrap().contains_key(client_id)
    }

    #[test]
    fn whoever_is_forgotten_waits_no_more() {
        let mut arrivals = PendingAuthentications::default();
        arrivals.wait(arrival(1, "forgotten"));
        assert!(has_ticket("forgotten") && somebody_waits());
        assert_eq!(who_waits_under("forgotten"), Some(None));
        arrivals.forget(ClientKey(1), "another");
        assert!(!has_ticket("forgotten"));
        assert_eq!(who_waits_under("forgotten"), None);

        arrivals.wait(arrival(1, "its name"));
        arrivals.forget(ClientKey(2), "its name");
        assert!(!has_ticket("its name") && arrivals.is_empty());

        // With the instance that it waited in.
        arrivals.wait(arrival(2, "stopped"));
        drop(arrivals);
        assert!(!has_ticket("stopped"));
    }

    #[test]
    fn whoever_waits_no_more_gives_the_place_back() {
        let mut arrivals = PendingAuthentications::default();
        for client in 0..4 {
            arrivals.wait(arrival(client, &format!("place {client}")));
        }
        arrivals.forget(ClientKey(0), "another");
        let refusal = Refusal::new(Reason::LoginQueue, "");
        let key = arrivals.waiting[0].key;
        arrivals.resolve(key, &Err(refusal.clone()));
        arrivals.forget(ClientKey(1), "another");
        assert!(!arrivals.is_empty());
        arrivals.take_ready();
        arrivals.resolve(arrivals.waiting[0].key, &Err(refusal));
        arrivals.take_ready();
        arrivals.forget(ClientKey(3), "another");
        assert!(arrivals.is_empty());
        assert_eq!(arrivals.places.total(), 0.0);
    }

    #[test]
    fn one_source_leaves_room_to_others() {
        let from = |number: u32| Caller {
            source: SourceNetwork::V4(number.into()),
            ..Caller::default()
        };
        let mut arrivals = PendingAuthentications::default();
        let mut waiting = 0;
        while arrivals.has_room(from(1)) {
            let mut arrival = arrival(waiting, &format!("room {waiting}"));
            arrival.sign_in.caller = from(1);
            arrivals.wait(arrival);
            waiting += 1;
        }
        assert_eq!(waiting, MAX_WAITING * 2 / 5 + 1, "four fifths of a half");
        assert!(arrivals.has_room(from(2)));
    }

    #[test]
    fn an_older_one_takes_no_ticket_with_it() {
        let older = arrival(1, "twice");
        let newer = arrival(2, "twice");
        assert!(!older.is_awaited());
        drop(older);
        assert!(newer.is_awaited());
        assert!(!has_ticket("twice"));
    }
}
