//! What a device sees when something happens to its session: the rows of the table in docs/compatibility.md.

use serde_json::json;
use testbed::{
    broker::{Mosquitto, Version},
    clients::{
        Protocol,
        raw::{ConnectPacket, End, RawClient},
    },
    signing::now,
    tenant::{DEVICE, Tenant},
};

use crate::{helpers::*, on_each_broker};

/// What a device sees.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Seen {
    /// Its connection is closed without a word.
    Closed,
    /// MQTT 5: DISCONNECT with this reason code, and its connection is closed.
    Disconnect(u8),
}

use Seen::{Closed, Disconnect};

/// The administrator ended the connection: all that Mosquitto can say when a plugin disconnects a client.
const ADMINISTRATIVE_ACTION: u8 = 0x98;
const SESSION_TAKEN_OVER: u8 = 0x8e;
const NOT_AUTHORIZED: u8 = 0x87;

const PROTOCOLS: [Protocol; 2] = [Protocol::V311, Protocol::V5];

fn enter(broker: &Mosquitto, connect: &ConnectPacket) -> RawClient {
    RawClient::connect(broker.port(), connect).unwrap_or_else(|e| panic!("{e:?}\n{}", broker.log()))
}

/// Waits until the connection is closed.
#[track_caller]
fn end_of(client: &mut RawClient) -> Seen {
    client
        .wait_end(PATIENCE)
        .unwrap()
        .map_or(Closed, Disconnect)
}

/// MQTT 3 has no DISCONNECT from the broker.
fn expected(protocol: Protocol, code: u8) -> Seen {
    match protocol {
        Protocol::V5 => Disconnect(code),
        _ => Closed,
    }
}

/// Connects a device by each protocol with a token, and returns the devices.
fn devices(broker: &Mosquitto, token: &str) -> Vec<(Protocol, RawClient)> {
    let enters = |protocol| {
        let connect = token_connect(protocol, &format!("{protocol:?}"), token);
        (protocol, enter(broker, &connect))
    };
    PROTOCOLS.map(enters).into()
}

fn stays(client: &mut RawClient) -> bool {
    client.ping().is_ok() && client.wait_end(std::time::Duration::ZERO) == Err(End::Silent)
}

fn start(version: Version, tenant: &Tenant, further: &[(&str, &str)]) -> Mosquitto {
    let mut options = PluginOptions::tokens(tenant).with("leeway", "0");
    for (name, value) in further {
        options = options.with(name, value);
    }
    let broker = builder(version, &options)
        .persistence(true)
        .start()
        .unwrap();
    broker.expect_log("signing keys were fetched");
    broker
}

on_each_broker! {
    fn at_the_end_of_its_token_a_device_is_disconnected(version) {
        let tenant = tenant();
        let broker = start(version, &tenant, &[]);
        let token = tenant.mint(DEVICE).claim("exp", now() + 2).sign();
        for (protocol, mut device) in devices(&broker, &token) {
            assert_eq!(end_of(&mut device), expected(protocol, ADMINISTRATIVE_ACTION), "{protocol:?}");
        }
    }

    /// MQTT 5 is told for each message of QoS 1. MQTT 3 is told nothing: its messages are acknowledged, and dropped.
    fn a_device_that_may_stay_is_told_for_each_message(version) {
        let tenant = tenant();
        let broker = start(version, &tenant, &[("on_expiry", "deny")]);
        let end = now() + 2;
        let token = tenant.mint(DEVICE).claim("exp", end).sign();
        let mut devices = devices(&broker, &token);
        while now() <= end {
            std::thread::yield_now();
        }
        for (protocol, device) in &mut devices {
            let (code, refused) = match protocol {
                Protocol::V5 => (NOT_AUTHORIZED, NOT_AUTHORIZED),
                _ => (0, 0x80),
            };
            assert_eq!(device.publish("temperature", "1", 1), Ok(code), "{protocol:?}");
            assert_eq!(device.subscribe(&[("config", 1)]), Ok(vec![refused]), "{protocol:?}");
            assert!(stays(device), "{protocol:?}");
        }
    }

    fn when_its_key_is_revoked_a_device_is_disconnected(version) {
        let tenant = tenant();
        let broker = start(version, &tenant, &[]);
        let devices = devices(&broker, &tenant.token(DEVICE));
        tenant.rotate();
        tenant.revoke_previous();
        broker.reload();
        for (protocol, mut device) in devices {
            assert_eq!(end_of(&mut device), expected(protocol, ADMINISTRATIVE_ACTION), "{protocol:?}");
        }
    }

    fn a_device_that_is_kicked_is_disconnected(version) {
        let tenant = tenant();
        let broker = start(version, &tenant, &[("admin_permission", "mqtt:admin")]);
        let devices = devices(&broker, &tenant.token(DEVICE));
        let admin = tenant.mint(WATCHER).claim("permissions", json!(["mqtt:admin"])).sign();
        let mut admin = enter(&broker, &token_connect(Protocol::V5, "admin", &admin));
        for (protocol, mut device) in devices {
            let kick = json!({"commands": [{"command": "kick", "clientId": format!("{protocol:?}")}]});
            assert!(admin.publish("$CONTROL/auth0/v1", kick.to_string(), 1).unwrap() < 0x80);
            assert_eq!(end_of(&mut device), expected(protocol, ADMINISTRATIVE_ACTION), "{protocol:?}");
        }
    }

    fn a_device_that_is_taken_over_is_disconnected(version) {
        let tenant = tenant();
        let broker = start(version, &tenant, &[]);
        let token = tenant.token(DEVICE);
        for (protocol, mut old) in devices(&broker, &token) {
            let mut new = enter(&broker, &token_connect(protocol, &format!("{protocol:?}"), &token));
            // 2.0.11 does not say so.
            let seen = match version {
                Version::V2_0_11 => Closed,
                _ => expected(protocol, SESSION_TAKEN_OVER),
            };
            assert_eq!(end_of(&mut old), seen, "{protocol:?}");
            assert!(stays(&mut new));
        }
    }

    fn sighup_is_not_noticed(version) {
        let tenant = tenant();
        let broker = start(version, &tenant, &[]);
        let mut devices = devices(&broker, &tenant.token(DEVICE));
        broker.reload();
        for (protocol, device) in &mut devices {
            assert!(stays(device), "{protocol:?}");
            assert!(device.publish("temperature", "1", 1).unwrap() < 0x80, "{protocol:?}");
        }
    }

    fn at_a_restart_a_device_is_disconnected(version) {
        let tenant = tenant();
        let broker = start(version, &tenant, &[]);
        let devices = devices(&broker, &tenant.token(DEVICE));
        let broker = broker.restart().unwrap();
        for (protocol, mut device) in devices {
            assert_eq!(end_of(&mut device), Closed, "{protocol:?}");
        }
        assert_eq!(answer(&broker, &token_connect(Protocol::V5, "back", &tenant.token(DEVICE))), None);
    }
}
