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
use testbed::measure::{elsewhere, lower_priority, median};
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
        for protocol in [Protocol::V311, Protocol::V5] {
            // The scenarios take turns, so that a busy phase of the machine affects all of them.
            let mut scenarios: Vec<_> = [
                Scenario::NoPlugin,
                Scenario::Minimal,
                Scenario::Slow,
                Scenario::Hanging,
            ]
            .into_iter()
            .filter(|scenario| *scenario != Scenario::Minimal || minimal.is_some())
            .map(|scenario| (scenario, vec![]))
            .collect();
            for _ in 0..times {
                for (scenario, runs) in &mut scenarios {
                    runs.push(measure(
                        version,
                        protocol,
                        *scenario,
                        &plugin,
                        minimal.as_deref(),
                    )?);
                }
            }
            let mut without = None;
            for (scenario, mut runs) in scenarios {
                runs.sort_by_key(Run::longest);
                let silences: Vec<f64> = runs.iter().map(Run::longest_ms).collect();
                let middle = median(&silences);
                let without = *without.get_or_insert(middle);
                println!(
                    "| {version} | MQTT {} | {} | {middle:.1} | {:.1} | {:.1} | {} | {} | {} |",
                    number(protocol),
                    scenario.name(),
                    silences[silences.len() - 1],
                    middle / without,
                    range(runs.iter().map(|run| Some(run.admitted as u128))),
                    range(
                        runs.iter()
                            .map(|run| run.last_in.map(|last| last.as_millis()))
                    ),
                    range(
                        runs.iter()
                            .map(|run| run.after_answer.map(|last| last.as_millis()))
                    ),
                );
                pictured.push(runs.swap_remove(runs.len() / 2));
            }
        }
    }
    let runs = pictured;
    std::fs::write(&picture, draw(&runs))
        .map_err(|error| format!("{}: {error}", picture.display()))?;
    println!("\nThe picture is {}.", picture.display());
    Ok(())
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

fn measure(
    version: Version,
    protocol: Protocol,
    scenario: Scenario,
    plugin: &Path,
    minimal: Option<&Path>,
) -> Result<Run, String> {
    let tenant = elsewhere(Tenant::start);
    for i in 0..LOGINS {
        tenant.add_device(Device::new(&format!("d{i}"), "pass").topics(json!([])));
    }
    tenant.add_device(Device::new("pair", "pass").topics(json!([TOPIC])));
    let ca_file = tenant.ca_file().display().to_string();
    let options = [
        ("domain", tenant.domain()),
        ("audience", AUDIENCE),
        ("ca_file", &ca_file),
        ("client_id", CLIENT_ID),
        ("client_secret", CLIENT_SECRET),
        ("connection", CONNECTION),
    ];
    let builder = Mosquitto::builder(version);
    let url = tenant.url("/oauth/token");
    let minimal_options = [
        ("url", &*url),
        ("audience", AUDIENCE),
        ("ca_file", &ca_file),
        ("client_id", CLIENT_ID),
        ("client_secret", CLIENT_SECRET),
        ("realm", CONNECTION),
    ];
    let started = match scenario {
        Scenario::NoPlugin => builder.allow_anonymous(true).start(),
        Scenario::Minimal => {
            let minimal = minimal.expect("compiled for this version");
            builder.plugin(minimal, &minimal_options).start()
        }
        _ => builder.plugin(plugin, &options).start(),
    };
    let broker = started.map_err(|error| error.to_string())?;
    if matches!(scenario, Scenario::Slow | Scenario::Hanging) {
        broker.expect_log("signing keys were fetched");
    }
    let behaviour = if scenario == Scenario::Hanging {
        Behaviour::Hang
    } else {
        Behaviour::Delay(ANSWER)
    };
    tenant.on(Endpoint::Token, behaviour);

    let conversation = Conversation::start(broker.port(), "JWT", &tenant.token("pair"))?;
    let start = Instant::now();
    thread::sleep(BEFORE);
    let connected_at = start.elapsed();
    let port = broker.port();
    let fifty = thread::spawn(move || {
        lower_priority();
        let send_connect = |i| {
            let connect =
                ConnectPacket::new(protocol, &format!("c{i}")).login(format!("d{i}"), "pass");
            let mut client = RawClient::open(port, protocol);
            client.send(&connect.packet());
            client
        };
        let connecting: Vec<_> = (0..LOGINS).map(send_connect).collect();
        // Connections stay open until all have their CONNACK: a disconnect would be work for the broker.
        let mut admitted_now = Vec::new();
        let mut last_in = None;
        for mut client in connecting {
            if client.wait_connack(PATIENCE).is_ok() {
                last_in = Some(start.elapsed() - connected_at);
                admitted_now.push(client);
            }
        }
        (admitted_now, last_in)
    });
    let (admitted_now, last_in) = fifty.join().expect("no panic");
    thread::sleep(AFTER);
    let arrivals = conversation.stop();
    // The tenant responds this long after it has read a request.
    let asked = tenant.requests_to(Endpoint::Token);
    let answered = asked.iter().map(|request| request.at + ANSWER).max();
    let after_answer = last_in
        .zip(answered)
        .filter(|_| matches!(scenario, Scenario::Slow | Scenario::Minimal));
    Ok(Run {
        after_answer: after_answer.map(|(last, answered)| {
            (start + connected_at + last).saturating_duration_since(answered)
        }),
        version,
        protocol,
        scenario,
        arrivals: arrivals
            .into_iter()
            .map(|at| at.saturating_duration_since(start))
            .collect(),
        connected_at,
        last_in,
        admitted: admitted_now.len(),
    })
}

