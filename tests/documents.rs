//! Compares the documentation with the code, and executes it: every configuration starts brokers, every rule
//! and claim is read, every command is run, or its page says why not.
//!
//! The comment above a block says what becomes of it: `<!-- run: NAME -->` for commands, `<!-- not run: WHY -->`
//! for commands that a test cannot run, and `<!-- tested: NAME -->` for a block that a test here uses by name.
//!
//! A check that does not find its subject fails.

use std::{
    collections::{HashMap, HashSet},
    env, fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::Arc,
};

use acl::{
    claims::{TokenRules, Verbs, permissions, topics},
    client::ClientAttributes,
    policy_file::PolicyFile,
    rights::Rights,
    rules::AccessRequest,
};
use auth::{clock::Unix, config::options, refusal::Reason};
use serde_json::{Value, json};
use testbed::{
    broker::{Listener, Mosquitto, Version},
    clients::{MosquittoClient, Protocol},
    glewlwyd::Glewlwyd,
    pki::Authority,
    scratch::Scratch,
    tenant::{CLIENT_ID, CLIENT_SECRET, DEVICE, Endpoint, PASSWORD, Tenant},
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns all pages: their names from the root of the source, and their text.
fn pages() -> Vec<(String, String)> {
    let mut names: Vec<String> = [
        "README",
        "CONTRIBUTING",
        "CHANGELOG",
        "SECURITY",
        "examples/README",
    ]
    .map(|name| format!("{name}.md"))
    .into();
    for entry in fs::read_dir(root().join("docs")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".md") {
            names.push(format!("docs/{name}"));
        }
    }
    names.sort();
    assert!(names.len() > 15, "the pages are where they were");
    let read = |name: String| {
        let text = fs::read_to_string(root().join(&name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        (name, text)
    };
    names.into_iter().map(read).collect()
}

/// A fenced block of a page.
struct PageBlock {
    /// The page and the line, for messages.
    place: String,
    /// The language after the fence.
    language: String,
    /// The comment above it, without `<!--` and `-->`.
    mark: String,
    text: String,
}

/// Returns all blocks of all pages.
fn blocks() -> Vec<PageBlock> {
    let mut found = Vec::new();
    for (page, text) in pages() {
        let mut mark = "";
        let mut lines = text.lines().enumerate();
        while let Some((number, line)) = lines.next() {
            let Some(language) = line.trim_start().strip_prefix("```") else {
                mark = line;
                continue;
            };
            let body = lines.by_ref().map(|(_, line)| line);
            let body = body.take_while(|line| line.trim_start() != "```");
            found.push(PageBlock {
                place: format!("{page}:{}", number + 1),
                language: language.into(),
                mark: mark
                    .strip_prefix("<!-- ")
                    .and_then(|mark| mark.strip_suffix(" -->"))
                    .unwrap_or_default()
                    .into(),
                text: body.map(|line| format!("{line}\n")).collect(),
            });
            mark = "";
        }
    }
    assert!(found.len() > 40, "the pages have blocks: {}", found.len());
    found
}

fn blocks_in(language: &str) -> Vec<PageBlock> {
    let mut blocks = blocks();
    blocks.retain(|block| block.language == language);
    assert!(!blocks.is_empty(), "no block in {language}");
    blocks
}

/// Returns the block with this mark. If several pages have it, it is the same on all.
fn block(mark: &str) -> String {
    let mut blocks = blocks();
    blocks.retain(|block| block.mark == mark);
    let first = blocks.first().unwrap_or_else(|| panic!("no block {mark}"));
    for other in &blocks {
        let (a, b) = (&first.place, &other.place);
        assert_eq!(first.text, other.text, "{mark} at {a} and at {b}");
    }
    first.text.clone()
}

/// Checks that what the page of evidence says can be run: a target of the Makefile, a script, a tool, a test program.
#[test]
fn the_commands_of_the_page_of_evidence_exist() {
    let read = |name: &str| fs::read_to_string(root().join(name)).unwrap();
    let makefile = read("Makefile");
    let is_target = |name: &str| {
        let mut lines = makefile.lines();
        let measures = lines
            .find_map(|line| line.strip_prefix("MEASURES = "))
            .unwrap();
        makefile.contains(&format!("\n{name}:")) || measures.split(' ').any(|one| one == name)
    };
    let page = read("docs/evidence.md");
    let mut seen = 0;
    for command in page.split('`').skip(1).step_by(2) {
        let words: Vec<&str> = command.split_whitespace().collect();
        let exists = match words[..] {
            ["make", target, ..] => is_target(target),
            ["cargo", "test", ..] => {
                let programs = words
                    .windows(2)
                    .filter(|pair| pair[0] == "--test")
                    .map(|pair| pair[1]);
                let is_there = |name: &str| {
                    ["tests", "crates/auth/tests", "crates/acl/tests"]
                        .iter()
                        .any(|folder| {
                            let folder = root().join(folder);
                            folder.join(format!("{name}.rs")).exists()
                                || folder.join(name).join("main.rs").exists()
                        })
                };
                programs.clone().all(is_there)
            }
            [first, ..] if first.ends_with(".sh") => root().join(first).exists(),
            [first, ..] if first.starts_with("target/release/") => {
                let name = first.rsplit('/').next().unwrap();
                root()
                    .join(format!("crates/testbed/src/bin/{name}.rs"))
                    .exists()
            }
            _ => continue,
        };
        assert!(exists, "{command}");
        seen += 1;
    }
    assert!(seen > 10, "the page names commands: {seen}");
}

#[test]
fn the_readme_has_at_most_150_lines() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    assert!(readme.lines().count() <= 150);
}

/// Returns the anchors of a page, as forges make them from headings.
fn anchors(page: &str) -> Vec<String> {
    let mut in_block = false;
    let mut found = Vec::new();
    for line in page.lines() {
        in_block ^= line.trim_start().starts_with("```");
        if in_block || !line.starts_with('#') {
            continue;
        }
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        found.push(kept.map(|c| if c == ' ' { '-' } else { c }).collect());
    }
    found
}

#[test]
fn links_between_pages_have_a_target() {
    let pages: HashMap<_, _> = pages().into_iter().collect();
    let mut seen = 0;
    for (page, text) in &pages {
        // A link may be wrapped.
        let text = text.replace('\n', " ");
        for rest in text.split("](").skip(1) {
            let target = rest.split(')').next().unwrap();
            if target.contains("://") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let folder = Path::new(page).parent().unwrap();
            let mut path = PathBuf::new();
            for part in folder.join(file).components() {
                match part.as_os_str().to_str().unwrap() {
                    ".." => assert!(path.pop(), "{page}: {target}"),
                    part => path.push(part),
                }
            }
            let name = if file.is_empty() {
                page
            } else {
                path.to_str().unwrap()
            };
            assert!(
                root().join(name).exists(),
                "{page}: {target} does not exist"
            );
            if !anchor.is_empty() {
                let headings = anchors(&pages[name]);
                let exists = headings.iter().any(|heading| heading == anchor);
                assert!(exists, "{page}: {target}: no such heading");
            }
            seen += 1;
        }
    }
    assert!(seen > 80, "this test still finds links: {seen}");
}

/// Every option and every reason that a page mentions exists.
#[test]
fn pages_mention_only_what_exists() {
    let mut seen = 0;
    for (page, text) in pages() {
        for after in text.split("plugin_opt_").skip(1) {
            let name = after
                .split(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit() && c != '_')
                .next()
                .unwrap();
            assert!(
                name.is_empty() || options::find(name).is_some(),
                "{page}: {name}"
            );
            seen += 1;
        }
        for after in text.split("`[").skip(1) {
            let Some((code, _)) = after.split_once("]`") else {
                continue;
            };
            if code.bytes().all(|b| b.is_ascii_lowercase() || b == b'-') {
                let exists = Reason::ALL.iter().any(|reason| reason.code() == code);
                assert!(exists, "{page}: there is no reason {code}");
                seen += 1;
            }
        }
    }
    assert!(seen > 80, "this test still finds names: {seen}");
}

/// Returns the names of all tests: of end-to-end modules, and of functions with what encloses them.
fn test_names() -> HashSet<String> {
    fn walk(folder: &Path, names: &mut HashSet<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, names);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let module = path.file_stem().unwrap().to_str().unwrap();
                names.insert(module.to_owned());
                for after in fs::read_to_string(&path).unwrap().split("fn ").skip(1) {
                    let name = after.split(['(', '<']).next().unwrap();
                    names.insert(name.to_owned());
                    names.insert(format!("{module}::{name}"));
                }
            }
        }
    }
    let mut names = HashSet::new();
    walk(&root().join("tests"), &mut names);
    walk(&root().join("crates"), &mut names);
    names
}

