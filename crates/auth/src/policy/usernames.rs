//! The user names that the broker is told, and the users that have such names already.
//!
//! Our own rules speak of the tenant's users and see their names as they are. Whoever else decides by user
//! name (an `acl_file`, dynamic-security) cannot tell a user of the tenant from one of its own: the option
//! `username_prefix` keeps the two apart. It is off unless set, because rules that name the tenant's users
//! without a prefix would no longer fit.

use std::sync::Arc;

use super::Engine;
use crate::log::Level;
use input::text::Quoted;

/// Users that the broker knows by itself and lets in with a password of theirs.
#[derive(Debug, Default)]
pub struct LocalUsers {
    /// Those of a `password_file`.
    pub password_file: Vec<String>,
    /// Those of dynamic-security.
    pub dynamic_security: Vec<String>,
    /// Whether dynamic-security is asked before this plugin.
    pub dynamic_security_first: bool,
}

impl Engine {
    /// The user name that the broker is told for this one of the tenant's.
    pub(super) fn username_for_broker(&self, username: &Arc<str>) -> Arc<str> {
        match self.config.username_prefix.as_str() {
            "" => Arc::clone(username),
            prefix => format!("{prefix}{username}").into(),
        }
    }

    /// The tenant's user name in one that the broker tells: on a re-check (SIGHUP) that is the one that it
    /// was told.
    pub(super) fn username_of_tenant<'a>(&self, told: &'a str, again: bool) -> &'a str {
        let without = told.strip_prefix(&self.config.username_prefix);
        without.filter(|_| again).unwrap_or(told)
    }

    /// A token with the name of a local user has that user's rights, wherever others than this plugin decide.
    pub fn warn_of_local_users(&self, users: &LocalUsers) {
        if !self.config.username_prefix.is_empty() {
            return;
        }
        let of_file = users.password_file.iter().filter(|_| self.config.defer_acl);
        let is_asked = self.config.defer_acl || users.dynamic_security_first;
        let of_plugin = users.dynamic_security.iter().filter(|_| is_asked);
        let mut names: Vec<&String> = of_file.chain(of_plugin).collect();
        names.sort_unstable();
        names.dedup();
        let Some(first) = names.first() else {
            return;
        };
        let others = match names.len() - 1 {
            0 => String::new(),
            others => format!(" (and {others} more)"),
        };
        self.log.line(
            Level::Warning,
            format!(
                "the broker has users of its own, such as {}{others}: whoever comes in through the tenant with such a \
                 user name has that user's rights; fix: set username_prefix, for instance to auth0:, and write the \
                 prefix in front of the tenant's users in the broker's own rules",
                Quoted(first)
            ),
        );
    }
}
