//! Real clients: `mosquitto_pub` and `mosquitto_sub` of any release, and in [`raw`] a small client of our own
//! for tests that need the very bytes.
//!
//! That something does *not* arrive is shown without waiting for it: after the thing that must not arrive,
//! something is sent that must ([`Subscription::messages_before`], [`raw::Client::messages_before_pong`]).

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

use crate::broker::{Broker, Lines, PATIENCE, Signal, Version, send_signal};

/// A version of MQTT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// MQTT 3.1
    V31,
    /// MQTT 3.1.1
    V311,
    /// MQTT 5
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

/// How to call `mosquitto_pub` and `mosquitto_sub`. Nothing runs until [`Client::publish`] or
/// [`Client::subscribe`]; the same description may be used again and again.
#[derive(Clone, Debug)]
pub struct Client {
    version: Version,
    host: String,
    port: u16,
    unix: Option<PathBuf>,
    protocol: Protocol,
    qos: u8,
    retain: bool,
    arguments: Vec<OsString>,
}

impl Client {
    /// A client of the broker's first TCP listener, from the same release as the broker.
    #[must_use]
    pub fn of(broker: &Broker) -> Self {
        Self::new(
            broker.version(),
            broker.ports().first().copied().unwrap_or(0),
        )
    }

    /// A client from this release, for a listener on 127.0.0.1.
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

    /// Another port.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Another name for the machine: one that the broker's certificate is for, such as `localhost`.
    #[must_use]
    pub fn host(mut self, host: &str) -> Self {
        host.clone_into(&mut self.host);
        self
    }

    /// A Unix socket in place of host and port.
    #[must_use]
    pub fn unix(mut self, socket: impl Into<PathBuf>) -> Self {
        self.unix = Some(socket.into());
        self
    }

    /// The version of MQTT; 3.1.1 unless this is called.
    #[must_use]
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// The client id.
    #[must_use]
    pub fn id(self, id: &str) -> Self {
        self.arg("-i").arg(id)
    }

    /// The user name.
    #[must_use]
    pub fn username(self, name: &str) -> Self {
        self.arg("-u").arg(name)
    }

    /// The password.
    #[must_use]
    pub fn password(self, password: &str) -> Self {
        self.arg("-P").arg(password)
    }

    /// TLS, with the authorities in this PEM file.
    #[must_use]
    pub fn ca_file(self, file: impl AsRef<Path>) -> Self {
        self.arg("--cafile").arg(file.as_ref())
    }

    /// A certificate of the client's own.
    #[must_use]
    pub fn certificate(self, certificate: impl AsRef<Path>, key: impl AsRef<Path>) -> Self {
        self.arg("--cert")
            .arg(certificate.as_ref())
            .arg("--key")
            .arg(key.as_ref())
    }

    /// The quality of service of what is published or subscribed to.
    #[must_use]
    pub fn qos(mut self, qos: u8) -> Self {
        self.qos = qos;
        self
    }

    /// Whether what is published is retained.
    #[must_use]
    pub fn retain(mut self, retain: bool) -> Self {
        self.retain = retain;
        self
    }

    /// A will. `payload` may not be empty.
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

    /// Asks the broker to keep the session (`-c`). Needs a client id; in MQTT 5 the session is kept for ever.
    #[must_use]
    pub fn keep_session(self) -> Self {
        self.arg("-c")
    }

    /// The keep-alive interval in seconds.
    #[must_use]
    pub fn keepalive(self, seconds: u16) -> Self {
        self.arg("-k").arg(seconds.to_string())
    }

    /// A property of MQTT 5: of the command `connect`, `publish`, `subscribe`, `will` or `disconnect`.
    #[must_use]
    pub fn property(self, command: &str, name: &str, value: &str) -> Self {
        self.arg("-D").arg(command).arg(name).arg(value)
    }

    /// Any other argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Publishes one message and waits until `mosquitto_pub` is done.
    ///
    /// # Panics
    /// When it is not done in time.
    pub fn publish(&self, topic: &str, payload: impl AsRef<[u8]>) -> Outcome {
        self.start_publish(topic, payload).outcome()
    }

    /// Starts to publish one message and does not wait.
    pub fn start_publish(&self, topic: &str, payload: impl AsRef<[u8]>) -> Running {
        let payload = payload.as_ref();
        let mut command = self.command("mosquitto_pub");
        command.arg("-t").arg(topic);
        // By standard input, so that the payload can be any bytes of any length.
        command.arg(if payload.is_empty() { "-n" } else { "-s" });
        if self.retain {
            command.arg("-r");
        }
        let mut running = Running::start(command);
        // The client may have ended already over its arguments; its status says so better than this.
        let _ = running
            .child
            .stdin
            .take()
            .expect("piped")
            .write_all(payload);
        running
    }

    /// Starts `mosquitto_sub` on these filters.
    pub fn subscribe(&self, filters: &[&str]) -> Subscription {
        let mut command = self.command("mosquitto_sub");
        for filter in filters {
            command.arg("-t").arg(filter);
        }
        // The payload in hexadecimal and the topic last: any message is one line that can be taken apart.
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
        // Whoever runs the tests may have defaults for these programs.
        command
            .env("XDG_CONFIG_HOME", "/dev/null")
            .env_remove("LD_LIBRARY_PATH");
        command
    }
}

/// How a client ended.
#[derive(Clone)]
pub struct Outcome {
    /// Its exit status. Of a refused CONNECT it is the reason: 5 in MQTT 3, 0x87 in MQTT 5.
    pub status: ExitStatus,
    /// What it wrote, with its account of each packet.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

impl Outcome {
    /// The exit status as a number; `None` after a signal.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Whether the client has nothing to complain about.
    #[must_use]
    pub fn success(&self) -> bool {
        self.status.success()
    }

