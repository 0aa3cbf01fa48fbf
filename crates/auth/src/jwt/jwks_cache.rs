//! The current keys, and the thread that fetches the next ones.
//!
//! Readers take the current set without waiting for the network. The thread fetches at the start, again
//! before the keys age, and once out of turn when a token names an unknown key. After that a cool-down
//! applies to all clients together, so that made-up key names cost the tenant at most one request in that
//! time.

use std::{
    io,
    sync::{Arc, Condvar, Mutex, PoisonError, RwLock},
    thread,
    time::{Duration, Instant},
};

use super::{
    fetch_report::{FetchReport, JwksError},
    jwks::KeySet,
};
use crate::{
    clock::moment,
    log::{Level, Log},
    metrics::{ObservedKeys, TenantRequests},
    refusal::NoAnswer,
    threads::{self, Spawn, lock},
};

/// The regular interval between fetches. Auth0 advises to keep keys for 5 to 10 minutes or longer. This is
/// also how long a revoked key is still accepted.
const REFRESH: Duration = Duration::from_secs(8 * 60);

/// The minimum time between two attempts, after a failure or for an unknown key.
const COOL_DOWN: Duration = Duration::from_secs(30);

/// How long keys are used without a successful fetch: one day. An outage of the tenant locks nobody out, and
/// a withdrawn key is dropped after that time even if an attacker blocks the fetches.
const MAX_STALE: Duration = Duration::from_secs(24 * 3600);

/// When to fetch keys, and how long they stay valid.
#[derive(Clone, Copy, Debug)]
pub struct FetchSchedule {
    /// The time from one successful fetch to the next.
    pub refresh: Duration,
    /// The minimum time between two attempts.
    pub cool_down: Duration,
    /// How long keys stay valid after the last successful fetch.
    pub max_stale: Duration,
}

impl Default for FetchSchedule {
    fn default() -> Self {
        Self {
            refresh: REFRESH,
            cool_down: COOL_DOWN,
            max_stale: MAX_STALE,
        }
    }
}

/// The longest pause that the tenant can ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

impl FetchSchedule {
    /// Returns the time from a failed attempt to the next one, where the tenant asks for this pause.
    fn after_failure(&self, pause: Option<Duration>) -> Duration {
        let pause = pause.unwrap_or_default().min(LONGEST_PAUSE);
        self.cool_down.max(pause)
    }
}

/// Fetches the keys from the tenant.
pub type Fetch = Box<dyn Fn() -> Result<KeySet, JwksError> + Send + Sync>;

/// Learns that a fetch has ended, and whether it brought keys.
pub type Fetched = Box<dyn Fn(bool) + Send + Sync>;

/// The current keys.
pub struct JwksCache {
    current: RwLock<CurrentKeys>,
    shared: Arc<FetchShared>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
    spawn: Spawn,
}

#[derive(Default)]
struct CurrentKeys {
    set: Arc<KeySet>,
    /// The newest set that was fetched or read, and not restored. It stays when the keys in use are dropped.
    confirmed: Option<Arc<KeySet>>,
}

struct FetchShared {
    state: Mutex<FetchState>,
    changed: Condvar,
    pace: FetchSchedule,
}

#[derive(Default)]
struct FetchState {
    /// Whether a fetch out of turn is wanted.
    wanted: bool,
    /// When the last attempt began; after the attempt, when it ended, so that a slow one does not use up the
    /// cool-down.
    attempted: Option<Instant>,
    /// Until when the tenant wants no request.
    paused: Option<Instant>,
    fetching: bool,
    stopping: bool,
    running: bool,
    /// Until when the current keys are valid without another fetch.
    good_until: Option<Instant>,
    /// How long keys stay valid after a fetch.
    max_stale: Duration,
    /// The fetches that have ended.
    requests: TenantRequests,
}

