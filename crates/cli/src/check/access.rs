//! Whether the broker's user can use a file: computed from the owners and the permission bits, because the tool is
//! mostly run as root, which can read everything. What an access control list (acl(5)) allows is not computed, so
//! nothing is said about a file or a folder that has one.

use std::{
    collections::VecDeque,
    fs,
    os::unix::fs::MetadataExt,
    path::{Component, Path, PathBuf},
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

    /// Whether the user has all of these permissions. In doubt it has.
    fn may(&self, path: &Path, bits: u32) -> bool {
        let Ok(file) = fs::metadata(path) else {
            return true;
        };
        let mode = file.mode();
        let granted = match file.uid() {
            _ if self.user == 0 => return true,
            owner if owner == self.user => mode >> 6,
            _ if self.groups.contains(&file.gid()) => mode >> 3,
            _ => mode,
        };
        granted & bits == bits || has_access_list(path)
    }

    /// Returns what keeps the user from reading a file.
    pub(super) fn may_not_read(&self, path: &Path) -> Option<Obstacle> {
        if let Some(folder) = self.closed_folder(path) {
            return Some(Obstacle::Enter(folder));
        }
        match path.try_exists() {
            Ok(false) => Some(Obstacle::Missing),
            _ => (!self.may(path, READ)).then_some(Obstacle::Read),
        }
    }

    /// Returns what keeps the user from keeping state in a folder, which is created if the one above exists.
    pub(super) fn may_not_keep_state_in(&self, path: &Path) -> Option<Obstacle> {
        let (folder, is_new) = match (path.canonicalize(), path.parent()) {
            (Ok(folder), _) => (folder, false),
            (Err(_), Some(above)) => (above.canonicalize().ok()?, true),
            (Err(_), None) => return None,
        };
        if let Some(closed) = self.closed_folder(path) {
            return Some(Obstacle::Enter(closed));
        }
        match self.may(&folder, WRITE | ENTER) {
            true => None,
            false if is_new && !self.may(&folder, ENTER) => Some(Obstacle::Enter(folder)),
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
        if let Some(closed) = self.closed_folder(path) {
            return Some(Obstacle::Enter(closed));
        }
        match is_new {
            true => (!self.may(&real, WRITE | ENTER)).then_some(Obstacle::Create(real)),
            false => (!self.may(&real, READ | WRITE)).then_some(Obstacle::Append),
        }
    }

    /// Returns what keeps the user from putting a file in place of this one.
    pub(super) fn may_not_replace(&self, path: &Path) -> Option<Obstacle> {
        let above = path.parent()?;
        let Ok(folder) = above.canonicalize() else {
            return Some(Obstacle::NoFolder(above.into()));
        };
        if let Some(closed) = self.closed_folder(path) {
            return Some(Obstacle::Enter(closed));
        }
        (!self.may(&folder, WRITE | ENTER)).then_some(Obstacle::Replace(folder))
    }

    /// Returns the first folder on the way to a file that the user cannot enter.
    fn closed_folder(&self, path: &Path) -> Option<PathBuf> {
        let mut folders = folders_on_the_way(path).into_iter();
        folders.find(|folder| !self.may(folder, ENTER))
    }
}

/// Returns the folders that the kernel enters to find a file, in order (path_resolution(7)): those in which a symbolic
/// link lies, and those to which it leads.
fn folders_on_the_way(path: &Path) -> Vec<PathBuf> {
    const MOST_LINKS: usize = 40;
    let words = |path: &Path| -> Vec<PathBuf> {
        let components = path.components();
        components
            .map(|one| PathBuf::from(one.as_os_str()))
            .collect()
    };
    let mut links = 0;
    let mut folders = Vec::new();
    let mut at = PathBuf::new();
    let mut left = VecDeque::from(words(path));
    while let Some(word) = left.pop_front() {
        match word.components().next() {
            Some(Component::RootDir) => at = word,
            Some(Component::ParentDir) => drop(at.pop()),
            Some(Component::Normal(_)) => {
                if folders.last() != Some(&at) {
                    folders.push(at.clone());
                }
                let next = at.join(&word);
                match fs::read_link(&next) {
                    Ok(target) if links < MOST_LINKS => {
                        links += 1;
                        words(&target)
                            .into_iter()
                            .rev()
                            .for_each(|word| left.push_front(word));
                    }
                    _ => at = next,
                }
            }
            _ => {}
        }
    }
    folders
}

/// Whether an access control list says more than the permission bits.
fn has_access_list(path: &Path) -> bool {
    let mut list = [0; 1024];
    let read = rustix::fs::getxattr(path, c"system.posix_acl_access", &mut list);
    matches!(read, Ok(1..) | Err(rustix::io::Errno::RANGE))
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

    #[test]
    fn the_folder_of_a_symbolic_link_counts_as_well() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let mode = |name: &str, mode| {
            fs::set_permissions(root.join(name), fs::Permissions::from_mode(mode)).unwrap();
        };
        mode("", 0o755);
        fs::create_dir(root.join("live")).unwrap();
        fs::create_dir(root.join("archive")).unwrap();
        fs::write(root.join("archive/key1.pem"), "x").unwrap();
        mode("live", 0o700);
        mode("archive", 0o755);
        mode("archive/key1.pem", 0o644);
        let link = root.join("live/key.pem");
        std::os::unix::fs::symlink("../archive/key1.pem", &link).unwrap();
        let stranger = user(fs::metadata(&root).unwrap().uid() + 1000, &[]);
        let closed = |name: &str| Some(Obstacle::Enter(root.join(name)));
        assert_eq!(stranger.may_not_read(&link), closed("live"));
        mode("live", 0o755);
        mode("archive", 0o700);
        assert_eq!(stranger.may_not_read(&link), closed("archive"));
        mode("archive", 0o755);
        assert_eq!(stranger.may_not_read(&link), None);
        fs::remove_file(root.join("archive/key1.pem")).unwrap();
        assert_eq!(stranger.may_not_read(&link), Some(Obstacle::Missing));
    }

    #[test]
    fn nothing_is_said_about_a_file_with_an_access_control_list() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "x").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let stranger = user(fs::metadata(&path).unwrap().uid() + 1000, &[]);
        assert_eq!(stranger.may_not_read(&path), Some(Obstacle::Read));
        // The version, and for each entry a tag, permissions and a user (linux/posix_acl_xattr.h).
        let mut list = 2u32.to_le_bytes().to_vec();
        for (tag, permissions, id) in [
            (0x01u16, 6u16, u32::MAX),
            (0x02, 4, stranger.user),
            (0x04, 0, u32::MAX),
            (0x10, 4, u32::MAX),
            (0x20, 0, u32::MAX),
        ] {
            list.extend(tag.to_le_bytes());
            list.extend(permissions.to_le_bytes());
            list.extend(id.to_le_bytes());
        }
        let flags = rustix::fs::XattrFlags::empty();
        match rustix::fs::setxattr(&path, c"system.posix_acl_access", &list, flags) {
            Err(rustix::io::Errno::OPNOTSUPP) => return, // this file system has none
            set => set.unwrap(),
        }
        assert_eq!(stranger.may_not_read(&path), None);
    }
}
