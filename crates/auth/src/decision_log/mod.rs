//! The decision log: a file with one line of JSON for each decision.
//!
//! | question | file |
//! |---|---|
//! | What is in a line? | [`record`] |
//! | What does the broker's thread hand over? | `decided.rs` |
//! | How is a line written, and what if it cannot be? | `writer.rs` |
//! | Which decisions are logged? | `engine/observer.rs` |
//!
//! The broker's thread puts decisions into a queue of limited size and goes on. A thread makes lines of them and writes
//! these. If it does not keep up, or the disk is full, decisions are left out, counted, and the count is told.

mod decided;
pub mod record;
mod timestamp;
mod writer;

use std::{
    collections::VecDeque,
    io,
    path::Path,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, sync_channel},
    },
    thread::JoinHandle,
};

use crate::{
    files::FileError,
    log::Log,
    metrics::DecisionLogCounts,
    threads::{self, Spawn, lock},
};
pub(crate) use decided::{
    Decided, DecidedMessage, PolicyPlace, PolicyPlaces, SessionFacts, ShadowDecision, Who,
};
use writer::{LogFile, Writer};

/// How many bytes of decisions may wait.
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// The decision log.
pub(crate) struct DecisionLog {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    finished: Receiver<()>,
}

/// What both threads use.
#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    counts: Counts,
}

#[derive(Default)]
struct Queue {
    items: VecDeque<Item>,
    bytes: usize,
    /// How many decisions found no room since the thread last looked.
    left_out: u64,
    /// Whether the thread waits until something comes.
    is_idle: bool,
    stopping: bool,
}

enum Item {
    Decided(Box<Decided>),
    /// The file was moved away: open it again by its name.
    Reopen,
}

/// How many decisions were logged.
#[derive(Default)]
struct Counts {
    written: AtomicU64,
    left_out: AtomicU64,
}

/// Why the decision log cannot be opened.
#[derive(Debug)]
pub(crate) enum OpenError {
    File(FileError),
    NoThread(io::Error),
}

/// What the operator is told about the decision log.
#[derive(Debug)]
pub(crate) enum DecisionLogReport<'a> {
    /// It cannot be written.
    NotWritten { path: &'a Path, why: &'a io::Error },
    /// It is written again, and so many decisions are missing.
    WrittenAgain { path: &'a Path, missing: u64 },
    /// So many decisions found no room in the queue.
    LeftOut { path: &'a Path, decisions: u64 },
    /// It cannot be opened again after SIGHUP, so the file that was moved away is still written.
    NotReopened { path: &'a Path, why: &'a FileError },
}

impl DecisionLog {
    /// Opens the file, and starts the thread that writes it.
    ///
    /// # Errors
    ///
    /// Returns why the file cannot be opened, or the thread cannot be started.
    pub(crate) fn open(path: &Path, spawn: Spawn, log: Log) -> Result<Self, OpenError> {
        let file = LogFile::open(path).map_err(OpenError::File)?;
        Self::start(path, file, spawn, log)
    }

    fn start(path: &Path, file: LogFile, spawn: Spawn, log: Log) -> Result<Self, OpenError> {
        let shared = Arc::<Shared>::default();
        let (sender, finished) = sync_channel(1);
        let body = {
            let (shared, path) = (Arc::clone(&shared), path.to_owned());
            move || {
                Writer::new(path, file, log).run(&shared);
                let _ = sender.send(());
            }
        };
        let thread = spawn("auth0-decisions", Box::new(body)).map_err(OpenError::NoThread)?;
        Ok(Self {
            shared,
            thread: Some(thread),
            finished,
        })
    }

    /// Hands a decision over. If there is no room, it is counted only.
    pub(crate) fn push(&self, mut decided: Decided) {
        decided.cut_unverified();
        let size = decided.size();
        let mut queue = lock(&self.shared.queue);
        if queue.bytes + size > MAX_BYTES {
            queue.left_out += 1;
            let left_out = &self.shared.counts.left_out;
            left_out.fetch_add(1, Ordering::Relaxed);
            return;
        }
        queue.bytes += size;
        queue.items.push_back(Item::Decided(Box::new(decided)));
        self.shared.wake_idle(&mut queue);
    }

    /// Has the file opened again by its name, because it may have been moved away (SIGHUP).
    pub(crate) fn reopen(&self) {
        let mut queue = lock(&self.shared.queue);
        if !matches!(queue.items.back(), Some(Item::Reopen)) {
            queue.items.push_back(Item::Reopen);
        }
        self.shared.wake_idle(&mut queue);
    }

    /// Returns how many decisions were logged.
    pub(crate) fn counts(&self) -> DecisionLogCounts {
        let Counts { written, left_out } = &self.shared.counts;
        DecisionLogCounts {
            written: written.load(Ordering::Relaxed),
            left_out: left_out.load(Ordering::Relaxed),
        }
    }

    /// Has everything written that waits, and ends the thread. Waits for that, but not for long.
    pub(crate) fn stop(&mut self) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        lock(&self.shared.queue).stopping = true;
        self.shared.wake.notify_one();
        threads::wait_for_writer(thread, &self.finished);
    }
}

impl Drop for DecisionLog {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    /// Wakes the thread, if it waits until something comes. To wake it for each decision would cost a system call.
    fn wake_idle(&self, queue: &mut Queue) {
        if std::mem::take(&mut queue.is_idle) {
            self.wake.notify_one();
        }
    }
}

#[cfg(test)]
mod tests;