    /// Demands success.
    ///
    /// # Panics
    /// With all that the client wrote.
    #[track_caller]
    pub fn expect_success(self) -> Self {
        assert!(self.success(), "the client failed: {self:?}");
        self
    }
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}{}", self.status, self.stdout, self.stderr)
    }
}

/// A client that runs. Dropping it ends it.
pub struct Running {
    child: Child,
    stdout: Arc<Lines>,
    stderr: Arc<Lines>,
    readers: Vec<JoinHandle<()>>,
}

impl Running {
    fn start(mut command: Command) -> Self {
        // To a pipe these programs would write only when they have a lot to say or end. To a terminal they write
        // each line as it happens, and a SUBACK can be seen.
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

    /// Waits until the client has ended by itself.
    pub fn wait(&mut self, within: Duration) -> Option<Outcome> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                for reader in self.readers.drain(..) {
                    let _ = reader.join();
                }
                return Some(Outcome {
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

    /// How the client ends, which it is expected to do soon.
    ///
    /// # Panics
    /// With all that the client wrote, when it does not.
    #[track_caller]
    pub fn outcome(mut self) -> Outcome {
        match self.wait(PATIENCE) {
            Some(outcome) => outcome,
            None => panic!(
                "the client does not end: {}{}",
                self.stdout.text(),
                self.stderr.text()
            ),
        }
    }

    /// Waits for a line of the client's account that holds `text`, such as `received CONNACK`.
    #[must_use]
    pub fn wait_for_line(&self, text: &str, within: Duration) -> Option<String> {
        self.stdout
            .wait(0, within, |line| line.contains(text))
            .map(|(_, line)| line)
    }

    /// Ends the client as if its machine had failed: no DISCONNECT, so the broker publishes its will.
    pub fn kill(mut self) -> Outcome {
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

/// A message that a subscriber has received.
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

    /// Reads what `-F "MESSAGE %q %r %x %t"` writes.
    fn parse(line: &str) -> Option<Message> {
        let mut parts = line.strip_prefix("MESSAGE ")?.splitn(4, ' ');
        let (qos, retain, hex, topic) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let digits = hex
            .as_bytes()
            .chunks_exact(2)
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

/// A running `mosquitto_sub`. It connects again when the broker drops it. Dropping it ends it.
pub struct Subscription {
    running: Running,
    /// How many lines have been looked at for messages.
    read: usize,
}

impl Subscription {
    /// Waits for the SUBACK and returns its codes, one for each filter. If the client has ended instead
    /// (refused, not understood, …), how.
    ///
    /// # Panics
    /// When neither happens in time.
    #[track_caller]
    pub fn wait_subscribed(&mut self) -> Result<Vec<u8>, Outcome> {
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

    /// Demands that every filter was granted.
    ///
    /// # Panics
    /// When one was not.
    #[must_use]
    #[track_caller]
    pub fn subscribed(mut self) -> Self {
        match self.wait_subscribed() {
            Ok(codes) if codes.iter().all(|code| *code <= 2) => self,
            other => panic!("the subscription was not granted: {other:?}"),
        }
    }

    /// The next message that was not returned before. `None` when there is none in time.
    pub fn wait_message(&mut self, within: Duration) -> Option<Message> {
        let found = self
            .running
            .stdout
            .wait(self.read, within, |line| line.starts_with("MESSAGE "));
        let (place, line) = found?;
        self.read = place + 1;
        Some(Message::parse(&line).unwrap_or_else(|| panic!("not a message: {line:?}")))
    }

    /// The next message, which must come.
    ///
    /// # Panics
    /// When it does not.
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

    /// All messages so far, also those returned before.
    #[must_use]
    pub fn messages(&self) -> Vec<Message> {
        self.running
            .stdout
            .text()
            .lines()
            .filter_map(Message::parse)
            .collect()
    }

    /// Has `publisher` send a message of its own on `topic`, waits until it has come here, and returns the
    /// messages that came before it and were not returned earlier. What was published before the call and is
    /// not among them will never come.
    ///
    /// `topic` must be one that the publisher may write and this client receives, with the same quality of
    /// service as what must not come: the broker keeps the order only within one.
    ///
    /// # Panics
    /// When the message does not come.
    #[track_caller]
    pub fn messages_before(&mut self, publisher: &Client, topic: &str) -> Vec<Message> {
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

    /// Waits until the client has ended by itself.
    pub fn wait_for_exit(&mut self, within: Duration) -> Option<Outcome> {
        self.running.wait(within)
    }

    /// Waits for a line of the client's account that holds `text`, such as `received DISCONNECT`.
    #[must_use]
    pub fn wait_for_line(&self, text: &str, within: Duration) -> Option<String> {
        self.running.wait_for_line(text, within)
    }

    /// Has the client say goodbye (DISCONNECT) and end. Of itself it then asks for its will to be published,
    /// if it has one and speaks MQTT 5.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn stop(mut self) -> Outcome {
        // A number of our own child, which was not waited for: it cannot be anybody else's.
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

    /// Ends the client as if its machine had failed: no DISCONNECT, so the broker publishes its will.
    pub fn kill(self) -> Outcome {
        self.running.kill()
    }
}

/// A pseudo-terminal: our end, and the end that a program writes to.
pub(crate) fn terminal() -> io::Result<(File, File)> {
    // Neither may be inherited by another client that is started meanwhile: it would keep this one open.
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

/// A payload that nobody else sends.
pub(crate) fn sentinel() -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!(
        "sentinel {}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}
