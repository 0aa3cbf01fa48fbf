//! SIGHUP: the broker asks about every session that it has, which tells the plugin which sessions exist.

use fake_broker::{BAD_USERNAME_OR_PASSWORD, ClientSpec, ClientState, SUCCESS, alone};
use serde_json::json;
use testbed::{
    signing::now,
    tenant::{DEVICE, Device},
};

use super::{GRANTED, RELEASE, Scene, wait_until_time_is};

/// The recheck and a CONNECT are the same event. Here the client is the same as well: at the address of an
/// absent one, with the user name that it was given, and with the token with which it signed in.
#[test]
fn a_connect_during_a_recheck_is_authenticated() {
    alone(|| {
        let mut scene = Scene::quiet_with(|options| options.with("leeway", "0"));
        let token = scene.tenant.mint(DEVICE).lifetime(3).sign();
        let sub = scene.tenant.device(DEVICE).expect("the device").user_id;
        let client = scene.connected(&ClientSpec::new("a").token(token.as_str()).kept());
        scene.broker.disconnect(client);
        scene.broker.tick();
        wait_until_time_is(now() + 3);
        scene.broker.expire(client);
        scene.broker.tick();
        scene.broker.reload();
        let again = ClientSpec::new("a").username(sub).password(token).kept();
        scene.broker.reuse(client, &again);
        let answer = scene.broker.connect(client);
        scene.was_refused(client, answer, BAD_USERNAME_OR_PASSWORD, "[token-expired]");
    });
}

/// 2.0 does not report an expired session. A recheck that leaves the session out does.
#[test]
fn a_session_left_out_of_a_recheck_has_ended() {
    alone(|| {
        let mut scene = Scene::quiet();
        let other = Device::new("other", "pass").topics(json!([GRANTED]));
        scene.tenant.add_device(other);
        let another = ClientSpec::new("a").token(scene.tenant.token("other"));
        let spec = scene.device("witness");
        scene.connected(&spec);
        let spec = scene.device("absent").kept_for_a_while();
        let absent = scene.connected(&spec);
        let spec = scene.device("a").kept_for_a_while().subscribed(GRANTED);
        let first = scene.connected(&spec);
        for client in [absent, first] {
            scene.broker.disconnect(client);
        }
        scene.broker.tick();
        scene.broker.sighup();
        scene.broker.tick();
        assert_ne!(scene.broker.connect_new(&another).1, SUCCESS, "it is kept");
        scene.broker.expire(first);
        scene.broker.tick();
        if !RELEASE.is_2_1() {
            assert_ne!(scene.broker.connect_new(&another).1, SUCCESS, "it may be");
        }
        scene.broker.sighup();
        scene.broker.tick();
        assert_eq!(scene.broker.connect_new(&another).1, SUCCESS);
        let told = scene.broker.lines_with("client IDs are free");
        assert_eq!(told, usize::from(!RELEASE.is_2_1()));
        assert_eq!(scene.broker.state(absent), ClientState::Offline);
    });
}
