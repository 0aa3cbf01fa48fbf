//! MQTT clients: `mosquitto_pub` and `mosquitto_sub` of any release, and [`raw`], a small client for tests
//! that need exact bytes.
//!
//! A test shows that something does *not* arrive without waiting for it: after the message that must not
//! arrive, it sends one that must ([`Subscription::messages_before`], [`raw::RawClient::messages_before_pong`]).

pub mod raw;
pub mod websocket;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::broker::{Lines, Mosquitto, PATIENCE, Signal, Version, send_signal};

/// A version of MQTT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// MQTT 3.1.
    V31,
    /// MQTT 3.1.1.
    V311,
    /// MQTT 5.
    V5,
}

impl Protocol {
    fn argument(self) -> &'static str {
        match self {
            Protocol::V31 => "mqttv31",
            Protocol::V311 => "mqttv311",
            Protocol::V5 => "mqttv5",
        }
    }
}

/// A call of `mosquitto_pub` or `mosquitto_sub`. Nothing runs until [`MosquittoClient::publish`] or
/// [`MosquittoClient::subscribe`], and the same description can be used many times.
#[derive(Clone, Debug)]
pub struct MosquittoClient {
    version: Version,
    host: String,
    port: u16,
    unix: Option<PathBuf>,
    protocol: Protocol,
    qos: u8,
    retain: bool,
    arguments: Vec<OsString>,
}

impl MosquittoClient {
    /// Returns a client for the broker's first TCP listener, from the same release as the broker.
    #[must_use]
    pub fn of(broker: &Mosquitto) -> Self {
        Self::new(
            broker.version(),
            broker.ports().first().copied().unwrap_or(0),
        )
    }

    /// Returns a client from this release, for a listener on 127.0.0.1.
    #[must_use]
    pub fn new(version: Version, port: u16) -> Self {
        Self {
            version,
            host: "127.0.0.1".into(),
            port,
            unix: None,
            protocol: Protocol::V311,
            qos: 0,
            retain: false,
            arguments: Vec::new(),
        }
    }

    /// Sets the port.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Sets the host name: one that the broker's certificate is for, such as `localhost`.
    #[must_use]
    pub fn host(mut self, host: &str) -> Self {
        host.clone_into(&mut self.host);
        self
    }

    /// Uses a Unix socket in place of host and port.
    #[must_use]
    pub fn unix(mut self, socket: impl Into<PathBuf>) -> Self {
        self.unix = Some(socket.into());
        self
    }

    /// Sets the version of MQTT. The default is 3.1.1.
    #[must_use]
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// Sets the client ID.
    #[must_use]
    pub fn id(self, id: &str) -> Self {
        self.arg("-i").arg(id)
    }

    /// Sets the user name.
    #[must_use]
    pub fn username(self, name: &str) -> Self {
        self.arg("-u").arg(name)
    }

    /// Sets the password.
    #[must_use]
    pub fn password(self, password: &str) -> Self {
        self.arg("-P").arg(password)
    }

    /// Uses TLS and trusts the authorities in this PEM file.
    #[must_use]
    pub fn ca_file(self, file: impl AsRef<Path>) -> Self {
        self.arg("--cafile").arg(file.as_ref())
    }

    /// Sets the client's certificate.
    #[must_use]
    pub fn certificate(self, certificate: impl AsRef<Path>, key: impl AsRef<Path>) -> Self {
        self.arg("--cert")
            .arg(certificate.as_ref())
            .arg("--key")
            .arg(key.as_ref())
    }

    /// Sets the quality of service of publications and subscriptions.
    #[must_use]
    pub fn qos(mut self, qos: u8) -> Self {
        self.qos = qos;
        self
    }

    /// Sets whether messages are retained.
    #[must_use]
    pub fn retain(mut self, retain: bool) -> Self {
        self.retain = retain;
        self
    }

    /// Sets a will. `payload` must not be empty.
    #[must_use]
    pub fn will(self, topic: &str, payload: &str, qos: u8, retain: bool) -> Self {
        let client = self
            .arg("--will-topic")
            .arg(topic)
            .arg("--will-payload")
            .arg(payload);
        let client = client.arg("--will-qos").arg(qos.to_string());
        if retain {
            client.arg("--will-retain")
        } else {
            client
        }
    }

