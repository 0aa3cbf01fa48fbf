//! Draws the dashboard of docs/grafana-dashboard.json with numbers of real brokers, for docs/metrics.md.
//!
//!     dashboard [--plugin FILE] [--minutes N] [--picture FILE]
//!
//! Two brokers with the plugin write their metrics, each for a node exporter of its own, and a Prometheus scrapes both.
//! Meanwhile devices come, renew their tokens, publish and leave; strangers are refused; the tenant rotates its keys
//! and goes away for a while; and a broker reads a changed configuration. In the end `tests/dashboard` draws what
//! Prometheus has. `tests/dependencies.sh dashboard` installs what it needs.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::json;
use testbed::{
    arguments::Arguments,
    broker::{Mosquitto, PATIENCE, Version},
    clients::{
        Protocol,
        raw::{ConnectPacket, RawClient},
    },
    progress::progress,
    scratch::Scratch,
    signing::{now, shared_key},
    tenant::{
        AUDIENCE, Behaviour, CLIENT_ID, CLIENT_SECRET, CONNECTION, DEVICE, Device, Endpoint, Tenant,
    },
};

const MINUTES: usize = 15;
/// How often metrics are written, and scraped, in seconds.
const INTERVAL: &str = "5";
/// How many devices each broker has. Every other one has a password, the others have tokens.
const DEVICES: usize = 64;
/// Each thread plays some of the devices, one after the other.
const THREADS: usize = 8;
/// How long a token lasts, in seconds, and how long before its end a device renews it.
const LIFETIME: u64 = 150;
const RENEWAL: u64 = 40;
const RENEW: &str = "$CONTROL/auth0/v1/renew";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dashboard: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let arguments = Arguments::read(&["--plugin", "--minutes", "--picture"])?;
    let plugin = arguments.plugin()?;
    let minutes = arguments.number("--minutes", 2, MINUTES)?;
    let picture = arguments.file("--picture", "target/dashboard.png");
    let drawing = install()?;
    let tenant = Tenant::start();
    for number in 0..DEVICES {
        tenant.add_device(Device::new(&user(number), "pass").topics(topics(number)));
    }
    let sites = [
        Site::start("greenhouse", Version::V2_1_2, &plugin, &tenant)?,
        Site::start("warehouse", Version::V2_0_21, &plugin, &tenant)?,
    ];
    let prometheus = Prometheus::start(&sites)?;
    println!(
        "Prometheus is at 127.0.0.1:{}, for {minutes} minutes.",
        prometheus.port
    );
    let play = Play {
        tenant: &tenant,
        began: Instant::now(),
        lasts: Duration::from_secs(60 * minutes as u64),
    };
    // In the end all devices leave: that is not shown.
    let (from, to) = (now(), now() + play.lasts.as_secs());
    play.run(&sites)?;
    progress("drawing");
    let address = format!("http://127.0.0.1:{}", prometheus.port);
    finish(
        Command::new("node")
            .arg(drawing.join("draw.mjs"))
            .args([&address, &from.to_string(), &to.to_string(), INTERVAL])
            .args([&source("docs/grafana-dashboard.json"), &picture]),
    )?;
    // 256 colours, and less than half of the bytes.
    finish(
        Command::new("pngquant")
            .args(["--force", "--strip", "--ext", ".png", "--"])
            .arg(&picture),
    )?;
    progress("");
    println!("The picture is {}.", picture.display());
    Ok(())
}

/// Runs a program to its end.
fn finish(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().display().to_string();
    let status = command
        .status()
        .map_err(|error| format!("{name}: {error}"))?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("{name} failed")),
    }
}

/// Returns the path of a file of the source.
fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(name)
}

/// Installs what draws. The checkout stays unchanged. Returns the folder.
fn install() -> Result<PathBuf, String> {
    let folder = source("target/dashboard");
    fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    for name in ["package.json", "draw.mjs", "page.jsx"] {
        let from = source("tests/dashboard").join(name);
        fs::copy(from, folder.join(name)).map_err(|error| format!("{name}: {error}"))?;
    }
    let arguments = [
        "--no-package-lock",
        "--no-audit",
        "--no-fund",
        "--loglevel=error",
    ];
    finish(
        Command::new("npm")
            .args(["install", "--ignore-scripts"])
            .args(arguments)
            .current_dir(&folder),
    )?;
    Ok(folder)
}

/// A process that ends with this value.
struct Service(Child);

impl Service {
    /// Starts a program that listens on this port, and waits until it does.
    fn start(program: &str, port: u16, arguments: &[String]) -> Result<Self, String> {
        let started = Command::new(program)
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let service = Self(started.map_err(|error| format!("{program}: {error}"))?);
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if Instant::now() > until {
                return Err(format!("{program} does not start"));
            }
            thread::sleep(Duration::from_millis(100));
        }
        Ok(service)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns a port that nobody listens on.
fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    Ok(listener.map_err(|error| error.to_string())?.port())
}

/// A broker, and the node exporter that serves its metrics.
struct Site {
    name: &'static str,
    broker: Mosquitto,
    exporter: u16,
    folder: Scratch,
    _exporter: Service,
}

