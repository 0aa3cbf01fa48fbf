//! Finds the users that the broker has beside those of the tenant.
//!
//! Other plugins and the broker itself decide by user name. If a token has the name of such a user, or a user of the
//! tenant has it, the client gets that user's rights. No function of the broker returns these users, but its
//! configuration names them. It is read at the start and on SIGHUP. The names are used for a line in the log, and with
//! `on_other defer` clients with these names are left to the broker.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::mosquitto_conf::{ConfiguredPlugin, MosquittoConf};
use crate::files;
use input::json;

/// The longest file with users that is read, in bytes: half a million users.
const MAX_FILE: u64 = 64 * 1024 * 1024;

/// The most files with users that are read.
const MAX_FILES: usize = 100;

/// Users of the broker itself, with passwords of their own.
#[derive(Debug, Default)]
pub struct LocalUsers {
    /// The `password_file`s.
    pub password_files: Vec<UsersFile>,
    /// The files of dynamic-security.
    pub dynamic_security: Vec<UsersFile>,
    /// Whether dynamic-security is asked before this plugin.
    pub dynamic_security_first: bool,
    /// Whether anything but this plugin may decide about messages: an `acl_file`, another plugin, or what cannot be
    /// known.
    pub others_may_authorize: bool,
}

/// A file with users.
#[derive(Debug)]
pub struct UsersFile {
    /// Its path.
    pub path: PathBuf,
    /// The names of the users in it, or why it cannot be read.
    pub names: Result<Vec<String>, String>,
}

impl LocalUsers {
    /// Returns the files, of both kinds.
    pub fn files(&self) -> impl Iterator<Item = &UsersFile> {
        self.password_files.iter().chain(&self.dynamic_security)
    }
}

/// Returns the users that this configuration names for the listeners that have this instance of the plugin. Without an
/// instance it returns those of all listeners.
pub fn of(conf: &MosquittoConf, ours: Option<&ConfiguredPlugin>) -> LocalUsers {
    let is_ours = |plugin: &ConfiguredPlugin| match ours {
        Some(ours) => plugin.path == ours.path,
        None => plugin.is_auth0(),
    };
    // Another listener's files say nothing about our clients.
    let has_us = |listener| ours.is_none_or(|ours| conf.is_asked_at(ours, listener));
    let mut password_files: Vec<&str> = (conf.settings.iter())
        .filter(|setting| setting.word == "password_file")
        .filter(|setting| conf.per_listener_settings().is_none() || has_us(setting.listener))
        .map(|setting| &*setting.value)
        .collect();
    let mut dynamic_security = Vec::new();
    let beside_us = |plugin: &&ConfiguredPlugin| {
        let mut lines = plugin.lines_of_use();
        conf.is_asked_everywhere(plugin) || lines.any(|line| has_us(line.listener))
    };
    for plugin in conf.plugins.iter().filter(beside_us) {
        for (name, value) in &plugin.options {
            match &**name {
                // 2.1 also has a plugin for such files.
                "password_file" => password_files.push(value),
                "config_file" if is_dynamic_security(&plugin.path) => dynamic_security.push(value),
                _ => {}
            }
        }
    }
    let mut plugins = conf.plugins.iter();
    let first = plugins.find(|plugin| is_dynamic_security(&plugin.path) || is_ours(plugin));
    LocalUsers {
        others_may_authorize: !conf.is_whole
            || conf.setting("acl_file", None).is_some()
            || !conf.plugins.iter().all(is_ours),
        password_files: read(password_files, |text| Some(users(text))),
        dynamic_security: read(dynamic_security, clients),
        dynamic_security_first: first.is_some_and(|first| is_dynamic_security(&first.path)),
    }
}

fn is_dynamic_security(path: &str) -> bool {
    path.contains("dynamic_security")
}

/// Returns the users in these files. Their text may be a secret.
fn read(
    files: Vec<impl AsRef<Path>>,
    users: impl Fn(&str) -> Option<Vec<String>>,
) -> Vec<UsersFile> {
    let files = files.into_iter().take(MAX_FILES);
    let files = files.map(|path| {
        let path = path.as_ref();
        let content = files::read(path, MAX_FILE).map_err(|why| why.to_string());
        UsersFile {
            path: path.to_owned(),
            names: content.and_then(|content| {
                let names = users(&String::from_utf8_lossy(&content.bytes));
                names.ok_or_else(|| "it is not JSON".to_owned())
            }),
        }
    });
    files.collect()
}

