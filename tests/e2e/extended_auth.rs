//! Extended authentication (MQTT 5): clients that sign in with an authentication method and renew their rights with
//! AUTH packets, as bytes.

use serde_json::json;
use testbed::{
    broker::{Mosquitto, Version},
    clients::{
        Protocol,
        raw::{self, ConnectPacket, ConnectRefusal, End, Packet, Properties, Will, property},
    },
    signing::now,
    tenant::{Behaviour, DEVICE, Endpoint, ResponseGate, Tenant},
};

use crate::{helpers::*, on_each_broker};

const TOKEN: &str = "OAUTH2-JWT";
const BEARER: &str = "OAUTHBEARER";

/// Reason codes of AUTH packets.
const DONE: u8 = 0;
const CONTINUE: u8 = 0x18;
const AGAIN: u8 = 0x19;

pub fn properties(method: &str, data: &str) -> Properties {
    let with_method = Properties::new().bytes(property::AUTHENTICATION_METHOD, method);
    match data {
        "" => with_method,
        data => with_method.bytes(property::AUTHENTICATION_DATA, data),
    }
}

/// Returns a CONNECT with this method and this data.
pub fn by(method: &str, client_id: &str, data: &str) -> ConnectPacket {
    let mut connect = ConnectPacket::new(Protocol::V5, client_id);
    connect.properties = properties(method, data);
    connect
}

fn bearer(token: &str) -> String {
    format!("n,,\x01auth=Bearer {token}\x01\x01")
}

#[track_caller]
pub fn enters(broker: &Mosquitto, connect: &ConnectPacket) -> raw::RawClient {
    raw::RawClient::connect(broker.port(), connect)
        .unwrap_or_else(|why| panic!("{why:?}\n{}", broker.log()))
}

/// Returns the next AUTH packet: its code and its data, if it has any.
#[track_caller]
pub fn answer_to_auth(client: &mut raw::RawClient) -> (u8, String) {
    match client.read(PATIENCE) {
        Ok(Packet::Auth(code, properties)) => {
            // The method comes first.
            let text = String::from_utf8_lossy(&properties.0).into_owned();
            let data = text.split_once('{').map(|(_, json)| format!("{{{json}"));
            (code, data.unwrap_or_default())
        }
        other => panic!("{other:?} in place of AUTH"),
    }
}

/// Re-authenticates, and returns the code of the answer.
#[track_caller]
pub fn renew(client: &mut raw::RawClient, token: &str) -> u8 {
    client.auth(AGAIN, &properties(TOKEN, token));
    answer_to_auth(client).0
}

/// Returns how a renewal that is refused ends: with which packets, up to the end of the connection.
#[track_caller]
fn ending(client: &mut raw::RawClient) -> Vec<Packet> {
    let mut packets = Vec::new();
    loop {
        match client.read(PATIENCE) {
            Ok(packet) => packets.push(packet),
            Err(End::Closed) => return packets,
            Err(End::Silent) => panic!("the connection stays open: {packets:?}"),
        }
    }
}

/// Returns a token of the device with these topics, for so many seconds.
fn token_for(tenant: &Tenant, topics: serde_json::Value, seconds: u64) -> String {
    tenant.change_device(DEVICE, |device| device.topics = Some(topics));
    tenant.mint(DEVICE).claim("exp", now() + seconds).sign()
}

/// Publishes a message, which shows that the broker is alive, and waits for it.
fn talk(publisher: &mut raw::RawClient, subscriber: &mut raw::RawClient, topic: &str, text: &str) {
    assert!(publisher.publish(topic, text, 1).unwrap() < 0x80);
    assert_eq!(subscriber.next_message(PATIENCE).unwrap().text(), text);
}

/// Whether this version answers a refused renewal with DISCONNECT 0x87.
fn says_why(version: Version) -> bool {
    version.name() != "2.0.11"
}

