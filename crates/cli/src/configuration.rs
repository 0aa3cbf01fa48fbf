//! Reads the plugin's configuration out of a mosquitto.conf.

use std::path::Path;

use auth::config::{
    Config, ConfigError,
    mosquitto_conf::{ConfiguredPlugin, MosquittoConf},
};

use crate::output::Failure;

/// Reads the options of the plugin in this mosquitto.conf, and the files that they name. Nothing on disk is changed.
/// The inner result is what the plugin says of them: all that is wrong.
///
/// # Errors
///
/// Returns a failure if the file does not load the plugin.
pub(crate) fn read(path: &Path) -> Result<Result<Config, Vec<ConfigError>>, Failure> {
    let plugin = instances(path)?.swap_remove(0);
    Ok(Config::look(&plugin.options))
}

/// Reads the same for a command that can do nothing with a configuration that is wrong.
///
/// # Errors
///
/// Returns a failure if the file does not load the plugin, or if anything is wrong.
pub(crate) fn usable(path: &Path) -> Result<Config, Failure> {
    read(path)?.map_err(|mistakes| {
        let first = mistakes.first().map(ToString::to_string);
        let what = first.unwrap_or_else(|| "the configuration is wrong".to_owned());
        let check = format!("run `mosquitto-auth0 check {}`", path.display());
        let fix = match mistakes.len() {
            0 | 1 => check,
            many => format!("{check}: there are {many} mistakes"),
        };
        Failure::new(what).fix(fix)
    })
}

/// Returns every line of this mosquitto.conf that loads the plugin, with its options. There is at least one.
///
/// # Errors
///
/// Returns a failure if the file does not load the plugin.
pub(crate) fn instances(path: &Path) -> Result<Vec<ConfiguredPlugin>, Failure> {
    let conf = MosquittoConf::read(path);
    let shown = path.display();
    let is_ours = |path: &str| path.contains("mosquitto_auth0");
    let plugins = conf.plugins.into_iter();
    let found: Vec<_> = plugins.filter(|plugin| is_ours(&plugin.path)).collect();
    match found.is_empty() {
        false => Ok(found),
        true => Err(Failure::new(format!(
            "{shown} and the files that it includes do not load mosquitto-auth0"
        ))
        .fix("name the file that has the line `plugin …/libmosquitto_auth0.so`")),
    }
}
