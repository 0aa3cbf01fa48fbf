//! Whether the broker's user may read a file: computed from the owners and the permission bits, because the tool is
//! mostly run as root, which may read everything. Access control lists are not looked at.

use std::{
    fs::{self, Metadata},
    os::unix::fs::MetadataExt,
    path::Path,
};

use auth::config::mosquitto_conf::MosquittoConf;

use super::flaw::Obstacle;

/// The user that the broker runs as, if it is started by root.
#[derive(Debug)]
pub(super) struct BrokerUser {
    /// The name.
    pub(super) name: String,
    user: u32,
    groups: Vec<u32>,
}

/// The bits of a permission, for everybody else.
const READ: u32 = 4;
const WRITE: u32 = 2;
const ENTER: u32 = 1;

impl BrokerUser {
    /// Returns the user that this configuration names.
    ///
    /// # Errors
    ///
    /// Returns the name if there is no such user.
    pub(super) fn of(conf: &MosquittoConf) -> Result<Self, String> {
        let name = conf
            .setting("user", None)
            .map_or("mosquitto", |setting| &setting.value);
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let groups = fs::read_to_string("/etc/group").unwrap_or_default();
        Self::among(name, &users, &groups).ok_or_else(|| name.to_owned())
    }

    /// Returns a user of these files (passwd(5), group(5)).
    fn among(name: &str, users: &str, groups: &str) -> Option<Self> {
        let mut lines = users
            .lines()
            .map(|line| line.split(':').collect::<Vec<_>>());
        let line = lines.find(|fields| fields.first() == Some(&name))?;
        let number = |place: usize| line.get(place)?.parse().ok();
        let (user, own): (u32, u32) = (number(2)?, number(3)?);
        let others = groups.lines().filter_map(|line| {
            let fields: Vec<_> = line.split(':').collect();
            let mut members = fields.get(3)?.split(',');
            members
                .any(|member| member == name)
                .then(|| fields[2].parse().ok())?
        });
        Some(Self {
            name: name.to_owned(),
            user,
            groups: std::iter::once(own).chain(others).collect(),
        })
    }

    /// Whether the user has all of these permissions.
    fn may(&self, file: &Metadata, bits: u32) -> bool {
        let mode = file.mode();
        let granted = match file.uid() {
            _ if self.user == 0 => return true,
            owner if owner == self.user => mode >> 6,
            _ if self.groups.contains(&file.gid()) => mode >> 3,
            _ => mode,
        };
        granted & bits == bits
    }

    /// Returns what keeps the user from a file. What does not exist is said elsewhere.
    pub(super) fn may_not_read(&self, path: &Path) -> Option<Obstacle> {
        let real = path.canonicalize().ok()?;
        if let Some(folder) = self.closed_folder(&real) {
            return Some(Obstacle::Enter(folder.into()));
        }
        let file = fs::metadata(&real).ok()?;
        (!self.may(&file, READ)).then_some(Obstacle::Read)
    }

    /// Returns what keeps the user from keeping state in a folder, which is created if the one above exists.
    pub(super) fn may_not_keep_state_in(&self, path: &Path) -> Option<Obstacle> {
        let (folder, is_new) = match (path.canonicalize(), path.parent()) {
            (Ok(folder), _) => (folder, false),
            (Err(_), Some(above)) => (above.canonicalize().ok()?, true),
            (Err(_), None) => return None,
        };
        if let Some(closed) = self.closed_folder(&folder) {
            return Some(Obstacle::Enter(closed.into()));
        }
        let metadata = fs::metadata(&folder).ok()?;
        match self.may(&metadata, WRITE | ENTER) {
            true => None,
            false if is_new && !self.may(&metadata, ENTER) => Some(Obstacle::Enter(folder)),
            false => Some(Obstacle::Write),
        }
    }

