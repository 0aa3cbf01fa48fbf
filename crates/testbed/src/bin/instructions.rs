//! What a message and a sign-in cost the broker, in instructions.
//!
//!     instructions [--plugin FILE] [--topics N] [--sign-ins N] [--broker VERSION]
//!
//! One client publishes, and one or fifty others are subscribed. The broker runs under callgrind twice, with
//! few and with many messages: the difference is the cost of the messages in user space, independent of what
//! else this machine does. The table compares it with the same broker without plugin.
//!
//! The rights are typical of a fleet: the topic in use is the last one in the claim. A client that repeats a
//! topic costs less than one that goes from topic to topic, so both are counted.
//!
//! `--topics` prints the rows with that number of topics only, and `--sign-ins` those of so many sign-ins only.
//!
//! A sign-in is a CONNECT with a token, the CONNACK and a DISCONNECT: with the same token each time, and with
//! a new token each time, whose signature has to be checked.
//!
//! All threads of the process count. The column "the broker's thread" has the share of the thread that serves the
//! clients, which is what others wait for: the decision log, for example, is written by a thread of its own.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};
use testbed::arguments::Arguments;
use testbed::broker::{Mosquitto, Version};
use testbed::clients::Protocol;
use testbed::clients::raw::{ConnectPacket, RawClient};
use testbed::preload::null_plugin;
use testbed::progress::progress;
use testbed::scratch::Scratch;
use testbed::tenant::{AUDIENCE, Device, Tenant};

/// Deliveries in the short run, and the additional ones in the long run.
const FEW: usize = 100;
/// Topics of a gateway that speaks for many devices.
const MANY: usize = 3500;
const MORE: usize = 60_000;
/// Sign-ins in the short run, and the additional ones in the long run.
const FEW_SIGN_INS: usize = 20;
const MORE_SIGN_INS: usize = 2000;
const PATIENCE: Duration = Duration::from_secs(120);

/// What happens while the broker's instructions are counted.
#[derive(Clone, Copy)]
enum Load {
    /// Messages to a number of subscribers. Their topics take turns.
    Messages {
        topics: usize,
        subscribers: usize,
        count: usize,
    },
    /// Sign-ins with a token.
    SignIns { tokens: TokenUse, count: usize },
}

/// Which token a client signs in with.
#[derive(Clone, Copy)]
enum TokenUse {
    Repeated,
    New,
}

/// One row of the table.
struct CostCase {
    name: &'static str,
    plugin: Option<PathBuf>,
    /// The plugin's configuration; another plugin gets none.
    rights: Option<RightsConfig>,
    /// The maximum cost of a message with one topic: over no plugin, and for each delivery over the null
    /// plugin where there are many.
    limits: Option<(f64, f64)>,
}

#[derive(Default)]
struct RightsConfig {
    topics: Value,
    policy: Option<String>,
    /// Whether the keys come from a file. The plugin then has no thread, and the C library's locks and
    /// cancellation points cost less in a process with one thread.
    jwks_file: bool,
    /// Whether there is another issuer.
    second_issuer: bool,
    /// Whether there is a decision log.
    decision_log: bool,
    /// Further options.
    more: Vec<(&'static str, &'static str)>,
}

