//! A bounded number of threads that ask the tenant about passwords, and the jobs that wait for the tenant's keys.
//!
//! A job for a password starts a thread if none is idle. The thread ends after it has been idle for a while, so a fleet
//! that signs in with tokens has none. Where devices send passwords, all threads are started at once and stay: starting
//! fifty threads while fifty devices sign in makes the broker wait for the memory map of the process. The longest
//! silence would be 26 ms at the median, and 47 ms at most, instead of 5 ms and 9 ms (`make silence`, 10 runs).
//!
//! A job for a token with an unknown key needs no thread. It is parked until the next fetch of the tenant's keys ends
//! ([`Pool::on_keys_fetched`]). Anyone can make up such tokens, and they take no thread from those who send passwords.
//!
//! Each credential has one job at a time. All who present it meanwhile get the same result. Clients that came in before
//! go first, and no address takes all places or all threads ([`crate::limits::fair_shares`]). While nobody else asks,
//! threads are lent beyond the shares, because a request ends soon. With shares alone, the last of fifty unknown
//! devices behind one address would be in after 664 ms instead of 397, when the tenant takes 300 ms (`make silence`).

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

use super::{FinishedJob, Job, JobResult, Login, Task, UnverifiedTokens};
use crate::{
    account::IssuerNumber,
    auth0::answer::{TenantFeedback, Tokens},
    clock::Deadline,
    jwt::jwks_cache::JwksCache,
    limits::{
        fair_shares::FairShares,
        known_callers::{Caller, Standing},
    },
    refusal::{NoAnswer, PendingDetail, Reason, Refusal},
    secret::Fingerprint,
    threads::{self, Spawn, lock},
};

/// How many passwords may wait for a thread. A thousand devices that come back at once fit; a flood does not.
const MAX_LOGINS: usize = 1024;

/// How many tokens may wait for keys.
const MAX_PARKED: usize = 512;

/// How long a thread waits for another job before it ends.
const IDLE: Duration = Duration::from_secs(10);

/// Asks the tenant about a password.
pub type Worker =
    Box<dyn Fn(&Login, Deadline) -> (Result<Tokens, Refusal>, TenantFeedback) + Send + Sync>;

/// The pool.
pub struct Pool {
    shared: Arc<PoolShared>,
    threads: Mutex<Vec<thread::JoinHandle<()>>>,
    spawn: Spawn,
    /// The keys of each issuer.
    keys: Vec<Arc<JwksCache>>,
}

struct PoolShared {
    worker: Worker,
    state: Mutex<QueueState>,
    queued: Condvar,
    finished: Condvar,
    /// Whether there may be finished jobs. A tick reads this thousands of times a second, so it takes no lock.
    has_finished: AtomicBool,
}

#[derive(Default)]
struct QueueState {
    /// How many threads there may be.
    limit: usize,
    /// Passwords that wait for a thread, and whose places they take.
    queue: VecDeque<Job<Login>>,
    queued_by: FairShares,
    /// Tokens that wait for keys, and whose places they take.
    parked: Vec<Job<UnverifiedTokens>>,
    parked_by: FairShares,
    /// Whose passwords the threads are working on.
    running_by: FairShares,
    /// The credentials of all jobs whose results were not taken yet.
    busy: HashSet<Fingerprint>,
    finished: Vec<FinishedJob>,
    alive: usize,
    idle: usize,
    /// How many threads stay although they are idle.
    kept: usize,
    stopping: bool,
}

impl Pool {
    /// Returns a pool of at most `limit` threads, with none yet. `keys` are those of each issuer, by number.
    pub fn new(limit: usize, spawn: Spawn, worker: Worker, keys: Vec<Arc<JwksCache>>) -> Self {
        let shared = PoolShared {
            worker,
            state: Mutex::new(QueueState {
                limit,
                ..QueueState::default()
            }),
            queued: Condvar::new(),
            finished: Condvar::new(),
            has_finished: AtomicBool::new(false),
        };
        Self {
            shared: Arc::new(shared),
            threads: Mutex::default(),
            spawn,
            keys,
        }
    }

