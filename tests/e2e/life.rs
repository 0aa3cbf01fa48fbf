//! Sessions over time: takeover, SIGHUP, expiry, messages for whoever is away.

use testbed::{
    broker::Broker,
    clients::{
        Client, Protocol,
        raw::{self, Connect, Will},
    },
    signing::now,
    tenant::{DEVICE, Endpoint, PASSWORD},
};

use crate::{on_each_broker, setting::*};

/// Says goodbye, and returns when the broker has heard it.
fn leave(broker: &Broker, client: raw::Client, id: &str) {
    let mark = broker.log_mark();
    client.disconnect(0);
    // 2.1 puts the address between the name and "disconnected".
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

on_each_broker! {
    /// The broker asks about the new client before it says goodbye to the old one.
    fn a_takeover_leaves_the_new_client_its_rights(version) {
        let tenant = tenant();
        let broker = broker(version, &Options::tokens(&tenant));
        let mut seen = with_token(&broker, &tenant, WATCHER).qos(1).subscribe(&["temperature"]).subscribed();
        let mut connect = token_connect(Protocol::V5, "same", &tenant.token(DEVICE));
        connect.will = Some(Will { topic: "temperature".into(), payload: b"taken over".to_vec(), qos: 1, ..Will::default() });
        let mut old = raw::Client::connect(broker.port(), &connect).unwrap();
        let mut new = raw::Client::connect(broker.port(), &connect).unwrap();
        assert!(old.wait_end(PATIENCE).is_ok());
        assert_eq!(seen.expect_message().text(), "taken over", "the old client's will");
        for i in 0..3 {
            assert!(new.publish("temperature", i.to_string(), 1).unwrap() < 0x80);
            assert_eq!(seen.expect_message().text(), i.to_string());
        }
        assert_eq!(new.subscribe(&[("config", 1)]), Ok(vec![1]));
        assert_eq!(new.publish("secret", "no", 1), Ok(0x87));
    }

    /// QoS 1 messages wait for a device that keeps its session, and come when it is back.
    fn messages_wait_for_a_device_that_is_away(version) {
        let tenant = tenant();
        let broker = broker(version, &Options::tokens(&tenant));
        let mut watcher = raw(&broker, &tenant, WATCHER, "watcher", Protocol::V311);
        let mut connect = token_connect(Protocol::V311, "away", &tenant.token(DEVICE));
        connect.clean = false;
        for round in 0..3 {
            let mut device = raw::Client::connect(broker.port(), &connect).unwrap();
            assert_eq!(device.session_present, round > 0);
            assert_eq!(device.subscribe(&[("config", 1)]), Ok(vec![1]));
            leave(&broker, device, "away");
            for i in 0..5 {
                watcher.publish("config", format!("{round}.{i}"), 1).unwrap();
            }
            let mut device = raw::Client::connect(broker.port(), &connect).unwrap();
            for i in 0..5 {
                assert_eq!(device.next_message(PATIENCE).unwrap().text(), format!("{round}.{i}"));
            }
            device.disconnect(0);
        }
    }

    /// SIGHUP has the broker ask about everybody again: nobody is dropped, no tenant is asked.
    fn sighup_drops_nobody(version) {
        let tenant = tenant();
        let broker = broker(version, &Options::both(&tenant));
        let mut by_token = raw(&broker, &tenant, DEVICE, "by-token", Protocol::V5);
        let login = Connect::new(Protocol::V5, "by-password").login(DEVICE, PASSWORD);
        let mut by_password = raw::Client::connect(broker.port(), &login).unwrap();
        let mut away = token_connect(Protocol::V311, "away", &tenant.token(DEVICE));
        away.clean = false;
        leave(&broker, raw::Client::connect(broker.port(), &away).unwrap(), "away");

        let logins = tenant.count(Endpoint::Token);
        broker.reload();
        for client in [&mut by_token, &mut by_password] {
            assert!(client.publish("temperature", "1", 1).unwrap() < 0x80);
            assert_eq!(client.publish("secret", "1", 1), Ok(0x87));
        }
        assert_eq!(tenant.count(Endpoint::Token), logins);
        assert!(raw::Client::connect(broker.port(), &away).unwrap().session_present);
    }

    /// At its `exp` a connected client is disconnected, its will goes out, and it may come back.
    fn rights_end_with_the_token(version) {
        let tenant = tenant();
        let broker = broker(version, &Options::tokens(&tenant).with("leeway", "0"));
        let mut seen = with_token(&broker, &tenant, WATCHER).qos(1).subscribe(&["temperature"]).subscribed();
        let token = tenant.mint(DEVICE).claim("exp", now() + 2).sign();
        let mut connect = token_connect(Protocol::V5, "short", &token);
        connect.will = Some(Will { topic: "temperature".into(), payload: b"cut off".to_vec(), qos: 1, ..Will::default() });
        let mut client = raw::Client::connect(broker.port(), &connect).unwrap();
        assert!(client.publish("temperature", "first", 1).unwrap() < 0x80);
        assert_eq!(seen.expect_message().text(), "first");
        // 0x98 Administrative action: the only reason a plugin can give.
        assert_eq!(client.wait_end(PATIENCE), Ok(Some(0x98)));
        assert_eq!(seen.expect_message().text(), "cut off");
        expect_refusal(&broker, "'short'", "rights-expired");
        assert_eq!(answer(&broker, &connect), told(version, Protocol::V5, 0x86));
        assert_eq!(answer(&broker, &token_connect(Protocol::V5, "short", &tenant.token(DEVICE))), None);
    }

    /// A device that is cut off keeps its session and its subscriptions.
    fn a_kept_session_outlives_the_token(version) {
        let tenant = tenant();
        let broker = broker(version, &Options::tokens(&tenant).with("leeway", "0"));
        let token = tenant.mint(DEVICE).claim("exp", now() + 2).sign();
        let mut connect = token_connect(Protocol::V311, "kept", &token);
        connect.clean = false;
        let mut device = raw::Client::connect(broker.port(), &connect).unwrap();
        assert_eq!(device.subscribe(&[("config", 1)]), Ok(vec![1]));
        assert!(device.wait_end(PATIENCE).is_ok());
        with_token(&broker, &tenant, WATCHER).qos(1).publish("config", "21").expect_success();
        connect.password = Some(tenant.token(DEVICE).into_bytes());
        let mut device = raw::Client::connect(broker.port(), &connect).unwrap();
        assert!(device.session_present);
        assert_eq!(device.next_message(PATIENCE).unwrap().text(), "21");
    }

    /// The session of a device that is away is nobody's to disconnect: 2.0 would damage its lists.
    fn an_absent_device_is_not_disconnected(version) {
        let tenant = tenant();
        let broker = broker(version, &Options::tokens(&tenant).with("leeway", "0"));
        let token = tenant.mint(DEVICE).claim("exp", now() + 2).sign();
        let mut connect = token_connect(Protocol::V311, "away", &token);
        connect.clean = false;
        let mut device = raw::Client::connect(broker.port(), &connect).unwrap();
        assert_eq!(device.subscribe(&[("config", 1)]), Ok(vec![1]));
        leave(&broker, device, "away");
        let mut here = raw::Client::connect(broker.port(), &token_connect(Protocol::V311, "here", &token)).unwrap();
        assert!(here.wait_end(PATIENCE).is_ok());
        assert!(broker.wait_for_log("disconnecting [rights-expired] 'here'", PATIENCE).is_some());
        assert!(!broker.log().contains("[rights-expired] 'away'"));
        // What came for it after its token expired is still there when it is back with a new one.
        with_token(&broker, &tenant, WATCHER).qos(1).publish("config", "21").expect_success();
        connect.password = Some(tenant.token(DEVICE).into_bytes());
        let mut device = raw::Client::connect(broker.port(), &connect).unwrap();
        assert_eq!(device.next_message(PATIENCE).unwrap().text(), "21");
    }

    /// The broker frees a session that is over without a word, and its address is soon another
    /// connection's: which must sign in like any other, also with what was good before.
    fn an_old_address_lets_nobody_in(version) {
        let tenant = tenant();
        let broker = broker(version, &Options::both(&tenant).with("leeway", "0"));
        let sub = tenant.device(DEVICE).unwrap().user_id;
        let end = now() + 2;
        let token = tenant.mint(DEVICE).claim("exp", end).sign();
        // The user name is already what the plugin gives, so that only the credential can differ.
        let by_token = Connect::new(Protocol::V5, "reused").login(&sub, &token);
        let by_password = Connect::new(Protocol::V5, "reused-too").login(DEVICE, PASSWORD);
        for connect in [&by_token, &by_password] {
            for _ in 0..5 {
                raw::Client::connect(broker.port(), connect).unwrap().disconnect(0);
            }
        }
        tenant.change_device(DEVICE, |device| device.password = "changed".into());
        while now() <= end {
            std::thread::yield_now();
        }
        for _ in 0..30 {
            assert_eq!(answer(&broker, &by_token), told(version, Protocol::V5, 0x86));
        }
        // Brute-force protection takes over after ten.
        for _ in 0..5 {
            assert_eq!(answer(&broker, &by_password), told(version, Protocol::V5, 0x86));
        }
    }

    /// MQTT 5 clients may have their will sent later, when the broker has long forgotten them.
    fn a_delayed_will_is_sent(version) {
        let tenant = tenant();
        let broker = broker(version, &Options::tokens(&tenant));
        let mut seen = with_token(&broker, &tenant, WATCHER).qos(1).subscribe(&["temperature"]).subscribed();
        let mut connect = token_connect(Protocol::V5, "later", &tenant.token(DEVICE));
        const WILL_DELAY_INTERVAL: u8 = 0x18;
        let properties = raw::Properties::new().u32(WILL_DELAY_INTERVAL, 1);
        connect.will = Some(Will { topic: "temperature".into(), payload: b"gone".to_vec(), qos: 1, properties, ..Will::default() });
        raw::Client::connect(broker.port(), &connect).unwrap().abort();
        assert_eq!(seen.expect_message().text(), "gone");
    }

    /// Sessions from the disk were never signed in here: they have no rights, and survive.
    fn a_restored_session_waits_for_its_client(version) {
        let tenant = tenant();
        let broker = builder(version, &Options::tokens(&tenant)).persistence(true).start().unwrap();
        let mut connect = token_connect(Protocol::V311, "durable", &tenant.token(DEVICE));
        connect.clean = false;
        let mut device = raw::Client::connect(broker.port(), &connect).unwrap();
        assert_eq!(device.subscribe(&[("config", 1)]), Ok(vec![1]));
        leave(&broker, device, "durable");

        let broker = broker.restart().unwrap();
        broker.reload();
        let mut device = raw::Client::connect(broker.port(), &connect).unwrap();
        assert!(device.session_present, "SIGHUP did not throw it away");
        with_token(&broker, &tenant, WATCHER).qos(1).publish("config", "21").expect_success();
        assert_eq!(device.next_message(PATIENCE).unwrap().text(), "21");
    }

    /// MQTT 5 enhanced authentication is not offered, and is no way around.
    fn no_way_in_by_another_method(version) {
        let tenant = tenant();
        let broker = broker(version, &Options::tokens(&tenant));
        let mut connect = token_connect(Protocol::V5, "enhanced", &tenant.token(DEVICE));
        const AUTHENTICATION_METHOD: u8 = 0x15;
        connect.properties = raw::Properties::new().bytes(AUTHENTICATION_METHOD, "SCRAM-SHA-256");
        assert_eq!(answer(&broker, &connect), Some(raw::Refusal::Code(0x8c)));
        assert!(!Client::of(&broker).publish("temperature", "1").success(), "anonymous");
    }
}
