//! A tenant, a broker with the plugin, and devices.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};
use testbed::{
    broker::{Broker, Builder, Failed, Version},
    clients::{
        Client, Protocol,
        raw::{self, Connect, Refusal},
    },
    tenant::{AUDIENCE, CLIENT_ID, CLIENT_SECRET, CONNECTION, Tenant},
};

/// How long something may take that must come. Long: these machines are slow at times, and a test
/// that waits this long fails anyway.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A device for watching: it may see everything that devices may do here.
pub const WATCHER: &str = "watcher";

/// The plugin's file.
pub fn plugin() -> PathBuf {
    testbed::plugin::file().into()
}

/// Options of the plugin.
#[derive(Clone)]
pub struct Options(pub Vec<(String, String)>);

impl Options {
    /// Token mode for this tenant.
    pub fn tokens(tenant: &Tenant) -> Self {
        Self(vec![])
            .with("domain", tenant.domain())
            .with("ca_file", tenant.ca_file().to_str().unwrap())
            .with("audience", AUDIENCE)
            // What is tested with these is what the tenant is asked and what it answers; how long
            // a broker may wait, and what is remembered, have tests of their own.
            .with("login_wait", "20")
            .with("stall_budget", "100")
            .with("login_cache", "0")
    }

    /// Both modes, devices in the connection of the article.
    pub fn both(tenant: &Tenant) -> Self {
        Self::tokens(tenant)
            .with("client_id", CLIENT_ID)
            .with("client_secret", CLIENT_SECRET)
            .with("connection", CONNECTION)
    }

    /// With this option set, or set otherwise.
    pub fn with(self, name: &str, value: &str) -> Self {
        let mut rest = self.without(name);
        rest.0.push((name.to_owned(), value.to_owned()));
        rest
    }

    /// Without this option.
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

/// A broker with the plugin, not yet started.
pub fn builder(version: Version, options: &Options) -> Builder {
    Broker::builder(version).plugin(plugin(), &options.pairs())
}

/// A broker with the plugin.
pub fn broker(version: Version, options: &Options) -> Broker {
    builder(version, options)
        .start()
        .unwrap_or_else(|e| panic!("{version}: {e}"))
}

/// A broker that must not start.
pub fn refused_start(version: Version, options: &Options) -> Failed {
    builder(version, options).start_expecting_failure()
}

/// A tenant with the watcher beside the usual device.
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

/// mosquitto_pub or mosquitto_sub of this device, with a token.
pub fn with_token(broker: &Broker, tenant: &Tenant, device: &str) -> Client {
    Client::of(broker)
        .username("JWT")
        .password(&tenant.token(device))
}

/// A CONNECT with a token.
pub fn token_connect(protocol: Protocol, client_id: &str, token: &str) -> Connect {
    Connect::new(protocol, client_id).login("JWT", token)
}

/// A raw connection of this device.
#[track_caller]
pub fn raw(
    broker: &Broker,
    tenant: &Tenant,
    device: &str,
    client_id: &str,
    protocol: Protocol,
) -> raw::Client {
    let connect = token_connect(protocol, client_id, &tenant.token(device));
    raw::Client::connect(broker.port(), &connect)
        .unwrap_or_else(|e| panic!("{e:?}\n{}", broker.log()))
}

/// What a CONNECT is answered with; `None` if it is accepted.
pub fn answer(broker: &Broker, connect: &Connect) -> Option<Refusal> {
    raw::Client::connect(broker.port(), connect).err()
}

/// The same for who connects from 127.0.0.`host`; see [`testbed::addresses`].
pub fn answer_from(host: u8, broker: &Broker, connect: &Connect) -> Option<Refusal> {
    let mut client = raw::Client::open_from(host, broker.port(), connect.protocol);
    client.send(&connect.packet());
    client.wait_connack(PATIENCE).err()
}

/// Connects again and again, as a device would, until it is let in; `false` if it never is.
pub fn tries_until_let_in(broker: &Broker, connect: &Connect) -> bool {
    let deadline = std::time::Instant::now() + PATIENCE;
    while answer(broker, connect).is_some() {
        if std::time::Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

/// The reason code of a refusal, as this broker tells it to this client: 2.0 knows one, and MQTT
/// 3 has one for all.
pub fn told(version: Version, protocol: Protocol, code: u8) -> Option<Refusal> {
    Some(Refusal::Code(match protocol {
        Protocol::V31 | Protocol::V311 => 5,
        Protocol::V5 if version.can_delay_logins() => code,
        Protocol::V5 => 0x87,
    }))
}

/// The broker's log has this refusal, with who it was about.
#[track_caller]
pub fn expect_refusal(broker: &Broker, who: &str, code: &str) -> String {
    let line = broker.wait_for_log(&format!("[{code}]"), PATIENCE);
    let line = line.unwrap_or_else(|| panic!("no [{code}] in {}", broker.log()));
    assert!(line.contains(who) && line.contains("; cure: "), "{line}");
    line
}

/// Writes a file that only the broker may read.
pub fn secret_file(folder: &Path, name: &str, content: &[u8]) -> String {
    let path = folder.join(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Makes one test of each function for each of the three brokers.
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
