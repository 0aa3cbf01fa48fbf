//! Extended authentication (MQTT 5): the order of events, and packets that a broker should not pass on.

use fake_broker::{
    AUTH, AUTH_CONTINUE, AclAccess, ClientSpec, ClientState, FakeClient, NOT_SUPPORTED, PluginCall,
    SUCCESS, UNKNOWN, alone,
};
use serde_json::json;
use testbed::tenant::{Behaviour, DEVICE, Endpoint, ResponseGate};

use super::{FORBIDDEN, GRANTED, RELEASE, Scene};
use fake_broker::Release;

const CONTINUE: i32 = 0x18;
const AGAIN: i32 = 0x19;

/// A client of the method OAUTH2-JWT, connected.
fn enters(scene: &mut Scene, spec: &ClientSpec) -> FakeClient {
    let client = scene.broker.client(spec);
    let token = scene.tenant.token(DEVICE);
    let code = scene.broker.connect_by(client, "OAUTH2-JWT", token);
    assert_eq!(code, SUCCESS, "{:#?}", scene.broker.log());
    client
}

/// A client without user name and password.
fn bare(id: &str) -> ClientSpec {
    ClientSpec::new(id).v5()
}

fn bearer(token: &str) -> String {
    format!("n,,\x01auth=Bearer {token}\x01\x01")
}

/// The code that refuses a renewal without a second CONNACK.
fn refused() -> i32 {
    match RELEASE {
        Release::V2_0_11 => UNKNOWN,
        _ => AUTH,
    }
}

#[test]
fn a_token_is_renewed() {
    alone(|| {
        let mut scene = Scene::quiet();
        let client = enters(&mut scene, &bare("a").username("admin"));
        let sub = scene.tenant.device(DEVICE).unwrap().user_id;
        assert_eq!(
            scene.broker.username(client),
            Some(sub),
            "not the claimed one"
        );
        assert!(scene.broker.allows(client, AclAccess::Write, GRANTED));
        assert!(
            scene.broker.allows(client, AclAccess::Write, GRANTED),
            "from the cache"
        );

        scene
            .tenant
            .change_device(DEVICE, |device| device.topics = Some(json!([FORBIDDEN])));
        let token = scene.tenant.token(DEVICE);
        assert_eq!(scene.broker.auth(client, AGAIN, token), SUCCESS);
        assert!(scene.broker.allows(client, AclAccess::Write, FORBIDDEN));
        assert!(
            !scene.broker.allows(client, AclAccess::Write, GRANTED),
            "at once"
        );
        assert!(!scene.broker.allows(client, AclAccess::Read, GRANTED));
    });
}

#[test]
fn a_renewal_that_fails_closes_the_connection() {
    alone(|| {
        let mut scene = Scene::quiet();
        let other = testbed::tenant::Device::new("other", "pass").topics(json!(["#"]));
        scene.tenant.add_device(other);
        let foreign = scene.tenant.token("other");
        let client = enters(&mut scene, &bare("a"));
        assert_eq!(scene.broker.auth(client, AGAIN, foreign), refused());
        assert_eq!(scene.broker.state(client), ClientState::Gone);
        scene.broker.tick();
        assert_eq!(
            scene.broker.lines_with("refused renewal [renewal-account]"),
            1
        );
        enters(&mut scene, &bare("a"));
    });
}

#[test]
fn a_client_that_asks_for_its_renewal_without_a_pause_is_refused() {
    alone(|| {
        let mut scene = Scene::live(|tenant| super::options(tenant).instead("timeout", "60"));
        let client = enters(&mut scene, &bare("a"));
        scene.tenant.rotate_unannounced();
        let gate = ResponseGate::new();
        let held = Behaviour::Gate(gate.clone());
        scene.tenant.on(Endpoint::Jwks, held);
        let token = scene.tenant.token(DEVICE);
        let mut code = scene.broker.auth(client, AGAIN, token);
        let mut answers = 0;
        while code == AUTH_CONTINUE {
            answers += 1;
            code = scene.broker.auth(client, CONTINUE, "");
        }
        assert_eq!(
            (code, answers),
            (refused(), 5000),
            "{:#?}",
            scene.broker.log()
        );
        assert_eq!(
            scene
                .broker
                .lines_with("refused renewal [login-pending] of 'a'"),
            1
        );
        assert_eq!(
            scene
                .broker
                .lines_with("the device has sent 5000 AUTH packets"),
            1
        );
        gate.open();
    });
}

