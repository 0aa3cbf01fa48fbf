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
    /// The name that is being looked up, with its port.
    asking: Option<String>,
    waiting: usize,
    /// Counts the answers.
    answers: u64,
    /// The last one, and of which name; `None` if time ran out.
    last: Option<(String, Found)>,
}

/// What there is of a name.
#[derive(Clone, Debug)]
enum Found {
    Addresses(Vec<SocketAddr>),
    /// There is no such name.
    Nothing,
    Failed(String),
}

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
        let name = uri.authority().map(|name| name.to_string());
        let deadline = Deadline::after(*timeout.after);
        let mut state = self.state();
        while let Some(asking) = &state.asking {
            if Some(asking) != name.as_ref() {
                // Another name: its addresses are not ours.
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
                Some((of, Found::Addresses(addresses))) if Some(of) == name.as_ref() => {
                    let mut all = self.empty();
                    addresses.iter().for_each(|address| all.push(*address));
                    return Ok(all);
                }
                Some((of, Found::Nothing)) if Some(of) == name.as_ref() => {
                    return Err(Error::HostNotFound);
                }
                Some((of, Found::Failed(why))) if Some(of) == name.as_ref() => {
                    return Err(Error::Io(io::Error::other(why.clone())));
                }
                // Whoever asked had less time than we have, or it was the answer about another name.
                _ => {}
            }
        }
        let Some(name) = name else {
            drop(state);
            return self.system.resolve(uri, config, timeout);
        };
        state.asking = Some(name.clone());
        drop(state);
        let mut asking = Asking {
            names: self,
            answer: Some((
                name.clone(),
                Found::Failed("the lookup of its name failed within".into()),
            )),
        };
        let answer = self.system.resolve(uri, config, timeout);
        let found = match &answer {
            Ok(addresses) => Some(Found::Addresses(addresses.iter().copied().collect())),
            Err(Error::HostNotFound) => Some(Found::Nothing),
            Err(Error::Timeout(_)) => None,
            Err(why) => Some(Found::Failed(why.to_string())),
        };
        asking.answer = found.map(|found| (name, found));
        answer
    }
}

/// Who asks for all. It ends even if it panics, as ureq does where there is no thread to be had.
struct Asking<'a> {
    names: &'a Names,
    answer: Option<(String, Found)>,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let mut state = self.names.state();
        state.asking = None;
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

    /// Eight ask about `host` while `asked` is being looked up, which is answered so.
    fn meanwhile(
        asked: &str,
        found: Option<Found>,
        host: &str,
    ) -> Vec<Result<Vec<SocketAddr>, Error>> {
        let names = Names::default();
        names.state().asking = Some(asked.to_owned());
        let asking = Asking {
            names: &names,
            answer: found.map(|found| (asked.to_owned(), found)),
        };
        let found = thread::scope(|scope| {
            let waiting: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| resolve(&names, host)))
                .collect();
            while asked == host && names.state().waiting < 8 {
                thread::yield_now();
            }
            drop(asking);
            let found = waiting.into_iter().map(|one| one.join().unwrap());
            found.map(|found| found.map(|all| all.to_vec())).collect()
        });
        assert!(names.state().asking.is_none());
        found
    }

    #[test]
    fn whoever_asks_meanwhile_gets_the_same_answer() {
        const NAME: &str = "127.0.0.1:9";
        let address: SocketAddr = "192.0.2.7:443".parse().unwrap();
        for found in meanwhile(NAME, Some(Found::Addresses(vec![address])), NAME) {
            assert_eq!(found.unwrap(), [address]);
        }
        for found in meanwhile(NAME, Some(Found::Nothing), NAME) {
            assert!(matches!(found, Err(Error::HostNotFound)));
        }
        for found in meanwhile(NAME, Some(Found::Failed("no".into())), NAME) {
            assert!(matches!(found, Err(Error::Io(why)) if why.to_string() == "no"));
        }
    }

    /// The time that ran out was somebody else's, and so was the name.
    #[test]
    fn nobody_gets_what_is_another_one_s() {
        const NAME: &str = "127.0.0.1:9";
        let own: SocketAddr = NAME.parse().unwrap();
        let other: SocketAddr = "192.0.2.7:443".parse().unwrap();
        for found in meanwhile(NAME, None, NAME) {
            assert_eq!(found.unwrap(), [own]);
        }
        for found in meanwhile("127.0.0.1:7", Some(Found::Addresses(vec![other])), NAME) {
            assert_eq!(found.unwrap(), [own]);
        }
    }

    #[test]
    fn a_lookup_that_panics_keeps_nobody_waiting() {
        let names = Names::default();
        let panicked = thread::scope(|scope| {
            let asker = scope.spawn(|| {
                names.state().asking = Some("127.0.0.1:7".into());
                let _asking = Asking {
                    names: &names,
                    answer: None,
                };
                panic!("no thread to be had");
            });
            asker.join()
        });
        assert!(panicked.is_err() && names.state().asking.is_none());
        assert!(resolve(&names, "127.0.0.1:7").is_ok());
    }
}
