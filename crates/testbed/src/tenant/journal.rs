//! The requests that the tenant has received, for tests to examine and to wait for.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use super::faults::{Endpoint, wait_until};
use crate::http::{Request, find_header};
use crate::lock;

/// How many requests are kept, the newest ones: enough for any assertion, and few enough for the memory of a
/// load test. Counts stay exact.
const KEPT: usize = 10_000;

/// A request that the tenant received.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// What it asked for.
    pub endpoint: Endpoint,
    /// `GET`, `POST`, ...
    pub method: String,
    /// The request target, including the query.
    pub target: String,
    /// The header lines in order, with names as sent.
    pub headers: Vec<(String, String)>,
    /// The decoded fields of a form or JSON body; empty for any other.
    pub fields: Vec<(String, String)>,
    /// The body as sent.
    pub body: Vec<u8>,
    /// The other end of the TCP connection.
    pub peer: SocketAddr,
    /// The number of its connection, counted from 1.
    pub connection: u64,
    /// When it had been read.
    pub at: Instant,
}

impl Recorded {
    /// Returns the first header line with this name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        find_header(&self.headers, name)
    }

    /// Returns the first field with this name.
    pub fn field(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }
}

#[derive(Debug, Default)]
pub(super) struct Journal {
    state: Mutex<JournalState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct JournalState {
    requests: VecDeque<Recorded>,
    counts: HashMap<Endpoint, usize>,
}

impl Journal {
    pub(super) fn connected(&self) {
        *lock(&self.state)
            .counts
            .entry(Endpoint::Connection)
            .or_default() += 1;
        self.changed.notify_all();
    }

    pub(super) fn record(
        &self,
        endpoint: Endpoint,
        request: &Request,
        peer: SocketAddr,
        connection: u64,
    ) {
        let recorded = Recorded {
            endpoint,
            method: request.method.clone(),
            target: request.target.clone(),
            headers: request.headers.clone(),
            fields: request.fields().unwrap_or_default(),
            body: request.body.clone(),
            peer,
            connection,
            at: Instant::now(),
        };
        let mut state = lock(&self.state);
        if state.requests.len() == KEPT {
            state.requests.pop_front();
        }
        state.requests.push_back(recorded);
        *state.counts.entry(endpoint).or_default() += 1;
        self.changed.notify_all();
    }

    pub(super) fn requests(&self) -> Vec<Recorded> {
        lock(&self.state).requests.iter().cloned().collect()
    }

    pub(super) fn count(&self, endpoint: Endpoint) -> usize {
        lock(&self.state).count(endpoint)
    }

    pub(super) fn wait_for(&self, endpoint: Endpoint, count: usize, deadline: Duration) -> bool {
        let enough = |state: &JournalState| state.count(endpoint) >= count;
        wait_until(&self.changed, lock(&self.state), deadline, enough)
    }

    pub(super) fn clear(&self) {
        *lock(&self.state) = JournalState::default();
    }
}

impl JournalState {
    fn count(&self, endpoint: Endpoint) -> usize {
        self.counts.get(&endpoint).copied().unwrap_or_default()
    }
}
