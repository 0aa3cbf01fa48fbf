//! The tenant's keys: fetched in the background, rotated without a restart.

use std::time::Duration;

use testbed::{
    clients::{Protocol, raw},
    tenant::{Behaviour, DEVICE, Endpoint, ResponseGate},
};

use crate::{helpers::*, on_each_broker};

on_each_broker! {
    /// If the tenant is down, the broker starts and devices are told to come back. When it is up again they
    /// are admitted, without a restart.
    fn the_broker_starts_while_the_tenant_is_down(version) {
        let tenant = tenant();
        tenant.stop_listening();
        let broker = broker(version, &PluginOptions::tokens(&tenant).with("timeout", "1"));
        let connect = token_connect(Protocol::V5, "early", &tenant.token(DEVICE));
        assert_eq!(answer(&broker, &connect), expected_refusal(version, Protocol::V5, 0x88));
        expect_refusal(&broker, "'early'", "keys-unavailable");
        assert!(broker.wait_for_log("signing keys could not be fetched", PATIENCE).is_some());
        tenant.listen_again().unwrap();
        // The next attempt would follow within 30 s; SIGHUP starts it now.
        broker.reload();
        assert!(broker.wait_for_log("signing keys were fetched", PATIENCE).is_some());
        assert_eq!(answer(&broker, &connect), None);
    }

    /// A tenant that asks for a pause gets no requests for keys during it, whatever tokens clients bring.
    fn retry_after_pauses_key_requests(version) {
        let tenant = tenant();
        tenant.once(Endpoint::Jwks, Behaviour::RateLimited { retry_after: Some(1800) });
        let broker = broker(version, &PluginOptions::tokens(&tenant));
        let line = broker.expect_log("signing keys could not be fetched");
        assert!(line.contains("answered 429") && line.contains("follows in 1800 s"), "{line}");
        let connect = token_connect(Protocol::V5, "c", &tenant.token(DEVICE));
        assert_eq!(answer(&broker, &connect), expected_refusal(version, Protocol::V5, 0x88));
        assert_eq!(tenant.count(Endpoint::Jwks), 1);
        // One explicit request is allowed.
        broker.reload();
        broker.expect_log("signing keys were fetched");
        assert_eq!(answer(&broker, &connect), None);
    }

    /// Some providers list a key twice, or an entry that is not a key.
    fn repeated_and_invalid_jwks_entries_are_tolerated(version) {
        let tenant = tenant();
        let mut jwks = tenant.jwks();
        let keys = jwks["keys"].as_array_mut().unwrap();
        keys.extend(keys.clone());
        keys.push("none".into());
        tenant.set_jwks_text(&jwks.to_string());
        let broker = broker(version, &PluginOptions::tokens(&tenant));
        broker.expect_log("signing keys were fetched");
        let connect = token_connect(Protocol::V311, "c", &tenant.token(DEVICE));
        assert_eq!(answer(&broker, &connect), None);
    }

    /// A device that connects during the first fetch waits for it.
    fn a_connect_waits_for_the_first_key_fetch(version) {
        let tenant = tenant();
        let gate = ResponseGate::new();
        tenant.once(Endpoint::Jwks, Behaviour::Gate(gate.clone()));
        let broker = broker(version, &PluginOptions::tokens(&tenant));
        assert!(gate.wait_for(1, PATIENCE));
        let connect = token_connect(Protocol::V311, "fast", &tenant.token(DEVICE));
        let mut client = raw::RawClient::open(broker.port(), Protocol::V311);
        client.send(&connect.packet());
        assert!(client.wait_connack(Duration::from_millis(20)).is_err());
        gate.open();
        assert_eq!(client.wait_connack(PATIENCE), Ok(()));
        assert_eq!(tenant.count(Endpoint::Jwks), 1);
    }

    /// A key that is published before it is used causes no refusals.
    fn an_announced_rotation_causes_no_refusals(version) {
        let tenant = tenant();
        let broker = broker(version, &PluginOptions::tokens(&tenant));
        let mut before = raw(&broker, &tenant, DEVICE, "before", Protocol::V5);
        tenant.rotate();
        raw(&broker, &tenant, DEVICE, "after", Protocol::V5);
        assert_eq!(tenant.count(Endpoint::Jwks), 1);
        assert!(before.publish("temperature", "1", 1).unwrap() < 0x80, "it is still connected");
    }

    /// An unknown key is fetched once when a token first names it, and the device waits for that. After that,
    /// made-up keys cost the tenant no requests for 30 s.
    fn an_unknown_key_is_fetched_once(version) {
        let tenant = tenant();
        tenant.stop_listening();
        let broker = broker(version, &PluginOptions::tokens(&tenant).with("timeout", "1"));
        assert!(broker.wait_for_log("could not be fetched", PATIENCE).is_some());
        tenant.listen_again().unwrap();
        broker.reload();
        assert!(broker.wait_for_log("signing keys were fetched", PATIENCE).is_some());
        let asked = tenant.count(Endpoint::Jwks);
        let mut connected = raw(&broker, &tenant, DEVICE, "connected", Protocol::V5);

        tenant.rotate_unannounced();
        for i in 0..20 {
            let connect = token_connect(Protocol::V5, &format!("c{i}"), &tenant.token(DEVICE));
            assert_eq!(answer(&broker, &connect), expected_refusal(version, Protocol::V5, 0x89));
        }
        expect_refusal(&broker, "'c0'", "token-key-pending");
        assert_eq!(tenant.count(Endpoint::Jwks), asked, "20 unknown keys within the cool-down: no request");
        assert!(connected.publish("temperature", "1", 1).unwrap() < 0x80);
    }

    /// A document that is not a key set changes nothing.
    fn an_invalid_jwks_keeps_the_last_good_keys(version) {
        let tenant = tenant();
        let broker = broker(version, &PluginOptions::tokens(&tenant).with("timeout", "1"));
        raw(&broker, &tenant, DEVICE, "first", Protocol::V5);
        for behaviour in [
            Behaviour::Html(502),
            Behaviour::json(200, "{}"),
            Behaviour::json(200, r#"{"keys":[]}"#),
            Behaviour::Garbage(b"nonsense".to_vec()),
            Behaviour::HugeBody,
            Behaviour::Redirect("https://127.0.0.1:1/".into()),
        ] {
            let mark = broker.log_mark();
            tenant.on(Endpoint::Jwks, behaviour);
            broker.reload();
            let line = broker.wait_for_log_after(mark, "signing keys could not be fetched", PATIENCE).unwrap();
            assert!(line.contains("last good ones stay in use"), "{line}");
            raw(&broker, &tenant, DEVICE, "next", Protocol::V5);
        }
    }

    /// With keys from a file the tenant is not asked. SIGHUP reads the file again, and a broken file changes
    /// nothing.
    fn keys_are_read_from_a_file_and_again_on_sighup(version) {
        let tenant = tenant();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("jwks.json");
        std::fs::write(&file, tenant.jwks().to_string()).unwrap();
        let broker = broker(version, &PluginOptions::tokens(&tenant).with("jwks_file", file.to_str().unwrap()));
        raw(&broker, &tenant, DEVICE, "first", Protocol::V5);

        tenant.rotate_unannounced();
        let new = token_connect(Protocol::V5, "new", &tenant.token(DEVICE));
        assert_eq!(answer(&broker, &new), expected_refusal(version, Protocol::V5, 0x86));
        expect_refusal(&broker, "'new'", "token-key-unknown");

        std::fs::write(&file, "{").unwrap();
        broker.reload();
        let line = broker.wait_for_log("option jwks_file", PATIENCE).unwrap();
        assert!(line.contains("generation 1 stays in force"), "{line}");
        std::fs::write(&file, tenant.jwks().to_string()).unwrap();
        broker.reload();
        broker.expect_log("configuration generation 2 is in force: changed are jwks_file");
        assert_eq!(answer(&broker, &new), None);
        assert_eq!(tenant.count(Endpoint::Jwks), 0);
    }
}
