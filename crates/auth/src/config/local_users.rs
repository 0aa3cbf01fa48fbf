//! Finds the users that the broker has beside those of the tenant.
//!
//! Other plugins and the broker itself decide by user name. If a token has the name of such a user, or a user of the
//! tenant has it, the client gets that user's rights. No function of the broker returns these users, but its
//! configuration names them. It is read at the start and on SIGHUP. The names are used for a line in the log, and with
//! `on_other defer` clients with these names are left to the broker.

use std::path::Path;

use serde_json::Value;

use super::mosquitto_conf::{ConfiguredPlugin, MosquittoConf, Setting};
use crate::files;
use input::json;

/// The longest file with users that is read, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// The most files with users that are read.
const MAX_FILES: usize = 100;

/// Users of the broker itself, with passwords of their own.
#[derive(Debug, Default)]
pub struct LocalUsers {
    /// The users in a `password_file`.
    pub password_file: Vec<String>,
    /// The users of dynamic-security.
    pub dynamic_security: Vec<String>,
    /// Whether dynamic-security is asked before this plugin.
    pub dynamic_security_first: bool,
    /// Whether anything but this plugin may decide about messages: an `acl_file`, another plugin, or what cannot be
    /// known.
    pub others_may_authorize: bool,
    /// Whether all their files could be read.
    pub is_whole: bool,
}

/// Returns the users that this configuration names.
pub fn of(conf: &MosquittoConf) -> LocalUsers {
    let is_ours = |plugin: &&ConfiguredPlugin| plugin.path.contains("mosquitto_auth0");
    let ours = conf.plugins.iter().filter(is_ours);
    let our_lines: Vec<&Setting> = ours.flat_map(|plugin| &plugin.named).collect();
    // Another listener's file says nothing about our clients.
    let counts = |file: &Setting| {
        conf.per_listener_settings().is_none()
            || our_lines
                .iter()
                .any(|line| line.word == "global_plugin" || line.listener == file.listener)
    };
    let files = conf.settings.iter();
    let files = files.filter(|setting| setting.word == "password_file" && counts(setting));
    let mut password_files: Vec<&Path> = files.map(|file| Path::new(&file.value)).collect();
    let mut dynamic_security = Vec::new();
    for plugin in &conf.plugins {
        for (name, value) in &plugin.options {
            match &**name {
                // 2.1 also has a plugin for such files.
                "password_file" => password_files.push(Path::new(value)),
                "config_file" if is_dynamic_security(&plugin.path) => {
                    dynamic_security.push(Path::new(value));
                }
                _ => {}
            }
        }
    }
    let mut is_whole = conf.is_whole;
    let mut read = |files: Vec<&Path>, users: fn(&str) -> Vec<String>| {
        let files = files.into_iter().take(MAX_FILES).map(text);
        let texts = files.inspect(|text| is_whole &= text.is_some());
        texts.flatten().flat_map(|text| users(&text)).collect()
    };
    let (password_file, dynamic_security_users) =
        (read(password_files, users), read(dynamic_security, clients));
    let ours_or_dynamic_security = conf
        .plugins
        .iter()
        .find(|plugin| is_dynamic_security(&plugin.path) || is_ours(plugin));
    LocalUsers {
        others_may_authorize: !conf.is_whole
            || conf.setting("acl_file", None).is_some()
            || !conf.plugins.iter().all(|plugin| is_ours(&plugin)),
        password_file,
        dynamic_security: dynamic_security_users,
        dynamic_security_first: ours_or_dynamic_security
            .is_some_and(|first| is_dynamic_security(&first.path)),
        is_whole,
    }
}

fn is_dynamic_security(path: &str) -> bool {
    path.contains("dynamic_security")
}

/// Returns what is in a file, which may be a secret, or `None` if the file cannot be read.
fn text(file: &Path) -> Option<String> {
    let content = files::read(file, MAX_FILE).ok()?;
    Some(String::from_utf8_lossy(&content.bytes).into_owned())
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
    use std::fs;

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
        let found = of(&MosquittoConf::read(Path::new(&main)));
        assert_eq!(found.password_file, ["admin", "meter"]);
        assert_eq!(found.dynamic_security, ["boss"]);
        assert!(!found.dynamic_security_first, "it is asked after us");
        assert!(found.others_may_authorize && found.is_whole);

        write("conf.d/a.conf", "");
        assert!(of(&MosquittoConf::read(Path::new(&main))).dynamic_security_first);
    }

    #[test]
    fn a_file_counts_for_the_listeners_that_use_it() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let (one, two) = (write("one", "one:x\n"), write("two", "two:x\n"));
        let found = |first: &str, plugin: &str| {
            let main = write(
                "mosquitto.conf",
                &format!(
                    "{first}listener 1\npassword_file {one}\nlistener 2\npassword_file {two}\n{plugin} /x/mosquitto_auth0.so\n"
                ),
            );
            of(&MosquittoConf::read(Path::new(&main))).password_file
        };
        assert_eq!(found("", "plugin"), ["one", "two"]);
        let each = "per_listener_settings true\n";
        assert_eq!(found(each, "plugin"), ["two"]);
        assert_eq!(found(each, "global_plugin"), ["one", "two"]);
    }

    #[test]
    fn an_acl_file_or_another_plugin_authorizes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mosquitto.conf");
        let others = |lines: &str| {
            let ours = "plugin /x/mosquitto_auth0.so\nplugin_opt_audience x\n";
            fs::write(&file, format!("{ours}{lines}")).unwrap();
            of(&MosquittoConf::read(&file)).others_may_authorize
        };
        assert!(!others("password_file /p\n#acl_file /a\n"));
        assert!(others("acl_file /a\n"));
        assert!(others("plugin /x/another.so\n"));
        assert!(others("include_dir /nowhere\n"), "who knows");
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
        let found = of(&MosquittoConf::read(&main));
        assert!(found.password_file.is_empty() && found.dynamic_security.is_empty());
        assert!(!found.is_whole);
    }
}
