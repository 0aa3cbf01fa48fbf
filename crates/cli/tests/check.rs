//! `mosquitto-auth0 check`, as an operator runs it.

mod common;

use std::{fs, os::unix::fs::PermissionsExt};

use common::{Conf, Ran, auth0};

const GOOD: &str = "plugin_opt_domain t.example\nplugin_opt_audience https://mqtt.example/\n";

/// Writes a mosquitto.conf whose library is there, and checks it.
fn check(conf: &Conf, text: &str) -> Ran {
    let library = conf.write("libmosquitto_auth0.so", "");
    conf.write(
        "mosquitto.conf",
        text.replace("OURS", &format!("plugin {library}")),
    );
    auth0(&["check", conf.path()])
}

/// Returns the names of what was found, with their lines.
fn found(conf: &Conf, text: &str) -> Vec<(String, u64)> {
    check(conf, text);
    let json = auth0(&["check", conf.path(), "--json"]).json();
    let findings = json["findings"].as_array().unwrap().iter();
    findings
        .filter(|one| one["finding"] != "no-such-user")
        .map(|one| {
            let name = one["finding"].as_str().unwrap().to_owned();
            (name, one["line"].as_u64().unwrap_or(0))
        })
        .collect()
}

/// Checks that exactly this is found. A file with a relative name is not looked for.
#[track_caller]
fn assert_found(conf: &Conf, text: &str, wanted: &[(&str, u64)]) {
    let found = found(conf, text);
    let found = found.iter().map(|(name, line)| (name.as_str(), *line));
    assert_eq!(found.collect::<Vec<_>>(), wanted, "{text}");
}

#[test]
fn a_good_configuration_is_right() {
    let conf = Conf::new();
    check(&conf, &format!("listener 1883 127.0.0.1\nOURS\n{GOOD}")).exits(0);
}

#[test]
fn every_mistake_is_shown_with_its_file_and_line() {
    let conf = Conf::new();
    let policy = conf.write(
        "policy.toml",
        "[[rule]]\nname = \"a\"\nqos = 3\nallow.both = \"x\"\n\n[[rule]]\nname = \"b\"\nallow.both = \"x/#/y\"\n",
    );
    let more = conf.write("options.toml", "leeway = 3\ntimeout = 0\n");
    let text = format!(
        "listener 1883 127.0.0.1\nOURS\nplugin_opt_domain http://t.example\nplugin_opt_policy_file {policy}\n\
         plugin_opt_config_file {more}\nplugin_opt_leway 5\n"
    );
    let path = conf.path().to_owned();
    check(&conf, &text)
        .exits(1)
        .says(&format!("{path}:3: option domain"))
        .says(&format!("{path}:6: option 'leway'"))
        .says("option audience is missing")
        .says("options.toml:2: option timeout")
        .says("mistakes: 4");
    // The files are looked at when the options are right.
    let text = format!("listener 1883 127.0.0.1\nOURS\n{GOOD}plugin_opt_policy_file {policy}\n");
    check(&conf, &text)
        .exits(1)
        .says("policy.toml:3: ")
        .says("policy.toml:8: ")
        .says("mistakes: 2");
    auth0(&["check", "/gone.conf"])
        .exits(3)
        .complains("/gone.conf");
    check(&conf, "listener 1883\n")
        .exits(1)
        .says("do not load mosquitto-auth0");
}

#[test]
fn included_files_are_read_and_instances_checked_one_by_one() {
    let conf = Conf::new();
    let library = conf.write("conf.d/libmosquitto_auth0.so", "");
    let included = conf.write(
        "conf.d/auth0.conf",
        format!("listener 8883 127.0.0.1\nplugin {library}\nplugin_opt_domain t.example\n"),
    );
    let folder = included.trim_end_matches("/auth0.conf");
    let text = format!(
        "per_listener_settings true\nlistener 1883 127.0.0.1\nOURS\n{GOOD}plugin_opt_timeout 0\n\
         listener 1884 127.0.0.1\ninclude_dir {folder}\n"
    );
    check(&conf, &text)
        .exits(1)
        .says("mosquitto.conf:6: option timeout")
        .says("auth0.conf:2: option audience is missing")
        .says("mosquitto.conf:7: the listener on port 1884 has no line for this plugin");
    check(&conf, &format!("include_dir {folder}/gone\nOURS\n{GOOD}"))
        .exits(1)
        .says("mosquitto.conf:1: ")
        .says("gone cannot be read");
}

