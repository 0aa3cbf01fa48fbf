//! On SIGHUP 2.0 asks about every session again, and a session that is refused while its client is away goes on
//! the list of those that expire a second time.

use lab::{
    broker::{Broker, Builder, Version},
    clients::{
        Protocol,
        raw::{self, Connect, Properties, property},
    },
};

use super::{compile, report};

const EACH: [Version; 2] = [Version::SanitizedV2_0_11, Version::SanitizedV2_0_21];

/// Keeps its session for an hour, and subscribes to nothing: `mosquitto_pub -V 5 -x 3600`.
fn publisher(client_id: &str) -> Connect {
    let mut connect = Connect::new(Protocol::V5, client_id);
    connect.properties = Properties::new().u32(property::SESSION_EXPIRY_INTERVAL, 3600);
    connect
}

/// 2.0 loses some memory whatever a plugin does (each callback that is registered): only misuse is looked for.
fn builder(version: Version) -> Builder {
    Broker::builder(version).env("ASAN_OPTIONS", "detect_leaks=0")
}

/// Comes, and leaves its session behind.
fn visit(broker: &Broker, connect: &Connect) {
    let client = raw::Client::connect(broker.port(), connect)
        .unwrap_or_else(|e| panic!("{e:?}\n{}", broker.log()));
    client.disconnect(0);
}

/// The reason why nobody who is away is ever refused. If this one fails, the others here see nothing.
#[test]
fn refusing_who_is_away_misuses_memory() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = compile(folder.path(), "refuses");
    for version in EACH {
        let broker = builder(version).plugin(&plugin, &[]).start().unwrap();
        let names = ["a", "b", "c"];
        for name in names {
            visit(&broker, &publisher(name));
            broker.expect_log(&format!("Client {name} disconnected"));
        }
        broker.reload();
        for name in names {
            raw::Client::connect(broker.port(), &publisher(name))
                .map(|client| client.disconnect(0))
                .ok();
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
