//! SIGHUP: the broker asks about every session that it has, and what that tells.

use fake_broker::{BAD_USERNAME_OR_PASSWORD, SUCCESS, Spec, State, alone};
use serde_json::json;
use testbed::{
    signing::now,
    tenant::{DEVICE, Device},
};

use super::{GRANTED, RELEASE, Scene, wait_until_time_is};

/// The broker's question and a CONNECT are the same event, and here the same client as well: at the address of
/// one who was away, with the user name that it was given, and the token with which it came.
#[test]
fn a_connect_during_a_reload_is_no_recheck() {
    alone(|| {
        let mut scene = Scene::quiet_with(|options| options.with("leeway", "0"));
        let token = scene.tenant.mint(DEVICE).lifetime(3).sign();
        let sub = scene.tenant.device(DEVICE).expect("the device").user_id;
        let client = scene.connected(&Spec::new("a").token(token.as_str()).kept());
        scene.broker.disconnect(client);
        scene.broker.tick();
        wait_until_time_is(now() + 3);
        scene.broker.expire(client);
        scene.broker.tick();
        scene.broker.reload();
        let again = Spec::new("a").username(sub).password(token).kept();
        scene.broker.reuse(client, &again);
        let answer = scene.broker.connect(client);
        scene.was_refused(client, answer, BAD_USERNAME_OR_PASSWORD, "[token-expired]");
    });
}

/// 2.0 tells nobody of a session that has expired. That it is not asked about does.
#[test]
fn who_is_not_asked_about_is_gone() {
    alone(|| {
        let mut scene = Scene::quiet();
        let other = Device::new("other", "pass").topics(json!([GRANTED]));
        scene.tenant.add_device(other);
        let another = Spec::new("a").token(scene.tenant.token("other"));
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
        let told = scene.broker.lines_with("client ids are free");
        assert_eq!(told, usize::from(!RELEASE.is_2_1()));
        assert_eq!(scene.broker.state(absent), State::Offline);
    });
}