on_each_broker! {
    /// Each method is a way in, with the rights and the user name of the token.
    fn a_token_signs_in_by_each_method(version) {
        let tenant = tenant();
        let broker = broker(version, &PluginOptions::tokens(&tenant));
        let token = tenant.token(DEVICE);
        let sub = tenant.device(DEVICE).unwrap().user_id;
        for (method, data) in [
            (TOKEN, token.clone()),
            ("CUSTOM-JWT", token.clone()),
            (BEARER, bearer(&token)),
            (BEARER, format!("n,a={sub},\x01host=broker\x01port=1883\x01auth=Bearer {token}\x01\x01")),
        ] {
            // The broker would take any user name for the client's own.
            let mut connect = by(method, "device", &data);
            connect.username = Some(b"admin".into());
            let mark = broker.log_mark();
            let mut client = enters(&broker, &connect);
            let line = broker.wait_for_log_after(mark, "New client connected", PATIENCE).unwrap();
            assert!(line.contains(&format!("u'{sub}'")), "{line}");
            assert!(client.publish("temperature", "1", 1).unwrap() < 0x80);
            assert_eq!(client.publish("secret", "1", 1), Ok(0x87));
            client.disconnect(0);
        }
        // A client that sends no user name has one.
        let mark = broker.log_mark();
        drop(enters(&broker, &by(TOKEN, "nameless", &token)));
        let line = broker.wait_for_log_after(mark, "New client connected", PATIENCE).unwrap();
        assert!(line.contains(&format!("u'{sub}'")), "{line}");
    }

    /// A refusal has one code, and the log says more.
    fn a_refused_token_is_explained(version) {
        let tenant = tenant();
        let options = PluginOptions::tokens(&tenant).with("client_id_template", "device-${sub}");
        let broker = broker(version, &options);
        let token = tenant.token(DEVICE);
        let sub = tenant.device(DEVICE).unwrap().user_id;
        let own = format!("device-{sub}");
        let late = tenant.mint(DEVICE).claim("exp", now() - 1000).sign();
        for (client_id, data, code) in [
            ("another", token.clone(), "client-id"),
            (&own, late, "token-expired"),
            (&own, format!("Bearer {token}"), "token-wrapped"),
            (&own, "opaque".into(), "token-malformed"),
            (&own, String::new(), "token-malformed"),
        ] {
            let refused = answer(&broker, &by(TOKEN, client_id, &data));
            assert_eq!(refused, Some(ConnectRefusal::Code(0x87)), "{code}");
            expect_refusal(&broker, client_id, code);
        }
        assert_eq!(answer(&broker, &by(TOKEN, &own, &token)), None);
    }

    /// Other methods are for other plugins. Without one, the broker refuses them and the log says what to do.
    fn another_method_gets_a_line(version) {
        let tenant = tenant();
        let broker = broker(version, &PluginOptions::tokens(&tenant));
        let refused = answer(&broker, &by("SCRAM-SHA-256", "device", "n,,n=user"));
        assert_eq!(refused, Some(ConnectRefusal::Code(0x8c)));
        let line = expect_refusal(&broker, "'device'", "auth-method");
        assert!(line.contains("'SCRAM-SHA-256'") && line.contains("OAUTH2-JWT"), "{line}");
    }

    /// The client acknowledges the reason in JSON, and is refused then. Without data it is asked for them.
    fn oauthbearer_is_a_dialogue(version) {
        let tenant = tenant();
        let broker = broker(version, &PluginOptions::tokens(&tenant));
        let token = tenant.token(DEVICE);
        let late = tenant.mint(DEVICE).claim("exp", now() - 1000).sign();
        for (data, status) in [
            (bearer(&late), "invalid_token"),
            (token.clone(), "invalid_request"),
            (bearer(&token).replace("n,,", "n,a=root,"), "access_denied"),
        ] {
            let mut client = raw::RawClient::open(broker.port(), Protocol::V5);
            client.send(&by(BEARER, "device", &data).packet());
            let told = answer_to_auth(&mut client);
            assert_eq!(told, (CONTINUE, format!("{{\"status\":\"{status}\"}}")));
            client.auth(CONTINUE, &properties(BEARER, "\x01"));
            assert_eq!(client.wait_connack(PATIENCE), Err(ConnectRefusal::Code(0x87)), "{status}");
        }
        let mut client = raw::RawClient::open(broker.port(), Protocol::V5);
        client.send(&by(BEARER, "device", "").packet());
        assert_eq!(answer_to_auth(&mut client), (CONTINUE, String::new()));
        client.auth(CONTINUE, &properties(BEARER, &bearer(&token)));
        assert_eq!(client.wait_connack(PATIENCE), Ok(()), "{}", broker.log());
        assert!(client.publish("temperature", "1", 1).unwrap() < 0x80);
    }

    /// New rights hold at once, in both directions, and to their own end.
    fn a_renewal_replaces_rights_and_their_end(version) {
        let tenant = tenant();
        let broker = broker(version, &PluginOptions::tokens(&tenant).with("leeway", "0"));
        let mut watcher = raw(&broker, &tenant, WATCHER, "watcher", Protocol::V311);
        let old = token_for(&tenant, json!(["old/#", "both"]), 3);
        let mut client = enters(&broker, &by(TOKEN, "device", &old));
        let mut other = enters(&broker, &by(TOKEN, "other", &old));
        assert_eq!(client.subscribe(&[("old/#", 1), ("both", 1)]), Ok(vec![1, 1]));
        assert_eq!(client.publish("new/1", "1", 1), Ok(0x87));
        talk(&mut watcher, &mut client, "old/1", "before");

        let new = token_for(&tenant, json!(["new/#", "both"]), 3600);
        assert_eq!(renew(&mut client, &new), DONE, "{}", broker.log());
        assert!(client.publish("new/1", "1", 1).unwrap() < 0x80);
        assert_eq!(client.publish("old/1", "1", 1), Ok(0x87));
        watcher.publish("old/1", "denied", 1).unwrap();
        talk(&mut watcher, &mut client, "both", "after");

        // The old end takes those who did not renew, and not this client.
        assert_eq!(other.wait_end(PATIENCE), Ok(Some(0x98)));
        assert!(client.publish("new/1", "2", 1).unwrap() < 0x80);

        // 2.1 has removed the subscription. On 2.0 it is still there, and each message is judged.
        let old = token_for(&tenant, json!(["old/#", "both"]), 3600);
        assert_eq!(renew(&mut client, &old), DONE);
        watcher.publish("old/1", "again", 1).unwrap();
        watcher.publish("both", "last", 1).unwrap();
        let mut seen = Vec::new();
        while seen.last().is_none_or(|text| text != "last") {
            seen.push(client.next_message(PATIENCE).unwrap().text());
        }
        let expected: &[&str] = match version.can_delay_logins() {
            true => &["last"],
            false => &["again", "last"],
        };
        assert_eq!(seen, expected);

        // A shorter end counts, too.
        let short = token_for(&tenant, json!(["both"]), 2);
        assert_eq!(renew(&mut client, &short), DONE);
        assert_eq!(client.wait_end(PATIENCE), Ok(Some(0x98)));
    }

    /// The account stays. MQTT 5 has the connection closed after a failure, and the session is as it was.
    fn a_refused_renewal_closes_the_connection(version) {
        let tenant = tenant();
        let broker = broker(version, &PluginOptions::tokens(&tenant));
        let good = tenant.token(DEVICE);
        for (method, bad, code) in [
            (TOKEN, tenant.token(WATCHER), "renewal-account"),
            (TOKEN, tenant.mint(DEVICE).claim("exp", now() - 1000).sign(), "token-expired"),
            (TOKEN, String::new(), "token-malformed"),
            (BEARER, bearer(&tenant.token(WATCHER)), "renewal-account"),
        ] {
            let data = if method == BEARER { bearer(&good) } else { good.clone() };
            let mut connect = by(method, "device", &data);
            connect.clean = false;
            connect.properties = connect.properties.u32(property::SESSION_EXPIRY_INTERVAL, 600);
            let mut client = enters(&broker, &connect);
            client.subscribe(&[("config", 1)]).unwrap();
            client.auth(AGAIN, &properties(method, &bad));
            if method == BEARER {
                let told = answer_to_auth(&mut client);
                assert_eq!(told, (CONTINUE, "{\"status\":\"access_denied\"}".into()));
                client.auth(CONTINUE, &properties(method, "\x01"));
            }
            let packets = ending(&mut client);
            // No second CONNACK, and 0x87 where the broker can say so.
            match says_why(version) {
                true => assert_eq!(packets.first(), Some(&Packet::Disconnect(0x87)), "{packets:?}"),
                false => assert_eq!(packets, [], "{code}"),
            }
            let line = expect_refusal(&broker, "'device'", code);
            assert!(line.contains("refused renewal"), "{line}");
            let back = enters(&broker, &connect);
            assert!(back.session_present, "{code}");
            back.disconnect(0);
        }
    }

    /// The broker takes an AUTH packet without content for the continuation of an exchange that does not exist.
    fn an_empty_auth_packet_ends_the_connection(version) {
        let tenant = tenant();
        let broker = broker(version, &PluginOptions::tokens(&tenant));
        let token = tenant.token(DEVICE);
        for packets in 1..4 {
            let mut client = enters(&broker, &by(TOKEN, "device", &token));
            client.subscribe(&[("config", 1)]).unwrap();
            for _ in 0..packets {
                client.send(&[0xf0, 0]);
            }
            // A broker that closes a connection in this state may drop the DISCONNECT.
            let end = ending(&mut client);
            let harmless = |packet: &Packet| {
                matches!(packet, Packet::Auth(CONTINUE, _) | Packet::Disconnect(0x98))
            };
            assert!(end.iter().all(harmless), "{end:?}");
            expect_refusal(&broker, "'device'", "auth-packet");
        }
        // Within an exchange it is an answer like any other.
        let mut client = enters(&broker, &by(BEARER, "device", &bearer(&token)));
        client.auth(AGAIN, &properties(BEARER, ""));
        assert_eq!(answer_to_auth(&mut client).0, CONTINUE);
        client.send(&[0xf0, 0]);
        assert_eq!(answer_to_auth(&mut client), (CONTINUE, "{\"status\":\"invalid_request\"}".into()));
        client.send(&[0xf0, 0]);
        let end = ending(&mut client);
        assert!(!end.iter().any(|packet| matches!(packet, Packet::Connack { .. })), "{end:?}");
        // A client that was never in.
        let mut client = raw::RawClient::open(broker.port(), Protocol::V5);
        client.send(&by(BEARER, "device", "").packet());
        assert_eq!(answer_to_auth(&mut client).0, CONTINUE);
        client.send(&[0xf0, 0]);
        assert_eq!(answer_to_auth(&mut client).0, CONTINUE);
        client.send(&[0xf0, 0]);
        assert_eq!(client.wait_connack(PATIENCE), Err(ConnectRefusal::Code(0x87)));
        // Nor one without a method.
        let mut client = raw(&broker, &tenant, DEVICE, "device", Protocol::V5);
        client.send(&[0xf0, 0]);
        assert!(client.wait_end(PATIENCE).is_ok());
        drop(enters(&broker, &by(TOKEN, "device", &token)));
    }

    /// The method of a connection does not change.
    fn another_method_cannot_renew(version) {
        let tenant = tenant();
        let broker = broker(version, &PluginOptions::tokens(&tenant));
        let token = tenant.token(DEVICE);
        let mut client = enters(&broker, &by(TOKEN, "device", &token));
        client.auth(AGAIN, &properties(BEARER, &bearer(&token)));
        assert_eq!(ending(&mut client).first(), Some(&Packet::Disconnect(0x82)));
    }

    /// A renewal waits for the tenant's keys, and nobody waits with it.
    fn a_renewal_waits_for_keys_and_nobody_else_does(version) {
        let tenant = Tenant::builder().fresh_keys().start().unwrap();
        tenant.add_device(testbed::tenant::Device::new(WATCHER, "pass").topics(json!(["#"])));
        let state = tempfile::tempdir().unwrap();
        let options = PluginOptions::tokens(&tenant)
            .with("timeout", "20")
            .with("state_dir", state.path().to_str().unwrap());
        // With keys from before a restart it does not wait for the first ones.
        let first = broker(version, &options);
        first.expect_log("signing keys were fetched");
        drop(first);
        let (device, watcher) = (tenant.token(DEVICE), tenant.token(WATCHER));
        tenant.rotate_unannounced();
        let gate = ResponseGate::new();
        tenant.on(Endpoint::Jwks, Behaviour::Gate(gate.clone()));
        let broker = broker(version, &options);
        let mut publisher = enters(&broker, &token_connect(Protocol::V311, "publisher", &device));
        let mut subscriber = enters(&broker, &token_connect(Protocol::V311, "subscriber", &watcher));
        assert_eq!(subscriber.subscribe(&[("temperature", 1)]), Ok(vec![1]));
        let mut client = enters(&broker, &by(TOKEN, "device", &device));

        let mut code = renew(&mut client, &tenant.token(DEVICE));
        for i in 0..3 {
            assert_eq!(code, CONTINUE, "{}", broker.log());
            talk(&mut publisher, &mut subscriber, "temperature", &i.to_string());
            client.auth(CONTINUE, &properties(TOKEN, ""));
            code = answer_to_auth(&mut client).0;
        }
        gate.open();
        // A client may ask for as many rounds as it likes, but not faster than the plugin can answer.
        broker.expect_log("signing keys were fetched");
        while code == CONTINUE {
            client.auth(CONTINUE, &properties(TOKEN, ""));
            code = answer_to_auth(&mut client).0;
        }
        assert_eq!(code, DONE, "{}", broker.log());
        assert!(client.publish("temperature", "renewed", 1).unwrap() < 0x80);
    }

    /// A client that hangs up while it is asked was never in: its will is not published, and others are not asked.
    fn the_will_of_a_client_that_was_never_in_is_denied(version) {
        let tenant = tenant();
        let folder = tempfile::tempdir().unwrap();
        let acl = folder.path().join("acl");
        std::fs::write(&acl, "user admin\ntopic readwrite #\n").unwrap();
        let options = PluginOptions::tokens(&tenant).with("on_other", "defer");
        let broker = builder(version, &options)
            .config(format!("acl_file {}", acl.display()))
            .start()
            .unwrap();
        let mut watcher = raw(&broker, &tenant, WATCHER, "watcher", Protocol::V311);
        assert_eq!(watcher.subscribe(&[("#", 1)]), Ok(vec![1]));
        for delay in [0, 1] {
            let mut connect = by(BEARER, "liar", "");
            connect.username = Some(b"admin".into());
            connect.will = Some(Will {
                topic: "temperature".into(),
                payload: b"from nobody".to_vec(),
                qos: 1,
                properties: Properties::new().u32(property::WILL_DELAY_INTERVAL, delay),
                ..Will::default()
            });
            let mut client = raw::RawClient::open(broker.port(), Protocol::V5);
            client.send(&connect.packet());
            assert_eq!(answer_to_auth(&mut client).0, CONTINUE);
            client.abort();
        }
        expect_refusal(&broker, "'liar'", "unknown-client");
        watcher.publish("temperature", "real", 1).unwrap();
        assert_eq!(watcher.next_message(PATIENCE).unwrap().text(), "real");
    }

    /// On SIGHUP the broker presents the password field again, which has nothing to do with the token.
    fn sighup_disconnects_no_client_of_a_method(version) {
        let tenant = tenant();
        let broker = broker(version, &PluginOptions::both(&tenant));
        let mut watcher = raw(&broker, &tenant, WATCHER, "watcher", Protocol::V311);
        let token = tenant.token(DEVICE);
        let mut clients = Vec::new();
        for (client_id, login) in [("bare", None), ("odd", Some("not a password"))] {
            let mut connect = by(TOKEN, client_id, &token);
            if let Some(password) = login {
                connect = connect.login("whoever", password);
            }
            connect.properties = connect.properties.u32(property::SESSION_EXPIRY_INTERVAL, 600);
            connect.clean = false;
            let mut client = enters(&broker, &connect);
            client.subscribe(&[("config", 1)]).unwrap();
            clients.push((connect, client));
        }
        let mut asleep = by(TOKEN, "asleep", &token);
        asleep.properties = asleep.properties.u32(property::SESSION_EXPIRY_INTERVAL, 600);
        asleep.clean = false;
        let mut sleeper = enters(&broker, &asleep);
        sleeper.subscribe(&[("config", 1)]).unwrap();
        sleeper.disconnect(0);
        for round in 0..3 {
            broker.reload();
            let text = format!("round {round}");
            watcher.publish("config", &text, 1).unwrap();
            for (_, client) in &mut clients {
                assert_eq!(client.next_message(PATIENCE).unwrap().text(), text);
                assert!(client.publish("temperature", "1", 1).unwrap() < 0x80);
                assert_eq!(renew(client, &token), DONE);
            }
        }
        let mut back = enters(&broker, &asleep);
        for round in 0..3 {
            assert_eq!(back.next_message(PATIENCE).unwrap().text(), format!("round {round}"));
        }
    }

    /// Over a restart a session of a method keeps its rights, and waits for its own account.
    fn a_session_of_a_method_survives_a_restart(version) {
        let tenant = tenant();
        let state = tempfile::tempdir().unwrap();
        let options = PluginOptions::tokens(&tenant).with("state_dir", state.path().to_str().unwrap());
        let broker = builder(version, &options).persistence(true).start().unwrap();
        let mut connect = by(TOKEN, "asleep", &tenant.token(DEVICE));
        connect.properties = connect.properties.u32(property::SESSION_EXPIRY_INTERVAL, 600);
        connect.clean = false;
        let mut sleeper = enters(&broker, &connect);
        sleeper.subscribe(&[("config", 1)]).unwrap();
        assert_eq!(renew(&mut sleeper, &tenant.token(DEVICE)), DONE);
        sleeper.disconnect(0);
        let broker = broker.restart().unwrap();
        let mut watcher = raw(&broker, &tenant, WATCHER, "watcher", Protocol::V311);
        watcher.publish("config", "while it was away", 1).unwrap();
        let other = by(TOKEN, "asleep", &tenant.token(WATCHER));
        assert_eq!(answer(&broker, &other), Some(ConnectRefusal::Code(0x87)));
        let mut back = enters(&broker, &connect);
        assert!(back.session_present);
        assert_eq!(back.next_message(PATIENCE).unwrap().text(), "while it was away");
    }
}
