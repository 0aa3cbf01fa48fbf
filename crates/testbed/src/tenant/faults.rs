//! What can go wrong between a broker and its tenant, on demand.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::lock;

/// Where a fault applies, and what requests are counted under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// Every new TCP connection, before TLS. Faults only: what is counted here are connections.
    Connection,
    /// `/oauth/token`.
    Token,
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
            "/.well-known/jwks.json" => Self::Jwks,
            "/.well-known/openid-configuration" => Self::Discovery,
            _ => Self::Other,
        }
    }
}

/// How an endpoint behaves. Steps can be joined with [`Behaviour::then`].
///
/// The answer is always the one that was right when the request arrived: a delayed JWKS is the
/// JWKS of before the delay, as it is when the network is what is slow.
#[derive(Clone, Debug)]
pub enum Behaviour {
    /// Answers as Auth0 does.
    Normal,
    /// Waits, then goes on.
    Delay(Duration),
    /// Waits until the test lets it go on.
    Gate(Gate),
    /// Never answers, and reads on until the peer gives up or the tenant is dropped.
    Hang,
    /// Resets the connection (TCP RST) without an answer.
    ResetConnection,
    /// Closes the connection (TCP FIN) without an answer and without a TLS close.
    Close,
    /// Answers with exactly this.
    Status {
        /// Status code.
        code: u16,
        /// Header lines besides the framing.
        headers: Vec<(String, String)>,
        /// Body.
        body: String,
    },
    /// The HTML page of Auth0's edge for a 5xx of its own, such as 502 or 520.
    Html(u16),
    /// 429 `too_many_requests`: the tenant's rate limit is used up.
    RateLimited {
        /// Seconds of `Retry-After`. `None` leaves the header out, as Auth0 often does.
        retry_after: Option<u64>,
    },
    /// Sends these bytes where HTTP belongs (on [`Endpoint::Connection`]: where TLS belongs).
    Garbage(Vec<u8>),
    /// Announces 1 GiB and sends until the peer hangs up.
    HugeBody,
    /// Sends the body a byte at a time with this pause before each.
    SlowBody(Duration),
    /// Announces more than it sends, then closes.
    TruncatedBody,
    /// 302 to this address.
    Redirect(String),
    /// Answers as Auth0 does, under this `Content-Type`.
    WrongContentType(String),
    /// Answers as Auth0 does, with these header lines set as well.
    ExtraHeaders(Vec<(String, String)>),
    /// One step after the other.
    Then(Box<Behaviour>, Box<Behaviour>),
}

impl Behaviour {
    /// This step, then the next: `Delay(d).then(Html(502))`.
    #[must_use]
    pub fn then(self, next: Self) -> Self {
        Self::Then(Box::new(self), Box::new(next))
    }

    /// A JSON answer with this status.
    pub fn json(code: u16, body: impl ToString) -> Self {
        Self::Status {
            code,
            headers: vec![("Content-Type".to_owned(), "application/json".to_owned())],
            body: body.to_string(),
        }
    }

    /// The refusal `{"error":...,"error_description":...}` with this status.
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

/// Holds answers until a test lets them go, so that no test has to guess how long to sleep.
///
/// Clones are the same gate. Dropping the tenant ends every wait.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<(Mutex<GateState>, Condvar)>);

#[derive(Debug, Default)]
struct GateState {
    open: bool,
    passes: usize,
    waiting: usize,
}

impl Gate {
    /// A closed gate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets everyone through, now and later.
    pub fn open(&self) {
        lock(&self.0.0).open = true;
        self.0.1.notify_all();
    }

    /// Lets this many through, those that wait or the next to come.
    pub fn release(&self, count: usize) {
        lock(&self.0.0).passes += count;
        self.0.1.notify_all();
    }

    /// How many are held right now.
    pub fn waiting(&self) -> usize {
        lock(&self.0.0).waiting
    }

    /// Waits until this many are held. `false` when they are not within the deadline.
    #[must_use]
    pub fn wait_for(&self, count: usize, deadline: Duration) -> bool {
        let state = lock(&self.0.0);
        wait_until(&self.0.1, state, deadline, |state| state.waiting >= count)
    }

    /// Blocks until let through or until `stopping`.
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

    /// Makes every waiter look at `stopping` again.
    pub(super) fn wake(&self) {
        // Locked, so that nobody is between looking and waiting.
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
    gates: Vec<Gate>,
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

    /// What the next request gets: a queued behaviour first, then the standing one.
    pub(super) fn take(&mut self, endpoint: Endpoint) -> Behaviour {
        let queued = self.queued.get_mut(&endpoint).and_then(VecDeque::pop_front);
        let standing = || self.standing.get(&endpoint).cloned();
        queued.or_else(standing).unwrap_or(Behaviour::Normal)
    }

    pub(super) fn gates(&self) -> Vec<Gate> {
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
