//! How much memory connected devices cost the broker, and how much is left after they disconnect.
//!
//!     memory [--plugin FILE] [--devices N] [--topics N]
//!
//! Ten thousand devices connect, stay and disconnect. Each has a token, a user and a client ID of its own. Then
//! as many others do the same with new tokens. The tool runs this with a broker without plugin, which gets the
//! same packets, and with the plugin: once with the same topics for all devices, and once with topics of its own
//! for each.
//!
//! * The heap is the memory that is allocated and not freed, block by block (`heap.c`). This number is exact.
//! * Private memory is the kernel's number: the pages that the process has written to. It includes free
//!   blocks that the C library keeps, which depend on the order of allocations, and stacks.
//!
//! The remaining memory is read when the heap is back to its initial size and nothing changes any more, at
//! the latest 75 s after the last disconnect: the plugin caches verified tokens for a minute.

use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testbed::arguments::Arguments;
use testbed::broker::{Mosquitto, Version};
use testbed::clients::Protocol;
use testbed::clients::raw::ConnectPacket;
use testbed::crowd::{Crowd, FREED_WITHIN};
use testbed::heap::Heap;
use testbed::measure::{allow_open_files, in_parallel, private_dirty, start};
use testbed::progress::progress;
use testbed::tenant::{DEVICE, Device, Tenant};

const DEVICES: usize = 10_000;
const TOPICS: usize = 20;
const WAVES: usize = 2;
const SETTLED: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("memory: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let arguments = Arguments::read(&["--plugin", "--devices", "--topics"])?;
    let plugin = arguments.plugin()?;
    let devices = arguments.number("--devices", 1, DEVICES)?;
    let topics = arguments.number("--topics", 0, TOPICS)?;
    allow_open_files(devices as u64 + 100)?;

    let tenant = Tenant::start();
    let topics: Vec<String> = (0..topics).map(|i| format!("greenhouse/{i}/+")).collect();
    tenant.add_device(Device::new(DEVICE, "pass").topics(json!(topics)));
    for own in [false, true] {
        progress(&format!("signing {} tokens", WAVES * devices));
        let tokens = in_parallel(WAVES * devices, |i| {
            let token = tenant.mint(DEVICE).claim("sub", user(i));
            match own {
                false => token.sign(),
                true => token.claim("topics", own_topics(i, topics.len())).sign(),
            }
        });
        progress("");
        println!(
            "{devices} devices, tokens of {} bytes with {} topics{}; bytes per device\n",
            tokens[0].len(),
            topics.len(),
            if own { " of its own" } else { "" },
        );
        compare(&plugin, &tenant, &tokens)?;
        println!();
    }
    Ok(())
}

/// Returns topics as a device has them that no other device shares.
fn own_topics(device: usize, topics: usize) -> Value {
    let topics = (0..topics).map(|i| format!("greenhouse/device-{device:06}/{i}/+"));
    topics.collect::<Vec<_>>().into()
}

/// Measures with each broker, and prints what the plugin adds.
fn compare(plugin: &PathBuf, tenant: &Tenant, tokens: &[String]) -> Result<(), String> {
    let devices = tokens.len() / WAVES;
    println!(
        "| broker | | heap: connected | left | after the second wave | private: connected | left | after the second wave |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for version in [Version::V2_0_21, Version::V2_1_2] {
        let plain = measure(version, None, tenant, tokens)?;
        let with = measure(version, Some(plugin), tenant, tokens)?;
        let more: Vec<i64> = with
            .iter()
            .zip(&plain)
            .map(|(with, plain)| with - plain)
            .collect();
        for (what, bytes) in [
            ("no plugin", plain),
            ("plugin", with),
            ("**the plugin adds**", more),
        ] {
            let cells: Vec<String> = bytes
                .iter()
                .map(|bytes| (bytes / devices as i64).to_string())
                .collect();
            println!("| {version} | {what} | {} |", cells.join(" | "));
        }
    }
    Ok(())
}

fn user(number: usize) -> String {
    format!("auth0|{number:024x}")
}

/// Returns bytes in addition to those of the broker without clients: the heap with all devices connected,
/// after they disconnected, and after the second wave; then private memory at the same times.
fn measure(
    version: Version,
    plugin: Option<&PathBuf>,
    tenant: &Tenant,
    tokens: &[String],
) -> Result<Vec<i64>, String> {
    let heap = Heap::new()?;
    let builder = heap.watch(Mosquitto::builder(version).quiet());
    let broker = start(builder, plugin.map(PathBuf::as_path), tenant, None)?;
    let what = plugin.map_or("no plugin", |_| "plugin");
    let name = format!("{version}, {what}");
    let now = || [heap.now().bytes, private_dirty(broker.pid())];
    let empty = now();
    let over = |now: [i64; 2]| [now[0] - empty[0], now[1] - empty[1]];
    let devices = tokens.len() / WAVES;
    let (mut connected, mut left) = (None, Vec::new());
    for wave in 0..WAVES {
        let connects = (wave * devices..(wave + 1) * devices).map(|i| {
            if i % 500 == 0 {
                progress(&format!(
                    "{name}, wave {}: {} in",
                    wave + 1,
                    i - wave * devices
                ));
            }
            let mut connect = ConnectPacket::new(Protocol::V311, &format!("device-{i:06}"))
                .login("JWT", &tokens[i]);
            connect.keepalive = 0;
            connect
        });
        let crowd =
            Crowd::connect_in_turn(broker.port(), connects).map_err(|(number, refusal)| {
                format!("device {number}: {refusal:?}\n{}", broker.log())
            })?;
        connected.get_or_insert(over(now()));
        crowd.leave();
        let name = format!("{name}, wave {}", wave + 1);
        left.push(once_settled(&name, || over(now())));
    }
    progress("");
    let connected = connected.expect("two waves");
    let series = |what: usize| [connected[what], left[0][what], left[1][what]];
    Ok([series(0), series(1)].concat())
}

/// Waits until the heap is free and nothing has changed for a while, because the broker returns free memory to the
/// system at its next opportunity; or until the time is up. Returns the heap and the private memory then.
fn once_settled(name: &str, now: impl Fn() -> [i64; 2]) -> [i64; 2] {
    let began = Instant::now();
    let mut last = now();
    let mut settled = began;
    while began.elapsed() < FREED_WITHIN && (last[0] > 1024 || settled.elapsed() < SETTLED) {
        thread::sleep(Duration::from_secs(1));
        let next = now();
        if next[1] != last[1] || next[0] > 1024 {
            settled = Instant::now();
        }
        last = next;
        progress(&format!(
            "{name}: {} KiB of heap left after {} s",
            last[0] / 1024,
            began.elapsed().as_secs()
        ));
    }
    last
}