/// The end-to-end tests that pages name exist. (`tests/architecture.rs` checks the threat model.)
#[test]
fn tests_that_pages_name_exist() {
    let names = test_names();
    let mut seen = 0;
    for (page, text) in pages() {
        for quoted in text.split('`').skip(1).step_by(2) {
            let quoted = quoted.replace('\n', " ");
            let Some((_, named)) = quoted.split_once("--test e2e ") else {
                continue;
            };
            let named = named.trim_end();
            let is_part = |name: &String| name.contains(named);
            assert!(
                named == "NAME" || names.iter().any(is_part),
                "{page}: no test {named}"
            );
            seen += 1;
        }
    }
    assert!(seen > 15, "the pages name tests: {seen}");
}

/// The blocks that a test uses by name, except for commands.
const TESTED: [&str; 23] = [
    "tokens",
    "credentials",
    "beside-lines",
    "beside-passwords",
    "other-provider",
    "issuers",
    "beside",
    "acl",
    "loopback",
    "trial",
    "policy",
    "more-policy",
    "requirements",
    "keycloak",
    "entra",
    "okta",
    "cognito",
    "firebase",
    "google",
    "zitadel",
    "authentik",
    "topics",
    "permissions",
];

/// The commands that a test runs.
const RUN: [&str; 8] = [
    "certificate",
    "tenant",
    "append",
    "trial",
    "try-password",
    "try-password-token",
    "try-machine-token",
    "decode",
];

