//! From "connection refused" to the fix, as the beginning of `docs/operating.md` says it: a device fails on a real
//! broker, the log names a reason, the table names a command, and the command names the fix. Each mistake is one that
//! people make.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::json;
use testbed::{
    broker::{Mosquitto, Version},
    clients::{MosquittoClient, Protocol},
    http::date,
    pki::Authority,
    tenant::{
        AUDIENCE, Behaviour, CLIENT_ID, CLIENT_SECRET, CONNECTION, DEVICE, Device, DeviceState,
        Endpoint, Grant, Mint, PASSWORD, Tenant,
    },
};

const PATIENCE: Duration = Duration::from_secs(20);

/// What the device presents.
enum Presents {
    Password,
    Token(fn(Mint) -> Mint),
}

/// Which command the table of the page names.
enum Third {
    /// `doctor --probe-login`.
    Doctor,
    /// `login` with what the device presents.
    Login,
    /// `can --explain publish`.
    Can,
}

/// A mistake, and the way to its fix.
struct Mistake {
    name: &'static str,
    tenant: fn(&Tenant),
    /// Options that differ from the right ones.
    options: fn(&Place) -> Vec<(&'static str, String)>,
    presents: Presents,
    topic: &'static str,
    /// What the log says about the device.
    reason: &'static str,
    third: Third,
    /// What the third command says, and the fix in it.
    says: &'static str,
    fix: &'static str,
}

impl Default for Mistake {
    fn default() -> Self {
        Self {
            name: "",
            tenant: |_| {},
            options: |_| Vec::new(),
            presents: Presents::Password,
            topic: "temperature",
            reason: "",
            third: Third::Doctor,
            says: "",
            fix: "",
        }
    }
}

/// A tenant, and a folder for files.
struct Place {
    tenant: Tenant,
    folder: tempfile::TempDir,
}

impl Place {
    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }
}

fn tool(words: &[&str]) -> String {
    let done = Command::new(env!("CARGO_BIN_EXE_mosquitto-auth0"))
        .args(words)
        .output()
        .unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr),
    );
    eprintln!("$ mosquitto-auth0 {}\n{err}{out}", words.join(" "));
    assert_ne!(
        done.status.code(),
        Some(2),
        "the page names no such command"
    );
    out.into_owned()
}

fn follow(mistake: &Mistake) {
    eprintln!("\n=== {}", mistake.name);
    let place = Place {
        tenant: Tenant::start(),
        folder: tempfile::tempdir().unwrap(),
    };
    (mistake.tenant)(&place.tenant);
    let secret = place.file("secret", CLIENT_SECRET);
    let mut options = vec![
        ("domain", place.tenant.domain().to_owned()),
        ("ca_file", place.tenant.ca_file().display().to_string()),
        ("audience", AUDIENCE.to_owned()),
        ("client_id", CLIENT_ID.to_owned()),
        ("client_secret_file", secret.display().to_string()),
        ("connection", CONNECTION.to_owned()),
        ("timeout", "3".to_owned()),
        ("login_wait", "3".to_owned()),
        ("stall_budget", "100".to_owned()),
    ];
    for (name, value) in (mistake.options)(&place) {
        options.retain(|(known, _)| *known != name);
        options.push((name, value));
    }
    options.retain(|(_, value)| !value.is_empty());
    let options: Vec<_> = options
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let builder = Mosquitto::builder(Version::V2_1_2).plugin(testbed::plugin::file(), &options);
    let broker = builder
        .start()
        .unwrap_or_else(|e| panic!("{}: {e}", mistake.name));

    // The device, which learns next to nothing.
    let (username, password) = match mistake.presents {
        Presents::Password => (DEVICE, PASSWORD.to_owned()),
        Presents::Token(change) => ("JWT", change(place.tenant.mint(DEVICE)).sign()),
    };
    let device = MosquittoClient::of(&broker)
        .protocol(Protocol::V311)
        .id("pump-7")
        .arg("-d");
    let device = device.username(username).password(&password).qos(1);
    let said = device.publish(mistake.topic, "20.5");
    eprintln!("$ mosquitto_pub -d …\n{}{}", said.stdout, said.stderr);

    // 1. The log.
    let line = broker.wait_for_log(&format!("[{}]", mistake.reason), PATIENCE);
    let line = line.unwrap_or_else(|| panic!("{}:\n{}", mistake.name, broker.log()));
    eprintln!("$ grep mosquitto-auth0: mosquitto.log\n{line}");
    assert!(line.contains("; fix: "), "{line}");

    // 2. The configuration is one that the broker takes.
    let conf = broker.folder().join("mosquitto.conf");
    let conf = conf.to_str().unwrap();
    tool(&["check", conf]);

    // 3. The command of the table.
    let said = third(mistake, &place, conf, &password);
    for piece in [mistake.says, mistake.fix] {
        assert!(
            said.contains(piece),
            "{}: no {piece} in\n{said}",
            mistake.name
        );
    }
}