/// Instructions.
#[derive(Clone, Copy)]
struct Cost {
    /// Of the whole process.
    process: f64,
    /// Of the thread that serves the clients.
    thread: f64,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("instructions: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let arguments = Arguments::read(&["--plugin", "--topics", "--sign-ins", "--broker"])?;
    let plugin = arguments.plugin()?;
    let only = arguments.number("--topics", 1, 0)?;
    let only_sign_ins = arguments.number("--sign-ins", 1, 0)?;
    let version = Version::named(arguments.text("--broker").unwrap_or("2.0.21"))?;

    let scratch = Scratch::new("instructions").map_err(|error| error.to_string())?;
    let other = |name, plugin| CostCase {
        name,
        plugin,
        rights: None,
        limits: None,
    };
    let ours = |name, rights, limit| CostCase {
        name,
        plugin: Some(plugin.clone()),
        rights: Some(rights),
        limits: Some((limit, 500.0)),
    };
    let twenty = || RightsConfig {
        topics: topics(20),
        ..RightsConfig::default()
    };
    let logged = |more| RightsConfig {
        decision_log: true,
        more,
        ..twenty()
    };
    let cases = [
        other("no plugin", None),
        other("a plugin that does nothing", Some(null_plugin(&scratch)?)),
        ours("20 topics", twenty(), 1500.0),
        ours(
            "1000 topics",
            RightsConfig {
                topics: topics(1000),
                ..twenty()
            },
            1500.0,
        ),
        ours(
            "20 topics, and 1000 rules of the policy file, with `%c`, every tenth denies",
            RightsConfig {
                policy: Some(policy(1000)),
                ..twenty()
            },
            1500.0,
        ),
        ours(
            "20 topics, and no second thread",
            RightsConfig {
                jwks_file: true,
                ..twenty()
            },
            1000.0,
        ),
    ];
    let variants = [
        ours(
            "20 topics, without metrics",
            RightsConfig {
                more: vec![("metrics_interval", "0")],
                ..twenty()
            },
            1500.0,
        ),
        ours(
            "20 topics, two issuers",
            RightsConfig {
                second_issuer: true,
                ..twenty()
            },
            1500.0,
        ),
        // 5 % more than without.
        ours("20 topics, decision log", logged(Vec::new()), 1575.0),
        ours(
            "20 topics, decision log of all messages",
            logged(vec![("decision_log_messages", "all")]),
            f64::INFINITY,
        ),
    ];
    println!("instructions of Mosquitto {version} in user space\n");
    let of_sign_ins = || cases[..3].iter().chain(&variants[..3]);
    if only_sign_ins > 0 {
        return sign_ins(version, of_sign_ins(), only_sign_ins);
    }
    let too_much = messages(version, &cases, &variants, only)?;
    if only == 0 {
        println!();
        sign_ins(version, of_sign_ins(), MORE_SIGN_INS)?;
    }
    match too_much.is_empty() {
        true => Ok(()),
        false => Err(format!("more than it may: {}", too_much.join("; "))),
    }
}

/// Prints what a message costs. Returns the rows that exceed their maximum. The variants are counted with one topic and
/// one subscriber only.
fn messages(
    version: Version,
    cases: &[CostCase],
    variants: &[CostCase],
    only: usize,
) -> Result<Vec<String>, String> {
    println!(
        "| topics in turn | subscribers | | a message | over no plugin | over one that does nothing, for each delivery \
         | the broker's thread |"
    );
    println!("|---|---|---|---|---|---|---|");
    let mut too_much = Vec::new();
    let rows = [(1, 1), (8, 1), (MANY, 1), (1, 50), (8, 50), (MANY, 50)];
    let wanted = rows
        .iter()
        .filter(|(topics, _)| only == 0 || *topics == only);
    for &(topics, subscribers) in wanted {
        let variants = match (topics, subscribers) {
            (1, 1) => variants,
            _ => &[],
        };
        let mut costs = Vec::new();
        for case in cases.iter().chain(variants) {
            progress(&format!(
                "{subscribers} subscribers, {topics} topics in turn, {}",
                case.name
            ));
            let load = |count| Load::Messages {
                topics,
                subscribers,
                count,
            };
            let cost = each(version, case, load, FEW, MORE / subscribers.max(2))?;
            costs.push(cost.process);
            let [all, plain] = [cost.process, costs[0]];
            let delivery = costs.get(1).map(|null| (all - null) / subscribers as f64);
            let delivery = delivery.unwrap_or_default().max(0.0);
            println!(
                "| {topics} | {subscribers} | {} | {all:.0} | {:.0} | {delivery:.0} | {:.0} |",
                case.name,
                all - plain,
                cost.thread,
            );
            if let Some((message, most)) = case.limits
                && topics == 1
                && (subscribers == 1 && all - plain > message || subscribers > 1 && delivery > most)
            {
                too_much.push(format!("{} to {subscribers}", case.name));
            }
        }
    }
    Ok(too_much)
}

/// Prints what a sign-in costs, of so many.
fn sign_ins<'c>(
    version: Version,
    cases: impl Iterator<Item = &'c CostCase> + Clone,
    count: usize,
) -> Result<(), String> {
    println!("| token | | a sign-in | over no plugin | the broker's thread |");
    println!("|---|---|---|---|---|");
    for (name, tokens) in [("repeated", TokenUse::Repeated), ("new", TokenUse::New)] {
        let mut plain = None;
        for case in cases.clone() {
            progress(&format!("sign-ins, {name} token, {}", case.name));
            let load = |count| Load::SignIns { tokens, count };
            let cost = each(version, case, load, FEW_SIGN_INS, count)?;
            let all = cost.process;
            println!(
                "| {name} | {} | {all:.0} | {:.0} | {:.0} |",
                case.name,
                all - *plain.get_or_insert(all),
                cost.thread,
            );
        }
    }
    Ok(())
}

