//! Compares the documentation with the code: its tables must be complete, and its examples must start
//! brokers.
//!
//! A check that does not find its subject fails.

use std::{
    collections::HashMap,
    env, fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
};

use acl::{
    claims::{
        Grants,
        permissions::{self, Verbs},
        topics,
    },
    policy_file::Rulebook,
    rights::{Profile, Rights},
    rules::Ask,
};
use auth::{
    clock::Unix,
    config::options::{self, DefaultValue},
    refusal::Reason,
};
use serde_json::json;
use testbed::{
    broker::{Mosquitto, Version},
    clients::MosquittoClient,
    glewlwyd::Glewlwyd,
    pki::Authority,
    scratch::Scratch,
    tenant::{CLIENT_ID, CLIENT_SECRET, DEVICE, PASSWORD, Tenant},
};

fn readme() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap()
}

/// Returns the rows of the table under this heading, as cells.
fn table(heading: &str) -> Vec<Vec<String>> {
    let readme = readme();
    let (_, section) = readme
        .split_once(&format!("\n## {heading}\n"))
        .expect(heading);
    let section = section.split("\n## ").next().unwrap();
    let cells = |line: &str| {
        line.trim_matches('|')
            .split(" | ")
            .map(|cell| cell.trim().to_owned())
            .collect()
    };
    let rows: Vec<_> = section
        .lines()
        .filter(|line| line.starts_with('|'))
        .skip(2)
        .map(cells)
        .collect();
    assert!(!rows.is_empty(), "no table under {heading}");
    rows
}

/// The README has some of the options, with their defaults. `tests/generated.rs` checks the complete lists.
#[test]
fn the_table_of_options_agrees_with_the_code() {
    let rows = table("Options");
    for row in &rows {
        let name = row[0].trim_matches('`');
        let option = options::find(name).unwrap_or_else(|| panic!("there is no option {name}"));
        let default = match option.default {
            DefaultValue::Value(value) => format!("`{value}`"),
            DefaultValue::Needed(text) | DefaultValue::Unset(text) => text.to_owned(),
        };
        assert_eq!(row[2], default, "{name}");
    }
    let named = |name| rows.iter().any(|row| row[0] == format!("`{name}`"));
    let mut needed = options::all().filter(|o| matches!(o.default, DefaultValue::Needed("needed")));
    assert!(needed.all(|option| named(option.name)));
}

/// Every option and every reason that a document mentions exists.
#[test]
fn documents_mention_only_what_exists() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let mut pages: Vec<_> = fs::read_dir(docs)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    pages.push(readme());
    let mut seen = 0;
    for page in &pages {
        for after in page.split("plugin_opt_").skip(1) {
            let name =
                after.split(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit() && c != '_');
            let name = name.into_iter().next().unwrap();
            assert!(name.is_empty() || options::find(name).is_some(), "{name}");
            seen += 1;
        }
        for after in page.split("`[").skip(1) {
            let Some((code, _)) = after.split_once("]`") else {
                continue;
            };
            if code.bytes().all(|b| b.is_ascii_lowercase() || b == b'-') {
                let exists = Reason::ALL.iter().any(|reason| reason.code() == code);
                assert!(exists, "there is no reason {code}");
                seen += 1;
            }
        }
    }
    assert!(seen > 80, "this test still finds names: {seen}");
}

/// Returns the example with this name.
fn example(name: &str) -> String {
    let readme = readme();
    let marker = format!("<!-- tested: {name} -->\n```conf\n");
    let (_, rest) = readme
        .split_once(&marker)
        .unwrap_or_else(|| panic!("no example {name}"));
    rest.split("```").next().unwrap().to_owned()
}