#[test]
fn what_in_the_brokers_settings_defeats_the_plugin_is_found() {
    let conf = Conf::new();
    for (text, wanted) in [
        (
            "listener 8883 127.0.0.1\nuse_identity_as_username true\nOURS\n",
            &[("certificate-signs-in", 2)][..],
        ),
        ("listener 1883\nOURS\n", &[("plain-listener", 1)]),
        ("listener 8883\ncertfile x\nOURS\n", &[]),
        ("port 1883\nOURS\n", &[("plain-listener", 1)]),
        ("port 8883\ncertfile x\nOURS\n", &[]),
        (
            "bind_address 127.0.0.1\nuse_identity_as_username 1\nOURS\n",
            &[("certificate-signs-in", 2)],
        ),
        (
            "port 1884\nbind_address ::1\nOURS\nlistener 1884 ::1\n",
            &[("port-twice", 4)],
        ),
        ("listener 0 /run/mosquitto.sock\nOURS\n", &[]),
        (
            "listener 1883 ::1\nmount_point site/\nOURS\n",
            &[("mount-point", 2)],
        ),
        (
            "listener 1883 ::1\nprotocol websockets\nOURS\n",
            &[("websocket-address", 2)],
        ),
        (
            "listener 8883 10.0.0.1\ncertfile x\nenable_proxy_protocol 2\nOURS\n",
            &[("proxy-protocol", 3)],
        ),
        (
            "check_retain_source true\nlistener 1883 ::1\nOURS\n",
            &[("retain-source", 1)],
        ),
        (
            "listener 1883 ::1\nplugin /usr/lib/mosquitto_dynamic_security.so\nOURS\n",
            &[("asked-before", 2)],
        ),
        (
            "listener 1883 ::1\nOURS\nlistener 1883 127.0.0.1\nlistener 1883 ::1\n",
            &[("port-twice", 4)],
        ),
        (
            "listener 1883 ::1\npassword_file p\nlistener 1884 ::1\npassword_file p\nOURS\n",
            &[("set-twice", 4), ("local-users-refused", 4)],
        ),
        (
            "listener 1883 ::1\npassword_file p\nacl_file a\nOURS\n",
            &[("local-users-refused", 2), ("acl-file-ignored", 3)],
        ),
        (
            "persistence true\nlistener 1883 ::1\nOURS\n",
            &[("rights-lost", 1)],
        ),
        (
            "log_type error\nlistener 1883 ::1\nOURS\n",
            &[("refusals-not-logged", 1)],
        ),
        ("log_type all\nlistener 1883 ::1\nOURS\n", &[]),
        (
            "bind_address ::1\nuse_username_as_clientid true\nlistener 1884 ::1\nOURS\n",
            &[("username-as-client-id", 2)],
        ),
        (
            "max_connections 10\nmax_qos 2\nlistener 1883 ::1\nOURS\n",
            &[("default-listener", 1), ("plain-listener", 1)],
        ),
        ("max_qos 2\nlistener 1883 ::1\nOURS\n", &[]),
        ("listener 1883 ::1\nper_listener_settings true\nOURS\n", &[]),
        (
            "per_listener_settings true\nOURS\n",
            &[("above-listeners", 2), ("no-listener", 0)],
        ),
        (
            "listener 1883 ::1\nallow_anonymous false\nper_listener_settings true\nOURS\n",
            &[("per-listener-too-late", 3)],
        ),
    ] {
        let found = found(&conf, &format!("{text}{GOOD}"));
        let found: Vec<_> = found
            .iter()
            .map(|(name, line)| (name.as_str(), *line))
            .collect();
        assert_eq!(found, wanted, "{text}");
    }
    for (option, wanted) in [
        (
            "on_other defer\nallow_anonymous true # today\nacl_file a",
            &[("anonymous", 6)][..],
        ),
        ("on_other defer\nacl_file a", &[]),
        ("acl defer", &[("nobody-else", 5)]),
    ] {
        let text = format!("listener 1883 ::1\nOURS\n{GOOD}plugin_opt_{option}\n");
        let found = found(&conf, &text);
        let found: Vec<_> = found
            .iter()
            .map(|(name, line)| (name.as_str(), *line))
            .collect();
        assert_eq!(found, wanted, "{option}");
    }
    let library = conf.write("libmosquitto_auth0.so", "");
    let load = format!("listener 1883 ::1\nplugin_load auth0 {library}\n{GOOD}");
    assert_eq!(found(&conf, &load), [("never-used".to_owned(), 2)]);
    assert_eq!(found(&conf, &format!("{load}plugin_use auth0\n")), []);
}