impl Site {
    fn start(
        name: &'static str,
        version: Version,
        plugin: &Path,
        tenant: &Tenant,
    ) -> Result<Self, String> {
        let folder = Scratch::new("dashboard").map_err(|error| error.to_string())?;
        let metrics = folder.path().join("metrics");
        fs::create_dir(&metrics).map_err(|error| error.to_string())?;
        let path = |name: &str| folder.path().join(name).display().to_string();
        let secret = path("secret");
        let ca_file = tenant.ca_file().display();
        let options = format!(
            "domain = '{}'\nca_file = '{ca_file}'\naudience = '{AUDIENCE}'\nclient_id = '{CLIENT_ID}'\n\
             client_secret_file = '{secret}'\nconnection = '{CONNECTION}'\nmetrics_file = '{}'\n\
             metrics_interval = {INTERVAL}\nexpiry_jitter = 10\nleeway = 0\nlogin_cache = 60\nlogin_rate = 100\n",
            tenant.domain(),
            path("metrics/auth0.prom"),
        );
        folder
            .write("secret", CLIENT_SECRET)
            .and_then(|_| folder.write("auth0.toml", options))
            .and_then(|file| private(&file).and_then(|()| private(secret.as_ref())))
            .map_err(|error| error.to_string())?;
        let broker = Mosquitto::builder(version)
            .quiet()
            .plugin(plugin, &[("config_file", &path("auth0.toml"))])
            .start()
            .map_err(|error| error.to_string())?;
        let exporter = free_port()?;
        let arguments = [
            "--collector.disable-defaults".to_owned(),
            "--collector.textfile".to_owned(),
            format!("--collector.textfile.directory={}", metrics.display()),
            format!("--web.listen-address=127.0.0.1:{exporter}"),
        ];
        Ok(Self {
            name,
            broker,
            exporter,
            _exporter: Service::start("prometheus-node-exporter", exporter, &arguments)?,
            folder,
        })
    }

    /// Changes the configuration and has it read again.
    fn reload(&self) -> Result<(), String> {
        let file = self.folder.path().join("auth0.toml");
        let options = fs::read_to_string(&file).map_err(|error| error.to_string())?;
        let changed = options.replace("login_rate = 100", "login_rate = 200");
        fs::write(&file, changed).map_err(|error| error.to_string())?;
        self.broker.sighup();
        Ok(())
    }
}

/// The plugin reads secrets only from files that nobody else can read.
fn private(file: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(file, fs::Permissions::from_mode(0o600))
}

struct Prometheus {
    port: u16,
    _service: Service,
    _folder: Scratch,
}

impl Prometheus {
    fn start(sites: &[Site]) -> Result<Self, String> {
        let folder = Scratch::new("prometheus").map_err(|error| error.to_string())?;
        let mut config =
            format!("scrape_configs:\n  - job_name: mosquitto\n    scrape_interval: {INTERVAL}s\n");
        config += "    static_configs:\n";
        for site in sites {
            config += &format!("      - targets: ['127.0.0.1:{}']\n", site.exporter);
            config += &format!("        labels: {{instance: {}}}\n", site.name);
        }
        let config = folder
            .write("prometheus.yml", config)
            .map_err(|error| error.to_string())?;
        let port = free_port()?;
        let arguments = [
            format!("--config.file={}", config.display()),
            format!(
                "--storage.tsdb.path={}",
                folder.path().join("data").display()
            ),
            format!("--web.listen-address=127.0.0.1:{port}"),
        ];
        Ok(Self {
            port,
            _service: Service::start("prometheus", port, &arguments)?,
            _folder: folder,
        })
    }
}

fn user(number: usize) -> String {
    format!("sensor-{number:02}")
}

fn topics(number: usize) -> serde_json::Value {
    json!([format!("sensors/{number}/#"), "announcements"])
}

/// A device, of one broker.
struct Player {
    number: usize,
    client: Option<RawClient>,
    /// Its token, and when that expires. Half of the devices use their password instead.
    token: String,
    until: u64,
}

impl Player {
    fn new(number: usize) -> Self {
        Self {
            number,
            client: None,
            token: String::new(),
            until: 0,
        }
    }

    fn has_password(&self) -> bool {
        self.number % 4 < 2
    }

    /// Whether the token expires soon, and this is a device that gets a new one in time.
    fn renews_now(&self) -> bool {
        self.number % 4 == 3 && self.until < now() + RENEWAL
    }

    fn get_token(&mut self, tenant: &Tenant) {
        let (name, topics) = (user(self.number), topics(self.number));
        let mint = tenant
            .mint(DEVICE)
            .claim("sub", name)
            .claim("topics", topics);
        self.until = now() + LIFETIME;
        self.token = mint.lifetime(LIFETIME as i64).sign();
    }

