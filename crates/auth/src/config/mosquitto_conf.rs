//! Reads what mosquitto.conf says about plugins and password files, as the broker reads it (src/conf.c of 2.0 and 2.1).
//!
//! * A line that begins with `#` is a comment. The first word ends at a space and not at a tab, and the rest is its
//!   value. Spaces before the word are ignored.
//! * An option belongs to the plugin that the same file named last: by `plugin`, `plugin_load` or `plugin_use`.
//! * `include_dir` is read where it stands, and only in the main file. Its files end in `.conf`. The first
//!   character that differs decides about their order, and of an upper and a lower case letter the upper one is first.
//! * Of several `-c` on the command line, the last one is read again on SIGHUP.

use std::{
    ffi::OsString,
    fs,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
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
    /// The values of `password_file`.
    pub password_files: Vec<PathBuf>,
    /// Whether there is an `acl_file`.
    pub has_acl_file: bool,
    /// Whether all of it could be read.
    pub is_whole: bool,
}

/// A plugin that mosquitto.conf names.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ConfiguredPlugin {
    /// The name by which a listener uses it; empty without one (2.1).
    name: String,
    /// The path of the shared object.
    pub path: String,
    /// Its options, without the prefix `plugin_opt_`.
    pub options: Vec<(String, String)>,
}

/// Returns the path of the mosquitto.conf of the broker in whose process this runs, if it has one.
pub fn own_path() -> Option<PathBuf> {
    path_on(&fs::read("/proc/self/cmdline").ok()?)
}

/// Returns the path of mosquitto.conf on a command line, whose words end with NUL bytes.
fn path_on(command_line: &[u8]) -> Option<PathBuf> {
    let mut words = command_line.split(|byte| *byte == 0).skip(1);
    let mut path = None;
    while let Some(word) = words.next() {
        match word {
            b"-c" | b"--config-file" => path = words.next(),
            b"-p" | b"--port" | b"--tls-keylog" => drop(words.next()),
            _ => {}
        }
    }
    let path = path.filter(|path| !path.is_empty())?;
    Some(PathBuf::from(OsString::from_vec(path.to_vec())))
}

impl MosquittoConf {
    /// Reads mosquitto.conf. What cannot be read is left out.
    pub fn read(path: &Path) -> Self {
        let mut reader = ConfReader {
            conf: Self {
                is_whole: true,
                ..Self::default()
            },
            files_left: MAX_FILES,
        };
        reader.file(path, true);
        reader.conf
    }
}

struct ConfReader {
    conf: MosquittoConf,
    files_left: usize,
}

impl ConfReader {
    fn file(&mut self, path: &Path, is_main: bool) {
        let content = self
            .files_left
            .checked_sub(1)
            .and_then(|left| Some((left, files::read(path, MAX_FILE).ok()?.bytes)));
        let Some((left, bytes)) = content else {
            self.conf.is_whole = false;
            return;
        };
        self.files_left = left;
        // A comment need not be UTF-8.
        let text = String::from_utf8_lossy(&bytes);
        let mut current = None;
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let line = line.trim_start_matches(' ');
            let (word, value) = line.split_once(' ').unwrap_or((line, ""));
            if word == "include_dir" {
                match is_main {
                    true => self.folder(Path::new(value.trim())),
                    false => self.conf.is_whole = false,
                }
            } else {
                self.setting(word, value.trim(), &mut current);
            }
        }
    }

    /// Takes a setting. `current` is the place of the plugin that the file named last.
    fn setting(&mut self, word: &str, value: &str, current: &mut Option<usize>) {
        let plugins = &mut self.conf.plugins;
        let option = word
            .strip_prefix("plugin_opt_")
            .or_else(|| word.strip_prefix("auth_opt_"));
        match (word, option) {
            (_, Some(option)) => match current.and_then(|place| plugins.get_mut(place)) {
                Some(plugin) => plugin.options.push((option.to_owned(), value.to_owned())),
                None => self.conf.is_whole = false,
            },
            ("plugin" | "auth_plugin" | "global_plugin" | "plugin_load", _) => {
                let (name, path) = match word {
                    "plugin_load" => value.split_once(' ').unwrap_or((value, "")),
                    _ => ("", value),
                };
                *current = Some(plugins.len());
                plugins.push(ConfiguredPlugin {
                    name: name.to_owned(),
                    path: path.trim().to_owned(),
                    options: Vec::new(),
                });
            }
            ("plugin_use", _) => {
                *current = plugins.iter().position(|plugin| plugin.name == value);
            }
            ("password_file", _) => self.conf.password_files.push(value.into()),
            ("acl_file", _) => self.conf.has_acl_file = true,
            _ => {}
        }
    }

    fn folder(&mut self, folder: &Path) {
        let Ok(entries) = fs::read_dir(folder) else {
            self.conf.is_whole = false;
            return;
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
            self.file(&path, false);
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

    #[test]
    fn a_line_is_split_as_the_broker_splits_it() {
        let folder = Folder::new();
        let main = folder.write(
            "mosquitto.conf",
            b"#plugin /comment\xff.so\r\n\r\n  plugin   /ours.so \r\nplugin_opt_a \t b c \nauth_opt_d e\n\
              plugin\t/tab.so\n# plugin_opt_x y\npassword_file  /users \nlistener 1883\nplugin",
        );
        let conf = MosquittoConf::read(&main);
        assert!(conf.is_whole);
        let ours = plugin("/ours.so", &[("a", "b c"), ("d", "e")]);
        assert_eq!(conf.plugins, [ours, plugin("", &[])]);
        assert_eq!(conf.password_files, [Path::new("/users")]);
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
            conf.plugins,
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
        assert_eq!(conf.plugins, [plugin("/ours.so", &[])]);
        assert!(!conf.is_whole);
        for unreadable in [&*gone, Path::new("/dev/zero"), folder.0.path()] {
            assert!(!MosquittoConf::read(unreadable).is_whole);
        }
        for i in 0..=MAX_FILES {
            folder.write(&format!("gone/{i}.conf"), "");
        }
        assert!(!MosquittoConf::read(&main).is_whole, "too many files");
    }

    #[test]
    fn the_last_path_on_the_command_line_counts() {
        for (line, path) in [
            (&b"mosquitto\0-v\0-c\0/a.conf\0-d\0"[..], Some("/a.conf")),
            (b"mosquitto\0-c\0/a\0--config-file\0/b\0", Some("/b")),
            (b"mosquitto\0-c\0-c\0", Some("-c")),
            (b"mosquitto\0-p\0-c\0/a\0", None),
            (b"-c\0/a\0", None),
            (b"mosquitto\0-c\0", None),
            (b"", None),
        ] {
            assert_eq!(path_on(line), path.map(PathBuf::from));
        }
    }
}
