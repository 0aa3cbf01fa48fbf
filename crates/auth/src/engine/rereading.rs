//! A reading of files on a thread, because a broker must not stand still while a disk hangs or a large file is parsed.
//!
//! Where what is read may decide about the next message, SIGHUP waits a moment for the thread. What takes longer is
//! taken at a later tick.

use std::{
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    thread::JoinHandle,
    time::Duration,
};

use crate::{
    clock::Deadline,
    threads::{self, Spawn},
};

/// How long SIGHUP waits for the thread, and for how long once it has said that it takes long. The broker serves nobody
/// meanwhile. The first is so long because the thread has a low priority: it is for a busy machine, and for a disk that
/// hangs.
const PATIENCE: Duration = Duration::from_millis(250);
const PATIENCE_LONG: Duration = Duration::from_millis(2);

/// After this time it is reported that the files are still being read. Ten thousand rules take a tenth of a second, so
/// this is a disk that hangs.
const SLOW: Duration = Duration::from_secs(5);

/// What is being read, if anything is.
pub(super) struct Rereading<T> {
    state: State<T>,
    /// When to report that this takes long.
    slow_at: Option<Deadline>,
    /// SIGHUP came meanwhile. What is being read may be older than what it is about.
    once_more: bool,
}

enum State<T> {
    Idle,
    OnThread {
        told: Receiver<Told<T>>,
        thread: JoinHandle<()>,
    },
    Finished(T),
}

/// Who reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadBy {
    /// A thread, for which nobody waits.
    Thread,
    /// The broker, which serves nobody meanwhile.
    Broker,
}

/// What the thread tells.
enum Told<T> {
    /// It takes long.
    Long,
    Finished(T),
}

/// What came of a reading.
pub(super) enum Reread<T> {
    /// This was read.
    Finished(T),
    /// The thread has panicked.
    Panicked,
}

impl<T> Default for Rereading<T> {
    fn default() -> Self {
        Self {
            state: State::Idle,
            slow_at: None,
            once_more: false,
        }
    }
}

