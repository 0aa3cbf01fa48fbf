//! The policy file that is in force: read at the start, and again on SIGHUP, all or nothing.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    config::{
        ConfigError,
        errors::{Problem, Unreported},
    },
    files::{self, FileError},
    log::{Level, Log},
};
use acl::policy_file::{Rulebook, conditions::Condition};

/// Which of a client's traits the broker tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tells {
    /// The port of the listener (2.1).
    pub port: bool,
    /// The certificate (a broker with TLS).
    pub certificate: bool,
}

/// The longest policy file, in bytes: some ten thousand rules.
const MAX_FILE: u64 = 4 * 1024 * 1024;

/// The policy file in force.
pub struct InForce {
    path: PathBuf,
    /// What the file said.
    text: Vec<u8>,
    book: Arc<Rulebook>,
}

impl InForce {
    /// Reads the file.
    ///
    /// # Errors
    ///
    /// One line that names file, line, rule and fix.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let (text, book) = read(path)?;
        Ok(Self {
            path: path.into(),
            text,
            book: Arc::new(book),
        })
    }

    /// Looks for conditions on what this broker does not tell. They never hold: a rule that allows is
    /// then only useless, which is logged.
    ///
    /// # Errors
    ///
    /// For a rule that denies: nobody would be denied what he should be.
    pub fn check(&self, tells: Tells, log: &Log) -> Result<(), ConfigError> {
        self.check_book(&self.book, tells, log)
    }

    fn check_book(&self, book: &Rulebook, tells: Tells, log: &Log) -> Result<(), ConfigError> {
        for (told, condition) in [
            (tells.port, Unreported::Port),
            (tells.certificate, Unreported::Certificate),
        ] {
            if told {
                continue;
            }
            let is_about = |one: &Condition| match condition {
                Unreported::Port => matches!(one, Condition::Port(_)),
                Unreported::Certificate => matches!(one, Condition::Certificate(_)),
            };
            for (name, denies) in book.rules_with(is_about) {
                let rule = name.to_owned();
                let error = error(&self.path, Problem::NeverHolds { rule, condition });
                if denies {
                    return Err(error);
                }
                let line = format!("{error}; until then the rule fits nobody");
                log.line(Level::Warning, line);
            }
        }
        Ok(())
    }

    /// Reads the file again and puts it in force; a file with a mistake changes nothing.
    ///
    /// # Errors
    ///
    /// One line, as of [`Self::read`] and [`Self::check`].
    pub fn reload(&mut self, tells: Tells, log: &Log) -> Result<usize, ConfigError> {
        let (text, book) = read(&self.path)?;
        // Logs are rotated by a SIGHUP every night: the same rules are not worth a look at every client.
        if self.text == text {
            return Ok(book.len());
        }
        self.check_book(&book, tells, log)?;
        self.text = text;
        self.book = Arc::new(book);
        Ok(self.book.len())
    }

    /// The rules in force.
    pub fn book(&self) -> &Arc<Rulebook> {
        &self.book
    }

    /// Whether these rules are the ones in force.
    #[inline]
    pub fn is(&self, book: &Arc<Rulebook>) -> bool {
        Arc::ptr_eq(&self.book, book)
    }
}

fn error(path: &Path, problem: Problem) -> ConfigError {
    ConfigError::new("policy_file", &path.display().to_string(), problem)
}

/// What the file says, and the rules that it is.
fn read(path: &Path) -> Result<(Vec<u8>, Rulebook), ConfigError> {
    let of_file = |why| error(path, Problem::File(why));
    let content = files::read(path, MAX_FILE).map_err(of_file)?;
    content.check_only_owner_can_change(path).map_err(of_file)?;
    let text = std::str::from_utf8(&content.bytes).map_err(|_| of_file(FileError::NotText))?;
    let book = Rulebook::read(text).map_err(|mistake| error(path, Problem::Policy(mistake)))?;
    Ok((content.bytes, book))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt};

    const DOOR: &str = "[[rule]]\nname = \"door\"\nwhen.port = 8883\nallow.both = \"door\"\n";

    #[test]
    fn a_file_with_a_mistake_changes_nothing() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), DOOR).unwrap();
        let (log, all) = (
            Log::default(),
            Tells {
                port: true,
                certificate: true,
            },
        );
        let mut policy = InForce::read(file.path()).unwrap();
        policy.check(all, &log).unwrap();
        let before = Arc::clone(policy.book());
        fs::write(file.path(), format!("{DOOR}qos = 3\n")).unwrap();
        let why = policy.reload(all, &log).unwrap_err().to_string();
        let path = file.path().display();
        assert!(
            why.starts_with(&format!(
                "option policy_file, value '{path}': line 5, rule 'door': qos is '3'; write 0"
            )),
            "{why}"
        );
        assert!(policy.is(&before) && Arc::ptr_eq(policy.book(), &before));
        fs::write(file.path(), "").unwrap();
        assert_eq!(policy.reload(all, &log).unwrap(), 0);
        assert!(!policy.is(&before) && policy.is(policy.book()));
        assert!(log.take().is_empty());

        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o646)).unwrap();
        let why = policy.reload(all, &log).unwrap_err().to_string();
        assert!(
            why.contains("may be changed by every user") && why.contains("chmod o-w"),
            "{why}"
        );
    }

    #[test]
    fn a_condition_that_the_broker_does_not_tell_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), DOOR).unwrap();
        let (log, tells) = (Log::default(), Tells::default());
        InForce::read(file.path())
            .unwrap()
            .check(tells, &log)
            .unwrap();
        let [(Level::Warning, line)] = &log.take()[..] else {
            panic!("one warning")
        };
        assert!(
            line.contains("rule 'door' has the condition port"),
            "{line}"
        );
        fs::write(file.path(), DOOR.replace("allow", "deny")).unwrap();
        let why = InForce::read(file.path())
            .unwrap()
            .check(tells, &log)
            .unwrap_err();
        let why = why.to_string();
        assert!(why.contains("rule 'door' has the condition port"), "{why}");
    }
}