/// With `per_listener_settings`, what is set for a listener says nothing about the plugin of another one.
#[test]
fn settings_count_for_the_listener_that_they_are_of() {
    let conf = Conf::new();
    let per_listener = format!("per_listener_settings true\nlistener 8883 ::1\nOURS\n{GOOD}");
    let files = "password_file p\nacl_file a\n";
    let defers = "plugin_opt_on_other defer\n";
    for (text, wanted) in [
        (
            format!(
                "{per_listener}listener 1883 ::1\n{files}use_identity_as_username true\nmount_point a/\n"
            ),
            &[("other-sign-in", 6)][..],
        ),
        (
            format!(
                "{per_listener}listener 1883 ::1\nplugin /usr/lib/mosquitto_dynamic_security.so\n"
            ),
            &[("other-sign-in", 6)],
        ),
        (
            format!("{per_listener}listener 1883 ::1\nallow_anonymous false\n"),
            &[("other-sign-in", 6)],
        ),
        (
            format!("{per_listener}listener 1883 ::1\nallow_anonymous true\n"),
            &[("unprotected-listener", 6)],
        ),
        (
            format!("{per_listener}{files}"),
            &[("local-users-refused", 6), ("acl-file-ignored", 7)],
        ),
        (
            format!("{per_listener}{defers}listener 1883 ::1\n{files}"),
            &[("nobody-else", 6), ("other-sign-in", 7)],
        ),
        (
            format!(
                "{per_listener}{defers}{files}listener 1883 ::1\n{files}allow_anonymous true\n"
            ),
            &[("unprotected-listener", 9)],
        ),
        // The other plugin is loaded first, and for another listener.
        (
            format!(
                "per_listener_settings true\nlistener 1883 ::1\nplugin /usr/lib/mosquitto_dynamic_security.so\n\
                 listener 8883 ::1\nOURS\n{GOOD}"
            ),
            &[("other-sign-in", 2)],
        ),
        // Without per_listener_settings they count for all listeners, wherever they are.
        (
            format!("listener 8883 ::1\nOURS\n{GOOD}listener 1883 ::1\n{files}"),
            &[("local-users-refused", 6), ("acl-file-ignored", 7)],
        ),
    ] {
        assert_found(&conf, &text, wanted);
    }
}

