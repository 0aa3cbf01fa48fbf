//! Events without data. No broker sends these, but a plugin must not crash on them.

use fake_broker::{ACL_DENIED, AUTH, ClientSpec, Event, SERVER_UNAVAILABLE, SUCCESS, alone};

use super::{GRANTED, RELEASE, Scene};

/// All zero: NULL for every pointer.
const ZEROS: [usize; 11] = [0; 11];

#[test]
fn null_and_empty_events_are_harmless() {
    alone(|| {
        let mut scene = Scene::quiet();
        for event in Event::all(RELEASE) {
            let refusal = match event {
                // Without data, the client is not to blame.
                Event::BasicAuth => RELEASE.refusal(SERVER_UNAVAILABLE),
                _ => event.refusal(),
            };
            assert_eq!(scene.broker.raw(*event, None), refusal, "{event:?}");
            assert_eq!(
                scene.broker.raw(*event, Some(&mut ZEROS.clone())),
                refusal,
                "{event:?}"
            );
        }
        scene.broker.tick();
        assert_eq!(
            scene.broker.lines_with("[internal]"),
            1,
            "{:#?}",
            scene.broker.log()
        );
    });
}

#[test]
fn events_without_userdata_are_refused() {
    alone(|| {
        let mut scene = Scene::quiet();
        let spec = scene.device("sensor");
        let client = scene.connected(&spec);
        for event in Event::all(RELEASE) {
            // Valid in all other respects: this client may do what is checked.
            let mut data = ZEROS;
            data[1] = client.address();
            if *event == Event::AclCheck {
                data[2] = GRANTED_C.as_ptr() as usize;
                data[5] = fake_broker::AclAccess::Write as usize;
                assert_eq!(scene.broker.raw(*event, Some(&mut data)), SUCCESS);
            }
            for data in [None, Some(&mut data)] {
                let answer = scene.broker.raw_without_userdata(*event, data);
                assert_eq!(answer, event.refusal(), "{event:?}");
            }
        }
        assert!(
            scene
                .broker
                .allows(client, fake_broker::AclAccess::Write, GRANTED)
        );
    });
}

const GRANTED_C: &std::ffi::CStr = c"temperature";

#[test]
fn acl_checks_without_topic_or_client_are_denied() {
    alone(|| {
        let mut scene = Scene::quiet();
        let spec = scene.device("sensor");
        let client = scene.connected(&spec);
        let mut data = ZEROS;
        data[1] = client.address();
        for access in [0u32, 1, 2, 3, 4, 8, 16, u32::MAX] {
            data[5] = access as usize;
            assert_eq!(
                scene.broker.raw(Event::AclCheck, Some(&mut data)),
                ACL_DENIED,
                "{access}"
            );
        }
        data[2] = GRANTED_C.as_ptr() as usize;
        for access in [0u32, 3, 7, 16, u32::MAX] {
            data[5] = access as usize;
            assert_eq!(
                scene.broker.raw(Event::AclCheck, Some(&mut data)),
                ACL_DENIED,
                "{access}"
            );
        }
        data[5] = 2;
        assert_eq!(scene.broker.raw(Event::AclCheck, Some(&mut data)), SUCCESS);
    });
}

#[test]
fn a_client_without_an_id_is_refused() {
    alone(|| {
        let mut scene = Scene::quiet();
        let spec = scene.device("sensor").without_id();
        let client = scene.broker.client(&spec);
        let answer = scene.broker.basic_auth(client);
        scene.was_refused(client, answer, SERVER_UNAVAILABLE, "[internal]");
        // The fake broker, like a real one, does not ask about a client without an ID.
        let mut data = ZEROS;
        data[1] = client.address();
        data[2] = GRANTED_C.as_ptr() as usize;
        data[5] = 2;
        assert_eq!(
            scene.broker.raw(Event::AclCheck, Some(&mut data)),
            ACL_DENIED
        );
        assert_eq!(
            scene.broker.raw(Event::Disconnect, Some(&mut data)),
            SUCCESS
        );
    });
}

#[test]
fn a_connect_without_user_name_and_password_is_refused() {
    alone(|| {
        let mut scene = Scene::quiet();
        scene.refused(&ClientSpec::new("a"), 134, "[no-password]");
        scene.refused(&ClientSpec::new("a").v5(), 134, "[no-password]");
        scene.refused(&ClientSpec::new("a").username("JWT"), 134, "[no-password]");
        scene.refused(&ClientSpec::new("a").username("u"), 134, "[no-password]");
        scene.refused(
            &ClientSpec::new("a").password("p"),
            AUTH,
            "[credentials-off]",
        );
        // MQTT 5 allows a password without user name, and a token names its own user.
        let token = scene.tenant.token(testbed::tenant::DEVICE);
        scene.connected(&ClientSpec::new("a").v5().password(token));
    });
}

#[test]
fn a_password_without_a_name_is_never_sent_to_the_tenant() {
    alone(|| {
        let mut scene = Scene::live(super::credentials);
        scene.refused(
            &ClientSpec::new("a").v5().password("p"),
            134,
            "[no-username]",
        );
        scene.refused(&ClientSpec::new("a").username("u"), 134, "[no-password]");
        assert_eq!(scene.tenant.count(testbed::tenant::Endpoint::Token), 0);
    });
}
