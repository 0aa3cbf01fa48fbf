//! The README, held to the code: its tables name what there is, and its examples start brokers.
//!
//! A check that does not find what it checks fails.

use std::{fs, path::Path, sync::Arc};

use lab::{
    broker::{Broker, Version},
    clients::Client,
    glewlwyd::Glewlwyd,
    pki::Authority,
    tenant::{CLIENT_ID, CLIENT_SECRET, DEVICE, PASSWORD, Tenant},
};
use mosquitto_auth0::{
    clock::Unix,
    config::options::OPTIONS,
    grants::{
        claim,
        permission::{self, Verbs},
    },
    refusal::{Reason, Told},
    rights::{Profile, Rights},
    rulebook::Rulebook,
    rules::Ask,
};
use serde_json::json;

fn readme() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap()
}

/// The rows of the table under this heading, as cells.
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

#[test]
fn the_table_of_options_is_the_list_of_options() {
    let named: Vec<_> = table("Options")
        .into_iter()
        .map(|row| row[0].clone())
        .collect();
    let known: Vec<_> = OPTIONS
        .iter()
        .map(|option| format!("`{}`", option.name))
        .collect();
    assert_eq!(named, known);
}

#[test]
fn the_table_of_refusals_is_the_list_of_reasons() {
    let rows = table("When something is refused");
    assert_eq!(rows.len(), Reason::ALL.len());
    for (row, reason) in rows.iter().zip(Reason::ALL) {
        let told = match reason.told() {
            Told::BadCredential => "0x86",
            Told::NotAuthorized => "0x87",
            Told::Unavailable => "0x88",
            Told::Busy => "0x89",
            Told::Banned => "0x8A",
        };
        assert_eq!(row[0], format!("`[{}]`", reason.code()));
        assert_eq!(
            (row[1].as_str(), row[3].as_str()),
            (told, reason.cure()),
            "{}",
            reason.code()
        );
        assert!(row[2].len() > 10, "{} has a cause", reason.code());
    }
}

/// The example with this name.
fn example(name: &str) -> String {
    let readme = readme();
    let marker = format!("<!-- tested: {name} -->\n```conf\n");
    let (_, rest) = readme
        .split_once(&marker)
        .unwrap_or_else(|| panic!("no example {name}"));
    rest.split("```").next().unwrap().to_owned()
}

/// A broker with exactly these lines, but for what is a placeholder: names of files and of the
/// tenant, and the port. A test's tenant is signed by its own authority, so `ca_file` is added.
fn start(
    version: Version,
    name: &str,
    replace: &[(&str, &str)],
    ca_file: &Path,
    client_secret: &str,
) -> (Broker, std::path::PathBuf) {
    let builder = Broker::builder(version);
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
    let plugin = std::env::current_exe()
        .unwrap()
        .with_file_name("libmosquitto_auth0.so");
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

    // Each listener of the example becomes one of the harness's, which finds it a free port.
    let mut parts = text.split("listener ");
    let mut builder = builder.config(parts.next().unwrap().trim());
    for part in parts {
        let (_, lines) = part.split_once('\n').unwrap();
        builder = builder.listener(lab::broker::Listener::tcp().config(lines.trim()));
    }
    let broker = builder
        .start()
        .unwrap_or_else(|e| panic!("{name} on {version}: {}\n{text}", e.log));
    (broker, ca)
}

