//! Finds the users that the broker has beside those of the tenant.
//!
//! Other plugins and the broker itself decide by user name. If a token has the name of such a user, or a user of the
//! tenant has it, the client gets that user's rights. No function of the broker returns these users, but its
//! configuration names them. It is read once, at the start, and what cannot be read is left out. The result is used for
//! one line in the log.

use std::{
    fs,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use serde_json::Value;

use auth::{engine::LocalUsers, files};
use input::json;

/// The longest file that is read, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// The most files that are read.
const MAX_FILES: usize = 100;

/// Returns the users of the broker in whose process this runs.
pub fn find() -> LocalUsers {
    let Ok(arguments) = fs::read("/proc/self/cmdline") else {
        return LocalUsers::default();
    };
    let mut arguments = arguments.split(|byte| *byte == 0);
    let named = arguments.any(|argument| matches!(argument, b"-c" | b"--config-file"));
    match arguments.next() {
        Some(path) if named => of(&PathBuf::from(std::ffi::OsString::from_vec(path.to_vec()))),
        _ => LocalUsers::default(),
    }
}

/// Returns the users that this configuration names.
fn of(configuration: &Path) -> LocalUsers {
    let mut found = LocalUsers::default();
    let mut reader = ConfigurationReader {
        files_left: MAX_FILES,
        in_dynamic_security: false,
        seen_ours: false,
    };
    reader.read(configuration, true, &mut found);
    found
}

/// Reads the broker's configuration.
struct ConfigurationReader {
    files_left: usize,
    /// Whether the lines that follow are options of dynamic-security.
    in_dynamic_security: bool,
    seen_ours: bool,
}

impl ConfigurationReader {
    fn read(&mut self, path: &Path, may_include: bool, found: &mut LocalUsers) {
        for line in self.text(path).lines() {
            let Some((word, value)) = line.trim().split_once([' ', '\t']) else {
                continue;
            };
            let value = value.trim();
            match word {
                "plugin" | "auth_plugin" | "global_plugin" | "plugin_load" => {
                    self.in_dynamic_security = value.contains("dynamic_security");
                    self.seen_ours |= value.contains("mosquitto_auth0");
                    found.dynamic_security_first |= self.in_dynamic_security && !self.seen_ours;
                }
                "plugin_opt_config_file" if self.in_dynamic_security => {
                    found
                        .dynamic_security
                        .extend(clients(&self.text(Path::new(value))));
                }
                // 2.1 also has a plugin for such files.
                "password_file" | "plugin_opt_password_file" => {
                    found
                        .password_file
                        .extend(users(&self.text(Path::new(value))));
                }
                "include_dir" if may_include => {
                    for path in included(Path::new(value)) {
                        self.read(&path, false, found);
                    }
                }
                _ => {}
            }
        }
    }

    /// Returns what is in a file, which may be a secret. Returns nothing if the file cannot be read.
    fn text(&mut self, path: &Path) -> String {
        let Some(left) = self.files_left.checked_sub(1) else {
            return String::new();
        };
        self.files_left = left;
        let content = files::read(path, MAX_FILE).ok();
        let text = content.map(|content| String::from_utf8_lossy(&content.bytes).into_owned());
        text.unwrap_or_default()
    }
}

/// Returns the files of an `include_dir`, in the broker's order.
fn included(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let paths = entries.flatten().map(|entry| entry.path());
    let is_configuration = |path: &PathBuf| path.extension().is_some_and(|end| end == "conf");
    let mut paths: Vec<_> = paths.filter(is_configuration).take(MAX_FILES).collect();
    paths.sort();
    paths
}

/// Returns the users of a `password_file`, which has lines `name:hash`.
fn users(text: &str) -> Vec<String> {
    let names = text.lines().filter_map(|line| line.split_once(':'));
    names
        .map(|(name, _)| name.trim().to_owned())
        .filter(|name| !name.is_empty() && !name.starts_with('#'))
        .collect()
}

/// Returns the clients of dynamic-security that have a password. Those without one sign in elsewhere.
fn clients(text: &str) -> Vec<String> {
    let members = json::object(text.as_bytes()).unwrap_or_default();
    let clients = members.get("clients").and_then(Value::as_array);
    clients
        .into_iter()
        .flatten()
        .filter(|client| client.get("password").is_some())
        .filter_map(|client| client.get("username")?.as_str().map(str::to_owned))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_where_the_broker_has_them() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let passwords = write(
            "passwords",
            "# comment\nadmin:$7$x\nmeter:$6$y\n:none\nno colon\n",
        );
        let dynamic = write(
            "dynamic.json",
            r#"{"clients":[{"username":"boss","password":"x"},{"username":"auth0|7"},{"password":"y"}]}"#,
        );
        write(
            "conf.d/b.conf",
            &format!(
                "plugin /usr/lib/mosquitto_dynamic_security.so\nplugin_opt_config_file {dynamic}\n"
            ),
        );
        write("conf.d/a.conf", "plugin /usr/lib/libmosquitto_auth0.so\n");
        write("conf.d/not-this", &format!("password_file {dynamic}\n"));
        let include = folder.path().join("conf.d").display().to_string();
        let main = write(
            "mosquitto.conf",
            &format!("listener 1883\n  password_file  {passwords}\ninclude_dir {include}\n"),
        );
        let found = of(Path::new(&main));
        assert_eq!(found.password_file, ["admin", "meter"]);
        assert_eq!(found.dynamic_security, ["boss"]);
        assert!(!found.dynamic_security_first, "it is asked after us");

        write("conf.d/a.conf", "");
        assert!(of(Path::new(&main)).dynamic_security_first);
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let main = folder.path().join("mosquitto.conf");
        let gone = folder.path().join("gone").display().to_string();
        let itself = main.display();
        fs::write(
            &main,
            format!(
                "password_file {gone}\npassword_file {}\ninclude_dir {gone}\ninclude_dir {}\nplugin dynamic_security\n\
                 plugin_opt_config_file {itself}\nplugin\n\u{0}\n",
                folder.path().display(),
                folder.path().display()
            ),
        )
        .unwrap();
        let found = of(&main);
        assert!(found.password_file.is_empty() && found.dynamic_security.is_empty());
        of(Path::new("/dev/zero"));
        find();
    }
}