fn third(mistake: &Mistake, place: &Place, conf: &str, password: &str) -> String {
    let file = place.file("credential", password);
    let file = file.to_str().unwrap();
    let who: &[&str] = match mistake.presents {
        Presents::Password => &["--username", DEVICE, "--password-file", file],
        Presents::Token(_) => &["--token", file],
    };
    let who = [who, &["--client-id", "pump-7"]].concat();
    match mistake.third {
        Third::Doctor => tool(&["doctor", conf, "--probe-login"]),
        Third::Login => tool(&[&["login", conf], &who[..]].concat()),
        Third::Can => {
            let action = ["--explain", "publish", mistake.topic];
            tool(&[&["can", conf], &who[..], &action].concat())
        }
    }
}

fn same(mint: Mint) -> Mint {
    mint
}

#[test]
fn what_is_wrong_between_the_broker_and_the_tenant() {
    for mistake in [
        Mistake {
            name: "the domain is misspelt",
            options: |_| vec![("domain", "acme.eu.auth0.invalid".into())],
            presents: Presents::Token(same),
            reason: "keys-unavailable",
            says: "DNS: 'acme.eu.auth0.invalid' is not known",
            fix: "compare `domain` with Domain under Applications",
            ..Mistake::default()
        },
        Mistake {
            name: "ca_file has another authority",
            options: |place| {
                let pem = Authority::new("another").pem().to_owned();
                vec![(
                    "ca_file",
                    place.file("other.pem", &pem).display().to_string(),
                )]
            },
            reason: "tenant-unreachable",
            says: "no authority that is trusted has issued the certificate",
            fix: "leave `ca_file` out for Auth0",
            ..Mistake::default()
        },
        Mistake {
            name: "the clock is wrong by an hour",
            tenant: |tenant| {
                tenant.configure(|settings| settings.clock_offset = 3600);
                let now = SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .unwrap()
                    .as_secs();
                let headers = vec![("Date".to_owned(), date(now + 3600))];
                tenant.on(Endpoint::Discovery, Behaviour::ExtraHeaders(headers));
            },
            presents: Presents::Token(same),
            reason: "token-not-yet",
            says: "Clock: this machine is 60 min behind the tenant.",
            fix: "set the time: `timedatectl set-ntp true`",
            ..Mistake::default()
        },
    ] {
        follow(&mistake);
    }
}

#[test]
fn what_is_wrong_in_the_application() {
    for mistake in [
        Mistake {
            name: "the secret is wrong",
            options: |place| {
                let secret = place.file("other", "another secret").display().to_string();
                vec![("client_secret_file", secret)]
            },
            reason: "login-configuration",
            says: "Application: the tenant answered 401",
            fix: "copy Client Secret into `client_secret_file` again",
            ..Mistake::default()
        },
        Mistake {
            name: "the grant is off",
            tenant: |tenant| {
                tenant.configure(|settings| settings.grants = vec![Grant::ClientCredentials]);
            },
            reason: "login-configuration",
            says: "Grant: the application may not sign users in",
            fix: "Advanced Settings > Grant Types: switch on Password",
            ..Mistake::default()
        },
        Mistake {
            name: "there is no default directory",
            tenant: |tenant| tenant.configure(|settings| settings.default_directory = None),
            options: |_| vec![("connection", String::new())],
            reason: "tenant-error",
            says: "the tenant has no default directory",
            fix: "set `connection` to the name under Authentication > Database",
            ..Mistake::default()
        },
        Mistake {
            name: "the connection is not enabled",
            options: |_| vec![("connection", "thermostats".into())],
            reason: "login-configuration",
            says: "Connection thermostats is not enabled",
            fix: "Connections: switch on the one that `connection` names",
            ..Mistake::default()
        },
        Mistake {
            name: "the audience of passwords is misspelt",
            options: |_| vec![("audience", "https://mqtt.example".into())],
            reason: "login-configuration",
            says: "the tenant knows no API 'https://mqtt.example'",
            fix: "copy Identifier into `audience`, letter by letter, with its slash",
            ..Mistake::default()
        },
    ] {
        follow(&mistake);
    }
}

