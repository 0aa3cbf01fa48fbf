//! The configuration of a broker, written into a folder of its own.

use std::ffi::OsString;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Failed, Mosquitto, PORT_ATTEMPTS, StartError, Version};
use crate::scratch::Scratch;

/// One `listener` of a broker.
#[derive(Clone, Debug)]
pub struct Listener {
    pub(super) unix: bool,
    lines: Vec<String>,
}

impl Listener {
    /// Plain TCP on 127.0.0.1, on a free port.
    #[must_use]
    pub fn tcp() -> Self {
        Self {
            unix: false,
            lines: Vec::new(),
        }
    }

    /// TLS on 127.0.0.1, on a free port, with these PEM files.
    #[must_use]
    pub fn tls(certificate: impl AsRef<Path>, key: impl AsRef<Path>) -> Self {
        Self::tcp()
            .config(format!("certfile {}", certificate.as_ref().display()))
            .config(format!("keyfile {}", key.as_ref().display()))
    }

    /// A Unix socket in the broker's folder.
    #[must_use]
    pub fn unix() -> Self {
        Self {
            unix: true,
            lines: Vec::new(),
        }
    }

    /// Requires client certificates signed by an authority in this PEM file.
    #[must_use]
    pub fn client_ca(self, file: impl AsRef<Path>) -> Self {
        self.config(format!("cafile {}", file.as_ref().display()))
            .config("require_certificate true")
    }

    /// Adds a plugin to this listener. The broker distinguishes listeners only with `per_listener_settings
    /// true`.
    #[must_use]
    pub fn plugin(mut self, path: impl AsRef<Path>, options: &[(&str, &str)]) -> Self {
        self.lines.extend(plugin_lines(path.as_ref(), options));
        self
    }

    /// Adds lines to this listener.
    #[must_use]
    pub fn config(mut self, lines: impl Into<String>) -> Self {
        self.lines.push(lines.into());
        self
    }
}

fn plugin_lines(path: &Path, options: &[(&str, &str)]) -> Vec<String> {
    let mut lines = vec![format!("plugin {}", path.display())];
    lines.extend(
        options
            .iter()
            .map(|(name, value)| format!("plugin_opt_{name} {value}")),
    );
    lines
}

/// The configuration of a broker that is not started yet.
#[derive(Debug)]
pub struct MosquittoBuilder {
    pub(super) version: Version,
    pub(super) folder: Arc<Scratch>,
    pub(super) listeners: Vec<Listener>,
    pub(super) lines: Vec<String>,
    pub(super) plugins: Vec<String>,
    pub(super) allow_anonymous: Option<bool>,
    pub(super) per_listener: bool,
    pub(super) daemon: bool,
    pub(super) persistence: bool,
    pub(super) arguments: Vec<OsString>,
    pub(super) environment: Vec<(OsString, OsString)>,
    pub(super) under: Vec<OsString>,
}

impl MosquittoBuilder {
    /// Returns the broker's folder. It exists already, so that files that the configuration names can be put
    /// there. It is removed with the broker.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Adds a listener. A broker without any gets [`Listener::tcp`].
    #[must_use]
    pub fn listener(mut self, listener: Listener) -> Self {
        self.listeners.push(listener);
        self
    }

    /// Adds lines to mosquitto.conf, before all listeners.
    #[must_use]
    pub fn config(mut self, lines: impl Into<String>) -> Self {
        self.lines.push(lines.into());
        self
    }

    /// Adds a plugin to the whole broker: to every listener with `per_listener_settings true`, otherwise
    /// once.
    #[must_use]
    pub fn plugin(mut self, path: impl AsRef<Path>, options: &[(&str, &str)]) -> Self {
        self.plugins.extend(plugin_lines(path.as_ref(), options));
        self
    }

    /// Logs the default types except for connections and disconnections. For measurements: a line for each
    /// client, and its reader, would take CPU time from the broker.
    #[must_use]
    pub fn quiet(self) -> Self {
        let kinds = ["none", "error", "warning", "notice", "information"];
        let lines: String = kinds.map(|kind| format!("log_type {kind}\n")).concat();
        self.config(lines + "connection_messages false")
    }

    /// Sets `allow_anonymous` where the broker expects it. The option is not written unless this is called.
    #[must_use]
    pub fn allow_anonymous(mut self, allowed: bool) -> Self {
        self.allow_anonymous = Some(allowed);
        self
    }

    /// Sets `per_listener_settings`.
    #[must_use]
    pub fn per_listener_settings(mut self, on: bool) -> Self {
        self.per_listener = on;
        self
    }

    /// Runs the broker as a daemon (`-d`), with a pid file and a log file.
    #[must_use]
    pub fn daemon(mut self, on: bool) -> Self {
        self.daemon = on;
        self
    }

