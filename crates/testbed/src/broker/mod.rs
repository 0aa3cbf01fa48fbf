//! Real brokers, started for one test each and gone with it.
//!
//! `tests/brokers.sh` puts the releases under `target/brokers`; another place can be named with the
//! environment variable `MOSQUITTO_BROKERS`. Every broker has a folder of its own, ports that were free a
//! moment ago, and a log that a test can wait on. Nothing here sleeps for a guessed time: a broker counts as
//! started when it says so itself, after it has opened its listeners.

mod builder;
mod lines;
mod version;

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

pub use builder::{Builder, Listener};
pub(crate) use lines::Lines;
pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};
pub use version::Version;

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
        // 2.0 does not say why a websockets listener cannot be made.
        let words = [
            "Address already in use",
            "Unable to create websockets listener",
        ];
        self.status.is_some() && words.iter().any(|words| self.log.contains(words))
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
