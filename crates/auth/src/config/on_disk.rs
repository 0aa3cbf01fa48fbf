//! Finds out whether mosquitto.conf has other options by now than those that are in use.
//!
//! The broker gives a plugin its options when it starts, and never again: src/conf.c of 2.0 and 2.1 skips them on a
//! reload. So an operator who changed an option there and reloaded the broker should learn that a restart is needed, or
//! that the option can be moved to the file that `config_file` names.
//!
//! The plugin could take the options from this file itself, and does not. The file may name the plugin several times,
//! and then nobody knows which of the lines belongs to which instance: a listener could get the rights of another one.
//! So the file is only compared. If it cannot be read, or if the plugin is not found in it, nothing is said.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{
    mosquitto_conf::{self, ConfiguredPlugin, MosquittoConf},
    options,
};
use crate::secret::{Fingerprint, Fingerprinter};
use input::text::Quoted;

/// What mosquitto.conf said when the broker started, as fingerprints.
pub struct OnDisk {
    file: PathBuf,
    plugin: String,
    options: Options,
    prints: Fingerprinter,
}

/// A fingerprint for each option.
type Options = BTreeMap<String, Fingerprint>;

impl OnDisk {
    /// Finds these options in mosquitto.conf. Returns `None` if they are not there.
    pub fn find(pairs: &[(String, String)], prints: Fingerprinter) -> Option<Self> {
        Self::find_in(mosquitto_conf::own_path()?, pairs, prints)
    }

    fn find_in(file: PathBuf, pairs: &[(String, String)], prints: Fingerprinter) -> Option<Self> {
        let options = digest(pairs, &prints);
        let plugin = plugins(&file)
            .into_iter()
            .find(|plugin| digest(&plugin.options, &prints) == options)?;
        Some(Self {
            file,
            plugin: plugin.path,
            options,
            prints,
        })
    }

    /// Returns the plugin with these options in a configuration. Returns `None` if it has them no longer.
    pub fn instance<'c>(&self, conf: &'c MosquittoConf) -> Option<&'c ConfiguredPlugin> {
        let mut plugins = conf.plugins.iter();
        plugins.find(|plugin| digest(&plugin.options, &self.prints) == self.options)
    }

    /// Returns the names of the options that have changed.
    pub fn changed(&self) -> Vec<String> {
        let candidates = plugins(&self.file)
            .into_iter()
            .filter(|plugin| plugin.path == self.plugin)
            .map(|plugin| digest(&plugin.options, &self.prints));
        // The same plugin may be named several times: the one with the fewest changes is taken as the match.
        let now = candidates.min_by_key(|now| self.differences(now).len());
        now.map(|now| self.differences(&now)).unwrap_or_default()
    }

    fn differences(&self, now: &Options) -> Vec<String> {
        let names = self.options.keys().chain(now.keys());
        let changed = names.filter(|name| self.options.get(*name) != now.get(*name));
        let mut changed: Vec<_> = changed
            .map(|name| match options::find(name) {
                Some(known) => known.name.to_owned(),
                None => Quoted(name).to_string(),
            })
            .collect();
        changed.sort_unstable();
        changed.dedup();
        changed
    }
}

fn digest(options: &[(String, String)], prints: &Fingerprinter) -> Options {
    let print = |value: &str| prints.of(value.trim().as_bytes());
    options
        .iter()
        .map(|(name, value)| (name.clone(), print(value)))
        .collect()
}

/// Returns the plugins that mosquitto.conf names, or none if it cannot be read whole.
fn plugins(file: &Path) -> Vec<ConfiguredPlugin> {
    let conf = MosquittoConf::read(file);
    match conf.is_whole {
        true => conf.plugins,
        false => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        let list = list.iter();
        list.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn what_is_not_as_it_was_is_named_and_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let included = at("included");
        fs::create_dir(&included).unwrap();
        let (main, secret) = (at("mosquitto.conf"), at("secret"));
        fs::write(&secret, "hush").unwrap();
        fs::write(&main, format!("listener 1883\ninclude_dir {included}\n")).unwrap();
        let write = |options: &str| {
            let other = "plugin /other.so\nplugin_opt_audience x\n# plugin_opt_leeway 3\n";
            let text = format!("{other}plugin /ours.so\n{options}");
            fs::write(Path::new(&included).join("a.conf"), text).unwrap();
        };
        let same = format!("plugin_opt_audience  a \nauth_opt_client_secret_file {secret}\n");
        write(&same);
        let prints = Fingerprinter::new().unwrap();
        let ran = pairs(&[("audience", "a "), ("client_secret_file", &secret)]);
        let on_disk = OnDisk::find_in(main.clone().into(), &ran, prints).unwrap();
        assert_eq!(on_disk.changed(), [""; 0]);
        write(&same.replace("  a ", " b").replace(
            "auth_opt_",
            "plugin_opt_leeway 3\nplugin_opt_xyz 3\nauth_opt_",
        ));
        assert_eq!(on_disk.changed(), ["'xyz'", "audience", "leeway"]);
        write("plugin_opt_audience a\n");
        assert_eq!(on_disk.changed(), ["client_secret_file"]);
        write(&same);
        fs::write(&secret, "another").unwrap();
        assert_eq!(on_disk.changed(), [""; 0], "SIGHUP reads the file again");
        fs::remove_file(&main).unwrap();
        assert_eq!(
            on_disk.changed(),
            [""; 0],
            "what cannot be read is passed over"
        );
        let prints = Fingerprinter::new().unwrap();
        assert!(OnDisk::find_in(main.into(), &ran, prints).is_none());
    }
}
