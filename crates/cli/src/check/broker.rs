//! What in the broker's own settings defeats the plugin, or is not what it looks like beside it.

use std::net::IpAddr;

use auth::config::mosquitto_conf::{ConfiguredListener, MosquittoConf, Setting};

use super::{
    Instance,
    flaw::{Flaw, Found},
};
use crate::configuration;

/// Returns the flaws of a configuration with these instances of the plugin.
pub(super) fn flaws(conf: &MosquittoConf, ours: &[&Instance]) -> Vec<Found> {
    let mut found = of_all_listeners(conf, ours);
    for (place, listener) in conf.listeners.iter().enumerate() {
        found.extend(of_listener(conf, place, listener, ours));
    }
    for instance in ours {
        found.extend(of_instance(conf, instance));
    }
    found
}

/// Whether a setting is `true`.
fn is_true(setting: &Setting) -> bool {
    matches!(setting.first_word(), "true" | "1")
}

fn per_listener(conf: &MosquittoConf) -> Option<&Setting> {
    let setting = conf.setting("per_listener_settings", None);
    setting.filter(|setting| is_true(setting))
}

fn of_all_listeners(conf: &MosquittoConf, ours: &[&Instance]) -> Vec<Found> {
    let mut found = Vec::new();
    let set = |word| conf.setting(word, None).filter(|setting| is_true(setting));
    let mut add = |setting: Option<&Setting>, flaw| {
        found.push(Found::at(setting.map(|setting| &setting.place), flaw));
    };
    if let Some(setting) = set("check_retain_source") {
        add(Some(setting), Flaw::RetainSource);
    }
    if let Some(setting) = set("use_username_as_clientid") {
        add(Some(setting), Flaw::UsernameAsClientId);
    }
    if let Some(per_listener) = per_listener(conf) {
        const ABOUT: [&str; 6] = [
            "allow_anonymous",
            "password_file",
            "acl_file",
            "psk_file",
            "auto_id_prefix",
            "allow_zero_length_clientid",
        ];
        let is_above = |setting: &&Setting| {
            setting.place.file == per_listener.place.file
                && setting.place.line < per_listener.place.line
        };
        let plugins = conf.plugins.iter().flat_map(|plugin| &plugin.named);
        let about = conf
            .settings
            .iter()
            .filter(|one| ABOUT.contains(&one.word.as_str()));
        if about.chain(plugins).any(|setting| is_above(&setting)) {
            add(Some(per_listener), Flaw::PerListenerTooLate);
        }
    }
    let types: Vec<_> = conf
        .settings
        .iter()
        .filter(|one| one.word == "log_type")
        .collect();
    let logs = |word: &str| {
        types
            .iter()
            .any(|one| one.value == word || one.value == "all")
    };
    if let Some(last) = types.last().filter(|_| !logs("notice") || !logs("warning")) {
        add(Some(last), Flaw::RefusalsNotLogged);
    }
    let persists = set("persistence");
    let saves = ours
        .iter()
        .any(|instance| instance.option("state_dir").is_some());
    match persists {
        Some(setting) if !saves && !ours.is_empty() => add(Some(setting), Flaw::RightsLost),
        None if saves => add(None, Flaw::NothingToRestore),
        _ => {}
    }
    let has_port = conf
        .settings
        .iter()
        .any(|one| matches!(one.word.as_str(), "port" | "bind_address"));
    if conf.listeners.is_empty() && !has_port {
        add(None, Flaw::NoListener);
    }
    found
}

