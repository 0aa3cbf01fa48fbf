//! Measures what a large fleet and a large policy file cost other clients.
//!
//!     scale [--plugin FILE] [--sessions N] [--rules N] [--expiring N] [--restored N] [--runs N]
//!           [--only sighup|policy|expiry|restart] [--broker VERSION]
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
//! * The fourth table: a broker restores the sessions of many absent devices, with the plugin and without. It has the
//!   longest gap after the start, until the broker has nothing to do, and around the first and the second message that
//!   is queued for all of them. The plugin makes the rights of each session from what was saved: on 2.1 in the first of
//!   these times, on 2.0 at the first message. Each run restarts the broker once more.

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
const RESTORED: usize = 100_000;
/// The topic of a message for all absent devices.
const TO_ALL: &str = "t/o/a/l/l/o/f/t/h/e/m";
const RUNS: usize = 5;
const SIGN_INS: usize = 200;
/// After this time the broker's memory no longer changes.
const SETTLED: Duration = Duration::from_secs(4);
/// A broker whose memory grows by less in this time, in bytes, has nothing to do.
const NOTHING: i64 = 256 * 1024;
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
    let arguments = Arguments::read(&[
        "--plugin",
        "--sessions",
        "--rules",
        "--expiring",
        "--restored",
        "--runs",
        "--only",
        "--broker",
    ])?;
    let plugin = arguments.plugin()?;
    let sessions = arguments.number("--sessions", 1, SESSIONS)?;
    let rules = arguments.number("--rules", FEW_RULES, RULES)?;
    let expiring = arguments.number("--expiring", 1, EXPIRING)?;
    let restored = arguments.number("--restored", 1, RESTORED)?;
    let runs = arguments.number("--runs", 1, RUNS)?;
    let versions = match arguments.text("--broker") {
        Some(name) => vec![Version::named(name)?],
        None => vec![Version::V2_0_21, Version::V2_1_2],
    };
    let tenant = elsewhere(Tenant::start);
    tenant.add_device(Device::new(DEVICE, "pass").topics(json!([TOPIC, "t/#"])));

    type Table<'t> = (&'t str, &'t dyn Fn() -> Result<(), String>);
    let tables: [Table; 4] = [
        ("sighup", &|| {
            sighup(&versions, &plugin, &tenant, sessions, runs)
        }),
        ("policy", &|| {
            policy_file(&versions, &plugin, &tenant, rules, runs)
        }),
        ("expiry", &|| {
            expiry(&versions, &plugin, &tenant, expiring, runs)
        }),
        ("restart", &|| {
            restart(&versions, &plugin, &tenant, restored, runs)
        }),
    ];
    let only = arguments.text("--only");
    let wanted = tables
        .iter()
        .filter(|(name, _)| only.is_none_or(|only| only == *name));
    let wanted: Vec<_> = wanted.collect();
    if wanted.is_empty() {
        return Err("--only is one of sighup, policy, expiry, restart".into());
    }
    wanted.into_iter().try_for_each(|(_, table)| table())
}

fn sighup(
    versions: &[Version],
    plugin: &Path,
    tenant: &Tenant,
    sessions: usize,
    runs: usize,
) -> Result<(), String> {
    println!("SIGHUP with {sessions} kept sessions; longest silence in ms, median of {runs}\n");
    println!("| broker | no plugin | plugin | times |");
    println!("|---|---|---|---|");
    for &version in versions {
        let plain = with_sessions(version, None, tenant, sessions, runs)?;
        let ours = with_sessions(version, Some(plugin), tenant, sessions, runs)?;
        println!(
            "| {version} | {plain:.1} | {ours:.1} | {:.1} |",
            ours / plain
        );
    }
    Ok(())
}

fn policy_file(
    versions: &[Version],
    plugin: &Path,
    tenant: &Tenant,
    rules: usize,
    runs: usize,
) -> Result<(), String> {
    println!("\nA policy file whose rules have a condition on a claim\n");
    println!(
        "| broker | rules | silence when it is read again, ms | a sign-in, µs | private memory, MiB |"
    );
    println!("|---|---|---|---|---|");
    for &version in versions {
        for rules in [FEW_RULES, rules] {
            let row = with_rules(version, plugin, tenant, rules, runs)?;
            println!(
                "| {version} | {rules} | {:.1} | {:.0} | {:.1} |",
                row.silence, row.sign_in, row.memory
            );
        }
    }
    Ok(())
}

