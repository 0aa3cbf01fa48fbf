//! Tests with another OpenID Connect server that is not ours: oidc-provider, as npm packages it. It signs with every
//! algorithm, and its access tokens name the API. See `crates/testbed/src/oidc_provider.rs`.

use testbed::{
    broker::Mosquitto,
    clients::{
        Protocol,
        raw::{ConnectPacket, RawClient},
    },
    oidc_provider::{
        ALGORITHMS, AUDIENCE, CLIENT_ID, CLIENT_SECRET, OidcProvider, PASSWORD, USERNAME,
    },
};

use crate::{helpers::*, on_each_broker};

fn start() -> Option<OidcProvider> {
    OidcProvider::start_if_installed().unwrap()
}

fn options(server: &OidcProvider) -> PluginOptions {
    PluginOptions::patient()
        .with("issuer", server.issuer())
        .with("ca_file", server.ca_file().to_str().unwrap())
        .with("audience", AUDIENCE)
}

/// Checks that a client may publish what its token says and nothing else, and who it is.
#[track_caller]
fn publishes_as(broker: &Mosquitto, connect: &ConnectPacket, id: &str, username: &str) {
    let client = RawClient::connect(broker.port(), connect);
    let mut client = client.unwrap_or_else(|why| panic!("{why:?}: {}", broker.log()));
    assert!(client.publish("temperature", "21", 1).unwrap() < 0x80);
    assert_eq!(client.publish("secret", "no", 1), Ok(0x87));
    let line = broker
        .wait_for_log(&format!("as {id} ("), PATIENCE)
        .unwrap();
    assert!(line.contains(&format!("u'{username}'")), "{line}");
}

on_each_broker! {
    fn a_device_signs_in_with_a_token_of_each_algorithm(version) {
        let Some(server) = start() else { return };
        let broker = broker(version, &options(&server).with("algorithms", &ALGORITHMS.join(",")));
        for algorithm in ALGORITHMS {
            let token = server.token(algorithm).unwrap();
            let id = format!("with-{algorithm}");
            let connect = token_connect(Protocol::V5, &id, &token);
            publishes_as(&broker, &connect, &id, &format!("device-{algorithm}"));
        }
    }

    fn an_algorithm_that_is_not_listed_is_refused(version) {
        let Some(server) = start() else { return };
        let broker = broker(version, &options(&server).with("algorithms", "ES256"));
        let connect = |algorithm| token_connect(Protocol::V5, algorithm, &server.token(algorithm).unwrap());
        publishes_as(&broker, &connect("ES256"), "ES256", "device-ES256");
        for algorithm in ["RS256", "EdDSA"] {
            assert!(answer(&broker, &connect(algorithm)).is_some());
        }
        expect_refusal(&broker, "'RS256'", "token-algorithm");
    }

    fn a_device_signs_in_with_its_password(version) {
        let Some(server) = start() else { return };
        let options = options(&server).with("client_id", CLIENT_ID).with("client_secret", CLIENT_SECRET);
        // The document offers several ways. This application may use one.
        let broker = broker(version, &options.with("token_endpoint_auth_method", "client_secret_basic"));
        let right = ConnectPacket::new(Protocol::V5, "right").login(USERNAME, PASSWORD);
        publishes_as(&broker, &right, "right", USERNAME);
        let wrong = ConnectPacket::new(Protocol::V5, "wrong").login(USERNAME, "wrong");
        assert!(answer(&broker, &wrong).is_some());
        expect_refusal(&broker, "'wrong'", "login-refused");
    }
}
