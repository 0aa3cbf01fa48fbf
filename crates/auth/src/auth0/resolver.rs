//! Looks the tenant's name up once for all concurrent requests.
//!
//! ureq starts a thread for each lookup, because the C library's lookup cannot be cancelled. Fifty sign-ins
//! at once would start fifty threads for the same result. Results are not cached here: how long an address is
//! valid is the system's business.

use std::{
    io,
    net::SocketAddr,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use ureq::{
    Error,
    config::Config,
    http::Uri,
    unversioned::{
        resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver},
        transport::NextTimeout,
    },
};

use crate::clock::Deadline;

/// A resolver that joins concurrent lookups of the same name.
#[derive(Debug, Default)]
pub(super) struct SharedResolver {
    system: DefaultResolver,
    state: Mutex<LookupState>,
    answered: Condvar,
}

#[derive(Debug, Default)]
struct LookupState {
    /// The name that is being looked up, with its port.
    lookup: Option<String>,
    waiting: usize,
    /// How many lookups have ended.
    answers: u64,
    /// The last lookup's name and result; `None` if it timed out.
    last: Option<(String, LookupResult)>,
}

/// The result of a lookup.
#[derive(Clone, Debug)]
enum LookupResult {
    Addresses(Vec<SocketAddr>),
    /// The name does not exist.
    NotFound,
    Failed(String),
}

impl SharedResolver {
    fn state(&self) -> MutexGuard<'_, LookupState> {
        // No code leaves the state half changed, so a poisoned lock is still good.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Resolver for SharedResolver {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let name = uri.authority().map(|name| name.to_string());
        let deadline = Deadline::after(*timeout.after);
        let mut state = self.state();
        while let Some(lookup) = &state.lookup {
            if Some(lookup) != name.as_ref() {
                // The lookup under way is for another name, so this request makes its own.
                drop(state);
                return self.system.resolve(uri, config, timeout);
            }
            let answers = state.answers;
            state.waiting += 1;
            while state.answers == answers && !deadline.has_passed() {
                let woken = self.answered.wait_timeout(state, deadline.remaining());
                state = woken.unwrap_or_else(PoisonError::into_inner).0;
            }
            state.waiting -= 1;
            if state.answers == answers {
                return Err(Error::Timeout(timeout.reason));
            }
            match &state.last {
                Some((of, LookupResult::Addresses(addresses))) if Some(of) == name.as_ref() => {
                    let mut all = self.empty();
                    addresses.iter().for_each(|address| all.push(*address));
                    return Ok(all);
                }
                Some((of, LookupResult::NotFound)) if Some(of) == name.as_ref() => {
                    return Err(Error::HostNotFound);
                }
                Some((of, LookupResult::Failed(why))) if Some(of) == name.as_ref() => {
                    return Err(Error::Io(io::Error::other(why.clone())));
                }
                // The lookup had less time than this request has, or it was for another name.
                _ => {}
            }
        }
        let Some(name) = name else {
            drop(state);
            return self.system.resolve(uri, config, timeout);
        };
        state.lookup = Some(name.clone());
        drop(state);
        let mut lookup = Lookup {
            resolver: self,
            answer: Some((
                name.clone(),
                LookupResult::Failed("the lookup of its name failed within".into()),
            )),
        };
        let answer = self.system.resolve(uri, config, timeout);
        let found = match &answer {
            Ok(addresses) => Some(LookupResult::Addresses(addresses.iter().copied().collect())),
            Err(Error::HostNotFound) => Some(LookupResult::NotFound),
            Err(Error::Timeout(_)) => None,
            Err(why) => Some(LookupResult::Failed(why.to_string())),
        };
        lookup.answer = found.map(|found| (name, found));
        answer
    }
}

/// The request that performs the lookup. Dropping it ends the lookup, also during a panic: ureq panics if no
/// thread can be started.
struct Lookup<'a> {
    resolver: &'a SharedResolver,
    answer: Option<(String, LookupResult)>,
}

impl Drop for Lookup<'_> {
    fn drop(&mut self) {
        let mut state = self.resolver.state();
        state.lookup = None;
        state.answers += 1;
        state.last = self.answer.take();
        drop(state);
        self.resolver.answered.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::{thread, time::Duration};

    use super::*;

    fn resolve(resolver: &SharedResolver, host: &str) -> Result<ResolvedSocketAddrs, Error> {
        let uri: Uri = format!("https://{host}/").parse().unwrap();
        let timeout = NextTimeout {
            after: Duration::from_secs(20).into(),
            reason: ureq::Timeout::Global,
            ..NextTimeout::default()
        };
        resolver.resolve(&uri, &Config::default(), timeout)
    }

    /// Eight requests for `host` arrive during the lookup of `asked`, which has this result.
    fn resolve_during_lookup(
        asked: &str,
        found: Option<LookupResult>,
        host: &str,
    ) -> Vec<Result<Vec<SocketAddr>, Error>> {
        let resolver = SharedResolver::default();
        resolver.state().lookup = Some(asked.to_owned());
        let lookup = Lookup {
            resolver: &resolver,
            answer: found.map(|found| (asked.to_owned(), found)),
        };
        let found = thread::scope(|scope| {
            let waiting: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| resolve(&resolver, host)))
                .collect();
            while asked == host && resolver.state().waiting < 8 {
                thread::yield_now();
            }
            drop(lookup);
            let found = waiting.into_iter().map(|one| one.join().unwrap());
            found.map(|found| found.map(|all| all.to_vec())).collect()
        });
        assert!(resolver.state().lookup.is_none());
        found
    }

    #[test]
    fn concurrent_requests_for_one_name_share_its_result() {
        const NAME: &str = "127.0.0.1:9";
        let address: SocketAddr = "192.0.2.7:443".parse().unwrap();
        for found in resolve_during_lookup(NAME, Some(LookupResult::Addresses(vec![address])), NAME)
        {
            assert_eq!(found.unwrap(), [address]);
        }
        for found in resolve_during_lookup(NAME, Some(LookupResult::NotFound), NAME) {
            assert!(matches!(found, Err(Error::HostNotFound)));
        }
        for found in resolve_during_lookup(NAME, Some(LookupResult::Failed("no".into())), NAME) {
            assert!(matches!(found, Err(Error::Io(why)) if why.to_string() == "no"));
        }
    }

    /// Neither another name's result nor another request's timeout is passed on.
    #[test]
    fn results_are_not_shared_between_names_nor_timeouts_between_requests() {
        const NAME: &str = "127.0.0.1:9";
        let own: SocketAddr = NAME.parse().unwrap();
        let other: SocketAddr = "192.0.2.7:443".parse().unwrap();
        for found in resolve_during_lookup(NAME, None, NAME) {
            assert_eq!(found.unwrap(), [own]);
        }
        for found in resolve_during_lookup(
            "127.0.0.1:7",
            Some(LookupResult::Addresses(vec![other])),
            NAME,
        ) {
            assert_eq!(found.unwrap(), [own]);
        }
    }

    #[test]
    fn a_lookup_that_panics_releases_the_waiting_requests() {
        let resolver = SharedResolver::default();
        let panicked = thread::scope(|scope| {
            let asker = scope.spawn(|| {
                resolver.state().lookup = Some("127.0.0.1:7".into());
                let _asking = Lookup {
                    resolver: &resolver,
                    answer: None,
                };
                panic!("no thread to be had");
            });
            asker.join()
        });
        assert!(panicked.is_err() && resolver.state().lookup.is_none());
        assert!(resolve(&resolver, "127.0.0.1:7").is_ok());
    }
}
