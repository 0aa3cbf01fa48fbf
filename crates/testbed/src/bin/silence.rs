//! How long other clients wait for messages while fifty devices sign in with their passwords.
//!
//!     silence [--plugin FILE] [--picture FILE] [--runs N] [--broker VERSION]
//!
//! A publisher and a subscriber exchange a message every millisecond. Meanwhile fifty clients sign in at
//! once: first through a tenant that takes 300 ms for each, then through one that never responds. The longest
//! gap between two messages is how long the broker kept everybody waiting. Each scenario runs several times,
//! in turn with the same broker without plugin and, on 2.1, with a minimal plugin in C that sends the same logins
//! to the same tenant (`delayed.c`). The table shows the median and the maximum of the runs, and the ratio to the
//! median without plugin.
//!
//! In production the tenant and the fifty clients are other machines. Here they share a few cores with the
//! broker, so their threads run with a lower priority: otherwise the table would show how Linux shares a core
//! among a hundred threads. The broker, its plugin, the publisher and the subscriber have normal priority.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use testbed::arguments::Arguments;
use testbed::broker::{Mosquitto, PATIENCE, Version};
use testbed::clients::Protocol;
use testbed::clients::raw::{ConnectPacket, RawClient};
use testbed::measure::{elsewhere, median};
use testbed::preload::delayed_plugin;
use testbed::scratch::Scratch;
use testbed::silence::{Conversation, TOPIC};
use testbed::tenant::{
    AUDIENCE, Behaviour, CLIENT_ID, CLIENT_SECRET, CONNECTION, Device, Endpoint, Tenant,
};

const LOGINS: usize = 50;
const RUNS: usize = 5;
const ANSWER: Duration = Duration::from_millis(300);
const BEFORE: Duration = Duration::from_millis(500);
const AFTER: Duration = Duration::from_millis(500);

/// What the fifty clients sign in to.
#[derive(Clone, Copy, PartialEq)]
enum Scenario {
    NoPlugin,
    Minimal,
    Slow,
    Hanging,
}

impl Scenario {
    fn name(self) -> &'static str {
        match self {
            Self::NoPlugin => "no plugin",
            Self::Minimal => "minimal plugin, 300 ms",
            Self::Slow => "tenant takes 300 ms",
            Self::Hanging => "tenant never answers",
        }
    }
}

struct Run {
    version: Version,
    protocol: Protocol,
    scenario: Scenario,
    /// When each message arrived, since the start.
    arrivals: Vec<Duration>,
    /// When the fifty clients connected.
    connected_at: Duration,
    /// How long it took until the last client was admitted, after connecting.
    last_in: Option<Duration>,
    /// The same, since the tenant's last response.
    after_answer: Option<Duration>,
    admitted: usize,
}

impl Run {
    fn gaps(&self) -> impl Iterator<Item = (Duration, Duration)> + '_ {
        self.arrivals
            .windows(2)
            .map(|pair| (pair[1], pair[1] - pair[0]))
    }

    fn longest(&self) -> Duration {
        self.gaps().map(|(_, gap)| gap).max().unwrap_or_default()
    }

    fn longest_ms(&self) -> f64 {
        self.longest().as_secs_f64() * 1000.0
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("silence: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let arguments = Arguments::read(&["--plugin", "--picture", "--runs", "--broker"])?;
    let plugin = arguments.plugin()?;
    let picture = arguments.file("--picture", "target/silence.svg");
    let times = arguments.number("--runs", 1, RUNS)?;
    let versions = match arguments.text("--broker") {
        Some(name) => vec![Version::named(name)?],
        None => vec![Version::V2_0_21, Version::V2_1_2],
    };

    let scratch = Scratch::new("silence").map_err(|error| error.to_string())?;
    let mut pictured = Vec::new();
    println!("{times} runs of each; longest silence in ms\n");
    println!(
        "| broker | clients | | median | worst | times no plugin | let in | the last after, ms | of these after the tenant's last answer |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for version in versions {
        // Only 2.1 delays, and only here libcurl is needed.
        let minimal = match version {
            Version::V2_1_2 => Some(delayed_plugin(&scratch)?),
            _ => None,
        };
        let plugins = Plugins {
            ours: &plugin,
            minimal: minimal.as_deref(),
        };
        for protocol in [Protocol::V311, Protocol::V5] {
            pictured.extend(compare(version, protocol, &plugins, times)?);
        }
    }
    std::fs::write(&picture, draw(&pictured))
        .map_err(|error| format!("{}: {error}", picture.display()))?;
    println!("\nThe picture is {}.", picture.display());
    Ok(())
}

/// The files of the plugins.
struct Plugins<'a> {
    ours: &'a Path,
    minimal: Option<&'a Path>,
}