/// Starts a broker with exactly these lines, except for placeholders: names of files and of the tenant, and
/// the port. A test's tenant has an authority of its own, so `ca_file` is added.
fn start(
    version: Version,
    name: &str,
    replace: &[(&str, &str)],
    ca_file: &Path,
    client_secret: &str,
) -> (Mosquitto, PathBuf) {
    let builder = Mosquitto::builder(version);
    let folder = builder.folder().to_owned();
    let authority = Authority::new("the broker's authority");
    let leaf = authority.issue(&["localhost", "127.0.0.1"]);
    let put = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        path.display().to_string()
    };
    let ca = folder.join("broker-ca.pem");
    fs::write(&ca, authority.pem()).unwrap();
    let plugin = testbed::plugin::file();
    let mut text = example(name);
    let mut substitute = |from: &str, to: &str| {
        assert!(text.contains(from), "{name} has {from}");
        text = text.replace(from, to);
    };
    substitute(
        "/etc/mosquitto/certs/server.pem",
        &put("server.pem", &leaf.cert_pem),
    );
    substitute(
        "/etc/mosquitto/certs/server.key",
        &put("server.key", &leaf.key_pem),
    );
    substitute(
        "/usr/lib/x86_64-linux-gnu/mosquitto_auth0.so",
        plugin.to_str().unwrap(),
    );
    for (from, to) in replace {
        substitute(from, to);
    }
    if text.contains("client_secret_file") {
        text = text.replace(
            "/etc/mosquitto/auth0.secret",
            &put("auth0.secret", client_secret),
        );
    }
    text = text.replace(
        "plugin_opt_audience",
        &format!(
            "plugin_opt_ca_file {}\nplugin_opt_audience",
            ca_file.display()
        ),
    );

    // Each listener of the example becomes one of the harness's, which chooses a free port.
    let mut parts = text.split("listener ");
    let mut builder = builder.config(parts.next().unwrap().trim());
    for part in parts {
        let (_, lines) = part.split_once('\n').unwrap();
        builder = builder.listener(testbed::broker::Listener::tcp().config(lines.trim()));
    }
    let broker = builder
        .start()
        .unwrap_or_else(|e| panic!("{name} on {version}: {}\n{text}", e.log));
    (broker, ca)
}

/// Returns the README's policy file with this name.
fn policy_example(name: &str) -> Arc<Rulebook> {
    let readme = readme();
    let marker = format!("<!-- tested: {name} -->\n```toml\n");
    let (_, rest) = readme.split_once(&marker).unwrap();
    Arc::new(Rulebook::read(rest.split("```").next().unwrap()).unwrap())
}

fn profile(client_id: &str, claims: &serde_json::Value) -> Profile {
    Profile {
        client_id: client_id.into(),
        username: "auth0|1".into(),
        claims: Arc::new(claims.as_object().unwrap().clone()),
        address: None,
        port: None,
        certificate: None,
    }
}

fn publish(qos: u8, retain: bool, payload: u32) -> Ask {
    Ask::Publish {
        qos,
        retain,
        payload,
    }
}

const PLAIN: Ask = Ask::Publish {
    qos: 1,
    retain: false,
    payload: 1,
};
const SUBSCRIBE: Ask = Ask::Subscribe { qos: Some(1) };

/// 23:00 and noon in Berlin, on a Friday.
const NIGHT: Unix = Unix(1_767_996_000);
const NOON: Unix = Unix(1_767_956_400);

/// The README's policy file has the effects that the README describes.
#[test]
fn the_example_of_a_policy_file() {
    let book = policy_example("policy");
    let rights = |client_id: &str, address: &str, claims: serde_json::Value| {
        let profile = Profile {
            address: address.parse().ok(),
            ..profile(client_id, &claims)
        };
        Rights::new(Arc::default(), Some(&book), profile).unwrap()
    };
    let pump = rights(
        "pump-1",
        "192.0.2.1",
        json!({"https://mqtt.example/roles": ["gardener"], "site": "north", "tier": "gold", "sites": ["a", "b"]}),
    );
    for (ask, topic, now, allowed) in [
        (publish(1, false, 1024), "devices/pump-1/state", NOON, true),
        (publish(1, false, 1025), "devices/pump-1/state", NOON, false),
        (publish(2, false, 1), "devices/pump-1/state", NOON, false),
        (publish(1, true, 1), "devices/pump-1/state", NOON, false),
        (PLAIN, "devices/pump-2/state", NOON, false),
        (SUBSCRIBE, "devices/pump-1/command/#", NOON, true),
        (PLAIN, "valves/north/7", NIGHT, true),
        (PLAIN, "valves/north/7", NOON, false),
        (PLAIN, "valves/south/7", NIGHT, false),
        (PLAIN, "valves/north/main", NIGHT, false),
        (SUBSCRIBE, "news/b", NOON, true),
        (SUBSCRIBE, "news/c", NOON, false),
        (Ask::Receive, "public/x", NOON, true),
        (PLAIN, "anything", NOON, false),
    ] {
        assert_eq!(
            pump.allow(ask, topic.as_bytes(), now),
            allowed,
            "{ask:?} {topic}"
        );
    }
    for (client_id, tier) in [("pump-1", "iron"), ("valve-1", "gold")] {
        let other = rights(
            client_id,
            "192.0.2.1",
            json!({"tier": tier, "sites": ["b"]}),
        );
        assert!(!other.allow(SUBSCRIBE, b"news/b", NOON));
    }
    let claims = json!({"permissions": ["maintain"]});
    let inside = rights("x", "10.1.2.3", claims.clone());
    assert!(inside.allow(PLAIN, b"anything", NOON));
    assert!(!inside.allow(PLAIN, b"valves/x/main", NOON));
    assert!(!rights("x", "10.1.2.3", json!({})).allow(PLAIN, b"anything", NOON));
    assert!(!rights("x", "192.0.2.1", claims).allow(PLAIN, b"anything", NOON));
}

