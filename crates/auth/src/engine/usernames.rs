//! The user names that the broker is told, and local users that have the same names.
//!
//! The rules of this plugin are about users of the tenant, by the names that they have there. Others that decide by
//! user name (an `acl_file`, dynamic-security) cannot tell a user of the tenant from a local user. The option
//! `username_prefix` makes the difference visible. It is off by default, because existing rules name the users of the
//! tenant without a prefix.

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    sync::Arc,
};

use super::{Engine, report::Report};
use crate::{
    config::{IssuerConfig, local_users::LocalUsers},
    sessions::Origin,
};

/// The user names of local users, by the file that has them. Clients with these names are left to the broker.
#[derive(Default)]
pub(super) struct LocalUsernames(HashMap<PathBuf, HashSet<Box<str>>>);

impl LocalUsernames {
    pub(super) fn contains(&self, username: &str) -> bool {
        self.0.values().any(|names| names.contains(username))
    }
}

impl IssuerConfig {
    /// Returns the user name that the broker is told for this user of the tenant.
    pub(super) fn username_for_broker(&self, username: &Arc<str>) -> Arc<str> {
        match self.username_prefix.as_str() {
            "" => Arc::clone(username),
            prefix => format!("{prefix}{username}").into(),
        }
    }
}

impl Engine {
    /// Returns the user name at the tenant. On a recheck (SIGHUP) `told` is the name that the broker was told.
    pub(super) fn username_of_tenant<'a>(&self, told: &'a str, origin: Origin) -> &'a str {
        let issuer = &self.issuers.password_issuer().config;
        let without = told.strip_prefix(&issuer.username_prefix);
        without.filter(|_| origin.may_be_recheck()).unwrap_or(told)
    }

    /// Whether it matters which users others have. Their files need not be read otherwise. A reload that follows may
    /// begin to send passwords to the tenant, so that does not count.
    pub fn leaves_users_to_others(&self) -> bool {
        self.config.defer_others
    }

    /// With `on_other defer`, leaves clients with these user names to others from now on: their passwords are not the
    /// tenant's, and it should not see them. Of a file that cannot be read any more the names stay as they were.
    pub fn set_local_users(&mut self, users: &LocalUsers) {
        if !self.leaves_users_to_others() {
            return;
        }
        let mut before = std::mem::take(&mut self.local_usernames).0;
        for file in users.files() {
            let names = match &file.names {
                Ok(names) => names.iter().map(|name| name.as_str().into()).collect(),
                Err(why) => {
                    let known = before.remove(&file.path).unwrap_or_default();
                    if self.issuers.check_passwords() {
                        self.tell(&Report::UsersUnread {
                            file: &file.path,
                            why,
                            known: known.len(),
                        });
                    }
                    known
                }
            };
            self.local_usernames.0.insert(file.path.clone(), names);
        }
    }

    /// Warns of decisions that are left to others where there are none: the broker then denies everything.
    pub fn warn_of_missing_others(&self, users: &LocalUsers) {
        let option = match (self.config.defer_acl, self.config.defer_others) {
            (true, _) => "acl",
            (false, true) => "on_other",
            (false, false) => return,
        };
        if !users.others_may_authorize {
            self.tell(&Report::NobodyAuthorizes { option });
        }
    }

    /// Warns of local users whose names a user of the tenant may have. Such a user has the rights of the local one,
    /// wherever others than this plugin decide.
    pub fn warn_of_local_users(&self, users: &LocalUsers) {
        let mut issuers = self.issuers.iter();
        if issuers.all(|issuer| !issuer.config.username_prefix.is_empty()) {
            return;
        }
        let of_file = users
            .password_files
            .iter()
            .filter(|_| self.config.defer_acl);
        let is_asked = self.config.defer_acl || users.dynamic_security_first;
        let of_plugin = users.dynamic_security.iter().filter(|_| is_asked);
        let files = of_file.chain(of_plugin);
        let mut names: Vec<&String> = files.flat_map(|file| file.names.iter().flatten()).collect();
        names.sort_unstable();
        names.dedup();
        let Some(first) = names.first() else {
            return;
        };
        let others = names.len() - 1;
        self.tell(&Report::LocalUsers { first, others });
    }
}