/// Measures each scenario, and prints a row for it. Returns the run with the median silence of each.
fn compare(
    version: Version,
    protocol: Protocol,
    plugins: &Plugins,
    times: usize,
) -> Result<Vec<Run>, String> {
    let mut scenarios = vec![(Scenario::NoPlugin, vec![])];
    if plugins.minimal.is_some() {
        scenarios.push((Scenario::Minimal, vec![]));
    }
    scenarios.extend([Scenario::Slow, Scenario::Hanging].map(|scenario| (scenario, vec![])));
    // The scenarios take turns, so that a busy phase of the machine affects all of them.
    for _ in 0..times {
        for (scenario, runs) in &mut scenarios {
            runs.push(measure(version, protocol, *scenario, plugins)?);
        }
    }
    let mut without = None;
    let mut middle_runs = Vec::new();
    for (_, mut runs) in scenarios {
        runs.sort_by_key(Run::longest);
        let silences: Vec<f64> = runs.iter().map(Run::longest_ms).collect();
        print_row(&runs, *without.get_or_insert(median(&silences)));
        middle_runs.push(runs.swap_remove(runs.len() / 2));
    }
    Ok(middle_runs)
}

/// Prints the row of one scenario. `runs` are in the order of their silences; `without` is the median silence without
/// plugin.
fn print_row(runs: &[Run], without: f64) {
    let silences: Vec<f64> = runs.iter().map(Run::longest_ms).collect();
    let middle = median(&silences);
    let admitted = runs.iter().map(|run| Some(run.admitted as u128));
    let millis = |time: Option<Duration>| time.map(|time| time.as_millis());
    println!(
        "| {} | MQTT {} | {} | {middle:.1} | {:.1} | {:.1} | {} | {} | {} |",
        runs[0].version,
        number(runs[0].protocol),
        runs[0].scenario.name(),
        silences[silences.len() - 1],
        middle / without,
        range(admitted),
        range(runs.iter().map(|run| millis(run.last_in))),
        range(runs.iter().map(|run| millis(run.after_answer))),
    );
}

fn number(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::V5 => "5",
        _ => "3.1.1",
    }
}

/// Formats a range: `3`, or `3 to 5`.
fn range(values: impl Iterator<Item = Option<u128>>) -> String {
    let mut values: Vec<u128> = values.flatten().collect();
    values.sort_unstable();
    match (values.first(), values.last()) {
        (Some(first), Some(last)) if first == last => first.to_string(),
        (Some(first), Some(last)) => format!("{first} to {last}"),
        _ => "-".into(),
    }
}

