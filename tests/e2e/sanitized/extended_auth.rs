//! AUTH packets of MQTT 5 that continue an exchange that does not exist. Every broker passes one without content on,
//! and may use freed memory if a plugin answers with success or a refusal (src/handle_auth.c).

use serde_json::json;
use testbed::{
    broker::{Mosquitto, MosquittoBuilder, Version},
    clients::{
        Protocol,
        raw::{self, ConnectPacket, Properties, property},
    },
    tenant::{DEVICE, Device},
};

use super::{compile, report, sighup::come_back};
use crate::{
    extended_auth::{answer_to_auth, by, enters, properties, renew},
    helpers::*,
};

const EACH: [Version; 3] = [
    Version::SanitizedV2_0_11,
    Version::SanitizedV2_0_21,
    Version::Sanitized,
];

const METHOD: &str = "OAUTH2-JWT";

/// Leaks are not checked: 2.0 leaks some memory with any plugin.
fn builder(version: Version) -> MosquittoBuilder {
    Mosquitto::builder(version).env("ASAN_OPTIONS", "detect_leaks=0")
}

/// Sends an AUTH packet without content, and waits until the broker has done something about it or is gone.
fn send_empty_auth(client: &mut raw::RawClient) {
    client.send(&[0xf0, 0]);
    let _ = client.read(PATIENCE);
}

/// Why such a packet is answered with "go on". If this test fails, the bug is gone, and the one below shows nothing.
#[test]
fn success_or_a_refusal_for_an_empty_auth_packet_misuses_memory() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = compile(folder.path(), &["crates/testbed/plugins/auth_packets.c"]);
    for version in EACH {
        // After a success 2.1.2 has the client take itself over, and closes its connection.
        let codes = match version {
            Version::Sanitized => &["11"][..],
            _ => &["0", "11"],
        };
        for code in codes {
            let builder = builder(version).plugin(&plugin, &[("code", code)]);
            let broker = builder.allow_anonymous(true).start().unwrap();
            let mut kept = by("ANY", "device", "x");
            kept.properties = kept.properties.u32(property::SESSION_EXPIRY_INTERVAL, 600);
            let mut client = enters(&broker, &kept);
            let _ = client.subscribe(&[("a", 1)]);
            send_empty_auth(&mut client);
            drop(client);
            // Whoever looks for the client ID finds freed memory.
            for client_id in ["device", "another"] {
                come_back(&broker, &ConnectPacket::new(Protocol::V5, client_id));
            }
            let stopped = broker.stop();
            let report = report(&stopped.log);
            let report = report.unwrap_or_else(|| panic!("{version}, {code}: {}", stopped.log));
            // The second is what a client ID that is gone ends in.
            let misuse = ["heap-use-after-free", "SEGV"];
            assert!(
                misuse.iter().any(|one| report.contains(one)),
                "{version}, {code}: {report}"
            );
        }
    }
}

#[test]
fn auth_packets_out_of_place_do_no_harm() {
    for version in EACH {
        let tenant = tenant();
        tenant.add_device(Device::new("other", "pass").topics(json!(["#"])));
        let token = tenant.token(DEVICE);
        let broker = builder(version)
            .plugin(plugin(), &PluginOptions::tokens(&tenant).pairs())
            .start()
            .unwrap();
        for round in 0..6 {
            let mut connect = by(METHOD, "device", &token);
            connect.clean = round % 2 == 0;
            let expiry = Properties::new().u32(property::SESSION_EXPIRY_INTERVAL, 600);
            connect.properties.0.extend(expiry.0);
            let mut client = enters(&broker, &connect);
            let _ = client.subscribe(&[("config", 1)]);
            match round / 2 {
                0 => {}
                1 => assert_eq!(renew(&mut client, &token), 0),
                // A renewal that is refused closes the connection.
                _ => {
                    client.auth(0x19, &properties(METHOD, &tenant.token("other")));
                    assert!(client.wait_end(PATIENCE).is_ok());
                    continue;
                }
            }
            for _ in 0..=round {
                client.send(&[0xf0, 0]);
            }
            assert!(client.wait_end(PATIENCE).is_ok(), "{}", broker.log());
            drop(client);
            come_back(&broker, &by(METHOD, "another", &token));
        }
        // Dialogues that end in each way, and one that does not end.
        for last in [Some("\x01"), Some(""), None] {
            let mut client = raw::RawClient::open(broker.port(), Protocol::V5);
            client.send(&by("OAUTHBEARER", "device", "wrong").packet());
            assert_eq!(answer_to_auth(&mut client).0, 0x18);
            match last {
                Some("") => client.send(&[0xf0, 0]),
                Some(data) => client.auth(0x18, &properties("OAUTHBEARER", data)),
                None => {
                    client.abort();
                    continue;
                }
            }
            assert!(client.wait_connack(PATIENCE).is_err());
        }
        broker.reload();
        drop(enters(&broker, &by(METHOD, "device", &token)));
        let stopped = broker.stop();
        assert_eq!(report(&stopped.log), None, "{version}");
        assert!(
            stopped.status.unwrap().success(),
            "{version}: {}",
            stopped.log
        );
    }
}

/// 2.0 must not be told no about a session whose client is away, and nobody presents the token again.
#[test]
fn absent_clients_of_a_method_are_kept_on_sighup() {
    for version in EACH {
        let tenant = tenant();
        let token = tenant.token(DEVICE);
        let broker = builder(version)
            .plugin(plugin(), &PluginOptions::tokens(&tenant).pairs())
            .start()
            .unwrap();
        let connects: Vec<_> = (0..6)
            .map(|number| {
                let mut connect = by(METHOD, &format!("away {number}"), &token);
                connect.clean = false;
                let expiry = Properties::new().u32(property::SESSION_EXPIRY_INTERVAL, 600);
                connect.properties.0.extend(expiry.0);
                connect
            })
            .collect();
        for (number, connect) in connects.iter().enumerate() {
            let mut client = enters(&broker, connect);
            if number % 2 == 0 {
                client.subscribe(&[("config", 1)]).unwrap();
            }
            client.disconnect(0);
        }
        for _ in 0..3 {
            broker.reload();
            // 2.0 loses a SIGHUP that comes before the last one is handled.
            drop(raw(&broker, &tenant, DEVICE, "between", Protocol::V5));
        }
        for connect in &connects {
            assert!(enters(&broker, connect).session_present, "{version}");
        }
        let stopped = broker.stop();
        assert_eq!(report(&stopped.log), None, "{version}");
        assert!(
            stopped.status.unwrap().success(),
            "{version}: {}",
            stopped.log
        );
    }
}
