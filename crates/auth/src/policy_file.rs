//! The policy file in force. It is read at the start, and again on SIGHUP. A file with a mistake changes nothing.
//!
//! To read a file of ten thousand rules takes longer than a broker may stand still. So on SIGHUP a thread reads and
//! compiles the file, and the broker's thread puts the finished rules in force. SIGHUP waits for a small file, so that
//! its rules decide about the next message. A larger one is put in force at a later tick. The rules that it replaces
//! are freed by a thread, too.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use crate::{
    clock::Deadline,
    config::{ConfigError, errors::Problem},
    files::{self, FileError},
    log::{Level, Log},
    secret::sha256,
    threads::{self, Spawn},
};
use acl::policy_file::{OptionalAttribute, PolicyFile};

/// Which attributes of a client the broker tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BrokerFeatures {
    /// The port of the listener (2.1).
    pub port: bool,
    /// The certificate (a broker with TLS).
    pub certificate: bool,
}

/// The longest policy file, in bytes: some ten thousand rules.
const MAX_FILE: u64 = 4 * 1024 * 1024;

/// The size of a small policy file, in bytes: about 150 rules, which take 2 ms.
const SMALL_FILE: u64 = 16 * 1024;

/// How long SIGHUP waits for a small file, and for a larger one. The broker serves nobody meanwhile. The first is so
/// long because the thread that reads has a low priority: it is for a busy machine, and for a disk that hangs.
const PATIENCE_SMALL: Duration = Duration::from_millis(250);
const PATIENCE_LARGE: Duration = Duration::from_millis(2);

/// After this time it is reported that the file is still being read. Ten thousand rules take a tenth of a second, so
/// this is a disk that hangs.
const SLOW: Duration = Duration::from_secs(5);

/// The policy file in force.
pub(crate) struct InForce {
    source: PolicySource,
    edition: Edition,
    spawn: Spawn,
    /// The file is being read again.
    reading: Option<Rereading>,
    /// When to report that this takes long.
    slow_at: Option<Deadline>,
    /// SIGHUP came while the file was being read.
    read_once_more: bool,
    /// Rules that were in force. Clients that have sent nothing since may still have them.
    replaced: Vec<Arc<PolicyFile>>,
}

impl InForce {
    /// Reads the file.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the file.
    pub(crate) fn read(path: &Path, log: Log, spawn: Spawn) -> Result<Self, ConfigError> {
        let (digest, text) = read(path)?;
        Ok(Self {
            edition: Edition::compile(path, digest, &text)?,
            source: PolicySource {
                path: path.into(),
                features: BrokerFeatures::default(),
                log,
            },
            spawn,
            reading: None,
            slow_at: None,
            read_once_more: false,
            replaced: Vec::new(),
        })
    }

    /// Looks for conditions on what this broker does not tell. They never hold: a rule that allows is then only
    /// useless, which is logged.
    ///
    /// # Errors
    ///
    /// Returns an error for a rule that denies, because it would not deny what it should.
    pub(crate) fn check(&mut self, features: BrokerFeatures) -> Result<(), ConfigError> {
        self.source.features = features;
        self.source.check(&self.edition.rules)
    }

    /// Begins to read the file again. [`Self::take_reread`] returns what came of it. `on_thread` is false where no tick
    /// would come to call that later: then the file is read before this returns.
    pub(crate) fn reread(&mut self, on_thread: bool) {
        if self.reading.is_some() {
            self.read_once_more = true;
            return;
        }
        self.slow_at = Some(Deadline::after(SLOW));
        let (source, digest) = (self.source.clone(), self.edition.digest);
        let read = move || source.read_unless(&digest);
        self.reading = Some(match on_thread {
            true => Rereading::start(self.spawn, read, self.source.patience()),
            false => Rereading::Finished(read()),
        });
    }

    /// Puts the file that was read again in force, if that is finished; a file with a mistake changes nothing. Returns
    /// whether the rules are others than before, and `None` if nothing was finished. `wait` says to wait a moment.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the file.
    pub(crate) fn take_reread(&mut self, wait: bool) -> Option<Result<bool, ConfigError>> {
        let result = match self.reading.take()?.result(wait, &self.source.path) {
            Ok(result) => result,
            Err(unfinished) => {
                self.reading = Some(unfinished);
                return None;
            }
        };
        let changed = result.map(|edition| match edition {
            Some(edition) => {
                let replaced = std::mem::replace(&mut self.edition, edition);
                self.replaced.push(replaced.rules);
                true
            }
            None => false,
        });
        if std::mem::take(&mut self.read_once_more) {
            self.reread(true);
        }
        Some(changed)
    }

