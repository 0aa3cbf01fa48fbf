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
    account::IssuerNumber,
    auth0::answer::{TenantFeedback, Tokens},
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
        FinishedJob, Job, JobResult, Login, Task, UnverifiedTokens,
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

fn job(key: Fingerprint, task: Task) -> Job {
    Job {
        sign_in: SignIn {
            key: ClientKey(1),
            client: Client::default(),
            credential: key,
            user: None,
            login: None,
            caller: Caller::default(),
            id_is_free: false,
            presented: Default::default(),
            token_id: None,
            restored_for: None,
            ends_with_connection: false,
        },
        key,
        deadline: Deadline::after(LONG),
        task,
    }
}

/// Returns a job with a password for the tenant.
fn login(key: Fingerprint) -> Job {
    let login = Login {
        username: String::new(),
        password: Secret::new(""),
        address: None,
        permit: None,
    };
    job(key, Task::Login(login))
}

/// Returns a job with a token that is signed with an unknown key.
fn token(key: Fingerprint) -> Job {
    let token = String::new();
    let tokens = UnverifiedTokens::FromClient {
        issuer: IssuerNumber::default(),
        token,
    };
    job(key, Task::Keys(tokens))
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
        Box::new(move |_, _| {
            let now = work.now.fetch_add(1, Ordering::SeqCst) + 1;
            work.most.fetch_max(now, Ordering::SeqCst);
            thread::yield_now();
            work.now.fetch_sub(1, Ordering::SeqCst);
            work.done.fetch_add(1, Ordering::SeqCst);
            let tokens = Tokens {
                access: None,
                id: None,
            };
            (Ok(tokens), TenantFeedback::default())
        })
    }
}

/// Returns a cache that never fetches.
fn no_keys() -> Vec<Arc<JwksCache>> {
    vec![Arc::new(JwksCache::new(
        FetchSchedule::default(),
        threads::plain,
    ))]
}

fn pool(limit: usize) -> (Pool, Arc<Work>) {
    let work = Arc::new(Work::default());
    let pool = Pool::new(limit, threads::plain, work.worker(), no_keys());
    (pool, work)
}

fn submit(pool: &Pool, key: Fingerprint) {
    assert!(pool.submit(login(key)).is_ok());
}

fn wait(pool: &Pool, key: Fingerprint) -> FinishedJob {
    pool.wait(key, Deadline::after(LONG)).expect("a result")
}

/// Returns whether a fetch of the keys brought some.
fn wait_for_keys(pool: &Pool, key: Fingerprint) -> bool {
    match wait(pool, key).task {
        JobResult::Keys { fetched, .. } => fetched,
        JobResult::Login { .. } => panic!("it waits for keys"),
    }
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
        assert!(pool.submit(login(keys[0])).is_err());
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
        let pool = Pool::new(2, every_other, work.worker(), no_keys());
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

/// A pool, and a cache that has begun to fetch the keys for it.
struct Keys {
    pool: Arc<Pool>,
    cache: Arc<JwksCache>,
    fetches: Arc<AtomicUsize>,
}

impl Keys {
    fn new(cool_down: Duration, before_each: impl Fn() + Send + Sync + 'static) -> Self {
        let schedule = FetchSchedule {
            refresh: LONG,
            cool_down,
            ..FetchSchedule::default()
        };
        let cache = Arc::new(JwksCache::new(schedule, threads::plain));
        let worker = Arc::new(Work::default()).worker();
        let pool = Arc::new(Pool::new(
            1,
            threads::plain,
            worker,
            vec![Arc::clone(&cache)],
        ));
        let fetches = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&fetches);
        let fetch = move || {
            before_each();
            count.fetch_add(1, Ordering::SeqCst);
            Ok(keys())
        };
        cache
            .start(
                "t.example",
                Box::new(fetch),
                pool.on_keys_fetched(IssuerNumber::default()),
                Log::default(),
            )
            .unwrap();
        Self {
            pool,
            cache,
            fetches,
        }
    }

    /// Has three threads wait at once. Returns which of the waits brought keys.
    fn wait_for_three(&self) -> Vec<bool> {
        let waiting = fingerprints::<3>().map(|key| {
            let pool = Arc::clone(&self.pool);
            thread::spawn(move || {
                assert!(pool.submit(token(key)).is_ok());
                wait_for_keys(&pool, key)
            })
        });
        waiting.map(|thread| thread.join().unwrap()).into()
    }

    fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }
}

