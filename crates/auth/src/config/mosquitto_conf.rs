//! Reads what mosquitto.conf says, as the broker reads it (src/conf.c of 2.0 and 2.1).
//!
//! * A line that begins with `#` is a comment. The first word ends at a space and not at a tab, and the rest is its
//!   value. Spaces before the word are ignored.
//! * An option belongs to the plugin that the same file named last: by `plugin`, `plugin_load` or `plugin_use`. A
//!   setting of a listener belongs to the one that the same file named last.
//! * `include_dir` is read where it stands, and only in the main file. Its files end in `.conf`. The first
//!   character that differs decides about their order, and of an upper and a lower case letter the upper one is first.
//! * Several `-c` on the command line are read into one configuration. The last one is read again on SIGHUP.
//! * The first word of a value is what a switch is set to: `persistence true # keep` is `true`.

use std::{
    ffi::OsString,
    fs,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::files;

/// The longest file that is read, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// The most files that are read.
const MAX_FILES: usize = 100;

/// What mosquitto.conf and the files that it includes say.
#[derive(Debug, Default)]
pub struct MosquittoConf {
    /// The plugins, in the order in which they are loaded.
    pub plugins: Vec<ConfiguredPlugin>,
    /// Whether all of it could be read.
    pub is_whole: bool,
    /// All other settings, in their order. Those of plugins are not among them, because they may be secrets.
    pub settings: Vec<Setting>,
    /// The listeners, in their order.
    pub listeners: Vec<ConfiguredListener>,
    /// Why not all of it could be read.
    pub unread: Vec<(Option<ConfPlace>, Unread)>,
}

/// A line of mosquitto.conf or of an included file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfPlace {
    /// The file.
    pub file: Arc<Path>,
    /// The line, counted from 1.
    pub line: usize,
}

/// A setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its first word.
    pub word: String,
    /// The rest of the line.
    pub value: String,
    /// Where it is.
    pub place: ConfPlace,
    /// The listener in whose section it is: a place in the list of listeners.
    pub listener: Option<usize>,
}

/// A listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfiguredListener {
    /// Its port; 0 for a Unix socket.
    pub port: u16,
    /// The address or the host that it is bound to, or the path of its socket.
    pub address: Option<String>,
    /// Where it is.
    pub place: ConfPlace,
}

/// Why something could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unread {
    /// This file or folder cannot be read, for this reason.
    File(PathBuf, String),
    /// There are more files than are read.
    TooManyFiles,
    /// `include_dir` counts in the main file only.
    IncludeInIncluded,
    /// No plugin is named above this option.
    OptionWithoutPlugin(String),
    /// `plugin_use` names a plugin that is not loaded above.
    NoSuchPlugin(String),
}

/// A plugin that mosquitto.conf names.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ConfiguredPlugin {
    /// The name by which a listener uses it; empty without one (2.1).
    pub name: String,
    /// The path of the shared object.
    pub path: String,
    /// Its options, without the prefix `plugin_opt_`.
    pub options: Vec<(String, String)>,
    /// Where each option is.
    pub option_places: Vec<ConfPlace>,
    /// Where it is named: where it is loaded, and where a listener uses it.
    pub named: Vec<Setting>,
}

impl ConfiguredPlugin {
    /// Whether this is our plugin, by the name of its file.
    pub fn is_auth0(&self) -> bool {
        self.path.contains("mosquitto_auth0")
    }

    /// Returns the lines by which the broker or a listener uses it. `plugin_load` only loads it.
    pub fn lines_of_use(&self) -> impl Iterator<Item = &Setting> {
        self.named.iter().filter(|line| line.word != "plugin_load")
    }
}

/// Returns the mosquitto.conf that the broker in whose process this runs reads again on SIGHUP, if it has one.
pub fn own_path() -> Option<PathBuf> {
    own_paths().pop()
}

fn own_paths() -> Vec<PathBuf> {
    fs::read("/proc/self/cmdline").map_or_else(|_| Vec::new(), |line| paths_on(&line))
}

