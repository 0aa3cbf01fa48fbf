//! Helpers: a tenant, a broker with the plugin, and devices.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};
use testbed::{
    broker::{Failed, Listener, Mosquitto, MosquittoBuilder, Stopped, Version},
    clients::{
        MosquittoClient, Protocol,
        raw::{self, ConnectPacket, ConnectRefusal},
    },
    tenant::{AUDIENCE, CLIENT_ID, CLIENT_SECRET, CONNECTION, Tenant},
};

/// The longest wait for something that must happen. It suits a slow machine; only a failing test waits that
/// long.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A device that may read everything that devices publish here.
pub const WATCHER: &str = "watcher";

/// Returns the plugin's file.
pub fn plugin() -> PathBuf {
    testbed::plugin::file().into()
}

/// Options of the plugin.
#[derive(Clone)]
pub struct PluginOptions(pub Vec<(String, String)>);

impl PluginOptions {
    /// Token mode for this tenant.
    pub fn tokens(tenant: &Tenant) -> Self {
        Self::patient()
            .with("domain", tenant.domain())
            .with("ca_file", tenant.ca_file().to_str().unwrap())
            .with("audience", AUDIENCE)
            .with("login_cache", "0")
    }

    /// The broker waits for an answer, however slow this machine is. Tests with these options are about the requests
    /// and the answers. The budget for waiting and the caches have tests of their own.
    pub fn patient() -> Self {
        Self(vec![])
            .with("login_wait", "20")
            .with("stall_budget", "100")
    }

    /// Both modes, with devices in the connection of the article.
    pub fn both(tenant: &Tenant) -> Self {
        Self::tokens(tenant)
            .with("client_id", CLIENT_ID)
            .with("client_secret", CLIENT_SECRET)
            .with("connection", CONNECTION)
    }

    /// Sets an option.
    pub fn with(self, name: &str, value: &str) -> Self {
        let mut rest = self.without(name);
        rest.0.push((name.to_owned(), value.to_owned()));
        rest
    }

    /// Removes an option.
    pub fn without(mut self, name: &str) -> Self {
        self.0.retain(|(other, _)| other != name);
        self
    }

    pub fn pairs(&self) -> Vec<(&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect()
    }
}

/// Returns a broker with the plugin, not yet started.
pub fn builder(version: Version, options: &PluginOptions) -> MosquittoBuilder {
    Mosquitto::builder(version).plugin(plugin(), &options.pairs())
}

/// Starts a broker with the plugin.
pub fn broker(version: Version, options: &PluginOptions) -> Mosquitto {
    builder(version, options)
        .start()
        .unwrap_or_else(|e| panic!("{version}: {e}"))
}

/// Starts a broker with `per_listener_settings true`, and a listener with its own plugin line for each of
/// these options.
pub fn broker_with_listeners(version: Version, options: &[PluginOptions]) -> Mosquitto {
    let builder = Mosquitto::builder(version).per_listener_settings(true);
    options
        .iter()
        .fold(builder, |builder, options| {
            builder.listener(Listener::tcp().plugin(plugin(), &options.pairs()))
        })
        .start()
        .unwrap()
}

/// Whether the broker exited with status 0. A daemon is not our child and has no status.
pub fn ended_well(stopped: &Stopped) -> bool {
    stopped.status.is_some_and(|status| status.success())
}

/// Starts a broker that must not start.
pub fn refused_start(version: Version, options: &PluginOptions) -> Failed {
    builder(version, options).start_expecting_failure()
}

/// Starts a tenant with the watcher beside the usual device.
pub fn tenant() -> Tenant {
    let tenant = Tenant::start();
    tenant.add_device(
        testbed::tenant::Device::new(WATCHER, "watcher's password").topics(json!(["#"])),
    );
    tenant
}

/// Adds a device with these topics.
pub fn device(tenant: &Tenant, name: &str, topics: Value) {
    tenant.add_device(testbed::tenant::Device::new(name, "pass").topics(topics));
}

/// Returns mosquitto_pub or mosquitto_sub of this device, with a token.
pub fn with_token(broker: &Mosquitto, tenant: &Tenant, device: &str) -> MosquittoClient {
    MosquittoClient::of(broker)
        .username("JWT")
        .password(&tenant.token(device))
}

/// Returns a CONNECT with a token.
pub fn token_connect(protocol: Protocol, client_id: &str, token: &str) -> ConnectPacket {
    ConnectPacket::new(protocol, client_id).login("JWT", token)
}

/// Connects this device with a raw client.
#[track_caller]
pub fn raw(
    broker: &Mosquitto,
    tenant: &Tenant,
    device: &str,
    client_id: &str,
    protocol: Protocol,
) -> raw::RawClient {
    let connect = token_connect(protocol, client_id, &tenant.token(device));
    raw::RawClient::connect(broker.port(), &connect)
        .unwrap_or_else(|e| panic!("{e:?}\n{}", broker.log()))
}

/// Connects, and returns the refusal; `None` if the client is admitted.
pub fn answer(broker: &Mosquitto, connect: &ConnectPacket) -> Option<ConnectRefusal> {
    raw::RawClient::connect(broker.port(), connect).err()
}

/// The same from 127.0.0.`host`; see [`testbed::addresses`].
pub fn answer_from(
    host: u8,
    broker: &Mosquitto,
    connect: &ConnectPacket,
) -> Option<ConnectRefusal> {
    let mut client = raw::RawClient::open_from(host, broker.port(), connect.protocol);
    client.send(&connect.packet());
    client.wait_connack(PATIENCE).err()
}

/// Connects again and again, as a device would, until it is admitted. Returns whether it was.
pub fn retry_until_admitted(broker: &Mosquitto, connect: &ConnectPacket) -> bool {
    let deadline = std::time::Instant::now() + PATIENCE;
    while answer(broker, connect).is_some() {
        if std::time::Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

/// Returns the refusal with this reason code as this broker sends it to this client: 2.0 has one code, and
/// MQTT 3 has one for all reasons.
pub fn expected_refusal(version: Version, protocol: Protocol, code: u8) -> Option<ConnectRefusal> {
    Some(ConnectRefusal::Code(match protocol {
        Protocol::V31 | Protocol::V311 => 5,
        Protocol::V5 if version.can_delay_logins() => code,
        Protocol::V5 => 0x87,
    }))
}

/// Expects a refusal with this code in the broker's log, and the client that it is about.
#[track_caller]
pub fn expect_refusal(broker: &Mosquitto, who: &str, code: &str) -> String {
    let line = broker.wait_for_log(&format!("[{code}]"), PATIENCE);
    let line = line.unwrap_or_else(|| panic!("no [{code}] in {}", broker.log()));
    assert!(line.contains(who) && line.contains("; fix: "), "{line}");
    line
}

/// Writes a file that only the broker can read.
pub fn secret_file(folder: &Path, name: &str, content: &[u8]) -> String {
    let path = folder.join(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Turns each function into one test for each of the three brokers.
#[macro_export]
macro_rules! on_each_broker {
    ($($(#[$doc:meta])* fn $name:ident($version:ident) $body:block)*) => {
        $(
            $(#[$doc])*
            mod $name {
                #[allow(unused_imports)]
                use super::*;

                fn on($version: testbed::broker::Version) $body

                #[test]
                fn v2_0_11() {
                    on(testbed::broker::Version::V2_0_11)
                }

                #[test]
                fn v2_0_21() {
                    on(testbed::broker::Version::V2_0_21)
                }

                #[test]
                fn v2_1_2() {
                    on(testbed::broker::Version::V2_1_2)
                }
            }
        )*
    };
}