/// Typical filters of a fleet. The last one decides.
fn topics(count: usize) -> Value {
    let mut filters: Vec<String> = (1..count)
        .map(|i| format!("site/{i}/+/temperature"))
        .collect();
    filters.push("site/last/+/+".into());
    json!(filters)
}

/// Typical rules of a fleet: own topics by client ID, some of them denied. The last ones allow the message.
fn policy(count: usize) -> String {
    let mut file = String::new();
    for i in 1..count - 2 {
        let effect = if i % 10 == 0 { "deny" } else { "allow" };
        let _ = writeln!(
            file,
            "[[rule]]\nname = \"{i}\"\n{effect} = {{ both = [\"site/{i}/%c/+\"] }}\n"
        );
    }
    file + r#"
        [[rule]]
        name = "never"
        deny = { both = ["site/last/%c/secret"] }
        [[rule]]
        name = "its own"
        allow = { publish = ["site/last/%c/+"] }
        [[rule]]
        name = "everybody's"
        allow = { subscribe = ["site/last/+/+"] }
    "#
}

/// Returns the cost of one more message or sign-in: the difference between a run with few and one with many.
fn each(
    version: Version,
    case: &CostCase,
    load: impl Fn(usize) -> Load,
    few: usize,
    more: usize,
) -> Result<Cost, String> {
    let short = count(version, case, load(few))?;
    let long = count(version, case, load(few + more))?;
    progress("");
    Ok(Cost {
        process: (long.process - short.process) / more as f64,
        thread: (long.thread - short.thread) / more as f64,
    })
}

/// Returns the instructions of a whole run of the broker with this load.
fn count(version: Version, case: &CostCase, load: Load) -> Result<Cost, String> {
    let tenant = Tenant::start();
    let topics = case.rights.as_ref().map(|rights| rights.topics.clone());
    tenant.add_device(Device::new("thermostat", "pass").topics(topics.unwrap_or_default()));
    // The log types that a broker has by default, without a line for each client.
    let builder = Mosquitto::builder(version).quiet();
    // Not in the broker's own folder, which is removed with the broker.
    let folder = Scratch::new("instructions").map_err(|error| error.to_string())?;
    let out = folder.path().join("callgrind").display().to_string();
    let out_file = format!("--callgrind-out-file={out}");
    let builder = builder.under(&[
        "valgrind",
        "--quiet",
        "--tool=callgrind",
        "--trace-children=yes",
        "--separate-threads=yes",
        &out_file,
    ]);
    let in_folder = |name| builder.folder().join(name).display().to_string();
    let write = |name, text: &str| {
        let file = in_folder(name);
        std::fs::write(&file, text).map_err(|error| error.to_string())?;
        Ok::<_, String>(file)
    };
    let mut options = Vec::new();
    if let Some(rights) = &case.rights {
        options.extend([
            ("domain", tenant.domain().to_owned()),
            ("audience", AUDIENCE.to_owned()),
            ("ca_file", tenant.ca_file().display().to_string()),
            // On a busy machine the keys take long to fetch under valgrind.
            ("timeout", "20".to_owned()),
        ]);
        let keys = write("jwks.json", &tenant.jwks().to_string())?;
        if rights.jwks_file {
            options.push(("jwks_file", keys.clone()));
        }
        if rights.second_issuer {
            let table = format!(
                "[[issuer]]\nissuer = 'https://other.example/'\naudience = '{AUDIENCE}'\njwks_file = '{keys}'\n"
            );
            options.push(("config_file", write("options.toml", &table)?));
        }
        if let Some(rules) = &rights.policy {
            options.push(("policy_file", write("policy.toml", rules)?));
        }
        if rights.decision_log {
            options.push(("decision_log", in_folder("decisions.json")));
        }
        let more = rights.more.iter();
        options.extend(more.map(|(name, value)| (*name, (*value).to_owned())));
    }
    let options: Vec<_> = options
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let builder = match &case.plugin {
        None => builder.allow_anonymous(true),
        Some(plugin) => builder.plugin(plugin, &options),
    };
    let broker = builder.start().map_err(|error| error.to_string())?;
    if case.rights.as_ref().is_some_and(|rights| !rights.jwks_file) {
        broker.expect_log("signing keys were fetched");
    }
    match load {
        Load::Messages {
            topics,
            subscribers,
            count,
        } => publish(&broker, &tenant, topics, subscribers, count)?,
        Load::SignIns { tokens, count } => sign_in(&broker, &tenant, tokens, count)?,
    }
    broker.stop();
    total(folder.path())
}