    /// Asks the broker to keep the session (`-c`). This needs a client ID; in MQTT 5 the session never
    /// expires.
    #[must_use]
    pub fn keep_session(self) -> Self {
        self.arg("-c")
    }

    /// Sets the keep-alive interval, in seconds.
    #[must_use]
    pub fn keepalive(self, seconds: u16) -> Self {
        self.arg("-k").arg(seconds.to_string())
    }

    /// Adds an MQTT 5 property of the command `connect`, `publish`, `subscribe`, `will` or `disconnect`.
    #[must_use]
    pub fn property(self, command: &str, name: &str, value: &str) -> Self {
        self.arg("-D").arg(command).arg(name).arg(value)
    }

    /// Adds any other argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Publishes one message and waits until `mosquitto_pub` exits.
    ///
    /// # Panics
    ///
    /// Panics when it does not exit in time.
    pub fn publish(&self, topic: &str, payload: impl AsRef<[u8]>) -> ClientExit {
        self.start_publish(topic, payload).outcome()
    }

    /// Starts to publish one message and does not wait.
    pub fn start_publish(&self, topic: &str, payload: impl AsRef<[u8]>) -> Running {
        let payload = payload.as_ref();
        let mut command = self.command("mosquitto_pub");
        command.arg("-t").arg(topic);
        // The payload goes through standard input, so that it can be any bytes of any length.
        command.arg(if payload.is_empty() { "-n" } else { "-s" });
        if self.retain {
            command.arg("-r");
        }
        let mut running = Running::start(command);
        // The client may have rejected its arguments and exited already; its exit status says so.
        let _ = running
            .child
            .stdin
            .take()
            .expect("piped")
            .write_all(payload);
        running
    }

    /// Starts `mosquitto_sub` with these filters.
    pub fn subscribe(&self, filters: &[&str]) -> Subscription {
        let mut command = self.command("mosquitto_sub");
        for filter in filters {
            command.arg("-t").arg(filter);
        }
        // The payload is hexadecimal and the topic last, so every message is one line that can be parsed.
        command.args(["-F", "MESSAGE %q %r %x %t"]);
        let mut running = Running::start(command);
        drop(running.child.stdin.take());
        Subscription { running, read: 0 }
    }

    fn command(&self, name: &str) -> Command {
        let program = self
            .version
            .program(name)
            .unwrap_or_else(|error| panic!("{error}"));
        let mut command = Command::new(program);
        match &self.unix {
            Some(socket) => command.arg("--unix").arg(socket),
            None => command.args(["-h", &self.host, "-p", &self.port.to_string()]),
        };
        command
            .args([
                "-d",
                "-V",
                self.protocol.argument(),
                "-q",
                &self.qos.to_string(),
            ])
            .args(&self.arguments);
        // The user who runs the tests may have configuration files for these programs.
        command
            .env("XDG_CONFIG_HOME", "/dev/null")
            .env_remove("LD_LIBRARY_PATH");
        command
    }
}

/// How a client exited.
#[derive(Clone)]
pub struct ClientExit {
    /// The exit status. After a refused CONNECT it is the reason: 5 in MQTT 3, 0x87 in MQTT 5.
    pub status: ExitStatus,
    /// Its standard output, which lists each packet.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl ClientExit {
    /// Returns the exit status as a number; `None` after a signal.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Whether the client exited without an error.
    #[must_use]
    pub fn success(&self) -> bool {
        self.status.success()
    }

    /// Requires success.
    ///
    /// # Panics
    ///
    /// Panics with the client's output.
    #[track_caller]
    pub fn expect_success(self) -> Self {
        assert!(self.success(), "the client failed: {self:?}");
        self
    }
}

impl fmt::Debug for ClientExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}{}", self.status, self.stdout, self.stderr)
    }
}

/// A running client. Dropping it kills it.
pub struct Running {
    child: Child,
    stdout: Arc<Lines>,
    stderr: Arc<Lines>,
    readers: Vec<JoinHandle<()>>,
}