/// Returns each mosquitto.conf on a command line, whose words end with NUL bytes.
fn paths_on(command_line: &[u8]) -> Vec<PathBuf> {
    let mut words = command_line.split(|byte| *byte == 0).skip(1);
    let mut paths = Vec::new();
    while let Some(word) = words.next() {
        match word {
            b"-c" | b"--config-file" => paths.extend(words.next()),
            b"-p" | b"--port" | b"--tls-keylog" => drop(words.next()),
            _ => {}
        }
    }
    paths.retain(|path| !path.is_empty());
    let paths = paths.into_iter();
    paths
        .map(|path| PathBuf::from(OsString::from_vec(path.to_vec())))
        .collect()
}

impl Setting {
    /// Returns the first word of the value.
    pub fn first_word(&self) -> &str {
        self.value.split(' ').next().unwrap_or_default()
    }

    /// Whether a switch is on.
    pub fn is_true(&self) -> bool {
        matches!(self.first_word(), "true" | "1")
    }
}

impl MosquittoConf {
    /// Reads what the broker in whose process this runs has read. What cannot be read is left out.
    pub fn own() -> Self {
        match own_paths() {
            // Nothing is known about a broker without a file.
            none if none.is_empty() => Self::default(),
            paths => Self::read_all(&paths),
        }
    }

    /// Reads mosquitto.conf. What cannot be read is left out.
    pub fn read(path: &Path) -> Self {
        Self::read_all(&[path])
    }

    /// Reads several files into one configuration.
    fn read_all(paths: &[impl AsRef<Path>]) -> Self {
        let mut reader = ConfReader {
            conf: Self {
                is_whole: true,
                ..Self::default()
            },
            files_left: MAX_FILES,
        };
        for path in paths {
            reader.file(path.as_ref(), None);
        }
        reader.conf
    }

    /// Whether it is certain that the broker keeps no sessions over a restart. What is saved about sessions is of no
    /// use then, so in doubt the broker keeps them.
    pub fn has_no_persistence(&self) -> bool {
        let mut settings = self.settings.iter().rev();
        let last =
            settings.find(|one| matches!(&*one.word, "persistence" | "retained_persistence"));
        self.is_whole && last.is_none_or(|last| matches!(last.first_word(), "false" | "0"))
    }

    /// Returns the line `per_listener_settings true`, if it is in force: each listener then has its own plugins and its
    /// own files.
    pub fn per_listener_settings(&self) -> Option<&Setting> {
        let setting = self.setting("per_listener_settings", None);
        setting.filter(|setting| setting.is_true())
    }

    /// Whether a plugin is asked about the clients of all listeners. `plugin_use` of Mosquitto 2.1 always names one.
    pub fn is_asked_everywhere(&self, plugin: &ConfiguredPlugin) -> bool {
        plugin.lines_of_use().any(|line| match line.word.as_str() {
            "global_plugin" => true,
            "plugin_use" => false,
            _ => self.per_listener_settings().is_none(),
        })
    }

    /// Whether a plugin is asked about the clients of a listener. `None` is the default listener.
    pub fn is_asked_at(&self, plugin: &ConfiguredPlugin, listener: Option<usize>) -> bool {
        let mut lines = plugin.lines_of_use();
        self.is_asked_everywhere(plugin) || lines.any(|line| line.listener == listener)
    }

    /// Returns the last setting with this word in the section of a listener. `None` is the default listener: its
    /// section is the beginning of each file.
    pub fn in_section(&self, word: &str, listener: Option<usize>) -> Option<&Setting> {
        let mut settings = self.settings.iter().rev();
        settings.find(|setting| setting.word == word && setting.listener == listener)
    }

    /// Whether a listener takes MQTT. Those with the HTTP API of Mosquitto 2.1 do not.
    pub fn is_for_clients(&self, listener: Option<usize>) -> bool {
        let protocol = self.in_section("protocol", listener);
        protocol.is_none_or(|setting| setting.value != "http_api")
    }

