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

use crate::{control, helpers::*, metrics::wait_for_line, on_each_broker, sessions::leave};

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

    /// A policy file that names another claim may make the rights of a restored session unknown. Its owner stays known.
    fn a_restored_session_keeps_its_owner_when_rules_name_more_claims(version) {
        let tenant = tenant();
        device(&tenant, "sleepy", json!(["a/#"]));
        device(&tenant, "other", json!(["#"]));
        let disk = Disk::new();
        let policy = disk.path().join("policy.toml");
        fs::write(&policy, "").unwrap();
        let options = disk.options(&tenant).with("policy_file", policy.to_str().unwrap());
        let broker = start(version, &options);
        let connect = durable(&tenant, "sleepy");
        sleeps(&broker, &connect);
        let broker = broker.restart().unwrap();
        publish(&broker, &tenant, "a/b", "1");

        let rule = "[[rule]]\nname = \"gold\"\nwhen = { claim = { name = \"tier\", is = \"gold\" } }\ndeny.both = \"a/gold\"";
        fs::write(&policy, rule).unwrap();
        broker.reload();
        broker.expect_log("configuration generation 2 is in force");
        publish(&broker, &tenant, "a/b", "2");
        let other = durable(&tenant, "other");
        assert_eq!(answer(&broker, &other), expected_refusal(version, Protocol::V311, 0x87));
        expect_refusal(&broker, "'durable'", "client-id-held");
        assert_eq!(comes_back(&broker, &connect, 2), ["1", "2"]);
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

    /// Where the broker keeps no session over a restart, what was saved before holds no client ID.
    fn without_persistence_no_client_id_is_held(version) {
        let tenant = tenant();
        device(&tenant, "sleepy", json!(["a/#"]));
        device(&tenant, "other", json!(["#"]));
        let disk = Disk::new();
        let broker = start(version, &disk.options(&tenant));
        sleeps(&broker, &durable(&tenant, "sleepy"));
        disk.wait_until_saved("durable");
        broker.stop();
        let broker = builder(version, &disk.options(&tenant)).start().unwrap();
        let other = durable(&tenant, "other");
        if !version.can_delay_logins() {
            broker.expect_log("mosquitto.conf does not say 'persistence true'");
            assert_eq!(answer(&broker, &other), None);
            return;
        }
        // 2.1 says which sessions it has. It is asked at a tick.
        let deadline = Instant::now() + PATIENCE;
        while answer(&broker, &other).is_some() {
            assert!(Instant::now() < deadline, "{}", broker.log());
        }
    }

    /// Two brokers with one folder would destroy each other's file.
    fn a_second_broker_saves_nothing_in_the_folder_of_the_first(version) {
        let tenant = tenant();
        device(&tenant, "sleepy", json!(["a/#"]));
        device(&tenant, "other", json!(["a/#"]));
        let disk = Disk::new();
        let first = start(version, &disk.options(&tenant));
        let second = start(version, &disk.options(&tenant));
        let line = second.expect_log("another broker uses the folder");
        assert!(line.contains("; fix: "), "{line}");
        sleeps(&second, &durable(&tenant, "other"));
        sleeps(&first, &durable(&tenant, "sleepy"));
        disk.wait_until_saved("durable");
        let log = second.stop().log;
        assert_eq!(log.matches("another broker uses").count(), 1, "{log}");
        let first = first.restart().unwrap();
        first.expect_log("the rights of 1 kept sessions were saved");
        let refused = expected_refusal(version, Protocol::V311, 0x87);
        assert_eq!(answer(&first, &durable(&tenant, "other")), refused);
    }

    /// A restart does not take back what an administrator has released.
    fn a_released_client_id_is_free_after_a_restart(version) {
        let tenant = tenant();
        device(&tenant, "sleepy", json!(["a/#"]));
        device(&tenant, "new", json!(["a/b"]));
        let disk = Disk::new();
        let options = disk.options(&tenant).with("admin_permission", control::ADMIN);
        let broker = start(version, &options);
        sleeps(&broker, &durable(&tenant, "sleepy"));
        publish(&broker, &tenant, "a/b", "granted");
        publish(&broker, &tenant, "a/c", "not granted");
        let mut admin = control::administrator(&broker, &tenant, Protocol::V311);
        control::wait_until_away(&mut admin, "durable");
        let release = json!({"command": "releaseClientId", "clientId": "durable"});
        assert_eq!(control::command(&mut admin, release)["data"], json!({"known": true}));
        let broker = broker.restart().unwrap();
        assert_eq!(comes_back(&broker, &durable(&tenant, "new"), 1), ["granted"]);
        // It belongs to the new account, over the next restart too.
        let broker = broker.restart().unwrap();
        let refused = expected_refusal(version, Protocol::V311, 0x87);
        assert_eq!(answer(&broker, &durable(&tenant, "sleepy")), refused);
    }

    /// On 2.1 the rights of a restored session are made before anybody sends it a message, and once more when they may
    /// be others. On 2.0 nobody can say which sessions there are.
    fn the_rights_of_restored_sessions_are_made_at_ticks(version) {
        let tenant = tenant();
        device(&tenant, "sleepy", json!(["a/#"]));
        let disk = Disk::new();
        let metrics = disk.path().join("metrics");
        let policy = disk.path().join("policy.toml");
        fs::write(&policy, "").unwrap();
        let options = disk.options(&tenant)
            .with("metrics_file", metrics.to_str().unwrap())
            .with("metrics_interval", "1")
            .with("policy_file", policy.to_str().unwrap());
        let broker = start(version, &options);
        let connect = durable(&tenant, "sleepy");
        sleeps(&broker, &connect);
        let broker = broker.restart().unwrap();
        wait_for_line(&metrics, "mosquitto_auth0_saved_sessions_absent 1");
        let away = |number: usize| {
            let line = format!("mosquitto_auth0_sessions{{state=\"away\"}} {number}");
            wait_for_line(&metrics, &line);
        };
        away(usize::from(version.can_delay_logins()));
        fs::write(&policy, "[[rule]]\nname = \"not c\"\ndeny.subscribe = \"a/c\"").unwrap();
        broker.reload();
        broker.expect_log("configuration generation 2 is in force");
        publish(&broker, &tenant, "a/b", "allowed");
        publish(&broker, &tenant, "a/c", "denied");
        away(1);
        assert_eq!(comes_back(&broker, &connect, 1), ["allowed"]);
    }

    /// An administrator sees the restored sessions, although the broker has not asked about them yet.
    fn restored_sessions_are_listed(version) {
        let tenant = tenant();
        device(&tenant, "sleepy", json!(["a/#"]));
        let disk = Disk::new();
        let options = disk.options(&tenant).with("admin_permission", control::ADMIN);
        let broker = start(version, &options);
        let connect = durable(&tenant, "sleepy");
        sleeps(&broker, &connect);
        let broker = broker.restart().unwrap();
        let mut admin = control::administrator(&broker, &tenant, Protocol::V311);
        let mut listed = || {
            let list = json!({"command": "listSessions", "clientId": "durable"});
            control::command(&mut admin, list)["data"]["sessions"].take()
        };
        let before = listed();
        assert_eq!((&before[0]["restored"], &before[0]["connected"]), (&json!(true), &json!(false)), "{before}");
        publish(&broker, &tenant, "a/b", "queued");
        assert_eq!(listed(), before, "the broker has asked about it");
        let client = raw::RawClient::connect(broker.port(), &connect).unwrap();
        let after = listed();
        assert_eq!((&after[0]["restored"], &after[0]["connected"]), (&json!(false), &json!(true)), "{after}");
        drop(client);
    }

    /// A key that the tenant revoked while the broker was down ends the sessions that it had admitted.
    fn a_key_that_was_revoked_meanwhile_ends_restored_sessions(version) {
        let tenant = Tenant::builder().fresh_keys().start().unwrap();
        device(&tenant, WATCHER, json!(["#"]));
        device(&tenant, "sleepy", json!(["a/#"]));
        let disk = Disk::new();
        let broker = start(version, &disk.options(&tenant).with("offline_grace", "0"));
        sleeps(&broker, &durable(&tenant, "sleepy"));
        publish(&broker, &tenant, "a/b", "before");
        tenant.rotate_unannounced();
        tenant.revoke_previous();
        let broker = broker.restart().unwrap();
        broker.expect_log("signing keys were fetched");
        publish(&broker, &tenant, "a/b", "after");
        assert_eq!(comes_back(&broker, &durable(&tenant, "sleepy"), 1), ["before"]);
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

/// 2.1 can keep sessions in a database instead of its own file. The plugin that does so restores them after this one
/// has started.
#[test]
fn sessions_in_a_database_keep_their_rights_too() {
    let version = Version::V2_1_2;
    let program = version.program("mosquitto").unwrap();
    let sqlite = program
        .with_file_name("plugins")
        .join("mosquitto_persist_sqlite.so");
    if !sqlite.exists() {
        eprintln!(
            "{} is missing: tests/brokers.sh fetches it with a new 2.1.2",
            sqlite.display()
        );
        return;
    }
    let tenant = tenant();
    device(&tenant, "sleepy", json!(["a/#"]));
    device(&tenant, "other", json!(["#"]));
    let disk = Disk::new();
    let policy = disk.path().join("policy.toml");
    fs::write(&policy, "").unwrap();
    let options = disk
        .options(&tenant)
        .with("policy_file", policy.to_str().unwrap());
    let builder = builder(version, &options);
    let folder = builder.folder().to_str().unwrap().to_owned();
    let broker = builder
        .config(format!("persistence_location {folder}/"))
        .plugin(&sqlite, &[("sync", "normal")])
        .start()
        .unwrap();
    let connect = durable(&tenant, "sleepy");
    sleeps(&broker, &connect);
    fs::write(
        &policy,
        "[[rule]]\nname = \"not c\"\ndeny.subscribe = \"a/c\"",
    )
    .unwrap();
    let broker = broker.restart().unwrap();
    let refused = expected_refusal(version, Protocol::V311, 0x87);
    assert_eq!(answer(&broker, &durable(&tenant, "other")), refused);
    publish(&broker, &tenant, "a/b", "allowed");
    publish(&broker, &tenant, "a/c", "denied");
    fs::write(&policy, "").unwrap();
    broker.reload();
    assert_eq!(comes_back(&broker, &connect, 1), ["allowed"]);
}

/// A broker is killed again and again, at random moments, while devices come and go. Whoever had a session for longer
/// than the stated time still has it, and nobody else gets it.
///
/// `cargo test --test e2e -- --ignored restart::` takes half an hour.
#[test]
#[ignore = "takes long"]
fn two_hundred_kills_give_nobody_a_session() {
    for (version, rounds) in [
        (Version::V2_0_11, 67),
        (Version::V2_0_21, 67),
        (Version::V2_1_2, 66),
    ] {
        kill_again_and_again(version, rounds);
    }
}

/// The same, a few times.
#[test]
fn a_few_kills_give_nobody_a_session() {
    for version in [Version::V2_0_11, Version::V2_0_21, Version::V2_1_2] {
        kill_again_and_again(version, 2);
    }
}

fn kill_again_and_again(version: Version, rounds: u64) {
    const DEVICES: usize = 8;
    let tenant = tenant();
    device(&tenant, "sleepy", json!(["a/#"]));
    device(&tenant, "other", json!(["#"]));
    let disk = Disk::new();
    let mut broker = start(version, &disk.options(&tenant));
    let connect = |device: &str, id: usize| {
        let mut connect = token_connect(
            Protocol::V311,
            &format!("durable-{id}"),
            &tenant.token(device),
        );
        connect.clean = false;
        connect
    };
    let sleepy: Vec<_> = (0..DEVICES).map(|id| connect("sleepy", id)).collect();
    let other = connect("other", 0).password;
    for connect in &sleepy {
        let mut client = raw::RawClient::connect(broker.port(), connect).unwrap();
        assert_eq!(client.subscribe(&[("a/#", 1)]), Ok(vec![1]));
        client.disconnect(0);
    }
    for id in 0..DEVICES {
        disk.wait_until_saved(&format!("durable-{id}"));
    }
    broker.save();
    let refused = expected_refusal(version, Protocol::V311, 0x87);
    for round in 0..rounds {
        // Devices come and go, some of them with sessions that are not saved yet, until the broker is killed.
        let began = Instant::now();
        let until = Duration::from_millis(round * 7919 % 6500);
        let mut number = 0;
        while began.elapsed() < until {
            number += 1;
            let passing = connect("other", 1_000_000 + (round as usize) * 10_000 + number);
            raw::RawClient::connect(broker.port(), &passing)
                .unwrap()
                .disconnect(0);
            let known = &sleepy[number % DEVICES];
            raw::RawClient::connect(broker.port(), known)
                .unwrap()
                .disconnect(0);
        }
        broker = broker.restart_killed().unwrap();
        assert!(
            !broker.log().contains("it was changed after"),
            "round {round}: {}",
            broker.log()
        );
        for connect in &sleepy {
            let mut other_account = connect.clone();
            other_account.password.clone_from(&other);
            assert_eq!(answer(&broker, &other_account), refused, "round {round}");
        }
        publish(&broker, &tenant, "a/b", &format!("{round}"));
        for connect in &sleepy {
            assert_eq!(comes_back(&broker, connect, 1), [round.to_string()]);
        }
        // What the broker knows is on its disk before the next kill.
        broker.save();
    }
}
