//! Real brokers, started for one test each and gone with it.
//!
//! `tests/brokers.sh` puts the releases under `target/brokers`; another place can be named with the
//! environment variable `MOSQUITTO_BROKERS`. Every broker has a folder of its own, ports that were free a
//! moment ago, and a log that a test can wait on. Nothing here sleeps for a guessed time: a broker counts as
//! started when it says so itself, after it has opened its listeners.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};

use crate::lock;
use crate::scratch::Scratch;

/// How long to wait for something that is expected to happen. It is only ever waited out by a test that is
/// about to fail, so it is sized for a busy machine and not for a quick verdict.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How often to look at what cannot be waited on (a process that is not our child, a file that grows).
const POLL: Duration = Duration::from_millis(3);

/// How long a broker may take to end after SIGTERM.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// How often to pick other ports when somebody took ours between the choice and the broker's `bind`.
const PORT_ATTEMPTS: usize = 20;

/// A release of Mosquitto, with the clients that belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// What Debian 12 ships. Ticks never come with `per_listener_settings true`.
    V2_0_11,
    /// The last of the 2.0 series that Debian shipped.
    V2_0_21,
    /// The first series in which a login can be answered later.
    V2_1_2,
    /// 2.1.2 with AddressSanitizer, from `tests/sanitized.sh`. It ends itself when memory is misused, or when
    /// some is lost when it stops; what it then writes is in its log.
    Sanitized,
    /// The broker at this path, whatever it is; made by [`Version::system`].
    System(&'static Path),
}

impl Version {
    /// The releases that the tests cover.
    pub const ALL: [Version; 3] = [Version::V2_0_11, Version::V2_0_21, Version::V2_1_2];

    /// Those of [`Version::ALL`] that `tests/brokers.sh` has set up.
    #[must_use]
    pub fn installed() -> Vec<Version> {
        Self::ALL
            .into_iter()
            .filter(|version| version.program("mosquitto").is_ok())
            .collect()
    }

    /// The broker at `path`: one that the machine has installed. Its clients are looked for beside it, where
    /// a distribution puts them, and then on the `PATH`.
    #[must_use]
    pub fn system(path: impl Into<PathBuf>) -> Version {
        // Leaked so that a version stays a small thing to copy. One path per call, in tests and the demo.
        Version::System(Box::leak(path.into().into_boxed_path()))
    }