/// The policy of the README, asked what the README says of it.
#[test]
fn the_example_of_a_policy_file() {
    let readme = readme();
    let (_, rest) = readme
        .split_once("<!-- tested: policy -->\n```toml\n")
        .unwrap();
    let book = Arc::new(Rulebook::read(rest.split("```").next().unwrap()).unwrap());
    let rights = |client_id: &str, address: &str, claims: serde_json::Value| {
        let profile = Profile {
            client_id: client_id.into(),
            username: "auth0|1".into(),
            claims: Arc::new(claims.as_object().unwrap().clone()),
            address: address.parse().ok(),
            port: None,
            certificate: None,
        };
        Rights::new(Arc::default(), Some(&book), profile).unwrap()
    };
    let publish = |payload| Ask::Publish {
        qos: 1,
        retain: false,
        payload,
    };
    let subscribe = Ask::Subscribe { qos: Some(1) };
    // 23:00 and noon in Berlin, on a Friday.
    let (night, noon) = (Unix(1_767_996_000), Unix(1_767_956_400));
    let pump = rights(
        "pump-1",
        "192.0.2.1",
        json!({"https://mqtt.example/roles": ["gardener"], "site": "north", "tier": "gold", "sites": ["a", "b"]}),
    );
    for (ask, topic, now, allowed) in [
        (publish(1024), "devices/pump-1/state", noon, true),
        (publish(1025), "devices/pump-1/state", noon, false),
        (publish(1), "devices/pump-2/state", noon, false),
        (subscribe, "devices/pump-1/command/#", noon, true),
        (publish(1), "valves/north/7", night, true),
        (publish(1), "valves/north/7", noon, false),
        (publish(1), "valves/south/7", night, false),
        (publish(1), "valves/north/main", night, false),
        (subscribe, "news/b", noon, true),
        (subscribe, "news/c", noon, false),
        (Ask::Receive, "public/x", noon, true),
        (publish(1), "anything", noon, false),
    ] {
        assert_eq!(
            pump.allow(ask, topic.as_bytes(), now),
            allowed,
            "{ask:?} {topic}"
        );
    }
    let claims = json!({"permissions": ["maintain"]});
    let inside = rights("x", "10.1.2.3", claims.clone());
    assert!(inside.allow(publish(1), b"anything", noon));
    assert!(!inside.allow(publish(1), b"valves/x/main", noon));
    assert!(!rights("x", "192.0.2.1", claims).allow(publish(1), b"anything", noon));
}

/// The page about Auth0: its rules are rules, and its options are options.
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
            assert!(OPTIONS.iter().any(|option| option.name == name), "{line}");
        }
    }
}

/// What the README says a claim may be.
#[test]
fn the_examples_of_claims() {
    let readme = readme();
    let (_, section) = readme.split_once("\n### The claim `topics`\n").unwrap();
    let block = section.split("```json\n").nth(1).unwrap();
    let lines: Vec<_> = block.split("```").next().unwrap().lines().collect();
    assert_eq!(lines.len(), 4);
    for line in lines {
        let claim: serde_json::Value = serde_json::from_str(line).unwrap();
        claim::topics(&claim["topics"], false).unwrap_or_else(|e| panic!("{line}: {e}"));
    }
    let (_, section) = readme.split_once("\n### Auth0's permissions").unwrap();
    let block = section.split("```json\n").nth(1).unwrap();
    let claims: serde_json::Value =
        serde_json::from_str(block.split("```").next().unwrap()).unwrap();
    let rules = permission::permissions(&claims["permissions"], &Verbs::default(), false);
    assert_eq!(rules.unwrap().len(), 3);
}

#[test]
fn the_example_for_tokens() {
    for version in Version::ALL {
        let tenant = Tenant::start();
        let replace = [("YOUR-TENANT.eu.auth0.com", tenant.domain())];
        let (broker, ca) = start(version, "tokens", &replace, tenant.ca_file(), "");
        let client = Client::of(&broker)
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
        let client = Client::of(&broker)
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
        let device = Client::of(&broker).host("localhost").port(*tls).ca_file(ca);
        device
            .clone()
            .username("JWT")
            .password(&tenant.token(DEVICE))
            .publish("temperature", "20.5")
            .expect_success();
        assert!(!device.publish("temperature", "20.5").success());
        Client::of(&broker)
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
        let client = Client::of(&broker).host("localhost").ca_file(ca);
        client
            .username(server.username())
            .password(server.password())
            .publish("temperature", "20.5")
            .expect_success();
    }
}
