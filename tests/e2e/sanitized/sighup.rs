//! On SIGHUP 2.0 asks about every session again. If a session is refused while its client is absent, 2.0 adds
//! it to its list of expiring sessions a second time.

use std::{
    collections::HashSet,
    io::{Read, Write},
    net::TcpStream,
};

use testbed::{
    broker::{Listener, Mosquitto, MosquittoBuilder, Version},
    clients::{
        MosquittoClient, Protocol,
        raw::{self, ConnectPacket, Properties, property},
    },
    pki::Authority,
    tenant::DEVICE,
};

use super::{compile, report};
use crate::helpers::*;

const EACH: [Version; 2] = [Version::SanitizedV2_0_11, Version::SanitizedV2_0_21];

/// Returns a CONNECT that keeps its session for an hour and subscribes to nothing: `mosquitto_pub -V 5 -x
/// 3600`.
fn publisher(client_id: &str) -> ConnectPacket {
    let mut connect = ConnectPacket::new(Protocol::V5, client_id);
    connect.properties = Properties::new().u32(property::SESSION_EXPIRY_INTERVAL, 3600);
    connect
}

/// 2.0 leaks some memory with any plugin (each registered callback), so leaks are not checked.
fn builder(version: Version) -> MosquittoBuilder {
    Mosquitto::builder(version).env("ASAN_OPTIONS", "detect_leaks=0")
}

/// Connects and disconnects, which leaves a session.
fn visit(broker: &Mosquitto, connect: &ConnectPacket) {
    let client = raw::RawClient::connect(broker.port(), connect)
        .unwrap_or_else(|e| panic!("{e:?}\n{}", broker.log()));
    client.disconnect(0);
}

/// Connects, even if the broker crashes over it.
pub(super) fn come_back(broker: &Mosquitto, connect: &ConnectPacket) {
    if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", broker.port()))
        && stream.write_all(&connect.packet()).is_ok()
    {
        // Reads a packet or the end of the connection.
        let _ = stream.read(&mut [0; 64]);
    }
}

/// Why no absent client is ever refused. If this test fails, the bug is gone, and the other tests here show
/// nothing.
#[test]
fn refusing_an_absent_client_on_sighup_misuses_memory() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = compile(folder.path(), &["crates/testbed/plugins/refuses.c"]);
    for version in EACH {
        let builder = builder(version).plugin(&plugin, &[]);
        // Without this the broker itself refuses these clients, because they have no user name.
        let broker = builder.allow_anonymous(true).start().unwrap();
        let names = ["a", "b", "c"];
        for name in names {
            visit(&broker, &publisher(name));
            broker.expect_log(&format!("Client {name} disconnected"));
        }
        broker.reload();
        for name in names {
            come_back(&broker, &publisher(name));
        }
        let stopped = broker.stop();
        let report = report(&stopped.log).unwrap_or_else(|| panic!("no report: {}", stopped.log));
        assert!(
            report.contains("heap-use-after-free"),
            "{version}: {report}"
        );
        assert!(report.contains("session_expiry"), "{version}: {report}");
    }
}

/// How the plugin tells a CONNECT from a recheck on SIGHUP (`src/quirks/recheck.rs`): in Debian's builds as in ours,
/// each comes from its own place in the broker's code, for all kinds of connections.
#[test]
fn connects_and_rechecks_come_from_different_places() {
    let folder = tempfile::tempdir().unwrap();
    let sources = ["crates/testbed/plugins/places.c", "src/host.c"];
    let plugin = compile(folder.path(), &sources);
    let unchecked = [Version::V2_0_11, Version::V2_0_21, Version::V2_1_2];
    let checked = [Version::Sanitized].into_iter().chain(EACH);
    for version in unchecked.into_iter().chain(checked) {
        let builder = builder(version).plugin(&plugin, &[]);
        let broker = builder.allow_anonymous(true).start().unwrap();
        visit(&broker, &publisher("away"));
        let mut connect = ConnectPacket::new(Protocol::V311, "here");
        connect.clean = false;
        let mut here = raw::RawClient::connect(broker.port(), &connect).unwrap();
        visit(&broker, &publisher("away"));
        broker.reload();
        assert_eq!(here.ping(), Ok(()));
        let log = broker.stop().log;
        let (before, after) = log.split_once("Reloading config").unwrap();
        let [connect, recheck] = [before, after].map(|log| {
            let asked = log
                .lines()
                .filter_map(|line| line.split_once("asked from "));
            let places: HashSet<_> = asked.map(|(_, place)| place).collect();
            assert_eq!(places.len(), 1, "{version}: {places:?}");
            places.into_iter().next().unwrap()
        });
        assert_ne!(connect, recheck, "{version}");
        assert_ne!(connect, "nowhere", "{version}");
        assert!(!log.contains("compared wrongly"), "{version}");
    }
}