    /// Returns the default listener, which has no line `listener`, if a setting in its section makes one
    /// (config__parse_args in src/conf.c). Without `bind_address` it listens on every address.
    pub fn default_listener(&self) -> Option<ConfiguredListener> {
        let per_listener = self.per_listener_settings().is_some();
        let makes_one = |setting: &&Setting| match setting.word.as_str() {
            "port" | "bind_address" | "bind_interface" | "socket_domain" => true,
            "cafile"
            | "capath"
            | "certfile"
            | "keyfile"
            | "crlfile"
            | "dhparamfile"
            | "ciphers"
            | "ciphers_tls1.3"
            | "psk_hint"
            | "tls_engine"
            | "tls_engine_kpass_sha1" => true,
            "max_connections" => setting.value != "-1",
            "max_qos" => setting.value != "2",
            "protocol" => setting.value != "mqtt",
            "tls_keyform" => setting.value != "pem",
            "require_certificate"
            | "use_identity_as_username"
            | "use_subject_as_username"
            | "use_username_as_clientid" => setting.is_true(),
            "password_file" | "psk_file" => per_listener,
            "allow_zero_length_clientid" => per_listener && !setting.is_true(),
            _ => false,
        };
        let mut section = self.settings.iter().filter(|one| one.listener.is_none());
        let port = self.in_section("port", None);
        Some(ConfiguredListener {
            place: section.find(makes_one)?.place.clone(),
            port: port.map_or(Some(1883), |port| port.value.parse().ok())?,
            address: self
                .in_section("bind_address", None)
                .map(|address| address.value.clone()),
        })
    }

    /// Returns the last setting with this word, where it counts for all listeners or for this one.
    pub fn setting(&self, word: &str, listener: Option<usize>) -> Option<&Setting> {
        let settings = self.settings.iter().rev();
        settings.into_iter().find(|setting| {
            setting.word == word && (listener.is_none() || setting.listener == listener)
        })
    }
}

struct ConfReader {
    conf: MosquittoConf,
    files_left: usize,
}

/// What lines of a file refer to: the broker forgets it at the end of the file.
#[derive(Default)]
struct Section {
    /// The place of the plugin that the file named last.
    plugin: Option<usize>,
    /// The place of the listener that it named last.
    listener: Option<usize>,
}

impl ConfReader {
    fn unread(&mut self, place: Option<ConfPlace>, why: Unread) {
        self.conf.is_whole = false;
        self.conf.unread.push((place, why));
    }

    /// Reads a file, which is included at a place if it is not the main file.
    fn file(&mut self, path: &Path, included_at: Option<&ConfPlace>) {
        let Some(left) = self.files_left.checked_sub(1) else {
            return self.unread(included_at.cloned(), Unread::TooManyFiles);
        };
        let bytes = match files::read(path, MAX_FILE) {
            Ok(content) => content.bytes,
            Err(why) => {
                let why = Unread::File(path.into(), why.to_string());
                return self.unread(included_at.cloned(), why);
            }
        };
        self.files_left = left;
        // A comment need not be UTF-8.
        let text = String::from_utf8_lossy(&bytes);
        let file = Arc::from(path);
        let mut section = Section::default();
        for (number, line) in (1..).zip(text.lines()) {
            if line.starts_with('#') {
                continue;
            }
            let line = line.trim_start_matches(' ');
            let (word, value) = line.split_once(' ').unwrap_or((line, ""));
            let setting = Setting {
                word: word.to_owned(),
                value: value.trim().to_owned(),
                place: ConfPlace {
                    file: Arc::clone(&file),
                    line: number,
                },
                listener: section.listener,
            };
            match (word, included_at) {
                ("include_dir", None) => self.folder(&setting),
                ("include_dir", Some(_)) => {
                    self.unread(Some(setting.place), Unread::IncludeInIncluded);
                }
                _ => self.setting(setting, &mut section),
            }
        }
    }