/// Starts a broker for this scenario.
fn start(
    version: Version,
    scenario: Scenario,
    tenant: &Tenant,
    plugins: &Plugins,
) -> Result<Mosquitto, String> {
    let ca_file = tenant.ca_file().display().to_string();
    let url = tenant.url("/oauth/token");
    let same = [
        ("audience", AUDIENCE),
        ("ca_file", &*ca_file),
        ("client_id", CLIENT_ID),
        ("client_secret", CLIENT_SECRET),
    ];
    let builder = Mosquitto::builder(version);
    let builder = match scenario {
        Scenario::NoPlugin => builder.allow_anonymous(true),
        Scenario::Minimal => {
            let minimal = plugins.minimal.expect("compiled for this version");
            let options = [&same[..], &[("url", &*url), ("realm", CONNECTION)]].concat();
            builder.plugin(minimal, &options)
        }
        Scenario::Slow | Scenario::Hanging => {
            let own = [("domain", tenant.domain()), ("connection", CONNECTION)];
            builder.plugin(plugins.ours, &[&same[..], &own].concat())
        }
    };
    let broker = builder.start().map_err(|error| error.to_string())?;
    if matches!(scenario, Scenario::Slow | Scenario::Hanging) {
        broker.expect_log("signing keys were fetched");
    }
    Ok(broker)
}

fn measure(
    version: Version,
    protocol: Protocol,
    scenario: Scenario,
    plugins: &Plugins,
) -> Result<Run, String> {
    let tenant = elsewhere(Tenant::start);
    for i in 0..LOGINS {
        tenant.add_device(Device::new(&format!("d{i}"), "pass").topics(json!([])));
    }
    tenant.add_device(Device::new("pair", "pass").topics(json!([TOPIC])));
    let broker = start(version, scenario, &tenant, plugins)?;
    let behaviour = match scenario {
        Scenario::Hanging => Behaviour::Hang,
        _ => Behaviour::Delay(ANSWER),
    };
    tenant.on(Endpoint::Token, behaviour);

    let conversation = Conversation::start(broker.port(), "JWT", &tenant.token("pair"))?;
    let start = Instant::now();
    thread::sleep(BEFORE);
    let connected_at = Instant::now();
    let (clients, last_in) = elsewhere(|| sign_all_in(broker.port(), protocol));
    thread::sleep(AFTER);
    let arrivals = conversation.stop();
    // The tenant responds this long after it has read a request.
    let asked = tenant.requests_to(Endpoint::Token);
    let answered = asked.iter().map(|request| request.at + ANSWER).max();
    let after_answer = last_in
        .zip(answered)
        .filter(|_| matches!(scenario, Scenario::Slow | Scenario::Minimal));
    let since_start = |at: Instant| at.saturating_duration_since(start);
    Ok(Run {
        version,
        protocol,
        scenario,
        arrivals: arrivals.into_iter().map(since_start).collect(),
        connected_at: since_start(connected_at),
        last_in: last_in.map(|last| last - connected_at),
        after_answer: after_answer.map(|(last, answered)| last.saturating_duration_since(answered)),
        admitted: clients.len(),
    })
}

/// Signs fifty clients in at once. Returns those that were admitted, and when the last of them was.
fn sign_all_in(port: u16, protocol: Protocol) -> (Vec<RawClient>, Option<Instant>) {
    let send_connect = |i| {
        let connect = ConnectPacket::new(protocol, &format!("c{i}")).login(format!("d{i}"), "pass");
        let mut client = RawClient::open(port, protocol);
        client.send(&connect.packet());
        client
    };
    let connecting: Vec<_> = (0..LOGINS).map(send_connect).collect();
    // Connections stay open until all have their CONNACK: a disconnect would be work for the broker.
    let mut admitted = Vec::new();
    let mut last_in = None;
    for mut client in connecting {
        if client.wait_connack(PATIENCE).is_ok() {
            last_in = Some(Instant::now());
            admitted.push(client);
        }
    }
    (admitted, last_in)
}

/// Where things are in the picture. The time goes to the right. Each run has a row, from 1 ms to 10 s, logarithmic.
struct Scale {
    longest: Duration,
}

impl Scale {
    const WIDTH: f64 = 900.0;
    const LEFT: f64 = 250.0;
    const RIGHT: f64 = Self::WIDTH - 20.0;
    const ROW: f64 = 62.0;
    const TOP: f64 = 46.0;

