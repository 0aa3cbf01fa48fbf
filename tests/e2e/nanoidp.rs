//! Tests with another OpenID Connect server that is not ours: nanoidp, as PyPI packages it, where
//! `tests/servers/nanoidp/install.sh` has installed it. See `crates/testbed/src/nanoidp.rs`.

use testbed::{
    clients::{
        Protocol,
        raw::{ConnectPacket, RawClient},
    },
    nanoidp::{
        AUDIENCE, CLIENT_ID, CLIENT_SECRET, DEVICE, ENCODED_CLIENT_ID, ENCODED_CLIENT_SECRET,
        Nanoidp, PASSWORD, USERNAME,
    },
};

use crate::{helpers::*, on_each_broker};

fn start() -> Option<Nanoidp> {
    Nanoidp::start_if_installed().unwrap()
}

/// What an account may do is in its attributes, and what an application may do is in its scopes.
fn options(server: &Nanoidp) -> PluginOptions {
    PluginOptions::patient()
        .with("issuer", server.issuer())
        .with("ca_file", server.ca_file().to_str().unwrap())
        .with("audience", AUDIENCE)
        .with("topics_pointer", "/attributes/topics")
        .with("rights", "topics,scope")
}

/// The same, with an application for passwords. The document offers several ways to send the secret, of which an
/// application may use one.
fn with_passwords(server: &Nanoidp, client_id: &str, secret: &str) -> PluginOptions {
    options(server)
        .with("client_id", client_id)
        .with("client_secret", secret)
        .with("token_endpoint_auth_method", "client_secret_basic")
}

fn password(id: &str, password: &str) -> ConnectPacket {
    ConnectPacket::new(Protocol::V5, id).login(USERNAME, password)
}

on_each_broker! {
    fn an_application_signs_in_with_its_own_token(version) {
        let Some(server) = start() else { return };
        let broker = broker(version, &options(&server));
        let connect = token_connect(Protocol::V5, "device", &server.device_token().unwrap());
        let mut client = RawClient::connect(broker.port(), &connect).unwrap();
        assert!(client.publish("temperature", "21", 1).unwrap() < 0x80);
        assert_eq!(client.publish("config", "no", 1), Ok(0x87));
        assert_eq!(client.subscribe(&[("config", 1), ("temperature", 1)]), Ok(vec![1, 0x87]));
        let line = broker.expect_log("as device (");
        assert!(line.contains(&format!("u'{DEVICE}'")), "{line}");
    }

    /// A refresh token has the issuer, the audience and the signature of an access token, and lives for a week.
    fn a_user_signs_in_with_an_access_token_and_not_with_a_refresh_token(version) {
        let Some(server) = start() else { return };
        let broker = broker(version, &options(&server));
        let tokens = server.user_tokens().unwrap();
        let connect = token_connect(Protocol::V5, "access", &tokens.access);
        let mut client = RawClient::connect(broker.port(), &connect).unwrap();
        for topic in ["temperature", "config"] {
            assert!(client.publish(topic, "21", 1).unwrap() < 0x80, "{topic}");
        }
        assert_eq!(client.subscribe(&[("config", 1), ("secret", 1)]), Ok(vec![1, 0x87]));
        assert!(answer(&broker, &token_connect(Protocol::V5, "refresh", &tokens.refresh)).is_some());
        expect_refusal(&broker, "'refresh'", "token-kind");
    }

    fn a_user_signs_in_with_a_password(version) {
        let Some(server) = start() else { return };
        let broker = broker(version, &with_passwords(&server, CLIENT_ID, CLIENT_SECRET));
        let mut client = RawClient::connect(broker.port(), &password("right", PASSWORD)).unwrap();
        assert!(client.publish("temperature", "21", 1).unwrap() < 0x80);
        assert_eq!(client.publish("secret", "no", 1), Ok(0x87));
        assert!(answer(&broker, &password("wrong", "wrong")).is_some());
        expect_refusal(&broker, "'wrong'", "login-refused");
    }

    /// RFC 6749, section 2.3.1 encodes the secret in the header. This server does not decode it.
    fn a_secret_that_the_server_does_not_decode_is_explained(version) {
        let Some(server) = start() else { return };
        let options = with_passwords(&server, ENCODED_CLIENT_ID, ENCODED_CLIENT_SECRET);
        let broker = broker(version, &options);
        assert!(answer(&broker, &password("c", PASSWORD)).is_some());
        let line = expect_refusal(&broker, "'c'", "login-configuration");
        assert!(line.contains("does not decode"), "{line}");
    }

    fn its_keys_can_rotate(version) {
        let Some(server) = start() else { return };
        let broker = broker(version, &options(&server));
        broker.expect_log("signing keys were fetched");
        let old = token_connect(Protocol::V5, "old", &server.device_token().unwrap());
        server.rotate_keys().unwrap();
        // The key set has a key that the plugin does not know yet, and the old one.
        broker.reload();
        let new = token_connect(Protocol::V5, "new", &server.device_token().unwrap());
        assert!(retry_until_admitted(&broker, &new), "{}", broker.log());
        assert_eq!(answer(&broker, &old), None);
    }
}
