//! The tenant's keys: fetched in the background, rotated without a restart.

use std::time::Duration;

use testbed::{
    clients::{
        Protocol,
        raw::{self, ConnectPacket, Will},
    },
    tenant::{Behaviour, DEVICE, Endpoint, PASSWORD, ResponseGate},
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

    /// When the tenant revokes a key, the sessions that it admitted end, with their wills, and no others. A kept
    /// session keeps what is queued for it. A fetch that fails ends nobody.
    fn a_revoked_key_ends_the_sessions_that_it_admitted(version) {
        let tenant = tenant();
        let broker = broker(version, &PluginOptions::tokens(&tenant).with("timeout", "1"));
        tenant.rotate();
        let mut seen = with_token(&broker, &tenant, WATCHER).qos(1).subscribe(&["temperature"]).subscribed();
        let of_previous = |protocol, id: &str| {
            let key = tenant.previous_key().unwrap();
            token_connect(protocol, id, &tenant.mint(DEVICE).key(&key).sign())
        };
        let mut connect = of_previous(Protocol::V5, "old");
        connect.will = Some(Will { topic: "temperature".into(), payload: b"cut off".to_vec(), qos: 1, ..Will::default() });
        let mut old = raw::RawClient::connect(broker.port(), &connect).unwrap();
        let mut away = of_previous(Protocol::V311, "away");
        away.clean = false;
        let mut sleepy = raw::RawClient::connect(broker.port(), &away).unwrap();
        assert_eq!(sleepy.subscribe(&[("config", 1)]), Ok(vec![1]));
        sleepy.disconnect(0);
        let mut new = raw(&broker, &tenant, DEVICE, "new", Protocol::V5);

        tenant.revoke_previous();
        tenant.on(Endpoint::Jwks, Behaviour::json(200, r#"{"keys":[]}"#));
        broker.reload();
        broker.expect_log("signing keys could not be fetched");
        for client in [&mut old, &mut new] {
            assert!(client.publish("temperature", "still here", 1).unwrap() < 0x80);
            assert_eq!(seen.expect_message().text(), "still here");
        }
        tenant.behave();
        broker.reload();
        assert_eq!(old.wait_end(PATIENCE), Ok(Some(0x98)));
        assert_eq!(seen.expect_message().text(), "cut off");
        broker.expect_log("a signing key was revoked, with which the tokens of 1 connected clients are signed");
        expect_refusal(&broker, "'old'", "key-revoked");
        assert!(new.publish("temperature", "still here", 1).unwrap() < 0x80);
        assert!(!broker.log().contains("[key-revoked] 'away'"));
        assert!(answer(&broker, &connect).is_some(), "its token is good for nothing now");

        with_token(&broker, &tenant, WATCHER).qos(1).publish("config", "21").expect_success();
        away.password = Some(tenant.token(DEVICE).into_bytes());
        let mut back = raw::RawClient::connect(broker.port(), &away).unwrap();
        assert!(back.session_present);
        assert_eq!(back.next_message(PATIENCE).unwrap().text(), "21");
    }

    /// A remembered login counts no longer when the key of its token is revoked: the tenant is asked again.
    fn a_revoked_key_ends_remembered_logins(version) {
        let tenant = tenant();
        let broker = broker(version, &PluginOptions::both(&tenant).with("login_cache", "86400"));
        let login = ConnectPacket::new(Protocol::V311, "by-password").login(DEVICE, PASSWORD);
        let mut client = raw::RawClient::connect(broker.port(), &login).unwrap();
        assert_eq!(tenant.count(Endpoint::Token), 1);
        tenant.rotate();
        tenant.revoke_previous();
        broker.reload();
        assert!(client.wait_end(PATIENCE).is_ok());
        assert!(retry_until_admitted(&broker, &login), "{}", broker.log());
        assert_eq!(tenant.count(Endpoint::Token), 2);
    }

    /// Keys that were saved before a restart end nobody. Those that are fetched then do.
    fn a_restored_key_admits_until_a_fetch_revokes_it(version) {
        let tenant = tenant();
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        let options = PluginOptions::tokens(&tenant).with("state_dir", folder.path().to_str().unwrap());
        let first = broker(version, &options);
        first.expect_log("signing keys were fetched");
        let connect = token_connect(Protocol::V5, "old", &tenant.token(DEVICE));
        let other = token_connect(Protocol::V5, "other", &tenant.mint(DEVICE).key(&tenant.next_key()).sign());
        drop(first);

        tenant.rotate();
        tenant.revoke_previous();
        tenant.stop_listening();
        let broker = broker(version, &options);
        broker.expect_log("are in use until it answers");
        let mut old = raw::RawClient::connect(broker.port(), &connect).unwrap();
        let mut other = raw::RawClient::connect(broker.port(), &other).unwrap();
        tenant.listen_again().unwrap();
        broker.reload();
        assert_eq!(old.wait_end(PATIENCE), Ok(Some(0x98)));
        assert!(other.publish("temperature", "1", 1).unwrap() < 0x80);
    }

    /// With `on_key_revoked keep` sessions last as long as their tokens.
    fn sessions_of_a_revoked_key_may_be_kept(version) {
        let tenant = tenant();
        let broker = broker(version, &PluginOptions::tokens(&tenant).with("on_key_revoked", "keep"));
        let mut old = raw(&broker, &tenant, DEVICE, "old", Protocol::V5);
        tenant.rotate();
        tenant.revoke_previous();
        broker.reload();
        broker.expect_log("they stay until their tokens expire");
        assert!(old.publish("temperature", "1", 1).unwrap() < 0x80);
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