#[test]
fn what_is_wrong_with_a_token() {
    for mistake in [
        Mistake {
            name: "the audience of tokens is misspelt",
            options: |_| vec![("audience", "https://mqtt.example".into())],
            presents: Presents::Token(same),
            reason: "token-audience",
            third: Third::Login,
            says: "not 'https://mqtt.example'",
            fix: "the Identifier under Applications > APIs > (your API) > Settings",
            ..Mistake::default()
        },
        Mistake {
            name: "the issuer lacks its slash",
            options: |place| {
                let issuer = place.tenant.issuer().trim_end_matches('/').to_owned();
                vec![("issuer", issuer)]
            },
            presents: Presents::Token(same),
            reason: "token-issuer",
            third: Third::Login,
            says: "[token-issuer]",
            fix: "write `issuer` letter by letter as the token has it; Auth0's ends with a slash",
            ..Mistake::default()
        },
        Mistake {
            name: "the token has expired",
            presents: Presents::Token(|mint| mint.lifetime(-3600)),
            reason: "token-expired",
            third: Third::Login,
            says: "[token-expired] it expired 36",
            fix: "fetch a new token before connecting",
            ..Mistake::default()
        },
        Mistake {
            name: "the token is bound to another client ID",
            options: |_| vec![("client_id_claim", "device_id".into())],
            presents: Presents::Token(|mint| mint.claim("device_id", "pump-1")),
            reason: "client-id",
            third: Third::Login,
            says: "for the client ID 'pump-1'",
            fix: "let the device connect with the client ID that its token names",
            ..Mistake::default()
        },
    ] {
        follow(&mistake);
    }
}

#[test]
fn what_is_wrong_with_an_account_or_its_rights() {
    for mistake in [
        Mistake {
            name: "the account is blocked",
            tenant: |tenant| {
                tenant.change_device(DEVICE, |device| device.state = DeviceState::Blocked);
            },
            reason: "login-blocked",
            third: Third::Login,
            says: "[login-blocked]",
            fix: "User Management > Users > (the device) > Actions > Unblock",
            ..Mistake::default()
        },
        Mistake {
            name: "no Action copies topics into the token",
            tenant: |tenant| tenant.add_device(Device::new(DEVICE, PASSWORD)),
            reason: "not-granted",
            third: Third::Login,
            says: "No rule applies to it",
            fix: "an Action that sets the claim (Actions > Triggers > post-login)",
            ..Mistake::default()
        },
        Mistake {
            name: "the topic is misspelt",
            presents: Presents::Token(|mint| mint.claim("topics", json!(["greenhouse/1/+"]))),
            topic: "grenhouse/1/temperature",
            reason: "not-granted",
            third: Third::Can,
            says: "nearest: claim 'topics', entry 1: allows 'greenhouse/1/+'",
            fix: "grenhouse",
            ..Mistake::default()
        },
    ] {
        follow(&mistake);
    }
}

/// Checks that the page still names the commands which these tests follow.
#[test]
fn the_page_names_these_commands() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/operating.md");
    let page = fs::read_to_string(page).unwrap();
    let (_, page) = page
        .split_once("## From \"connection refused\" to the fix")
        .unwrap();
    let (page, _) = page.split_once("## Tasks").unwrap();
    for command in [
        "mosquitto-auth0 check",
        "mosquitto-auth0 doctor --probe-login",
        "mosquitto-auth0 login --token FILE --client-id ID",
        "mosquitto-auth0 login --username NAME",
        "mosquitto-auth0 can --token FILE --explain publish TOPIC",
    ] {
        assert!(page.contains(command), "{command}");
    }
}
