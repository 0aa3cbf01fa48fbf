//! Finds out whether mosquitto.conf has other options by now than those that are in use.
//!
//! The broker gives a plugin its options when it starts, and never again: src/conf.c of 2.0 and 2.1 skips them on a
//! reload. So an operator who changed an option and reloaded the broker should hear that it takes a restart. The file
//! is only compared: if it cannot be read, or if the plugin is not found in it, nothing is said.

use std::{collections::BTreeMap, fs, path::Path};

use super::options;
use crate::{
    files,
    secret::{Fingerprint, Fingerprinter},
};
use input::text::Quoted;

/// The longest file that is read, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// How many files of an `include_dir` are read.
const MAX_INCLUDED: usize = 100;

/// What mosquitto.conf said when the broker started, as fingerprints.
pub struct OnDisk {
    file: String,
    plugin: String,
    options: Options,
    prints: Fingerprinter,
}

/// A fingerprint for each option: of its value, and of the content of the file that it names.
type Options = BTreeMap<String, Fingerprint>;

/// A `plugin` line and the options after it.
struct Plugin {
    path: String,
    options: Vec<(String, String)>,
}

impl OnDisk {
    /// Finds these options in mosquitto.conf. Returns `None` if they are not there.
    pub fn find(pairs: &[(String, String)], prints: Fingerprinter) -> Option<Self> {
        Self::find_in(own_file()?, pairs, prints)
    }

    fn find_in(file: String, pairs: &[(String, String)], prints: Fingerprinter) -> Option<Self> {
        let pairs = pairs.iter();
        let pairs = pairs.map(|(name, value)| (name.clone(), value.clone()));
        let options = digest(&pairs.collect::<Vec<_>>(), &prints);
        let plugins = read(&file)?;
        let plugin = plugins
            .into_iter()
            .find(|plugin| digest(&plugin.options, &prints) == options)?;
        Some(Self {
            file,
            plugin: plugin.path,
            options,
            prints,
        })
    }

    /// Returns the names of the options that have changed.
    pub fn changed(&self) -> Vec<String> {
        let plugins = read(&self.file).unwrap_or_default().into_iter();
        let candidates = plugins
            .filter(|plugin| plugin.path == self.plugin)
            .map(|plugin| digest(&plugin.options, &self.prints));
        // The same plugin may be named several times: the one with the fewest changes is meant.
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
    let print = |name: &str, value: &str| {
        // Files that SIGHUP reads again need no restart.
        let read_once = name.ends_with("_file") && !options::find(name).is_some_and(|o| o.reread);
        let content = read_once
            .then(|| files::read(Path::new(value), MAX_FILE).ok())
            .flatten()
            .map(|content| content.bytes);
        let mut all = value.as_bytes().to_vec();
        if let Some(content) = content {
            let both = [all.as_slice(), &[0], content.as_slice()].concat();
            all = both;
        }
        prints.of(&all)
    };
    options
        .iter()
        .map(|(name, value)| (name.clone(), print(name, value.trim())))
        .collect()
}

/// Returns the path of mosquitto.conf, from the broker's command line.
fn own_file() -> Option<String> {
    let line = fs::read("/proc/self/cmdline").ok()?;
    let mut words = line.split(|byte| *byte == 0);
    words.find(|word| matches!(*word, b"-c" | b"--config-file"))?;
    String::from_utf8(words.next()?.to_vec()).ok()
}

fn read(file: &str) -> Option<Vec<Plugin>> {
    let mut plugins = Vec::new();
    read_lines(Path::new(file), true, &mut plugins)?;
    Some(plugins)
}

fn read_lines(file: &Path, may_include: bool, plugins: &mut Vec<Plugin>) -> Option<()> {
    let content = files::read(file, MAX_FILE).ok()?.bytes;
    let text = std::str::from_utf8(&content).ok()?;
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let rest = rest.trim();
        let option = word
            .strip_prefix("plugin_opt_")
            .or_else(|| word.strip_prefix("auth_opt_"));
        match (word, option) {
            (_, Some(name)) => {
                let value = rest.to_owned();
                plugins.last_mut()?.options.push((name.to_owned(), value));
            }
            ("plugin" | "auth_plugin" | "global_plugin", _) => plugins.push(plugin(rest)),
            ("plugin_load", _) => plugins.push(plugin(rest.split_once(' ')?.1.trim())),
            ("include_dir", _) if may_include => {
                let mut files: Vec<_> = fs::read_dir(rest)
                    .ok()?
                    .take(10 * MAX_INCLUDED)
                    .filter_map(|entry| Some(entry.ok()?.path()))
                    .filter(|path| path.extension().is_some_and(|ext| ext == "conf"))
                    .collect();
                files.sort_unstable();
                for file in files.iter().take(MAX_INCLUDED) {
                    read_lines(file, false, plugins)?;
                }
            }
            _ => {}
        }
    }
    Some(())
}

fn plugin(path: &str) -> Plugin {
    Plugin {
        path: path.to_owned(),
        options: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let on_disk = OnDisk::find_in(main.clone(), &ran, prints).unwrap();
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
        assert_eq!(on_disk.changed(), ["client_secret_file"]);
        fs::remove_file(&main).unwrap();
        assert_eq!(
            on_disk.changed(),
            [""; 0],
            "what cannot be read is passed over"
        );
        let prints = Fingerprinter::new().unwrap();
        assert!(OnDisk::find_in(main, &ran, prints).is_none());
    }
}
