//! The rights of kept sessions, saved so that they outlive a restart of the broker.
//!
//! The broker keeps sessions of absent clients over a restart, with what is queued for them, and tells a plugin nothing
//! about them. So the plugin saves, for each session that the broker may keep, its account and what decides about its
//! rights: not the rights themselves, because the policy file and the options may have changed when the broker is back.
//!
//! * [`claims`]: what is saved of a token's claims
//! * [`contents`]: what the file says, all in all · [`mod@format`]: its bytes · [`journal`]: the thread that writes
//!   it
//! * this file: what is known of sessions whose clients have not been back since the broker started
//!
//! What is saved gives nobody a right to come in. It decides what is queued for a session that the broker restored, and
//! who may take it over. When its client is back, the rights of its own token count, and the broker checks what is
//! queued once more. So where something is unsure (the file was damaged, or the policy file asks for a claim that is
//! not saved) it is safe to queue everything: its owner's token decides in the end.

mod claims;
mod contents;
mod format;
pub(crate) mod fuzzing;
mod journal;

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashMap, HashSet},
    fs::File,
    net::IpAddr,
    ops::Bound,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use serde_json::{Map, Value};

use crate::{
    account::Account,
    clock::Unix,
    files::FileError,
    log::{Level, Log},
    metrics::ObservedSavedSessions,
    state_dir::StateDir,
    threads::Spawn,
};
use claims::ParsedClaims;
pub(crate) use claims::{ClaimsHash, SavedClaims, SharedClaims};
use contents::Contents;
pub(crate) use contents::Damage;
pub use format::GENERATION;
use journal::{Change, Journal};

/// The name of the file.
const FILE: &str = "sessions";

/// The name of an empty file that a broker locks as long as it runs. (The other one is replaced now and then.)
const LOCK: &str = "sessions.lock";

/// How long a change may wait to be written. A broker that is killed loses at most the changes of this time.
const SAVE_WITHIN: Duration = Duration::from_secs(5);

/// The longest file that is read, in bytes. Half of it is enough for some 500,000 sessions.
const MAX_FILE: u64 = 128 * 1024 * 1024;

/// How many sets of claims are kept parsed, for fleets whose devices share them. Parsed claims take several times as
/// much memory as their text.
const MAX_PARSED: usize = 1000;

/// What is saved of a session, beside its client ID.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SavedSession {
    /// The user name at the tenant.
    pub(crate) username: Arc<str>,
    /// The `sub` of its token, or the user name if it had none.
    subject: Arc<str>,
    /// When its rights end.
    pub(crate) until: Unix,
    claims: ClaimsHash,
    /// See [`SavedClaims`].
    own: Box<str>,
    uncertain: Uncertain,
    /// The address of its client.
    pub(crate) address: Option<IpAddr>,
    /// The port of the listener.
    pub(crate) port: Option<u16>,
    /// The SHA-256 fingerprint of the client's certificate.
    pub(crate) certificate: Option<[u8; 32]>,
    /// The mark of the tenant's key that signed its token.
    pub(crate) signed_by: Option<u64>,
}

/// Whether the session may have got other rights since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Uncertain {
    No,
    Yes,
}

/// A session, as it is when it is to be saved.
#[derive(Debug)]
pub(crate) struct SessionToSave {
    session: SavedSession,
    claims: Arc<SharedClaims>,
}

impl SessionToSave {
    /// Returns what to save of a session with these claims.
    pub(crate) fn new(
        claims: &SavedClaims,
        username: &Arc<str>,
        account: &Account,
        until: Unix,
        signed_by: Option<u64>,
        (address, port, certificate): (Option<IpAddr>, Option<u16>, Option<[u8; 32]>),
    ) -> Self {
        Self {
            session: SavedSession {
                username: Arc::clone(username),
                subject: Arc::clone(&account.subject),
                until,
                claims: claims.shared.hash,
                own: claims.own.clone(),
                uncertain: Uncertain::No,
                address,
                port,
                certificate,
                signed_by,
            },
            claims: Arc::clone(&claims.shared),
        }
    }
}