/// The fake broker aborts where a real one would use freed memory.
#[test]
fn an_empty_auth_packet_is_answered_with_go_on_and_a_kick() {
    alone(|| {
        let mut scene = Scene::quiet();
        let client = enters(&mut scene, &bare("a"));
        for reason in [0, 0, CONTINUE, 0] {
            assert_eq!(scene.broker.auth(client, reason, ""), AUTH_CONTINUE);
            assert_eq!(scene.broker.auth_data(), "");
        }
        let token = scene.tenant.token(DEVICE);
        assert_eq!(scene.broker.auth(client, CONTINUE, token), AUTH_CONTINUE);
        assert_eq!(scene.broker.kicks(), 0);
        scene.broker.tick();
        assert_eq!(scene.broker.kicks(), 1);
        assert_eq!(scene.broker.state(client), ClientState::Gone);
        scene.broker.tick();
        assert_eq!(scene.broker.lines_with("[auth-packet]"), 1);
        assert_eq!(scene.broker.kicks(), 1, "once");

        // It leaves before the tick.
        let client = enters(&mut scene, &bare("a"));
        assert_eq!(scene.broker.auth(client, 0, ""), AUTH_CONTINUE);
        scene.broker.disconnect(client);
        let next = enters(&mut scene, &bare("a"));
        scene.broker.tick();
        assert_eq!(scene.broker.kicks(), 1);
        assert_eq!(scene.broker.state(next), ClientState::Connected);
    });
}

/// 2.0 does not say the method of an exchange that goes on.
#[test]
fn a_dialogue_keeps_its_method() {
    alone(|| {
        let mut scene = Scene::quiet();
        let client = scene.broker.client(&bare("a"));
        assert_eq!(
            scene.broker.connect_by(client, "OAUTHBEARER", ""),
            AUTH_CONTINUE
        );
        assert_eq!(scene.broker.auth_data(), "");
        let token = scene.tenant.token(DEVICE);
        assert_eq!(scene.broker.auth(client, CONTINUE, bearer(&token)), SUCCESS);
        assert!(scene.broker.allows(client, AclAccess::Write, GRANTED));

        assert_eq!(scene.broker.auth(client, AGAIN, &token), AUTH_CONTINUE);
        assert_eq!(scene.broker.auth_data(), r#"{"status":"invalid_request"}"#);
        assert_eq!(scene.broker.auth(client, 0, ""), refused());

        let client = scene.broker.client(&bare("b"));
        assert_eq!(
            scene.broker.connect_by(client, "OAUTHBEARER", token),
            AUTH_CONTINUE
        );
        assert_eq!(scene.broker.auth(client, CONTINUE, "\x01"), AUTH);
        assert_eq!(scene.broker.state(client), ClientState::Gone);
    });
}

#[test]
fn another_method_is_for_others() {
    alone(|| {
        let mut scene = Scene::quiet();
        let client = scene.broker.client(&bare("a"));
        let code = scene.broker.connect_by(client, "SCRAM-SHA-1", "n,,n=a");
        assert_eq!(code, NOT_SUPPORTED);
        assert_eq!(scene.broker.lines_with("refused CONNECT [auth-method]"), 1);
    });
}

/// The broker checks the will after the client has gone.
#[test]
fn the_will_of_a_client_that_hangs_up_in_between_is_denied() {
    alone(|| {
        let mut scene = Scene::quiet_with(|options| options.with("on_other", "defer"));
        let spec = bare("a").username("admin").will(GRANTED);
        let client = scene.broker.client(&spec);
        assert_eq!(
            scene.broker.connect_by(client, "OAUTHBEARER", ""),
            AUTH_CONTINUE
        );
        scene.broker.asked();
        scene.broker.disconnect(client);
        let denied = PluginCall::Acl(
            client,
            AclAccess::Write,
            GRANTED.into(),
            fake_broker::ACL_DENIED,
        );
        assert!(scene.broker.asked().contains(&denied));
        scene.broker.tick();
        // Its memory belongs to another client now.
        let token = scene.tenant.token(DEVICE);
        scene.broker.reuse(client, &bare("b"));
        assert_eq!(
            scene.broker.connect_by(client, "OAUTH2-JWT", token),
            SUCCESS
        );
        assert!(scene.broker.allows(client, AclAccess::Write, GRANTED));
    });
}

/// A new connection in the memory of an earlier one begins anew.
#[test]
fn an_exchange_ends_with_its_connection() {
    alone(|| {
        let mut scene = Scene::quiet();
        let client = enters(&mut scene, &bare("a"));
        scene.broker.disconnect(client);
        scene.broker.tick();
        scene.broker.reuse(client, &bare("a"));
        let code = scene.broker.connect_by(client, "OAUTH2-JWT", "no token");
        assert_eq!(code, AUTH);
        assert_eq!(
            scene.broker.lines_with("refused CONNECT [token-malformed]"),
            1
        );
        assert!(!scene.broker.allows(client, AclAccess::Write, GRANTED));
    });
}

/// The broker presents the password of the CONNECT, and there is none.
#[test]
fn sighup_keeps_clients_of_a_method() {
    alone(|| {
        let mut scene = Scene::quiet();
        let here = enters(&mut scene, &bare("here").subscribed(GRANTED));
        let away = enters(&mut scene, &bare("away").subscribed(GRANTED).kept());
        scene.broker.disconnect(away);
        scene.broker.tick();
        for _ in 0..3 {
            scene.broker.sighup();
            assert_eq!(scene.broker.state(here), ClientState::Connected);
            assert_eq!(scene.broker.state(away), ClientState::Offline);
            assert!(scene.broker.allows(here, AclAccess::Write, GRANTED));
            assert!(scene.broker.allows(away, AclAccess::Read, GRANTED));
        }
    });
}
