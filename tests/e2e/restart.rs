//! Restarts of the broker: the rights of kept sessions, and to whom these sessions belong.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::json;
use testbed::{
    broker::{Mosquitto, Version},
    clients::{
        Protocol,
        raw::{self, ConnectPacket},
    },
    signing::now,
    tenant::Tenant,
};

use crate::{helpers::*, on_each_broker, sessions::leave};

/// A folder for state and a policy file.
struct Disk {
    folder: tempfile::TempDir,
}

impl Disk {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Options with which sessions are saved here.
    fn options(&self, tenant: &Tenant) -> PluginOptions {
        PluginOptions::tokens(tenant).with("state_dir", self.path().to_str().unwrap())
    }

    fn sessions(&self) -> Vec<u8> {
        fs::read(self.path().join("sessions")).unwrap_or_default()
    }

    /// Waits until a session with this client ID is saved.
    fn wait_until_saved(&self, client_id: &str) {
        let deadline = Instant::now() + PATIENCE;
        let is_in = |file: Vec<u8>| {
            file.windows(client_id.len())
                .any(|at| at == client_id.as_bytes())
        };
        while !is_in(self.sessions()) {
            assert!(Instant::now() < deadline, "not saved");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn start(version: Version, options: &PluginOptions) -> Mosquitto {
    builder(version, options).persistence(true).start().unwrap()
}

/// Returns the CONNECT of a device that keeps its session under the client ID `durable`.
fn durable(tenant: &Tenant, device: &str) -> ConnectPacket {
    let mut connect = token_connect(Protocol::V311, "durable", &tenant.token(device));
    connect.clean = false;
    connect
}

/// Has the device `sleepy` subscribe to `a/#` and leave.
fn sleeps(broker: &Mosquitto, connect: &ConnectPacket) {
    let mut sleepy = raw::RawClient::connect(broker.port(), connect).unwrap();
    assert_eq!(sleepy.subscribe(&[("a/#", 1)]), Ok(vec![1]));
    leave(broker, sleepy, "durable");
}

fn publish(broker: &Mosquitto, tenant: &Tenant, topic: &str, text: &str) {
    with_token(broker, tenant, WATCHER)
        .qos(1)
        .publish(topic, text)
        .expect_success();
}

/// Has a device come back. Returns what is delivered.
fn comes_back(broker: &Mosquitto, connect: &ConnectPacket, messages: usize) -> Vec<String> {
    let mut device = raw::RawClient::connect(broker.port(), connect)
        .unwrap_or_else(|refusal| panic!("{refusal:?}\n{}", broker.log()));
    assert!(device.session_present);
    let mut texts: Vec<_> = (0..messages)
        .map(|_| device.next_message(PATIENCE).unwrap().text())
        .collect();
    texts.extend(
        device
            .messages_before_pong()
            .unwrap()
            .iter()
            .map(testbed::clients::Message::text),
    );
    texts
}

on_each_broker! {
    /// What is queued for a restored session is what its rights allow, with the policy file of today.
    fn a_restored_session_keeps_its_rights(version) {
        let tenant = tenant();
        device(&tenant, "sleepy", json!(["a/#"]));
        let disk = Disk::new();
        let policy = disk.path().join("policy.toml");
        fs::write(&policy, "").unwrap();
        let broker = start(version, &disk.options(&tenant).with("policy_file", policy.to_str().unwrap()));
        let connect = durable(&tenant, "sleepy");
        sleeps(&broker, &connect);
        publish(&broker, &tenant, "a/b", "before");

        fs::write(&policy, "[[rule]]\nname = \"not c\"\ndeny.subscribe = \"a/c\"").unwrap();
        let broker = broker.restart().unwrap();
        broker.expect_log("the rights of 1 kept sessions were saved");
        publish(&broker, &tenant, "a/b", "allowed");
        publish(&broker, &tenant, "a/c", "denied");
        // From now on everything is allowed again, and what was not queued stays away.
        fs::write(&policy, "").unwrap();
        broker.reload();
        publish(&broker, &tenant, "a/c", "allowed again");
        assert_eq!(comes_back(&broker, &connect, 3), ["before", "allowed", "allowed again"]);
    }

    /// Another account does not get a restored session, whoever comes first, and the owner loses nothing.
    fn a_restored_session_belongs_to_its_account(version) {
        let tenant = tenant();
        device(&tenant, "sleepy", json!(["a/#"]));
        device(&tenant, "other", json!(["#"]));
        let disk = Disk::new();
        let broker = start(version, &disk.options(&tenant));
        let connect = durable(&tenant, "sleepy");
        sleeps(&broker, &connect);

        let broker = broker.restart().unwrap();
        let other = durable(&tenant, "other");
        let refused = expected_refusal(version, Protocol::V311, 0x87);
        assert_eq!(answer(&broker, &other), refused);
        expect_refusal(&broker, "'durable'", "client-id-held");
        publish(&broker, &tenant, "a/b", "1");
        assert_eq!(answer(&broker, &other), refused);
        broker.reload();
        assert_eq!(answer(&broker, &other), refused);
        assert_eq!(comes_back(&broker, &connect, 1), ["1"]);
        // Once more, with a session that was restored twice.
        let broker = broker.restart().unwrap().restart().unwrap();
        assert_eq!(answer(&broker, &other), refused);
        publish(&broker, &tenant, "a/b", "2");
        assert_eq!(comes_back(&broker, &connect, 1), ["2"]);
    }

    /// If nothing is saved, the broker still knows the user name. On 2.0 that is seen when it is too late for what is
    /// queued, so the other client gets nothing.
    fn without_saved_rights_another_user_gets_nothing(version) {
        let tenant = tenant();
        device(&tenant, "sleepy", json!(["a/#"]));
        device(&tenant, "other", json!(["#"]));
        let broker = start(version, &PluginOptions::tokens(&tenant));
        let connect = durable(&tenant, "sleepy");
        sleeps(&broker, &connect);
        let broker = broker.restart().unwrap();
        publish(&broker, &tenant, "a/b", "secret");

        let other = durable(&tenant, "other");
        if version.can_delay_logins() {
            assert_eq!(answer(&broker, &other), expected_refusal(version, Protocol::V311, 0x87));
            let line = expect_refusal(&broker, "'durable'", "client-id-held");
            assert!(line.contains("belongs to the user 'auth0|"), "{line}");
            assert_eq!(comes_back(&broker, &connect, 1), ["secret"]);
            return;
        }
        let mut intruder = raw::RawClient::connect(broker.port(), &other).unwrap();
        intruder.wait_end(PATIENCE).unwrap();
        assert!(intruder.next_message(Duration::ZERO).is_err());
        let line = broker.expect_log("disconnecting [client-id-held] 'durable'");
        assert!(line.contains("state_dir"), "{line}");
        // From now on it is known to whom the client ID belongs.
        assert_eq!(answer(&broker, &other), expected_refusal(version, Protocol::V311, 0x87));
        raw::RawClient::connect(broker.port(), &connect).unwrap();
    }

    /// What is saved of sessions that the broker does not have holds no client ID for ever.
    fn a_session_that_is_gone_frees_its_client_id(version) {
        let tenant = tenant();
        device(&tenant, "sleepy", json!(["a/#"]));
        device(&tenant, "other", json!(["#"]));
        let disk = Disk::new();
        let broker = start(version, &disk.options(&tenant));
        // This one stays, so that the broker asks about absent sessions.
        let mut stays = token_connect(Protocol::V311, "stays", &tenant.token("other"));
        stays.clean = false;
        let mut client = raw::RawClient::connect(broker.port(), &stays).unwrap();
        assert_eq!(client.subscribe(&[("x", 1)]), Ok(vec![1]));
        leave(&broker, client, "stays");
        broker.save();
        sleeps(&broker, &durable(&tenant, "sleepy"));
        disk.wait_until_saved("durable");

        // The broker has lost the session, and the plugin has not.
        let broker = broker.restart_killed().unwrap();
        let other = durable(&tenant, "other");
        if !version.can_delay_logins() {
            assert_eq!(answer(&broker, &other), expected_refusal(version, Protocol::V311, 0x87));
            broker.reload();
            broker.expect_log("no longer has 1 of the sessions");
        }
        assert_eq!(answer(&broker, &other), None);
    }

    /// With `offline_grace`, nothing is queued any more a while after the token of an absent device ended: neither
    /// before nor after a restart.
    fn messages_are_queued_for_a_limited_time(version) {
        let tenant = tenant();
        device(&tenant, "sleepy", json!(["a/#"]));
        let disk = Disk::new();
        let options = disk.options(&tenant).with("leeway", "0").with("offline_grace", "1");
        let broker = start(version, &options);
        let end = now() + 3;
        let token = tenant.mint("sleepy").claim("exp", end).sign();
        let mut connect = token_connect(Protocol::V311, "durable", &token);
        connect.clean = false;
        sleeps(&broker, &connect);
        publish(&broker, &tenant, "a/b", "in time");
        while now() < end + 1 {
            std::thread::sleep(Duration::from_millis(20));
        }
        publish(&broker, &tenant, "a/b", "too late");
        let broker = broker.restart().unwrap();
        publish(&broker, &tenant, "a/b", "much too late");
        assert_eq!(comes_back(&broker, &durable(&tenant, "sleepy"), 1), ["in time"]);
    }

    /// A broker that is killed has saved what is older than some seconds. What it could not save holds nobody up.
    fn a_killed_broker_has_saved_its_sessions(version) {
        let tenant = tenant();
        device(&tenant, "sleepy", json!(["a/#"]));
        device(&tenant, "other", json!(["#"]));
        let disk = Disk::new();
        let mut broker = start(version, &disk.options(&tenant));
        let connect = durable(&tenant, "sleepy");
        sleeps(&broker, &connect);
        disk.wait_until_saved("durable");
        broker.save();
        for _ in 0..3 {
            broker = broker.restart_killed().unwrap();
            broker.expect_log("the rights of 1 kept sessions were saved");
            let refused = expected_refusal(version, Protocol::V311, 0x87);
            assert_eq!(answer(&broker, &durable(&tenant, "other")), refused);
            publish(&broker, &tenant, "a/b", "lost with the broker");
        }
        // The broker's own file may be older than what it last knew, but the session is there.
        assert!(raw::RawClient::connect(broker.port(), &connect).unwrap().session_present);
    }

    /// A file that is damaged, foreign, cut or of another version is one line in the log. The broker starts, no message
    /// is lost, and nobody gets a session of somebody else.
    fn a_damaged_file_is_reported_and_gives_nothing(version) {
        let tenant = tenant();
        device(&tenant, "sleepy", json!(["a/#"]));
        let disk = Disk::new();
        let mut broker = start(version, &disk.options(&tenant));
        let connect = durable(&tenant, "sleepy");
        sleeps(&broker, &connect);
        disk.wait_until_saved("durable");
        broker.save();
        let whole = disk.sessions();
        let with_flipped_bit = |at: usize| {
            let mut file = whole.clone();
            file[at] ^= 1;
            file
        };
        for (damage, line) in [
            (b"mosquitto-auth0 sessions 9\nxyz".to_vec(), "this version of the plugin did not write it"),
            (b"something else".to_vec(), "this version of the plugin did not write it"),
            (b"mosquitto-auth0 sess".to_vec(), "it was cut off after 0 bytes"),
            (whole[..whole.len() - 1].to_vec(), "it was cut off after"),
            (with_flipped_bit(60), "it was changed after 27 bytes"),
            (with_flipped_bit(whole.len() - 1), "it was changed after"),
        ] {
            fs::write(disk.path().join("sessions"), damage).unwrap();
            broker = broker.restart_killed().unwrap();
            let told = broker.expect_log(line);
            assert!(told.contains("; fix: "), "{told}");
            publish(&broker, &tenant, "a/b", "queued");
        }
        assert_eq!(comes_back(&broker, &connect, 1), ["queued"]);
    }

    /// A disk that is full or read-only disturbs nobody. One line says so, and what was saved before counts.
    fn a_folder_that_cannot_be_written_disturbs_nobody(version) {
        let tenant = tenant();
        device(&tenant, "sleepy", json!(["a/#"]));
        device(&tenant, "other", json!(["#"]));
        let disk = Disk::new();
        let broker = start(version, &disk.options(&tenant));
        // A rename cannot replace a folder by a file: this also stops root.
        fs::create_dir(disk.path().join("sessions")).unwrap();
        let connect = durable(&tenant, "sleepy");
        sleeps(&broker, &connect);
        let line = broker.expect_log("the rights of kept sessions cannot be saved");
        assert!(line.contains("; fix: "), "{line}");
        assert_eq!(answer(&broker, &durable(&tenant, "other")), expected_refusal(version, Protocol::V311, 0x87));
        fs::remove_dir(disk.path().join("sessions")).unwrap();
        broker.expect_log("the rights of kept sessions are saved again");
        let broker = broker.restart().unwrap();
        broker.expect_log("the rights of 1 kept sessions were saved");
        publish(&broker, &tenant, "a/b", "queued");
        assert_eq!(comes_back(&broker, &connect, 1), ["queued"]);
    }
}