/// Returns the flaws of one listener.
fn of_listener(
    conf: &MosquittoConf,
    place: usize,
    listener: &ConfiguredListener,
    ours: &[&Instance],
) -> Vec<Found> {
    let mut found = Vec::new();
    let set = |word| conf.setting(word, Some(place));
    let is_set = |word| set(word).is_some();
    let mut add = |setting: Option<&Setting>, flaw| {
        let at = setting.map_or(&listener.place, |setting| &setting.place);
        found.push(Found::at(Some(at), flaw));
    };
    for word in ["use_identity_as_username", "use_subject_as_username"] {
        if let Some(setting) = set(word).filter(|setting| is_true(setting)) {
            add(Some(setting), Flaw::CertificateSignsIn(word));
        }
    }
    let has_tls = is_set("certfile") || is_set("psk_hint");
    let is_http = set("protocol").is_some_and(|setting| setting.value == "http_api");
    if !has_tls && !is_http && !is_local(listener) {
        let address = listener.address.clone();
        add(
            None,
            Flaw::Plain {
                port: listener.port,
                address,
            },
        );
    }
    if let Some(setting) = set("mount_point") {
        add(Some(setting), Flaw::MountPoint(setting.value.clone()));
    }
    let is_websockets = set("protocol").filter(|setting| setting.value == "websockets");
    let trusts = ours
        .iter()
        .any(|instance| instance.option("trusted_proxies").is_some());
    if let Some(setting) = is_websockets.filter(|_| !trusts) {
        add(Some(setting), Flaw::WebsocketAddress);
    }
    if let Some(setting) = set("enable_proxy_protocol")
        && !is_local(listener)
    {
        add(Some(setting), Flaw::ProxyProtocol);
    }
    if per_listener(conf).is_some() && !is_http && !ours.is_empty() {
        let mut named = ours.iter().flat_map(|instance| &instance.plugin.named);
        let counts =
            |setting: &Setting| setting.word == "global_plugin" || setting.listener == Some(place);
        if !named.any(counts) {
            add(None, Flaw::Unprotected(listener.port));
        }
    }
    found
}

/// Whether a listener can be reached from this machine only.
fn is_local(listener: &ConfiguredListener) -> bool {
    match listener.address.as_deref() {
        _ if listener.port == 0 => true,
        None => false,
        Some("localhost") => true,
        Some(address) => address
            .parse()
            .is_ok_and(|address: IpAddr| address.is_loopback()),
    }
}

/// Returns what the settings mean beside one instance.
fn of_instance(conf: &MosquittoConf, instance: &Instance) -> Vec<Found> {
    let mut found = Vec::new();
    let loaded = instance.loaded_at();
    let plugin = instance.plugin;
    if !plugin.name.is_empty() && plugin.named.len() == 1 {
        found.push(Found::at(loaded, Flaw::NeverUsed(plugin.name.clone())));
    }
    let first = plugin.named.first();
    if per_listener(conf).is_some()
        && first.is_some_and(|one| {
            one.listener.is_none() && !matches!(one.word.as_str(), "global_plugin" | "plugin_load")
        })
    {
        found.push(Found::at(loaded, Flaw::AboveListeners));
    }
    // 2.1 has a plugin that does nothing but keep sessions on disk.
    let asks = |path: &str| !configuration::is_ours(path) && !path.contains("persist");
    let before = conf
        .plugins
        .iter()
        .take_while(|one| !std::ptr::eq(*one, plugin));
    for other in before.filter(|other| asks(&other.path)) {
        let place = other.named.first().map(|setting| &setting.place);
        found.push(Found::at(place, Flaw::AskedBefore(other.path.clone())));
    }
    let defers = |name| instance.option(name) == Some("defer");
    let has_other = conf.plugins.iter().any(|other| asks(&other.path));
    let setting = |word| conf.setting(word, None);
    let (passwords, acl_file) = (setting("password_file"), setting("acl_file"));
    let has_others = has_other || acl_file.is_some();
    if defers("acl") && !has_others {
        found.push(Found::at(
            instance.place("acl").or(loaded),
            Flaw::NobodyElse("acl"),
        ));
    }
    if defers("on_other") && !has_others {
        let place = instance.place("on_other").or(loaded);
        found.push(Found::at(place, Flaw::NobodyElse("on_other")));
    }
    if let Some(setting) = passwords.filter(|_| !defers("on_other")) {
        found.push(Found::at(Some(&setting.place), Flaw::LocalUsersRefused));
    }
    if let Some(setting) = acl_file.filter(|_| !defers("acl") && !defers("on_other")) {
        found.push(Found::at(Some(&setting.place), Flaw::AclFileIgnored));
    }
    let anonymous = setting("allow_anonymous").filter(|setting| is_true(setting));
    if let Some(setting) = anonymous.filter(|_| defers("on_other")) {
        found.push(Found::at(Some(&setting.place), Flaw::Anonymous));
    }
    found
}