impl JwksCache {
    /// Returns an empty store. [`Self::start`] fills it.
    pub fn new(pace: FetchSchedule, spawn: Spawn) -> Self {
        Self {
            current: RwLock::default(),
            shared: Arc::new(FetchShared {
                state: Mutex::new(FetchState {
                    max_stale: pace.max_stale,
                    ..FetchState::default()
                }),
                changed: Condvar::new(),
                pace,
            }),
            thread: Mutex::default(),
            spawn,
        }
    }

    /// Returns the current set, which is empty before the first successful fetch.
    pub fn current(&self) -> Arc<KeySet> {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .set
            .clone()
    }

    /// Returns the newest set that was fetched or read. A key that is not in it has been revoked. Returns `None` if
    /// there is no such set yet; one that was restored from disk may be old.
    pub fn confirmed(&self) -> Option<Arc<KeySet>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.confirmed.clone()
    }

    /// Replaces the current set by one that was fetched or read. If both hold the same keys, the current one stays,
    /// because cached results refer to it.
    pub fn replace(&self, set: KeySet) {
        self.install(set, true);
    }

    fn install(&self, set: KeySet, is_confirmed: bool) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if !current.set.has_same_keys(&set) {
            current.set = Arc::new(set);
        }
        if is_confirmed {
            current.confirmed = Some(Arc::clone(&current.set));
        }
    }

    /// Installs a set that was fetched `age` ago, before a restart, until a fetch brings another.
    pub fn restore(&self, set: KeySet, age: Duration) {
        self.install(set, false);
        self.fetched_ago(age);
    }

    fn fetched_ago(&self, age: Duration) {
        let mut state = lock(&self.shared.state);
        state.good_until = Some(moment() + state.max_stale.saturating_sub(age));
    }

    fn count_request(&self, took: Duration, failed: bool) {
        let mut state = lock(&self.shared.state);
        state.requests.count(took, failed);
    }

    /// Returns how many keys there are, how old they are, and what is known about the requests for them.
    pub fn observe(&self) -> ObservedKeys {
        let number = self.current().len() as u64;
        let state = lock(&self.shared.state);
        let fetched_until = state
            .good_until
            .map(|until| until.saturating_duration_since(moment()));
        ObservedKeys {
            number,
            age: fetched_until.map(|left| state.max_stale.saturating_sub(left)),
            requests: state.requests,
        }
    }

    /// Changes how long keys stay valid, also those that are here.
    pub fn set_max_stale(&self, max_stale: Duration) {
        let mut state = lock(&self.shared.state);
        let before = std::mem::replace(&mut state.max_stale, max_stale);
        let moved = |until: Instant| (until + max_stale).checked_sub(before);
        // If the clock does not reach back that far, they are not valid any more.
        state.good_until = state
            .good_until
            .map(|until| moved(until).unwrap_or_else(moment));
    }

    /// Drops the keys after a failed fetch if the last successful one is too long ago.
    fn drop_stale(&self, tenant: &str, log: &Log) {
        let good_until = lock(&self.shared.state).good_until;
        if self.current().is_empty() || good_until.is_some_and(|until| moment() < until) {
            return;
        }
        self.install(KeySet::default(), false);
        log.line(Level::Error, FetchReport::Stale { tenant }.to_string());
    }

    /// Starts fetching in the background, with the first fetch now. [`Self::stop`] ends it. `fetched` is called after
    /// every fetch, with whether it brought keys, and once more when the thread ends. The log names the tenant.
    ///
    /// # Errors
    ///
    /// Returns an error if no thread can be started.
    pub fn start(
        self: &Arc<Self>,
        tenant: &str,
        fetch: Fetch,
        fetched: Fetched,
        log: Log,
    ) -> io::Result<()> {
        let store = Arc::downgrade(self);
        let shared = Arc::clone(&self.shared);
        lock(&shared.state).running = true;
        let pace = self.shared.pace;
        let tenant = tenant.to_owned();
        let body = move || {
            let mut reported = None;
            let attempt = || {
                let began = moment();
                let result = fetch();
                let took = began.elapsed();
                let Some(store) = store.upgrade() else {
                    return Err(None);
                };
                store.count_request(took, result.is_err());
                report(
                    &mut reported,
                    &result,
                    (&tenant, &log),
                    pace,
                    !store.current().is_empty(),
                );
                match result {
                    Ok(set) => {
                        store.replace(set);
                        store.fetched_ago(Duration::ZERO);
                        Ok(())
                    }
                    Err(no) => {
                        store.drop_stale(&tenant, &log);
                        Err(no.pause)
                    }
                }
            };
            shared.run(attempt, &fetched);
        };
        let thread = (self.spawn)("auth0-keys", Box::new(body)).inspect_err(|_| {
            lock(&self.shared.state).running = false;
        })?;
        *lock(&self.thread) = Some(thread);
        Ok(())
    }

    /// Whether keys are fetched at all. Keys from a file are not.
    pub fn is_live(&self) -> bool {
        lock(&self.shared.state).running
    }

    /// Whether a fetch could bring a missing key: one is under way, or the cool-down allows one.
    pub fn may_fetch(&self) -> bool {
        let state = lock(&self.shared.state);
        self.shared.may_fetch(&state)
    }

    /// Requests a fetch for a missing key. Returns whether one will end after this call: the one under way, or the one
    /// that the cool-down allows.
    pub fn request(&self) -> bool {
        let mut state = lock(&self.shared.state);
        if !self.shared.may_fetch(&state) {
            return false;
        }
        if !state.fetching {
            state.wanted = true;
            self.shared.changed.notify_all();
        }
        true
    }

    /// Requests a fetch even during the cool-down, after a SIGHUP.
    pub fn refresh_soon(&self) {
        lock(&self.shared.state).wanted = true;
        self.shared.changed.notify_all();
    }

    /// Ends the thread and waits a moment for it. A thread that waits for the tenant is left behind.
    pub fn stop(&self) {
        lock(&self.shared.state).stopping = true;
        self.shared.changed.notify_all();
        let thread = lock(&self.thread).take();
        // The fetching thread itself may hold the last reference. It ends right after.
        let Some(thread) = thread.filter(|thread| thread.thread().id() != thread::current().id())
        else {
            return;
        };
        let until = threads::last_moment();
        let mut state = lock(&self.shared.state);
        while state.running && !until.has_passed() {
            let wait = self.shared.changed.wait_timeout(state, until.remaining());
            state = wait.unwrap_or_else(PoisonError::into_inner).0;
        }
        if state.running {
            return threads::leave_behind();
        }
        drop(state);
        let _ = thread.join();
    }
}