/// The words of 2.1, and what it does with them.
#[test]
fn plugins_of_all_listeners_and_of_one_are_told_apart() {
    let conf = Conf::new();
    let library = conf.write("libmosquitto_auth0.so", "");
    let load = format!("plugin_load auth0 {library}\n{GOOD}");
    let global = format!("global_plugin {library}\n{GOOD}");
    let two = "listener 8883 ::1\nplugin_use auth0\nlistener 1883 ::1\n";
    for (text, wanted) in [
        // plugin_load is not about a listener, and may be above.
        (
            format!("{load}per_listener_settings true\n{two}password_file p\n"),
            &[("other-sign-in", 7)][..],
        ),
        (format!("{load}{two}"), &[("unprotected-listener", 6)]),
        // The broker's own files are asked first.
        (
            format!("{load}{two}password_file p\nacl_file a\n"),
            &[("file-first", 7), ("file-first", 8), ("other-sign-in", 6)],
        ),
        (
            format!(
                "{load}plugin_opt_on_other defer\nacl_file a\n{two}listener_allow_anonymous true\n"
            ),
            &[("unprotected-listener", 8), ("file-first", 5)],
        ),
        (
            format!(
                "per_listener_settings true\n{global}listener 8883 ::1\nlistener 1883 ::1\npassword_file p\n"
            ),
            &[("local-users-refused", 7)],
        ),
    ] {
        assert_found(&conf, &text, wanted);
    }
}

/// `check` finds nothing in the configurations of the pages but what a page announces.
#[test]
fn the_configurations_of_the_pages_are_right() {
    let conf = Conf::new();
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs");
    let mut seen = Vec::new();
    for page in fs::read_dir(docs).unwrap() {
        let text = fs::read_to_string(page.unwrap().path()).unwrap_or_default();
        for part in text.split("<!-- tested: ").skip(1) {
            let (name, rest) = part.split_once(" -->\n").unwrap();
            let block = rest.strip_prefix("```conf\n").unwrap_or_default();
            let mut block = block.split("```").next().unwrap_or_default().to_owned();
            // What adds to a configuration has no listener, and what tries the plugin out has a tenant to come.
            if !block.contains("listener ") || name == "trial" {
                continue;
            }
            let library = conf.write("mosquitto_auth0.so", "");
            let secret = conf.write("secret", "a secret");
            fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
            for (installed, here) in [
                ("/usr/lib/x86_64-linux-gnu/mosquitto_auth0.so", library),
                ("/etc/mosquitto/auth0.secret", secret),
                (
                    "/var/lib/mosquitto/auth0",
                    conf.at("state").display().to_string(),
                ),
            ] {
                block = block.replace(installed, &here);
            }
            let own_files = block
                .lines()
                .filter_map(|line| line.split_once(" /etc/mosquitto/"));
            for (_, file) in own_files {
                conf.write(file, "");
            }
            block = block.replace("/etc/mosquitto/", conf.at("").to_str().unwrap());
            if name == "beside" {
                let added = text
                    .split("<!-- tested: beside-passwords -->\n```conf\n")
                    .nth(1);
                let added = added.and_then(|rest| rest.split("```").next()).unwrap();
                block.push_str(&added.replace(
                    "/etc/mosquitto/auth0.secret",
                    conf.at("secret").to_str().unwrap(),
                ));
            }
            assert_found(&conf, &format!("{block}user root\n"), &[]);
            seen.push(name.to_owned());
        }
    }
    for name in ["tokens", "credentials", "beside"] {
        assert!(seen.iter().any(|one| one == name), "no {name} in {seen:?}");
    }
}

#[test]
fn what_the_brokers_user_may_not_read_is_found() {
    let conf = Conf::new();
    let me = fs::metadata(conf.at("")).unwrap();
    // The tests may be run by anybody, and every machine has this user.
    let policy = conf.write("policy.toml", "");
    fs::set_permissions(conf.at(""), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&policy, fs::Permissions::from_mode(0o600)).unwrap();
    let text =
        format!("user daemon\nlistener 1883 ::1\nOURS\n{GOOD}plugin_opt_policy_file {policy}\n");
    let root = std::os::unix::fs::MetadataExt::uid(&me) == 0;
    let ran = check(&conf, &text);
    if root {
        ran.exits(1)
            .says("mosquitto.conf:6: option policy_file: the user daemon cannot read")
            .says("chmod g+r");
    }
    fs::set_permissions(&policy, fs::Permissions::from_mode(0o644)).unwrap();
    check(&conf, &text).exits(0);
}

