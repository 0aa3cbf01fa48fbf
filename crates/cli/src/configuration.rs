//! Reads the plugin's configuration out of a mosquitto.conf.

use std::path::Path;

use auth::config::{
    Config, ConfigError,
    local_users::{self, LocalUsers},
    mosquitto_conf::{ConfiguredPlugin, MosquittoConf},
};

use crate::{
    messages,
    output::{self, Failure},
};

/// Reads the options of the instance of the plugin that decides at the listener with this port, or, without a port, of
/// the first instance, and the files that they name. Nothing on disk is changed. The inner result is what the plugin
/// says of them: all that is wrong.
///
/// # Errors
///
/// Returns a failure if the file does not load the plugin, or if there is no such listener.
pub(crate) fn read(
    path: &Path,
    port: Option<u16>,
) -> Result<Result<Config, Vec<ConfigError>>, Failure> {
    let (plugin, _) = plugin_at(path, &MosquittoConf::read(path), port)?;
    Ok(Config::look(&plugin.options))
}

/// What a device meets at a listener.
pub(crate) struct AtListener {
    /// The options of the instance of the plugin that decides there.
    pub(crate) config: Config,
    /// The users that the broker has by itself.
    pub(crate) local_users: LocalUsers,
    /// What the broker puts in front of each topic there; a failure if that depends on the port, and none is named.
    pub(crate) mount_point: Result<String, Failure>,
}

/// Returns what a device meets at the listener with this port, or, without a port, at any listener that has the first
/// instance of the plugin. Nothing on disk is changed.
///
/// # Errors
///
/// Returns a failure if the file does not load the plugin, if anything is wrong, or if there is no such listener.
pub(crate) fn at_listener(path: &Path, port: Option<u16>) -> Result<AtListener, Failure> {
    let conf = MosquittoConf::read(path);
    let (plugin, listeners) = plugin_at(path, &conf, port)?;
    let config = Config::look(&plugin.options).map_err(|mistakes| unusable(path, &mistakes))?;
    Ok(AtListener {
        config,
        local_users: local_users::of(&conf, Some(&plugin)),
        mount_point: mount_point(&conf, &listeners),
    })
}

/// Returns the instance of the plugin that decides at the listener with this port, and that listener; without a port,
/// the first instance and all its listeners.
fn plugin_at(
    path: &Path,
    conf: &MosquittoConf,
    port: Option<u16>,
) -> Result<(ConfiguredPlugin, Vec<usize>), Failure> {
    let mut instances = instances(path)?;
    let serves = |plugin: &ConfiguredPlugin, listener| conf.is_asked_at(plugin, listener);
    match port {
        None => {
            announce_left_out(&instances);
            let plugin = instances.swap_remove(0);
            let places = (0..conf.listeners.len()).filter(|place| serves(&plugin, Some(*place)));
            let places = places.collect();
            Ok((plugin, places))
        }
        Some(port) => {
            let listener = listener(conf, port)?;
            let mut instances = instances.into_iter();
            let plugin = instances.find(|plugin| serves(plugin, listener));
            let plugin = plugin.ok_or_else(|| {
                Failure::new(format!(
                    "the listener on port {port} does not have the plugin, so it decides nothing there"
                ))
                .fix("write the line `plugin …` and its options below this listener, too")
            })?;
            Ok((plugin, Vec::from_iter(listener)))
        }
    }
}

/// Returns what all these listeners put in front of each topic.
fn mount_point(conf: &MosquittoConf, listeners: &[usize]) -> Result<String, Failure> {
    let of = |place: &usize| {
        conf.setting("mount_point", Some(*place))
            .map(|one| &one.value)
    };
    let mut all = listeners.iter().map(of);
    let first = all.next().flatten();
    match all.all(|other| other == first) {
        true => Ok(first.cloned().unwrap_or_default()),
        false => Err(
            Failure::new("the listeners have different mount points, so topics differ")
                .fix("name the port that the device connects to (--port PORT, or `port` in a file of expectations)"),
        ),
    }
}

/// Names the instances that are not looked at because the first one is. Those with the same options are no others.
fn announce_left_out(instances: &[ConfiguredPlugin]) {
    let place = |plugin: &ConfiguredPlugin| {
        let named = plugin.named.first();
        named
            .map(|one| messages::check::place(&one.place))
            .unwrap_or_default()
    };
    let others = instances
        .iter()
        .filter(|one| one.options != instances[0].options);
    let others: Vec<_> = others.map(place).collect();
    if !others.is_empty() {
        output::announce(&format!(
            "This is about the plugin that is loaded at {}, and not about {}, which has other options.",
            place(&instances[0]),
            others.join(" or "),
        ));
    }
}

/// Returns the listener with this port; `None` if the configuration has no `listener` at all.
fn listener(conf: &MosquittoConf, port: u16) -> Result<Option<usize>, Failure> {
    let place = conf.listeners.iter().position(|one| one.port == port);
    if place.is_some() || conf.listeners.is_empty() {
        return Ok(place);
    }
    let ports: Vec<_> = conf
        .listeners
        .iter()
        .map(|one| one.port.to_string())
        .collect();
    Err(
        Failure::new(format!("no listener has the port {port}")).fix(format!(
            "name one of those that are there: {}",
            ports.join(", ")
        )),
    )
}

fn unusable(path: &Path, mistakes: &[ConfigError]) -> Failure {
    let first = mistakes.first().map(ToString::to_string);
    let what = first.unwrap_or_else(|| "the configuration is wrong".to_owned());
    let check = format!("run `mosquitto-auth0 check {}`", path.display());
    let fix = match mistakes.len() {
        0 | 1 => check,
        many => format!("{check}: there are {many} mistakes"),
    };
    Failure::new(what).fix(fix)
}

/// Returns every line of this mosquitto.conf that loads the plugin, with its options. There is at least one.
///
/// # Errors
///
/// Returns a failure if the file does not load the plugin.
pub(crate) fn instances(path: &Path) -> Result<Vec<ConfiguredPlugin>, Failure> {
    let conf = MosquittoConf::read(path);
    let shown = path.display();
    let plugins = conf.plugins.into_iter();
    let found: Vec<_> = plugins.filter(ConfiguredPlugin::is_auth0).collect();
    if !found.is_empty() {
        return Ok(found);
    }
    let failure = match conf.unread.first() {
        Some((place, why)) => {
            let words = messages::check::of_unread(why);
            let place = place.as_ref().map(messages::check::place);
            let place = place.map_or_else(String::new, |place| format!("{place}: "));
            Failure {
                what: format!("{place}{}", words.seen),
                fix: words.fix,
            }
        }
        None => Failure::new(format!(
            "{shown} and the files that it includes do not load mosquitto-auth0"
        ))
        .fix("name the file that has the line `plugin …/mosquitto_auth0.so`"),
    };
    Err(failure)
}
