//! What a sign-in with a token costs the broker's thread.
//!
//!     connects [--plugin FILE] [--rounds N] [--topics N]
//!
//! One client after the other connects with a token and disconnects: from a broker without plugin, from one
//! with the plugin and always the same token, and from one with the plugin and a new token each time. The
//! packets are the same for all of them. The tool measures the CPU time that the kernel accounts to the
//! broker's main thread, so waiting does not count. Brokers and client share one core, so that no number
//! depends on whether a second core is awake.
//!
//! The three brokers take turns. The result is the median of the differences to the broker without plugin
//! in the same round. The number after the slash is the difference of the cheapest rounds: a busy machine
//! makes a round more expensive, never cheaper. Beside it is the cost of checking the same signatures with
//! `jsonwebtoken` alone, which parses the key for each check (the plugin does that once for each key): in a
//! loop, and one at a time between sign-ins, with caches as cold as the broker's.
//!
//! Both is done once more with a decision log, which a thread of its own writes.
//!
//! Then the same for a new token of each algorithm, with one broker without plugin and one that accepts all algorithms.

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::ExitCode;

use jsonwebtoken::{Algorithm, DecodingKey, crypto, jwk::Jwk};
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;
use testbed::arguments::Arguments;
use testbed::broker::{Mosquitto, Version};
use testbed::clients::Protocol;
use testbed::clients::raw::ConnectPacket;
use testbed::elliptic::{Curve, EllipticKey};
use testbed::measure::{elsewhere, in_parallel, least, main_thread_cpu, median, stay_on_one_core};
use testbed::scratch::Scratch;
use testbed::signing::Alg;
use testbed::tenant::{API_SECRET, AUDIENCE, Device, Mint, Tenant};

/// The number of sign-ins of each kind in a round.
const SIGN_INS: usize = 300;
const ROUNDS: usize = 20;
const ROUNDS_OF_ALGORITHM: usize = 8;
const TOPICS: usize = 5;
const GREENHOUSE: &str = "greenhouse";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("connects: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let arguments = Arguments::read(&["--plugin", "--rounds", "--topics"])?;
    let plugin = arguments.plugin()?;
    let rounds = arguments.number("--rounds", 1, ROUNDS)?;
    let topics = arguments.number("--topics", 0, TOPICS)?;

    let tenant = elsewhere(Tenant::start);
    let topics: Vec<String> = (0..topics).map(|i| format!("greenhouse/{i}/+")).collect();
    tenant.add_device(Device::new(GREENHOUSE, "pass").topics(json!(topics)));
    // One more round, to warm up.
    let count = (rounds + 1) * SIGN_INS;
    eprintln!("signing {count} tokens");
    let tokens = in_parallel(count, |i| {
        tenant
            .mint(GREENHOUSE)
            .claim("jti", format!("{i:08}"))
            .sign()
    });
    println!(
        "tokens of {} bytes, {SIGN_INS} sign-ins of each kind in each of {rounds} rounds",
        tokens[0].len()
    );
    println!("µs of the broker's main thread: median of the rounds / by the cheapest rounds\n");
    println!(
        "| broker | a sign-in without plugin | the same token adds | a new token adds | bare check, one at a time | bare check, in a loop |"
    );
    println!("|---|---|---|---|---|---|");
    stay_on_one_core();
    for version in [Version::V2_0_21, Version::V2_1_2] {
        measure((version, ""), &plugin, &tenant, &tokens, &[])?;
        let scratch = Scratch::new("connects").map_err(|error| error.to_string())?;
        let file = scratch.path().join("decisions.json").display().to_string();
        let more = [("decision_log", file)];
        measure(
            (version, ", decision log"),
            &plugin,
            &tenant,
            &tokens,
            &more,
        )?;
    }
    println!("\nAgain, a new token of each algorithm\n");
    println!("| algorithm | 2.0.21 | 2.1.2 |");
    println!("|---|---|---|");
    measure_algorithms(&plugin, &tenant, rounds.min(ROUNDS_OF_ALGORITHM))
}

/// A broker without plugin, one that always gets the same token, and one that gets a new one each time.
struct Brokers {
    all: [Mosquitto; 3],
}

impl Brokers {
    const PLAIN: usize = 0;
    const SAME: usize = 1;
    const NEW: usize = 2;

