//! What a device may do in normal operation.

use fake_broker::{AclAccess, ClientSpec, ClientState, InitOptions, SUCCESS, alone};
use serde_json::json;
use testbed::tenant::DEVICE;

use super::{ALSO_GRANTED, FORBIDDEN, GRANTED, Scene};

#[test]
fn granted_topics_are_allowed_and_others_denied() {
    alone(|| {
        let mut scene = Scene::quiet();
        let spec = scene.device("a");
        let client = scene.connected(&spec);
        for access in [AclAccess::Read, AclAccess::Write, AclAccess::Subscribe] {
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
        assert!(
            scene
                .broker
                .allows(client, AclAccess::Unsubscribe, FORBIDDEN)
        );
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
        let one = scene.connected(&ClientSpec::new("one").token(one));
        let two = scene.connected(&ClientSpec::new("two").token(two));
        for (client, own, other) in [(one, "one/x", "two/x"), (two, "two/x", "one/x")] {
            assert!(scene.broker.allows(client, AclAccess::Write, own));
            assert!(!scene.broker.allows(client, AclAccess::Write, other));
        }
    });
}

#[test]
fn a_flood_of_refusals_gives_few_lines() {
    alone(|| {
        let mut scene = Scene::quiet();
        let spec = scene.device("a");
        let client = scene.connected(&spec);
        for round in 0..2_000 {
            scene.broker.allows(
                client,
                AclAccess::Write,
                &format!("forbidden/{}", round % 40),
            );
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
fn the_plugin_copies_its_options() {
    alone(|| {
        // The fake broker overwrites its own strings as soon as init has returned.
        let mut scene =
            Scene::quiet_with(|options: InitOptions| options.with("topics_claim", "rights"));
        let token = scene
            .tenant
            .mint(DEVICE)
            .claim("rights", json!(["a"]))
            .sign();
        let client = scene.connected(&ClientSpec::new("a").token(token));
        assert!(scene.broker.allows(client, AclAccess::Write, "a"));
        assert!(!scene.broker.allows(client, AclAccess::Write, GRANTED));
        assert_eq!(scene.broker.state(client), ClientState::Connected);
        assert_eq!(scene.broker.reload(), SUCCESS);
    });
}
