//! Looks the tenant's name up once for all concurrent requests.
//!
//! ureq starts a thread for each lookup, because the C library's lookup cannot be cancelled. To start fifty threads
//! while fifty devices sign in makes the broker wait for the memory map of the process. With ureq's own resolver the
//! longest silence (`make silence`, 34 runs) is 5 to 8 ms at the median, and above 15 ms in a run of five, up to 64 ms.
//! With this one it is 4 to 6 ms, and 9 ms at most. Results are not cached here: how long an address is valid is the
//! system's business.

use std::{
    sync::{Mutex, PoisonError},
    time::Instant,
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

/// A resolver that makes one lookup at a time. A request that waits for another one's lookup uses its addresses.
#[derive(Debug, Default)]
pub(super) struct SharedResolver<R = DefaultResolver> {
    system: R,
    last: Mutex<Option<Lookup>>,
}

/// A lookup that has found addresses.
#[derive(Debug)]
struct Lookup {
    name: Authority,
    ended: Instant,
    addresses: ResolvedSocketAddrs,
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
        // The lookup in front has a timeout as well, so this wait has an end. No code leaves the result half changed,
        // so a poisoned lock is still good (ureq panics if no thread can be started).
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = &*last
            && last.ended >= began
            && Some(&last.name) == uri.authority()
        {
            return Ok(last.addresses.clone());
        }
        if deadline.has_passed() {
            return Err(Error::Timeout(timeout.reason));
        }
        let timeout = NextTimeout {
            after: deadline.remaining().into(),
            ..timeout
        };
        let addresses = self.system.resolve(uri, config, timeout)?;
        *last = uri.authority().map(|name| Lookup {
            name: name.clone(),
            ended: clock::moment(),
            addresses: addresses.clone(),
        });
        Ok(addresses)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        panic::{AssertUnwindSafe, catch_unwind},
        sync::atomic::{AtomicUsize, Ordering::Relaxed},
        time::Duration,
    };

    use super::*;

    const A_SECOND: Duration = Duration::from_secs(1);

    /// A system that counts lookups, and panics at the first one if told to.
    #[derive(Debug, Default)]
    struct System {
        lookups: AtomicUsize,
        panics: bool,
    }

    impl Resolver for System {
        fn resolve(
            &self,
            _: &Uri,
            _: &Config,
            timeout: NextTimeout,
        ) -> Result<ResolvedSocketAddrs, Error> {
            assert!(*timeout.after <= A_SECOND);
            let lookups = self.lookups.fetch_add(1, Relaxed);
            assert!(lookups > 0 || !self.panics, "no thread can be started");
            let mut addresses = self.empty();
            addresses.push("192.0.2.7:443".parse().unwrap());
            Ok(addresses)
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

    #[test]
    fn a_lookup_that_ends_while_a_request_waits_is_for_both() {
        let resolver = SharedResolver::<System>::default();
        let lookups = || resolver.system.lookups.load(Relaxed);
        assert!(resolve(&resolver, "a.example", A_SECOND).is_ok());
        assert!(resolve(&resolver, "a.example", A_SECOND).is_ok());
        assert_eq!(lookups(), 2, "an earlier result is not used");
        // As if the lookup ended while the next requests wait.
        let ended = clock::moment() + Duration::from_secs(3600);
        resolver.last.lock().unwrap().as_mut().unwrap().ended = ended;
        let shared = resolve(&resolver, "a.example", A_SECOND).unwrap();
        assert_eq!(shared[0], "192.0.2.7:443".parse().unwrap());
        assert_eq!(lookups(), 2);
        assert!(resolve(&resolver, "b.example", A_SECOND).is_ok());
        assert_eq!(lookups(), 3, "another name is looked up");
    }

    #[test]
    fn a_request_that_has_waited_too_long_makes_no_lookup() {
        let resolver = SharedResolver::<System>::default();
        let late = resolve(&resolver, "a.example", Duration::ZERO);
        assert!(matches!(late, Err(Error::Timeout(_))));
        assert_eq!(resolver.system.lookups.load(Relaxed), 0);
    }

    #[test]
    fn a_lookup_that_panics_blocks_no_other() {
        let system = System {
            panics: true,
            ..System::default()
        };
        let last = Mutex::default();
        let resolver = SharedResolver { system, last };
        let first = || resolve(&resolver, "a.example", A_SECOND);
        assert!(catch_unwind(AssertUnwindSafe(first)).is_err());
        assert!(resolve(&resolver, "a.example", A_SECOND).is_ok());
    }
}