impl Drop for JwksCache {
    fn drop(&mut self) {
        self.stop();
    }
}

impl FetchShared {
    fn may_fetch(&self, state: &FetchState) -> bool {
        state.running
            && !state.stopping
            && (state.fetching || state.wanted || self.cooled_down(state, moment()))
    }

    fn cooled_down(&self, state: &FetchState, now: Instant) -> bool {
        state.paused.is_none_or(|until| now >= until)
            && state
                .attempted
                .is_none_or(|last| now.duration_since(last) >= self.pace.cool_down)
    }

    /// Makes attempts until the store is stopped. A failed attempt returns the pause that the tenant asks
    /// for.
    fn run(&self, mut attempt: impl FnMut() -> Result<(), Option<Duration>>, fetched: &Fetched) {
        let mut state = lock(&self.state);
        let mut next = moment();
        loop {
            // Sleeps until the next fetch is due or wanted; does not sleep while stopping.
            while !state.stopping && !state.wanted {
                let Some(left) = next
                    .checked_duration_since(moment())
                    .filter(|d| !d.is_zero())
                else {
                    break;
                };
                state = self
                    .changed
                    .wait_timeout(state, left)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0;
            }
            if state.stopping {
                break;
            }
            state.wanted = false;
            state.fetching = true;
            state.attempted = Some(moment());
            drop(state);

            // A panic in a fetch must neither leave readers waiting nor end the thread.
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(&mut attempt))
                .unwrap_or(Err(None));

            state = lock(&self.state);
            state.fetching = false;
            let now = moment();
            state.attempted = Some(now);
            next = match result {
                Ok(()) => now + self.pace.refresh,
                Err(pause) => now + self.pace.after_failure(pause),
            };
            state.paused = result.is_err().then_some(next);
            drop(state);
            // After `fetching` is false: a request that comes now gets another fetch.
            fetched(result.is_ok());
            state = lock(&self.state);
        }
        state.running = false;
        drop(state);
        self.changed.notify_all();
        fetched(false);
    }
}