#[test]
fn files_of_the_brokers_settings_that_it_cannot_read_are_found() {
    let conf = Conf::new();
    fs::set_permissions(conf.at(""), fs::Permissions::from_mode(0o755)).unwrap();
    let root = std::os::unix::fs::MetadataExt::uid(&fs::metadata(conf.at("")).unwrap()) == 0;
    for word in [
        "certfile",
        "keyfile",
        "cafile",
        "crlfile",
        "password_file",
        "acl_file",
        "psk_file",
    ] {
        let file = conf.at(word);
        let setting = format!("{word} {}", file.display());
        let text = format!(
            "user daemon\nlistener 1883 ::1\n{setting}\nOURS\n{GOOD}plugin_opt_on_other defer\nacl_file a\n"
        );
        check(&conf, &text)
            .exits(1)
            .says(&format!("mosquitto.conf:3: {word}: there is no file"))
            .says("the broker does not start");
        conf.write(word, "");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        if root {
            check(&conf, &text)
                .exits(1)
                .says(&format!(
                    "mosquitto.conf:3: {word}: the user daemon cannot read"
                ))
                .says("install -m 640 -g daemon");
        }
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        check(&conf, &text).never_says(&format!("{word}: "));
    }
}

#[test]
fn the_metrics_file_is_looked_at() {
    let conf = Conf::new();
    fs::set_permissions(conf.at(""), fs::Permissions::from_mode(0o755)).unwrap();
    let checked = |path: &std::path::Path| {
        let option = format!("plugin_opt_metrics_file {}", path.display());
        let text = format!("user daemon\nlistener 1883 ::1\nOURS\n{GOOD}{option}\n");
        check(&conf, &text)
    };
    let folder = conf.at("node-exporter");
    // The broker starts all the same.
    checked(&folder.join("a.prom"))
        .exits(0)
        .says("option metrics_file: there is no folder")
        .says("the broker starts, and no metrics are written");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    checked(&folder.join("a.prom"))
        .exits(0)
        .never_says("metrics_file");
    checked(&folder.join("a.txt"))
        .exits(0)
        .says("names end in .prom")
        .says("node-exporter/a.prom");
    let root = std::os::unix::fs::MetadataExt::uid(&fs::metadata(conf.at("")).unwrap()) == 0;
    if root {
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        checked(&folder.join("a.prom"))
            .exits(0)
            .says("the user daemon cannot write in");
    }
}

#[test]
fn the_shadow_policy_and_the_decision_log_are_looked_at() {
    let conf = Conf::new();
    fs::set_permissions(conf.at(""), fs::Permissions::from_mode(0o755)).unwrap();
    let policy = conf.write("shadow.toml", "[[rule]]\nname = \"a\"\nqos = 3\n");
    let checked = |option: &str| {
        let text = format!("user daemon\nlistener 1883 ::1\nOURS\n{GOOD}plugin_opt_{option}\n");
        check(&conf, &text)
    };
    checked(&format!("shadow_policy {policy}"))
        .exits(1)
        .says("shadow.toml:3: ");
    let log = conf.at("gone/log").display().to_string();
    checked(&format!("decision_log {log}"))
        .exits(1)
        .says("mosquitto.conf:6: option decision_log: there is no folder");
    let log = conf.at("log");
    let option = format!("decision_log {}", log.display());
    let root = std::os::unix::fs::MetadataExt::uid(&fs::metadata(conf.at("")).unwrap()) == 0;
    if root {
        checked(&option)
            .exits(1)
            .says("the user daemon cannot create it in");
        assert!(!log.exists());
        conf.write("log", "");
        fs::set_permissions(&log, fs::Permissions::from_mode(0o644)).unwrap();
        checked(&option)
            .exits(1)
            .says("the user daemon cannot read and write");
    }
    conf.write("log", "");
    fs::set_permissions(&log, fs::Permissions::from_mode(0o666)).unwrap();
    checked(&option).exits(0);
}
