//! When rights end, what a device is told before, and what follows.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testbed::{
    broker::Mosquitto,
    clients::{
        Protocol,
        raw::{ConnectPacket, End, RawClient, Will},
    },
    signing::now,
    tenant::{DEVICE, Endpoint, PASSWORD, Tenant},
    wall::WallClock,
};

use crate::{helpers::*, on_each_broker};

/// The topic of the warning.
const WARNING: &str = "$CONTROL/auth0/v1/expiry";

/// Returns options with which rights end exactly with the token.
fn options(tenant: &Tenant) -> PluginOptions {
    PluginOptions::tokens(tenant).with("leeway", "0")
}

/// Returns the CONNECT of a client whose token has so many seconds left.
fn connect_for(tenant: &Tenant, protocol: Protocol, id: &str, seconds: u64) -> ConnectPacket {
    let token = tenant.mint(DEVICE).claim("exp", now() + seconds).sign();
    token_connect(protocol, id, &token)
}

fn enter(broker: &Mosquitto, connect: &ConnectPacket) -> RawClient {
    RawClient::connect(broker.port(), connect).unwrap_or_else(|e| panic!("{e:?}\n{}", broker.log()))
}

/// Publishes until the client's rights have ended.
fn wait_until_denied(client: &mut RawClient, topic: &str) {
    let began = Instant::now();
    while client.publish(topic, "1", 1).unwrap() < 0x80 {
        assert!(began.elapsed() < PATIENCE, "its rights never end");
    }
}

/// Returns which of these clients are connected.
fn connected(clients: &mut [RawClient]) -> usize {
    let is_connected = |client: &mut RawClient| {
        client.wait_end(Duration::ZERO) == Err(End::Silent) && client.ping().is_ok()
    };
    clients
        .iter_mut()
        .map(is_connected)
        .filter(|is| *is)
        .count()
}

/// Waits until so many of these clients or fewer are connected. Returns how many are.
fn wait_until_connected(clients: &mut [RawClient], most: usize) -> usize {
    let began = Instant::now();
    loop {
        let left = connected(clients);
        if left <= most || began.elapsed() > PATIENCE {
            return left;
        }
    }
}