/// The other policy file.
#[test]
fn the_example_of_more_rules() {
    let book = policy_example("more-policy");
    let print = auth::secret::sha256(b"test");
    let rights = |port, certificate, claims: serde_json::Value| {
        let profile = Profile {
            port: Some(port),
            certificate,
            ..profile("x", &claims)
        };
        Rights::new(Arc::default(), Some(&book), profile).unwrap()
    };
    let service = || json!({"https://mqtt.example/teams": ["sales", "service"]});
    let other = json!({"https://mqtt.example/teams": ["sales"]});
    for (port, claims, allowed) in [
        (8884, service(), true),
        (8883, service(), false),
        (8884, other, false),
    ] {
        let rights = rights(port, None, claims);
        assert_eq!(rights.allow(PLAIN, b"service/x", NOON), allowed, "{port}");
    }

    let gateway = rights(8883, Some(print), json!({}));
    // The next Thursday night.
    let thursday = Unix(NIGHT.0 + 6 * 86_400);
    for (ask, topic, now, allowed) in [
        (PLAIN, "gateway/1/x", NOON, true),
        (publish(1, true, 1), "gateway/1/x", NOON, false),
        (PLAIN, "gateway/1/settings", NOON, true),
        (PLAIN, "gateway/1/settings", NIGHT, false),
        (PLAIN, "gateway/1/settings", thursday, true),
    ] {
        let found = gateway.allow(ask, topic.as_bytes(), now);
        assert_eq!(found, allowed, "{ask:?} {topic} {now:?}");
    }
    let attacker = rights(8883, Some([7; 32]), json!({}));
    assert!(!attacker.allow(PLAIN, b"gateway/1/x", NOON));

    let large = rights(8883, None, json!({"app": {"plan": "large"}}));
    assert!(large.allow(PLAIN, b"reports/auth0|1", NOON));
    assert!(large.allow(SUBSCRIBE, b"reports/auth0|1/#", NOON));
    assert!(!large.allow(Ask::Subscribe { qos: Some(2) }, b"reports/auth0|1/#", NOON));
    assert!(!large.allow(PLAIN, b"reports/auth0|2", NOON));
    let small = rights(8883, None, json!({"app": {"plan": "small"}}));
    assert!(!small.allow(PLAIN, b"reports/auth0|1", NOON));

    // Whatever the token says.
    let token = Grants::compile(&topics::topics(&json!(["reports/#"]), false).unwrap());
    let all = Rights::new(Arc::new(token), Some(&book), profile("x", &json!({}))).unwrap();
    assert!(!all.allow(SUBSCRIBE, b"reports/#", NOON));
    assert!(all.allow(SUBSCRIBE, b"reports/a/#", NOON));
    assert!(all.allow(Ask::Receive, b"reports/a", NOON));
}

