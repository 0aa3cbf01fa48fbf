//! The everyday: what a device may do, as the broker asks.

use fake_broker::{Access, Options, SUCCESS, Spec, State, alone};
use serde_json::json;
use testbed::tenant::DEVICE;

use super::{ALSO_GRANTED, FORBIDDEN, GRANTED, Scene};

#[test]
fn granted_and_not() {
    alone(|| {
        let mut scene = Scene::quiet();
        let spec = scene.device("a");
        let client = scene.connected(&spec);
        for access in [Access::Read, Access::Write, Access::Subscribe] {
            for topic in [GRANTED, ALSO_GRANTED] {
                assert!(
                    scene.broker.allows(client, access, topic),
                    "{access:?} {topic}"
                );
            }
            for topic in [FORBIDDEN, "", "#", "temperature/x", "Temperature"] {
                assert!(
                    !scene.broker.allows(client, access, topic),
                    "{access:?} {topic}"
                );
            }
        }
        assert!(scene.broker.allows(client, Access::Unsubscribe, FORBIDDEN));
    });
}

#[test]
fn two_devices_share_no_rights() {
    alone(|| {
        let mut scene = Scene::quiet();
        let token = |topic: &str, sub: &str| {
            let mint = scene.tenant.mint(DEVICE);
            mint.claim("topics", json!([topic]))
                .claim("sub", sub)
                .sign()
        };
        let (one, two) = (token("one/#", "auth0|1"), token("two/#", "auth0|2"));
        let one = scene.connected(&Spec::new("one").token(one));
        let two = scene.connected(&Spec::new("two").token(two));
        for (client, own, other) in [(one, "one/x", "two/x"), (two, "two/x", "one/x")] {
            assert!(scene.broker.allows(client, Access::Write, own));
            assert!(!scene.broker.allows(client, Access::Write, other));
        }
    });
}

#[test]
fn a_flood_of_refusals_is_a_handful_of_lines() {
    alone(|| {
        let mut scene = Scene::quiet();
        let spec = scene.device("a");
        let client = scene.connected(&spec);
        for round in 0..2_000 {
            scene
                .broker
                .allows(client, Access::Write, &format!("forbidden/{}", round % 40));
        }
        scene.broker.tick();
        let lines = scene.broker.log().len();
        assert!((1..=17).contains(&lines), "{lines}");
        assert_eq!(
            scene
                .broker
                .lines_with("further refusals of 'a' are not logged"),
            1
        );
    });
}

#[test]
fn the_options_are_the_plugin_s_own_copy() {
    alone(|| {
        // The fake broker spoils its own strings as soon as init has returned.
        let mut scene =
            Scene::quiet_with(|options: Options| options.with("topics_claim", "rights"));
        let token = scene
            .tenant
            .mint(DEVICE)
            .claim("rights", json!(["a"]))
            .sign();
        let client = scene.connected(&Spec::new("a").token(token));
        assert!(scene.broker.allows(client, Access::Write, "a"));
        assert!(!scene.broker.allows(client, Access::Write, GRANTED));
        assert_eq!(scene.broker.state(client), State::Connected);
        assert_eq!(scene.broker.reload(), SUCCESS);
    });
}