on_each_broker! {
    /// Tokens that were issued together do not end together, and none lasts longer than it says.
    fn tokens_of_the_same_age_end_at_different_times(version) {
        let (wall, tenant) = (WallClock::new().unwrap(), tenant());
        let broker = wall.of(builder(version, &options(&tenant))).start().unwrap();
        broker.expect_log("signing keys were fetched");
        let mut connect = connect_for(&tenant, Protocol::V311, "c", 7200);
        connect.keepalive = 0;
        let mut clients: Vec<_> = (0..60)
            .map(|i| {
                connect.client_id = format!("c{i}");
                enter(&broker, &connect)
            })
            .collect();
        // The clients came in within some seconds, so some may have passed.
        wall.sleep(7200.0 - 60.0 - 15.0);
        assert_eq!(connected(&mut clients), 60, "nobody ends more than a minute early");
        wall.sleep(7200.0 - 30.0);
        let left = wait_until_connected(&mut clients, 45);
        assert!((10..=45).contains(&left), "{left}: half of them");
        wall.sleep(7200.0);
        assert_eq!(wait_until_connected(&mut clients, 0), 0);
        for i in 0..60 {
            broker.expect_log(&format!("disconnecting [rights-expired] 'c{i}': its token has expired"));
        }
    }

    /// A password is checked again when the session ends that it opened, and not by all devices together.
    fn a_remembered_login_ends_with_its_session(version) {
        let (wall, tenant) = (WallClock::new().unwrap(), tenant());
        let options = PluginOptions::both(&tenant).with("leeway", "0").with("login_cache", "86400")
            .with("expiry_jitter", "3600");
        tenant.configure(|settings| settings.access_token_lifetime = 86_400);
        let broker = wall.of(builder(version, &options)).start().unwrap();
        broker.expect_log("signing keys were fetched");
        let mut login = ConnectPacket::new(Protocol::V311, "by-password").login(DEVICE, PASSWORD);
        login.keepalive = 0;
        let mut client = enter(&broker, &login);
        drop(enter(&broker, &login));
        assert_eq!(tenant.count(Endpoint::Token), 1, "it is remembered");
        assert!(client.wait_end(PATIENCE).is_ok());
        let mut client = enter(&broker, &login);
        let mut slept = 86_400.0 - 3600.0;
        while client.ping().is_ok() && client.wait_end(Duration::from_millis(250)).is_err() {
            slept += 60.0;
            assert!(slept < 86_500.0, "its rights never end");
            wall.sleep(slept);
        }
        // The tenant's clock goes as the plugin's does.
        tenant.configure(|settings| settings.clock_offset = slept as i64);
        assert!(retry_until_admitted(&broker, &login), "{}", broker.log());
        assert_eq!(tenant.count(Endpoint::Token), 2, "the tenant is asked for the next token");
    }

    /// With `on_expiry deny` the client stays. Everything but giving up is denied, with one line in the log, also after
    /// SIGHUP. Its will is sent: it was allowed in time.
    fn a_client_that_stays_is_denied_everything(version) {
        let tenant = tenant();
        let broker = broker(version, &options(&tenant).with("on_expiry", "deny"));
        let mut watcher = raw(&broker, &tenant, WATCHER, "watcher", Protocol::V311);
        assert_eq!(watcher.subscribe(&[("temperature", 1)]), Ok(vec![1]));
        let mut connect = connect_for(&tenant, Protocol::V5, "stays", 2);
        connect.will = Some(Will { topic: "temperature".into(), payload: b"gone".to_vec(), qos: 1, ..Will::default() });
        let mut client = enter(&broker, &connect);
        assert_eq!(client.subscribe(&[("config", 1)]), Ok(vec![1]));
        wait_until_denied(&mut client, "temperature");
        while watcher.next_message(Duration::from_millis(200)).is_ok() {}

        broker.expect_log("[rights-expired]");
        broker.reload();
        assert!(watcher.publish("config", "secret", 1).is_ok());
        for topic in ["temperature", "config", "other"] {
            assert_eq!(client.publish(topic, "1", 1), Ok(0x87));
        }
        assert_eq!(client.subscribe(&[("config", 1)]), Ok(vec![0x87]));
        assert_eq!(client.messages_before_pong(), Ok(vec![]));
        assert_eq!(client.unsubscribe(&["config"]), Ok(vec![0]));
        assert_eq!(broker.log().matches("[rights-expired]").count(), 1, "{}", broker.log());
        client.abort();
        assert_eq!(watcher.next_message(PATIENCE).unwrap().text(), "gone");
        assert_eq!(answer(&broker, &token_connect(Protocol::V5, "stays", &tenant.token(DEVICE))), None);
    }

    /// A token for a day gives a session of an hour, and may be used again after that.
    fn a_session_ends_after_the_longest_time_allowed(version) {
        let (wall, tenant) = (WallClock::new().unwrap(), tenant());
        let options = options(&tenant).with("max_session", "3600").with("expiry_jitter", "0");
        let broker = wall.of(builder(version, &options)).start().unwrap();
        broker.expect_log("signing keys were fetched");
        let mut connect = connect_for(&tenant, Protocol::V5, "long", 86_400);
        connect.keepalive = 0;
        let mut client = enter(&broker, &connect);
        wall.sleep(3500.0);
        assert_eq!(client.wait_end(Duration::from_millis(250)), Err(End::Silent));
        wall.sleep(3601.0);
        assert_eq!(client.wait_end(PATIENCE), Ok(Some(0x98)));
        let line = broker.expect_log("disconnecting [rights-expired] 'long'");
        assert!(line.contains("max_session has passed"), "{line}");
        assert_eq!(answer(&broker, &connect), None);
    }

    /// A connected client is told once, by a message that nobody else gets. A client that is away is not.
    fn a_client_is_warned_before_its_rights_end(version) {
        let tenant = tenant();
        let broker = broker(version, &options(&tenant).with("expiry_warning", "300"));
        let mut watcher = raw(&broker, &tenant, WATCHER, "watcher", Protocol::V5);
        watcher.subscribe(&[("#", 1), ("$CONTROL/#", 1)]).unwrap();
        let mut away = connect_for(&tenant, Protocol::V311, "away", 4);
        away.clean = false;
        let mut gone = enter(&broker, &away);
        assert_eq!(gone.subscribe(&[("config", 1)]), Ok(vec![1]));
        let mark = broker.log_mark();
        gone.disconnect(0);
        assert!(broker.wait_for_log_after(mark, "away", PATIENCE).is_some());
        let ends = now() + 4;
        for protocol in [Protocol::V311, Protocol::V5] {
            let mut client = enter(&broker, &connect_for(&tenant, protocol, &format!("{protocol:?}"), ends - now()));
            let message = client.next_message(PATIENCE).unwrap();
            assert_eq!((message.topic.as_str(), message.retain), (WARNING, false));
            let told: Value = serde_json::from_slice(&message.payload).unwrap();
            assert_eq!(told["expires_at"], json!(ends));
            let left = told["expires_in"].as_u64().unwrap();
            assert!((1..=2).contains(&left), "half-way, because it has only some seconds: {told}");
            assert!(client.next_message(Duration::from_millis(500)).is_err(), "once");
        }
        away.password = Some(tenant.token(DEVICE).into_bytes());
        let mut back = enter(&broker, &away);
        assert!(back.session_present);
        assert_eq!(back.messages_before_pong(), Ok(vec![]));
        assert_eq!(watcher.messages_before_pong(), Ok(vec![]));
    }
}

/// 2.0.11 with `per_listener_settings true` gives plugins no clock: no warning comes and nobody is disconnected, but
/// rights end all the same, with one line.
#[test]
fn without_ticks_rights_end_by_denial() {
    let version = testbed::broker::Version::V2_0_11;
    let tenant = tenant();
    let broker = broker_with_listeners(version, &[options(&tenant).with("expiry_warning", "1")]);
    let mut client = enter(&broker, &connect_for(&tenant, Protocol::V5, "c", 2));
    wait_until_denied(&mut client, "temperature");
    assert_eq!(client.publish("other", "1", 1), Ok(0x87));
    assert_eq!(client.messages_before_pong(), Ok(vec![]));
    // Each line of the log can come a moment after what it is about.
    broker.expect_log("[rights-expired]");
    assert_eq!(broker.log().matches("[rights-expired]").count(), 1);
}
