//! Real brokers, each started for one test and stopped with it.
//!
//! `tests/brokers.sh` puts the releases under `target/brokers`; the environment variable `MOSQUITTO_BROKERS`
//! names another folder. Every broker has a folder of its own, ports that were free a moment ago, and a log
//! that a test can wait on. Nothing here sleeps for a guessed time: a broker counts as started when it logs
//! so, after it has opened its listeners.

mod builder;
mod lines;
mod version;

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

pub use builder::{Listener, MosquittoBuilder};
pub(crate) use lines::Lines;
pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};
pub use version::Version;

use crate::scratch::Scratch;

/// How long to wait for an expected event. Only a failing test waits that long, so the value suits a busy
/// machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How often to poll what cannot be waited on: a process that is not our child, or a file that grows.
const POLL: Duration = Duration::from_millis(3);

/// How long a broker may take to exit after SIGTERM.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// The environment variable with which a broker gets SIGTERM at the end of its test, so that it reports what it leaks.
/// Otherwise it is killed, which is faster.
const STOP_WITH_SIGTERM: &str = "STOP_WITH_SIGTERM";

/// How many times to choose other ports when another process takes one before the broker's `bind`.
const PORT_ATTEMPTS: usize = 20;

/// A broker that did not start.
pub struct StartError {
    /// What went wrong.
    pub reason: String,
    /// The broker's whole output.
    pub log: String,
    /// The exit status; `None` if the broker was still running, or was never started.
    pub status: Option<ExitStatus>,
}

impl StartError {
    fn port_was_taken(&self) -> bool {
        // 2.0 does not say why a websockets listener cannot be opened.
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

// As readable as Display, because `unwrap` prints this form in tests.
impl fmt::Debug for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for StartError {}

/// A broker that refused to start, as expected.
#[derive(Debug)]
pub struct Failed {
    /// The exit status. For a daemon it is the parent's.
    pub status: ExitStatus,
    /// The broker's whole output.
    pub log: String,
}

/// A broker that was stopped.
#[derive(Debug)]
pub struct Stopped {
    /// The exit status; `None` for a daemon, which is not our child.
    pub status: Option<ExitStatus>,
    /// The broker's whole output.
    pub log: String,
}

/// A running broker. Dropping it stops it; a failing test prints its log then.
pub struct Mosquitto {
    plan: Arc<MosquittoBuilder>,
    ports: Vec<u16>,
    process: BrokerProcess,
    log: Arc<Lines>,
    readers: Vec<JoinHandle<()>>,
    no_more_log: Arc<AtomicBool>,
}

enum BrokerProcess {
    Child(Child),
    Daemon(u32),
    Gone,
}

impl fmt::Debug for Mosquitto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mosquitto {} on {:?}", self.plan.version, self.ports)
    }
}

impl Mosquitto {
    /// Returns the configuration of a broker of this release, to be completed and started.
    #[must_use]
    pub fn builder(version: Version) -> MosquittoBuilder {
        // The name is short because the path of a Unix socket has at most 107 bytes.
        let folder =
            Arc::new(Scratch::new("broker").expect("a folder under the system's temporary one"));
        MosquittoBuilder {
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
            environment: builder::environment(version),
            under: Vec::new(),
        }
    }