/// Draws one row for each run: the gap before each message, on a logarithmic scale.
fn draw(runs: &[Run]) -> String {
    const WIDTH: f64 = 900.0;
    const LEFT: f64 = 250.0;
    const ROW: f64 = 62.0;
    const TOP: f64 = 46.0;
    let height = TOP + ROW * runs.len() as f64 + 30.0;
    let longest = runs
        .iter()
        .filter_map(|run| run.arrivals.last())
        .max()
        .copied()
        .unwrap_or_default();
    let x = |at: Duration| {
        LEFT + (WIDTH - LEFT - 20.0) * at.as_secs_f64() / longest.as_secs_f64().max(0.001)
    };
    // From 1 ms at the bottom of a row to 10 s at its top.
    let y = |row: usize, gap: Duration| {
        let decades = (gap.as_secs_f64() * 1000.0).max(1.0).log10().min(4.0);
        TOP + ROW * (row + 1) as f64 - 8.0 - (ROW - 16.0) * decades / 4.0
    };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"10\" y=\"20\" font-size=\"15\">Silence heard by others while {LOGINS} devices sign in (dashed: they knock)</text>\n\
         <text x=\"10\" y=\"37\" fill=\"#666\">each row from 1 ms to 10 s, logarithmic; seconds below</text>\n"
    );
    for (row, run) in runs.iter().enumerate() {
        let colour = match run.scenario {
            Scenario::NoPlugin => "#888888",
            Scenario::Minimal => "#2ca02c",
            Scenario::Slow => "#1f77b4",
            Scenario::Hanging => "#d62728",
        };
        let base = TOP + ROW * (row + 1) as f64 - 8.0;
        let _ = writeln!(
            svg,
            "<text x=\"10\" y=\"{:.0}\">{} · MQTT {} · {}</text><text x=\"10\" y=\"{:.0}\" fill=\"{colour}\">longest {:.1} ms</text>",
            base - 24.0,
            run.version,
            number(run.protocol),
            run.scenario.name(),
            base - 8.0,
            run.longest_ms(),
        );
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" y1=\"{base:.1}\" x2=\"{:.1}\" y2=\"{base:.1}\" stroke=\"#ddd\"/>",
            WIDTH - 20.0
        );
        let send_connect = x(run.connected_at);
        let _ = writeln!(
            svg,
            "<line x1=\"{send_connect:.1}\" y1=\"{:.1}\" x2=\"{send_connect:.1}\" y2=\"{base:.1}\" stroke=\"#999\" stroke-dasharray=\"3 3\"/>",
            base - ROW + 16.0
        );
        let mut path = String::new();
        // Gaps of the normal interval are left out.
        for (at, gap) in run
            .gaps()
            .filter(|(_, gap)| *gap > Duration::from_micros(1900))
        {
            // A vertical line at the end of a gap. Its distance to the previous message on the time axis is
            // the gap.
            let _ = write!(
                path,
                "M{:.1} {base:.1}V{:.1}H{:.1}V{base:.1}",
                x(at - gap),
                y(row, gap),
                x(at)
            );
        }
        let _ = writeln!(
            svg,
            "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"0.8\"/>"
        );
    }
    for second in 0..=longest.as_secs() {
        let at = x(Duration::from_secs(second));
        let _ = writeln!(
            svg,
            "<text x=\"{at:.1}\" y=\"{:.1}\" fill=\"#666\" text-anchor=\"middle\">{second}</text>",
            height - 10.0
        );
    }
    svg.push_str("</svg>\n");
    svg
}
