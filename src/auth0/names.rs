//! The tenant's name, looked up once for all who ask at the same time.
//!
//! ureq looks a name up on a thread of its own, because the C library's lookup cannot be told when to stop.
//! Fifty sign-ins at once would make fifty threads for the same answer. Nothing is remembered beyond that:
//! how long a name's address is good is the system's business.

use std::{
    io,
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
    /// Counts the answers.
    answers: u64,
    /// The last one; why not, if there is none.
    last: Option<Result<Vec<std::net::SocketAddr>, String>>,
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
        let deadline = Deadline::after(*timeout.after);
        let mut state = self.state();
        if state.asking {
            let answers = state.answers;
            while state.answers == answers {
                let left = deadline.remaining();
                if left.is_zero() {
                    return Err(Error::Timeout(timeout.reason));
                }
                let woken = self.answered.wait_timeout(state, left);
                state = woken.unwrap_or_else(PoisonError::into_inner).0;
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
        let answer = self.system.resolve(uri, config, timeout);
        let mut state = self.state();
        state.asking = false;
        state.answers += 1;
        state.last = match &answer {
            Ok(addresses) => Some(Ok(addresses.iter().copied().collect())),
            Err(Error::HostNotFound) => None,
            Err(why) => Some(Err(why.to_string())),
        };
        drop(state);
        self.answered.notify_all();
        answer
    }
}