    fn connect(&mut self, site: &Site, tenant: &Tenant) {
        let name = user(self.number);
        let protocol = [Protocol::V311, Protocol::V5][self.number % 2];
        let mut connect = ConnectPacket::new(protocol, &name);
        connect.clean = self.number % 8 != 4;
        if self.has_password() {
            connect = connect.login(name, "pass");
        } else {
            if self.until <= now() {
                self.get_token(tenant);
            }
            connect = connect.login("JWT", &self.token);
        }
        self.client = RawClient::connect(site.broker.port(), &connect).ok();
    }

    /// Renews the token, or publishes, sometimes where it must not, or subscribes.
    fn talk(&mut self, tenant: &Tenant, dice: &mut Dice) {
        let Some(mut client) = self.client.take() else {
            return;
        };
        let answer = if self.renews_now() {
            self.get_token(tenant);
            client.publish(RENEW, &self.token, 1).map(drop)
        } else {
            let other = dice.below(DEVICES as u64);
            match dice.below(12) {
                0 => client.publish(&data(other), "20.5", 1).map(drop),
                1 => client.subscribe(&[("announcements", 0)]).map(drop),
                2 => client.subscribe(&[("#", 0)]).map(drop),
                _ => client
                    .publish(&data(self.number as u64), "20.5", 1)
                    .map(drop),
            }
        };
        // It may have been disconnected because its token has expired.
        self.client = answer.is_ok().then_some(client);
    }
}

fn data(number: u64) -> String {
    format!("sensors/{number}/data")
}

/// What happens, and when.
struct Play<'t> {
    tenant: &'t Tenant,
    began: Instant,
    lasts: Duration,
}

impl Play<'_> {
    /// Returns which part of the time is over.
    fn part(&self) -> f64 {
        self.began.elapsed().as_secs_f64() / self.lasts.as_secs_f64()
    }

    fn run(&self, sites: &[Site]) -> Result<(), String> {
        thread::scope(|scope| {
            for (place, site) in sites.iter().enumerate() {
                for thread in 0..THREADS {
                    let dice = Dice((place * THREADS + thread) as u64);
                    scope.spawn(move || self.devices(site, thread, dice));
                }
                scope.spawn(move || self.strangers(site, Dice(place as u64)));
            }
            self.tenant_and_operator(sites)
        })
    }

    /// The tenant is away for an eighth of the time, rotates its keys, and is slow for a while; the operator changes
    /// the configuration of one broker.
    fn tenant_and_operator(&self, sites: &[Site]) -> Result<(), String> {
        let mut dice = Dice(99);
        let (mut away, mut rotated, mut reloaded) = (false, false, false);
        while self.part() < 1.0 {
            let part = self.part();
            progress(&format!("{:.0} %", part * 100.0));
            let is_slow = (0.8..0.87).contains(&part);
            let delay = dice.below(150) + if is_slow { 2000 } else { 30 };
            let delay = Behaviour::Delay(Duration::from_millis(delay));
            self.tenant
                .on(Endpoint::Token, delay.then(Behaviour::Normal));
            let should_be_away = (0.4..0.525).contains(&part);
            if should_be_away && !away {
                self.tenant.stop_listening();
            } else if away && !should_be_away {
                self.tenant
                    .listen_again()
                    .map_err(|error| error.to_string())?;
            }
            away = should_be_away;
            if part > 0.65 && !rotated {
                self.tenant.rotate();
                rotated = true;
            }
            if part > 0.75 && !reloaded {
                sites[0].reload()?;
                reloaded = true;
            }
            thread::sleep(Duration::from_millis(300));
        }
        Ok(())
    }

    /// Plays the devices of one thread. In the end they come and go more often.
    fn devices(&self, site: &Site, thread: usize, mut dice: Dice) {
        let numbers = (thread..DEVICES).step_by(THREADS);
        let mut players: Vec<Player> = numbers.map(Player::new).collect();
        while self.part() < 1.0 {
            thread::sleep(Duration::from_millis(150 + dice.below(200)));
            let place = dice.below(players.len() as u64) as usize;
            let player = &mut players[place];
            let leaves = dice.below(100) < if self.part() < 0.6 { 2 } else { 4 };
            match player.client.take_if(|_| leaves) {
                Some(client) => client.disconnect(0),
                None if player.client.is_none() => player.connect(site, self.tenant),
                None => player.talk(self.tenant, &mut dice),
            }
        }
    }

    /// Strangers try what they have.
    fn strangers(&self, site: &Site, mut dice: Dice) {
        let mint = || self.tenant.mint(DEVICE);
        while self.part() < 1.0 {
            let connect = ConnectPacket::new(Protocol::V311, "stranger");
            let connect = match dice.below(6) {
                0 => connect,
                1 => connect.login("JWT", mint().forged_by(&shared_key(9)).sign()),
                2 | 3 => connect.login("JWT", mint().lifetime(-60).sign()),
                4 => connect.login("JWT", mint().claim("aud", "another").sign()),
                _ => connect.login(format!("nobody-{}", dice.below(1000)), "guess"),
            };
            let _ = RawClient::connect(site.broker.port(), &connect);
            thread::sleep(Duration::from_millis(2000 + dice.below(6000)));
        }
    }
}

/// Numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}