fn expiry(
    versions: &[Version],
    plugin: &Path,
    tenant: &Tenant,
    expiring: usize,
    runs: usize,
) -> Result<(), String> {
    println!("\n{expiring} tokens that expire in the same second, median of {runs}\n");
    println!(
        "| broker | expiry_jitter | longest silence, ms | from the first to the last end, s |"
    );
    println!("|---|---|---|---|");
    allow_open_files(expiring as u64 + 200)?;
    for &version in versions {
        for jitter in [0, 60] {
            let ends = (0..runs).map(|_| with_expiry(version, plugin, tenant, expiring, jitter));
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

fn restart(
    versions: &[Version],
    plugin: &Path,
    tenant: &Tenant,
    sessions: usize,
    runs: usize,
) -> Result<(), String> {
    println!("\n{sessions} restored sessions; longest silence in ms, median of {runs}\n");
    println!("| broker | | after the start | first message to all | second message to all |");
    println!("|---|---|---|---|---|");
    for &version in versions {
        for (name, plugin) in [("no plugin", None), ("plugin", Some(plugin))] {
            let [start, first, second] = with_restored(version, plugin, tenant, sessions, runs)?;
            println!("| {version} | {name} | {start:.1} | {first:.1} | {second:.1} |");
        }
    }
    Ok(())
}

/// Returns the longest gaps after a restart with this many kept sessions, in ms: in the seconds after the start, and
/// around the first and the second message that is queued for all of them.
fn with_restored(
    version: Version,
    plugin: Option<&Path>,
    tenant: &Tenant,
    sessions: usize,
    runs: usize,
) -> Result<[f64; 3], String> {
    let folder = Scratch::new("scale").map_err(|error| error.to_string())?;
    let state_dir = folder
        .path()
        .to_str()
        .ok_or("a folder whose name is not UTF-8")?;
    let ca_file = tenant.ca_file().display().to_string();
    let options = [
        ("domain", tenant.domain()),
        ("audience", AUDIENCE),
        ("ca_file", &ca_file),
        ("state_dir", state_dir),
    ];
    // Without the last line 2.0 compares each client ID with those of all clients that the message is queued for
    // already. For 100,000 that takes twenty seconds (2.0.21, src/database.c, db__message_insert).
    let builder = Mosquitto::builder(version)
        .quiet()
        .persistence(true)
        .config("allow_duplicate_messages true");
    let builder = match plugin {
        None => builder.allow_anonymous(true),
        Some(plugin) => builder.plugin(plugin, &options),
    };
    let mut broker = builder.start().map_err(|error| error.to_string())?;
    if plugin.is_some() {
        broker.expect_log("signing keys were fetched");
    }
    let token = tenant.token(DEVICE);
    for i in 0..sessions {
        if i % 1000 == 0 {
            progress(&format!("{version}: {i} sessions"));
        }
        let connect = ConnectPacket::new(Protocol::V311, &format!("kept-{i}"));
        let mut connect = connect.login("JWT", &token);
        connect.clean = false;
        let client = RawClient::connect(broker.port(), &connect);
        let mut client = client.map_err(|refusal| format!("{refusal:?}"))?;
        let granted = client.subscribe(&[(&filter_for_all(i), 1)]);
        granted.map_err(|end| format!("{end:?}"))?;
        client.disconnect(0);
    }
    progress("");
    let mut silences = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..runs {
        broker = broker.restart().map_err(|error| error.to_string())?;
        if plugin.is_some() {
            broker.expect_log("signing keys were fetched");
        }
        let publisher = ConnectPacket::new(Protocol::V311, "to-all").login("JWT", &token);
        let publisher = RawClient::connect(broker.port(), &publisher);
        let mut publisher = publisher.map_err(|refusal| format!("{refusal:?}"))?;
        for (number, silences) in silences.iter_mut().enumerate() {
            let conversation = Conversation::start(broker.port(), "JWT", &token)?;
            let since = Instant::now();
            match number {
                0 => wait_until_settled(&broker),
                _ => {
                    thread::sleep(AROUND);
                    let told = publisher.publish(TO_ALL, "x", 1);
                    told.map_err(|end| format!("{end:?}"))?;
                    thread::sleep(AROUND);
                }
            }
            silences.push(longest(&conversation.stop(), since).as_secs_f64() * 1000.0);
        }
    }
    Ok(silences.each_ref().map(|silences| median(silences)))
}

/// Waits until the broker's memory no longer grows: then the plugin has made what it makes at ticks.
fn wait_until_settled(broker: &Mosquitto) {
    let mut before = 0;
    loop {
        thread::sleep(SETTLED);
        let memory = private_dirty(broker.pid());
        if memory < before + NOTHING {
            return;
        }
        before = memory;
    }
}

/// Returns one of 1024 filters that match the topic for all: the broker goes through all subscriptions to a filter when
/// it adds another one.
fn filter_for_all(number: usize) -> String {
    let levels = TO_ALL.split('/').enumerate();
    let levels = levels.map(
        |(level, name)| match level > 0 && number >> (level - 1) & 1 == 1 {
            true => "+",
            false => name,
        },
    );
    levels.collect::<Vec<_>>().join("/")
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
