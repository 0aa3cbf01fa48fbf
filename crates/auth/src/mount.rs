//! Finds the mount that an open file lies on, as the kernel tells it in `/proc`.

use std::{
    fs::{self, File},
    os::fd::AsRawFd,
    path::Path,
};

/// What a file's mount says about who may use the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mount {
    /// Nothing on it can be changed, the mode of a file included.
    pub(crate) read_only: bool,
    /// It holds this file alone, or files in memory, as secrets are mounted for a container.
    pub(crate) made_for_it: bool,
}

/// Where a machine has file systems in memory for everybody. In a unit with `ProtectSystem=strict` these are mounted
/// read-only, too, and every user still reads what is there.
const OF_THE_SYSTEM: [&str; 5] = ["/", "/run", "/tmp", "/dev/shm", "/var/tmp"];

impl Mount {
    /// Returns the mount of an open file, or `None` where `/proc` does not tell.
    pub(crate) fn of(file: &File) -> Option<Self> {
        let descriptor = file.as_raw_fd();
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{descriptor}")).ok()?;
        let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:"))?;
        // The path without symbolic links, which is what the kernel's list has.
        let path = fs::read_link(format!("/proc/self/fd/{descriptor}")).ok()?;
        Self::find(
            &fs::read_to_string("/proc/self/mountinfo").ok()?,
            id.trim(),
            &path,
        )
    }

    /// Finds a mount in the text of `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
    fn find(list: &str, id: &str, path: &Path) -> Option<Self> {
        let line = list
            .lines()
            .find(|line| line.split(' ').next() == Some(id))?;
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(4);
        let (point, options) = (mount.next()?, mount.next()?);
        let mut filesystem = filesystem.split(' ');
        let (kind, its_options) = (filesystem.next()?, filesystem.nth(1)?);
        let read_only = |options: &str| options.split(',').any(|option| option == "ro");
        Some(Self {
            read_only: read_only(options) || read_only(its_options),
            // Where a name has a space, the list has \040. Such a file is not recognised, and refused.
            made_for_it: Path::new(point) == path
                || (matches!(kind, "tmpfs" | "ramfs") && !OF_THE_SYSTEM.contains(&point)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "\
        10 1 0:30 / / rw,relatime - overlay overlay rw,lowerdir=/l\n\
        11 10 259:1 /srv/broker/secrets/auth0 /run/secrets/auth0 ro,relatime - ext4 /dev/root rw\n\
        12 10 0:99 / /etc/auth0 ro,relatime - tmpfs tmpfs rw,size=8k\n\
        13 10 259:1 /store /nix/store ro,relatime shared:7 master:1 - ext4 /dev/root rw\n\
        14 10 0:98 / /run rw,nosuid - tmpfs tmpfs rw\n\
        15 10 259:2 / /mnt rw - ext4 /dev/sdb1 ro\n\
        16 10 0:98 / /run ro,nosuid - tmpfs tmpfs rw\n";

    #[test]
    fn a_mount_is_found_by_its_number() {
        for (id, path, read_only, made_for_it) in [
            ("10", "/etc/secret", false, false),
            // Docker Compose, Docker Swarm
            ("11", "/run/secrets/auth0", true, true),
            // Kubernetes
            ("12", "/etc/auth0/..2026_11_27/secret", true, true),
            // Every user of a machine reads Nix's store, where secrets must not be.
            ("13", "/nix/store/abc-secret", true, false),
            ("14", "/run/secret", false, false),
            // systemd, ProtectSystem=strict
            ("16", "/run/secret", true, false),
            ("15", "/mnt/secret", true, false),
        ] {
            let mount = Mount {
                read_only,
                made_for_it,
            };
            assert_eq!(
                Mount::find(LIST, id, Path::new(path)),
                Some(mount),
                "{path}"
            );
        }
        for (list, id) in [(LIST, "1"), ("", "10"), ("10 1 0:30 /", "10")] {
            assert_eq!(Mount::find(list, id, Path::new("/")), None);
        }
    }

    #[test]
    fn the_kernel_tells_the_mount_of_an_open_file() {
        let file = File::open("/proc/self/status").unwrap();
        assert!(!Mount::of(&file).unwrap().made_for_it);
    }
}