    fn setting(&mut self, setting: Setting, section: &mut Section) {
        let (word, value) = (setting.word.as_str(), setting.value.as_str());
        let option = word
            .strip_prefix("plugin_opt_")
            .or_else(|| word.strip_prefix("auth_opt_"));
        if let Some(option) = option {
            let plugins = &mut self.conf.plugins;
            return match section.plugin.and_then(|place| plugins.get_mut(place)) {
                Some(plugin) => {
                    plugin.options.push((option.to_owned(), setting.value));
                    plugin.option_places.push(setting.place);
                }
                None => {
                    let why = Unread::OptionWithoutPlugin(word.to_owned());
                    self.unread(Some(setting.place), why);
                }
            };
        }
        match word {
            "plugin" | "auth_plugin" | "global_plugin" | "plugin_load" => {
                let (name, path) = match word {
                    "plugin_load" => value.split_once(' ').unwrap_or((value, "")),
                    _ => ("", value),
                };
                section.plugin = Some(self.conf.plugins.len());
                self.conf.plugins.push(ConfiguredPlugin {
                    name: name.to_owned(),
                    path: path.trim().to_owned(),
                    named: vec![setting],
                    ..ConfiguredPlugin::default()
                });
            }
            "plugin_use" => {
                let mut plugins = self.conf.plugins.iter();
                section.plugin = plugins.position(|plugin| plugin.name == value);
                match section.plugin {
                    Some(place) => self.conf.plugins[place].named.push(setting),
                    None => {
                        let why = Unread::NoSuchPlugin(value.to_owned());
                        self.unread(Some(setting.place), why);
                    }
                }
            }
            "listener" => {
                let (port, address) = value.split_once(' ').unwrap_or((value, ""));
                let address = Some(address.trim()).filter(|address| !address.is_empty());
                section.listener = Some(self.conf.listeners.len());
                self.conf.listeners.push(ConfiguredListener {
                    port: port.parse().unwrap_or(0),
                    address: address.map(str::to_owned),
                    place: setting.place,
                });
            }
            "" => {}
            _ => self.conf.settings.push(setting),
        }
    }

