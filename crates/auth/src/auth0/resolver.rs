//! Looks the tenant's name up once for all concurrent requests.
//!
//! ureq starts a thread for each lookup, because the C library's lookup cannot be cancelled. To start fifty threads
//! while fifty devices sign in makes the broker wait for the memory map of the process. With ureq's own resolver the
//! longest silence (`make silence`, 34 runs) is 5 to 8 ms at the median, and above 15 ms in a run of five, up to 64 ms.
//! With this one it is 4 to 6 ms, and 9 ms at most. Results are not cached here: how long an address is valid is the
//! system's business.
//!
//! A lookup that does not end, because a packet was lost, holds up the others for [`PATIENCE`] only. Then each of them
//! looks the name up itself.

use std::{
    io,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use ureq::{
    Error,
    config::Config,
    http::{Uri, uri::Authority},
    unversioned::{
        resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver},
        transport::NextTimeout,
    },
};

use crate::clock::{self, Deadline};

/// How long a request waits for the lookup of another one.
const PATIENCE: Duration = Duration::from_secs(1);

/// A resolver that makes one lookup at a time. A request that waits for another one's lookup uses its result.
#[derive(Debug, Default)]
pub(super) struct SharedResolver<R = DefaultResolver> {
    system: R,
    state: Mutex<LookupState>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct LookupState {
    is_running: bool,
    last: Option<Lookup>,
}

/// A lookup that has ended. One that timed out is not kept, because another request may have more time left.
#[derive(Debug)]
struct Lookup {
    name: Authority,
    ended: Instant,
    result: Result<ResolvedSocketAddrs, LookupFailure>,
}

#[derive(Clone, Debug)]
enum LookupFailure {
    NotFound,
    Io(String),
}

impl LookupState {
    /// Returns the result of the last lookup, if it is of this name and ended after `began`.
    fn result(
        &self,
        name: Option<&Authority>,
        began: Instant,
    ) -> Option<Result<ResolvedSocketAddrs, Error>> {
        let last = self.last.as_ref()?;
        if last.ended < began || Some(&last.name) != name {
            return None;
        }
        Some(last.result.clone().map_err(|failure| match failure {
            LookupFailure::NotFound => Error::HostNotFound,
            LookupFailure::Io(why) => Error::Io(io::Error::other(why)),
        }))
    }
}

impl<R> SharedResolver<R> {
    /// Locks the state. Nothing leaves it half changed, so a poisoned lock is still good.
    fn state(&self) -> MutexGuard<'_, LookupState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The lookup that the others wait for. Dropping it ends the wait, also during a panic: ureq panics if no thread can be
/// started.
struct Running<'r, R>(&'r SharedResolver<R>);

impl<R> Drop for Running<'_, R> {
    fn drop(&mut self) {
        self.0.state().is_running = false;
        self.0.ended.notify_all();
    }
}

impl<R: Resolver> Resolver for SharedResolver<R> {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let began = clock::moment();
        let deadline = Deadline::after(*timeout.after);
        let waited = self.ended.wait_timeout_while(
            self.state(),
            deadline.remaining().min(PATIENCE),
            |state| state.is_running,
        );
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if let Some(result) = state.result(uri.authority(), began) {
            return result;
        }
        if deadline.has_passed() {
            return Err(Error::Timeout(timeout.reason));
        }
        // If another lookup still runs, it hangs. This one is then for this request alone.
        let running = (!state.is_running).then(|| {
            state.is_running = true;
            Running(self)
        });
        drop(state);
        let timeout = NextTimeout {
            after: deadline.remaining().into(),
            ..timeout
        };
        let result = self.system.resolve(uri, config, timeout);
        if running.is_some() {
            self.state().last = lookup(uri, &result);
        }
        result
    }
}

/// Returns what the requests that wait may use of a result.
fn lookup(uri: &Uri, result: &Result<ResolvedSocketAddrs, Error>) -> Option<Lookup> {
    let result = match result {
        Ok(addresses) => Ok(addresses.clone()),
        Err(Error::HostNotFound) => Err(LookupFailure::NotFound),
        Err(Error::Timeout(_)) => return None,
        Err(why) => Err(LookupFailure::Io(why.to_string())),
    };
    Some(Lookup {
        name: uri.authority()?.clone(),
        ended: clock::moment(),
        result,
    })
}

#[cfg(test)]
mod tests {
    use std::{
        panic::{AssertUnwindSafe, catch_unwind},
        sync::{
            atomic::{AtomicUsize, Ordering::Relaxed},
            mpsc::{Receiver, Sender, channel},
        },
        thread,
    };

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    /// What one lookup of the system does.
    type Step = Box<dyn Fn() -> Result<(), Error> + Send + Sync>;