#[test]
fn every_block_is_executed_or_says_why_not() {
    for block in blocks() {
        let place = &block.place;
        match block.mark.split_once(": ") {
            Some(("tested", name)) => assert!(TESTED.contains(&name), "{place}: {name}"),
            Some(("run", name)) => assert!(
                block.language == "sh" && RUN.contains(&name),
                "{place}: {name}"
            ),
            Some(("not run", why)) => {
                assert!(block.language == "sh" && why.len() > 10, "{place}: {why}")
            }
            // Those are all executed, and these are no commands.
            _ => assert!(
                ["conf", "toml", "json", "js", "text", "nginx"].contains(&block.language.as_str()),
                "{place}: a block of {:?} without a mark",
                block.language
            ),
        }
    }
    let blocks = blocks();
    for mark in TESTED
        .map(|name| format!("tested: {name}"))
        .iter()
        .chain(&RUN.map(|name| format!("run: {name}")))
    {
        assert!(
            blocks.iter().any(|block| block.mark == *mark),
            "no page has {mark}"
        );
    }
}

#[test]
fn commands_have_no_syntax_errors() {
    for block in blocks_in("sh") {
        let output = bash("-n", &block.text, &mut Command::new("bash"));
        assert!(output.status.success(), "{}: {output:?}", block.place);
    }
}

#[test]
fn actions_have_no_syntax_errors() {
    let folder = Scratch::new("actions").unwrap();
    for block in blocks_in("js") {
        let file = folder.path().join("action.js");
        fs::write(&file, &block.text).unwrap();
        let output = Command::new("node")
            .arg("--check")
            .arg(&file)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}: {output:?}", block.place);
    }
}

#[test]
fn policy_files_are_valid() {
    for block in blocks_in("toml") {
        let place = block.place;
        if block.mark == "tested: issuers" {
            continue; // it is a file of options
        }
        let file = PolicyFile::compile(&block.text).unwrap_or_else(|e| panic!("{place}: {e}"));
        let size = file.size();
        assert!(size.rules + size.requirements > 0, "{place}");
    }
}

#[test]
fn claims_are_valid() {
    let mut seen = 0;
    for block in blocks_in("json") {
        for line in block.text.lines() {
            let claims: Value = serde_json::from_str(line).unwrap();
            if let Some(claim) = claims.get("topics") {
                topics(claim, false).unwrap_or_else(|e| panic!("{}: {line}: {e}", block.place));
                seen += 1;
            }
        }
    }
    assert!(seen >= 7, "the pages show claims: {seen}");
    assert_eq!(block("tested: topics").lines().count(), 4);
    let claims: Value = serde_json::from_str(&block("tested: permissions")).unwrap();
    let rules = permissions(&claims["permissions"], &Verbs::default(), false);
    assert_eq!(rules.unwrap().len(), 3);
}

/// The broker of a page's configuration, and what it is to be configured with in place of the placeholders.
struct Setup<'a> {
    version: Version,
    text: String,
    /// The authority that signed the tenant's certificate. The configuration gets it as `ca_file`.
    ca_file: &'a Path,
    client_secret: &'a str,
    /// What else is to be replaced.
    replace: Vec<(&'a str, &'a str)>,
}

/// A running broker with a page's configuration.
struct Started {
    broker: Mosquitto,
    /// The certificate to trust.
    ca: PathBuf,
}

/// The file of options where a page names one.
const OPTIONS: &str = "issuer = \"https://id.example/\"\naudience = \"https://mqtt.example/\"\n";

impl<'a> Setup<'a> {
    /// A configuration from a page, for this tenant.
    fn new(version: Version, text: String, tenant: &'a Tenant) -> Self {
        Self {
            version,
            text,
            ca_file: tenant.ca_file(),
            client_secret: CLIENT_SECRET,
            replace: vec![
                ("YOUR-TENANT.eu.auth0.com", tenant.domain()),
                ("YOUR-CLIENT-ID", CLIENT_ID),
                ("https://id.example/api/oidc", tenant.issuer()),
            ],
        }
    }