/// What the operator is told about saved sessions.
#[derive(Debug)]
pub(crate) enum SavedSessionsReport {
    /// So many were read at the start.
    Restored(usize),
    /// The file is damaged. What is good of it counts.
    Damaged { path: PathBuf, damage: Damage },
    /// The file is not used.
    Unusable { path: PathBuf, why: FileError },
    /// The file cannot be written.
    NotSaved { path: PathBuf, why: FileError },
    /// The file can be written again.
    SavedAgain,
    /// Another process writes the file.
    AnotherWriter { path: PathBuf },
    /// Another broker uses the folder.
    InUse { folder: PathBuf },
    /// No thread can be started to write the file.
    NoThread(std::io::Error),
}

/// What is known of sessions that the broker may have restored, and whose clients have not been back.
#[derive(Default)]
pub(crate) struct SavedSessions {
    contents: Contents,
    /// Some of the claims, parsed; `None` for those that cannot be read.
    parsed: RefCell<HashMap<ClaimsHash, Option<Arc<ParsedClaims>>>>,
    journal: Option<Journal>,
    /// Keeps other brokers from using the folder.
    lock: FolderLock,
    /// The sessions that the broker has asked about since the SIGHUP.
    asked: HashSet<Arc<str>>,
    /// Where the next session to [check](Self::next_unchecked) is, in order of client IDs. `None` if all are checked.
    unchecked: Option<Bound<Arc<str>>>,
}

/// Whether this broker may use the folder.
#[derive(Default)]
enum FolderLock {
    /// No instance has opened a folder.
    #[default]
    None,
    /// It may, as long as the file is open. (Without a file where the system locks none.)
    Ours { _file: Option<File> },
    /// Another broker uses it.
    Theirs,
}

impl FolderLock {
    fn of(dir: &StateDir) -> Self {
        match dir.try_lock(LOCK) {
            Ok(None) => Self::Theirs,
            Ok(file) => Self::Ours { _file: file },
            Err(_) => Self::Ours { _file: None },
        }
    }
}

/// What is saved of one session.
pub(crate) struct Saved<'a> {
    /// The session.
    pub(crate) session: &'a SavedSession,
    claims: Arc<ParsedClaims>,
}

impl Saved<'_> {
    /// Returns the account that it belongs to.
    pub(crate) fn account(&self) -> Account {
        Account {
            issuer: Arc::clone(&self.claims.issuer),
            subject: Arc::clone(&self.session.subject),
        }
    }

    /// Returns its claims.
    pub(crate) fn claims(&self) -> Option<Arc<Map<String, Value>>> {
        self.claims.with_own(&self.session.own)
    }

    /// Returns the hash of the claims that it shares with others: all that granted something when it was saved, and the
    /// names of the rest.
    pub(crate) fn claims_hash(&self) -> ClaimsHash {
        self.session.claims
    }

    /// Whether the claim with this name is saved with the session, and not with the claims that it shares.
    pub(crate) fn is_own(&self, name: &str) -> bool {
        self.claims.is_own(name)
    }

    /// Whether something is saved about all claims with these names.
    pub(crate) fn covers(&self, names: &BTreeSet<String>) -> bool {
        self.claims.cover(names)
    }
}

