//! What `check` looks at. Nothing here changes anything, and nothing is sent.
//!
//! * this file: the instances of the plugin and their options
//! * [`broker`]: what in the broker's own settings defeats the plugin
//! * [`files`]: the files that settings and options name
//! * [`access`]: whether the broker's user may read a file
//! * [`flaw`]: what can be found, as data; the sentences are in `messages/check.rs`

mod access;
mod broker;
mod files;
pub(crate) mod flaw;

use std::path::Path;

use auth::{
    config::{
        Config, WrittenOptions,
        mosquitto_conf::{ConfPlace, ConfiguredPlugin, MosquittoConf},
    },
    engine::mistakes_in_files,
};

use access::BrokerUser;
use flaw::{Flaw, Found};

/// Returns what is wrong with a mosquitto.conf and the files that it names.
pub(crate) fn examine(path: &Path) -> Vec<Found> {
    let conf = MosquittoConf::read(path);
    let unread = conf.unread.iter();
    let mut found: Vec<_> = unread
        .map(|(place, why)| Found::at(place.as_ref(), Flaw::Unread(why.clone())))
        .collect();
    let user = BrokerUser::of(&conf);
    if let Err(name) = &user {
        let place = conf.setting("user", None).map(|setting| &setting.place);
        found.push(Found::at(place, Flaw::NoSuchUser(name.clone())));
    }
    let instances: Vec<_> = conf.plugins.iter().map(Instance::of).collect();
    let ours: Vec<_> = instances.iter().filter(|one| one.is_ours()).collect();
    if ours.is_empty() && found.is_empty() {
        found.push(Found::at(None, Flaw::NotLoaded(path.into())));
    }
    for instance in &ours {
        found.extend(instance.mistakes());
        if let Ok(user) = &user {
            found.extend(files::of_instance(instance, user));
        }
    }
    if let Ok(user) = &user {
        found.extend(files::of_broker(&conf, user));
    }
    found.extend(broker::flaws(&conf, &ours));
    let mut unique: Vec<Found> = Vec::new();
    for one in found {
        // Two instances may name the same file.
        let is_known = |known: &Found| known.text() == one.text() && known.place == one.place;
        if !unique.iter().any(is_known) {
            unique.push(one);
        }
    }
    unique.sort_by_key(|one| std::cmp::Reverse(one.severity()));
    unique
}

/// One instance of a plugin.
struct Instance<'c> {
    plugin: &'c ConfiguredPlugin,
    /// The options as written, if they are well formed.
    written: Option<WrittenOptions>,
}

impl<'c> Instance<'c> {
    fn of(plugin: &'c ConfiguredPlugin) -> Self {
        let written = match plugin.is_auth0() {
            true => WrittenOptions::read(&plugin.options).ok(),
            false => None,
        };
        Self { plugin, written }
    }

    fn is_ours(&self) -> bool {
        self.plugin.is_auth0()
    }

    /// Returns the value of an option that is no secret.
    fn option(&self, name: &str) -> Option<&str> {
        self.written.as_ref()?.text(name)
    }

    /// Returns where an option is set in mosquitto.conf.
    fn place(&self, option: &str) -> Option<&'c ConfPlace> {
        let mut names = self.plugin.options.iter();
        let last = names.rposition(|(name, _)| name == option)?;
        self.plugin.option_places.get(last)
    }

    /// Returns where the instance is loaded.
    fn loaded_at(&self) -> Option<&'c ConfPlace> {
        self.plugin.named.first().map(|setting| &setting.place)
    }

    /// Returns what the plugin says of its options and of the files that they name.
    fn mistakes(&self) -> Vec<Found> {
        let mistakes = match Config::look(&self.plugin.options) {
            Ok(config) => mistakes_in_files(&config),
            Err(mistakes) => mistakes,
        };
        let found = mistakes.into_iter().map(|mistake| {
            let place = mistake.place();
            let place = place.or_else(|| self.place(mistake.option()).cloned());
            let place = place.or_else(|| self.loaded_at().cloned());
            Found::at(place.as_ref(), Flaw::Option(mistake.to_string()))
        });
        found.collect()
    }
}