    /// Returns the path of a file that has been read for so long that this should be reported. Does so once for each
    /// reading.
    pub(crate) fn slow_file(&mut self) -> Option<&Path> {
        self.reading.as_ref()?;
        self.slow_at.take_if(|at| at.has_passed())?;
        Some(&self.source.path)
    }

    /// Returns whether the file is being read again.
    pub(crate) fn is_rereading(&self) -> bool {
        self.reading.is_some()
    }

    /// Frees the rules that no client has any more. To free ten thousand takes some milliseconds, so a thread does it.
    pub(crate) fn free_replaced(&mut self) {
        for i in (0..self.replaced.len()).rev() {
            if Arc::strong_count(&self.replaced[i]) == 1 {
                let rules = self.replaced.swap_remove(i);
                // Without a thread the closure is dropped here, and the rules with it.
                let _ = (self.spawn)("auth0-policy", Box::new(move || drop(rules)));
            }
        }
    }

    /// Waits a moment for the thread that reads the file, because the broker exits.
    pub(crate) fn stop(&mut self) {
        if let Some(Rereading::OnThread { result, thread, .. }) = self.reading.take() {
            match result.recv_timeout(threads::last_moment().remaining()) {
                Err(RecvTimeoutError::Timeout) => threads::leave_behind(),
                Ok(_) | Err(RecvTimeoutError::Disconnected) => drop(thread.join()),
            }
        }
    }

    /// The rules in force.
    pub(crate) fn rules(&self) -> &Arc<PolicyFile> {
        &self.edition.rules
    }

    /// Returns the name of the first rule that looks at the client ID: in a condition or in a filter.
    pub(crate) fn looks_at_client_id(&self) -> Option<&str> {
        self.edition.looks_at_client_id.as_deref()
    }

    /// Returns whether these rules are the ones in force.
    #[inline]
    pub(crate) fn is(&self, rules: &Arc<PolicyFile>) -> bool {
        Arc::ptr_eq(&self.edition.rules, rules)
    }
}

/// What a file said at some time.
struct Edition {
    /// The SHA-256 hash of its text.
    digest: [u8; 32],
    rules: Arc<PolicyFile>,
    /// Kept because a search through all rules takes a while.
    looks_at_client_id: Option<Box<str>>,
}

impl Edition {
    fn compile(path: &Path, digest: [u8; 32], text: &str) -> Result<Self, ConfigError> {
        let rules = PolicyFile::compile(text)
            .map_err(|mistake| error(path, Problem::Policy(Box::new(mistake))))?;
        Ok(Self {
            digest,
            looks_at_client_id: rules.looks_at_client_id().map(Into::into),
            rules: Arc::new(rules),
        })
    }
}

/// What comes of reading a file again. `None` for a file that has not changed: logs are rotated by a SIGHUP every
/// night, and the same rules are not worth a look at every client.
type RereadResult = Result<Option<Edition>, ConfigError>;

/// A file that is read again.
enum Rereading {
    OnThread {
        result: Receiver<RereadResult>,
        thread: JoinHandle<()>,
        patience: Duration,
    },
    Finished(RereadResult),
}

impl Rereading {
    /// Reads on a thread, or here if there is none to be had.
    fn start(
        spawn: Spawn,
        read: impl Fn() -> RereadResult + Clone + Send + 'static,
        patience: Duration,
    ) -> Self {
        let (sender, result) = sync_channel(1);
        let on_thread = read.clone();
        let body = move || drop(sender.send(on_thread()));
        match spawn("auth0-policy", Box::new(body)) {
            Ok(thread) => Self::OnThread {
                result,
                thread,
                patience,
            },
            Err(_) => Self::Finished(read()),
        }
    }

    /// Returns the result, or itself if it is not finished. `wait` says to wait a moment.
    fn result(self, wait: bool, path: &Path) -> Result<RereadResult, Self> {
        let (result, thread, patience) = match self {
            Self::OnThread {
                result,
                thread,
                patience,
            } => (result, thread, patience),
            Self::Finished(result) => return Ok(result),
        };
        match result.recv_timeout(if wait { patience } else { Duration::ZERO }) {
            Ok(finished) => {
                // It ends right after it has sent this.
                let _ = thread.join();
                Ok(finished)
            }
            Err(RecvTimeoutError::Timeout) => Err(Self::OnThread {
                result,
                thread,
                patience,
            }),
            Err(RecvTimeoutError::Disconnected) => {
                let why = io::Error::other("the thread that read it has panicked");
                Ok(Err(error(path, Problem::File(FileError::Unreadable(why)))))
            }
        }
    }
}

