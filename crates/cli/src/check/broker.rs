//! What in the broker's own settings defeats the plugin, or is not what it looks like beside it.
//!
//! With `per_listener_settings`, `plugin` and the settings about sign-ins count for the listener in whose section they
//! are. Without it they count for all listeners. Of Mosquitto 2.1, `global_plugin` always counts for all, and
//! `plugin_use` for one: what counts for all is asked first then.

use std::{collections::HashMap, net::IpAddr};

use auth::config::mosquitto_conf::{ConfiguredListener, ConfiguredPlugin, MosquittoConf, Setting};

use super::{
    Instance,
    flaw::{Flaw, Found},
};

/// Returns the flaws of a configuration with these instances of the plugin.
pub(super) fn flaws(conf: &MosquittoConf, ours: &[&Instance]) -> Vec<Found> {
    let mut found = of_all_listeners(conf, ours);
    let default = conf.default_listener();
    let named = conf.listeners.iter().enumerate();
    let named = named.map(|(place, listener)| (Some(place), listener));
    for (place, listener) in default.iter().map(|default| (None, default)).chain(named) {
        found.extend(of_listener(conf, place, listener, ours));
    }
    for instance in ours {
        found.extend(of_instance(conf, instance));
    }
    found
}

/// Returns the listeners that clients connect to. `None` is the default listener.
fn listeners(conf: &MosquittoConf) -> Vec<Option<usize>> {
    let default = conf.listeners.is_empty() || conf.default_listener().is_some();
    let named = (0..conf.listeners.len()).map(Some);
    let all = default.then_some(None).into_iter().chain(named);
    all.filter(|listener| conf.is_for_clients(*listener))
        .collect()
}

/// Whether one of these instances is asked about the clients of this listener. If none is used at all, that is a flaw
/// of its own, and listeners are looked at as if one were.
fn is_served(conf: &MosquittoConf, listener: Option<usize>, ours: &[&Instance]) -> bool {
    let serves = |listener| {
        ours.iter()
            .any(|instance| conf.is_asked_at(instance.plugin, listener))
    };
    serves(listener) || !listeners(conf).into_iter().any(serves)
}

/// Returns the setting about sign-ins that counts for this listener.
fn counting<'c>(
    conf: &'c MosquittoConf,
    word: &str,
    listener: Option<usize>,
) -> Option<&'c Setting> {
    let for_all = conf.per_listener_settings().is_none();
    let mut settings = conf.settings.iter().rev();
    settings.find(|one| one.word == word && (for_all || one.listener == listener))
}

/// Returns the setting that says whether this listener takes clients without a user name. 2.1 has one that always
/// counts for its listener.
fn allows_anonymous(conf: &MosquittoConf, listener: Option<usize>) -> Option<&Setting> {
    let of_listener = conf.in_section("listener_allow_anonymous", listener);
    of_listener.or_else(|| counting(conf, "allow_anonymous", listener))
}

/// Whether a listener without the plugin has something else that decides who comes in.
fn has_other_sign_in(conf: &MosquittoConf, listener: Option<usize>) -> bool {
    let anonymous = allows_anonymous(conf, listener).map(Setting::is_true);
    if anonymous == Some(true) {
        return false;
    }
    let counts = |word| counting(conf, word, listener);
    let certificate = |word| {
        conf.in_section(word, listener)
            .is_some_and(Setting::is_true)
    };
    let mut plugins = conf.plugins.iter();
    ["password_file", "acl_file", "psk_file"]
        .into_iter()
        .any(|word| counts(word).is_some())
        || anonymous.is_some()
        || certificate("use_identity_as_username")
        || certificate("use_subject_as_username")
        || plugins.any(|plugin| asks(plugin) && conf.is_asked_at(plugin, listener))
}

/// Whether a plugin is another one that decides about clients. 2.1 has one that does nothing but keep sessions on disk.
fn asks(plugin: &ConfiguredPlugin) -> bool {
    !plugin.is_auth0() && !plugin.path.contains("persist")
}

