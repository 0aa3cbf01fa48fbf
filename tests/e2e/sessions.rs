//! Sessions over time: takeover, SIGHUP, expiry, and messages for absent clients.

use std::time::{Duration, Instant};

use serde_json::json;
use testbed::{
    broker::{Mosquitto, Version},
    clients::{
        MosquittoClient, Protocol,
        raw::{self, ConnectPacket, Will},
    },
    signing::now,
    tenant::{DEVICE, Endpoint, PASSWORD, Tenant},
};

use crate::{helpers::*, on_each_broker};

/// Disconnects, and returns when the broker has logged it.
pub fn leave(broker: &Mosquitto, client: raw::RawClient, id: &str) {
    let mark = broker.log_mark();
    client.disconnect(0);
    // 2.1 writes the address between the client ID and "disconnected".
    let line = match broker.version().can_delay_logins() {
        false => format!("Client {id} disconnected"),
        true => format!("Client {id} ["),
    };
    assert!(
        broker.wait_for_log_after(mark, &line, PATIENCE).is_some(),
        "{}",
        broker.log()
    );
}

/// Starts a broker that keeps sessions on disk, where the device `sleepy` leaves one with a subscription to `a/#`.
/// Returns the broker, and the CONNECT with which the device comes back.
fn asleep(version: Version, tenant: &Tenant) -> (Mosquitto, ConnectPacket) {
    device(tenant, "sleepy", json!(["a/#"]));
    let options = PluginOptions::tokens(tenant);
    let broker = builder(version, &options)
        .persistence(true)
        .start()
        .unwrap();
    let mut connect = token_connect(Protocol::V311, "durable", &tenant.token("sleepy"));
    connect.clean = false;
    let mut sleepy = raw::RawClient::connect(broker.port(), &connect).unwrap();
    assert_eq!(sleepy.subscribe(&[("a/#", 1)]), Ok(vec![1]));
    leave(&broker, sleepy, "durable");
    (broker, connect)
}