    /// Starts a broker with exactly these lines, except for placeholders: names of files and of the tenant,
    /// and the ports.
    fn start(self) -> Started {
        let Self { version, .. } = self;
        let mut builder = Mosquitto::builder(version);
        let folder = builder.folder().to_owned();
        let put = |name: &str, text: &str| write_private(&folder.join(name), text);
        let authority = Authority::new("the broker's authority");
        let leaf = authority.issue(&["localhost", "127.0.0.1"]);
        let ca = put("broker-ca.pem", authority.pem());
        let plugin = testbed::plugin::file().to_owned();
        let mut text = self.text;
        let files = [
            (
                "/etc/mosquitto/certs/server.pem",
                put("server.pem", &leaf.cert_pem),
            ),
            (
                "/etc/mosquitto/certs/server.key",
                put("server.key", &leaf.key_pem),
            ),
            ("/usr/lib/x86_64-linux-gnu/mosquitto_auth0.so", plugin),
            (
                "/etc/mosquitto/auth0.secret",
                put("auth0.secret", self.client_secret),
            ),
            (
                "/etc/mosquitto/auth0.proxy",
                put("auth0.proxy", "broker:password"),
            ),
            ("/etc/mosquitto/acl", put("acl", &block("tested: acl"))),
            (
                "/etc/mosquitto/auth0-policy.toml",
                put("policy.toml", &block("tested: policy")),
            ),
            ("/etc/mosquitto/passwd", passwords(version, &folder)),
            ("/etc/mosquitto/auth0.toml", put("auth0.toml", OPTIONS)),
            ("/var/log/mosquitto", folder.clone()),
            ("/var/lib/mosquitto/auth0", folder.join("auth0")),
        ];
        for (from, to) in &files {
            text = text.replace(from, to.to_str().unwrap());
        }
        for (from, to) in self.replace {
            text = text.replace(from, to);
        }
        let ca_file = format!(
            "plugin_opt_ca_file {}\nplugin_opt_audience",
            self.ca_file.display()
        );
        text = text.replacen("plugin_opt_audience", &ca_file, 1);
        for placeholder in ["YOUR-", "/etc/", "/usr/", "/var/"] {
            assert!(!text.contains(placeholder), "{placeholder} in\n{text}");
        }

        // Each listener becomes one of the harness's, which chooses a free port.
        let mut parts = text.split("listener ");
        builder = builder.config(parts.next().unwrap().trim());
        for part in parts {
            let (_, lines) = part.split_once('\n').unwrap();
            builder = builder.listener(Listener::tcp().config(lines.trim()));
        }
        let started = builder.start();
        let broker = started.unwrap_or_else(|e| panic!("{version}: {e}\n{text}"));
        Started { broker, ca }
    }
}

/// A local user of the broker.
const LOCAL: [&str; 2] = ["meter", "its local password"];

/// Makes a `password_file`.
fn passwords(version: Version, folder: &Path) -> PathBuf {
    let file = folder.join("passwd");
    let made = Command::new(version.program("mosquitto_passwd").unwrap())
        .args(["-b", "-c"])
        .arg(&file)
        .args(LOCAL)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    file
}

fn write_private(path: &Path, text: &str) -> PathBuf {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    path.to_owned()
}

impl Started {
    /// A device that trusts the broker's certificate.
    fn device(&self) -> MosquittoClient {
        MosquittoClient::of(&self.broker)
            .host("localhost")
            .ca_file(&self.ca)
    }
}

/// Returns the shortest configuration with these lines. Where they set an option that it has, theirs count. Another
/// issuer takes the place of the domain.
fn added_to_the_shortest(lines: &str) -> String {
    let option = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
    let set: HashSet<String> = lines.lines().map(option).collect();
    let is_replaced = |line: &&str| {
        line.starts_with("plugin_opt_")
            && (set.contains(&option(line))
                || line.starts_with("plugin_opt_domain") && set.contains("plugin_opt_issuer"))
    };
    let shortest = block("tested: tokens");
    let kept: Vec<_> = shortest.lines().filter(|line| !is_replaced(line)).collect();
    format!("{}\n{lines}", kept.join("\n"))
}

/// Every configuration on every page starts each broker. A block without a `plugin` line is what is added to
/// the shortest configuration.
#[test]
fn every_configuration_starts_brokers() {
    let tenant = Tenant::start();
    for part in blocks_in("conf") {
        if part.mark == "tested: trial" {
            continue; // it begins a file that the local tenant completes
        }
        let text = if part.text.lines().any(|line| line.starts_with("plugin ")) {
            part.text
        } else {
            added_to_the_shortest(&part.text)
        };
        for version in Version::ALL {
            drop(Setup::new(version, text.clone(), &tenant).start());
        }
    }
}

/// Returns the policy file with this name.
fn policy_example(name: &str) -> Arc<PolicyFile> {
    Arc::new(PolicyFile::compile(&block(&format!("tested: {name}"))).unwrap())
}

fn client(client_id: &str, claims: &Value) -> ClientAttributes {
    ClientAttributes {
        client_id: client_id.into(),
        username: "auth0|1".into(),
        claims: Arc::new(claims.as_object().unwrap().clone()),
        ..ClientAttributes::default()
    }
}

fn publish(qos: u8, retain: bool, payload: u32) -> AccessRequest {
    AccessRequest::Publish {
        qos,
        retain,
        payload,
    }
}