/// Anybody can make up tokens with unknown keys. Passwords are checked nevertheless, even by the only thread.
#[test]
fn tokens_that_wait_for_keys_take_no_thread() {
    in_any_order(|| {
        let gate = Arc::new((Mutex::new(false), Condvar::new()));
        let held = Arc::clone(&gate);
        let keys = Keys::new(LONG, move || {
            let mut open = held.0.lock().unwrap();
            while !*open {
                open = held.1.wait_timeout(open, LONG).unwrap().0;
            }
        });
        let [password, tokens @ ..] = fingerprints::<4>();
        for key in tokens {
            assert!(keys.pool.submit(token(key)).is_ok());
        }
        submit(&keys.pool, password);
        wait(&keys.pool, password);
        assert!(!keys.pool.has_finished() || keys.pool.take_finished().is_empty());
        *gate.0.lock().unwrap() = true;
        gate.1.notify_all();
        for key in tokens {
            assert!(wait_for_keys(&keys.pool, key));
        }
        assert_eq!(keys.fetches(), 1);
        keys.cache.stop();
    });
}

/// A job is parked before its fetch is requested, so no fetch ends unnoticed.
#[test]
fn every_wait_for_keys_ends() {
    in_any_order(|| {
        let keys = Keys::new(Duration::ZERO, thread::yield_now);
        assert_eq!(keys.wait_for_three(), [true; 3]);
        assert!(!keys.cache.current().is_empty());
        let fetches = keys.fetches();
        assert!((1..=4).contains(&fetches), "{fetches}");
        keys.cache.stop();
        assert!(!keys.cache.may_fetch());
    });
}

#[test]
fn many_unknown_keys_cost_one_fetch() {
    in_any_order(|| {
        let keys = Keys::new(LONG, thread::yield_now);
        keys.wait_for_three();
        keys.cache.stop();
        let fetches = keys.fetches();
        assert!(
            fetches <= 2,
            "the first, and one that was requested before it: {fetches}"
        );
    });
}

#[test]
fn a_stop_ends_every_wait_for_keys() {
    in_any_order(|| {
        let keys = Keys::new(Duration::ZERO, thread::yield_now);
        let [key, late] = fingerprints();
        let waiting = {
            let pool = Arc::clone(&keys.pool);
            thread::spawn(move || {
                assert!(pool.submit(token(key)).is_ok());
                wait_for_keys(&pool, key);
            })
        };
        keys.cache.refresh_soon();
        keys.cache.stop();
        waiting.join().unwrap();
        assert!(keys.pool.submit(token(late)).is_ok());
        assert!(!wait_for_keys(&keys.pool, late), "at once");
    });
}

/// SIGHUP: a fetch that starts after it sees what was changed before it.
#[test]
fn a_refresh_is_never_lost() {
    in_any_order(|| {
        let keys = Keys::new(LONG, thread::yield_now);
        thread::yield_now();
        let before = keys.fetches();
        keys.cache.refresh_soon();
        while keys.fetches() <= before {
            thread::yield_now();
        }
        keys.cache.stop();
    });
}

/// The cache ends when its last reference is dropped, even by the thread that fetches, and while a job waits.
#[test]
fn a_dropped_cache_ends_its_thread() {
    in_any_order(|| {
        let Keys { pool, cache, .. } = Keys::new(Duration::ZERO, thread::yield_now);
        let [key] = fingerprints();
        let other = thread::spawn(move || drop(pool.submit(token(key))));
        drop(cache);
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