/// The file, and how it is read. It is copied for the thread that reads it.
#[derive(Clone)]
struct PolicySource {
    path: PathBuf,
    features: BrokerFeatures,
    log: Log,
}

impl PolicySource {
    /// Returns how long SIGHUP waits for this file.
    fn patience(&self) -> Duration {
        let is_small = |file: fs::Metadata| file.len() <= SMALL_FILE;
        match fs::metadata(&self.path).is_ok_and(is_small) {
            true => PATIENCE_SMALL,
            false => PATIENCE_LARGE,
        }
    }

    /// Reads the file, unless what it says has this hash.
    fn read_unless(&self, digest: &[u8; 32]) -> RereadResult {
        let (new, text) = read(&self.path)?;
        if new == *digest {
            return Ok(None);
        }
        let edition = Edition::compile(&self.path, new, &text)?;
        self.check(&edition.rules)?;
        Ok(Some(edition))
    }

    fn check(&self, rules: &PolicyFile) -> Result<(), ConfigError> {
        for (told, condition) in [
            (self.features.port, OptionalAttribute::Port),
            (self.features.certificate, OptionalAttribute::Certificate),
        ] {
            if told {
                continue;
            }
            for (name, denies) in rules.rules_about(condition) {
                let rule = name.to_owned();
                let error = error(&self.path, Problem::NeverHolds { rule, condition });
                if denies {
                    return Err(error);
                }
                let line = format!("{error}; until then the rule applies to nobody");
                self.log.line(Level::Warning, line);
            }
        }
        Ok(())
    }
}

fn error(path: &Path, problem: Problem) -> ConfigError {
    ConfigError::new("policy_file", &path.display().to_string(), problem)
}

