//! The README, held to the code: its tables name what there is, and its examples start brokers.
//!
//! A check that does not find what it checks fails.

use std::{fs, path::Path};

use lab::{
    broker::{Broker, Version},
    clients::Client,
    glewlwyd::Glewlwyd,
    pki::Authority,
    tenant::{CLIENT_ID, CLIENT_SECRET, DEVICE, PASSWORD, Tenant},
};
use mosquitto_auth0::{
    config::options::OPTIONS,
    refusal::{Reason, Told},
};

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
