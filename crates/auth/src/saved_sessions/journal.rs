//! The thread that writes the file. The broker's thread only says what has changed.
//!
//! Changes are collected for some seconds and then written at once, because many small writes would wear out an SD
//! card. They are appended; when more than half of the file is out of date, it is written anew and replaced whole.

use std::{
    collections::{HashMap, HashSet},
    fs::{File, Metadata},
    hash::{BuildHasher, RandomState},
    io::{self, Write},
    mem,
    os::unix::fs::MetadataExt,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        mpsc::{Receiver, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use super::{
    FILE, MAX_FILE, SavedSession, SavedSessionsReport,
    claims::{ClaimsHash, SharedClaims},
    contents::Contents,
    format::{self, Entry},
};
use crate::{
    clock::Deadline,
    files::FileError,
    log::{Level, Log},
    state_dir::StateDir,
    threads::{self, Spawn, lock},
};

/// The maximum number of changes that wait, while the disk is slow. They are of that many clients.
const MAX_WAITING: usize = 200_000;

/// What is said about a client ID that is released.
const RELEASED: &str = "released";

/// How much of the file may be out of date in any case, in bytes.
const SLACK: u64 = 64 * 1024;

/// What has changed about a client ID.
pub(super) enum Change {
    /// This is its session.
    Session(SavedSession, Arc<SharedClaims>),
    /// This is its session, if it has one that is saved.
    Renewed(SavedSession, Arc<SharedClaims>),
    /// It has no session.
    Ended,
    /// Any account may have it.
    Released,
}

impl Change {
    /// Returns the change that is left when another one follows.
    fn then(self, next: Self) -> Self {
        match (self, next) {
            (Self::Session(..), Self::Renewed(session, claims)) => Self::Session(session, claims),
            (Self::Ended, Self::Renewed(..)) => Self::Ended,
            (Self::Released, Self::Renewed(..)) => Self::Released,
            (_, next) => next,
        }
    }
}

/// The thread, and the changes that wait for it.
pub(super) struct Journal {
    waiting: Arc<Waiting>,
    thread: Option<JoinHandle<()>>,
    finished: Receiver<()>,
}

struct Waiting {
    save_within: Duration,
    queue: Mutex<Queue>,
    wake: Condvar,
}

#[derive(Default)]
struct Queue {
    changes: HashMap<Arc<str>, Change>,
    /// Changes were dropped, because there were too many.
    dropped: bool,
    /// When they have to be written.
    due: Option<Deadline>,
    stopping: bool,
    /// Nobody writes changes any more.
    is_closed: bool,
}

/// Changes that are written at once.
struct Batch {
    changes: HashMap<Arc<str>, Change>,
    dropped: bool,
    last: bool,
}

impl Batch {
    /// Adds newer changes.
    fn follow_with(&mut self, newer: HashMap<Arc<str>, Change>) {
        for (client_id, newer) in newer {
            let change = match self.changes.remove(&client_id) {
                None => newer,
                Some(change) => change.then(newer),
            };
            self.changes.insert(client_id, change);
        }
    }
}

impl Journal {
    /// Starts the thread. A change waits this long to be written.
    ///
    /// # Errors
    ///
    /// Returns an error if the thread cannot be started.
    pub(super) fn start(
        dir: StateDir,
        spawn: Spawn,
        log: Log,
        save_within: Duration,
    ) -> io::Result<Self> {
        let waiting = Arc::new(Waiting {
            save_within,
            queue: Mutex::default(),
            wake: Condvar::new(),
        });
        let (sender, finished) = sync_channel(1);
        let body = {
            let waiting = Arc::clone(&waiting);
            move || {
                Writer::new(dir, log).run(&waiting);
                let _ = sender.send(());
            }
        };
        Ok(Self {
            waiting,
            thread: Some(spawn("auth0-sessions", Box::new(body))?),
            finished,
        })
    }

    /// Takes a change, to be written soon.
    pub(super) fn push(&self, client_id: &Arc<str>, change: Change) {
        let mut queue = lock(&self.waiting.queue);
        if queue.is_closed {
            return;
        }
        if queue.changes.len() >= MAX_WAITING && !queue.changes.contains_key(client_id) {
            queue.dropped = true;
            return;
        }
        let change = match queue.changes.remove(client_id) {
            None => change,
            Some(earlier) => earlier.then(change),
        };
        queue.changes.insert(Arc::clone(client_id), change);
        if queue.due.is_none() {
            queue.due = Some(Deadline::after(self.waiting.save_within));
            self.waiting.wake.notify_one();
        }
    }

    /// Returns how many changes wait to be written.
    pub(super) fn waiting(&self) -> usize {
        lock(&self.waiting.queue).changes.len()
    }

    /// Has everything written that waits, and ends the thread. Waits for that, but not for long.
    pub(super) fn stop(&mut self) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        self.waiting.stop();
        threads::wait_for_writer(thread, &self.finished);
    }

    /// Like [`Self::stop`], and waits as long as it takes.
    #[cfg(test)]
    pub(super) fn finish(mut self) {
        self.waiting.stop();
        self.thread.take().map(JoinHandle::join);
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Waiting {
    /// Has everything written that waits, and the thread end.
    fn stop(&self) {
        lock(&self.queue).stopping = true;
        self.wake.notify_one();
    }

    /// Waits until changes are due, or the broker stops.
    fn take(&self) -> Batch {
        let mut queue = lock(&self.queue);
        loop {
            let wait = match queue.due {
                _ if queue.stopping => break,
                Some(due) if due.has_passed() => break,
                Some(due) => due.remaining(),
                None => Duration::MAX,
            };
            let woken = self.wake.wait_timeout(queue, wait);
            queue = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        queue.due = None;
        Batch {
            changes: mem::take(&mut queue.changes),
            dropped: mem::take(&mut queue.dropped),
            last: queue.stopping,
        }
    }

    /// Takes changes back that could not be written. Newer ones count.
    fn give_back(&self, mut batch: Batch) {
        // Most of the work is done without the lock, because the broker's thread waits for it.
        let newer = mem::take(&mut lock(&self.queue).changes);
        batch.follow_with(newer);
        let mut queue = lock(&self.queue);
        let newest = mem::take(&mut queue.changes);
        batch.follow_with(newest);
        queue.changes = batch.changes;
        queue.dropped |= batch.dropped;
        queue.due = Some(Deadline::after(self.save_within));
    }

    /// Takes no further changes, because nobody writes them.
    fn close(&self) {
        let mut queue = lock(&self.queue);
        queue.is_closed = true;
        queue.changes = HashMap::new();
    }
}

/// Why changes were not written.
enum WriteError {
    File(FileError),
    /// The file is not as this process left it.
    AnotherWriter,
}

impl From<FileError> for WriteError {
    fn from(why: FileError) -> Self {
        Self::File(why)
    }
}

impl From<io::Error> for WriteError {
    fn from(why: io::Error) -> Self {
        Self::File(FileError::Unwritable(why))
    }
}

/// The file, as the thread knows it.
struct Writer {
    dir: StateDir,
    log: Log,
    hashes: RandomState,
    open: Option<OpenFile>,
    /// Whether it was reported that the file cannot be written.
    complained: bool,
}

/// The file as it was written last.
struct OpenFile {
    file: File,
    inode: (u64, u64),
    length: u64,
    /// It is written anew beyond this length.
    limit: u64,
    /// The claims that are in it.
    claims: HashSet<ClaimsHash>,
    /// A hash of each client ID in it, and one of what is said about it: a session, or that it is released.
    sessions: HashMap<u64, u64>,
}

impl OpenFile {
    /// Whether this is the file, and nobody else has written to it.
    fn is(&self, file: &Metadata) -> bool {
        (file.dev(), file.ino()) == self.inode && file.len() == self.length
    }
}

impl Writer {
    fn new(dir: StateDir, log: Log) -> Self {
        Self {
            dir,
            log,
            hashes: RandomState::new(),
            open: None,
            complained: false,
        }
    }

    fn run(mut self, waiting: &Waiting) {
        loop {
            let batch = waiting.take();
            let last = batch.last;
            match self.write(&batch) {
                Ok(()) => {
                    if mem::take(&mut self.complained) {
                        self.tell(&SavedSessionsReport::SavedAgain);
                    }
                }
                Err(WriteError::AnotherWriter) => {
                    waiting.close();
                    let path = self.dir.path_of(FILE);
                    return self.tell(&SavedSessionsReport::AnotherWriter { path });
                }
                Err(WriteError::File(why)) => {
                    // The length is unsure.
                    self.open = None;
                    if !mem::replace(&mut self.complained, true) {
                        let path = self.dir.path_of(FILE);
                        self.tell(&SavedSessionsReport::NotSaved { path, why });
                    }
                    waiting.give_back(batch);
                }
            }
            if last {
                return;
            }
        }
    }

    fn tell(&self, report: &SavedSessionsReport) {
        let level = match report {
            SavedSessionsReport::SavedAgain => Level::Info,
            _ => Level::Warning,
        };
        self.log.line(level, report.to_string());
    }

    /// Writes changes, so that they are there after a power cut.
    fn write(&mut self, batch: &Batch) -> Result<(), WriteError> {
        if batch.changes.is_empty() && !batch.dropped {
            return Ok(());
        }
        let hashes = &self.hashes;
        let on_disk = std::fs::symlink_metadata(self.dir.path_of(FILE));
        match (&mut self.open, on_disk) {
            // The first write, or the file was deleted.
            (None, _) => {}
            (Some(_), Err(why)) if why.kind() == io::ErrorKind::NotFound => {}
            (Some(_), Err(why)) => return Err(why.into()),
            (Some(open), Ok(file)) if !open.is(&file) => return Err(WriteError::AnotherWriter),
            (Some(open), Ok(_)) => {
                let bytes = open.append(batch, hashes);
                if bytes.is_empty() {
                    return Ok(());
                }
                if open.length + bytes.len() as u64 <= open.limit {
                    open.file.write_all(&bytes)?;
                    open.length += bytes.len() as u64;
                    return Ok(open.file.sync_data()?);
                }
            }
        }
        self.open = None;
        self.open = Some(rewrite(&self.dir, batch, hashes)?);
        Ok(())
    }
}

impl OpenFile {
    /// Returns the bytes to append for these changes.
    fn append(&mut self, batch: &Batch, hashes: &RandomState) -> Vec<u8> {
        let mut bytes = Vec::new();
        if batch.dropped {
            format::write(&Entry::Missing, &mut bytes);
            // What was said before counts no more.
            self.sessions.values_mut().for_each(|said| *said = !*said);
        }
        for (client_id, change) in &batch.changes {
            let id = hashes.hash_one(client_id);
            match change {
                Change::Ended if self.sessions.remove(&id).is_none() => {}
                Change::Ended => format::write(&Entry::Ended(client_id), &mut bytes),
                Change::Released => {
                    self.sessions.insert(id, hashes.hash_one(RELEASED));
                    format::write(&Entry::Released(client_id), &mut bytes);
                }
                Change::Renewed(..) if !self.sessions.contains_key(&id) => {}
                Change::Session(session, claims) | Change::Renewed(session, claims) => {
                    let said = hashes.hash_one(session);
                    if self.sessions.insert(id, said) == Some(said) {
                        continue;
                    }
                    if self.claims.insert(claims.hash) {
                        format::write(&Entry::Claims(&claims.text), &mut bytes);
                    }
                    format::write(&Entry::Session(client_id, session.clone()), &mut bytes);
                }
            }
        }
        bytes
    }
}

/// Writes the file anew: what it says, with these changes, and nothing that is out of date.
fn rewrite(dir: &StateDir, batch: &Batch, hashes: &RandomState) -> Result<OpenFile, WriteError> {
    let old = match dir.read_up_to(FILE, MAX_FILE) {
        Ok(old) => old,
        Err(FileError::Unreadable(why)) if is_passing(&why) => return Err(why.into()),
        // It cannot be used. That was reported at the start.
        Err(_) => None,
    };
    let (mut contents, _) = Contents::parse(&old.unwrap_or_default());
    contents.apply(batch.changes.iter(), batch.dropped);
    let mut bytes = contents.to_file();
    if bytes.len() as u64 > MAX_FILE / 2 {
        // There are too many. Whoever has signed in since has no saved rights, rather than old ones.
        for client_id in batch.changes.keys() {
            contents.sessions.remove(client_id);
        }
        bytes = contents.to_file();
    }
    dir.write(FILE, &bytes)?;
    let length = bytes.len() as u64;
    let file = dir.append_to(FILE)?;
    let metadata = file.metadata()?;
    let sessions = contents.sessions.iter();
    let sessions = sessions.map(|(id, session)| (hashes.hash_one(id), hashes.hash_one(session)));
    let released = contents.released.iter();
    let released = released.map(|id| (hashes.hash_one(id), hashes.hash_one(RELEASED)));
    let used: HashSet<_> = contents.sessions.values().map(|one| one.claims).collect();
    Ok(OpenFile {
        inode: (metadata.dev(), metadata.ino()),
        length,
        limit: (2 * length + SLACK).min(MAX_FILE),
        claims: used
            .into_iter()
            .filter(|hash| contents.claims.contains_key(hash))
            .collect(),
        sessions: sessions.chain(released).collect(),
        file,
    })
}

/// Whether a file may be readable again in a moment, so that what it says must not be given up.
fn is_passing(why: &io::Error) -> bool {
    let code = why.raw_os_error();
    code.is_some_and(|code| [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::EIO].contains(&code))
}

impl Contents {
    /// Applies changes. `dropped` says that others are missing.
    fn apply<'c>(
        &mut self,
        changes: impl Iterator<Item = (&'c Arc<str>, &'c Change)>,
        dropped: bool,
    ) {
        if dropped {
            self.doubt_all();
        }
        for (client_id, change) in changes {
            match change {
                Change::Ended => self.end(client_id),
                Change::Released => self.release(Arc::clone(client_id)),
                Change::Renewed(..) if !self.sessions.contains_key(client_id) => {}
                Change::Session(session, claims) | Change::Renewed(session, claims) => {
                    self.claims.insert(claims.hash, Arc::clone(claims));
                    self.insert(Arc::clone(client_id), session.clone());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_given_up_only_if_it_will_not_be_readable_in_a_moment() {
        let is_passing = |code| is_passing(&io::Error::from_raw_os_error(code));
        assert!(
            [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::EIO]
                .into_iter()
                .all(is_passing)
        );
        assert!(![libc::EACCES, libc::ELOOP].into_iter().any(is_passing));
    }
}