const PLAIN: AccessRequest = AccessRequest::Publish {
    qos: 1,
    retain: false,
    payload: 1,
};
const SUBSCRIBE: AccessRequest = AccessRequest::Subscribe { qos: Some(1) };

/// 23:00 and noon in Berlin, on a Friday.
const NIGHT: Unix = Unix(1_767_996_000);
const NOON: Unix = Unix(1_767_956_400);

/// The policy file has the effects that its comments describe.
#[test]
fn the_example_of_a_policy_file() {
    let file = policy_example("policy");
    let rights = |client_id: &str, address: &str, claims: Value| {
        let client = ClientAttributes {
            address: address.parse().ok(),
            ..client(client_id, &claims)
        };
        Rights::new(Arc::default(), Some(&file), client).unwrap()
    };
    let pump = rights(
        "pump-1",
        "192.0.2.1",
        json!({"https://mqtt.example/roles": ["gardener"], "site": "north", "tier": "gold", "sites": ["a", "b"]}),
    );
    for (request, topic, now, allowed) in [
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
        (AccessRequest::Receive, "public/x", NOON, true),
        (PLAIN, "anything", NOON, false),
    ] {
        assert_eq!(
            pump.allow(request, topic.as_bytes(), now),
            allowed,
            "{request:?} {topic}"
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
    let file = policy_example("more-policy");
    let print = auth::secret::sha256(b"test");
    let rights = |port, certificate, claims: Value| {
        let client = ClientAttributes {
            port: Some(port),
            certificate,
            ..client("x", &claims)
        };
        Rights::new(Arc::default(), Some(&file), client).unwrap()
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
    for (request, topic, now, allowed) in [
        (PLAIN, "gateway/1/x", NOON, true),
        (publish(1, true, 1), "gateway/1/x", NOON, false),
        (PLAIN, "gateway/1/settings", NOON, true),
        (PLAIN, "gateway/1/settings", NIGHT, false),
        (PLAIN, "gateway/1/settings", thursday, true),
    ] {
        let found = gateway.allow(request, topic.as_bytes(), now);
        assert_eq!(found, allowed, "{request:?} {topic} {now:?}");
    }
    let attacker = rights(8883, Some([7; 32]), json!({}));
    assert!(!attacker.allow(PLAIN, b"gateway/1/x", NOON));

    let large = rights(8883, None, json!({"app": {"plan": "large"}}));
    assert!(large.allow(PLAIN, b"reports/auth0|1", NOON));
    assert!(large.allow(SUBSCRIBE, b"reports/auth0|1/#", NOON));
    assert!(!large.allow(
        AccessRequest::Subscribe { qos: Some(2) },
        b"reports/auth0|1/#",
        NOON
    ));
    assert!(!large.allow(PLAIN, b"reports/auth0|2", NOON));
    let small = rights(8883, None, json!({"app": {"plan": "small"}}));
    assert!(!small.allow(PLAIN, b"reports/auth0|1", NOON));

    // Whatever the token says.
    let token = TokenRules::compile(&topics(&json!(["reports/#"]), false).unwrap());
    let all = Rights::new(Arc::new(token), Some(&file), client("x", &json!({}))).unwrap();
    assert!(!all.allow(SUBSCRIBE, b"reports/#", NOON));
    assert!(all.allow(SUBSCRIBE, b"reports/a/#", NOON));
    assert!(all.allow(AccessRequest::Receive, b"reports/a", NOON));
}

#[test]
fn the_example_of_requirements() {
    let file = policy_example("requirements");
    let unmet = |address: &str, claims: Value, now| {
        let client = ClientAttributes {
            address: address.parse().ok(),
            ..client("x", &claims)
        };
        let unmet = file.unmet_requirement(&client, now)?;
        Some(unmet.name.to_string())
    };
    let operator = json!({"email_verified": true, "https://mqtt.example/roles": ["operator"], "amr": ["pwd", "mfa"]});
    let mut no_factor = operator.clone();
    no_factor["amr"] = json!(["pwd"]);
    for (address, claims, now, name) in [
        ("192.0.2.1", json!({"email_verified": true}), NIGHT, None),
        ("192.0.2.1", json!({}), NOON, Some("verified e-mail")),
        ("10.1.2.3", operator.clone(), NOON, None),
        ("10.1.2.3", operator.clone(), NIGHT, Some("office hours")),
        ("192.0.2.1", operator, NOON, Some("office hours")),
        ("10.1.2.3", no_factor, NOON, Some("second factor")),
    ] {
        assert_eq!(unmet(address, claims, now).as_deref(), name);
    }
}

#[test]
fn the_example_for_tokens() {
    let tenant = Tenant::start();
    for version in Version::ALL {
        let started = Setup::new(version, block("tested: tokens"), &tenant).start();
        let client = started
            .device()
            .username("JWT")
            .password(&tenant.token(DEVICE));
        client.publish("temperature", "20.5").expect_success();
    }
}

#[test]
fn the_example_for_a_trial_without_tls() {
    let tenant = Tenant::start();
    for version in Version::ALL {
        let started = Setup::new(version, block("tested: loopback"), &tenant).start();
        let client = MosquittoClient::of(&started.broker);
        let client = client.username("JWT").password(&tenant.token(DEVICE));
        client.publish("temperature", "20.5").expect_success();
    }
}

#[test]
fn the_example_for_credentials() {
    for version in Version::ALL {
        let tenant = Tenant::start();
        let started = Setup::new(version, block("tested: credentials"), &tenant).start();
        let client = started.device().username(DEVICE).password(PASSWORD);
        client.publish("temperature", "20.5").expect_success();
    }
}

/// Devices of one issuer and people of another one, each with a policy of its own.
#[test]
fn the_example_for_several_issuers() {
    let devices = Tenant::builder().fresh_keys().start().unwrap();
    let people = Tenant::builder().fresh_keys().start().unwrap();
    for version in Version::ALL {
        let mut text = block("tested: issuers");
        let folder = tempfile::tempdir().unwrap();
        let policy = folder.path().join("policy.toml");
        fs::write(&policy, block("tested: policy")).unwrap();
        for (from, to) in [
            ("YOUR-TENANT.eu.auth0.com", devices.domain()),
            ("https://keycloak.example/realms/staff", people.issuer()),
            ("/etc/mosquitto/auth0-people.toml", policy.to_str().unwrap()),
        ] {
            text = text.replace(from, to);
        }
        for tenant in [&devices, &people] {
            let table = format!("[[issuer]]\nca_file = \"{}\"", tenant.ca_file().display());
            text = text.replacen("[[issuer]]\n#", &format!("{table}\n#"), 1);
        }
        let options = write_private(&folder.path().join("auth0.toml"), &text);
        let options = [("config_file", options.to_str().unwrap())];
        let builder = Mosquitto::builder(version).plugin(testbed::plugin::file(), &options);
        let broker = builder.start().unwrap();
        let device = MosquittoClient::of(&broker).username("JWT");
        let token = devices.token(DEVICE);
        let device = device.password(&token);
        device.publish("temperature", "20.5").expect_success();
        let person = people.mint(DEVICE).claim("preferred_username", "ada");
        let person = person.claim("aud", "mqtt").sign();
        let person = MosquittoClient::of(&broker)
            .username("JWT")
            .password(&person);
        person
            .id("ada")
            .publish("devices/ada/state", "on")
            .expect_success();
    }
}

/// A local user's password is checked by the broker and never sent to the tenant, which checks all others.
#[test]
fn the_example_beside_local_users_with_passwords() {
    let tenant = Tenant::start();
    for version in Version::ALL {
        let lines = [block("tested: beside"), block("tested: beside-passwords")];
        let started = Setup::new(version, lines.join("\n"), &tenant).start();
        let asked = tenant.count(Endpoint::Token);
        let client =
            |username: &str, password: &str| started.device().username(username).password(password);
        let [user, password] = LOCAL;
        client(user, password)
            .publish("any/topic", "20.5")
            .expect_success();
        let refused = client(user, "a guess").publish("any/topic", "20.5");
        assert!(!refused.success(), "{version}");
        assert_eq!(tenant.count(Endpoint::Token), asked, "{version}");
        // On a busy machine the response may come too late for the first try on 2.0, as for any device.
        let device = client(DEVICE, PASSWORD);
        let mut tries = (0..3).map(|_| device.publish("temperature", "20.5"));
        assert!(tries.any(|outcome| outcome.success()), "{version}");
    }
}

/// Local users keep their rights, devices with a token have those of their token, and nobody else gets in.
#[test]
fn the_example_beside_local_users() {
    let tenant = Tenant::start();
    let whole = block("tested: beside");
    assert!(whole.ends_with(&block("tested: beside-lines")));
    for version in Version::ALL {
        let started = Setup::new(version, whole.clone(), &tenant).start();
        let is_allowed = |username: &str, password: &str, topic: &str| {
            let client = started.device().username(username).password(password);
            let outcome = client.qos(1).protocol(Protocol::V5).publish(topic, "x");
            outcome.success() && !format!("{outcome:?}").contains("Not authorized")
        };
        let [user, password] = LOCAL;
        assert!(is_allowed(user, password, "any/topic"), "{version}");
        assert!(!is_allowed(user, "a guess", "any/topic"), "{version}");
        let token = tenant.token(DEVICE);
        assert!(is_allowed("JWT", &token, "temperature"), "{version}");
        assert!(!is_allowed("JWT", &token, "any/topic"), "{version}");
        assert!(
            !is_allowed("JWT", &token[..token.len() - 8], "temperature"),
            "{version}"
        );
    }
}

#[test]
fn the_example_for_another_provider() {
    let Some(server) =
        Glewlwyd::start_unless_left_out(&Authority::new("the provider's authority")).unwrap()
    else {
        return;
    };
    let ca_file = server.ca_file();
    for version in Version::ALL {
        let setup = Setup {
            version,
            text: block("tested: other-provider"),
            ca_file: &ca_file,
            client_secret: server.client_secret(),
            replace: vec![
                ("https://id.example/api/oidc", server.issuer()),
                ("YOUR-CLIENT-ID", server.client_id()),
            ],
        };
        let started = setup.start();
        let client = started.device();
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

/// Runs commands with bash.
fn bash(flags: &str, commands: &str, program: &mut Command) -> Output {
    program.args([flags, "-c", commands]).output().unwrap()
}

/// The page's local tenant, started with the page's command. Dropping it stops it.
struct LocalTenant {
    process: Child,
    /// The options that it prints.
    options: HashMap<String, String>,
    /// The first device that it prints.
    device: HashMap<String, String>,
    /// The commands that it prints for this device.
    commands: Vec<String>,
    folder: Scratch,
}

impl LocalTenant {
    fn start() -> Self {
        let commands = block("run: tenant");
        let (build, run) = commands.trim_end().split_once('\n').unwrap();
        assert_eq!(build, "cargo build --release -p testbed --bin tenant");
        let arguments = run.strip_prefix("target/release/tenant ").unwrap();
        let arguments = arguments.replace("--port 4433 ", "");
        let folder = Scratch::new("page-tenant").unwrap();
        let arguments = arguments.replace("/etc/mosquitto/tenant", folder.path().to_str().unwrap());
        let mut process = Command::new(env!("CARGO"))
            .args("run --quiet --locked -p testbed --bin tenant --".split(' '))
            .args(arguments.split(' '))
            .current_dir(root())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let (mut options, mut device) = (HashMap::new(), HashMap::new());
        let mut commands = Vec::new();
        for line in lines.map(Result::unwrap) {
            let Some((name, value)) = line.split_once(' ').filter(|(name, _)| *name != "#") else {
                continue;
            };
            match name.strip_prefix("plugin_opt_") {
                Some(name) => drop(options.insert(name.to_owned(), value.to_owned())),
                None if name == "mosquitto_pub" => commands.push(line),
                None => drop(device.insert(name.to_owned(), value.to_owned())),
            }
            if commands.len() == 4 {
                break; // the last word about the device, and the tenant stays
            }
        }
        Self {
            process,
            options,
            device,
            commands,
            folder,
        }
    }
}

impl Drop for LocalTenant {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Follows the pages without a tenant of Auth0's: starts the local tenant, gives the page's broker the options
/// that it prints, and runs the commands of step 7.
#[test]
fn the_commands_to_try_it_with_a_local_tenant() {
    let tenant = LocalTenant::start();
    let option = |name: &str| tenant.options[name].as_str();
    assert_eq!(tenant.device["username"], "thermostat-1a");
    let secret = fs::read_to_string(option("client_secret_file")).unwrap();
    let placeholders = [
        ("YOUR-TENANT.eu.auth0.com", option("domain")),
        ("YOUR-CLIENT-ID", option("client_id")),
    ];
    for version in Version::ALL {
        let setup = Setup {
            version,
            text: block("tested: credentials"),
            ca_file: Path::new(option("ca_file")),
            client_secret: &secret,
            replace: placeholders.into(),
        };
        let started = setup.start();
        let trusted = format!("--cafile {}", started.ca.display());
        let port = format!("-p {}", started.broker.port());
        // 16: there is no subscriber. 135: a machine has no topics until an Action gives it some.
        for (name, answer) in [
            ("try-password", 16),
            ("try-password-token", 16),
            ("try-machine-token", 135),
        ] {
            let mut typed = block(&format!("run: {name}"));
            for (from, to) in [
                ("BROKER", "localhost"),
                ("-p 8883", &port),
                ("--capath /etc/ssl/certs", &trusted),
                ("ITS-PASSWORD", "its-password"),
                ("THE-CLIENT-SECRET", &secret),
            ]
            .into_iter()
            .chain(placeholders)
            {
                typed = typed.replace(from, to);
            }
            let output = bash("-e", &typed, &mut as_typed(version, option("ca_file")));
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(
                output.status.success() && said.contains(&format!("PUBACK (Mid: 1, RC:{answer})")),
                "{version}: {typed}\n{output:?}\n{}",
                started.broker.log()
            );
        }
    }
}

/// The page's command appends what the tenant says to the plugin's configuration.
#[test]
fn the_command_that_appends_the_lines_of_the_local_tenant() {
    let tenant = LocalTenant::start();
    let folder = tenant.folder.path();
    let conf = folder.join("conf");
    fs::write(&conf, "# before\n").unwrap();
    let typed = block("run: append")
        .replace("/etc/mosquitto/tenant", folder.to_str().unwrap())
        .replace(
            "sudo tee -a /etc/mosquitto/conf.d/auth0.conf",
            "tee -a conf",
        )
        // The package is not installed here.
        .replace(
            "dpkg -L mosquitto-auth0",
            "echo /usr/lib/any/mosquitto_auth0.so",
        );
    let output = bash("-e", &typed, Command::new("bash").current_dir(folder));
    assert!(output.status.success(), "{output:?}");
    let text = fs::read_to_string(&conf).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("# before"));
    assert_eq!(lines.next(), Some("plugin /usr/lib/any/mosquitto_auth0.so"));
    let options: HashMap<_, _> = lines
        .map(|line| line.strip_prefix("plugin_opt_").unwrap())
        .map(|line| line.split_once(' ').unwrap())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let mut wanted = tenant.options.clone();
    wanted.insert("on_other".into(), "defer".into());
    wanted.insert("state_dir".into(), "/var/lib/mosquitto/auth0".into());
    assert_eq!(options, wanted);
}

/// Follows the page for a trial: the broker gets the lines that the local tenant prints, and nothing else.
#[test]
fn the_trial_with_a_local_tenant() {
    let tenant = LocalTenant::start();
    let plugin = testbed::plugin::file().to_str().unwrap();
    let mut text = block("tested: trial").replace("target/debug/libmosquitto_auth0.so", plugin);
    for (name, value) in &tenant.options {
        text += &format!("plugin_opt_{name} {value}\n");
    }
    for version in Version::ALL {
        let file = |name: &str| fs::read_to_string(&tenant.options[name]).unwrap();
        assert!(!file("client_secret_file").is_empty() && !file("ca_file").is_empty());
        let setup = Setup {
            version,
            // The harness adds this one.
            text: text.replace("plugin_opt_ca_file", "#"),
            ca_file: Path::new(&tenant.options["ca_file"]),
            client_secret: "",
            replace: Vec::new(),
        };
        let started = setup.start();
        let port = format!("-p {}", started.broker.port());
        let typed = block("run: trial").replace("-p 1884", &port);
        let printed = tenant.commands.join("\n").replace("-p 1883", &port);
        let typed = format!("{typed}\n{printed}");
        let output = bash(
            "-e",
            &typed,
            &mut as_typed(version, &tenant.options["ca_file"]),
        );
        let said = String::from_utf8_lossy(&output.stdout);
        let answers: Vec<_> = said.split("RC:").skip(1).map(|rest| &rest[..3]).collect();
        assert_eq!(
            answers,
            ["16)", "135", "16)", "16)", "135", "135"],
            "{version}: {output:?}\n{}",
            started.broker.log()
        );
        started.broker.expect_log("[not-granted]");
    }
}

/// Returns a shell that finds the clients of this release, and trusts the tenant.
fn as_typed(version: Version, ca_file: &str) -> Command {
    let programs = version.program("mosquitto_pub").unwrap();
    let programs = programs.parent().unwrap().display();
    let mut shell = Command::new("bash");
    shell
        .env("PATH", format!("{programs}:{}", env::var("PATH").unwrap()))
        .env("CURL_CA_BUNDLE", ca_file)
        .env("NO_PROXY", "localhost")
        .env("XDG_CONFIG_HOME", "/dev/null")
        .env_remove("LD_LIBRARY_PATH");
    shell
}

/// The page's openssl line makes a certificate that the broker uses and a client trusts.
#[test]
fn the_command_that_makes_a_certificate() {
    let folder = Scratch::new("certificate").unwrap();
    let output = bash(
        "-e",
        &block("run: certificate"),
        Command::new("bash").current_dir(folder.path()),
    );
    assert!(output.status.success(), "{output:?}");
    let [certificate, key] = ["server.pem", "server.key"].map(|name| folder.path().join(name));
    let tenant = Tenant::start();
    let options = [
        ("domain", tenant.domain()),
        ("audience", testbed::tenant::AUDIENCE),
        ("ca_file", tenant.ca_file().to_str().unwrap()),
    ];
    for version in Version::ALL {
        let broker = Mosquitto::builder(version)
            .listener(Listener::tls(&certificate, &key))
            .plugin(testbed::plugin::file(), &options)
            .start()
            .unwrap_or_else(|e| panic!("{version}: {e}"));
        for host in ["localhost", "127.0.0.1"] {
            let client = MosquittoClient::of(&broker)
                .host(host)
                .ca_file(&certificate);
            let client = client.username("JWT").password(&tenant.token(DEVICE));
            client.publish("temperature", "20.5").expect_success();
        }
    }
}

#[test]
fn the_command_that_decodes_a_token() {
    let folder = Scratch::new("decode").unwrap();
    let tenant = Tenant::start();
    fs::write(folder.path().join("token"), tenant.token(DEVICE)).unwrap();
    let output = bash(
        "-e",
        &block("run: decode"),
        Command::new("bash").current_dir(folder.path()),
    );
    let claims: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(claims["topics"], json!(["temperature", "config"]));
}