impl Running {
    fn start(mut command: Command) -> Self {
        // Through a pipe, these programs write only when their buffer is full or they exit. To a terminal
        // they write each line at once, so a SUBACK can be seen.
        let (stdout, terminal) = terminal().expect("a pseudo-terminal");
        command
            .stdin(Stdio::piped())
            .stdout(terminal)
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        drop(command); // and with it our hold on the terminal, or its end would never be seen
        let (said, complained) = (Arc::new(Lines::default()), Arc::new(Lines::default()));
        let readers = vec![
            said.read_from(stdout),
            complained.read_from(child.stderr.take().expect("piped")),
        ];
        Self {
            child,
            stdout: said,
            stderr: complained,
            readers,
        }
    }

    /// Waits until the client exits by itself.
    pub fn wait(&mut self, within: Duration) -> Option<ClientExit> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                for reader in self.readers.drain(..) {
                    let _ = reader.join();
                }
                return Some(ClientExit {
                    status,
                    stdout: self.stdout.text(),
                    stderr: self.stderr.text(),
                });
            }
            if Instant::now() > deadline {
                return None;
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until the client exits, which it is expected to do soon.
    ///
    /// # Panics
    ///
    /// Panics with the client's output when it does not.
    #[track_caller]
    pub fn outcome(mut self) -> ClientExit {
        match self.wait(PATIENCE) {
            Some(outcome) => outcome,
            None => panic!(
                "the client does not end: {}{}",
                self.stdout.text(),
                self.stderr.text()
            ),
        }
    }

    /// Waits for a line of the client's output that contains `text`, such as `received CONNACK`.
    #[must_use]
    pub fn wait_for_line(&self, text: &str, within: Duration) -> Option<String> {
        self.stdout
            .wait(0, within, |line| line.contains(text))
            .map(|(_, line)| line)
    }

    /// Kills the client, as if its machine had failed: without a DISCONNECT, so the broker publishes its
    /// will.
    pub fn kill(mut self) -> ClientExit {
        let _ = self.child.kill();
        self.outcome()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A message that a subscriber received.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// The topic.
    pub topic: String,
    /// The payload.
    pub payload: Vec<u8>,
    /// The quality of service with which it was delivered.
    pub qos: u8,
    /// Whether it was delivered as a retained message.
    pub retain: bool,
}

impl Message {
    /// The payload as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }

    /// Parses what `-F "MESSAGE %q %r %x %t"` writes.
    fn parse(line: &str) -> Option<Message> {
        let mut parts = line.strip_prefix("MESSAGE ")?.splitn(4, ' ');
        let (qos, retain, hex, topic) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let digits = hex
            .as_bytes()
            .as_chunks::<2>()
            .0
            .iter()
            .map(|two| std::str::from_utf8(two).ok());
        let payload = digits
            .map(|two| u8::from_str_radix(two?, 16).ok())
            .collect::<Option<_>>()?;
        Some(Message {
            topic: topic.into(),
            payload,
            qos: qos.parse().ok()?,
            retain: retain == "1",
        })
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let retained = if self.retain { ", retained" } else { "" };
        write!(
            f,
            "{}: {:?} (QoS {}{retained})",
            self.topic,
            self.text(),
            self.qos
        )
    }
}

/// A running `mosquitto_sub`. It reconnects when the broker disconnects it. Dropping it kills it.
pub struct Subscription {
    running: Running,
    /// The number of lines that have been searched for messages.
    read: usize,
}

impl Subscription {
    /// Waits for the SUBACK and returns its codes, one for each filter. Returns how the client exited if it
    /// did so instead.
    ///
    /// # Panics
    ///
    /// Panics when neither happens in time.
    #[track_caller]
    pub fn wait_subscribed(&mut self) -> Result<Vec<u8>, ClientExit> {
        match self
            .running
            .stdout
            .wait(0, PATIENCE, |line| line.starts_with("Subscribed (mid: "))
        {
            Some((_, line)) => {
                let codes = line.split_once("): ").map_or("", |(_, codes)| codes);
                Ok(codes
                    .split(", ")
                    .map(|code| code.parse().expect("a code"))
                    .collect())
            }
            None => match self.running.wait(PATIENCE) {
                Some(outcome) => Err(outcome),
                None => panic!("no SUBACK came: {}", self.running.stdout.text()),
            },
        }
    }

    /// Requires that every filter was granted.
    ///
    /// # Panics
    ///
    /// Panics when one was not.
    #[must_use]
    #[track_caller]
    pub fn subscribed(mut self) -> Self {
        match self.wait_subscribed() {
            Ok(codes) if codes.iter().all(|code| *code <= 2) => self,
            other => panic!("the subscription was not granted: {other:?}"),
        }
    }

    /// Returns the next message that was not returned before, or `None` on timeout.
    pub fn wait_message(&mut self, within: Duration) -> Option<Message> {
        let found = self
            .running
            .stdout
            .wait(self.read, within, |line| line.starts_with("MESSAGE "));
        let (place, line) = found?;
        self.read = place + 1;
        Some(Message::parse(&line).unwrap_or_else(|| panic!("not a message: {line:?}")))
    }

    /// Returns the next message.
    ///
    /// # Panics
    ///
    /// Panics when none comes in time.
    #[track_caller]
    pub fn expect_message(&mut self) -> Message {
        match self.wait_message(PATIENCE) {
            Some(message) => message,
            None => panic!(
                "no message came: {}{}",
                self.running.stdout.text(),
                self.running.stderr.text()
            ),
        }
    }

    /// Returns all messages so far, including those returned before.
    #[must_use]
    pub fn messages(&self) -> Vec<Message> {
        self.running
            .stdout
            .text()
            .lines()
            .filter_map(Message::parse)
            .collect()
    }

    /// Lets `publisher` send a message of its own on `topic`, waits until it arrives here, and returns the
    /// messages that arrived before it and were not returned earlier. What was published before the call and
    /// is not among them will never arrive.
    ///
    /// The publisher must be allowed to write `topic` and this client to read it, with the same quality of
    /// service as the message that must not arrive: the broker keeps the order only within one quality of
    /// service.
    ///
    /// # Panics
    ///
    /// Panics when the message does not arrive.
    #[track_caller]
    pub fn messages_before(&mut self, publisher: &MosquittoClient, topic: &str) -> Vec<Message> {
        let sentinel = sentinel();
        publisher.publish(topic, &sentinel).expect_success();
        let mut before = Vec::new();
        loop {
            let message = self.expect_message();
            if message.payload == sentinel.as_bytes() {
                return before;
            }
            before.push(message);
        }
    }

    /// Waits until the client exits by itself.
    pub fn wait_for_exit(&mut self, within: Duration) -> Option<ClientExit> {
        self.running.wait(within)
    }

    /// Waits for a line of the client's output that contains `text`, such as `received DISCONNECT`.
    #[must_use]
    pub fn wait_for_line(&self, text: &str, within: Duration) -> Option<String> {
        self.running.wait_for_line(text, within)
    }

    /// Lets the client disconnect and exit. In MQTT 5, mosquitto_sub then asks the broker to publish its
    /// will, if it has one.
    ///
    /// # Panics
    ///
    /// Panics when it does not exit.
    #[track_caller]
    pub fn stop(mut self) -> ClientExit {
        // This is our own child and was not waited for, so no other process can have its ID.
        if self
            .running
            .child
            .try_wait()
            .expect("our own child")
            .is_none()
        {
            send_signal(Signal::TERM, self.running.child.id());
        }
        self.running.outcome()
    }

    /// Kills the client, as if its machine had failed: without a DISCONNECT, so the broker publishes its
    /// will.
    pub fn kill(self) -> ClientExit {
        self.running.kill()
    }
}

/// Opens a pseudo-terminal: our end, and the end that a program writes to.
pub(crate) fn terminal() -> io::Result<(File, File)> {
    // Another client that starts meanwhile must not inherit either end: it would keep this one open.
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&ours)?;
    unlockpt(&ours)?;
    let name = ptsname(&ours, Vec::new())?;
    let theirs = rustix::fs::open(
        &*name,
        OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    Ok((ours.into(), theirs.into()))
}

/// Returns a payload that no other message has.
pub(crate) fn sentinel() -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!(
        "sentinel {}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}