/// The page about Auth0: its rules and options are valid.
#[test]
fn the_examples_of_the_page_about_auth0() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/auth0.md");
    let page = fs::read_to_string(page).unwrap();
    let blocks = |kind: &str| {
        let parts: Vec<_> = page.split(&format!("```{kind}\n")).skip(1).collect();
        assert!(parts.len() > 1, "{kind}");
        parts
            .iter()
            .map(|part| part.split("```").next().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    for rules in blocks("toml") {
        let book = Rulebook::read(&rules).unwrap_or_else(|e| panic!("{e}\n{rules}"));
        assert!(!book.is_empty());
    }
    for lines in blocks("conf") {
        for line in lines.lines() {
            let option = line.strip_prefix("plugin_opt_").unwrap();
            let name = option.split(' ').next().unwrap();
            assert!(options::find(name).is_some(), "{line}");
        }
    }
}

/// The forms of claims that the README describes.
#[test]
fn the_examples_of_claims() {
    let readme = readme();
    let (_, section) = readme.split_once("\n### The claim `topics`\n").unwrap();
    let block = section.split("```json\n").nth(1).unwrap();
    let lines: Vec<_> = block.split("```").next().unwrap().lines().collect();
    assert_eq!(lines.len(), 4);
    for line in lines {
        let claim: serde_json::Value = serde_json::from_str(line).unwrap();
        topics::topics(&claim["topics"], false).unwrap_or_else(|e| panic!("{line}: {e}"));
    }
    let (_, section) = readme.split_once("\n### Auth0's permissions").unwrap();
    let block = section.split("```json\n").nth(1).unwrap();
    let claims: serde_json::Value =
        serde_json::from_str(block.split("```").next().unwrap()).unwrap();
    let rules = permissions::permissions(&claims["permissions"], &Verbs::default(), false);
    assert_eq!(rules.unwrap().len(), 3);
}

#[test]
fn the_example_for_tokens() {
    for version in Version::ALL {
        let tenant = Tenant::start();
        let replace = [("YOUR-TENANT.eu.auth0.com", tenant.domain())];
        let (broker, ca) = start(version, "tokens", &replace, tenant.ca_file(), "");
        let client = MosquittoClient::of(&broker)
            .host("localhost")
            .ca_file(ca)
            .username("JWT")
            .password(&tenant.token(DEVICE));
        client.publish("temperature", "20.5").expect_success();
    }
}

#[test]
fn the_example_for_credentials() {
    for version in Version::ALL {
        let tenant = Tenant::start();
        let replace = [
            ("YOUR-TENANT.eu.auth0.com", tenant.domain()),
            ("YOUR-CLIENT-ID", CLIENT_ID),
        ];
        let (broker, ca) = start(
            version,
            "credentials",
            &replace,
            tenant.ca_file(),
            CLIENT_SECRET,
        );
        let client = MosquittoClient::of(&broker)
            .host("localhost")
            .ca_file(ca)
            .username(DEVICE)
            .password(PASSWORD);
        client.publish("temperature", "20.5").expect_success();
    }
}

#[test]
fn the_example_for_two_listeners() {
    for version in Version::ALL {
        let tenant = Tenant::start();
        let replace = [("YOUR-TENANT.eu.auth0.com", tenant.domain())];
        let (broker, ca) = start(version, "two-listeners", &replace, tenant.ca_file(), "");
        let [tls, local] = broker.ports() else {
            panic!("two ports")
        };
        let device = MosquittoClient::of(&broker)
            .host("localhost")
            .port(*tls)
            .ca_file(ca);
        device
            .clone()
            .username("JWT")
            .password(&tenant.token(DEVICE))
            .publish("temperature", "20.5")
            .expect_success();
        assert!(!device.publish("temperature", "20.5").success());
        MosquittoClient::of(&broker)
            .port(*local)
            .publish("temperature", "20.5")
            .expect_success();
    }
}

#[test]
fn the_example_for_another_provider() {
    let Some(server) =
        Glewlwyd::start_unless_left_out(&Authority::new("the provider's authority")).unwrap()
    else {
        return;
    };
    for version in Version::ALL {
        let replace = [
            ("https://id.example/api/oidc", server.issuer()),
            ("YOUR-CLIENT-ID", server.client_id()),
        ];
        let (broker, ca) = start(
            version,
            "other-provider",
            &replace,
            &server.ca_file(),
            server.client_secret(),
        );
        let client = MosquittoClient::of(&broker).host("localhost").ca_file(ca);
        let client = client
            .username(server.username())
            .password(server.password());
        // On a busy machine the response may come too late for the first try on 2.0, as for any device.
        let mut tries = (0..3).map(|_| client.publish("temperature", "20.5"));
        if !tries.any(|outcome| outcome.success()) {
            client.publish("temperature", "20.5").expect_success();
        }
    }
}

/// Returns the blocks of commands after these words, up to the next heading.
fn commands(after: &str) -> Vec<String> {
    let readme = readme();
    let (_, rest) = readme.split_once(after).expect(after);
    let section = rest.split("\n#").next().unwrap();
    let blocks: Vec<_> = section
        .split("```sh\n")
        .skip(1)
        .map(|block| block.split("\n```").next().unwrap().to_owned())
        .collect();
    assert!(!blocks.is_empty(), "no commands after {after}");
    blocks
}

/// The README's local tenant, started with the README's command. Dropping it stops it.
struct LocalTenant {
    process: Child,
    /// The options that it prints.
    options: HashMap<String, String>,
    /// The first device that it prints.
    device: HashMap<String, String>,
    _folder: Scratch,
}

impl LocalTenant {
    fn start() -> Self {
        let block = &commands("have one on this machine:")[0];
        let (build, run) = block.split_once('\n').unwrap();
        assert_eq!(build, "cargo build -p testbed --bin tenant");
        let arguments = run.strip_prefix("target/debug/tenant ").unwrap();
        let folder = Scratch::new("readme-tenant").unwrap();
        let arguments = arguments.replace("/tmp/tenant", folder.path().to_str().unwrap());
        let mut process = Command::new(env!("CARGO"))
            .args("run --quiet --locked -p testbed --bin tenant --".split(' '))
            .args(arguments.split(' '))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut block = || {
            let mut block = HashMap::new();
            for line in lines.by_ref().map(Result::unwrap) {
                let Some((name, value)) = line.split_once(' ') else {
                    break; // an empty line is between two blocks
                };
                block.insert(name.to_owned(), value.to_owned());
                if name == "token" {
                    break; // the last word about a device, and the tenant stays
                }
            }
            block
        };
        Self {
            options: block(),
            device: block(),
            process,
            _folder: folder,
        }
    }
}

impl Drop for LocalTenant {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Follows the README without a tenant of Auth0's: starts the README's tenant, gives the README's broker the
/// options that the tenant prints, and runs the README's commands.
#[test]
fn the_commands_to_try_it_with_a_local_tenant() {
    let tenant = LocalTenant::start();
    let option = |name: &str| tenant.options[name].as_str();
    let device = |name: &str| tenant.device[name].as_str();
    assert_eq!(device("username"), "thermostat-1a");
    let ca_file = Path::new(option("ca_file"));
    let placeholders = [
        ("YOUR-TENANT.eu.auth0.com", option("domain")),
        ("YOUR-CLIENT-ID", option("client_id")),
    ];
    for version in Version::ALL {
        let secret = option("client_secret");
        let (broker, broker_ca) = start(version, "credentials", &placeholders, ca_file, secret);
        let trusted = format!("--cafile {}", broker_ca.display());
        let programs = version.program("mosquitto_pub").unwrap();
        let programs = programs.parent().unwrap().display();
        let path = format!("{programs}:{}", env::var("PATH").unwrap());
        let port = format!("-p {}", broker.port());
        let blocks = commands("\n### 7. Try it\n");
        assert_eq!(blocks.len(), 2, "with a password, and with a token");
        for block in blocks {
            let mut typed = block;
            for (from, to) in [
                ("BROKER", "localhost"),
                ("-p 8883", &port),
                ("--capath /etc/ssl/certs", &trusted),
                ("ITS-PASSWORD", "its-password"),
                ("THE-CLIENT-SECRET", secret),
            ]
            .into_iter()
            .chain(placeholders)
            {
                typed = typed.replace(from, to);
            }
            let output = Command::new("bash")
                .args(["-c", &typed])
                .env("PATH", &path)
                .env("CURL_CA_BUNDLE", ca_file)
                .env("NO_PROXY", "localhost")
                .env("XDG_CONFIG_HOME", "/dev/null")
                .env_remove("LD_LIBRARY_PATH")
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            // 16: there is no subscriber, as the README says.
            assert!(
                output.status.success() && said.contains("PUBACK (Mid: 1, RC:16)"),
                "{version}: {typed}\n{output:?}\n{}",
                broker.log()
            );
        }
    }
}