/// Returns the users of a `password_file`, which has lines `name:hash` (src/password_file.c, src/security_default.c).
fn users(text: &str) -> Vec<String> {
    let lines = text.lines();
    let lines = lines.filter(|line| !line.starts_with('#') && line.contains(':'));
    let names = lines.map(|line| line.trim_start_matches(':').split(':').next());
    let names = names.map(|name| name.unwrap_or_default().trim().to_owned());
    names.filter(|name| !name.is_empty()).collect()
}

/// Returns the clients of dynamic-security that have a password: 2.1 writes `encoded_password`, and 2.0 `password`.
/// Those without one sign in elsewhere. Returns `None` if this is not JSON.
fn clients(text: &str) -> Option<Vec<String>> {
    let members = json::object(text.as_bytes()).ok()?;
    let clients = members.get("clients").and_then(Value::as_array);
    let has_password = |client: &&Value| {
        let mut names = ["encoded_password", "password"].into_iter();
        names.any(|name| client.get(name).is_some())
    };
    let clients = clients.into_iter().flatten().filter(has_password);
    let names = clients.filter_map(|client| client.get("username")?.as_str().map(str::to_owned));
    Some(names.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// Returns the names in files that can be read.
    fn names(files: &[UsersFile]) -> Vec<&str> {
        let names = files.iter().flat_map(|file| file.names.as_ref().unwrap());
        names.map(String::as_str).collect()
    }

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
            r#"{"clients":[{"username":"boss","password":"x"},{"username":"auth0|7"},{"password":"y"},
                {"username":"chief","encoded_password":"$argon2id$x"}]}"#,
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
        let found = of(&MosquittoConf::read(Path::new(&main)), None);
        assert_eq!(names(&found.password_files), ["admin", "meter", "none"]);
        assert_eq!(names(&found.dynamic_security), ["boss", "chief"]);
        assert!(!found.dynamic_security_first, "it is asked after us");
        assert!(found.others_may_authorize);

        write("conf.d/a.conf", "");
        assert!(of(&MosquittoConf::read(Path::new(&main)), None).dynamic_security_first);
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
        let dynamic = write(
            "dynamic",
            r#"{"clients":[{"username":"boss","password":"x"}]}"#,
        );
        let theirs = format!("plugin /x/dynamic_security.so\nplugin_opt_config_file {dynamic}\n");
        // An instance of ours at each listener, and dynamic-security at the first one.
        let found = |first: &str, plugin: &str, ours: usize| {
            let main = write(
                "mosquitto.conf",
                &format!(
                    "{first}listener 1\npassword_file {one}\n{plugin} /x/any.so\nplugin_opt_audience 1\n{theirs}\
                     listener 2\npassword_file {two}\n{plugin} /x/any.so\nplugin_opt_audience 2\n"
                ),
            );
            let conf = MosquittoConf::read(Path::new(&main));
            let mut instances = conf
                .plugins
                .iter()
                .filter(|plugin| plugin.path == "/x/any.so");
            let found = of(&conf, instances.nth(ours));
            let all = [names(&found.password_files), names(&found.dynamic_security)].concat();
            all.join(" ")
        };
        assert_eq!(found("", "plugin", 1), "one two boss");
        let each = "per_listener_settings true\n";
        assert_eq!(found(each, "plugin", 0), "one boss");
        assert_eq!(found(each, "plugin", 1), "two");
        assert_eq!(found(each, "global_plugin", 1), "one two boss");
        assert_eq!(found(each, "plugin", 7), "one two boss", "in doubt all");
    }

    #[test]
    fn a_plugin_is_used_where_a_line_uses_it() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        for name in ["one", "two"] {
            fs::write(at(name), format!("{name}:x\n")).unwrap();
        }
        let text = format!(
            "per_listener_settings true\nlistener 1\nplugin_load ours /x/mosquitto_auth0.so\npassword_file {}\n\
             listener 2\nplugin_use ours\npassword_file {}\n",
            at("one"),
            at("two")
        );
        fs::write(at("conf"), text).unwrap();
        let conf = MosquittoConf::read(Path::new(&at("conf")));
        let found = of(&conf, conf.plugins.first());
        assert_eq!(names(&found.password_files), ["two"]);
    }

    #[test]
    fn an_acl_file_or_another_plugin_authorizes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mosquitto.conf");
        let others = |lines: &str| {
            let ours = "plugin /x/mosquitto_auth0.so\nplugin_opt_audience x\n";
            fs::write(&file, format!("{ours}{lines}")).unwrap();
            of(&MosquittoConf::read(&file), None).others_may_authorize
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
        let found = of(&MosquittoConf::read(&main), None);
        assert!(found.files().next().is_some());
        assert!(found.files().all(|file| file.names.is_err()), "{found:?}");
    }
}