    /// Returns the function to call when a fetch of an issuer's keys has ended, with whether it brought keys. It
    /// finishes all parked jobs that wait for them.
    pub fn on_keys_fetched(&self, issuer: IssuerNumber) -> Box<dyn Fn(bool) + Send + Sync> {
        // The fetching thread does not keep the pool alive.
        let shared = Arc::downgrade(&self.shared);
        Box::new(move |fetched| {
            if let Some(shared) = shared.upgrade() {
                shared.finish_parked(fetched, |job| job.task.issuer() == issuer);
            }
        })
    }

    /// Takes a job, unless there is one for the same credential.
    ///
    /// # Errors
    ///
    /// Returns a refusal if too many jobs wait already.
    pub fn submit(&self, job: Job) -> Result<(), Refusal> {
        let mut state = self.shared.state();
        if state.stopping {
            return Err(Refusal::new(Reason::LoginQueue, PendingDetail::Stopping));
        }
        if state.busy.contains(&job.key) {
            // The thread for it could not be started.
            if state.alive == 0 && !state.queue.is_empty() {
                state.alive += 1;
                drop(state);
                self.spawn();
            }
            return Ok(());
        }
        let (places, room) = match job.task {
            Task::Login(_) => (&mut state.queued_by, MAX_LOGINS),
            Task::Keys(_) => (&mut state.parked_by, MAX_PARKED),
        };
        let caller = job.sign_in.caller;
        if !places.has_one(caller, room) {
            let waiting = Some(places.total() as usize);
            let detail = PendingDetail::TooMany { waiting };
            return Err(Refusal::new(Reason::LoginQueue, detail));
        }
        places.take(caller.source, 1.0);
        state.busy.insert(job.key);
        let (task, job) = job.split();
        let key = job.key;
        match task {
            Task::Login(login) => {
                state.queue.push_back(job.with(login));
                self.start_thread_if_needed(state);
            }
            Task::Keys(tokens) => {
                let keys = &self.keys[tokens.issuer().place()];
                state.parked.push(job.with(tokens));
                drop(state);
                // The job is parked first, so no fetch ends between the request and the wait.
                if !keys.request() {
                    self.shared.finish_parked(false, |parked| parked.key == key);
                }
            }
        }
        Ok(())
    }

    fn start_thread_if_needed(&self, mut state: MutexGuard<'_, QueueState>) {
        // An idle thread may be needed for a job in front, so each new job wakes one.
        if state.idle > 0 {
            self.shared.queued.notify_one();
        }
        if state.idle < state.queue.len() && state.alive < state.limit {
            state.alive += 1;
            drop(state);
            self.spawn();
        }
    }

    /// Starts all threads. They stay.
    pub fn fill(&self) {
        let missing = {
            let mut state = self.shared.state();
            let missing = state.limit.saturating_sub(state.alive);
            state.kept = state.limit;
            state.alive += missing;
            missing
        };
        for _ in 0..missing {
            self.spawn();
        }
    }

    /// Changes the number of threads that there may be. Those beyond it end when they have been idle for a while.
    pub fn resize(&self, limit: usize) {
        let mut state = self.shared.state();
        state.limit = limit;
        state.kept = 0;
    }

    fn spawn(&self) {
        let shared = Arc::clone(&self.shared);
        let spawned = (self.spawn)("auth0-login", Box::new(move || shared.work()));
        let mut threads = lock(&self.threads);
        threads.retain(|thread| !thread.is_finished());
        match spawned {
            Ok(thread) => threads.push(thread),
            // The job stays queued for another thread. If there is none, its clients wait until their deadline.
            Err(_) => self.shared.state().alive -= 1,
        }
    }

    /// Returns how many credentials have a job, or a result that was not taken.
    pub fn busy(&self) -> usize {
        self.shared.state().busy.len()
    }

    /// Whether this credential has a job, or a result that was not taken.
    pub fn is_busy(&self, key: Fingerprint) -> bool {
        self.shared.state().busy.contains(&key)
    }

