//! The tenant's name, looked up once for all who ask at the same time.
//!
//! ureq looks a name up on a thread of its own, because the C library's lookup cannot be told when to stop.
//! Fifty sign-ins at once would make fifty threads for the same answer. Nothing is remembered beyond that:
//! how long a name's address is good is the system's business.

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

/// It.
#[derive(Debug, Default)]
pub struct Names {
    system: DefaultResolver,
    state: Mutex<State>,
    answered: Condvar,
}

#[derive(Debug, Default)]
struct State {
    asking: bool,
    waiting: usize,
    /// Counts the answers.
    answers: u64,
    /// The last one; `None` if there is no such name.
    last: Option<Found>,
}

/// Addresses, or why there are none.
type Found = Result<Vec<SocketAddr>, String>;

impl Names {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing is half done under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Resolver for Names {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let deadline = Deadline::after(*timeout.after);
        let mut state = self.state();
        if state.asking {
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
            return match &state.last {
                Some(Ok(addresses)) => {
                    let mut all = self.empty();
                    addresses.iter().for_each(|address| all.push(*address));
                    Ok(all)
                }
                Some(Err(why)) => Err(Error::Io(io::Error::other(why.clone()))),
                None => Err(Error::HostNotFound),
            };
        }
        state.asking = true;
        drop(state);
        let mut asking = Asking {
            names: self,
            answer: Some(Err("the lookup of its name failed within".into())),
        };
        let answer = self.system.resolve(uri, config, timeout);
        asking.answer = match &answer {
            Ok(addresses) => Some(Ok(addresses.iter().copied().collect())),
            Err(Error::HostNotFound) => None,
            Err(why) => Some(Err(why.to_string())),
        };
        answer
    }
}

/// Who asks for all. It ends even if it panics, as ureq does where there is no thread to be had.
struct Asking<'a> {
    names: &'a Names,
    answer: Option<Found>,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let mut state = self.names.state();
        state.asking = false;
        state.answers += 1;
        state.last = self.answer.take();
        drop(state);
        self.names.answered.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::{thread, time::Duration};

    use super::*;

    fn resolve(names: &Names, host: &str) -> Result<ResolvedSocketAddrs, Error> {
        let uri: Uri = format!("https://{host}/").parse().unwrap();
        let timeout = NextTimeout {
            after: Duration::from_secs(20).into(),
            reason: ureq::Timeout::Global,
            ..NextTimeout::default()
        };
        names.resolve(&uri, &Config::default(), timeout)
    }

    #[test]
    fn whoever_asks_meanwhile_gets_the_same_answer() {
        let names = Names::default();
        assert_eq!(resolve(&names, "127.0.0.1:7").unwrap().len(), 1);
        for answer in [
            Some(Ok(vec!["192.0.2.7:443".parse().unwrap()])),
            Some(Err("no".into())),
            None,
        ] {
            names.state().asking = true;
            let asking = Asking {
                names: &names,
                answer: answer.clone(),
            };
            thread::scope(|scope| {
                let waiting: Vec<_> = (0..8)
                    .map(|_| scope.spawn(|| resolve(&names, "127.0.0.1:9")))
                    .collect();
                while names.state().waiting < 8 {
                    thread::yield_now();
                }
                drop(asking);
                for one in waiting {
                    let found = one.join().unwrap().map(|found| found.to_vec());
                    match &answer {
                        Some(Ok(addresses)) => assert_eq!(found.unwrap(), *addresses),
                        Some(Err(_)) | None => assert!(found.is_err()),
                    }
                }
            });
            assert!(!names.state().asking);
        }
    }

    #[test]
    fn a_lookup_that_panics_keeps_nobody_waiting() {
        let names = Names::default();
        let panicked = thread::scope(|scope| {
            let asker = scope.spawn(|| {
                names.state().asking = true;
                let _asking = Asking {
                    names: &names,
                    answer: None,
                };
                panic!("no thread to be had");
            });
            asker.join()
        });
        assert!(panicked.is_err() && !names.state().asking);
        assert!(resolve(&names, "127.0.0.1:7").is_ok());
    }
}
