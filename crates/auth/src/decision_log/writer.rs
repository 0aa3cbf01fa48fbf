//! The thread that writes the decision log.

use std::{
    collections::{HashSet, VecDeque},
    fs::{File, OpenOptions},
    hash::{BuildHasher, RandomState},
    io::{self, Write},
    mem,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use super::{Decided, DecisionLogReport, Item, Shared};
use crate::{
    clock::moment,
    files::FileError,
    log::{Level, Log},
    threads::lock,
};

/// How long decisions are gathered, so that many are written at once.
const GATHER: Duration = Duration::from_millis(100);

/// How long at least lies between two lines of the log about decisions that were left out.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// Of how many sessions it is remembered that their claims are in the file. Beyond that they are written again.
const MAX_SESSIONS: usize = 100_000;

/// How many bytes are collected before they are written.
const CHUNK: usize = 64 * 1024;

/// The file, open for appending.
pub(super) struct LogFile {
    file: File,
    /// Whether it ends within a line, for example because the broker was killed or the disk was full.
    is_torn: bool,
}

impl LogFile {
    /// Opens the file, and creates it where there is none. Nobody but the owner and the group may read it.
    pub(super) fn open(path: &Path) -> Result<Self, FileError> {
        let file = OpenOptions::new()
            .append(true)
            .read(true)
            .create(true)
            .mode(0o640)
            // Opening a FIFO must not block the broker.
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open(path)
            .map_err(FileError::Unwritable)?;
        let metadata = file.metadata().map_err(FileError::Unwritable)?;
        if !metadata.is_file() {
            return Err(FileError::NotRegular);
        }
        let mut last = *b"\n";
        if let Some(end) = metadata.len().checked_sub(1) {
            file.read_at(&mut last, end)
                .map_err(FileError::Unreadable)?;
        }
        let is_torn = last != *b"\n";
        Ok(Self { file, is_torn })
    }

    /// Returns a file that is not regular.
    #[cfg(test)]
    pub(super) fn of(file: File) -> Self {
        Self {
            file,
            is_torn: false,
        }
    }

    /// Writes bytes. Returns how many were written, and what stopped it.
    fn write(&mut self, bytes: &[u8]) -> (usize, io::Result<()>) {
        let mut written = 0;
        while written < bytes.len() {
            match self.file.write(&bytes[written..]) {
                Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
                Ok(more) => written += more,
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                Err(why) => return (written, Err(why)),
            }
        }
        (written, Ok(()))
    }
}

/// What the thread knows.
pub(super) struct Writer {
    path: PathBuf,
    file: LogFile,
    log: Log,
    /// A name for this process.
    process: String,
    ids: RandomState,
    decisions: u64,
    /// The sessions whose claims are in the file.
    described: HashSet<u64>,
    /// Lines that are not written yet, and how many they are.
    lines: String,
    waiting: u64,
    /// How many decisions are missing since the file cannot be written; `None` if it can.
    failing: Option<u64>,
    /// How many decisions were left out, and were not told.
    left_out: u64,
    told: Option<Instant>,
}

/// What the thread takes from the queue.
struct Batch {
    items: VecDeque<Item>,
    left_out: u64,
    is_last: bool,
}

impl Writer {
    pub(super) fn new(path: PathBuf, file: LogFile, log: Log) -> Self {
        let ids = RandomState::new();
        Self {
            process: uuid(&ids, 0),
            path,
            file,
            log,
            ids,
            decisions: 0,
            described: HashSet::new(),
            lines: String::new(),
            waiting: 0,
            failing: None,
            left_out: 0,
            told: None,
        }
    }

    pub(super) fn run(mut self, shared: &Shared) {
        // Used in turns with the one in the queue, so that neither grows anew each time.
        let mut spare = VecDeque::new();
        loop {
            let mut batch = self.take(shared, mem::take(&mut spare));
            for item in batch.items.drain(..) {
                match item {
                    Item::Decided(decided) => self.add(&decided),
                    Item::Reopen => {
                        self.flush(shared);
                        self.reopen();
                    }
                }
                if self.lines.len() >= CHUNK {
                    self.flush(shared);
                }
            }
            self.flush(shared);
            self.left_out += batch.left_out;
            self.tell_left_out(batch.is_last);
            if batch.is_last {
                return;
            }
            spare = batch.items;
            // The memory of a flood is not kept.
            spare.shrink_to(1024);
        }
    }

    /// Waits for decisions, and takes all that have come after a moment.
    fn take(&self, shared: &Shared, spare: VecDeque<Item>) -> Batch {
        let mut queue = lock(&shared.queue);
        while queue.items.is_empty() && queue.left_out == 0 && !queue.stopping {
            queue.is_idle = true;
            let wait = match self.left_out {
                0 => Duration::MAX,
                _ => TELL_AGAIN,
            };
            let (woken, timeout) = shared
                .wake
                .wait_timeout(queue, wait)
                .unwrap_or_else(PoisonError::into_inner);
            queue = woken;
            if timeout.timed_out() {
                break;
            }
        }
        queue.is_idle = false;
        let gathered = shared
            .wake
            .wait_timeout_while(queue, GATHER, |queue| !queue.stopping);
        let (mut queue, _) = gathered.unwrap_or_else(PoisonError::into_inner);
        queue.bytes = 0;
        Batch {
            items: mem::replace(&mut queue.items, spare),
            left_out: mem::take(&mut queue.left_out),
            is_last: queue.stopping,
        }
    }

    /// Adds a decision to the lines.
    fn add(&mut self, decided: &Decided) {
        self.decisions += 1;
        let id = uuid(&self.ids, self.decisions);
        if self.described.len() >= MAX_SESSIONS {
            self.described.clear();
        }
        let session = decided.session();
        let with_claims = session.is_some_and(|number| self.described.insert(number));
        let record = decided.record(id, &self.process, with_claims);
        let labels = [
            ("app", "mosquitto-auth0"),
            ("version", env!("CARGO_PKG_VERSION")),
        ];
        self.lines.push_str(&record.line(&labels));
        self.lines.push('\n');
        self.waiting += 1;
    }

    /// Writes the lines.
    fn flush(&mut self, shared: &Shared) {
        if self.lines.is_empty() {
            return;
        }
        let decisions = mem::take(&mut self.waiting);
        let was_torn = self.file.is_torn;
        if was_torn {
            self.lines.insert(0, '\n');
        }
        let (written, result) = self.file.write(self.lines.as_bytes());
        match result {
            Ok(()) => {
                self.file.is_torn = false;
                let counts = &shared.counts.written;
                counts.fetch_add(decisions, Ordering::Relaxed);
                if let Some(missing) = self.failing.take() {
                    self.tell(&DecisionLogReport::WrittenAgain {
                        path: &self.path,
                        missing,
                    });
                }
            }
            Err(why) => {
                let whole = &self.lines.as_bytes()[..written];
                let lines = whole.iter().filter(|byte| **byte == b'\n').count() as u64;
                let lines = lines.saturating_sub(u64::from(was_torn));
                self.file.is_torn = whole.last().map_or(was_torn, |byte| *byte != b'\n');
                let missing = decisions - lines;
                shared
                    .counts
                    .written
                    .fetch_add(decisions - missing, Ordering::Relaxed);
                shared.counts.left_out.fetch_add(missing, Ordering::Relaxed);
                // The first line about a session may be among the missing ones.
                self.described.clear();
                if self.failing.is_none() {
                    let path = &self.path;
                    self.tell(&DecisionLogReport::NotWritten { path, why: &why });
                }
                *self.failing.get_or_insert(0) += missing;
            }
        }
        self.lines.clear();
        self.lines.shrink_to(2 * CHUNK);
    }

    /// Opens the file by its name.
    fn reopen(&mut self) {
        match LogFile::open(&self.path) {
            Ok(file) => {
                self.file = file;
                self.described.clear();
            }
            Err(why) => {
                let path = &self.path;
                self.tell(&DecisionLogReport::NotReopened { path, why: &why });
            }
        }
    }

    fn tell_left_out(&mut self, is_last: bool) {
        let is_time = self.told.is_none_or(|told| told.elapsed() >= TELL_AGAIN);
        if self.left_out > 0 && (is_time || is_last) {
            self.told = Some(moment());
            let (path, decisions) = (&self.path, self.left_out);
            self.tell(&DecisionLogReport::LeftOut { path, decisions });
            self.left_out = 0;
        }
    }

    fn tell(&self, report: &DecisionLogReport) {
        let level = match report {
            DecisionLogReport::WrittenAgain { .. } => Level::Info,
            DecisionLogReport::LeftOut { .. } => Level::Warning,
            DecisionLogReport::NotWritten { .. } | DecisionLogReport::NotReopened { .. } => {
                Level::Error
            }
        };
        self.log.line(level, report.to_string());
    }
}

/// Returns a UUID (RFC 9562, version 8): a number, hashed with keys that the system drew at random.
pub(super) fn uuid(keys: &RandomState, number: u64) -> String {
    let (high, low) = (keys.hash_one((number, 0_u8)), keys.hash_one((number, 1_u8)));
    format!(
        "{:08x}-{:04x}-8{:03x}-{:04x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xfff,
        0x8000 | low >> 48 & 0x3fff,
        low & 0xffff_ffff_ffff
    )
}