    /// The name of the release's folder.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Version::V2_0_11 => "2.0.11",
            Version::V2_0_21 => "2.0.21",
            Version::V2_1_2 => "2.1.2",
            Version::Sanitized => "asan-2.1.2",
            Version::System(_) => "system",
        }
    }

    /// Where the release's program `name` (`mosquitto`, `mosquitto_pub`, …) is.
    ///
    /// # Errors
    /// Says what to do when it is not there.
    pub fn program(self, name: &str) -> Result<PathBuf, String> {
        if let Version::System(broker) = self {
            if name == "mosquitto" {
                return match broker.exists() {
                    true => Ok(broker.to_owned()),
                    false => Err(format!("there is no broker at {}", broker.display())),
                };
            }
            let folder = broker.parent().unwrap_or(Path::new("/"));
            let candidates = [folder.join(name), folder.join("../bin").join(name)];
            return Ok(candidates
                .into_iter()
                .find(|path| path.exists())
                .unwrap_or_else(|| name.into()));
        }
        let script = match self {
            Version::Sanitized if name != "mosquitto" => return Version::V2_1_2.program(name),
            Version::Sanitized => "tests/sanitized.sh",
            _ => "tests/brokers.sh",
        };
        let folder = brokers_folder();
        let path = folder.join(self.name()).join(name);
        match path.exists() {
            true => Ok(path),
            false => Err(format!(
                "Mosquitto {self} is not in {}: run {script}, or name the folder it filled with the environment \
                 variable MOSQUITTO_BROKERS",
                folder.display()
            )),
        }
    }

    /// The release as the broker itself states it, such as `2.1.2`.
    ///
    /// # Errors
    /// When the broker is missing, does not start, or states nothing.
    pub fn release(self) -> Result<String, String> {
        let program = self.program("mosquitto")?;
        let output = Command::new(&program)
            .arg("-h")
            .env_remove("LD_LIBRARY_PATH")
            .output()
            .map_err(|error| format!("{}: {error}", program.display()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        text.split_once("mosquitto version ")
            .and_then(|(_, rest)| rest.split_whitespace().next())
            .map(str::to_owned)
            .ok_or_else(|| format!("{} -h states no version: {text}", program.display()))
    }

    /// Whether this release can be told a login's outcome later (2.1 and newer).
    ///
    /// # Panics
    /// When [`Version::System`] does not say what it is.
    #[must_use]
    pub fn can_delay_logins(self) -> bool {
        match self {
            Version::V2_0_11 | Version::V2_0_21 => false,
            Version::V2_1_2 | Version::Sanitized => true,
            Version::System(_) => {
                let release = self.release().unwrap_or_else(|error| panic!("{error}"));
                let mut numbers = release
                    .split('.')
                    .map(|part| part.parse::<u32>().unwrap_or(0));
                (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (2, 1)
            }
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

fn brokers_folder() -> PathBuf {
    match std::env::var_os("MOSQUITTO_BROKERS") {
        Some(folder) => folder.into(),
        None => {
            let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
            workspace
                .expect("this crate is in tests/lab")
                .join("target/brokers")
        }
    }
}

/// One `listener` of a broker.
#[derive(Clone, Debug)]
pub struct Listener {
    unix: bool,
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

    /// Demands certificates that an authority in this PEM file has signed.
    #[must_use]
    pub fn client_ca(self, file: impl AsRef<Path>) -> Self {
        self.config(format!("cafile {}", file.as_ref().display()))
            .config("require_certificate true")
    }

    /// A plugin for this listener; the broker heeds the place only with `per_listener_settings true`.
    #[must_use]
    pub fn plugin(mut self, path: impl AsRef<Path>, options: &[(&str, &str)]) -> Self {
        self.lines.extend(plugin_lines(path.as_ref(), options));
        self
    }

    /// Further lines for this listener.
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

/// What a broker will be started with.
#[derive(Debug)]
pub struct Builder {
    version: Version,
    folder: Arc<Scratch>,
    listeners: Vec<Listener>,
    lines: Vec<String>,
    plugins: Vec<String>,
    allow_anonymous: Option<bool>,
    per_listener: bool,
    daemon: bool,
    persistence: bool,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    under: Vec<OsString>,
}

impl Builder {
    /// The broker's folder. It exists already, so that files that the configuration names can be put there;
    /// it goes away with the broker.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Adds a listener. Without any there is one, [`Listener::tcp`].
    #[must_use]
    pub fn listener(mut self, listener: Listener) -> Self {
        self.listeners.push(listener);
        self
    }

    /// Further lines of mosquitto.conf, before all listeners.
    #[must_use]
    pub fn config(mut self, lines: impl Into<String>) -> Self {
        self.lines.push(lines.into());
        self
    }

    /// A plugin for the whole broker: under every listener with `per_listener_settings true`, else once.
    #[must_use]
    pub fn plugin(mut self, path: impl AsRef<Path>, options: &[(&str, &str)]) -> Self {
        self.plugins.extend(plugin_lines(path.as_ref(), options));
        self
    }

    /// Logs what a broker logs as delivered, but for who comes and goes: for measuring, where lines for
    /// each client, and whoever reads them, would take the broker's time.
    #[must_use]
    pub fn quiet(self) -> Self {
        let kinds = ["none", "error", "warning", "notice", "information"];
        let lines: String = kinds.map(|kind| format!("log_type {kind}\n")).concat();
        self.config(lines + "connection_messages false")
    }

    /// `allow_anonymous`, where the broker expects it. Not stated unless this is called.
    #[must_use]
    pub fn allow_anonymous(mut self, allowed: bool) -> Self {
        self.allow_anonymous = Some(allowed);
        self
    }

    /// `per_listener_settings`.
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

    /// Keeps sessions and retained messages in the broker's folder, for [`Broker::restart`].
    #[must_use]
    pub fn persistence(mut self, on: bool) -> Self {
        self.persistence = on;
        self
    }

    /// A further `log_dest`, such as `topic`, beside the one that is read here.
    #[must_use]
    pub fn log_dest(self, destination: &str) -> Self {
        self.config(format!("log_dest {destination}"))
    }

    /// A further argument on the broker's command line, such as `-v`.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Runs the broker under another program, such as valgrind, given with its arguments.
    #[must_use]
    pub fn under(mut self, command: &[&str]) -> Self {
        self.under = command.iter().map(Into::into).collect();
        self
    }

    /// A variable in the broker's environment.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Starts the broker and returns when it listens.
    ///
    /// # Errors
    /// When it ends instead, or does not run after [`PATIENCE`].
    pub fn start(mut self) -> Result<Broker, StartError> {
        if self.listeners.is_empty() {
            self.listeners.push(Listener::tcp());
        }
        let plan = Arc::new(self);
        let mut attempt = 0;
        loop {
            attempt += 1;
            match Broker::launch(&plan, free_ports(plan.tcp_listeners())) {
                Err(error) if error.port_was_taken() && attempt < PORT_ATTEMPTS => {}
                result => return result,
            }
        }
    }

    /// Starts a broker that must refuse to start.
    ///
    /// # Panics
    /// When it starts, or when there is no broker to start.
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

    fn conf(&self, ports: &[u16]) -> String {
        let folder = self.folder.path().display();
        let mut conf = String::new();
        let mut line = |text: &str| {
            conf.push_str(text);
            conf.push('\n');
        };
        if self.per_listener {
            line("per_listener_settings true"); // only heeded before everything that it is about
        }
        // A broker that root starts becomes the user `mosquitto`, who need not exist here and could not read
        // the folder. Whoever runs the tests is who runs the broker.
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

    fn socket(&self, number: usize) -> PathBuf {
        self.folder.path().join(format!("{number}.sock"))
    }
}

/// Ports that nobody uses now. All are held until all are chosen, so they differ.
fn free_ports(count: usize) -> Vec<u16> {
    let held: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port"))
        .collect();
    held.iter()
        .map(|socket| socket.local_addr().expect("its address").port())
        .collect()
}

/// A broker that did not start.
pub struct StartError {
    /// What was seen.
    pub reason: String,
    /// All that the broker wrote.
    pub log: String,
    /// How it ended; `None` if it had not, or was never there.
    pub status: Option<ExitStatus>,
}

impl StartError {
    fn port_was_taken(&self) -> bool {
        self.status.is_some() && self.log.contains("Address already in use")
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the broker did not start: {}\n{}", self.reason, self.log)
    }
}

// As readable as Display, because `unwrap` is how a test will print it.
impl fmt::Debug for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for StartError {}

/// A broker that refused to start, as was expected of it.
#[derive(Debug)]
pub struct Failed {
    /// How it ended. Of a daemon, only that its parent ended well is known.
    pub status: ExitStatus,
    /// All that it wrote.
    pub log: String,
}

/// A broker that was asked to stop.
#[derive(Debug)]
pub struct Stopped {
    /// How it ended; unknown (`None`) of a daemon, whose parent is somebody else.
    pub status: Option<ExitStatus>,
    /// All that it wrote.
    pub log: String,
}

/// A running broker. Dropping it ends it; a test that fails prints its log on the way.
pub struct Broker {
    plan: Arc<Builder>,
    ports: Vec<u16>,
    process: Process,
    log: Arc<Lines>,
    readers: Vec<JoinHandle<()>>,
    no_more_log: Arc<AtomicBool>,
}

enum Process {
    Child(Child),
    Daemon(u32),
    Gone,
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mosquitto {} on {:?}", self.plan.version, self.ports)
    }
}

impl Broker {
    /// A broker of this release, to be configured and started.
    #[must_use]
    pub fn builder(version: Version) -> Builder {
        // A short name: the path of a Unix socket may have 107 bytes.
        let folder =
            Arc::new(Scratch::new("broker").expect("a folder under the system's temporary one"));
        Builder {
            version,
            folder,
            listeners: Vec::new(),
            lines: Vec::new(),
            plugins: Vec::new(),
            allow_anonymous: None,
            per_listener: false,
            daemon: false,
            persistence: false,
            arguments: Vec::new(),
            environment: Vec::new(),
            under: Vec::new(),
        }
    }

    fn launch(plan: &Arc<Builder>, ports: Vec<u16>) -> Result<Broker, StartError> {
        let nothing_ran = |reason: String| StartError {
            reason,
            log: String::new(),
            status: None,
        };
        let program = plan.version.program("mosquitto").map_err(nothing_ran)?;
        let folder = plan.folder.path();
        let conf = folder.join("mosquitto.conf");
        fs::write(&conf, plan.conf(&ports))
            .map_err(|error| nothing_ran(format!("{}: {error}", conf.display())))?;
        // Left by an earlier broker in this folder; read again they would be taken for this one's.
        for stale in ["mosquitto.log", "mosquitto.pid"] {
            let _ = fs::remove_file(folder.join(stale));
        }

        let mut words = plan.under.iter().map(OsString::as_os_str);
        let mut command = match words.next() {
            None => Command::new(&program),
            Some(first) => {
                let mut command = Command::new(first);
                command.args(words).arg(&program);
                command
            }
        };
        command
            .arg("-c")
            .arg(&conf)
            .args(plan.daemon.then_some("-d"))
            .args(&plan.arguments);
        // Cargo points this at its own libraries, which are none of the broker's business.
        command
            .env_remove("LD_LIBRARY_PATH")
            .envs(plan.environment.iter().map(|(name, value)| (name, value)));
        command
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .map_err(|error| nothing_ran(format!("{}: {error}", program.display())))?;

        let log = Arc::new(Lines::default());
        let no_more_log = Arc::new(AtomicBool::new(false));
        let mut readers = vec![
            log.read_from(child.stdout.take().expect("piped")),
            log.read_from(child.stderr.take().expect("piped")),
        ];
        if plan.daemon {
            readers.push(log.follow(folder.join("mosquitto.log"), Arc::clone(&no_more_log)));
        }
        let mut broker = Broker {
            plan: Arc::clone(plan),
            ports,
            process: Process::Child(child),
            log,
            readers,
            no_more_log,
        };
        match broker.wait_until_it_runs() {
            Ok(()) => Ok(broker),
            Err((reason, status)) => {
                broker.end();
                // Moved out, so that dropping the broker has no log to print a second time.
                Err(StartError {
                    reason,
                    log: broker.log.take(),
                    status,
                })
            }
        }
    }

    fn wait_until_it_runs(&mut self) -> Result<(), (String, Option<ExitStatus>)> {
        let deadline = Instant::now() + PATIENCE;
        let mut parent_ended = None;
        loop {
            // The line comes after the listeners are open. That is why it is the sign, and not a connection:
            // what answers on a port need not be this broker, and plugins would see a client come and go.
            let runs = self.log.wait(0, POLL, |line| {
                line.starts_with("mosquitto version ") && line.ends_with(" running")
            });
            match &mut self.process {
                Process::Child(child) => {
                    if let Some(status) = child.try_wait().expect("our own child") {
                        if !(self.plan.daemon && status.success()) {
                            return Err((format!("it ended with {status}"), Some(status)));
                        }
                        // The daemon was there before its parent ended. Not asked of the pid file, which 2.1
                        // removes when it refuses to start.
                        parent_ended = Some(status);
                        self.process = self.find_daemon().map_or(Process::Gone, Process::Daemon);
                    }
                }
                Process::Daemon(pid) => {
                    let pid = *pid;
                    if !self.owns(pid) {
                        self.process = Process::Gone;
                    }
                }
                Process::Gone => return Err(("the daemon ended".into(), parent_ended)),
            }
            let is_itself = matches!(
                (&self.process, self.plan.daemon),
                (Process::Child(_), false) | (Process::Daemon(_), _)
            );
            if runs.is_some() && is_itself {
                self.wait_until_idle();
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err((format!("it does not run after {PATIENCE:?}"), None));
            }
        }
    }

    /// Waits until the broker's main thread sleeps, which it does only to wait for its clients.
    ///
    /// Needed because 2.0 forgets signals: a SIGTERM between the line that says it runs and the loop that it
    /// then enters, a SIGHUP while it acts on another.
    fn wait_until_idle(&self) {
        let pid = self.pid();
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/task/{pid}/stat")) else {
                return;
            };
            // After the program's name, which may hold anything but ends at the last parenthesis.
            if stat
                .rsplit_once(") ")
                .is_some_and(|(_, rest)| rest.starts_with('S'))
            {
                return;
            }
            thread::sleep(POLL);
        }
    }

    fn find_daemon(&self) -> Option<u32> {
        let processes = fs::read_dir("/proc")
            .expect("the list of processes")
            .flatten();
        let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.find(|pid| self.owns(*pid))
    }

    /// Whether `pid` is a live process of this broker's: a number alone may by now be somebody else's. What
    /// has ended, but was not yet waited for by its parent, has no command line any more.
    fn owns(&self, pid: u32) -> bool {
        let conf = self.plan.folder.path().join("mosquitto.conf");
        fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains(&*conf.to_string_lossy()))
    }

    /// The release that runs.
    #[must_use]
    pub fn version(&self) -> Version {
        self.plan.version
    }

    /// The port of the first TCP listener.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.ports[0]
    }

    /// The ports of all TCP listeners, in the order in which they were added.
    #[must_use]
    pub fn ports(&self) -> &[u16] {
        &self.ports
    }

    /// The sockets of all Unix listeners, in the order in which they were added.
    #[must_use]
    pub fn sockets(&self) -> Vec<PathBuf> {
        let all = self.plan.listeners.iter().enumerate();
        all.filter(|(_, listener)| listener.unix)
            .map(|(number, _)| self.plan.socket(number))
            .collect()
    }

    /// The broker's folder: its mosquitto.conf and what else it writes.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.plan.folder.path()
    }

    /// The broker's process.
    ///
    /// # Panics
    /// When it has ended.
    #[must_use]
    pub fn pid(&self) -> u32 {
        match &self.process {
            Process::Child(child) => child.id(),
            Process::Daemon(pid) => *pid,
            Process::Gone => panic!("the broker has ended"),
        }
    }

    /// All that the broker has written so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// The place in the log that is its end now, for [`Broker::wait_for_log_after`].
    #[must_use]
    pub fn log_mark(&self) -> usize {
        self.log.count()
    }

    /// The first line of the log that holds `text`, waiting for it if need be. `None` when it has not come in
    /// time, or cannot come any more.
    #[must_use]
    pub fn wait_for_log(&self, text: &str, within: Duration) -> Option<String> {
        self.wait_for_log_after(0, text, within)
    }

    /// Like [`Broker::wait_for_log`], for lines written after the mark.
    #[must_use]
    pub fn wait_for_log_after(&self, mark: usize, text: &str, within: Duration) -> Option<String> {
        self.log
            .wait(mark, within, |line| line.contains(text))
            .map(|(_, line)| line)
    }

    /// The first line of the log that holds `text`.
    ///
    /// # Panics
    /// With the whole log, when the line does not come.
    pub fn expect_log(&self, text: &str) -> String {
        self.wait_for_log(text, PATIENCE)
            .unwrap_or_else(|| panic!("the broker never logged {text:?}"))
    }

    /// Sends SIGHUP: read the configuration again.
    pub fn sighup(&self) {
        self.signal(Signal::HUP);
    }

    /// Sends SIGHUP and returns when the broker has acted on it. (If a plugin sleeps over it, when the plugin
    /// sleeps.)
    ///
    /// # Panics
    /// When it does not.
    pub fn reload(&self) {
        let mark = self.log_mark();
        self.sighup();
        let seen = self.wait_for_log_after(mark, "Reloading config", PATIENCE);
        assert!(seen.is_some(), "the broker does not reload");
        self.wait_until_idle();
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// When the broker has ended.
    pub fn signal(&self, signal: Signal) {
        assert!(
            self.signal_if_running(signal),
            "the broker has ended, so it gets no {signal:?}"
        );
    }

    fn signal_if_running(&self, signal: Signal) -> bool {
        let pid = match &self.process {
            Process::Child(child) => child.id(), // not waited for yet, so the number is still its own
            Process::Daemon(pid) if self.owns(*pid) => *pid,
            _ => return false,
        };
        send_signal(signal, pid)
    }

    /// Waits for the broker to end by itself.
    pub fn wait_for_exit(&mut self, within: Duration) -> Option<Stopped> {
        let deadline = Instant::now() + within;
        loop {
            let ended = match &mut self.process {
                Process::Child(child) => child.try_wait().expect("our own child").map(Some),
                Process::Daemon(pid) => {
                    let pid = *pid;
                    (!self.owns(pid)).then_some(None)
                }
                Process::Gone => Some(None),
            };
            if let Some(status) = ended {
                self.end();
                return Some(Stopped {
                    status,
                    log: self.log(),
                });
            }
            if Instant::now() > deadline {
                return None;
            }
            thread::sleep(POLL);
        }
    }

    /// Whether the broker runs.
    pub fn is_running(&mut self) -> bool {
        self.wait_for_exit(Duration::ZERO).is_none()
    }

    /// Stops the broker as an operator would.
    ///
    /// # Panics
    /// With the log, when it has not ended ten seconds after SIGTERM.
    pub fn stop(mut self) -> Stopped {
        self.signal_if_running(Signal::TERM);
        self.wait_for_exit(STOP_WITHIN)
            .unwrap_or_else(|| panic!("the broker runs on {STOP_WITHIN:?} after SIGTERM"))
    }

    /// Ends the broker without a warning, as a power cut would.
    pub fn kill(mut self) -> Stopped {
        let status = self.end();
        Stopped {
            status,
            log: self.log(),
        }
    }

    /// Stops the broker and starts it again: same folder, same configuration, same ports, a new log.
    ///
    /// # Errors
    /// As [`Builder::start`].
    pub fn restart(self) -> Result<Broker, StartError> {
        let (plan, ports) = (Arc::clone(&self.plan), self.ports.clone());
        self.stop();
        Broker::launch(&plan, ports)
    }

    /// Makes sure that the process is gone and the log is complete.
    fn end(&mut self) -> Option<ExitStatus> {
        let status = match std::mem::replace(&mut self.process, Process::Gone) {
            Process::Child(mut child) => {
                let _ = child.kill();
                child.wait().ok()
            }
            Process::Daemon(pid) => {
                while self.owns(pid) {
                    send_signal(Signal::KILL, pid);
                    thread::sleep(POLL);
                }
                None
            }
            Process::Gone => None,
        };
        self.no_more_log.store(true, Ordering::Release);
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        status
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.end();
        if thread::panicking() {
            eprintln!("--- the log of {self:?}\n{}---", self.log());
        }
    }
}

/// Sends a signal to one process, and says whether there was one. The caller knows that it is the right one.
pub(crate) fn send_signal(signal: Signal, pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| kill_process(pid, signal).is_ok())
}

/// What a process writes, line by line as it comes, and a way to wait for more.
#[derive(Default)]
pub(crate) struct Lines {
    state: Mutex<LinesState>,
    grown: Condvar,
}

#[derive(Default)]
struct LinesState {
    lines: Vec<String>,
    writers: usize,
}

impl Lines {
    fn state(&self) -> MutexGuard<'_, LinesState> {
        lock(&self.state)
    }

    pub(crate) fn text(&self) -> String {
        self.state()
            .lines
            .iter()
            .flat_map(|line| [line, "\n"])
            .collect()
    }

    fn take(&self) -> String {
        let text = self.text();
        self.state().lines.clear();
        text
    }

    pub(crate) fn count(&self) -> usize {
        self.state().lines.len()
    }

    /// The first line from `from` on that is `wanted`, with its place. `None` when the time is up, or when
    /// nobody is left to write one.
    pub(crate) fn wait(
        &self,
        mut from: usize,
        within: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> Option<(usize, String)> {
        let deadline = Instant::now() + within;
        let mut state = self.state();
        loop {
            if let Some((place, line)) = state
                .lines
                .iter()
                .enumerate()
                .skip(from)
                .find(|(_, line)| wanted(line))
            {
                return Some((place, line.clone()));
            }
            from = from.max(state.lines.len());
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || state.writers == 0 {
                return None;
            }
            state = self
                .grown
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    fn push(&self, line: &[u8]) {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line); // a terminal ends lines with both
        let line = String::from_utf8_lossy(line).into_owned();
        self.state().lines.push(line);
        self.grown.notify_all();
    }

    fn writer(self: &Arc<Self>, work: impl FnOnce(&Lines) + Send + 'static) -> JoinHandle<()> {
        self.state().writers += 1;
        let lines = Arc::clone(self);
        thread::spawn(move || {
            work(&lines);
            lines.state().writers -= 1;
            lines.grown.notify_all();
        })
    }

    /// Takes in all that comes from a pipe or terminal until it is closed (which a terminal calls an error).
    pub(crate) fn read_from(self: &Arc<Self>, pipe: impl Read + Send + 'static) -> JoinHandle<()> {
        self.writer(move |lines| {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            while pipe
                .read_until(b'\n', &mut line)
                .is_ok_and(|length| length > 0)
            {
                lines.push(&line);
                line.clear();
            }
        })
    }

    /// Takes in a file as it grows, until told that it does not any more.
    fn follow(self: &Arc<Self>, path: PathBuf, no_more: Arc<AtomicBool>) -> JoinHandle<()> {
        self.writer(move |lines| {
            let mut file = None;
            let mut line = Vec::new();
            loop {
                let last = no_more.load(Ordering::Acquire); // asked before reading, so nothing is missed
                file = file.or_else(|| File::open(&path).map(BufReader::new).ok());
                if let Some(file) = &mut file {
                    while file
                        .read_until(b'\n', &mut line)
                        .is_ok_and(|length| length > 0)
                    {
                        if line.ends_with(b"\n") {
                            lines.push(&line);
                            line.clear();
                        }
                    }
                }
                if last {
                    break;
                }
                thread::sleep(POLL);
            }
            if !line.is_empty() {
                lines.push(&line);
            }
        })
    }
}
