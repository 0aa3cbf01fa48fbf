//! The policy file in force. It is read at the start, and again on SIGHUP (`engine/reload.rs`), beside the broker's
//! thread: to read a file of ten thousand rules takes longer than a broker may stand still. The rules that it replaces
//! are freed by a thread, too.

use std::{collections::BTreeSet, fs, path::Path, sync::Arc};

use crate::{
    config::{ConfigError, errors::Problem},
    files::{self, FileError},
    log::{Level, Log},
    secret::sha256,
    threads::Spawn,
};
use acl::policy_file::{Entry, Mistake, OptionalAttribute, PolicyFile};

/// What the broker tells and does, where brokers differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BrokerFeatures {
    /// The port of the listener (2.1).
    pub port: bool,
    /// The certificate (a broker with TLS).
    pub certificate: bool,
    /// It removes a subscription when the plugin says so (2.1).
    pub removes_subscriptions: bool,
    /// It certainly restores no sessions when it starts.
    pub restores_nothing: bool,
}

impl BrokerFeatures {
    /// What some broker tells and does.
    pub(crate) const ALL: Self = Self {
        port: true,
        certificate: true,
        removes_subscriptions: true,
        restores_nothing: false,
    };
}

/// The longest policy file, in bytes: some ten thousand rules.
const MAX_FILE: u64 = 4 * 1024 * 1024;

/// The size of a small policy file, in bytes: about 150 rules, which take 2 ms.
const SMALL_FILE: u64 = 16 * 1024;

/// The policy file in force.
pub(crate) struct InForce {
    edition: Edition,
    spawn: Spawn,
    /// Rules that were in force. Clients that have sent nothing since may still have them.
    replaced: Vec<Arc<PolicyFile>>,
}

impl InForce {
    /// Puts this edition in force.
    pub(crate) fn new(edition: Edition, spawn: Spawn) -> Self {
        Self {
            edition,
            spawn,
            replaced: Vec::new(),
        }
    }

    /// Puts another edition in force.
    pub(crate) fn replace(&mut self, edition: Edition) {
        let replaced = std::mem::replace(&mut self.edition, edition);
        self.replaced.push(replaced.rules);
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

    /// The rules in force.
    pub(crate) fn rules(&self) -> &Arc<PolicyFile> {
        &self.edition.rules
    }

    /// The hash of the text that they were read from.
    pub(crate) fn digest(&self) -> [u8; 32] {
        self.edition.digest
    }

    /// Returns the first rule that looks at the client ID, in a condition or in a filter, or else the first requirement
    /// that does.
    pub(crate) fn looks_at_client_id(&self) -> Option<&Entry> {
        self.edition.looks_at_client_id.as_ref()
    }

    /// Returns the names of the claims that rules depend on.
    pub(crate) fn members(&self) -> &BTreeSet<String> {
        &self.edition.members
    }

    /// Returns the names of the claims that requirements depend on.
    pub(crate) fn required_members(&self) -> &BTreeSet<String> {
        &self.edition.required_members
    }

    /// Returns whether these rules are the ones in force.
    #[inline]
    pub(crate) fn is(&self, rules: &Arc<PolicyFile>) -> bool {
        Arc::ptr_eq(&self.edition.rules, rules)
    }
}

/// What a file said at some time.
pub(crate) struct Edition {
    /// The SHA-256 hash of its text.
    digest: [u8; 32],
    rules: Arc<PolicyFile>,
    /// Kept because a search through all rules takes a while.
    looks_at_client_id: Option<Entry>,
    /// The names of the claims that rules depend on. Kept for the same reason.
    members: BTreeSet<String>,
    /// The names of the claims that requirements depend on. Kept for the same reason.
    required_members: BTreeSet<String>,
}

/// How the file is read. A thread may do so.
#[derive(Clone)]
pub(crate) struct PolicyReader {
    /// The option that names the file.
    pub option: &'static str,
    /// What the broker tells. Rules that need more never apply.
    pub features: BrokerFeatures,
    pub log: Log,
}

impl PolicyReader {
    /// Reads the file. If it says what has this hash, returns `None`: logs are rotated by a SIGHUP every night, and the
    /// same rules are not worth a look at every client. `is_long` is called before a large file is read.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the file.
    pub(crate) fn read(
        &self,
        path: &Path,
        known: Option<[u8; 32]>,
        is_long: &dyn Fn(),
    ) -> Result<Option<Edition>, ConfigError> {
        if fs::metadata(path).is_ok_and(|file| file.len() > SMALL_FILE) {
            is_long();
        }
        let (digest, text) = read(self.option, path)?;
        if known == Some(digest) {
            return Ok(None);
        }
        let edition = edition(digest, &text)
            .map_err(|mistake| error(self.option, path, Problem::Policy(Box::new(mistake))))?;
        self.check(path, &edition.rules)?;
        Ok(Some(edition))
    }

    /// Returns what holds where the option was set and no longer is: no rules. If that is in force already, returns
    /// `None`.
    pub(crate) fn no_rules(known: [u8; 32]) -> Option<Edition> {
        let digest = sha256(b"");
        (known != digest).then(|| edition(digest, "").expect("an empty file has no mistake"))
    }