/// Reads the numbers of instructions from callgrind's files, one for each thread.
fn total(folder: &Path) -> Result<Cost, String> {
    let thread = read_count(&folder.join("callgrind-01"))?;
    let mut process = 0.0;
    for entry in std::fs::read_dir(folder).map_err(|error| error.to_string())? {
        let file = entry.map_err(|error| error.to_string())?.path();
        // The file without a number is empty.
        if file.extension().is_none() && file != folder.join("callgrind") {
            process += read_count(&file)?;
        }
    }
    Ok(Cost { process, thread })
}

/// Reads the number of instructions from one of callgrind's files.
fn read_count(file: &Path) -> Result<f64, String> {
    let text =
        std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let summary = text.lines().find_map(|line| {
        line.strip_prefix("summary: ")
            .or(line.strip_prefix("totals: "))
    });
    let number = summary.and_then(|number| number.trim().parse().ok());
    number.ok_or_else(|| "callgrind counted nothing".into())
}

fn client(broker: &Mosquitto, id: &str, token: &str) -> Result<RawClient, String> {
    let connect = ConnectPacket::new(Protocol::V311, id).login("JWT", token);
    RawClient::connect(broker.port(), &connect).map_err(|refusal| format!("{refusal:?}"))
}

fn publish(
    broker: &Mosquitto,
    tenant: &Tenant,
    topics: usize,
    subscribers: usize,
    count: usize,
) -> Result<(), String> {
    let token = tenant.token("thermostat");
    let topics: Vec<String> = (0..topics)
        .map(|i| format!("site/last/publisher/temperature-{i}"))
        .collect();
    let mut listening = Vec::new();
    for i in 0..subscribers {
        let mut subscriber = client(broker, &format!("subscriber{i}"), &token)?;
        let granted = subscriber
            .subscribe(&[("site/last/+/+", 0)])
            .map_err(|end| format!("{end:?}"))?;
        if granted != [0] {
            return Err("the subscription was refused".into());
        }
        listening.push(subscriber);
    }
    let mut publisher = client(broker, "publisher", &token)?;
    for topic in topics.iter().cycle().take(count) {
        publisher
            .publish(topic, "21.5", 0)
            .map_err(|end| format!("{end:?}"))?;
        for subscriber in &mut listening {
            subscriber
                .next_message(PATIENCE)
                .map_err(|end| format!("{end:?}"))?;
        }
    }
    Ok(())
}

fn sign_in(
    broker: &Mosquitto,
    tenant: &Tenant,
    tokens: TokenUse,
    count: usize,
) -> Result<(), String> {
    let mut token = tenant.token("thermostat");
    for i in 0..count {
        if matches!(tokens, TokenUse::New) {
            token = tenant.mint("thermostat").claim("jti", i).sign();
        }
        client(broker, "thermostat", &token)?.disconnect(0);
    }
    Ok(())
}