    fn start(
        version: Version,
        plugin: &Path,
        tenant: &Tenant,
        more: &[(&str, String)],
    ) -> Result<Self, String> {
        let ca_file = tenant.ca_file().display().to_string();
        let mut options = vec![
            ("domain", tenant.domain()),
            ("audience", AUDIENCE),
            ("ca_file", ca_file.as_str()),
        ];
        options.extend(more.iter().map(|(name, value)| (*name, value.as_str())));
        let builder = || Mosquitto::builder(version).quiet();
        let with_plugin = || -> Result<Mosquitto, String> {
            let started = builder().plugin(plugin, &options).start();
            let broker = started.map_err(|error| error.to_string())?;
            broker.expect_log("signing keys were fetched");
            Ok(broker)
        };
        let plain = builder().allow_anonymous(true).start();
        let plain = plain.map_err(|error| error.to_string())?;
        Ok(Self {
            all: [plain, with_plugin()?, with_plugin()?],
        })
    }
}

/// Microseconds for each sign-in of a round.
struct Round {
    /// Of the main threads of the three brokers.
    sign_ins: [f64; 3],
    /// Of the bare check of a signature, one at a time between sign-ins.
    single_check: f64,
    /// The same, in a loop.
    looped_check: f64,
}

impl Round {
    /// Signs clients in to the three brokers. They take turns, and `number` decides which is the first, so that none
    /// always follows the same other.
    fn measure(
        number: usize,
        brokers: &Brokers,
        same: &[u8],
        tokens: &[(&String, Vec<u8>)],
        key: &DecodingKey,
    ) -> Result<Self, String> {
        let count = tokens.len() as f64;
        let mut sign_ins = [0.0; 3];
        let mut single = 0.0;
        for turn in 0..3 {
            let who = (turn + number) % 3;
            let broker = &brokers.all[who];
            let before = main_thread_cpu(broker.pid());
            for (token, packet) in tokens {
                let packet = if who == Brokers::SAME { same } else { packet };
                sign_in(broker.port(), packet)?;
                if who == Brokers::PLAIN {
                    single += microseconds(|| bare_check(token, key));
                }
            }
            let spent = main_thread_cpu(broker.pid()) - before;
            sign_ins[who] = spent.as_secs_f64() * 1e6 / count;
        }
        let loops = microseconds(|| tokens.iter().for_each(|(token, _)| bare_check(token, key)));
        Ok(Self {
            sign_ins,
            single_check: single / count,
            looped_check: loops / count,
        })
    }
}

/// Measures all rounds with one version of the broker, and prints its row.
fn measure(
    (version, what): (Version, &str),
    plugin: &Path,
    tenant: &Tenant,
    tokens: &[String],
    more: &[(&str, String)],
) -> Result<(), String> {
    let brokers = Brokers::start(version, plugin, tenant, more)?;
    let key = tenant.current_key();
    let jwk: Jwk = serde_json::from_value(key.jwk()).map_err(|error| error.to_string())?;
    let key = DecodingKey::from_jwk(&jwk).map_err(|error| error.to_string())?;
    let same = packet(&tokens[0]);
    let mut rounds = Vec::new();
    for (number, tokens) in tokens.chunks(SIGN_INS).enumerate() {
        let tokens: Vec<_> = tokens.iter().map(|token| (token, packet(token))).collect();
        rounds.push(Round::measure(number, &brokers, &same, &tokens, &key)?);
    }
    // The first is to warm up.
    let rounds = &rounds[1..];

    let series = |of: &dyn Fn(&Round) -> f64| rounds.iter().map(of).collect::<Vec<f64>>();
    let cell = |series: &[f64]| format!("{:.1} / {:.1}", median(series), least(series));
    let plain = series(&|round| round.sign_ins[Brokers::PLAIN]);
    let added = |who: usize| {
        let by_round = series(&|round| round.sign_ins[who] - round.sign_ins[Brokers::PLAIN]);
        let cheapest = least(&series(&|round| round.sign_ins[who])) - least(&plain);
        format!("{:.1} / {cheapest:.1}", median(&by_round))
    };
    let cells = [
        cell(&plain),
        added(Brokers::SAME),
        added(Brokers::NEW),
        cell(&series(&|round| round.single_check)),
        cell(&series(&|round| round.looped_check)),
    ];
    println!("| {version}{what} | {} |", cells.join(" | "));
    Ok(())
}

/// Signs a token.
type Signer = Box<dyn Fn(Mint) -> String + Sync>;

