//! Runs a broker with the plugin for hours, with thousands of devices that come and go, and compares each decision with
//! a naive judge.
//!
//!     soak [--plugin FILE] [--devices N] [--minutes N] [--broker VERSION]
//!
//! Each device may use topics of its own and those of its group. Nine of ten have tokens that last four minutes, which
//! half of them renew while they are connected; the others have passwords. A device stays for five minutes on average,
//! so that many tokens come to their end. Meanwhile the tenant rotates its keys and goes away for a while, the broker
//! gets SIGHUPs, and in the first half it is restarted, and killed.
//!
//! The tool fails
//!
//! * if anybody was admitted, or allowed something, whom the judge refuses, or the other way round. (A device with a
//!   password may be told to come back: there are limits, and the tenant is not always there.)
//! * if anybody was disconnected whose token lasts, or stayed connected whose token has expired
//! * if memory or the number of open files has grown in the second half
//! * if the broker keeps a connection after all devices have left

use std::{
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use testbed::{
    arguments::Arguments,
    broker::{Mosquitto, Version},
    clients::{
        Protocol,
        raw::{ConnectPacket, ConnectRefusal, End, RawClient},
    },
    measure::{allow_open_files, in_parallel, median, private_dirty},
    progress::progress,
    scarcity::open_files,
    scratch::Scratch,
    signing::{SigningKey, now},
    tenant::{AUDIENCE, CLIENT_ID, CLIENT_SECRET, CONNECTION, DEVICE, Device, Tenant},
};

const DEVICES: usize = 10_000;
const MINUTES: usize = 120;
/// How long a token lasts, in seconds.
const LIFETIME: u64 = 240;
/// How long a device stays connected on average, in seconds, if its token lasts.
const STAY: f64 = 300.0;
/// How often, at most, devices come, leave and use topics. Without a pause the tool would measure itself.
const ROUND: Duration = Duration::from_millis(200);
/// What is certain about a session ends so many seconds before its token does, and begins again as long after it.
const UNCERTAIN: u64 = 20;
/// A key is in the set until two rotations later, and its tokens have to expire before it is gone.
const ROTATION: Duration = Duration::from_secs(LIFETIME + 10);
const SIGHUP: Duration = Duration::from_secs(45);
const OUTAGE_EVERY: Duration = Duration::from_secs(180);
const OUTAGE: Duration = Duration::from_secs(40);
const GROUPS: usize = 10;
const RENEW: &str = "$CONTROL/auth0/v1/renew";
const PATIENCE: Duration = Duration::from_secs(20);
/// How many lines the table has.
const SAMPLES: u32 = 40;
/// What may be more in the end: memory in bytes, of which the C library keeps some, and open files: connections to the
/// tenant.
const MORE_MEMORY: f64 = 3.0 * 1024.0 * 1024.0;
const MORE_FILES: f64 = 12.0;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("soak: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let arguments = Arguments::read(&["--plugin", "--devices", "--minutes", "--broker"])?;
    let plugin = arguments.plugin()?;
    let devices = arguments.number("--devices", 100, DEVICES)?;
    let minutes = arguments.number("--minutes", 1, MINUTES)?;
    let version = Version::named(arguments.text("--broker").unwrap_or("2.1.2"))?;
    allow_open_files(devices as u64 + 1000)?;
    let tenant = Tenant::start();
    for number in (0..devices).filter(|number| has_password(*number)) {
        tenant.add_device(Device::new(&user(number), "pass").topics(topics(number)));
    }
    let scratch = Scratch::new("soak").map_err(|error| error.to_string())?;
    let state = scratch.path().join("state").display().to_string();
    let ca_file = tenant.ca_file().display().to_string();
    let options = [
        ("domain", tenant.domain()),
        ("audience", AUDIENCE),
        ("ca_file", &ca_file),
        ("client_id", CLIENT_ID),
        ("client_secret", CLIENT_SECRET),
        ("connection", CONNECTION),
        ("state_dir", &state),
        ("leeway", "0"),
        ("expiry_jitter", "10"),
        ("login_rate", "500"),
        // The token that the tenant issues for a password lasts longer than its key.
        ("on_key_revoked", "keep"),
    ];
    let broker = Mosquitto::builder(version)
        .quiet()
        .persistence(true)
        .plugin(plugin, &options)
        .start()
        .map_err(|error| error.to_string())?;
    println!("{version}, {devices} devices, {minutes} minutes\n");
    Soak {
        tenant: &tenant,
        broker: Some(broker),
        devices: (0..devices).map(|_| None).collect(),
        dice: 1,
        forger: Arc::new(SigningKey::generate("forger")),
        seen: Seen::default(),
    }
    .run(Duration::from_secs(60 * minutes as u64))
}

fn user(number: usize) -> String {
    format!("device-{number:06}")
}

fn has_password(number: usize) -> bool {
    number.is_multiple_of(10)
}

fn topics(number: usize) -> Value {
    json!([
        format!("d/{number}/#"),
        format!("group/{}", number % GROUPS)
    ])
}

/// The naive judge.
fn may(number: usize, topic: &str) -> bool {
    topic == format!("group/{}", number % GROUPS) || topic.starts_with(&format!("d/{number}/"))
}

/// What was counted.
#[derive(Clone, Debug, Default)]
struct Seen {
    admitted: usize,
    refused: usize,
    told_to_come_back: usize,
    renewed: usize,
    expired: usize,
    allowed: usize,
    denied: usize,
    restarts: usize,
    /// What the judge does not agree with.
    wrong: Vec<String>,
}

/// A connected device.
struct Connected {
    client: RawClient,
    /// When its token expires.
    until: u64,
}

/// One line of the table.
struct Sample {
    memory: f64,
    /// Open files that are not connections to its listener.
    files: f64,
    in_second_half: bool,
}

struct Soak<'t> {
    tenant: &'t Tenant,
    broker: Option<Mosquitto>,
    devices: Vec<Option<Connected>>,
    dice: u64,
    /// Never a key of the tenant.
    forger: Arc<SigningKey>,
    seen: Seen,
}

