//! A bounded number of threads that do what may wait.
//!
//! A thread is made when a job finds none idle, and ends when it has been idle for a while: a
//! fleet that signs in with tokens costs none. Where devices send passwords the threads are made at the
//! start and stay: fifty at once, in the moment in which fifty sign in, cost the broker milliseconds of
//! waiting for the process's memory map. One job for one credential is under way at a time;
//! whoever else asks meanwhile gets the same answer.
//!
//! Those who came in before go first, and nobody takes all places or all threads ([`crate::limits::fair_shares`]).

use std::{
    collections::{HashSet, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use super::{FinishedJob, Job};
use crate::{
    auth0::answer::TenantFeedback,
    clock::Deadline,
    limits::{fair_shares::FairShares, known_callers::Standing},
    refusal::{Reason, Refusal},
    secret::Fingerprint,
    threads::{self, Spawn},
};

/// How many logins may wait for a thread, beyond those under way. A thousand devices that come back
/// at once fit; a flood does not.
const MAX_LOGINS: usize = 1024;

/// How many jobs may wait for a thread that only wait for the keys.
const MAX_FOR_KEYS: usize = 512;

/// How long a thread waits for another job.
const IDLE: Duration = Duration::from_secs(10);

/// Does a job.
pub type Worker = Box<dyn Fn(Job) -> FinishedJob + Send + Sync>;

/// The pool.
pub struct Pool {
    shared: Arc<PoolShared>,
    threads: Mutex<Vec<thread::JoinHandle<()>>>,
    spawn: Spawn,
}

struct PoolShared {
    worker: Worker,
    limit: usize,
    state: Mutex<QueueState>,
    queued: Condvar,
    finished: Condvar,
    /// Whether there may be answers: a tick asks, thousands of times a second, and should cost no lock.
    answered: AtomicBool,
}

#[derive(Default)]
struct QueueState {
    queue: VecDeque<Job>,
    /// Whose the logins in the queue are, and the jobs that only wait for the keys.
    logins: FairShares,
    keys: FairShares,
    /// Whose the jobs under way are.
    at_work: FairShares,
    /// Credentials that are queued, under way, or answered and the answer not taken yet.
    busy: HashSet<Fingerprint>,
    finished: Vec<FinishedJob>,
    alive: usize,
    idle: usize,
    /// How many stay, however idle.
    kept: usize,
    /// Jobs under way that wait for the keys. Anybody can make up tokens that do, so half of the threads
    /// are left to those who ask the tenant.
    for_keys: usize,
    stopping: bool,
}

impl Pool {
    /// A pool without threads, for at most `limit`.
    pub fn new(limit: usize, spawn: Spawn, worker: Worker) -> Self {
        let shared = PoolShared {
            worker,
            limit,
            state: Mutex::default(),
            queued: Condvar::new(),
            finished: Condvar::new(),
            answered: AtomicBool::new(false),
        };
        Self {
            shared: Arc::new(shared),
            threads: Mutex::default(),
            spawn,
        }
    }

    /// Has a job done, unless one for the same credential is under way.
    ///
    /// # Errors
    ///
    /// A refusal if there is too much to do already.
    pub fn submit(&self, job: Job) -> Result<(), Refusal> {
        let mut state = self.shared.state();
        if state.stopping {
            return Err(Refusal::new(Reason::LoginQueue, "the broker is stopping"));
        }
        if state.busy.contains(&job.key) {
            // It is queued, and the thread that was to do it could not be made.
            if state.alive == 0 && !state.queue.is_empty() {
                state.alive += 1;
                drop(state);
                self.spawn();
            }
            return Ok(());
        }
        let caller = job.sign_in.caller;
        let (places, room) = state.places(&job);
        if !places.has_one(caller, room) {
            return Err(Refusal::new(
                Reason::LoginQueue,
                format!("{} sign-ins wait already", places.total()),
            ));
        }
        places.take(caller.source, 1.0);
        state.busy.insert(job.key);
        state.queue.push_back(job);
        // Those in front may have to wait for their turn, so idle threads are no sign that it runs.
        if state.idle > 0 {
            self.shared.queued.notify_one();
        }
        if state.idle >= state.queue.len() {
            return Ok(());
        }
        if state.alive < self.shared.limit {
            state.alive += 1;
            drop(state);
            self.spawn();
        }
        Ok(())
    }

    /// Makes all threads, to stay.
    pub fn fill(&self) {
        let missing = {
            let mut state = self.shared.state();
            let missing = self.shared.limit - state.alive;
            (state.kept, state.alive) = (self.shared.limit, self.shared.limit);
            missing
        };
        for _ in 0..missing {
            self.spawn();
        }
    }

    fn spawn(&self) {
        let shared = Arc::clone(&self.shared);
        let spawned = (self.spawn)("auth0-login", Box::new(move || shared.work()));
        let mut threads = lock(&self.threads);
        threads.retain(|thread| !thread.is_finished());
        match spawned {
            Ok(thread) => threads.push(thread),
            // The job stays queued for another thread; with none its clients run into their deadline.
            Err(_) => self.shared.state().alive -= 1,
        }
    }

    /// Whether this credential is being asked about, or its answer is here and was not taken.
    pub fn is_busy(&self, key: Fingerprint) -> bool {
        self.shared.state().busy.contains(&key)
    }

    /// Waits for one credential's answer, at most until `until`. `None` if it is not here by then;
    /// it will be among [`Self::take_finished`].
    pub fn wait(&self, key: Fingerprint, until: Deadline) -> Option<FinishedJob> {
        let mut state = self.shared.state();
        loop {
            if let Some(place) = state.finished.iter().position(|done| done.key == key) {
                state.busy.remove(&key);
                return Some(state.finished.swap_remove(place));
            }
            let left = until.remaining();
            if left.is_zero() || !state.busy.contains(&key) {
                return None;
            }
            state = self
                .shared
                .finished
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Whether answers have come.
    pub fn has_finished(&self) -> bool {
        self.shared.answered.load(Ordering::Acquire)
    }

    /// The answers that have come.
    pub fn take_finished(&self) -> Vec<FinishedJob> {
        if !self.has_finished() {
            return Vec::new();
        }
        let mut state = self.shared.state();
        self.shared.answered.store(false, Ordering::Release);
        let finished = std::mem::take(&mut state.finished);
        for done in &finished {
            state.busy.remove(&done.key);
        }
        finished
    }

    /// Drops what is queued, and waits a moment for what is under way. A thread that waits for the tenant
    /// longer is left behind.
    pub fn stop(&self) {
        {
            let mut state = self.shared.state();
            state.stopping = true;
            state.queue.clear();
            (state.logins, state.keys) = Default::default();
        }
        self.shared.queued.notify_all();
        self.shared.finished.notify_all();
        let threads = std::mem::take(&mut *lock(&self.threads));
        if threads.is_empty() {
            return;
        }
        let until = threads::last_moment();
        let mut state = self.shared.state();
        while state.alive > 0 && !until.has_passed() {
            let wait = self.shared.finished.wait_timeout(state, until.remaining());
            state = wait.unwrap_or_else(PoisonError::into_inner).0;
        }
        if state.alive > 0 {
            return threads::leave_behind();
        }
        drop(state);
        for thread in threads {
            let _ = thread.join();
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.stop();
    }
}

impl QueueState {
    /// Where a job stands in the queue: whose the places are, and how many there are.
    fn places(&mut self, job: &Job) -> (&mut FairShares, usize) {
        match job.is_for_keys() {
            false => (&mut self.logins, MAX_LOGINS),
            true => (&mut self.keys, MAX_FOR_KEYS),
        }
    }

    /// The first job whose turn it is: of those who are known best, the one that has waited longest.
    fn next(&mut self, limit: usize) -> Option<Job> {
        let keys_too = self.for_keys < limit.div_ceil(2);
        let place = Standing::ALL.into_iter().find_map(|standing| {
            self.queue.iter().position(|job| {
                let caller = job.sign_in.caller;
                caller.standing == standing
                    && (keys_too || !job.is_for_keys())
                    && (job.is_for_keys() || self.at_work.has_one(caller, limit))
            })
        })?;
        let job = self.queue.remove(place)?;
        let source = job.sign_in.caller.source;
        self.places(&job).0.give_back(source, 1.0);
        // Those that wait for keys have their half of the threads, and take nothing from the logins.
        if !job.is_for_keys() {
            self.at_work.take(source, 1.0);
        }
        self.for_keys += usize::from(job.is_for_keys());
        Some(job)
    }
}

impl PoolShared {
    fn work(&self) {
        let mut state = self.state();
        loop {
            let Some(job) = state.next(self.limit) else {
                if state.stopping {
                    break;
                }
                state.idle += 1;
                let (back, timeout) = self
                    .queued
                    .wait_timeout(state, IDLE)
                    .unwrap_or_else(PoisonError::into_inner);
                state = back;
                state.idle -= 1;
                if timeout.timed_out() && state.queue.is_empty() && state.alive > state.kept {
                    break;
                }
                continue;
            };
            drop(state);
            let (key, permit, deadline) = (job.key, job.permit, job.deadline);
            let for_keys = usize::from(job.is_for_keys());
            let sign_in = job.sign_in.clone();
            let source = sign_in.caller.source;
            let done = catch_unwind(AssertUnwindSafe(|| (self.worker)(job))).unwrap_or_else(|_| {
                FinishedJob {
                    sign_in,
                    key,
                    permit,
                    // Nobody knows how far it came.
                    feedback: TenantFeedback {
                        lost: true,
                        ..TenantFeedback::default()
                    },
                    result: Err(Refusal::new(
                        Reason::Internal,
                        "asking the tenant failed within",
                    )),
                    keys_refetched: None,
                    deadline,
                }
            });
            state = self.state();
            state.for_keys -= for_keys;
            if for_keys == 0 {
                state.at_work.give_back(source, 1.0);
            }
            // Busy until somebody takes it: whoever asks in between would have it done again.
            state.finished.push(done);
            self.answered.store(true, Ordering::Release);
            self.finished.notify_all();
        }
        state.alive -= 1;
        self.finished.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, QueueState> {
        lock(&self.state)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing is half done under these locks, so a panic elsewhere leaves them good.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