    /// Keeps sessions and retained messages in the broker's folder, for [`Mosquitto::restart`].
    #[must_use]
    pub fn persistence(mut self, on: bool) -> Self {
        self.persistence = on;
        self
    }

    /// Adds a `log_dest`, such as `topic`, to the one that the harness reads.
    #[must_use]
    pub fn log_dest(self, destination: &str) -> Self {
        self.config(format!("log_dest {destination}"))
    }

    /// Adds an argument to the broker's command line, such as `-v`.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Runs the broker under another program, such as valgrind. `command` is that program with its arguments.
    #[must_use]
    pub fn under(mut self, command: &[&str]) -> Self {
        self.under = command.iter().map(Into::into).collect();
        self
    }

    /// Sets a variable in the broker's environment.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Starts the broker and returns when it listens.
    ///
    /// # Errors
    ///
    /// Returns an error when the broker exits instead, or is not ready within `PATIENCE`.
    pub fn start(mut self) -> Result<Mosquitto, StartError> {
        if self.listeners.is_empty() {
            self.listeners.push(Listener::tcp());
        }
        let plan = Arc::new(self);
        let mut attempt = 0;
        loop {
            attempt += 1;
            match Mosquitto::launch(&plan, free_ports(plan.tcp_listeners())) {
                Err(error) if error.port_was_taken() && attempt < PORT_ATTEMPTS => {}
                result => return result,
            }
        }
    }

    /// Starts a broker that must refuse to start.
    ///
    /// # Panics
    ///
    /// Panics when it starts, or when no broker is installed.
    #[must_use]
    pub fn start_expecting_failure(self) -> Failed {
        match self.start() {
            Ok(broker) => panic!(
                "the broker was to refuse its configuration, but started:\n{}",
                broker.log()
            ),
            Err(StartError {
                status: Some(status),
                log,
                ..
            }) => Failed { status, log },
            Err(error) => panic!("{error}"),
        }
    }

    fn tcp_listeners(&self) -> usize {
        self.listeners
            .iter()
            .filter(|listener| !listener.unix)
            .count()
    }

    pub(super) fn conf(&self, ports: &[u16]) -> String {
        let folder = self.folder.path().display();
        let mut conf = String::new();
        let mut line = |text: &str| {
            conf.push_str(text);
            conf.push('\n');
        };
        if self.per_listener {
            line("per_listener_settings true"); // only heeded before everything that it is about
        }
        // A broker that root starts switches to the user `mosquitto`, who need not exist here and could not
        // read the folder. So the broker keeps the user who runs the tests.
        let states_user = self
            .lines
            .iter()
            .any(|text| text.lines().any(|line| line.starts_with("user ")));
        if !states_user && fs::metadata("/proc/self").is_ok_and(|this| this.uid() == 0) {
            line("user root");
        }
        if self.daemon {
            line(&format!("pid_file {folder}/mosquitto.pid"));
            line(&format!("log_dest file {folder}/mosquitto.log"));
        } else {
            line("log_dest stderr");
        }
        line("log_type all");
        line("log_timestamp false");
        if self.persistence {
            line("persistence true");
            line(&format!("persistence_location {folder}/"));
        }
        self.lines.iter().for_each(|text| line(text));
        let anonymous = self
            .allow_anonymous
            .map(|allowed| format!("allow_anonymous {allowed}"));
        let security: Vec<&String> = anonymous.iter().chain(&self.plugins).collect();
        if !self.per_listener {
            security.iter().for_each(|text| line(text));
        }
        let mut ports = ports.iter();
        for (number, listener) in self.listeners.iter().enumerate() {
            match listener.unix {
                true => line(&format!("listener 0 {}", self.socket(number).display())),
                false => line(&format!(
                    "listener {} 127.0.0.1",
                    ports.next().expect("a port each")
                )),
            }
            if self.per_listener {
                security.iter().for_each(|text| line(text));
            }
            listener.lines.iter().for_each(|text| line(text));
        }
        conf
    }

    pub(super) fn socket(&self, number: usize) -> PathBuf {
        self.folder.path().join(format!("{number}.sock"))
    }
}

/// Returns ports that are free now. All are held until all are chosen, so they differ.
fn free_ports(count: usize) -> Vec<u16> {
    let held: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port"))
        .collect();
    held.iter()
        .map(|socket| socket.local_addr().expect("its address").port())
        .collect()
}

/// Returns variables for a broker that is built with a sanitizer.
pub(super) fn environment(version: Version) -> Vec<(OsString, OsString)> {
    const KNOWN_LEAKS: &str = concat!(
        "suppressions=",
        env!("CARGO_MANIFEST_DIR"),
        "/src/broker/known_leaks:print_suppressions=0"
    );
    match version {
        Version::Sanitized => vec![("LSAN_OPTIONS".into(), KNOWN_LEAKS.into())],
        _ => Vec::new(),
    }
}
