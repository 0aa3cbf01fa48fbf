//! Finds the users that the broker has beside those of the tenant.
//!
//! Other plugins and the broker itself decide by user name. If a token has the name of such a user, or a user of the
//! tenant has it, the client gets that user's rights. No function of the broker returns these users, but its
//! configuration names them. It is read once, at the start, and what cannot be read is left out. The result is used for
//! one line in the log.

use std::path::Path;

use serde_json::Value;

use auth::{
    config::mosquitto_conf::{ConfiguredPlugin, MosquittoConf},
    engine::LocalUsers,
    files,
};
use input::json;

/// The longest file with users that is read, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// The most files with users that are read.
const MAX_FILES: usize = 100;

/// Returns the users that this configuration names.
pub fn of(conf: &MosquittoConf) -> LocalUsers {
    let mut password_files: Vec<&Path> = conf.password_files.iter().map(|path| &**path).collect();
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
    let read = |files: Vec<&Path>, users: fn(&str) -> Vec<String>| {
        let files = files.into_iter().take(MAX_FILES);
        files.flat_map(|file| users(&text(file))).collect()
    };
    let is_ours = |plugin: &ConfiguredPlugin| plugin.path.contains("mosquitto_auth0");
    let ours_or_dynamic_security = conf
        .plugins
        .iter()
        .find(|plugin| is_dynamic_security(&plugin.path) || is_ours(plugin));
    LocalUsers {
        others_may_authorize: !conf.is_whole
            || conf.has_acl_file
            || !conf.plugins.iter().all(is_ours),
        password_file: read(password_files, users),
        dynamic_security: read(dynamic_security, clients),
        dynamic_security_first: ours_or_dynamic_security
            .is_some_and(|first| is_dynamic_security(&first.path)),
    }
}

fn is_dynamic_security(path: &str) -> bool {
    path.contains("dynamic_security")
}

/// Returns what is in a file, which may be a secret. Returns nothing if the file cannot be read.
fn text(file: &Path) -> String {
    let content = files::read(file, MAX_FILE).ok();
    let text = content.map(|content| String::from_utf8_lossy(&content.bytes).into_owned());
    text.unwrap_or_default()
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
        assert!(found.others_may_authorize);

        write("conf.d/a.conf", "");
        assert!(of(&MosquittoConf::read(Path::new(&main))).dynamic_security_first);
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
    }
}