on_each_broker! {
    /// The broker asks about the new client before it disconnects the old one.
    fn a_takeover_leaves_the_new_client_its_rights(version) {
        let tenant = tenant();
        let broker = broker(version, &PluginOptions::tokens(&tenant));
        let mut seen = with_token(&broker, &tenant, WATCHER).qos(1).subscribe(&["temperature"]).subscribed();
        let mut connect = token_connect(Protocol::V5, "same", &tenant.token(DEVICE));
        connect.will = Some(Will { topic: "temperature".into(), payload: b"taken over".to_vec(), qos: 1, ..Will::default() });
        let mut old = raw::RawClient::connect(broker.port(), &connect).unwrap();
        let mut new = raw::RawClient::connect(broker.port(), &connect).unwrap();
        assert!(old.wait_end(PATIENCE).is_ok());
        assert_eq!(seen.expect_message().text(), "taken over", "the old client's will");
        for i in 0..3 {
            assert!(new.publish("temperature", i.to_string(), 1).unwrap() < 0x80);
            assert_eq!(seen.expect_message().text(), i.to_string());
        }
        assert_eq!(new.subscribe(&[("config", 1)]), Ok(vec![1]));
        assert_eq!(new.publish("secret", "no", 1), Ok(0x87));
    }

    /// QoS 1 messages are queued for a device that keeps its session, and delivered when it is back.
    fn messages_are_queued_for_an_absent_device(version) {
        let tenant = tenant();
        let broker = broker(version, &PluginOptions::tokens(&tenant));
        let mut watcher = raw(&broker, &tenant, WATCHER, "watcher", Protocol::V311);
        let mut connect = token_connect(Protocol::V311, "away", &tenant.token(DEVICE));
        connect.clean = false;
        for round in 0..3 {
            let mut device = raw::RawClient::connect(broker.port(), &connect).unwrap();
            assert_eq!(device.session_present, round > 0);
            assert_eq!(device.subscribe(&[("config", 1)]), Ok(vec![1]));
            leave(&broker, device, "away");
            for i in 0..5 {
                watcher.publish("config", format!("{round}.{i}"), 1).unwrap();
            }
            let mut device = raw::RawClient::connect(broker.port(), &connect).unwrap();
            for i in 0..5 {
                assert_eq!(device.next_message(PATIENCE).unwrap().text(), format!("{round}.{i}"));
            }
            device.disconnect(0);
        }
    }

    /// On SIGHUP the broker asks about every client again: none is disconnected, and the tenant is not asked.
    fn sighup_disconnects_nobody(version) {
        let tenant = tenant();
        let broker = broker(version, &PluginOptions::both(&tenant));
        let mut by_token = raw(&broker, &tenant, DEVICE, "by-token", Protocol::V5);
        let login = ConnectPacket::new(Protocol::V5, "by-password").login(DEVICE, PASSWORD);
        let mut by_password = raw::RawClient::connect(broker.port(), &login).unwrap();
        let mut away = token_connect(Protocol::V311, "away", &tenant.token(DEVICE));
        away.clean = false;
        leave(&broker, raw::RawClient::connect(broker.port(), &away).unwrap(), "away");

        let logins = tenant.count(Endpoint::Token);
        broker.reload();
        for client in [&mut by_token, &mut by_password] {
            assert!(client.publish("temperature", "1", 1).unwrap() < 0x80);
            assert_eq!(client.publish("secret", "1", 1), Ok(0x87));
        }
        assert_eq!(tenant.count(Endpoint::Token), logins);
        assert!(raw::RawClient::connect(broker.port(), &away).unwrap().session_present);
    }

    /// At `exp` a connected client is disconnected, its will is sent, and it may come back.
    fn rights_end_with_the_token(version) {
        let tenant = tenant();
        let broker = broker(version, &PluginOptions::tokens(&tenant).with("leeway", "0"));
        let mut seen = with_token(&broker, &tenant, WATCHER).qos(1).subscribe(&["temperature"]).subscribed();
        let token = tenant.mint(DEVICE).claim("exp", now() + 2).sign();
        let mut connect = token_connect(Protocol::V5, "short", &token);
        connect.will = Some(Will { topic: "temperature".into(), payload: b"cut off".to_vec(), qos: 1, ..Will::default() });
        let mut client = raw::RawClient::connect(broker.port(), &connect).unwrap();
        assert!(client.publish("temperature", "first", 1).unwrap() < 0x80);
        assert_eq!(seen.expect_message().text(), "first");
        // 0x98 Administrative action: the only reason code that a plugin can give.
        assert_eq!(client.wait_end(PATIENCE), Ok(Some(0x98)));
        assert_eq!(seen.expect_message().text(), "cut off");
        expect_refusal(&broker, "'short'", "rights-expired");
        assert_eq!(answer(&broker, &connect), expected_refusal(version, Protocol::V5, 0x86));
        assert_eq!(answer(&broker, &token_connect(Protocol::V5, "short", &tenant.token(DEVICE))), None);
    }

    /// A device that is disconnected keeps its session and its subscriptions.
    fn a_kept_session_outlives_the_token(version) {
        let tenant = tenant();
        let broker = broker(version, &PluginOptions::tokens(&tenant).with("leeway", "0"));
        let token = tenant.mint(DEVICE).claim("exp", now() + 2).sign();
        let mut connect = token_connect(Protocol::V311, "kept", &token);
        connect.clean = false;
        let mut device = raw::RawClient::connect(broker.port(), &connect).unwrap();
        assert_eq!(device.subscribe(&[("config", 1)]), Ok(vec![1]));
        assert!(device.wait_end(PATIENCE).is_ok());
        with_token(&broker, &tenant, WATCHER).qos(1).publish("config", "21").expect_success();
        connect.password = Some(tenant.token(DEVICE).into_bytes());
        let mut device = raw::RawClient::connect(broker.port(), &connect).unwrap();
        assert!(device.session_present);
        assert_eq!(device.next_message(PATIENCE).unwrap().text(), "21");
    }

    /// The session of an absent device is not disconnected: 2.0 would damage its lists.
    fn an_absent_device_is_not_disconnected(version) {
        let tenant = tenant();
        let broker = broker(version, &PluginOptions::tokens(&tenant).with("leeway", "0"));
        let token = tenant.mint(DEVICE).claim("exp", now() + 2).sign();
        let mut connect = token_connect(Protocol::V311, "away", &token);
        connect.clean = false;
        let mut device = raw::RawClient::connect(broker.port(), &connect).unwrap();
        assert_eq!(device.subscribe(&[("config", 1)]), Ok(vec![1]));
        leave(&broker, device, "away");
        let mut here = raw::RawClient::connect(broker.port(), &token_connect(Protocol::V311, "here", &token)).unwrap();
        assert!(here.wait_end(PATIENCE).is_ok());
        assert!(broker.wait_for_log("disconnecting [rights-expired] 'here'", PATIENCE).is_some());
        assert!(!broker.log().contains("[rights-expired] 'away'"));
        // Messages that arrived after its token expired are still queued when it is back with a new one.
        with_token(&broker, &tenant, WATCHER).qos(1).publish("config", "21").expect_success();
        connect.password = Some(tenant.token(DEVICE).into_bytes());
        let mut device = raw::RawClient::connect(broker.port(), &connect).unwrap();
        assert_eq!(device.next_message(PATIENCE).unwrap().text(), "21");
    }

    /// The broker frees an ended session without notice and reuses its address for another connection. That
    /// one must authenticate, even with a credential that was accepted before.
    fn a_reused_memory_address_authenticates_nobody(version) {
        let tenant = tenant();
        let broker = broker(version, &PluginOptions::both(&tenant).with("leeway", "0"));
        let sub = tenant.device(DEVICE).unwrap().user_id;
        let end = now() + 2;
        let token = tenant.mint(DEVICE).claim("exp", end).sign();
        // The user name is already the one that the plugin sets, so that only the credential differs.
        let by_token = ConnectPacket::new(Protocol::V5, "reused").login(&sub, &token);
        let by_password = ConnectPacket::new(Protocol::V5, "reused-too").login(DEVICE, PASSWORD);
        for connect in [&by_token, &by_password] {
            for _ in 0..5 {
                raw::RawClient::connect(broker.port(), connect).unwrap().disconnect(0);
            }
        }
        tenant.change_device(DEVICE, |device| device.password = "changed".into());
        while now() <= end {
            std::thread::yield_now();
        }
        for _ in 0..30 {
            assert_eq!(answer(&broker, &by_token), expected_refusal(version, Protocol::V5, 0x86));
        }
        // Below the ten attempts of brute-force protection.
        for _ in 0..5 {
            assert_eq!(answer(&broker, &by_password), expected_refusal(version, Protocol::V5, 0x86));
        }
    }

    /// An MQTT 5 will can be delayed until long after the broker has freed its client.
    fn a_delayed_will_is_sent(version) {
        let tenant = tenant();
        let broker = broker(version, &PluginOptions::tokens(&tenant));
        let mut seen = with_token(&broker, &tenant, WATCHER).qos(1).subscribe(&["temperature"]).subscribed();
        let mut connect = token_connect(Protocol::V5, "later", &tenant.token(DEVICE));
        const WILL_DELAY_INTERVAL: u8 = 0x18;
        let properties = raw::Properties::new().u32(WILL_DELAY_INTERVAL, 1);
        connect.will = Some(Will { topic: "temperature".into(), payload: b"gone".to_vec(), qos: 1, properties, ..Will::default() });
        raw::RawClient::connect(broker.port(), &connect).unwrap().abort();
        assert_eq!(seen.expect_message().text(), "gone");
    }

    /// A session that is taken over in the second in which it expires takes nothing from the newer one.
    fn a_takeover_at_the_moment_of_expiry_keeps_the_newer_session(version) {
        let tenant = tenant();
        let broker = broker(version, &PluginOptions::tokens(&tenant).with("leeway", "0"));
        let mut seen = with_token(&broker, &tenant, WATCHER).qos(1).subscribe(&["temperature"]).subscribed();
        for round in 0..3 {
            let end = now() + 2;
            let mut connect = token_connect(Protocol::V5, "same", &tenant.mint(DEVICE).claim("exp", end).sign());
            connect.will = Some(Will { topic: "temperature".into(), payload: b"will".to_vec(), qos: 1, ..Will::default() });
            let mut old = raw::RawClient::connect(broker.port(), &connect).unwrap();
            let new = token_connect(Protocol::V5, "same", &tenant.token(DEVICE));
            while now() < end {
                std::thread::yield_now();
            }
            let mut new = raw::RawClient::connect(broker.port(), &new).unwrap();
            assert!(old.wait_end(PATIENCE).is_ok());
            assert_eq!(seen.expect_message().text(), "will", "it was allowed in time");
            let began = Instant::now();
            while began.elapsed() < Duration::from_millis(500) {
                assert!(new.publish("config", "1", 1).is_ok(), "{round}: {}", broker.log());
            }
            assert!(new.publish("temperature", "mine", 1).unwrap() < 0x80);
            assert_eq!(seen.expect_message().text(), "mine");
        }
    }

    /// The token of the client may expire before its will is sent. The will was allowed in time.
    fn a_delayed_will_is_sent_although_the_token_has_expired(version) {
        let tenant = tenant();
        let broker = broker(version, &PluginOptions::tokens(&tenant).with("leeway", "0"));
        let mut seen = with_token(&broker, &tenant, WATCHER).qos(1).subscribe(&["temperature"]).subscribed();
        const SESSION_EXPIRY_INTERVAL: u8 = 0x11;
        const WILL_DELAY_INTERVAL: u8 = 0x18;
        let token = tenant.mint(DEVICE).claim("exp", now() + 2).sign();
        let mut connect = token_connect(Protocol::V5, "later", &token);
        connect.properties = raw::Properties::new().u32(SESSION_EXPIRY_INTERVAL, 600);
        let properties = raw::Properties::new().u32(WILL_DELAY_INTERVAL, 4);
        connect.will = Some(Will { topic: "temperature".into(), payload: b"gone".to_vec(), qos: 1, properties, ..Will::default() });
        raw::RawClient::connect(broker.port(), &connect).unwrap().abort();
        let left = now();
        assert_eq!(seen.expect_message().text(), "gone");
        assert!(now() >= left + 3, "after the token had expired");
    }

    /// Mosquitto sends the wills of those that are connected when it stops. They are allowed as at any other time.
    fn wills_are_sent_when_the_broker_stops(version) {
        let tenant = tenant();
        device(&tenant, "listener", json!(["temperature", "secret"]));
        let broker = builder(version, &PluginOptions::tokens(&tenant)).persistence(true).start().unwrap();
        let mut connect = token_connect(Protocol::V311, "durable", &tenant.token("listener"));
        connect.clean = false;
        let mut listener = raw::RawClient::connect(broker.port(), &connect).unwrap();
        assert_eq!(listener.subscribe(&[("temperature", 1), ("secret", 1)]), Ok(vec![1, 1]));
        leave(&broker, listener, "durable");
        let connect_with = |topic: &str| {
            let mut connect = token_connect(Protocol::V5, topic, &tenant.token(DEVICE));
            connect.will = Some(Will { topic: topic.into(), payload: b"stopped".to_vec(), qos: 1, ..Will::default() });
            raw::RawClient::connect(broker.port(), &connect).unwrap()
        };
        let clients = ["temperature", "secret"].map(connect_with);
        let broker = broker.restart().unwrap();
        drop(clients);
        let mut listener = raw::RawClient::connect(broker.port(), &connect).unwrap();
        let message = listener.next_message(PATIENCE).unwrap();
        assert_eq!((message.topic.as_str(), message.text().as_str()), ("temperature", "stopped"));
        assert_eq!(listener.messages_before_pong(), Ok(vec![]), "the other will was not allowed");
    }

    /// Sessions that are restored from disk have not signed in: they have no rights, but are kept.
    fn a_restored_session_has_no_rights_until_its_client_signs_in(version) {
        let tenant = tenant();
        let broker = builder(version, &PluginOptions::tokens(&tenant)).persistence(true).start().unwrap();
        let mut connect = token_connect(Protocol::V311, "durable", &tenant.token(DEVICE));
        connect.clean = false;
        let mut device = raw::RawClient::connect(broker.port(), &connect).unwrap();
        assert_eq!(device.subscribe(&[("config", 1)]), Ok(vec![1]));
        leave(&broker, device, "durable");

        let broker = broker.restart().unwrap();
        broker.reload();
        let mut device = raw::RawClient::connect(broker.port(), &connect).unwrap();
        assert!(device.session_present, "SIGHUP did not throw it away");
        with_token(&broker, &tenant, WATCHER).qos(1).publish("config", "21").expect_success();
        assert_eq!(device.next_message(PATIENCE).unwrap().text(), "21");
    }

    /// A restart loses no message for a device that sleeps. What its new token no longer grants is dropped when it
    /// comes back.
    fn messages_are_queued_for_a_restored_session(version) {
        let tenant = tenant();
        let (broker, mut connect) = asleep(version, &tenant);
        let publish = |broker: &Mosquitto, topic: &str, text: &str| {
            with_token(broker, &tenant, WATCHER).qos(1).publish(topic, text).expect_success();
        };
        publish(&broker, "a/b", "before the restart");

        let broker = broker.restart().unwrap();
        publish(&broker, "a/b", "after it");
        publish(&broker, "a/c", "no longer granted");
        broker.reload();
        publish(&broker, "a/b", "after a reload");
        tenant.change_device("sleepy", |device| device.topics = Some(json!(["a/b"])));
        connect.password = Some(tenant.token("sleepy").into_bytes());
        let mut sleepy = raw::RawClient::connect(broker.port(), &connect).unwrap();
        assert!(sleepy.session_present);
        for text in ["before the restart", "after it", "after a reload"] {
            let message = sleepy.next_message(PATIENCE).unwrap();
            assert_eq!((message.topic.as_str(), message.text().as_str()), ("a/b", text));
        }
        assert_eq!(sleepy.messages_before_pong(), Ok(vec![]));
        assert!(!broker.log().contains("unknown-client"));
    }

    /// MQTT 5 enhanced authentication is not offered, and is no way around.
    fn enhanced_authentication_is_refused(version) {
        let tenant = tenant();
        let broker = broker(version, &PluginOptions::tokens(&tenant));
        let mut connect = token_connect(Protocol::V5, "enhanced", &tenant.token(DEVICE));
        const AUTHENTICATION_METHOD: u8 = 0x15;
        connect.properties = raw::Properties::new().bytes(AUTHENTICATION_METHOD, "SCRAM-SHA-256");
        assert_eq!(answer(&broker, &connect), Some(raw::ConnectRefusal::Code(0x8c)));
        assert!(!MosquittoClient::of(&broker).publish("temperature", "1").success(), "anonymous");
    }
}