    fn launch(plan: &Arc<MosquittoBuilder>, ports: Vec<u16>) -> Result<Mosquitto, StartError> {
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
        // These files may be left from an earlier broker in this folder, and would be taken for the new
        // one's.
        for stale in ["mosquitto.log", "mosquitto.pid"] {
            let _ = fs::remove_file(folder.join(stale));
        }

        let mut child = command(plan, &program, &conf)
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
        let mut broker = Mosquitto {
            plan: Arc::clone(plan),
            ports,
            process: BrokerProcess::Child(child),
            log,
            readers,
            no_more_log,
        };
        match broker.wait_until_it_runs() {
            Ok(()) => Ok(broker),
            Err((reason, status)) => {
                broker.end();
                // The log is moved out, so that dropping the broker does not print it a second time.
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
            // The broker logs this line after its listeners are open. A test connection would prove less: the
            // port may answer for another broker, and plugins would see a client connect.
            let runs = self.log.wait(0, POLL, |line| {
                line.starts_with("mosquitto version ") && line.ends_with(" running")
            });
            match &mut self.process {
                BrokerProcess::Child(child) => {
                    if let Some(status) = child.try_wait().expect("our own child") {
                        if !(self.plan.daemon && status.success()) {
                            return Err((format!("it ended with {status}"), Some(status)));
                        }
                        // The daemon exists before its parent exits. The pid file does not tell, because 2.1
                        // removes it when it refuses to start.
                        parent_ended = Some(status);
                        self.process = self
                            .find_daemon()
                            .map_or(BrokerProcess::Gone, BrokerProcess::Daemon);
                    }
                }
                BrokerProcess::Daemon(pid) => {
                    let pid = *pid;
                    if !self.owns(pid) {
                        self.process = BrokerProcess::Gone;
                    }
                }
                BrokerProcess::Gone => return Err(("the daemon ended".into(), parent_ended)),
            }
            let is_itself = matches!(
                (&self.process, self.plan.daemon),
                (BrokerProcess::Child(_), false) | (BrokerProcess::Daemon(_), _)
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

    /// Waits until the broker's main thread sleeps, which it only does while it waits for its clients.
    ///
    /// 2.0 loses signals: a SIGTERM between the line that says it runs and its main loop, and a SIGHUP while
    /// it handles another one.
    fn wait_until_idle(&self) {
        let pid = self.pid();
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/task/{pid}/stat")) else {
                return;
            };
            // The fields follow the program's name, which may contain anything and ends at the last
            // parenthesis.
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

    /// Whether `pid` is a live process of this broker: the number may belong to another process by now. A
    /// zombie has no command line any more.
    fn owns(&self, pid: u32) -> bool {
        let conf = self.plan.folder.path().join("mosquitto.conf");
        fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains(&*conf.to_string_lossy()))
    }

    /// Returns the release that runs.
    #[must_use]
    pub fn version(&self) -> Version {
        self.plan.version
    }

    /// Returns the port of the first TCP listener.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.ports[0]
    }

    /// Returns the ports of all TCP listeners, in the order in which they were added.
    #[must_use]
    pub fn ports(&self) -> &[u16] {
        &self.ports
    }

    /// Returns the sockets of all Unix listeners, in the order in which they were added.
    #[must_use]
    pub fn sockets(&self) -> Vec<PathBuf> {
        let all = self.plan.listeners.iter().enumerate();
        all.filter(|(_, listener)| listener.unix)
            .map(|(number, _)| self.plan.socket(number))
            .collect()
    }

    /// Returns the broker's folder, with its mosquitto.conf and the files that it writes.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.plan.folder.path()
    }

    /// Returns the broker's process ID.
    ///
    /// # Panics
    ///
    /// Panics when the broker has exited.
    #[must_use]
    pub fn pid(&self) -> u32 {
        match &self.process {
            BrokerProcess::Child(child) => child.id(),
            BrokerProcess::Daemon(pid) => *pid,
            BrokerProcess::Gone => panic!("the broker has ended"),
        }
    }

    /// Returns the log so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// Returns the current end of the log, for [`Mosquitto::wait_for_log_after`].
    #[must_use]
    pub fn log_mark(&self) -> usize {
        self.log.count()
    }

    /// Waits for a line of the log that contains `text`, and returns the first one. Returns `None` on
    /// timeout, or when no more lines can come.
    #[must_use]
    pub fn wait_for_log(&self, text: &str, within: Duration) -> Option<String> {
        self.wait_for_log_after(0, text, within)
    }

    /// Like [`Mosquitto::wait_for_log`], for lines written after the mark.
    #[must_use]
    pub fn wait_for_log_after(&self, mark: usize, text: &str, within: Duration) -> Option<String> {
        self.log
            .wait(mark, within, |line| line.contains(text))
            .map(|(_, line)| line)
    }

    /// Waits for a line of the log that contains `text`, and returns the first one.
    ///
    /// # Panics
    ///
    /// Panics with the whole log when the line does not come.
    pub fn expect_log(&self, text: &str) -> String {
        self.wait_for_log(text, PATIENCE)
            .unwrap_or_else(|| panic!("the broker never logged {text:?}"))
    }

    /// Sends SIGHUP, on which the broker reloads its configuration.
    pub fn sighup(&self) {
        self.signal(Signal::HUP);
    }

    /// Sends SIGHUP and returns when the broker has handled it. If a plugin sleeps meanwhile, it returns when
    /// the plugin sleeps.
    ///
    /// # Panics
    ///
    /// Panics when the broker does not handle it.
    pub fn reload(&self) {
        self.wait_until_idle();
        let mark = self.log_mark();
        self.sighup();
        let seen = self.wait_for_log_after(mark, "Reloading config", PATIENCE);
        assert!(seen.is_some(), "the broker does not reload");
        self.wait_until_idle();
    }

    /// Has the broker save its sessions and messages, and waits until it has.
    ///
    /// # Panics
    ///
    /// Panics when the broker does not do that.
    pub fn save(&self) {
        let mark = self.log_mark();
        self.signal(Signal::USR1);
        let seen = self.wait_for_log_after(mark, "Saving in-memory database", PATIENCE);
        assert!(seen.is_some(), "the broker does not save");
        self.wait_until_idle();
    }

    /// Sends a signal.
    ///
    /// # Panics
    ///
    /// Panics when the broker has exited.
    pub fn signal(&self, signal: Signal) {
        assert!(
            self.signal_if_running(signal),
            "the broker has ended, so it gets no {signal:?}"
        );
    }

    fn signal_if_running(&self, signal: Signal) -> bool {
        let pid = match &self.process {
            BrokerProcess::Child(child) => child.id(), // not waited for yet, so the number is still its own
            BrokerProcess::Daemon(pid) if self.owns(*pid) => *pid,
            _ => return false,
        };
        send_signal(signal, pid)
    }

    /// Waits until the broker exits by itself.
    pub fn wait_for_exit(&mut self, within: Duration) -> Option<Stopped> {
        let deadline = Instant::now() + within;
        loop {
            let ended = match &mut self.process {
                BrokerProcess::Child(child) => child.try_wait().expect("our own child").map(Some),
                BrokerProcess::Daemon(pid) => {
                    let pid = *pid;
                    (!self.owns(pid)).then_some(None)
                }
                BrokerProcess::Gone => Some(None),
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

    /// Whether the broker is running.
    pub fn is_running(&mut self) -> bool {
        self.wait_for_exit(Duration::ZERO).is_none()
    }

    /// Stops the broker with SIGTERM, as an operator would.
    ///
    /// # Panics
    ///
    /// Panics with the log when the broker has not exited after ten seconds.
    pub fn stop(mut self) -> Stopped {
        self.signal_if_running(Signal::TERM);
        self.wait_for_exit(STOP_WITHIN)
            .unwrap_or_else(|| panic!("the broker runs on {STOP_WITHIN:?} after SIGTERM"))
    }

    /// Kills the broker, as a power cut would.
    pub fn kill(mut self) -> Stopped {
        let status = self.end();
        Stopped {
            status,
            log: self.log(),
        }
    }

    /// Stops the broker and starts it again, with the same folder, configuration and ports and a new log.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`MosquittoBuilder::start`].
    pub fn restart(self) -> Result<Mosquitto, StartError> {
        let (plan, ports) = (Arc::clone(&self.plan), self.ports.clone());
        self.stop();
        Mosquitto::launch(&plan, ports)
    }

    /// Kills the broker and starts it again, like [`Self::restart`].
    ///
    /// # Errors
    ///
    /// Returns the errors of [`MosquittoBuilder::start`].
    pub fn restart_killed(self) -> Result<Mosquitto, StartError> {
        let (plan, ports) = (Arc::clone(&self.plan), self.ports.clone());
        self.kill();
        Mosquitto::launch(&plan, ports)
    }

    /// Makes sure that the process has exited and the log is complete.
    fn end(&mut self) -> Option<ExitStatus> {
        let status = match std::mem::replace(&mut self.process, BrokerProcess::Gone) {
            BrokerProcess::Child(mut child) => {
                let _ = child.kill();
                child.wait().ok()
            }
            BrokerProcess::Daemon(pid) => {
                while self.owns(pid) {
                    send_signal(Signal::KILL, pid);
                    thread::sleep(POLL);
                }
                None
            }
            BrokerProcess::Gone => None,
        };
        self.no_more_log.store(true, Ordering::Release);
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        status
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        if env::var_os(STOP_WITH_SIGTERM).is_some() {
            self.signal_if_running(Signal::TERM);
            self.wait_for_exit(STOP_WITHIN);
        }
        self.end();
        if thread::panicking() {
            eprintln!("--- the log of {self:?}\n{}---", self.log());
        }
    }
}

/// Sends a signal to a process and returns whether there was one. The caller knows that it is the right one.
pub(crate) fn send_signal(signal: Signal, pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| kill_process(pid, signal).is_ok())
}

/// Returns the command that runs the broker in its folder.
fn command(plan: &MosquittoBuilder, program: &Path, conf: &Path) -> Command {
    let mut words = plan.under.iter().map(OsString::as_os_str);
    let mut command = match words.next() {
        None => Command::new(program),
        Some(first) => {
            let mut command = Command::new(first);
            command.args(words).arg(program);
            command
        }
    };
    command
        .arg("-c")
        .arg(conf)
        .args(plan.daemon.then_some("-d"))
        .args(&plan.arguments);
    // Cargo points this variable at its own libraries, which the broker must not use.
    command
        .env_remove("LD_LIBRARY_PATH")
        .envs(plan.environment.iter().map(|(name, value)| (name, value)));
    command
        .current_dir(plan.folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}