/// Logs how a fetch ended, and repeats that only after a change.
fn report(
    reported: &mut Option<Result<usize, NoAnswer>>,
    result: &Result<KeySet, JwksError>,
    (tenant, log): (&str, &Log),
    pace: FetchSchedule,
    older_stay: bool,
) {
    let outcome = result
        .as_ref()
        .map(KeySet::len)
        .map_err(|error| error.why.clone());
    if reported.as_ref() == Some(&outcome) {
        return;
    }
    let line = |level, report: FetchReport| log.line(level, report.to_string());
    match result {
        Ok(set) => {
            let keys = set.len();
            line(Level::Info, FetchReport::Fetched { tenant, keys });
            for key in set.ignored() {
                line(Level::Info, FetchReport::Ignored { tenant, key });
            }
        }
        Err(error) => {
            let failed = FetchReport::Failed {
                error,
                older_stay,
                seconds: pace.after_failure(error.pause).as_secs(),
            };
            line(Level::Warning, failed);
        }
    }
    *reported = Some(outcome);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    const LONG: Duration = Duration::from_secs(3600);
    const PATIENCE: Duration = Duration::from_secs(20);
    const QUICK: FetchSchedule = FetchSchedule {
        refresh: Duration::ZERO,
        cool_down: Duration::ZERO,
        max_stale: LONG,
    };

    fn set(kid: &str) -> KeySet {
        use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
        let modulus = URL_SAFE_NO_PAD.encode([0xb1; 256]);
        KeySet::parse(
            format!(r#"{{"keys":[{{"kty":"RSA","kid":"{kid}","n":"{modulus}","e":"AQAB"}}]}}"#)
                .as_bytes(),
        )
        .unwrap()
    }

    fn down(pause: Option<Duration>) -> JwksError {
        JwksError {
            tenant: "tenant.example".into(),
            why: NoAnswer::Timeout,
            pause,
        }
    }

    fn has(store: &JwksCache, kid: &str) -> bool {
        store
            .current()
            .find(Some(kid), crate::algorithm::Algorithm::Rs256)
            .is_ok()
    }

    /// A cache whose fetches a test answers by hand. One channel reports that a fetch began, one takes its result, and
    /// one reports that it ended.
    struct Rig {
        store: Arc<JwksCache>,
        began: mpsc::Receiver<()>,
        answer: mpsc::Sender<Result<KeySet, JwksError>>,
        ended: mpsc::Receiver<bool>,
        log: Log,
    }

    fn rig(pace: FetchSchedule) -> Rig {
        let store = Arc::new(JwksCache::new(pace, crate::threads::plain));
        let (began_out, began) = mpsc::channel();
        let (answer, answers) = mpsc::channel();
        let (began_out, answers) = (Mutex::new(began_out), Mutex::new(answers));
        let log = Log::default();
        let fetch = move || {
            let _ = lock(&began_out).send(());
            lock(&answers).recv().unwrap_or_else(|_| Err(down(None)))
        };
        let (ended_out, ended) = mpsc::channel();
        let ended_out = Mutex::new(ended_out);
        let fetched = move |fetched| {
            let _ = lock(&ended_out).send(fetched);
        };
        store
            .start("t.example", Box::new(fetch), Box::new(fetched), log.clone())
            .unwrap();
        Rig {
            store,
            began,
            answer,
            ended,
            log,
        }
    }

    impl Rig {
        fn next(&self, result: Result<KeySet, JwksError>) {
            self.began.recv_timeout(PATIENCE).expect("a fetch begins");
            self.answer.send(result).unwrap();
        }

        fn ended(&self) -> bool {
            self.ended.recv_timeout(PATIENCE).expect("a fetch ends")
        }

        fn idle(&self) -> bool {
            self.began.try_recv().is_err()
        }
    }

    #[test]
    fn a_request_joins_the_fetch_under_way() {
        let rig = rig(FetchSchedule {
            refresh: LONG,
            cool_down: LONG,
            max_stale: LONG,
        });
        rig.began.recv_timeout(PATIENCE).unwrap();
        assert!(rig.store.current().is_empty());
        assert!(rig.store.may_fetch() && rig.store.request());
        rig.answer.send(Ok(set("a"))).unwrap();
        assert!(rig.ended() && has(&rig.store, "a"));
        assert!(rig.idle(), "one fetch is enough");
        rig.store.stop();
    }

    #[test]
    fn a_request_brings_a_fetch_after_the_cool_down() {
        let rig = rig(FetchSchedule {
            refresh: LONG,
            cool_down: Duration::ZERO,
            max_stale: LONG,
        });
        rig.next(Ok(set("a")));
        assert!(rig.ended() && rig.idle());
        assert!(rig.store.request());
        rig.next(Err(down(None)));
        assert!(!rig.ended() && has(&rig.store, "a"));
        rig.store.stop();
    }

    #[test]
    fn a_failed_fetch_keeps_the_current_set_and_is_logged_once() {
        let rig = rig(QUICK);
        rig.next(Ok(set("a")));
        for _ in 0..3 {
            rig.next(Err(down(None)));
        }
        rig.began.recv_timeout(PATIENCE).unwrap();
        assert!(has(&rig.store, "a"));
        let lines = rig.log.take();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[1].1.contains("did not answer") && lines[1].1.contains("last good"));
        drop(rig.answer);
        rig.store.stop();
    }

    #[test]
    fn keys_are_dropped_after_max_stale_without_a_successful_fetch() {
        for (max_stale, kept) in [(LONG, true), (Duration::ZERO, false)] {
            let rig = rig(FetchSchedule { max_stale, ..QUICK });
            rig.next(Ok(set("a")));
            rig.next(Err(down(None)));
            rig.began.recv_timeout(PATIENCE).unwrap();
            assert_eq!(has(&rig.store, "a"), kept);
            let said = rig
                .log
                .take()
                .iter()
                .any(|(_, line)| line.contains("jwks_max_stale"));
            assert_eq!(said, !kept);
            rig.answer.send(Ok(set("a"))).unwrap();
            rig.began.recv_timeout(PATIENCE).unwrap();
            assert!(
                has(&rig.store, "a"),
                "they are good again when they are confirmed"
            );
            drop(rig.answer);
            rig.store.stop();
        }
    }

    #[test]
    fn restored_keys_expire_by_their_age() {
        let hour = Duration::from_secs(3600);
        let pace = FetchSchedule {
            max_stale: hour,
            ..QUICK
        };
        for (age, kept) in [(hour / 2, true), (hour, false), (2 * hour, false)] {
            let store = JwksCache::new(pace, crate::threads::plain);
            store.restore(set("a"), age);
            assert!(has(&store, "a"));
            store.drop_stale("t.example", &Log::default());
            assert_eq!(has(&store, "a"), kept, "{age:?}");
        }
    }

    #[test]
    fn only_a_set_that_was_fetched_is_confirmed() {
        let store = JwksCache::new(QUICK, crate::threads::plain);
        store.restore(set("a"), QUICK.max_stale);
        assert!(has(&store, "a") && store.confirmed().is_none());
        store.drop_stale("t.example", &Log::default());
        assert!(store.current().is_empty() && store.confirmed().is_none());

        store.replace(set("b"));
        let fetched = store.confirmed().unwrap();
        assert!(Arc::ptr_eq(&fetched, &store.current()));
        store.fetched_ago(QUICK.max_stale);
        store.drop_stale("t.example", &Log::default());
        assert!(store.current().is_empty());
        assert!(Arc::ptr_eq(&fetched, &store.confirmed().unwrap()));
    }

    #[test]
    fn fetching_the_same_keys_keeps_the_set() {
        let store = JwksCache::new(QUICK, crate::threads::plain);
        store.replace(set("a"));
        let first = store.current();
        store.replace(set("a"));
        assert!(Arc::ptr_eq(&first, &store.current()));
        store.replace(set("b"));
        assert!(!Arc::ptr_eq(&first, &store.current()));
    }

    #[test]
    fn all_clients_share_one_cool_down() {
        let rig = rig(FetchSchedule {
            refresh: LONG,
            cool_down: LONG,
            max_stale: LONG,
        });
        rig.next(Ok(set("a")));
        assert!(rig.ended() && !rig.store.may_fetch());
        for _ in 0..1000 {
            assert!(!rig.store.request());
        }
        assert!(
            rig.idle(),
            "a thousand unknown keys cost the tenant nothing"
        );
        rig.store.refresh_soon();
        rig.next(Ok(set("b")));
        drop(rig.answer);
        rig.store.stop();
    }

    #[test]
    fn the_tenants_pause_holds_but_a_reload_fetches_at_once() {
        let rig = rig(QUICK);
        rig.next(Err(down(Some(LONG))));
        assert!(!rig.ended() && !rig.store.may_fetch());
        assert!(!rig.store.request());
        assert!(rig.idle(), "neither in turn nor for an unknown key");
        let (_, line) = rig.log.take().remove(0);
        assert!(line.contains("follows in 3600 s"), "{line}");
        rig.store.refresh_soon();
        rig.next(Ok(set("a")));
        rig.began.recv_timeout(PATIENCE).expect("as before");
        assert!(has(&rig.store, "a"));
        drop(rig.answer);
        rig.store.stop();
    }

    #[test]
    fn the_tenants_pause_is_limited() {
        let pace = FetchSchedule::default();
        for (pause, wait) in [
            (None, COOL_DOWN),
            (Some(COOL_DOWN / 2), COOL_DOWN),
            (Some(2 * COOL_DOWN), 2 * COOL_DOWN),
            (Some(48 * LONG), LONGEST_PAUSE),
        ] {
            assert_eq!(pace.after_failure(pause), wait);
        }
    }

    #[test]
    fn a_panic_in_a_fetch_is_a_failed_fetch() {
        let store = Arc::new(JwksCache::new(
            FetchSchedule {
                refresh: LONG,
                cool_down: Duration::ZERO,
                max_stale: LONG,
            },
            crate::threads::plain,
        ));
        let calls = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let fetch = move || match counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            0 => panic!("a bug"),
            _ => Ok(set("a")),
        };
        store
            .start(
                "t.example",
                Box::new(fetch),
                Box::new(|_| {}),
                Log::default(),
            )
            .unwrap();
        while !has(&store, "a") {
            thread::yield_now();
        }
        store.stop();
    }

    #[test]
    fn a_stop_tells_that_no_keys_come() {
        let rig = rig(FetchSchedule {
            refresh: LONG,
            cool_down: LONG,
            max_stale: LONG,
        });
        rig.began.recv_timeout(PATIENCE).unwrap();
        assert!(rig.store.request());
        drop(rig.answer);
        rig.store.stop();
        let ended: Vec<_> = rig.ended.iter().collect();
        assert_eq!(ended, [false, false], "the fetch, and the thread");
        assert!(!rig.store.may_fetch() && !rig.store.request());
    }
}
