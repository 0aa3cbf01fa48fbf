//! Tests with an OpenID Connect server that is not ours: Glewlwyd, as Debian packages it, found by `issuer`
//! discovery. Its configuration is in `crates/testbed/src/glewlwyd/ours.rs`.
//!
//! It differs from Auth0 in two ways that its operators must know. The audience of its access tokens are
//! scopes, so the ID token is used, with the client ID as audience. And it refuses a login with a bare 403,
//! without a reason.

use testbed::{
    clients::{MosquittoClient, Protocol, raw, raw::ConnectPacket},
    glewlwyd::Glewlwyd,
    pki::Authority,
};

use crate::{helpers::*, on_each_broker};

fn start() -> Option<Glewlwyd> {
    let server = Glewlwyd::start_unless_left_out(&Authority::new("glewlwyd's authority")).unwrap();
    if let Some(server) = &server {
        server
            .add_user(WATCHER, "watcher's password", &["#"])
            .unwrap();
    }
    server
}

fn options(server: &Glewlwyd) -> PluginOptions {
    PluginOptions::patient()
        .with("issuer", server.issuer())
        .with("ca_file", server.ca_file().to_str().unwrap())
        .with("audience", server.client_id())
        .with("client_id", server.client_id())
        .with("client_secret", server.client_secret())
        .with("username_claim", server.username_claim())
}

on_each_broker! {
    fn a_device_signs_in_with_a_token_and_with_its_password(version) {
        let Some(server) = start() else { return };
        let broker = broker(version, &options(&server));
        let token = server.token_for(server.username(), server.password()).unwrap().id_token;
        let watcher = MosquittoClient::of(&broker).username(WATCHER).password("watcher's password").qos(1);
        let mut seen = watcher.subscribe(&["#"]).subscribed();
        for (id, name, password) in [("by-token", "JWT", token.as_str()), ("by-password", server.username(), server.password())] {
            let device = MosquittoClient::of(&broker).id(id).username(name).password(password).qos(1);
            let mut config = device.clone().id(&format!("{id}-sub")).subscribe(&["config"]).subscribed();
            device.publish("secret", "no").expect_success();
            device.publish("temperature", id).expect_success();
            let message = seen.expect_message();
            assert_eq!((message.topic.as_str(), message.text().as_str()), ("temperature", id));
            watcher.publish("config", "21").expect_success();
            assert_eq!(config.expect_message().text(), "21");
            assert_eq!(seen.expect_message().topic, "config");
            let line = broker.wait_for_log(&format!("as {id} ("), PATIENCE).unwrap();
            assert!(line.contains(&format!("u'{}'", server.username())), "{line}");
        }
        expect_refusal(&broker, "'by-token'", "not-granted");
    }

    fn an_invalid_credential_is_refused(version) {
        let Some(server) = start() else { return };
        let broker = broker(version, &options(&server));
        let tokens = server.token_for(server.username(), server.password()).unwrap();
        for (id, reason, connect) in [
            ("wrong-password", "tenant-answer", ConnectPacket::new(Protocol::V5, "wrong-password").login(server.username(), "wrong")),
            ("access-token", "token-audience", token_connect(Protocol::V5, "access-token", &tokens.access_token)),
            ("tampered", "token-signature", token_connect(Protocol::V5, "tampered", &tampered(&tokens.id_token))),
        ] {
            assert!(answer(&broker, &connect).is_some(), "{id}");
            expect_refusal(&broker, &format!("'{id}'"), reason);
        }
    }

    fn its_topics_are_enforced(version) {
        let Some(server) = start() else { return };
        server.add_user("wild", "pass", &["a/+", "b/#"]).unwrap();
        let broker = broker(version, &options(&server));
        let connect = ConnectPacket::new(Protocol::V5, "wild").login("wild", "pass");
        let mut client = raw::RawClient::connect(broker.port(), &connect).unwrap();
        assert_eq!(client.subscribe(&[("a/+", 0), ("a/#", 0), ("b", 0), ("#", 0)]), Ok(vec![0, 0x87, 0, 0x87]));
        assert_eq!(client.publish("c", "no", 1), Ok(0x87));
    }

    /// It withdraws the old key at once, which ends the sessions of that key unless they are kept.
    fn its_keys_can_rotate(version) {
        let Some(server) = start() else { return };
        for on_key_revoked in ["keep", "disconnect"] {
            let options = options(&server).with("on_key_revoked", on_key_revoked);
            let broker = broker(version, &options);
            let old = server.token_for(server.username(), server.password()).unwrap().id_token;
            let connect = token_connect(Protocol::V5, "old", &old);
            let mut connected = raw::RawClient::connect(broker.port(), &connect).unwrap();
            server.rotate_keys().unwrap();
            broker.reload();
            assert!(broker.wait_for_log("signing keys were fetched", PATIENCE).is_some());
            let new = server.token_for(server.username(), server.password()).unwrap().id_token;
            let connect = token_connect(Protocol::V5, "new", &new);
            assert!(retry_until_admitted(&broker, &connect), "{}", broker.log());
            match on_key_revoked {
                "keep" => assert!(connected.publish("temperature", "1", 1).unwrap() < 0x80),
                _ => drop(connected.wait_end(PATIENCE).unwrap()),
            }
        }
    }

    /// The issuer must be written exactly as the server writes it.
    fn a_misspelt_issuer_is_explained(version) {
        let Some(server) = start() else { return };
        let broker = broker(version, &options(&server).with("issuer", &format!("{}/", server.issuer())));
        let line = broker.wait_for_log("signing keys could not be fetched", PATIENCE).unwrap();
        assert!(line.contains(&format!("calls itself '{}'", server.issuer())), "{line}");
    }
}

fn tampered(token: &str) -> String {
    let (message, signature) = token.rsplit_once('.').unwrap();
    let first = if signature.starts_with('A') { 'B' } else { 'A' };
    format!("{message}.{first}{}", &signature[1..])
}
