//! A std in which a test decides which thread runs, and whether a wait times out.
//!
//! Only what `auth::workers::pool` and `auth::jwt::jwks_cache` use differs from std. If they use more of it, it
//! has to be added here.

pub use std::*;

/// Locks that a test schedules.
pub mod sync {
    use std::time::Duration;
    pub use std::{
        ops::{Deref, DerefMut},
        sync::*,
    };

    pub use shuttle::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
    use shuttle::{rand::Rng, sync, thread};

    /// Like std's.
    #[derive(Debug, Default)]
    pub struct Mutex<T>(sync::Mutex<T>);

    /// Like std's. It knows its mutex, to lock it again after a wait that timed out.
    pub struct MutexGuard<'a, T> {
        inner: sync::MutexGuard<'a, T>,
        of: &'a Mutex<T>,
    }

    impl<T> Mutex<T> {
        /// Like std's.
        pub const fn new(value: T) -> Self {
            Self(sync::Mutex::new(value))
        }

        /// Like std's.
        ///
        /// # Errors
        ///
        /// Returns an error if another thread panicked with the lock.
        pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
            self.guard(self.0.lock())
        }

        fn guard<'a>(
            &'a self,
            result: LockResult<sync::MutexGuard<'a, T>>,
        ) -> LockResult<MutexGuard<'a, T>> {
            let of = self;
            match result {
                Ok(inner) => Ok(MutexGuard { inner, of }),
                Err(e) => Err(PoisonError::new(MutexGuard {
                    inner: e.into_inner(),
                    of,
                })),
            }
        }
    }

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;
        fn deref(&self) -> &T {
            &self.inner
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            &mut self.inner
        }
    }

    /// Like std's.
    #[derive(Debug, Default)]
    pub struct Condvar(sync::Condvar);

    /// Whether a wait timed out.
    #[derive(Clone, Copy, Debug)]
    pub struct WaitTimeoutResult(bool);

    impl WaitTimeoutResult {
        /// Like std's.
        pub fn timed_out(&self) -> bool {
            self.0
        }
    }

    impl Condvar {
        /// Like std's.
        pub const fn new() -> Self {
            Self(sync::Condvar::new())
        }

        /// Like std's, except that a random choice decides whether it times out. Otherwise it waits for ever.
        ///
        /// # Errors
        ///
        /// Returns an error if another thread panicked with the lock.
        pub fn wait_timeout<'a, T>(
            &self,
            guard: MutexGuard<'a, T>,
            _: Duration,
        ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
            let of = guard.of;
            let times_out = shuttle::rand::thread_rng().gen_ratio(1, 8);
            let result = if times_out {
                drop(guard);
                thread::yield_now();
                of.lock()
            } else {
                of.guard(self.0.wait(guard.inner))
            };
            match result {
                Ok(guard) => Ok((guard, WaitTimeoutResult(times_out))),
                Err(e) => Err(PoisonError::new((
                    e.into_inner(),
                    WaitTimeoutResult(times_out),
                ))),
            }
        }

        /// Like std's.
        pub fn notify_one(&self) {
            self.0.notify_one();
        }

        /// Like std's.
        pub fn notify_all(&self) {
            self.0.notify_all();
        }
    }
}

/// Threads that a test schedules.
pub mod thread {
    use std::{
        io,
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
    };

    pub use shuttle::thread::{Thread, ThreadId, current, yield_now};
    pub use std::thread::Result;

    /// Like std's.
    pub struct JoinHandle<T> {
        inner: shuttle::thread::JoinHandle<T>,
        finished: Arc<AtomicBool>,
    }

    impl<T> JoinHandle<T> {
        /// Like std's.
        ///
        /// # Errors
        ///
        /// Returns an error if the thread panicked.
        pub fn join(self) -> Result<T> {
            self.inner.join()
        }

        /// Like std's.
        pub fn thread(&self) -> &Thread {
            self.inner.thread()
        }

        /// Like std's.
        pub fn is_finished(&self) -> bool {
            self.finished.load(Ordering::SeqCst)
        }
    }

    /// Like std's.
    pub struct Builder(shuttle::thread::Builder);

    impl Builder {
        /// Like std's.
        #[expect(clippy::new_without_default, reason = "std's has none")]
        pub fn new() -> Self {
            Self(shuttle::thread::Builder::new())
        }

        /// Like std's.
        #[must_use]
        pub fn name(self, name: String) -> Self {
            Self(self.0.name(name))
        }

        /// Like std's.
        ///
        /// # Errors
        ///
        /// Never returns an error; a test that needs one makes it.
        pub fn spawn<T: Send + 'static>(
            self,
            body: impl FnOnce() -> T + Send + 'static,
        ) -> io::Result<JoinHandle<T>> {
            let finished = Arc::new(AtomicBool::new(false));
            let flag = Arc::clone(&finished);
            let inner = self.0.spawn(move || {
                let result = body();
                flag.store(true, Ordering::SeqCst);
                result
            })?;
            Ok(JoinHandle { inner, finished })
        }
    }

    /// Like std's.
    pub fn spawn<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        Builder::new().spawn(body).expect("a thread")
    }
}