    fn folder(&mut self, setting: &Setting) {
        let folder = Path::new(&setting.value);
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(why) => {
                let why = Unread::File(folder.into(), why.to_string());
                return self.unread(Some(setting.place.clone()), why);
            }
        };
        // No more names are sorted than could be read.
        const MOST: usize = 100 * MAX_FILES;
        let mut paths: Vec<_> = entries
            .take(MOST)
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|end| end == "conf"))
            .collect();
        paths.sort_by(|a, b| {
            let (a, b) = (a.as_os_str().as_bytes(), b.as_os_str().as_bytes());
            let place = |byte: &u8| (byte.to_ascii_uppercase(), *byte);
            a.iter().map(place).cmp(b.iter().map(place))
        });
        for path in paths {
            self.file(&path, Some(&setting.place));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
            let path = self.0.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            path
        }
    }

    fn plugin(path: &str, options: &[(&str, &str)]) -> ConfiguredPlugin {
        let options = options.iter();
        ConfiguredPlugin {
            path: path.into(),
            options: options
                .map(|(name, value)| ((*name).into(), (*value).into()))
                .collect(),
            ..ConfiguredPlugin::default()
        }
    }

    /// Returns the plugins without their places.
    fn plugins(conf: MosquittoConf) -> Vec<ConfiguredPlugin> {
        let plugins = conf.plugins.into_iter();
        let without_places = |plugin| ConfiguredPlugin {
            option_places: Vec::new(),
            named: Vec::new(),
            ..plugin
        };
        plugins.map(without_places).collect()
    }

    #[test]
    fn a_line_is_split_as_the_broker_splits_it() {
        let folder = Folder::new();
        let main = folder.write(
            "mosquitto.conf",
            b"#plugin /comment\xff.so\r\n\r\n  plugin   /ours.so \r\nplugin_opt_a \t b c \nauth_opt_d e\n\
              plugin\t/tab.so\n# plugin_opt_x y\npassword_file  /users \nlistener 1883\npersistence true\nplugin",
        );
        let conf = MosquittoConf::read(&main);
        assert!(conf.is_whole);
        let ours = plugin("/ours.so", &[("a", "b c"), ("d", "e")]);
        let users = conf.setting("password_file", None).unwrap();
        assert_eq!((&*users.value, users.listener), ("/users", None));
        assert!(!conf.has_no_persistence());
        assert_eq!(plugins(conf), [ours, plugin("", &[])]);
    }

    #[test]
    fn an_option_belongs_to_the_plugin_that_its_file_named_last() {
        let folder = Folder::new();
        let included = folder.write("conf.d/a.conf", "plugin /included.so\nplugin_opt_a 1\n");
        let included = included.parent().unwrap().display();
        let main = folder.write(
            "mosquitto.conf",
            format!(
                "plugin /main.so\ninclude_dir {included}\nplugin_opt_b 2\nplugin_load x  /x.so\nplugin_opt_c 3\n\
                 plugin /last.so\nplugin_use x\nplugin_opt_d 4\n"
            ),
        );
        let conf = MosquittoConf::read(&main);
        let x = ConfiguredPlugin {
            name: "x".into(),
            ..plugin("/x.so", &[("c", "3"), ("d", "4")])
        };
        assert!(conf.is_whole);
        assert_eq!(
            plugins(conf),
            [
                plugin("/main.so", &[("b", "2")]),
                plugin("/included.so", &[("a", "1")]),
                x,
                plugin("/last.so", &[]),
            ]
        );
        // In an included file no plugin is named yet. The broker does not start with that.
        folder.write("conf.d/b.conf", "plugin_opt_e 5\n");
        assert!(!MosquittoConf::read(&main).is_whole);
    }

    #[test]
    fn included_files_are_read_in_the_brokers_order() {
        let folder = Folder::new();
        for name in [
            "B.conf", "a.conf", "a1.conf", "A.conf", "A2.conf", "c.conf", ".conf", "d.txt",
        ] {
            folder.write(&format!("conf.d/{name}"), format!("plugin {name}\n"));
        }
        let included = folder.0.path().join("conf.d");
        let main = folder.write("main.conf", format!("include_dir {}\n", included.display()));
        let conf = MosquittoConf::read(&main);
        let names: Vec<_> = conf.plugins.iter().map(|plugin| &*plugin.path).collect();
        assert_eq!(
            names,
            ["A.conf", "A2.conf", "a.conf", "a1.conf", "B.conf", "c.conf"]
        );
        assert!(conf.is_whole);
        folder.write(
            "conf.d/c.conf",
            format!("include_dir {}\n", included.display()),
        );
        assert!(
            !MosquittoConf::read(&main).is_whole,
            "only the main file may"
        );
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        let folder = Folder::new();
        let gone = folder.0.path().join("gone");
        let main = folder.write(
            "main.conf",
            format!("include_dir {}\nplugin /ours.so\n", gone.display()),
        );
        let conf = MosquittoConf::read(&main);
        assert!(!conf.is_whole);
        assert_eq!(plugins(conf), [plugin("/ours.so", &[])]);
        for unreadable in [&*gone, Path::new("/dev/zero"), folder.0.path()] {
            assert!(!MosquittoConf::read(unreadable).is_whole);
        }
        for i in 0..=MAX_FILES {
            folder.write(&format!("gone/{i}.conf"), "");
        }
        assert!(!MosquittoConf::read(&main).is_whole, "too many files");
    }

    #[test]
    fn every_path_on_the_command_line_is_found() {
        for (line, paths) in [
            (&b"mosquitto\0-v\0-c\0/a.conf\0-d\0"[..], &["/a.conf"][..]),
            (b"mosquitto\0-c\0/a\0--config-file\0/b\0", &["/a", "/b"]),
            (b"mosquitto\0-c\0-c\0", &["-c"]),
            (b"mosquitto\0-p\0-c\0/a\0", &[]),
            (b"-c\0/a\0", &[]),
            (b"mosquitto\0-c\0", &[]),
            (b"", &[]),
        ] {
            let paths: Vec<_> = paths.iter().map(PathBuf::from).collect();
            assert_eq!(paths_on(line), paths);
        }
    }

    #[test]
    fn in_doubt_the_broker_keeps_its_sessions() {
        let folder = Folder::new();
        let has_none = |texts: &[&str]| {
            let files = (0..).zip(texts);
            let paths: Vec<_> = files
                .map(|(number, text)| folder.write(&format!("{number}.conf"), text))
                .collect();
            MosquittoConf::read_all(&paths).has_no_persistence()
        };
        for certain in [
            "",
            "persistence false",
            "persistence  0 # not here",
            "persistence true\nretained_persistence false",
        ] {
            assert!(has_none(&[certain]), "{certain}");
        }
        for kept in [
            "persistence true # keep",
            "persistence 1",
            "persistence TRUE",
            "persistence",
            "persistence false\nretained_persistence true",
            "include_dir /gone\npersistence false",
        ] {
            assert!(!has_none(&[kept]), "{kept}");
        }
        // The broker reads every file on its command line into one configuration.
        assert!(!has_none(&["persistence true", "listener 1883"]));
        assert!(has_none(&["persistence true", "persistence false"]));
        assert!(!MosquittoConf::default().has_no_persistence(), "no file");
    }

    #[test]
    fn each_line_is_found_again_with_its_listener() {
        let folder = Folder::new();
        let included = folder.write(
            "conf.d/a.conf",
            "mount_point x/\nlistener 8883\nmount_point y/\n",
        );
        let included_folder = included.parent().unwrap().display();
        let main = folder.write(
            "mosquitto.conf",
            format!(
                "# begin\nlistener 1883 127.0.0.1\nplugin /ours.so\nplugin_opt_a 1\n\nmount_point z/\n\
                 include_dir {included_folder}\nprotocol websockets\nplugin_opt_b 2\nplugin_use gone\nplugin_opt_c 3\n"
            ),
        );
        let conf = MosquittoConf::read(&main);
        let mounts: Vec<_> = conf
            .settings
            .iter()
            .filter(|setting| setting.word == "mount_point")
            .map(|setting| (&*setting.value, setting.place.line, setting.listener))
            .collect();
        assert_eq!(
            mounts,
            [("z/", 6, Some(0)), ("x/", 1, None), ("y/", 3, Some(1))]
        );
        assert_eq!(
            conf.setting("mount_point", Some(1)).unwrap().place.file,
            included.into()
        );
        let websockets = conf.setting("protocol", Some(0)).unwrap();
        assert_eq!(
            (&*websockets.place.file, websockets.place.line),
            (&*main, 8)
        );
        let listeners: Vec<_> = conf
            .listeners
            .iter()
            .map(|one| (one.port, one.address.as_deref()))
            .collect();
        assert_eq!(listeners, [(1883, Some("127.0.0.1")), (8883, None)]);
        let ours = &conf.plugins[0];
        let lines: Vec<_> = ours.option_places.iter().map(|place| place.line).collect();
        assert_eq!(lines, [4, 9]);
        assert_eq!(
            (ours.named[0].place.line, ours.named[0].listener),
            (3, Some(0))
        );
        let unread: Vec<_> = conf.unread.iter().map(|(_, why)| why.clone()).collect();
        assert_eq!(
            unread,
            [
                Unread::NoSuchPlugin("gone".into()),
                Unread::OptionWithoutPlugin("plugin_opt_c".into()),
            ]
        );
    }

    #[test]
    fn a_plugin_is_asked_where_its_lines_say() {
        let folder = Folder::new();
        let asked = |first: &str, above: &str, below: &str| {
            let text = format!("{first}{above}listener 1\nlistener 2\n{below}");
            let conf = MosquittoConf::read(&folder.write("mosquitto.conf", text));
            let ours = &conf.plugins[0];
            [None, Some(0), Some(1)].map(|listener| conf.is_asked_at(ours, listener))
        };
        let each = "per_listener_settings true\n";
        let (plugin, global) = ("plugin /x.so\n", "global_plugin /x.so\n");
        let (load, used) = ("plugin_load x /x.so\n", "plugin_use x\n");
        assert_eq!(asked("", plugin, ""), [true; 3]);
        assert_eq!(asked("", "", plugin), [true; 3]);
        assert_eq!(asked("", load, used), [false, false, true]);
        assert_eq!(asked(each, load, used), [false, false, true]);
        assert_eq!(asked(each, load, ""), [false; 3]);
        assert_eq!(asked(each, plugin, ""), [true, false, false]);
        assert_eq!(asked(each, "", plugin), [false, false, true]);
        assert_eq!(asked(each, "", global), [true; 3]);
    }
}
