//! Faults between a broker and its tenant, on demand.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::lock;

/// Where a fault applies, and by which requests are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// Every new TCP connection, before TLS. For counts, the number of connections.
    Connection,
    /// `/oauth/token`.
    Token,
    /// `/oauth/device/code`.
    DeviceCode,
    /// `/.well-known/jwks.json`.
    Jwks,
    /// `/.well-known/openid-configuration`.
    Discovery,
    /// Any other path, which is a 404.
    Other,
}

impl Endpoint {
    pub(super) fn of(path: &str) -> Self {
        match path {
            "/oauth/token" => Self::Token,
            "/oauth/device/code" => Self::DeviceCode,
            "/.well-known/jwks.json" => Self::Jwks,
            "/.well-known/openid-configuration" => Self::Discovery,
            _ => Self::Other,
        }
    }
}

/// How an endpoint behaves. Steps can be joined with [`Behaviour::then`].
///
/// The response is always the one that was right when the request arrived: a delayed JWKS is the JWKS of
/// before the delay, as with a slow network.
#[derive(Clone, Debug)]
pub enum Behaviour {
    /// Responds as Auth0 does.
    Normal,
    /// Waits, then continues.
    Delay(Duration),
    /// Waits until the test opens the gate.
    Gate(ResponseGate),
    /// Never responds, and reads until the client gives up or the tenant is dropped.
    Hang,
    /// Resets the connection (TCP RST) without a response.
    ResetConnection,
    /// Closes the connection (TCP FIN) without a response and without a TLS close.
    Close,
    /// Sends exactly this response.
    Status {
        /// Status code.
        code: u16,
        /// Header lines besides the framing.
        headers: Vec<(String, String)>,
        /// Body.
        body: String,
    },
    /// Sends the HTML page of Auth0's edge for a 5xx of its own, such as 502 or 520.
    Html(u16),
    /// 429 `too_many_requests`: the tenant's rate limit is used up.
    RateLimited {
        /// `Retry-After` in seconds. `None` leaves the header out, as Auth0 often does.
        retry_after: Option<u64>,
    },
    /// Sends these bytes in place of HTTP (on [`Endpoint::Connection`]: in place of TLS).
    Garbage(Vec<u8>),
    /// Announces 1 GiB and sends until the client closes the connection.
    HugeBody,
    /// Sends the body a byte at a time, with this pause before each.
    SlowBody(Duration),
    /// Announces more bytes than it sends, then closes.
    TruncatedBody,
    /// 302 to this address.
    Redirect(String),
    /// Responds as Auth0 does, with this `Content-Type`.
    WrongContentType(String),
    /// Responds as Auth0 does, with these header lines set as well.
    ExtraHeaders(Vec<(String, String)>),
    /// One step after the other.
    Then(Box<Behaviour>, Box<Behaviour>),
}

impl Behaviour {
    /// Returns this step followed by the next: `Delay(d).then(Html(502))`.
    #[must_use]
    pub fn then(self, next: Self) -> Self {
        Self::Then(Box::new(self), Box::new(next))
    }

    /// Returns a JSON response with this status.
    pub fn json(code: u16, body: impl ToString) -> Self {
        Self::Status {
            code,
            headers: vec![("Content-Type".to_owned(), "application/json".to_owned())],
            body: body.to_string(),
        }
    }

    /// Returns the refusal `{"error":...,"error_description":...}` with this status.
    pub fn refusal(code: u16, error: &str, description: &str) -> Self {
        let body = crate::json::Members::new()
            .with("error", error)
            .with("error_description", description);
        Self::json(code, body)
    }

    pub(super) fn steps(self) -> Vec<Self> {
        match self {
            Self::Then(first, second) => {
                let mut steps = first.steps();
                steps.extend(second.steps());
                steps
            }
            step => vec![step],
        }
    }
}

/// Holds responses until a test releases them, so that no test has to guess how long to sleep.
///
/// Clones are the same gate. Dropping the tenant ends every wait.
#[derive(Clone, Debug, Default)]
pub struct ResponseGate(Arc<(Mutex<ResponseGateState>, Condvar)>);

