//! What the tenant was asked, for tests to look at and to wait for.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use super::faults::{Endpoint, wait_until};
use crate::http::{Request, find_header};
use crate::lock;

/// Requests kept, the oldest going first: enough for any assertion, too few for a load test to fill
/// the memory. Counts are exact all the same.
const KEPT: usize = 10_000;

/// A request that reached the tenant.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// What it asked for.
    pub endpoint: Endpoint,
    /// `GET`, `POST`, ...
    pub method: String,
    /// The request target, query included.
    pub target: String,
    /// Header lines in order, names as sent.
    pub headers: Vec<(String, String)>,
    /// Decoded fields of a form or JSON body; empty for any other.
    pub fields: Vec<(String, String)>,
    /// The body as sent.
    pub body: Vec<u8>,
    /// The other end of the TCP connection.
    pub peer: SocketAddr,
    /// Which connection it came over, counted from 1.
    pub connection: u64,
    /// When it had been read.
    pub at: Instant,
}

impl Recorded {
    /// The first header line of this name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        find_header(&self.headers, name)
    }

    /// The first field of this name.
    pub fn field(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }
}

#[derive(Debug, Default)]
pub(super) struct Journal {
    pages: Mutex<Pages>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Pages {
    requests: VecDeque<Recorded>,
    counts: HashMap<Endpoint, usize>,
}

impl Journal {
    pub(super) fn connected(&self) {
        *lock(&self.pages)
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
        let mut pages = lock(&self.pages);
        if pages.requests.len() == KEPT {
            pages.requests.pop_front();
        }
        pages.requests.push_back(recorded);
        *pages.counts.entry(endpoint).or_default() += 1;
        self.changed.notify_all();
    }

    pub(super) fn requests(&self) -> Vec<Recorded> {
        lock(&self.pages).requests.iter().cloned().collect()
    }

    pub(super) fn count(&self, endpoint: Endpoint) -> usize {
        lock(&self.pages).count(endpoint)
    }

    pub(super) fn wait_for(&self, endpoint: Endpoint, count: usize, deadline: Duration) -> bool {
        let enough = |pages: &Pages| pages.count(endpoint) >= count;
        wait_until(&self.changed, lock(&self.pages), deadline, enough)
    }

    pub(super) fn clear(&self) {
        *lock(&self.pages) = Pages::default();
    }
}

impl Pages {
    fn count(&self, endpoint: Endpoint) -> usize {
        self.counts.get(&endpoint).copied().unwrap_or_default()
    }
}