    /// Returns what keeps the user from appending to a file, which is created if it is not there.
    pub(super) fn may_not_append_to(&self, path: &Path) -> Option<Obstacle> {
        let above = path.parent()?;
        if matches!(above.try_exists(), Ok(false)) {
            return Some(Obstacle::NoFolder(above.into()));
        }
        let (real, is_new) = match path.canonicalize() {
            Ok(file) => (file, false),
            Err(_) => (above.canonicalize().ok()?, true),
        };
        if let Some(closed) = self.closed_folder(&real) {
            return Some(Obstacle::Enter(closed.into()));
        }
        let metadata = fs::metadata(&real).ok()?;
        match is_new {
            true => (!self.may(&metadata, WRITE | ENTER)).then_some(Obstacle::Create(real)),
            false => (!self.may(&metadata, READ | WRITE)).then_some(Obstacle::Append),
        }
    }

    /// Returns what keeps the user from putting a file in place of this one.
    pub(super) fn may_not_replace(&self, path: &Path) -> Option<Obstacle> {
        let above = path.parent()?;
        let Ok(folder) = above.canonicalize() else {
            return Some(Obstacle::NoFolder(above.into()));
        };
        if let Some(closed) = self.closed_folder(&folder) {
            return Some(Obstacle::Enter(closed.into()));
        }
        let metadata = fs::metadata(&folder).ok()?;
        (!self.may(&metadata, WRITE | ENTER)).then_some(Obstacle::Replace(folder))
    }

    /// Returns the first folder above a file that the user may not enter.
    fn closed_folder<'p>(&self, path: &'p Path) -> Option<&'p Path> {
        let above: Vec<_> = path.ancestors().skip(1).collect();
        let mut above = above.into_iter().rev();
        above.find(|folder| fs::metadata(folder).is_ok_and(|folder| !self.may(&folder, ENTER)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn user(user: u32, groups: &[u32]) -> BrokerUser {
        BrokerUser {
            name: "x".into(),
            user,
            groups: groups.to_vec(),
        }
    }

    #[test]
    fn a_user_is_found_with_its_groups() {
        let users = "root:x:0:0::/root:/bin/sh\nmosquitto:x:104:110::/:/bin/false\n";
        let groups = "root:x:0:\nssl-cert:x:111:www,mosquitto\nadm:x:4:mosquitto2\n";
        let found = BrokerUser::among("mosquitto", users, groups).unwrap();
        assert_eq!((found.user, found.groups), (104, vec![110, 111]));
        assert!(BrokerUser::among("nobody", users, groups).is_none());
    }

    #[test]
    fn permissions_are_those_of_the_owner_the_group_or_everybody() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "x").unwrap();
        let own = fs::metadata(&path).unwrap();
        let stranger = own.uid() + 1000;
        for (mode, who, refused) in [
            (0o600, user(own.uid(), &[]), None),
            (0o600, user(stranger, &[own.gid()]), Some(Obstacle::Read)),
            (0o640, user(stranger, &[own.gid()]), None),
            (
                0o640,
                user(stranger, &[own.gid() + 1]),
                Some(Obstacle::Read),
            ),
            (0o604, user(stranger, &[own.gid()]), Some(Obstacle::Read)),
            (0o000, user(0, &[]), None),
        ] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            // Root reads everything, also what it owns.
            if own.uid() != 0 || who.user != 0 || mode == 0 {
                assert_eq!(who.may_not_read(&path), refused, "{mode:o} {who:?}");
            }
        }
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let refused = user(stranger, &[]).may_not_read(&path);
        let real = folder.path().canonicalize().unwrap();
        assert_eq!(refused, Some(Obstacle::Enter(real.clone())));
        assert_eq!(
            user(stranger, &[]).may_not_keep_state_in(&real),
            Some(Obstacle::Write)
        );
        let new = folder.path().join("new");
        assert_eq!(
            user(stranger, &[]).may_not_keep_state_in(&new),
            Some(Obstacle::Enter(real))
        );
        assert_eq!(user(own.uid(), &[]).may_not_keep_state_in(&new), None);
    }
}
