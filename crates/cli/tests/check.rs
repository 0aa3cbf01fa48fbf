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
        .says("mosquitto.conf:7: with per_listener_settings the listener on port 1884 has no line for this plugin");
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
        ("listener 8883\ncertfile /x\nOURS\n", &[]),
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
            "listener 8883 10.0.0.1\ncertfile /x\nenable_proxy_protocol 2\nOURS\n",
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
            "listener 1883 ::1\npassword_file /p\nacl_file /a\nOURS\n",
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
            "use_username_as_clientid true\nlistener 1883 ::1\nOURS\n",
            &[("username-as-client-id", 1)],
        ),
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
            "on_other defer\nallow_anonymous true # today\nacl_file /a",
            &[("anonymous", 6)][..],
        ),
        ("on_other defer\nacl_file /a", &[]),
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
            .says("mosquitto.conf:6: option policy_file: the user daemon may not read")
            .says("chmod g+r");
    }
    fs::set_permissions(&policy, fs::Permissions::from_mode(0o644)).unwrap();
    check(&conf, &text).exits(0);
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
            .says("the user daemon may not write in");
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
            .says("the user daemon may create none in");
        assert!(!log.exists());
        conf.write("log", "");
        fs::set_permissions(&log, fs::Permissions::from_mode(0o644)).unwrap();
        checked(&option)
            .exits(1)
            .says("the user daemon may not read and write");
    }
    conf.write("log", "");
    fs::set_permissions(&log, fs::Permissions::from_mode(0o666)).unwrap();
    checked(&option).exits(0);
}