impl SavedSessions {
    /// Reads what is saved, and begins to save. All instances of the plugin share the folder that the first one names.
    pub(crate) fn open(&mut self, dir: &StateDir, spawn: Spawn, log: &Log) {
        if !matches!(self.lock, FolderLock::None) {
            return;
        }
        let tell = |level, report: &SavedSessionsReport| log.line(level, report.to_string());
        self.lock = FolderLock::of(dir);
        if matches!(self.lock, FolderLock::Theirs) {
            let folder = dir.path_of("");
            return tell(Level::Warning, &SavedSessionsReport::InUse { folder });
        }
        let path = dir.path_of(FILE);
        match dir.read_up_to(FILE, MAX_FILE) {
            Ok(None) => {}
            Ok(Some(file)) => {
                let (contents, damage) = Contents::parse(&file);
                self.contents = contents;
                if let Some(damage) = damage {
                    tell(
                        Level::Warning,
                        &SavedSessionsReport::Damaged { path, damage },
                    );
                }
                self.check_again();
                let number = self.contents.sessions.len();
                tell(Level::Info, &SavedSessionsReport::Restored(number));
            }
            Err(why) => tell(Level::Warning, &SavedSessionsReport::Unusable { path, why }),
        }
        match Journal::start(dir.clone(), spawn, log.clone(), SAVE_WITHIN) {
            Ok(journal) => self.journal = Some(journal),
            Err(why) => tell(Level::Warning, &SavedSessionsReport::NoThread(why)),
        }
    }

    /// Has everything written that waits, and ends the thread.
    pub(crate) fn stop(&mut self) {
        if let Some(journal) = &mut self.journal {
            journal.stop();
        }
    }

    /// Returns what there is to say about saved sessions, or `None` if none are saved.
    pub(crate) fn observe(&self) -> Option<ObservedSavedSessions> {
        let journal = self.journal.as_ref()?;
        Some(ObservedSavedSessions {
            absent: self.contents.sessions.len() as u64,
            unwritten: journal.waiting() as u64,
        })
    }

    /// Like [`Self::stop`], and waits as long as it takes.
    #[cfg(test)]
    pub(crate) fn finish(mut self) {
        if let Some(journal) = self.journal.take() {
            journal.finish();
        }
    }