/// Tests with more sessions than the plugin has in its table. After an hour it has none of these in it: their
/// token has expired when SIGHUP arrives. Here the key is withdrawn instead, so that the test does not wait.
fn no_absent_client_is_refused(version: Version, sessions: usize) {
    let tenant = tenant();
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("jwks.json");
    let good = tenant.jwks();
    std::fs::write(&keys, good.to_string()).unwrap();
    let options = PluginOptions::tokens(&tenant)
        .with("jwks_file", keys.to_str().unwrap())
        // The client that is here has a token of the withdrawn key, too.
        .with("on_key_revoked", "keep");
    let broker = builder(version)
        .quiet()
        .plugin(plugin(), &options.pairs())
        .start();
    let broker = broker.unwrap();
    let token = tenant.token(DEVICE);
    let device = |number: usize| publisher(&format!("c{number}")).login("JWT", &token);
    for number in 0..sessions {
        visit(&broker, &device(number));
    }
    let mut here = raw(&broker, &tenant, WATCHER, "here", Protocol::V5);
    assert_eq!(here.ping(), Ok(()), "the broker has heard them go");

    let mut other = good.clone();
    let list = other["keys"].as_array_mut().unwrap();
    let kid = tenant.current_key().kid().to_owned();
    list.retain(|key| key["kid"] != kid.as_str());
    assert!(!list.is_empty(), "a key that signed nothing");
    std::fs::write(&keys, other.to_string()).unwrap();
    let refused = || broker.log().matches("refused CONNECT").count();
    for _ in 0..3 {
        broker.reload();
        assert_eq!(here.ping(), Ok(()));
    }
    assert_eq!(refused(), 0);
    // The token is no longer valid, and the broker's lists are intact.
    for number in 0..sessions {
        if number % 100 == 0 {
            assert!(answer(&broker, &device(number)).is_some());
        }
    }
    std::fs::write(&keys, good.to_string()).unwrap();
    broker.reload();
    for number in 0..sessions {
        if number % 3 == 0 {
            visit(&broker, &device(number));
        }
    }
    assert_eq!(here.ping(), Ok(()));
    let stopped = broker.stop();
    assert_eq!(report(&stopped.log), None);
    assert!(stopped.status.unwrap().success());
}

#[test]
fn no_absent_client_is_refused_on_2_0_11() {
    no_absent_client_is_refused(Version::SanitizedV2_0_11, 10_300);
}

#[test]
fn no_absent_client_is_refused_on_2_0_21() {
    no_absent_client_is_refused(Version::SanitizedV2_0_21, 10_300);
}

/// The broker asks nobody about a client with a certificate. On SIGHUP 2.0.21 has lost the listener of absent
/// clients, and asks about them, too. (2.0.11 refuses them by itself.)
#[test]
fn absent_clients_with_certificates_are_not_refused() {
    let tenant = tenant();
    let authority = Authority::new("the broker's authority");
    let builder = builder(Version::SanitizedV2_0_21);
    let file = |name: &str, content: &str| {
        let path = builder.folder().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let ca = file("ca.pem", authority.pem());
    let server = authority.issue(&["localhost", "127.0.0.1"]);
    let server = [
        file("server.pem", &server.cert_pem),
        file("server.key", &server.key_pem),
    ];
    let known = authority.issue_client("known");
    let known = [
        file("known.pem", &known.cert_pem),
        file("known.key", &known.key_pem),
    ];
    let by_certificate = Listener::tls(&server[0], &server[1])
        .client_ca(&ca)
        .config("use_identity_as_username true");
    let broker = builder
        .plugin(plugin(), &PluginOptions::tokens(&tenant).pairs())
        .listener(Listener::tcp())
        .listener(by_certificate)
        .start()
        .unwrap();
    let mut here = raw(&broker, &tenant, WATCHER, "here", Protocol::V5);
    let visit = |name: &str| {
        let client = MosquittoClient::of(&broker)
            .port(broker.ports()[1])
            .ca_file(&ca)
            .certificate(&known[0], &known[1])
            .protocol(Protocol::V5)
            .id(name)
            .property("connect", "session-expiry-interval", "3600");
        client.publish("a", "x").expect_success();
    };
    for _ in 0..2 {
        for name in ["a", "b", "c"] {
            visit(name);
        }
        assert_eq!(here.ping(), Ok(()), "the broker has heard them go");
        broker.reload();
        assert_eq!(here.ping(), Ok(()));
    }
    assert!(
        !broker.log().contains("refused CONNECT"),
        "{}",
        broker.log()
    );
    let stopped = broker.stop();
    assert_eq!(report(&stopped.log), None);
    assert!(stopped.status.unwrap().success());
}

/// With `per_listener_settings true`, 2.0.21 asks nobody about absent clients and refuses them itself
/// (lib/net_mosq.c removes their listener, and src/security.c requires one). No plugin is involved.
#[test]
fn settings_per_listener_misuse_memory_on_2_0_21_without_a_plugin() {
    let version = Version::SanitizedV2_0_21;
    let listener = Listener::tcp().config("allow_anonymous true");
    let broker = builder(version)
        .per_listener_settings(true)
        .listener(listener)
        .start();
    let broker = broker.unwrap();
    for name in ["a", "b", "c"] {
        visit(&broker, &publisher(name));
        broker.expect_log(&format!("Client {name} disconnected"));
    }
    broker.reload();
    for name in ["a", "b", "c"] {
        come_back(&broker, &publisher(name));
    }
    let stopped = broker.stop();
    let report = report(&stopped.log).unwrap_or_else(|| panic!("no report: {}", stopped.log));
    assert!(report.contains("session_expiry"), "{report}");
}