    /// Looks for conditions on what this broker does not tell. They never hold: a rule that allows is then only
    /// useless, which is logged.
    ///
    /// # Errors
    ///
    /// Returns an error for a rule that denies, because it would not deny what it should, and for a requirement, which
    /// would concern nobody or let nobody in.
    pub(crate) fn check(&self, path: &Path, rules: &PolicyFile) -> Result<(), ConfigError> {
        for (told, condition) in [
            (self.features.port, OptionalAttribute::Port),
            (self.features.certificate, OptionalAttribute::Certificate),
        ] {
            if told {
                continue;
            }
            for (entry, keeps_out) in rules.entries_about(condition) {
                let error = error(self.option, path, Problem::NeverHolds { entry, condition });
                if keeps_out {
                    return Err(error);
                }
                let line = format!("{error}; until then the rule applies to nobody");
                self.log.line(Level::Warning, line);
            }
        }
        Ok(())
    }
}

/// Returns a mistake in the file that this option names.
fn error(option: &str, path: &Path, problem: Problem) -> ConfigError {
    ConfigError::new(option, &path.display().to_string(), problem)
}

/// Returns the text of the file that this option names, and its hash.
fn read(option: &str, path: &Path) -> Result<([u8; 32], String), ConfigError> {
    let of_file = |why| error(option, path, Problem::File(why));
    let content = files::read(path, MAX_FILE).map_err(of_file)?;
    content.check_only_owner_can_change(path).map_err(of_file)?;
    let digest = sha256(&content.bytes);
    let text = String::from_utf8(content.bytes).map_err(|_| of_file(FileError::NotText))?;
    Ok((digest, text))
}

/// Returns everything that is wrong with a policy file, for a tool.
pub(crate) fn mistakes(option: &'static str, path: &Path) -> Vec<ConfigError> {
    match read(option, path) {
        Err(why) => vec![why],
        Ok((_, text)) => PolicyFile::mistakes(&text)
            .into_iter()
            .map(|mistake| error(option, path, Problem::Policy(Box::new(mistake))))
            .collect(),
    }
}

fn edition(digest: [u8; 32], text: &str) -> Result<Edition, Mistake> {
    let rules = PolicyFile::compile(text)?;
    Ok(Edition {
        digest,
        looks_at_client_id: rules.looks_at_client_id(),
        members: rules.members(),
        required_members: rules.required_members(),
        rules: Arc::new(rules),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::threads;
    use std::os::unix::fs::PermissionsExt;
    use tempfile::NamedTempFile;

    const DOOR: &str = "[[rule]]\nname = \"door\"\nwhen.port = 8883\nallow.both = \"door\"\n";

    fn reader(features: BrokerFeatures) -> PolicyReader {
        let log = Log::default();
        PolicyReader {
            option: "policy_file",
            features,
            log,
        }
    }

    fn all() -> PolicyReader {
        reader(BrokerFeatures::ALL)
    }

    fn file(text: &str) -> NamedTempFile {
        let file = NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        file
    }

    /// A file with a mistake changes nothing, and neither does one that has not changed.
    #[test]
    fn a_changed_file_is_put_in_force() {
        let (file, reader) = (file(DOOR), all());
        let read = |known| reader.read(file.path(), known, &|| panic!("it is small"));
        let mut policy = InForce::new(read(None).unwrap().unwrap(), threads::plain);
        let before = Arc::clone(policy.rules());
        assert!(read(Some(policy.digest())).unwrap().is_none());
        fs::write(file.path(), format!("{DOOR}qos = 3\n")).unwrap();
        let why = read(Some(policy.digest())).err().unwrap().to_string();
        let path = file.path().display();
        assert!(
            why.starts_with(&format!(
                "option policy_file, value '{path}': line 5, rule 'door': qos is '3'; write 0"
            )),
            "{why}"
        );
        fs::write(file.path(), "").unwrap();
        policy.replace(read(Some(policy.digest())).unwrap().unwrap());
        assert!(policy.rules().is_empty());
        assert!(!policy.is(&before) && policy.is(policy.rules()));
        assert!(PolicyReader::no_rules(policy.digest()).is_none());

        // A client still has the rules that were in force.
        policy.free_replaced();
        assert_eq!(policy.replaced.len(), 1);
        drop(before);
        policy.free_replaced();
        assert!(policy.replaced.is_empty());

        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o646)).unwrap();
        let why = read(None).err().unwrap().to_string();
        assert!(
            why.contains("may be changed by every user") && why.contains("chmod o-w"),
            "{why}"
        );
        assert!(reader.log.take().is_empty());
    }

    #[test]
    fn a_large_file_is_said_to_be_large() {
        let long = std::cell::Cell::new(false);
        let rules = (0..1000).map(|i| DOOR.replace("door", &i.to_string()));
        let file = file(&rules.collect::<String>());
        let read = all().read(file.path(), None, &|| long.set(true));
        assert_eq!(read.unwrap().unwrap().rules.len(), 1000);
        assert!(long.get());
    }

    #[test]
    fn a_condition_that_the_broker_does_not_tell_is_named() {
        let reader = reader(BrokerFeatures::default());
        let read = |text: &str| reader.read(file(text).path(), None, &|| {});
        assert!(read(DOOR).unwrap().is_some());
        let [(Level::Warning, line)] = &reader.log.take()[..] else {
            panic!("one warning")
        };
        assert!(
            line.contains("rule 'door' has the condition port"),
            "{line}"
        );
        let denies = DOOR.replace("allow", "deny");
        let why = read(&denies).err().unwrap().to_string();
        assert!(why.contains("rule 'door' has the condition port"), "{why}");
        for word in ["when", "that"] {
            let required = format!(
                "[[require]]\nname = \"door\"\n{word}.port = 8883\nthat.permission = \"x\"\nmessage = \"y\"\n"
            );
            let required = required.replace(
                "that.port = 8883\nthat.permission = \"x\"",
                "that.port = 8883",
            );
            let why = read(&required).err().unwrap().to_string();
            let part = "requirement 'door' has the condition port";
            assert!(why.contains(part), "{why}");
        }
    }
}
