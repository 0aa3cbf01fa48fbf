//! Measures what a large fleet and a large policy file cost other clients.
//!
//!     scale [--plugin FILE] [--sessions N] [--rules N] [--expiring N] [--runs N]
//!
//! A publisher and a subscriber exchange a message every millisecond. The longest gap between two messages is how
//! long everybody else waits.
//!
//! * The first table: a broker that keeps sessions of absent clients gets a SIGHUP, with the plugin and without.
//! * The second table: the policy file is read again on a SIGHUP, with few rules and with many, each with a condition
//!   on a claim. It also has the CPU time of the broker's main thread for a sign-in with a new token, and the broker's
//!   private memory.
//! * The third table: the tokens of many connected devices expire in the same second, without jitter and with the
//!   default. It also has how long it takes until the last of them is disconnected. Their rights end at once.

use std::{
    fmt::Write as _,
    fs,
    path::Path,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use serde_json::json;
use testbed::{
    arguments::Arguments,
    broker::{Mosquitto, Version},
    clients::{
        Protocol,
        raw::{ConnectPacket, RawClient},
    },
    crowd::Crowd,
    measure::{
        allow_open_files, elsewhere, in_parallel, main_thread_cpu, median, private_dirty, start,
    },
    progress::progress,
    scratch::Scratch,
    signing::now,
    silence::{Conversation, TOPIC, longest},
    tenant::{AUDIENCE, DEVICE, Device, Tenant},
    wall::WallClock,
};

const SESSIONS: usize = 40_000;
const RULES: usize = 10_000;
const FEW_RULES: usize = 100;
const EXPIRING: usize = 10_000;
/// How long the tokens of these last, in seconds: long enough that the jitter may take a minute of it.
const LIFETIME: u64 = 3600;
const RUNS: usize = 5;
const SIGN_INS: usize = 200;
/// After this time the broker's memory no longer changes.
const SETTLED: Duration = Duration::from_secs(4);
/// How long a SIGHUP may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long messages are recorded before and after a SIGHUP.
const AROUND: Duration = Duration::from_millis(300);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("scale: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let arguments =
        Arguments::read(&["--plugin", "--sessions", "--rules", "--expiring", "--runs"])?;
    let plugin = arguments.plugin()?;
    let sessions = arguments.number("--sessions", 1, SESSIONS)?;
    let rules = arguments.number("--rules", FEW_RULES, RULES)?;
    let expiring = arguments.number("--expiring", 1, EXPIRING)?;
    let runs = arguments.number("--runs", 1, RUNS)?;
    let tenant = elsewhere(Tenant::start);
    tenant.add_device(Device::new(DEVICE, "pass").topics(json!([TOPIC])));

    println!("SIGHUP with {sessions} kept sessions; longest silence in ms, median of {runs}\n");
    println!("| broker | no plugin | plugin | times |");
    println!("|---|---|---|---|");
    for version in [Version::V2_0_21, Version::V2_1_2] {
        let plain = with_sessions(version, None, &tenant, sessions, runs)?;
        let ours = with_sessions(version, Some(&plugin), &tenant, sessions, runs)?;
        println!(
            "| {version} | {plain:.1} | {ours:.1} | {:.1} |",
            ours / plain
        );
    }

    println!("\nA policy file whose rules have a condition on a claim\n");
    println!(
        "| broker | rules | silence when it is read again, ms | a sign-in, µs | private memory, MiB |"
    );
    println!("|---|---|---|---|---|");
    for version in [Version::V2_0_21, Version::V2_1_2] {
        for rules in [FEW_RULES, rules] {
            let row = with_rules(version, &plugin, &tenant, rules, runs)?;
            println!(
                "| {version} | {rules} | {:.1} | {:.0} | {:.1} |",
                row.silence, row.sign_in, row.memory
            );
        }
    }

    println!("\n{expiring} tokens that expire in the same second, median of {runs}\n");
    println!(
        "| broker | expiry_jitter | longest silence, ms | from the first to the last end, s |"
    );
    println!("|---|---|---|---|");
    allow_open_files(expiring as u64 + 200)?;
    for version in [Version::V2_0_21, Version::V2_1_2] {
        for jitter in [0, 60] {
            let ends = (0..runs).map(|_| with_expiry(version, &plugin, &tenant, expiring, jitter));
            let ends = ends.collect::<Result<Vec<_>, _>>()?;
            let of = |what: fn(&End) -> f64| median(&ends.iter().map(what).collect::<Vec<_>>());
            println!(
                "| {version} | {jitter} | {:.1} | {:.1} |",
                of(|end| end.silence),
                of(|end| end.seconds)
            );
        }
    }
    Ok(())
}

/// Returns the longest gap around a SIGHUP, in ms, with this many kept sessions.
fn with_sessions(
    version: Version,
    plugin: Option<&Path>,
    tenant: &Tenant,
    sessions: usize,
    runs: usize,
) -> Result<f64, String> {
    let broker = start(Mosquitto::builder(version).quiet(), plugin, tenant, None)?;
    let token = tenant.token(DEVICE);
    for i in 0..sessions {
        if i % 1000 == 0 {
            progress(&format!("{version}: {i} sessions"));
        }
        let mut connect =
            ConnectPacket::new(Protocol::V311, &format!("kept-{i}")).login("JWT", &token);
        connect.clean = false;
        let client = RawClient::connect(broker.port(), &connect);
        client
            .map_err(|refusal| format!("{refusal:?}"))?
            .disconnect(0);
    }
    progress("");
    silence_at_sighup(&broker, &token, runs, None, || Ok(()))
}

/// Returns the median of the longest gaps around a SIGHUP, in ms. `before` is called before each SIGHUP, which has
/// taken effect when the broker logs `done`.
fn silence_at_sighup(
    broker: &Mosquitto,
    token: &str,
    runs: usize,
    done: Option<&str>,
    before: impl Fn() -> Result<(), String>,
) -> Result<f64, String> {
    let mut silences = Vec::new();
    for _ in 0..runs {
        before()?;
        let conversation = Conversation::start(broker.port(), "JWT", token)?;
        thread::sleep(AROUND);
        let (since, mark) = (Instant::now(), broker.log_mark());
        broker.reload();
        if let Some(done) = done {
            let seen = broker.wait_for_log_after(mark, done, PATIENCE);
            seen.ok_or_else(|| format!("the broker never logged {done}"))?;
        }
        thread::sleep(AROUND);
        silences.push(longest(&conversation.stop(), since).as_secs_f64() * 1000.0);
    }
    Ok(median(&silences))
}

/// What the end of many sessions costs.
struct End {
    silence: f64,
    seconds: f64,
}

/// Connects clients with one token, sets the clock to just before the sessions end, and watches.
fn with_expiry(
    version: Version,
    plugin: &Path,
    tenant: &Tenant,
    clients: usize,
    jitter: u64,
) -> Result<End, String> {
    let wall = WallClock::new()?;
    let (ca_file, jitter_text) = (tenant.ca_file().display().to_string(), jitter.to_string());
    let options = [
        ("domain", tenant.domain()),
        ("audience", AUDIENCE),
        ("ca_file", &ca_file),
        ("leeway", "0"),
        ("expiry_jitter", &jitter_text),
    ];
    let builder = Mosquitto::builder(version).quiet().plugin(plugin, &options);
    let broker = wall
        .of(builder)
        .start()
        .map_err(|error| error.to_string())?;
    broker.expect_log("signing keys were fetched");
    let ends = now() + LIFETIME;
    let token = tenant.mint(DEVICE).claim("exp", ends).sign();
    let connects = (0..clients).map(|i| {
        if i % 1000 == 0 {
            progress(&format!("{version}: {i} clients"));
        }
        let client = ConnectPacket::new(Protocol::V311, &format!("device-{i}"));
        let mut connect = client.login("JWT", &token);
        connect.keepalive = 0;
        connect
    });
    let crowd = Crowd::connect_in_turn(broker.port(), connects);
    let crowd = crowd.map_err(|(number, refusal)| format!("client {number}: {refusal:?}"))?;
    progress("");
    // Some seconds before the first end, for the conversation to begin.
    let left = (ends - now()).saturating_sub(jitter + 3);
    wall.sleep(left as f64);
    let conversation = Conversation::start(broker.port(), "JWT", &tenant.token(DEVICE))?;
    let since = Instant::now();
    let ended = broker.wait_for_log("disconnecting [rights-expired]", PATIENCE);
    ended.ok_or("no session ended")?;
    let first = Instant::now();
    elsewhere(|| crowd.wait_until_closed(2 * PATIENCE));
    let seconds = first.elapsed().as_secs_f64();
    thread::sleep(AROUND);
    let silence = longest(&conversation.stop(), since);
    Ok(End {
        silence: silence.as_secs_f64() * 1000.0,
        seconds,
    })
}

struct Row {
    silence: f64,
    sign_in: f64,
    memory: f64,
}

fn with_rules(
    version: Version,
    plugin: &Path,
    tenant: &Tenant,
    rules: usize,
    runs: usize,
) -> Result<Row, String> {
    let folder = Scratch::new("scale").map_err(|error| error.to_string())?;
    let path = folder.path().join("policy.toml");
    let write = |text: &str| fs::write(&path, text).map_err(|error| error.to_string());
    let text = policy(rules);
    write(&text)?;
    let name = path.to_str().ok_or("a folder whose name is not UTF-8")?;
    let broker = start(
        Mosquitto::builder(version).quiet(),
        Some(plugin),
        tenant,
        Some(name),
    )?;
    let token = tenant.token(DEVICE);
    // The plugin ignores a file that has not changed.
    let edition = std::cell::Cell::new(0);
    let done = Some("is in force: changed are policy_file");
    let silence = silence_at_sighup(&broker, &token, runs, done, || {
        edition.set(edition.get() + 1);
        write(&format!("{text}\n# {}\n", edition.get()))
    })?;

    let tokens = in_parallel(SIGN_INS, |i| {
        tenant
            .mint(DEVICE)
            .claim("jti", i)
            .claim("site", format!("site-{i}"))
            .sign()
    });
    let before = main_thread_cpu(broker.pid());
    for token in &tokens {
        let connect = ConnectPacket::new(Protocol::V311, "device").login("JWT", token);
        let client = RawClient::connect(broker.port(), &connect);
        client
            .map_err(|refusal| format!("{refusal:?}"))?
            .disconnect(0);
    }
    let spent = main_thread_cpu(broker.pid()) - before;
    // The plugin gives free memory back a moment after it has read the file.
    thread::sleep(SETTLED);
    Ok(Row {
        silence,
        sign_in: spent.as_secs_f64() * 1e6 / SIGN_INS as f64,
        memory: private_dirty(broker.pid()) as f64 / 1024.0 / 1024.0,
    })
}

/// Returns a policy file with this many rules, each for the clients of another site.
fn policy(rules: usize) -> String {
    let mut text = String::new();
    for i in 0..rules {
        let _ = writeln!(
            text,
            "[[rule]]\nname = \"site {i}\"\nwhen = {{ claim = {{ name = \"site\", is = \"site-{i}\" }} }}\n\
             allow = {{ both = [\"site/{i}/#\"] }}\n"
        );
    }
    text
}