#[derive(Debug, Default)]
struct ResponseGateState {
    open: bool,
    passes: usize,
    waiting: usize,
}

impl ResponseGate {
    /// Returns a closed gate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets all requests through, now and later.
    pub fn open(&self) {
        lock(&self.0.0).open = true;
        self.0.1.notify_all();
    }

    /// Lets this many requests through: those that wait, or the next ones.
    pub fn release(&self, count: usize) {
        lock(&self.0.0).passes += count;
        self.0.1.notify_all();
    }

    /// Returns how many requests are held.
    pub fn waiting(&self) -> usize {
        lock(&self.0.0).waiting
    }

    /// Waits until this many requests are held. Returns `false` on timeout.
    #[must_use]
    pub fn wait_for(&self, count: usize, deadline: Duration) -> bool {
        let state = lock(&self.0.0);
        wait_until(&self.0.1, state, deadline, |state| state.waiting >= count)
    }

    /// Blocks until the request is let through or the tenant is `stopping`.
    pub(super) fn hold(&self, stopping: &AtomicBool) {
        let mut state = lock(&self.0.0);
        state.waiting += 1;
        self.0.1.notify_all();
        while !state.open && state.passes == 0 && !stopping.load(Ordering::SeqCst) {
            state = wait(&self.0.1, state);
        }
        state.waiting -= 1;
        if !state.open {
            state.passes = state.passes.saturating_sub(1);
        }
    }

    /// Makes every held request check `stopping` again.
    pub(super) fn wake(&self) {
        // Locked, so that no thread is between its check and its wait.
        let _state = lock(&self.0.0);
        self.0.1.notify_all();
    }
}

pub(super) fn wait<'a, T>(
    condvar: &Condvar,
    guard: std::sync::MutexGuard<'a, T>,
) -> std::sync::MutexGuard<'a, T> {
    let woken = condvar.wait(guard);
    woken.unwrap_or_else(std::sync::PoisonError::into_inner)
}

pub(super) fn wait_until<T>(
    condvar: &Condvar,
    mut guard: std::sync::MutexGuard<'_, T>,
    deadline: Duration,
    done: impl Fn(&T) -> bool,
) -> bool {
    let end = Instant::now() + deadline;
    while !done(&guard) {
        let Some(left) = end.checked_duration_since(Instant::now()) else {
            return false;
        };
        let woken = condvar.wait_timeout(guard, left);
        guard = woken.unwrap_or_else(std::sync::PoisonError::into_inner).0;
    }
    true
}

/// The faults that are set, by endpoint.
#[derive(Debug, Default)]
pub(super) struct Faults {
    standing: HashMap<Endpoint, Behaviour>,
    queued: HashMap<Endpoint, VecDeque<Behaviour>>,
    gates: Vec<ResponseGate>,
}

impl Faults {
    pub(super) fn set(&mut self, endpoint: Endpoint, behaviour: Behaviour) {
        self.remember_gates(&behaviour);
        self.standing.insert(endpoint, behaviour);
    }

    pub(super) fn queue(&mut self, endpoint: Endpoint, behaviour: Behaviour) {
        self.remember_gates(&behaviour);
        self.queued
            .entry(endpoint)
            .or_default()
            .push_back(behaviour);
    }

    pub(super) fn clear(&mut self) {
        self.standing.clear();
        self.queued.clear();
    }

    /// Returns the behaviour for the next request: a queued one first, then the permanent one.
    pub(super) fn take(&mut self, endpoint: Endpoint) -> Behaviour {
        let queued = self.queued.get_mut(&endpoint).and_then(VecDeque::pop_front);
        let standing = || self.standing.get(&endpoint).cloned();
        queued.or_else(standing).unwrap_or(Behaviour::Normal)
    }

    pub(super) fn gates(&self) -> Vec<ResponseGate> {
        self.gates.clone()
    }

    fn remember_gates(&mut self, behaviour: &Behaviour) {
        for step in behaviour.clone().steps() {
            if let Behaviour::Gate(gate) = step {
                self.gates.push(gate);
            }
        }
    }
}