    /// Returns what is saved of a session, if its rights count.
    pub(crate) fn get(&self, client_id: &str) -> Option<Saved<'_>> {
        let session = self.contents.sessions.get(client_id)?;
        let is_certain = session.uncertain == Uncertain::No;
        is_certain.then(|| self.with_claims(session)).flatten()
    }

    /// Returns a session with its claims, which may be missing in a damaged file.
    fn with_claims<'a>(&'a self, session: &'a SavedSession) -> Option<Saved<'a>> {
        let claims = self.parsed(session.claims)?;
        Some(Saved { session, claims })
    }

    /// Returns what claims say, which may be missing in a damaged file.
    fn parsed(&self, hash: ClaimsHash) -> Option<Arc<ParsedClaims>> {
        let mut parsed = self.parsed.borrow_mut();
        if let Some(known) = parsed.get(&hash) {
            return known.clone();
        }
        let text = &self.contents.claims.get(&hash)?.text;
        let claims = ParsedClaims::parse(text).map(Arc::new);
        if parsed.len() == MAX_PARSED {
            parsed.clear();
        }
        parsed.insert(hash, claims.clone());
        claims
    }

    /// Returns the client IDs of saved sessions from here on, each with what is saved if it is known whose it is.
    pub(crate) fn in_order(
        &self,
        from: Bound<&str>,
    ) -> impl Iterator<Item = (&Arc<str>, Option<Saved<'_>>)> {
        let rest = self
            .contents
            .sessions
            .range::<str, _>((from, Bound::Unbounded));
        rest.map(|(client_id, session)| (client_id, self.with_claims(session)))
    }

    /// Whether a session is saved under this client ID.
    pub(crate) fn has(&self, client_id: &str) -> bool {
        self.contents.sessions.contains_key(client_id)
    }

    /// Whether a session of another account is saved under this client ID. `None` stands for a client without an
    /// account.
    pub(crate) fn is_held_by_another(&self, client_id: &str, account: Option<&Account>) -> bool {
        let Some(session) = self.contents.sessions.get(client_id) else {
            return false;
        };
        let Some(account) = account else {
            return true;
        };
        // In a damaged file the claims, and with them the issuer, may be missing.
        let claims = self.parsed(session.claims);
        session.subject != account.subject
            || claims.is_some_and(|claims| claims.issuer != account.issuer)
    }

    /// Lets another account have this client ID, whatever the broker restored under it, until a client has it.
    pub(crate) fn release(&mut self, client_id: &str) {
        let client_id = client_id.into();
        if let Some(journal) = &self.journal {
            journal.push(&client_id, Change::Released);
        }
        self.contents.release(client_id);
    }

    /// Whether another account may have this client ID, whatever the broker restored under it.
    pub(crate) fn is_released(&self, client_id: &str) -> bool {
        self.contents.released.contains(client_id)
    }

    /// Takes a session whose client is back.
    pub(crate) fn take(&mut self, client_id: &str) -> Option<SavedSession> {
        self.contents.sessions.remove(client_id)
    }

    /// Puts a session back, because its client hung up before it was in.
    pub(crate) fn put_back(&mut self, client_id: &Arc<str>, session: SavedSession) {
        let client_id = Arc::clone(client_id);
        self.contents.sessions.entry(client_id).or_insert(session);
    }

    /// Saves the session of a client that is in.
    pub(crate) fn save(&mut self, client_id: &Arc<str>, session: SessionToSave) {
        self.contents.released.remove(client_id);
        if let Some(journal) = &self.journal {
            journal.push(client_id, Change::Session(session.session, session.claims));
        }
    }

    /// Saves a session whose client has new rights, if it is one that is saved.
    pub(crate) fn renew(&self, client_id: &Arc<str>, session: SessionToSave) {
        if let Some(journal) = &self.journal {
            journal.push(client_id, Change::Renewed(session.session, session.claims));
        }
    }

    /// Records that the broker has no session with this client ID any more.
    pub(crate) fn end(&mut self, client_id: &Arc<str>) {
        self.contents.end(client_id);
        if let Some(journal) = &self.journal {
            journal.push(client_id, Change::Ended);
        }
    }

    /// Returns the client ID of the next session to check. Where the broker says which sessions it has, it shows
    /// which of them are gone, and the rights of the others are made.
    pub(crate) fn next_unchecked(&mut self) -> Option<Arc<str>> {
        let from = self.unchecked.take()?;
        let range = (from.as_ref().map(|id| &**id), Bound::Unbounded);
        let Some((client_id, _)) = self.contents.sessions.range::<str, _>(range).next() else {
            // All rights have been made, so the parsed claims are hardly needed any more.
            self.parsed.borrow_mut().clear();
            return None;
        };
        let client_id = Arc::clone(client_id);
        self.unchecked = Some(Bound::Excluded(Arc::clone(&client_id)));
        Some(client_id)
    }

    /// Has all sessions checked again.
    pub(crate) fn check_again(&mut self) {
        self.unchecked = Some(Bound::Unbounded);
    }

    /// Records that the broker asked about a session that it restored (SIGHUP).
    pub(crate) fn asked_about(&mut self, client_id: &str) {
        if let Some((client_id, _)) = self.contents.sessions.get_key_value(client_id) {
            self.asked.insert(Arc::clone(client_id));
        }
    }

    /// Records that the broker has asked about every session that it has, if that is `certain`. Returns how many it no
    /// longer has. `is_there` says of others that the broker asked about them.
    pub(crate) fn end_recheck(
        &mut self,
        certain: bool,
        is_there: impl Fn(&Arc<str>) -> bool,
    ) -> usize {
        let asked = std::mem::take(&mut self.asked);
        if !certain {
            return 0;
        }
        let gone = self.contents.sessions.keys();
        let gone = gone.filter(|id| !asked.contains(*id) && !is_there(id));
        let gone: Vec<_> = gone.cloned().collect();
        for client_id in &gone {
            self.end(client_id);
        }
        gone.len()
    }
}

#[cfg(test)]
mod tests;