impl Soak<'_> {
    fn run(mut self, lasts: Duration) -> Result<(), String> {
        println!(
            "| minute | connections | admitted | refused | come back later | renewed | expired | allowed | denied \
             | restarts | wrong | private memory, MiB | other files |"
        );
        println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|");
        let began = Instant::now();
        let (mut rotated, mut reloaded) = (began, began);
        let mut outage: Option<Instant> = None;
        let mut last_outage = began;
        let mut samples: Vec<Sample> = Vec::new();
        let mut last_round = began;
        while began.elapsed() < lasts && self.seen.wrong.is_empty() {
            if rotated.elapsed() > ROTATION && outage.is_none() {
                self.tenant.revoke_previous();
                self.tenant.rotate();
                rotated = Instant::now();
            }
            if reloaded.elapsed() > SIGHUP {
                self.broker().sighup();
                reloaded = Instant::now();
            }
            match outage {
                None if last_outage.elapsed() > OUTAGE_EVERY => {
                    self.tenant.stop_listening();
                    outage = Some(Instant::now());
                }
                Some(since) if since.elapsed() > OUTAGE => {
                    self.tenant
                        .listen_again()
                        .map_err(|error| error.to_string())?;
                    (outage, last_outage) = (None, Instant::now());
                }
                _ => {}
            }
            // At a sixth and at a third of the time; the second half shows whether anything grows.
            let due = (began.elapsed().as_secs_f64() / lasts.as_secs_f64() * 6.0) as usize;
            if self.seen.restarts < due.min(2) && outage.is_none() {
                self.restart()?;
            }
            std::thread::sleep(ROUND.saturating_sub(last_round.elapsed()));
            let since = std::mem::replace(&mut last_round, Instant::now());
            self.round(last_round - since);
            let part = began.elapsed().as_secs_f64() / lasts.as_secs_f64();
            if part * f64::from(SAMPLES) > samples.len() as f64 {
                samples.push(self.sample(began.elapsed(), part > 0.5));
            }
        }
        progress("");
        self.verdict(&samples)?;
        self.everybody_leaves()
    }

    fn everybody_leaves(&mut self) -> Result<(), String> {
        self.devices.iter_mut().for_each(|device| *device = None);
        let port = self.broker().port();
        let since = Instant::now();
        while connections(port) > 0 {
            if since.elapsed() > PATIENCE {
                let left = connections(port);
                return Err(format!(
                    "{left} connections are left after all devices have closed theirs"
                ));
            }
            std::thread::sleep(ROUND);
        }
        Ok(())
    }

    fn broker(&self) -> &Mosquitto {
        self.broker.as_ref().expect("it runs between restarts")
    }

    fn below(&mut self, end: usize) -> usize {
        self.dice = self
            .dice
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.dice >> 33) % end as u64) as usize
    }

    /// What happens in the time `since` the last round.
    fn round(&mut self, since: Duration) {
        self.leave(since);
        self.renew_or_come_back();
        self.come();
        for _ in 0..100 {
            self.decide();
        }
        self.strangers();
    }

    /// Some devices leave, half of them without a word.
    fn leave(&mut self, since: Duration) {
        let leaving = self.devices.len() as f64 * since.as_secs_f64() / STAY;
        // The fraction is a chance, so that few devices do not leave too often.
        let chance = (leaving.fract() * 1000.0) as usize;
        let one_more = usize::from(self.below(1000) < chance);
        for _ in 0..leaving as usize + one_more {
            let number = self.below(self.devices.len());
            if let Some(connected) = self.devices[number].take() {
                match self.below(2) {
                    0 => connected.client.abort(),
                    _ => connected.client.disconnect(0),
                }
            }
        }
    }

    /// Half of those whose tokens expire soon renew them. The others are disconnected in time.
    fn renew_or_come_back(&mut self) {
        let now = now();
        for number in 0..self.devices.len() {
            let Some(connected) = &mut self.devices[number] else {
                continue;
            };
            if connected.until + UNCERTAIN < now {
                let end = connected.client.wait_end(Duration::from_secs(1));
                if end.is_err() {
                    self.wrong(format!(
                        "device {number} is connected after its token has expired"
                    ));
                }
                self.seen.expired += 1;
                self.devices[number] = None;
            } else if number % 2 == 1
                && (now + UNCERTAIN..now + 3 * UNCERTAIN).contains(&connected.until)
            {
                self.renew(number);
            }
        }
    }

    fn renew(&mut self, number: usize) {
        let (token, until) = token(self.tenant, number);
        let Some(connected) = &mut self.devices[number] else {
            return;
        };
        let answer = connected.client.publish(RENEW, token, 1);
        let answer = answer.and_then(|_| connected.client.next_message(PATIENCE));
        match answer {
            Ok(message) if message.text().contains(r#""result":"renewed""#) => {
                connected.until = until;
                self.seen.renewed += 1;
            }
            other => self.wrong(format!("device {number} does not renew: {other:?}")),
        }
    }

    /// Devices come, until nine of ten are there.
    fn come(&mut self) {
        let away = self
            .devices
            .iter()
            .filter(|device| device.is_none())
            .count();
        let wanted = away.saturating_sub(self.devices.len() / 10);
        let first = self.below(self.devices.len());
        let numbers = (0..self.devices.len()).map(|step| (first + step) % self.devices.len());
        let numbers: Vec<usize> = numbers
            .filter(|number| self.devices[*number].is_none())
            .take(wanted)
            .collect();
        let tokens = in_parallel(numbers.len(), |place| {
            let number = numbers[place];
            (!has_password(number)).then(|| token(self.tenant, number))
        });
        for (done, (number, token)) in numbers.into_iter().zip(tokens).enumerate() {
            if done % 500 == 0 {
                progress(&format!("{done} have come"));
            }
            self.connect(number, token);
        }
    }

    fn connect(&mut self, number: usize, token: Option<(String, u64)>) {
        let protocol = [Protocol::V311, Protocol::V5][number % 2];
        let connect = ConnectPacket::new(protocol, &user(number));
        let is_token = token.is_some();
        let (mut connect, until) = match token {
            Some((token, until)) => (connect.login("JWT", token), until),
            None => (connect.login(user(number), "pass"), u64::MAX / 2),
        };
        // A session that is kept, so that there is something in the file.
        connect.clean = number % 4 != 3;
        match self.try_connect(number, &connect) {
            Ok(client) => {
                self.seen.admitted += 1;
                self.devices[number] = Some(Connected { client, until });
            }
            Err(_) if !is_token => self.seen.told_to_come_back += 1,
            Err(refusal) => self.wrong(format!("device {number} is refused: {refusal:?}")),
        }
    }

    fn try_connect(
        &self,
        number: usize,
        connect: &ConnectPacket,
    ) -> Result<RawClient, ConnectRefusal> {
        // The port of a closed connection is free again after a minute, and an address has some ten thousand.
        let host = 1 + (number % 200) as u8;
        let mut connect = connect.clone();
        connect.keepalive = 0;
        let mut client = RawClient::open_from(host, self.broker().port(), connect.protocol);
        client.send(&connect.packet());
        client.wait_connack(PATIENCE)?;
        Ok(client)
    }

    /// A device publishes or subscribes, to something of its own or not.
    fn decide(&mut self) {
        let number = self.below(self.devices.len());
        let other = self.below(self.devices.len());
        let (publishes, topic) = match self.below(5) {
            0 => (true, format!("d/{number}/data")),
            1 => (true, format!("d/{other}/data")),
            2 => (false, format!("group/{}", other % GROUPS)),
            3 => (false, format!("d/{number}/command")),
            _ => (false, "#".to_owned()),
        };
        let Some(connected) = &mut self.devices[number] else {
            return;
        };
        // MQTT 3 tells a publisher nothing.
        if connected.until < now() + UNCERTAIN || (publishes && number.is_multiple_of(2)) {
            return;
        }
        let code = match publishes {
            true => connected.client.publish(&topic, "1", 1),
            false => connected
                .client
                .subscribe(&[(&topic, 0)])
                .map(|codes| codes[0]),
        };
        match code {
            Ok(code) if (code < 0x80) == may(number, &topic) => match code < 0x80 {
                true => self.seen.allowed += 1,
                false => self.seen.denied += 1,
            },
            Ok(code) => self.wrong(format!("device {number}, {topic}: {code}")),
            Err(End::Closed | End::Silent) => {
                self.wrong(format!(
                    "device {number} was disconnected, and its token lasts"
                ));
            }
        }
    }

    /// Nobody is admitted without a good credential, under whatever client ID.
    fn strangers(&mut self) {
        let victim = self.below(self.devices.len());
        let mint = || self.tenant.mint(DEVICE).claim("topics", json!(["#"]));
        let tokens = [
            mint().forged_by(&self.forger).sign(),
            mint().lifetime(-60).sign(),
            mint().claim("aud", "another").sign(),
            mint().claim("iss", "https://another.example/").sign(),
            mint()
                .secret(self.tenant.next_key().public_pem().as_bytes())
                .sign(),
        ];
        let kinds = ["forged", "expired", "audience", "issuer", "HS256"];
        for (kind, token) in kinds.into_iter().zip(tokens) {
            let connect = ConnectPacket::new(Protocol::V311, &user(victim)).login("JWT", token);
            self.stranger(kind, victim, &connect);
        }
        // A good token, under the client ID of another device that is there.
        if self.devices[victim]
            .as_ref()
            .is_some_and(|device| device.until > now() + UNCERTAIN)
        {
            let other = (victim + 1) % self.devices.len();
            let (token, _) = token(self.tenant, other);
            let connect = ConnectPacket::new(Protocol::V311, &user(victim)).login("JWT", token);
            self.stranger("another device", victim, &connect);
        }
    }

    fn stranger(&mut self, kind: &str, victim: usize, connect: &ConnectPacket) {
        match self.try_connect(victim, connect) {
            Ok(_) => self.wrong(format!("a stranger ({kind}) is admitted as {victim}")),
            Err(_) => self.seen.refused += 1,
        }
    }

    /// Once the broker is stopped, and once it is killed. All come back.
    fn restart(&mut self) -> Result<(), String> {
        self.devices.iter_mut().for_each(|device| *device = None);
        let broker = self.broker.take().expect("it runs");
        let started = match self.seen.restarts {
            0 => broker.restart(),
            _ => broker.restart_killed(),
        };
        self.broker = Some(started.map_err(|error| error.to_string())?);
        self.seen.restarts += 1;
        Ok(())
    }

    fn wrong(&mut self, what: String) {
        self.seen.wrong.push(what);
    }

    fn sample(&self, at: Duration, in_second_half: bool) -> Sample {
        let pid = self.broker().pid();
        let connections = connections(self.broker().port());
        let sample = Sample {
            memory: private_dirty(pid) as f64,
            files: open_files(pid) as f64 - connections as f64,
            in_second_half,
        };
        let seen = &self.seen;
        println!(
            "| {:.1} | {connections} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {:.1} | {} |",
            at.as_secs_f64() / 60.0,
            seen.admitted,
            seen.refused,
            seen.told_to_come_back,
            seen.renewed,
            seen.expired,
            seen.allowed,
            seen.denied,
            seen.restarts,
            seen.wrong.len(),
            sample.memory / 1024.0 / 1024.0,
            sample.files,
        );
        sample
    }

    fn verdict(&self, samples: &[Sample]) -> Result<(), String> {
        if let Some(first) = self.seen.wrong.first() {
            return Err(format!("{first}\n{}", self.broker().log()));
        }
        let second: Vec<&Sample> = samples
            .iter()
            .filter(|sample| sample.in_second_half)
            .collect();
        let (early, late) = second.split_at(second.len() / 2);
        if early.is_empty() {
            return Err("too short to tell whether anything grows".into());
        }
        let of = |samples: &[&Sample], value: fn(&Sample) -> f64| {
            median(
                &samples
                    .iter()
                    .map(|sample| value(sample))
                    .collect::<Vec<_>>(),
            )
        };
        let memory = of(late, |sample| sample.memory) - of(early, |sample| sample.memory);
        let files = of(late, |sample| sample.files) - of(early, |sample| sample.files);
        println!(
            "\nmore in the last quarter than in the third one: {:.2} MiB of memory, {files} open files",
            memory / 1024.0 / 1024.0
        );
        match memory < MORE_MEMORY && files < MORE_FILES {
            true => Ok(()),
            false => Err("something grows".into()),
        }
    }
}

/// Returns how many connections a listener on `port` has, those included that its clients have closed.
fn connections(port: u16) -> usize {
    // Each line begins with "NUMBER: ADDRESS:PORT ADDRESS:PORT STATE", all in hexadecimal digits.
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let local = format!(":{port:04X}");
    let of_broker = table.lines().filter(|line| {
        let mut words = line.split_whitespace().skip(1);
        let is_local = words
            .next()
            .is_some_and(|address| address.ends_with(&local));
        // Established, or closed by the client only.
        is_local && matches!(words.nth(1), Some("01" | "08"))
    });
    of_broker.count()
}

/// Returns a new token of a device, and when it expires.
fn token(tenant: &Tenant, number: usize) -> (String, u64) {
    // A second early rather than late.
    let until = now() + LIFETIME;
    let mint = tenant
        .mint(DEVICE)
        .claim("sub", user(number))
        .claim("topics", topics(number));
    (mint.lifetime(LIFETIME as i64).sign(), until)
}