fn of_all_listeners(conf: &MosquittoConf, ours: &[&Instance]) -> Vec<Found> {
    let mut found = Vec::new();
    let set = |word| conf.setting(word, None).filter(|setting| setting.is_true());
    let mut add = |setting: Option<&Setting>, flaw| {
        found.push(Found::at(setting.map(|setting| &setting.place), flaw));
    };
    if let Some(setting) = set("check_retain_source") {
        add(Some(setting), Flaw::RetainSource);
    }
    let is_served = |setting: &&Setting| {
        setting
            .listener
            .is_none_or(|one| is_served(conf, Some(one), ours))
    };
    if let Some(setting) = set("use_username_as_clientid").filter(is_served) {
        add(Some(setting), Flaw::UsernameAsClientId);
    }
    if let Some(per_listener) = conf.per_listener_settings() {
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
        let plugins = plugins.filter(|line| line.word != "plugin_load");
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
    if let Some(default) = conf
        .default_listener()
        .filter(|_| !conf.listeners.is_empty())
        && let Some(setting) = conf.settings.iter().find(|one| one.place == default.place)
        && !matches!(&*setting.word, "port" | "bind_address")
    {
        add(
            Some(setting),
            Flaw::DefaultListener(setting.word.clone(), default.port),
        );
    }
    if conf.listeners.is_empty() && conf.default_listener().is_none() {
        add(None, Flaw::NoListener);
    }
    found.extend(set_twice(conf));
    found.extend(ports_twice(conf));
    found
}

/// Returns the settings that stand where they are set already (src/conf.c, conf__parse_string).
fn set_twice(conf: &MosquittoConf) -> Vec<Found> {
    const OF_SIGN_INS: [&str; 3] = ["password_file", "acl_file", "psk_file"];
    const OF_LISTENERS: [&str; 4] = ["certfile", "keyfile", "cafile", "capath"];
    let for_all = conf.per_listener_settings().is_none();
    let mut first: HashMap<(&str, Option<usize>), &Setting> = HashMap::new();
    let twice = conf.settings.iter().filter_map(|setting| {
        let word = setting.word.as_str();
        let listener = match word {
            word if OF_SIGN_INS.contains(&word) => setting.listener.filter(|_| !for_all),
            word if OF_LISTENERS.contains(&word) => setting.listener,
            _ => return None,
        };
        let before = first.insert((word, listener), setting)?;
        let flaw = Flaw::SetTwice(word.to_owned(), before.place.clone());
        Some(Found::at(Some(&setting.place), flaw))
    });
    twice.collect()
}

/// Returns the listeners whose port at the same address is taken by one above.
fn ports_twice(conf: &MosquittoConf) -> Vec<Found> {
    let mut above: Vec<&ConfiguredListener> = Vec::new();
    let mut found = Vec::new();
    let default = conf.default_listener();
    let all = default.iter().chain(&conf.listeners);
    for listener in all.filter(|one| one.port != 0) {
        let (port, address) = (listener.port, &listener.address);
        let same = above
            .iter()
            .find(|one| one.port == port && one.address == *address);
        if let Some(before) = same {
            let flaw = Flaw::PortTwice(port, before.place.clone());
            found.push(Found::at(Some(&listener.place), flaw));
        }
        above.push(listener);
    }
    found
}

/// Returns the flaws of one listener.
fn of_listener(
    conf: &MosquittoConf,
    place: Option<usize>,
    listener: &ConfiguredListener,
    ours: &[&Instance],
) -> Vec<Found> {
    let mut found = Vec::new();
    let set = |word| conf.in_section(word, place);
    let is_set = |word| set(word).is_some();
    let mut add = |setting: Option<&Setting>, flaw| {
        let at = setting.map_or(&listener.place, |setting| &setting.place);
        found.push(Found::at(Some(at), flaw));
    };
    let has_tls = is_set("certfile") || is_set("psk_hint");
    let is_for_clients = conf.is_for_clients(place);
    if !has_tls && is_for_clients && !is_local(listener) {
        let address = listener.address.clone();
        add(
            None,
            Flaw::Plain {
                port: listener.port,
                address,
            },
        );
    }
    if !ours.is_empty() && !is_served(conf, place, ours) {
        if has_other_sign_in(conf, place) {
            add(None, Flaw::OtherSignIn(listener.port));
        } else if is_for_clients {
            add(None, Flaw::Unprotected(listener.port));
        }
        return found;
    }
    for word in ["use_identity_as_username", "use_subject_as_username"] {
        if let Some(setting) = set(word).filter(|setting| setting.is_true()) {
            add(Some(setting), Flaw::CertificateSignsIn(word));
        }
    }
    if let Some(setting) = set("mount_point") {
        add(Some(setting), Flaw::MountPoint(setting.value.clone()));
    }
    let is_websockets = set("protocol").filter(|setting| setting.value == "websockets");
    let trusts = ours.iter().any(|instance| {
        conf.is_asked_at(instance.plugin, place) && instance.option("trusted_proxies").is_some()
    });
    if let Some(setting) = is_websockets.filter(|_| !trusts) {
        add(Some(setting), Flaw::WebsocketAddress);
    }
    if let Some(setting) = set("enable_proxy_protocol")
        && !is_local(listener)
    {
        add(Some(setting), Flaw::ProxyProtocol);
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
    if conf.per_listener_settings().is_some()
        && first.is_some_and(|one| {
            one.listener.is_none() && !matches!(one.word.as_str(), "global_plugin" | "plugin_load")
        })
    {
        found.push(Found::at(loaded, Flaw::AboveListeners));
    }
    for listener in listeners(conf) {
        if conf.is_asked_at(plugin, listener) {
            found.extend(of_instance_at(conf, instance, listener));
        }
    }
    found
}

/// Returns what the settings of a listener mean beside an instance that serves it.
fn of_instance_at(
    conf: &MosquittoConf,
    instance: &Instance,
    listener: Option<usize>,
) -> Vec<Found> {
    let mut found = Vec::new();
    let plugin = instance.plugin;
    let others = conf
        .plugins
        .iter()
        .filter(|other| asks(other) && conf.is_asked_at(other, listener));
    let others: Vec<_> = others.collect();
    let place_of =
        |one: &ConfiguredPlugin| conf.plugins.iter().position(|two| std::ptr::eq(one, two));
    let turn = |one: &ConfiguredPlugin| (!conf.is_asked_everywhere(one), place_of(one));
    for other in others.iter().filter(|other| turn(other) < turn(plugin)) {
        let place = other.named.first().map(|setting| &setting.place);
        found.push(Found::at(place, Flaw::AskedBefore(other.path.clone())));
    }
    let counts = |word| counting(conf, word, listener);
    let (passwords, acl_file) = (counts("password_file"), counts("acl_file"));
    let defers = |name| instance.option(name) == Some("defer");
    for option in ["acl", "on_other"] {
        if defers(option) && others.is_empty() && acl_file.is_none() {
            let place = instance.place(option).or(instance.loaded_at());
            let of_one = listener.filter(|_| conf.per_listener_settings().is_some());
            let port = of_one.and_then(|one| Some(conf.listeners.get(one)?.port));
            found.push(Found::at(place, Flaw::NobodyElse(option, port)));
        }
    }
    let files = [("password_file", passwords), ("acl_file", acl_file)];
    for (word, setting) in files {
        let Some(setting) = setting else { continue };
        let flaw = match word {
            _ if conf.per_listener_settings().is_none() && !conf.is_asked_everywhere(plugin) => {
                Flaw::FileFirst(word)
            }
            "password_file" if !defers("on_other") => Flaw::LocalUsersRefused,
            "acl_file" if !defers("acl") && !defers("on_other") => Flaw::AclFileIgnored,
            _ => continue,
        };
        found.push(Found::at(Some(&setting.place), flaw));
    }
    let anonymous = allows_anonymous(conf, listener);
    if let Some(setting) = anonymous.filter(|one| one.is_true() && defers("on_other")) {
        found.push(Found::at(Some(&setting.place), Flaw::Anonymous));
    }
    found
}
