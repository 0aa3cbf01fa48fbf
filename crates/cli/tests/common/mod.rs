//! Runs the real binary, on configurations in a folder of their own.

#![allow(dead_code, reason = "each test uses a part")]

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
};

/// A folder with a mosquitto.conf.
pub(crate) struct Conf {
    folder: tempfile::TempDir,
    main: String,
}

impl Conf {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let main = folder.path().join("mosquitto.conf");
        Self {
            main: main.to_str().unwrap().to_owned(),
            folder,
        }
    }

    /// Writes a file, and returns its path.
    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        let path = self.at(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Returns the path of a file.
    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes mosquitto.conf: a listener on this machine, and the plugin with these options.
    pub(crate) fn configure(&self, options: &str) {
        self.write(
            "mosquitto.conf",
            format!("listener 1883 127.0.0.1\nplugin /usr/lib/libmosquitto_auth0.so\n{options}"),
        );
    }

    /// Returns the path of mosquitto.conf.
    pub(crate) fn path(&self) -> &str {
        &self.main
    }
}

/// What came of a command.
pub(crate) struct Ran {
    words: String,
    output: Output,
}

/// Runs the tool.
pub(crate) fn auth0(words: &[&str]) -> Ran {
    let tool = env!("CARGO_BIN_EXE_mosquitto-auth0");
    let output = Command::new(tool).args(words).output().unwrap();
    Ran {
        words: words.join(" "),
        output,
    }
}

impl Ran {
    /// Returns what it wrote.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    fn errors(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        let (words, text, errors) = (&self.words, self.text(), self.errors());
        assert_eq!(
            self.output.status.code(),
            Some(code),
            "{words}: {text}{errors}"
        );
        self
    }

    #[track_caller]
    pub(crate) fn says(self, piece: &str) -> Self {
        let (words, text) = (&self.words, self.text());
        assert!(text.contains(piece), "{words}: no {piece} in {text}");
        self
    }

    #[track_caller]
    pub(crate) fn never_says(self, piece: &str) -> Self {
        let (words, text) = (&self.words, self.text());
        assert!(!text.contains(piece), "{words}: {piece} in {text}");
        self
    }

    #[track_caller]
    pub(crate) fn complains(self, piece: &str) -> Self {
        let (words, text) = (&self.words, self.errors());
        assert!(text.contains(piece), "{words}: no {piece} in {text}");
        self
    }

    /// Returns what it wrote as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.text()).unwrap()
    }
}
