//! The files that mosquitto.conf and the plugin's options name: whether they are there, and whether the broker's user
//! may use them.

use std::path::{Path, PathBuf};

use auth::config::{
    mosquitto_conf::MosquittoConf,
    options::{self, Kind},
};

use super::{
    Instance,
    access::BrokerUser,
    flaw::{Flaw, Found, NamedBy, Obstacle},
};

/// The broker starts even if it cannot write the file of this option.
pub(super) const METRICS_FILE: &str = "metrics_file";

/// The settings whose files Mosquitto 2.0 and 2.1 read when they start, after they have become the broker's user. The
/// broker does not start without them.
const READ_BY_BROKER: [&str; 7] = [
    "certfile",
    "keyfile",
    "cafile",
    "crlfile",
    "password_file",
    "acl_file",
    "psk_file",
];

/// Returns the files of the broker's own settings that keep it from starting.
pub(super) fn of_broker(conf: &MosquittoConf, user: &BrokerUser) -> Vec<Found> {
    let found = conf.settings.iter().filter_map(|setting| {
        let word = READ_BY_BROKER
            .into_iter()
            .find(|word| setting.word == *word)?;
        let path = Path::new(&setting.value);
        // The folder of a relative path is the broker's, and not known here. The HTTP API of 2.1 is no condition for
        // its start.
        if !path.is_absolute() || !conf.is_for_clients(setting.listener) {
            return None;
        }
        let obstacle = user.may_not_read(path)?;
        let flaw = Flaw::Access {
            named_by: NamedBy::Setting(word),
            path: path.into(),
            user: user.name.clone(),
            obstacle,
        };
        Some(Found::at(Some(&setting.place), flaw))
    });
    found.collect()
}

/// Returns the files of an instance that the broker's user may not read or write, and the folder that it may not
/// write in.
pub(super) fn of_instance(instance: &Instance, user: &BrokerUser) -> Vec<Found> {
    let mut found = Vec::new();
    let library = Path::new(&instance.plugin.path);
    if library.is_absolute() && !library.is_file() {
        let flaw = Flaw::NoLibrary(library.into());
        found.push(Found::at(instance.loaded_at(), flaw));
    }
    for row in options::all() {
        let Some(value) = instance.option(row.name) else {
            continue;
        };
        let path = PathBuf::from(value);
        let refused = match row.kind {
            Kind::Folder => user.may_not_keep_state_in(&path),
            // The plugin itself says what is missing.
            Kind::File | Kind::SecretFile => user
                .may_not_read(&path)
                .filter(|obstacle| *obstacle != Obstacle::Missing),
            Kind::WrittenFile if row.name == METRICS_FILE => user.may_not_replace(&path),
            Kind::WrittenFile => user.may_not_append_to(&path),
            _ => None,
        };
        let place = instance
            .place(row.name)
            .or_else(|| instance.place("config_file"));
        if row.name == METRICS_FILE && is_not_collected(&path) {
            found.push(Found::at(place, Flaw::NotCollected(path.clone())));
        }
        if let Some(obstacle) = refused {
            let flaw = Flaw::Access {
                named_by: NamedBy::Option(row.name),
                path,
                user: user.name.clone(),
                obstacle,
            };
            found.push(Found::at(place, flaw));
        }
    }
    found
}

/// Whether this file is in a folder of the node exporter's textfile collector, which reads no file of this name.
fn is_not_collected(path: &Path) -> bool {
    let folder = path.parent().unwrap_or(path).display().to_string();
    let words = ["node-exporter", "node_exporter", "textfile"];
    let is_collectors = words.iter().any(|word| folder.contains(word));
    is_collectors && path.extension().is_none_or(|end| end != "prom")
}