/// Returns the file's text, and its hash.
fn read(path: &Path) -> Result<([u8; 32], String), ConfigError> {
    let of_file = |why| error(path, Problem::File(why));
    let content = files::read(path, MAX_FILE).map_err(of_file)?;
    content.check_only_owner_can_change(path).map_err(of_file)?;
    let digest = sha256(&content.bytes);
    let text = String::from_utf8(content.bytes).map_err(|_| of_file(FileError::NotText))?;
    Ok((digest, text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{os::unix::fs::PermissionsExt, sync::Mutex, thread};
    use tempfile::NamedTempFile;

    const DOOR: &str = "[[rule]]\nname = \"door\"\nwhen.port = 8883\nallow.both = \"door\"\n";

    fn all() -> BrokerFeatures {
        BrokerFeatures {
            port: true,
            certificate: true,
        }
    }

    /// A policy file that says this, and what is in force of it.
    fn policy(text: &str, spawn: Spawn) -> (NamedTempFile, InForce, Log) {
        let file = NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        let log = Log::default();
        let policy = InForce::read(file.path(), log.clone(), spawn).unwrap();
        (file, policy, log)
    }

    /// Reads again, and waits for it.
    fn reread(policy: &mut InForce) -> Result<bool, ConfigError> {
        policy.reread(true);
        finish(policy)
    }

    fn finish(policy: &mut InForce) -> Result<bool, ConfigError> {
        let deadline = Deadline::after(Duration::from_secs(30));
        while !deadline.has_passed() {
            if let Some(result) = policy.take_reread(true) {
                return result;
            }
        }
        panic!("it is never finished")
    }

    fn no_thread(_: &str, _: Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>> {
        Err(io::Error::other("no thread"))
    }

    /// A file with a mistake changes nothing, and neither does one that has not changed.
    fn a_changed_file_is_put_in_force(spawn: Spawn) {
        let (file, mut policy, log) = policy(DOOR, spawn);
        policy.check(all()).unwrap();
        let before = Arc::clone(policy.rules());
        assert!(!reread(&mut policy).unwrap() && policy.is(&before));
        fs::write(file.path(), format!("{DOOR}qos = 3\n")).unwrap();
        let why = reread(&mut policy).unwrap_err().to_string();
        let path = file.path().display();
        assert!(
            why.starts_with(&format!(
                "option policy_file, value '{path}': line 5, rule 'door': qos is '3'; write 0"
            )),
            "{why}"
        );
        assert!(policy.is(&before) && Arc::ptr_eq(policy.rules(), &before));
        fs::write(file.path(), "").unwrap();
        assert!(reread(&mut policy).unwrap());
        assert!(policy.rules().is_empty());
        assert!(!policy.is(&before) && policy.is(policy.rules()));
        assert!(log.take().is_empty());

        // A client still has the rules that were in force.
        policy.free_replaced();
        assert_eq!(policy.replaced.len(), 1);
        drop(before);
        policy.free_replaced();
        assert!(policy.replaced.is_empty());

        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o646)).unwrap();
        let why = reread(&mut policy).unwrap_err().to_string();
        assert!(
            why.contains("may be changed by every user") && why.contains("chmod o-w"),
            "{why}"
        );
    }

    #[test]
    fn a_thread_reads_the_file_again() {
        a_changed_file_is_put_in_force(threads::plain);
    }

    #[test]
    fn without_a_thread_the_file_is_read_in_place() {
        a_changed_file_is_put_in_force(no_thread);
        let (file, mut policy, _) = policy(DOOR, no_thread);
        fs::write(file.path(), "").unwrap();
        policy.reread(true);
        assert!(policy.take_reread(false).unwrap().unwrap());
    }

    #[test]
    fn sighup_waits_longer_for_a_small_file_than_for_a_large_one() {
        let (file, policy, _) = policy(DOOR, threads::plain);
        assert_eq!(policy.source.patience(), PATIENCE_SMALL);
        fs::write(file.path(), DOOR.repeat(1000)).unwrap();
        assert_eq!(policy.source.patience(), PATIENCE_LARGE);
    }

    #[test]
    fn where_nothing_ticks_the_file_is_read_in_place() {
        let (file, mut policy, _) = policy(DOOR, threads::plain);
        fs::write(file.path(), "").unwrap();
        policy.reread(false);
        assert!(policy.take_reread(false).unwrap().unwrap());
    }

    /// Held while a thread must not read.
    static READS: Mutex<()> = Mutex::new(());

    fn held_up(name: &str, body: Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>> {
        let body = move || {
            let guard = READS.lock();
            body();
            drop(guard);
        };
        threads::plain(name, Box::new(body))
    }

    #[test]
    fn a_slow_file_leaves_the_old_rules_in_force_until_it_is_read() {
        let held = READS.lock().unwrap();
        let (file, mut policy, _) = policy(DOOR, held_up);
        let before = Arc::clone(policy.rules());
        fs::write(file.path(), "").unwrap();
        policy.reread(true);
        assert!(policy.take_reread(true).is_none());
        assert!(policy.is_rereading() && policy.is(&before));
        assert_eq!(policy.slow_file(), None, "not yet");
        policy.slow_at = Some(Deadline::after(Duration::ZERO));
        assert_eq!(policy.slow_file(), Some(file.path()));
        assert_eq!(policy.slow_file(), None, "once");
        // SIGHUP comes again: the first reading may have been too early for what the file says now.
        fs::write(file.path(), DOOR.replace("door", "gate")).unwrap();
        policy.reread(true);
        assert!(policy.take_reread(false).is_none() && policy.is(&before));
        drop(held);
        assert!(finish(&mut policy).unwrap());
        assert!(policy.is_rereading(), "once more");
        finish(&mut policy).unwrap();
        policy.slow_at = Some(Deadline::after(Duration::ZERO));
        assert_eq!(policy.slow_file(), None, "it is read");
        assert_eq!(policy.rules().name(0), "gate");
        assert!(policy.take_reread(true).is_none());

        // The broker exits meanwhile.
        let held = READS.lock().unwrap();
        policy.reread(true);
        let stopping = thread::spawn(move || policy.stop());
        drop(held);
        stopping.join().unwrap();
    }

    #[test]
    fn a_thread_that_panics_changes_nothing() {
        fn panics(name: &str, body: Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>> {
            threads::plain(
                name,
                Box::new(move || {
                    drop(body);
                }),
            )
        }
        let (file, mut policy, _) = policy(DOOR, panics);
        let before = Arc::clone(policy.rules());
        fs::write(file.path(), "").unwrap();
        let why = reread(&mut policy).unwrap_err().to_string();
        assert!(why.contains("has panicked"), "{why}");
        assert!(policy.is(&before) && !policy.is_rereading());
    }

    #[test]
    fn a_condition_that_the_broker_does_not_tell_is_named() {
        let (_file, mut door, log) = policy(DOOR, threads::plain);
        door.check(BrokerFeatures::default()).unwrap();
        let [(Level::Warning, line)] = &log.take()[..] else {
            panic!("one warning")
        };
        assert!(
            line.contains("rule 'door' has the condition port"),
            "{line}"
        );
        let denies = DOOR.replace("allow", "deny");
        let (_file, mut door, _) = policy(&denies, threads::plain);
        let why = door
            .check(BrokerFeatures::default())
            .unwrap_err()
            .to_string();
        assert!(why.contains("rule 'door' has the condition port"), "{why}");
    }
}
