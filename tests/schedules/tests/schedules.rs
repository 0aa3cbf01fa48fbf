//! Runs the worker pool and the key store in thousands of schedules of their threads: no wait lasts for ever,
//! no job is lost, and none is done twice.
//!
//! A failure prints its schedule, which `shuttle::replay` repeats.

extern crate scheduled_std as std;

use std::{
    io,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use schedules::{
    auth0::answer::TenantFeedback,
    client::{Client, ClientKey},
    clock::Deadline,
    jwt::{
        jwks::KeySet,
        jwks_cache::{FetchSchedule, JwksCache},
    },
    limits::known_callers::Caller,
    log::Log,
    secret::{Fingerprint, Fingerprinter, Secret},
    sign_in::SignIn,
    threads,
    workers::{
        FinishedJob, Job, Task, UnverifiedTokens,
        pool::{Pool, Worker},
    },
};
use shuttle::rand::Rng;

/// Longer than any schedule: only a random timeout or another thread ends a wait.
const LONG: Duration = Duration::from_secs(24 * 3600);

/// Runs a test with random schedules, and with others that rarely change threads but at the worst moments.
fn in_any_order(test: fn()) {
    const EACH: usize = 3000;
    shuttle::check_random(test, EACH);
    shuttle::check_pct(test, EACH, 3);
}

fn fingerprints<const N: usize>() -> [Fingerprint; N] {
    let prints = Fingerprinter::new().unwrap();
    std::array::from_fn(|i| prints.of(&[u8::try_from(i).unwrap()]))
}

fn evidence(print: Fingerprint) -> UnverifiedTokens {
    UnverifiedTokens::FromClient {
        token: String::new(),
        print,
    }
}

fn job(key: Fingerprint) -> Job {
    Job {
        sign_in: SignIn {
            key: ClientKey(1),
            client: Client::default(),
            credential: key,
            user: None,
            caller: Caller::default(),
            id_is_free: false,
        },
        key,
        permit: None,
        task: Task::Keys(evidence(key)),
        deadline: Deadline::after(LONG),
    }
}

/// Counts the pool's jobs: those that are done, and those at the same time.
#[derive(Default)]
struct Work {
    done: AtomicUsize,
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Work {
    fn worker(self: &Arc<Self>) -> Worker {
        let work = Arc::clone(self);
        Box::new(move |job| {
            let now = work.now.fetch_add(1, Ordering::SeqCst) + 1;
            work.most.fetch_max(now, Ordering::SeqCst);
            thread::yield_now();
            work.now.fetch_sub(1, Ordering::SeqCst);
            work.done.fetch_add(1, Ordering::SeqCst);
            done(job)
        })
    }
}

fn done(job: Job) -> FinishedJob {
    FinishedJob {
        sign_in: job.sign_in,
        key: job.key,
        permit: None,
        feedback: TenantFeedback::default(),
        result: Ok(evidence(job.key)),
        keys_refetched: None,
        deadline: job.deadline,
    }
}

fn pool(limit: usize) -> (Pool, Arc<Work>) {
    let work = Arc::new(Work::default());
    (Pool::new(limit, threads::plain, work.worker()), work)
}

fn submit(pool: &Pool, key: Fingerprint) {
    assert!(pool.submit(job(key)).is_ok());
}

fn wait(pool: &Pool, key: Fingerprint) -> FinishedJob {
    pool.wait(key, Deadline::after(LONG)).expect("an answer")
}

/// Anybody can make up tokens that wait for a key. Passwords are checked nevertheless.
#[test]
fn waiting_tokens_leave_threads_for_passwords() {
    in_any_order(|| {
        let gate = Arc::new((Mutex::new(false), Condvar::new()));
        let held = Arc::clone(&gate);
        let worker: Worker = Box::new(move |job| {
            if job.is_for_keys() {
                let mut open = held.0.lock().unwrap();
                while !*open {
                    open = held.1.wait_timeout(open, LONG).unwrap().0;
                }
            }
            done(job)
        });
        let pool = Pool::new(2, threads::plain, worker);
        pool.fill();
        let [login, tokens @ ..] = fingerprints::<5>();
        tokens.iter().for_each(|token| submit(&pool, *token));
        let task = Task::Login {
            username: "u".into(),
            password: Secret::new("p"),
            address: None,
        };
        let asked = pool.submit(Job { task, ..job(login) });
        assert!(asked.is_ok());
        wait(&pool, login);
        *gate.0.lock().unwrap() = true;
        gate.1.notify_all();
        tokens.iter().for_each(|token| drop(wait(&pool, *token)));
    });
}

#[test]
fn every_job_is_done_within_the_thread_limit() {
    in_any_order(|| {
        let (pool, work) = pool(2);
        let keys = fingerprints::<4>();
        keys.iter().for_each(|key| submit(&pool, *key));
        for key in keys {
            assert!(wait(&pool, key).key == key);
        }
        assert_eq!(work.done.load(Ordering::SeqCst), 4);
        assert!(work.most.load(Ordering::SeqCst) <= 2);
        assert!(pool.take_finished().is_empty());
    });
}

/// An idle thread that ends takes no job with it.
#[test]
fn jobs_are_not_lost_while_idle_threads_end() {
    in_any_order(|| {
        let (pool, work) = pool(1);
        let [key] = fingerprints();
        for _ in 0..4 {
            submit(&pool, key);
            wait(&pool, key);
        }
        assert_eq!(work.done.load(Ordering::SeqCst), 4);
    });
}

/// This also holds when the result has arrived but was not taken: the broker takes results before it asks
/// about a client, and one may arrive in between.
#[test]
fn a_credential_has_one_job_until_its_result_is_taken() {
    in_any_order(|| {
        let (pool, work) = pool(3);
        let [one, other] = fingerprints();
        for _ in 0..3 {
            submit(&pool, one);
            submit(&pool, other);
            thread::yield_now();
        }
        wait(&pool, one);
        assert!(!pool.is_busy(one));
        wait(&pool, other);
        assert_eq!(work.done.load(Ordering::SeqCst), 2);
        submit(&pool, one);
        wait(&pool, one);
        assert_eq!(work.done.load(Ordering::SeqCst), 3);
    });
}

#[test]
fn a_stop_waits_for_running_jobs_only() {
    in_any_order(|| {
        let (pool, work) = pool(2);
        let keys = fingerprints::<4>();
        keys.iter().for_each(|key| submit(&pool, *key));
        pool.stop();
        assert_eq!(work.now.load(Ordering::SeqCst), 0, "under way");
        let done = work.done.load(Ordering::SeqCst);
        assert_eq!(pool.take_finished().len(), done);
        assert!(pool.submit(job(keys[0])).is_err());
        drop(pool);
        assert_eq!(work.done.load(Ordering::SeqCst), done);
    });
}

#[test]
fn a_job_is_done_although_threads_cannot_be_started() {
    fn every_other(
        name: &str,
        body: Box<dyn FnOnce() + Send>,
    ) -> io::Result<thread::JoinHandle<()>> {
        match shuttle::rand::thread_rng().gen_bool(0.5) {
            true => threads::plain(name, body),
            false => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
    in_any_order(|| {
        let work = Arc::new(Work::default());
        let pool = Pool::new(2, every_other, work.worker());
        let [key] = fingerprints();
        // As a refused device comes back.
        while pool.take_finished().is_empty() {
            submit(&pool, key);
            thread::yield_now();
        }
        pool.stop();
    });
}

fn keys() -> KeySet {
    let modulus = "sbGx".repeat(85) + "sQ";
    let set = format!(r#"{{"keys":[{{"kty":"RSA","kid":"a","n":"{modulus}","e":"AQAB"}}]}}"#);
    KeySet::parse(set.as_bytes()).unwrap()
}

/// Returns a store that has begun to fetch, and its number of fetches.
fn store(cool_down: Duration) -> (Arc<JwksCache>, Arc<AtomicUsize>) {
    let refresh = LONG;
    let store = Arc::new(JwksCache::new(
        FetchSchedule {
            refresh,
            cool_down,
            ..FetchSchedule::default()
        },
        threads::plain,
    ));
    let fetches = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&fetches);
    let fetch = move || {
        thread::yield_now();
        count.fetch_add(1, Ordering::SeqCst);
        Ok(keys())
    };
    store.start(Box::new(fetch), Log::default()).unwrap();
    (store, fetches)
}

#[test]
fn every_wait_for_keys_gets_them() {
    in_any_order(|| {
        let (store, fetches) = store(Duration::ZERO);
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let store = Arc::clone(&store);
                thread::spawn(move || {
                    assert!(store.may_bring_news());
                    assert!(store.refetch(Deadline::after(LONG)));
                    assert!(!store.current().is_empty());
                })
            })
            .collect();
        for thread in waiting {
            thread.join().unwrap();
        }
        let fetches = fetches.load(Ordering::SeqCst);
        assert!((1..=4).contains(&fetches), "{fetches}");
        store.stop();
        assert!(!store.may_bring_news());
    });
}

#[test]
fn many_unknown_keys_cost_one_fetch() {
    in_any_order(|| {
        let (store, fetches) = store(LONG);
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let store = Arc::clone(&store);
                thread::spawn(move || store.refetch(Deadline::after(LONG)))
            })
            .collect();
        for thread in waiting {
            thread.join().unwrap();
        }
        store.stop();
        let fetches = fetches.load(Ordering::SeqCst);
        assert!(
            fetches <= 2,
            "the first and one that was wanted before it: {fetches}"
        );
    });
}