impl<T: Send + 'static> Rereading<T> {
    /// Begins a reading. `read` gets a function to call if it takes long. Without `spawn` it runs before this returns,
    /// and also if there is no thread to be had. So it is told where it runs.
    pub(super) fn begin(
        &mut self,
        spawn: Option<Spawn>,
        read: impl Fn(ReadBy, &dyn Fn()) -> T + Clone + Send + 'static,
    ) {
        self.slow_at = Some(Deadline::after(SLOW));
        let (sender, told) = sync_channel(2);
        let on_thread = read.clone();
        let body = move || {
            let is_long = || drop(SyncSender::try_send(&sender, Told::Long));
            let finished = on_thread(ReadBy::Thread, &is_long);
            let _ = sender.send(Told::Finished(finished));
        };
        let thread = spawn.and_then(|spawn| spawn("auth0-reload", Box::new(body)).ok());
        self.state = match thread {
            Some(thread) => State::OnThread { told, thread },
            None => State::Finished(read(ReadBy::Broker, &|| {})),
        };
    }

    /// Returns what was read, if that is finished. `wait` says to wait a moment.
    pub(super) fn take(&mut self, wait: bool) -> Option<Reread<T>> {
        let (told, thread) = match std::mem::replace(&mut self.state, State::Idle) {
            State::Idle => return None,
            State::Finished(finished) => return Some(Reread::Finished(finished)),
            State::OnThread { told, thread } => (told, thread),
        };
        let patience = |time| Deadline::after(if wait { time } else { Duration::ZERO });
        let mut until = patience(PATIENCE);
        loop {
            match told.recv_timeout(until.remaining()) {
                Ok(Told::Long) => until = patience(PATIENCE_LONG),
                Ok(Told::Finished(finished)) => {
                    // It ends right after it has sent this.
                    let _ = thread.join();
                    return Some(Reread::Finished(finished));
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.state = State::OnThread { told, thread };
                    return None;
                }
                Err(RecvTimeoutError::Disconnected) => return Some(Reread::Panicked),
            }
        }
    }

    /// Returns whether files are being read.
    pub(super) fn is_under_way(&self) -> bool {
        !matches!(self.state, State::Idle)
    }

    /// Has the files read once more after this.
    pub(super) fn want_once_more(&mut self) {
        self.once_more = true;
    }

    /// Returns whether that was wanted.
    pub(super) fn takes_once_more(&mut self) -> bool {
        std::mem::take(&mut self.once_more)
    }

    /// Returns `true` once for each reading that takes so long that this should be reported.
    pub(super) fn is_slow(&mut self) -> bool {
        self.is_under_way() && self.slow_at.take_if(|at| at.has_passed()).is_some()
    }

    /// Waits a moment for the thread, because the broker exits.
    pub(super) fn stop(&mut self) {
        let State::OnThread { told, thread } = std::mem::replace(&mut self.state, State::Idle)
        else {
            return;
        };
        let until = threads::last_moment();
        loop {
            match told.recv_timeout(until.remaining()) {
                Ok(Told::Long) => {}
                Ok(Told::Finished(_)) | Err(RecvTimeoutError::Disconnected) => {
                    return drop(thread.join());
                }
                Err(RecvTimeoutError::Timeout) => return threads::leave_behind(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io,
        sync::{Arc, Mutex},
        thread,
    };

    fn no_thread(_: &str, _: Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>> {
        Err(io::Error::other("no thread"))
    }

    fn finished(reading: &mut Rereading<u8>) -> Option<u8> {
        let deadline = Deadline::after(Duration::from_secs(30));
        while !deadline.has_passed() {
            match reading.take(true) {
                Some(Reread::Finished(what)) => return Some(what),
                Some(Reread::Panicked) => return None,
                None => {}
            }
        }
        panic!("it is never finished")
    }

    #[test]
    fn a_thread_reads_where_there_is_one() {
        let mut reading = Rereading::default();
        assert!(reading.take(true).is_none() && !reading.is_under_way());
        for (spawn, reader) in [
            (Some(threads::plain as Spawn), ReadBy::Thread),
            (Some(no_thread), ReadBy::Broker),
            (None, ReadBy::Broker),
        ] {
            reading.begin(spawn, move |by, _| 7 + u8::from(by != reader));
            assert_eq!(finished(&mut reading), Some(7), "by {reader:?}");
            assert!(!reading.is_under_way());
        }
        // Without a thread it is read at once.
        reading.begin(None, |_, _| 8);
        assert!(matches!(reading.take(false), Some(Reread::Finished(8))));
    }

    #[test]
    fn nobody_waits_for_what_takes_long() {
        let held = Arc::new(Mutex::new(()));
        let guard = held.lock().unwrap();
        let mut reading = Rereading::default();
        let (said, long) = sync_channel(1);
        let read = {
            let held = Arc::clone(&held);
            move |_: ReadBy, is_long: &dyn Fn()| {
                is_long();
                said.send(()).unwrap();
                drop(held.lock());
                1
            }
        };
        reading.begin(Some(threads::plain), read);
        long.recv().unwrap();
        assert!(reading.take(true).is_none() && reading.is_under_way());
        assert!(!reading.is_slow(), "not yet");
        reading.slow_at = Some(Deadline::after(Duration::ZERO));
        assert!(reading.is_slow() && !reading.is_slow(), "once");
        reading.want_once_more();
        drop(guard);
        assert_eq!(finished(&mut reading), Some(1));
        assert!(reading.takes_once_more() && !reading.takes_once_more());
        reading.slow_at = Some(Deadline::after(Duration::ZERO));
        assert!(!reading.is_slow(), "it is read");
    }

    #[test]
    fn a_stop_waits_for_the_thread() {
        let held = Arc::new(Mutex::new(()));
        let guard = held.lock().unwrap();
        let mut reading = Rereading::default();
        let on_thread = Arc::clone(&held);
        reading.begin(Some(threads::plain), move |_, _| drop(on_thread.lock()));
        let stopping = thread::spawn(move || reading.stop());
        drop(guard);
        stopping.join().unwrap();
    }

    #[test]
    fn a_thread_that_panics_is_noticed() {
        fn panics(name: &str, body: Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>> {
            threads::plain(name, Box::new(move || drop(body)))
        }
        let mut reading = Rereading::default();
        reading.begin(Some(panics), |_, _| 1);
        assert_eq!(finished(&mut reading), None);
        assert!(!reading.is_under_way());
    }
}