    fn x(&self, at: Duration) -> f64 {
        Self::LEFT
            + (Self::RIGHT - Self::LEFT) * at.as_secs_f64() / self.longest.as_secs_f64().max(0.001)
    }

    /// The bottom of a row.
    fn base(row: usize) -> f64 {
        Self::TOP + Self::ROW * (row + 1) as f64 - 8.0
    }

    fn y(row: usize, gap: Duration) -> f64 {
        let decades = (gap.as_secs_f64() * 1000.0).max(1.0).log10().min(4.0);
        Self::base(row) - (Self::ROW - 16.0) * decades / 4.0
    }
}

/// Draws one row for each run: the gap before each message, on a logarithmic scale.
fn draw(runs: &[Run]) -> String {
    let ends = runs.iter().filter_map(|run| run.arrivals.last());
    let scale = Scale {
        longest: ends.max().copied().unwrap_or_default(),
    };
    let width = Scale::WIDTH;
    let height = Scale::TOP + Scale::ROW * runs.len() as f64 + 30.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"10\" y=\"20\" font-size=\"15\">Silence heard by others while {LOGINS} devices sign in (dashed: they knock)</text>\n\
         <text x=\"10\" y=\"37\" fill=\"#666\">each row from 1 ms to 10 s, logarithmic; seconds below</text>\n"
    );
    for (row, run) in runs.iter().enumerate() {
        // A String takes whatever is written to it.
        let _ = draw_row(&mut svg, &scale, row, run);
    }
    for second in 0..=scale.longest.as_secs() {
        let at = scale.x(Duration::from_secs(second));
        let _ = writeln!(
            svg,
            "<text x=\"{at:.1}\" y=\"{:.1}\" fill=\"#666\" text-anchor=\"middle\">{second}</text>",
            height - 10.0
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn draw_row(svg: &mut String, scale: &Scale, row: usize, run: &Run) -> std::fmt::Result {
    let colour = match run.scenario {
        Scenario::NoPlugin => "#888888",
        Scenario::Minimal => "#2ca02c",
        Scenario::Slow => "#1f77b4",
        Scenario::Hanging => "#d62728",
    };
    let (base, left, right) = (Scale::base(row), Scale::LEFT, Scale::RIGHT);
    writeln!(
        svg,
        "<text x=\"10\" y=\"{:.0}\">{} · MQTT {} · {}</text><text x=\"10\" y=\"{:.0}\" fill=\"{colour}\">longest {:.1} ms</text>",
        base - 24.0,
        run.version,
        number(run.protocol),
        run.scenario.name(),
        base - 8.0,
        run.longest_ms(),
    )?;
    writeln!(
        svg,
        "<line x1=\"{left}\" y1=\"{base:.1}\" x2=\"{right:.1}\" y2=\"{base:.1}\" stroke=\"#ddd\"/>"
    )?;
    writeln!(
        svg,
        "<line x1=\"{0:.1}\" y1=\"{1:.1}\" x2=\"{0:.1}\" y2=\"{base:.1}\" stroke=\"#999\" stroke-dasharray=\"3 3\"/>",
        scale.x(run.connected_at),
        base - Scale::ROW + 16.0
    )?;
    let mut path = String::new();
    // Gaps of the normal interval are left out.
    let long = |(_, gap): &(Duration, Duration)| *gap > Duration::from_micros(1900);
    for (at, gap) in run.gaps().filter(long) {
        // A vertical line at the end of a gap. Its distance to the previous message on the time axis is the gap.
        let (from, to, y) = (scale.x(at - gap), scale.x(at), Scale::y(row, gap));
        write!(path, "M{from:.1} {base:.1}V{y:.1}H{to:.1}V{base:.1}")?;
    }
    writeln!(
        svg,
        "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"0.8\"/>"
    )
}