    /// Waits for the result of one credential, at most until `until`. A result that comes later is among
    /// [`Self::take_finished`].
    pub fn wait(&self, key: Fingerprint, until: Deadline) -> Option<FinishedJob> {
        let mut state = self.shared.state();
        loop {
            if let Some(place) = state.finished.iter().position(|job| job.key == key) {
                state.busy.remove(&key);
                return Some(state.finished.swap_remove(place));
            }
            let left = until.remaining();
            if left.is_zero() || !state.busy.contains(&key) {
                return None;
            }
            let wait = self.shared.finished.wait_timeout(state, left);
            state = wait.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Whether there are finished jobs.
    pub fn has_finished(&self) -> bool {
        self.shared.has_finished.load(Ordering::Acquire)
    }

    /// Takes the finished jobs.
    pub fn take_finished(&self) -> Vec<FinishedJob> {
        if !self.has_finished() {
            return Vec::new();
        }
        let mut state = self.shared.state();
        self.shared.has_finished.store(false, Ordering::Release);
        let finished = std::mem::take(&mut state.finished);
        for job in &finished {
            state.busy.remove(&job.key);
        }
        finished
    }

    /// Drops the jobs that wait, and waits a moment for those that run. A thread that waits longer for the tenant is
    /// left behind.
    pub fn stop(&self) {
        {
            let mut state = self.shared.state();
            state.stopping = true;
            state.queue.clear();
            state.parked.clear();
            (state.queued_by, state.parked_by) = Default::default();
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
    /// Takes the next password from the queue. Of those whose client has a share left, it takes the one whose client is
    /// known best and has waited longest. If there is none, it lends a thread to one whose address uses the fewest.
    fn next(&mut self, limit: usize) -> Option<Job<Login>> {
        let (queue, running) = (&self.queue, &self.running_by);
        let with_share = || {
            Standing::ALL.into_iter().find_map(|standing| {
                queue.iter().position(|Job { sign_in, .. }| {
                    sign_in.caller.standing == standing && running.has_one(sign_in.caller, limit)
                })
            })
        };
        let borrower = || {
            let callers = queue.iter().map(|job| job.sign_in.caller).enumerate();
            let may_borrow = callers.filter(|(_, one)| running.can_lend(one.standing, limit));
            let first = may_borrow.min_by(|(_, one), (_, other)| {
                let known_better = other.standing.cmp(&one.standing);
                let used = |caller: &Caller| running.used_by(caller.source);
                known_better.then(used(one).total_cmp(&used(other)))
            });
            first.map(|(place, _)| place)
        };
        let place = with_share().or_else(borrower)?;
        let job = self.queue.remove(place)?;
        let source = job.sign_in.caller.source;
        self.queued_by.give_back(source, 1.0);
        self.running_by.take(source, 1.0);
        Some(job)
    }
}

impl PoolShared {
    fn work(&self) {
        let mut state = self.state();
        loop {
            let limit = state.limit;
            let Some(job) = state.next(limit) else {
                if state.stopping {
                    break;
                }
                state.idle += 1;
                let wait = self.queued.wait_timeout(state, IDLE);
                let (back, timeout) = wait.unwrap_or_else(PoisonError::into_inner);
                state = back;
                state.idle -= 1;
                if timeout.timed_out() && state.queue.is_empty() && state.alive > state.kept {
                    break;
                }
                continue;
            };
            drop(state);
            let source = job.sign_in.caller.source;
            let finished = self.run(job);
            state = self.state();
            state.running_by.give_back(source, 1.0);
            self.finish(&mut state, finished);
        }
        state.alive -= 1;
        self.finished.notify_all();
    }

    fn run(&self, job: Job<Login>) -> FinishedJob {
        let (login, job) = job.split();
        let ask = || (self.worker)(&login, job.deadline);
        let (tokens, feedback) = catch_unwind(AssertUnwindSafe(ask)).unwrap_or_else(|_| {
            let feedback = TenantFeedback {
                // The tenant may have received the password.
                lost: true,
                ..TenantFeedback::default()
            };
            (
                Err(Refusal::new(Reason::Internal, NoAnswer::Panicked)),
                feedback,
            )
        });
        job.with(JobResult::Login {
            username: login.username,
            permit: login.permit,
            feedback,
            tokens,
        })
    }

    /// Finishes the parked jobs of these credentials.
    fn finish_parked(&self, fetched: bool, of: impl Fn(&Job<UnverifiedTokens>) -> bool) {
        let mut state = self.state();
        let ended: Vec<_> = state.parked.extract_if(.., |job| of(job)).collect();
        for job in ended {
            state.parked_by.give_back(job.sign_in.caller.source, 1.0);
            let (tokens, job) = job.split();
            self.finish(&mut state, job.with(JobResult::Keys { tokens, fetched }));
        }
    }

    /// Adds a finished job. Its credential stays busy until somebody takes the result, or else whoever presents it
    /// meanwhile would make a second job.
    fn finish(&self, state: &mut QueueState, job: FinishedJob) {
        state.finished.push(job);
        self.has_finished.store(true, Ordering::Release);
        self.finished.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, QueueState> {
        lock(&self.state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sign_in::Presented;
    use crate::{
        client::{Client, ClientKey},
        limits::source::SourceNetwork,
        secret::{Fingerprinter, Secret},
        sign_in::SignIn,
    };

    const THREADS: usize = 64;

    fn caller(address: u32, standing: Standing) -> Caller {
        let source = SourceNetwork::V4(address.into());
        Caller { source, standing }
    }

    /// Adds passwords of clients like this one to the queue.
    fn push(state: &mut QueueState, caller: Caller, count: usize) {
        let key = Fingerprinter::new().unwrap().of(&[]);
        for _ in 0..count {
            state.queue.push_back(Job {
                sign_in: SignIn {
                    key: ClientKey(1),
                    client: Client::default(),
                    credential: key,
                    user: None,
                    login: None,
                    caller,
                    id_is_free: false,
                    presented: Presented::default(),
                    token_id: None,
                    restored_for: None,
                    ends_with_connection: false,
                },
                key,
                deadline: Deadline::after(Duration::from_secs(5)),
                task: Login {
                    username: String::new(),
                    password: Secret::new(""),
                    address: None,
                    permit: None,
                },
            });
        }
    }

    /// Gives threads to as many as may have one, and returns whose passwords they are.
    fn run(state: &mut QueueState) -> Vec<Caller> {
        let jobs = std::iter::from_fn(|| state.next(THREADS));
        jobs.map(|job| job.sign_in.caller).collect()
    }

    #[test]
    fn unknown_clients_of_one_address_borrow_idle_threads() {
        let mut state = QueueState::default();
        push(&mut state, caller(1, Standing::Unknown), 100);
        // A share is four fifths of half of them.
        assert_eq!(run(&mut state).len(), THREADS * 4 / 5);
    }

    #[test]
    fn known_clients_find_a_thread_while_others_borrow() {
        let mut state = QueueState::default();
        for address in 0..200 {
            push(&mut state, caller(address, Standing::Unknown), 5);
        }
        let unknown = run(&mut state).len();
        assert!(unknown <= THREADS * 4 / 5);
        for standing in [Standing::Familiar, Standing::Returning] {
            let known = caller(1000, standing);
            push(&mut state, known, 100);
            let running = run(&mut state);
            assert!(running.len() >= 5, "{standing:?}: {}", running.len());
            assert!(running.iter().all(|caller| *caller == known));
        }
        // The next free threads are theirs as well.
        state.running_by.give_back(SourceNetwork::V4(0.into()), 1.0);
        state.running_by.give_back(SourceNetwork::V4(1.into()), 1.0);
        for caller in run(&mut state) {
            assert_eq!(caller.standing, Standing::Returning);
        }
    }

    #[test]
    fn the_address_with_the_fewest_threads_borrows_first() {
        let mut state = QueueState::default();
        let (one, other) = (caller(1, Standing::Unknown), caller(2, Standing::Unknown));
        push(&mut state, one, 100);
        run(&mut state);
        push(&mut state, other, 1);
        assert_eq!(run(&mut state), []);
        state.running_by.give_back(one.source, 1.0);
        assert_eq!(run(&mut state), [other]);
    }
}