#[test]
fn a_stop_ends_every_wait_for_keys() {
    in_any_order(|| {
        let (store, _) = store(Duration::ZERO);
        let waiting = {
            let store = Arc::clone(&store);
            thread::spawn(move || store.refetch(Deadline::after(LONG)))
        };
        store.refresh_soon();
        store.stop();
        waiting.join().unwrap();
        assert!(!store.refetch(Deadline::after(LONG)));
    });
}

/// SIGHUP: a fetch that starts after it sees what was changed before it.
#[test]
fn a_refresh_is_never_lost() {
    in_any_order(|| {
        let (store, fetches) = store(LONG);
        thread::yield_now();
        let before = fetches.load(Ordering::SeqCst);
        store.refresh_soon();
        while fetches.load(Ordering::SeqCst) <= before {
            thread::yield_now();
        }
        store.stop();
    });
}

/// The store ends when its last reference is dropped, even by the thread that fetches.
#[test]
fn a_dropped_store_ends_its_thread() {
    in_any_order(|| {
        let (store, _) = store(Duration::ZERO);
        let other = {
            let store = Arc::clone(&store);
            thread::spawn(move || store.refetch(Deadline::after(LONG)))
        };
        drop(store);
        other.join().unwrap();
    });
}

/// Shows that these tests find what they are for: a wait that begins just after the event that should have
/// ended it.
#[test]
#[should_panic(expected = "deadlock")]
fn a_planted_fault_is_found() {
    in_any_order(|| {
        let shared = Arc::new((Mutex::new(false), Condvar::new()));
        let waiting = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let ready = *shared.0.lock().unwrap();
                if !ready {
                    let guard = shared.0.lock().unwrap();
                    drop(shared.1.wait_timeout(guard, LONG));
                }
            })
        };
        *shared.0.lock().unwrap() = true;
        shared.1.notify_all();
        waiting.join().unwrap();
    });
}