/// Returns each algorithm that the plugin accepts, and what signs with it. The tenant publishes all keys.
fn signers(tenant: &Tenant) -> Vec<(&'static str, Signer)> {
    let mut signers: Vec<(_, Signer)> = Vec::new();
    for alg in Alg::ALL {
        signers.push((alg.name(), Box::new(move |mint: Mint| mint.alg(alg).sign())));
    }
    // A key that names its algorithm is for no other one.
    tenant.configure(|settings| settings.alg_in_jwks = false);
    let mut keys = tenant.jwks();
    for curve in [Curve::P256, Curve::P384, Curve::Ed25519] {
        let key = EllipticKey::generate(curve.algorithm(), curve);
        let list = keys["keys"].as_array_mut().expect("a key set");
        list.push(key.jwk());
        let header = json!({"alg": curve.algorithm(), "typ": "JWT", "kid": curve.algorithm()});
        let sign = move |mint: Mint| key.sign(&header, mint.claim_members());
        signers.push((curve.algorithm(), Box::new(sign)));
    }
    tenant.set_jwks(&keys);
    let secret = |mint: Mint| mint.secret(API_SECRET.as_bytes()).sign();
    signers.push(("HS256", Box::new(secret)));
    signers
}

/// Measures a new token of each algorithm, and prints its row.
fn measure_algorithms(plugin: &Path, tenant: &Tenant, rounds: usize) -> Result<(), String> {
    let signers = signers(tenant);
    let names: Vec<_> = signers.iter().map(|(name, _)| *name).collect();
    let scratch = Scratch::new("connects").map_err(|error| error.to_string())?;
    let secret = scratch.write("secret", API_SECRET).and_then(|file| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600))?;
        Ok(file)
    });
    let secret = secret.map_err(|error| error.to_string())?;
    let more = [
        ("algorithms", names.join(",")),
        ("hs256_secret_file", secret.display().to_string()),
    ];
    let brokers = [Version::V2_0_21, Version::V2_1_2]
        .map(|version| Brokers::start(version, plugin, tenant, &more));
    for (name, sign) in &signers {
        let tokens = in_parallel((rounds + 1) * SIGN_INS, |i| {
            let mint = tenant.mint(GREENHOUSE);
            sign(mint.claim("jti", format!("{i:08}")))
        });
        let packets: Vec<_> = tokens.iter().map(packet).collect();
        let mut cells = Vec::new();
        for brokers in &brokers {
            let [plain, _, plugin] = &brokers.as_ref().map_err(Clone::clone)?.all;
            let mut costs = [Vec::new(), Vec::new()];
            for (number, packets) in packets.chunks(SIGN_INS).enumerate() {
                for turn in [number % 2, 1 - number % 2] {
                    let broker = [plain, plugin][turn];
                    let before = main_thread_cpu(broker.pid());
                    for packet in packets {
                        sign_in(broker.port(), packet)?;
                    }
                    let spent = main_thread_cpu(broker.pid()) - before;
                    costs[turn].push(spent.as_secs_f64() * 1e6 / packets.len() as f64);
                }
            }
            // The first is to warm up.
            let [plain, plugin] = costs.each_ref().map(|series| &series[1..]);
            let added: Vec<f64> = plugin.iter().zip(plain).map(|(a, b)| a - b).collect();
            let cheapest = least(plugin) - least(plain);
            cells.push(format!("{:.1} / {cheapest:.1}", median(&added)));
        }
        println!("| {name} | {} |", cells.join(" | "));
    }
    Ok(())
}

/// Returns the CONNECT with this token.
fn packet(token: &String) -> Vec<u8> {
    ConnectPacket::new(Protocol::V311, "greenhouse")
        .login("JWT", token)
        .packet()
}

/// Connects, disconnects, and waits until the broker closes the connection: then it has nothing left to do.
fn sign_in(port: u16, packet: &[u8]) -> Result<(), String> {
    let go = || -> std::io::Result<[u8; 4]> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.write_all(packet)?;
        let mut connack = [0; 4];
        stream.read_exact(&mut connack)?;
        stream.write_all(&[0xe0, 0])?;
        stream.read_to_end(&mut Vec::new())?;
        Ok(connack)
    };
    match go() {
        Ok([0x20, 2, _, 0]) => Ok(()),
        other => Err(format!("a token was not let in: {other:?}")),
    }
}

fn bare_check(token: &str, key: &DecodingKey) {
    let (message, signature) = token.rsplit_once('.').expect("a token");
    let good = crypto::verify(signature, message.as_bytes(), key, Algorithm::RS256);
    assert!(black_box(good).is_ok_and(|good| good), "a good signature");
}

/// Returns the CPU time that this closure takes, in microseconds.
fn microseconds(work: impl FnOnce()) -> f64 {
    let now = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
    };
    let before = now();
    work();
    now() - before
}