    /// A system that counts its lookups.
    struct System {
        lookups: AtomicUsize,
        /// What the first lookups do. All others find the address.
        script: Vec<Step>,
    }

    impl std::fmt::Debug for System {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("System")
        }
    }

    impl Resolver for System {
        fn resolve(
            &self,
            _: &Uri,
            _: &Config,
            _: NextTimeout,
        ) -> Result<ResolvedSocketAddrs, Error> {
            let number = self.lookups.fetch_add(1, Relaxed);
            if let Some(step) = self.script.get(number) {
                step()?;
            }
            let mut addresses = self.empty();
            addresses.push("192.0.2.7:443".parse().unwrap());
            Ok(addresses)
        }
    }

    fn resolver(script: Vec<Step>) -> SharedResolver<System> {
        SharedResolver {
            system: System {
                lookups: AtomicUsize::new(0),
                script,
            },
            state: Mutex::default(),
            ended: Condvar::new(),
        }
    }

    fn resolve(
        resolver: &SharedResolver<System>,
        host: &str,
        limit: Duration,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let timeout = NextTimeout {
            after: limit.into(),
            ..NextTimeout::default()
        };
        let uri: Uri = format!("https://{host}/").parse().unwrap();
        resolver.resolve(&uri, &Config::default(), timeout)
    }

    /// Makes a lookup that has begun when the result is received, and ends with `result` when the sender is dropped.
    fn held(result: fn() -> Result<(), Error>) -> (Step, Receiver<()>, Sender<()>) {
        let ((has_begun, begun), (release, released)) = (channel(), channel::<()>());
        let released = Mutex::new(released);
        let step = move || {
            has_begun.send(()).unwrap();
            let _ = released.lock().unwrap().recv();
            result()
        };
        (Box::new(step), begun, release)
    }

    #[test]
    fn an_earlier_result_is_not_used() {
        let resolver = resolver(Vec::new());
        for number in 1..=2 {
            assert!(resolve(&resolver, "a.example", LONG).is_ok());
            assert_eq!(resolver.system.lookups.load(Relaxed), number);
        }
    }

    #[test]
    fn a_result_is_for_all_that_waited_for_it_and_for_its_name_only() {
        let resolver = resolver(Vec::new());
        assert!(resolve(&resolver, "a.example", LONG).is_ok());
        // As if the lookup ended while the next requests wait.
        let later = clock::moment() + LONG;
        resolver.state().last.as_mut().unwrap().ended = later;
        assert!(resolve(&resolver, "a.example", LONG).is_ok());
        assert_eq!(resolver.system.lookups.load(Relaxed), 1);
        assert!(resolve(&resolver, "b.example", LONG).is_ok());
        assert_eq!(resolver.system.lookups.load(Relaxed), 2);
    }

    #[test]
    fn a_failure_is_for_all_that_waited_for_it_unless_it_ran_out_of_time() {
        for (failure, lookups) in [
            (Error::HostNotFound, 1),
            (Error::Io(io::Error::other("no network")), 1),
            (Error::Timeout(ureq::Timeout::Resolve), 2),
        ] {
            let failure = Mutex::new(Some(failure));
            let step = move || Err(failure.lock().unwrap().take().unwrap());
            let resolver = resolver(vec![Box::new(step)]);
            assert!(resolve(&resolver, "a.example", LONG).is_err());
            if let Some(last) = &mut resolver.state().last {
                last.ended = clock::moment() + LONG;
            }
            assert_eq!(resolve(&resolver, "a.example", LONG).is_ok(), lookups == 2);
            assert_eq!(resolver.system.lookups.load(Relaxed), lookups);
        }
    }

    #[test]
    fn a_lookup_that_hangs_holds_up_no_other_for_long() {
        let (step, begun, release) = held(|| Ok(()));
        let resolver = resolver(vec![step]);
        thread::scope(|scope| {
            let hangs = scope.spawn(|| resolve(&resolver, "a.example", LONG));
            begun.recv().unwrap();
            // These would wait for ever if they waited for the first one.
            assert!(resolve(&resolver, "a.example", LONG).is_ok());
            let late = resolve(&resolver, "a.example", Duration::ZERO);
            assert!(matches!(late, Err(Error::Timeout(_))));
            drop(release);
            assert!(hangs.join().unwrap().is_ok());
        });
        assert_eq!(resolver.system.lookups.load(Relaxed), 2);
        assert!(!resolver.state().is_running);
    }

    #[test]
    fn a_lookup_that_panics_blocks_no_other() {
        let resolver = resolver(vec![Box::new(|| panic!("no thread can be started"))]);
        let first = || resolve(&resolver, "a.example", LONG);
        assert!(catch_unwind(AssertUnwindSafe(first)).is_err());
        assert!(resolve(&resolver, "a.example", LONG).is_ok());
    }
}
