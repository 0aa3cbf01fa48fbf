//! The order of events, and addresses that are used twice.

use fake_broker::{ACL_DENIED, AUTH, Access, Asked, SUCCESS, Spec, State, alone};
use testbed::tenant::{Behaviour, DEVICE, Endpoint, PASSWORD};

use super::{ALSO_GRANTED, FORBIDDEN, GRANTED, PATIENCE, RELEASE, Scene, credentials};

fn acl(client: fake_broker::Client, access: Access, topic: &str, code: i32) -> Asked {
    Asked::Acl(client, access, topic.into(), code)
}

#[test]
fn a_takeover() {
    alone(|| {
        let mut scene = Scene::quiet();
        let spec = scene.device("a").kept().will(GRANTED).queued(ALSO_GRANTED);
        let old = scene.connected(&spec);
        scene.broker.asked();
        let new = scene.connected(&spec);
        assert_eq!(
            scene.broker.asked(),
            [
                Asked::Login(new, SUCCESS),
                acl(old, Access::Write, GRANTED, SUCCESS),
                Asked::Disconnect(old),
                acl(new, Access::Read, ALSO_GRANTED, SUCCESS),
            ]
        );
        for _ in 0..3 {
            scene.broker.tick();
            assert!(scene.broker.allows(new, Access::Write, GRANTED));
        }
    });
}

#[test]
fn a_takeover_of_an_offline_session() {
    alone(|| {
        let mut scene = Scene::quiet();
        let spec = scene.device("a").kept().queued(ALSO_GRANTED);
        let old = scene.connected(&spec);
        scene.broker.asked();
        scene.broker.disconnect(old);
        let event = if RELEASE.is_2_1() {
            Asked::Offline(old)
        } else {
            Asked::Disconnect(old)
        };
        assert_eq!(scene.broker.asked(), [event]);
        scene.broker.tick();
        assert_eq!(scene.broker.state(old), State::Offline);
        // Messages are queued for it.
        assert!(scene.broker.allows(old, Access::Read, ALSO_GRANTED));
        assert!(!scene.broker.allows(old, Access::Read, FORBIDDEN));

        scene.broker.asked();
        let new = scene.connected(&spec);
        assert_eq!(
            scene.broker.asked(),
            [
                Asked::Login(new, SUCCESS),
                Asked::Disconnect(old),
                acl(new, Access::Read, ALSO_GRANTED, SUCCESS),
            ]
        );
        scene.broker.tick();
        assert!(scene.broker.allows(new, Access::Write, GRANTED));
        // Its address is somebody else's now: a client with a certificate, who never signs in.
        scene.broker.reuse(old, &scene.device("b"));
        assert!(!scene.broker.allows(old, Access::Read, ALSO_GRANTED));
    });
}

#[test]
fn a_takeover_of_a_websocket_whose_disconnect_comes_late() {
    alone(|| {
        let mut scene = Scene::quiet();
        let spec = scene.device("a").will(GRANTED).websocket();
        let old = scene.connected(&spec);
        scene.broker.asked();
        let new = scene.connected(&spec);
        let expected = [
            Asked::Login(new, SUCCESS),
            acl(old, Access::Write, GRANTED, SUCCESS),
        ];
        assert_eq!(scene.broker.asked(), expected);
        scene.broker.tick();
        assert_eq!(scene.broker.asked(), [Asked::Disconnect(old)]);
        for _ in 0..3 {
            scene.broker.tick();
            assert!(scene.broker.allows(new, Access::Write, GRANTED));
        }
        scene.broker.reuse(old, &scene.device("a"));
        assert!(!scene.broker.allows(old, Access::Write, GRANTED));
    });
}

#[test]
fn a_refused_takeover_leaves_the_one_who_is_in() {
    alone(|| {
        let mut scene = Scene::quiet();
        let good = scene.device("a");
        let client = scene.connected(&good);
        // 2.0.11 says goodbye to the refused one without its id, the others with it.
        scene.refused(&Spec::new("a"), 134, "[no-password]");
        scene.refused(
            &Spec::new("a").username("u").password("p"),
            AUTH,
            "[credentials-off]",
        );
        assert!(scene.broker.allows(client, Access::Write, GRANTED));
        scene.broker.sighup();
        assert_eq!(scene.broker.state(client), State::Connected);
    });
}

#[test]
fn a_will_comes_after_the_disconnect() {
    alone(|| {
        let mut scene = Scene::quiet();
        for (will, code) in [(GRANTED, SUCCESS), (FORBIDDEN, ACL_DENIED)] {
            for spec in [
                scene.device("a"),
                scene.device("b").kept(),
                scene.device("c").v5(),
            ] {
                let client = scene.connected(&spec.will(will));
                scene.broker.asked();
                scene.broker.disconnect(client);
                let asked = scene.broker.asked();
                assert_eq!(asked.len(), 2, "{asked:?}");
                assert_eq!(asked[1], acl(client, Access::Write, will, code));
                scene.broker.tick();
                assert_eq!(
                    scene.broker.lines_with("[not-granted]"),
                    usize::from(code != SUCCESS)
                );
                scene.broker.forget_log();
            }
        }
    });
}

#[test]
fn one_who_has_left_for_good_is_nobody() {
    alone(|| {
        let mut scene = Scene::quiet();
        let spec = scene.device("a");
        let client = scene.connected(&spec);
        scene.broker.disconnect(client);
        scene.broker.tick();
        // The same bytes at the same address again, but nobody signed in.
        let sub = scene.tenant.device(DEVICE).expect("the device").user_id;
        scene.broker.reuse(client, &Spec::new("a").username(sub));
        for access in Access::ALL {
            assert!(!scene.broker.allows(client, access, GRANTED), "{access:?}");
        }
        scene.broker.tick();
        assert!(scene.broker.lines_with("[unknown-client]") > 0);
    });
}

#[test]
fn a_stranger_at_an_old_address() {
    alone(|| {
        let mut scene = Scene::quiet();
        let spec = scene.device("a");
        let sub = scene.tenant.device(DEVICE).expect("the device").user_id;
        for with_tick in [true, false] {
            for stranger in [
                Spec::new("b").username(sub.as_str()),
                Spec::new("a").username("auth0|another"),
                Spec::new("a"),
            ] {
                let client = scene.connected(&spec);
                scene.broker.disconnect(client);
                if with_tick {
                    scene.broker.tick();
                }
                scene.broker.reuse(client, &stranger);
                for access in Access::ALL {
                    assert!(!scene.broker.allows(client, access, GRANTED), "{access:?}");
                }
            }
        }
    });
}

#[test]
fn an_old_address_is_no_credential() {
    alone(|| {
        let mut scene = Scene::quiet();
        let spec = scene.device("a").kept();
        let sub = scene.tenant.device(DEVICE).expect("the device").user_id;
        for (again, code, reason) in [
            (Spec::new("a").username(sub.as_str()), 134, "[no-password]"),
            (
                Spec::new("a").username(sub.as_str()).password("p"),
                AUTH,
                "[credentials-off]",
            ),
        ] {
            for stays in [true, false] {
                let client = scene.connected(&spec);
                if !stays {
                    scene.broker.disconnect(client);
                    scene.broker.tick();
                }
                let address = if stays { "192.0.2.1" } else { "192.0.2.2" };
                scene.broker.reuse(client, &again.clone().address(address));
                let answer = scene.broker.connect(client);
                scene.was_refused(client, answer, code, reason);
            }
        }
    });
}

#[test]
fn sighup_asks_again_and_the_tenant_hears_nothing_of_it() {
    alone(|| {
        let mut scene = Scene::live(|tenant| credentials(tenant).with("timeout", "60"));
        let by_password = Spec::new("a").username(DEVICE).password(PASSWORD).kept();
        let by_password = scene.connected(&by_password);
        let by_token = scene.device("b");
        let by_token = scene.connected(&by_token);
        let offline = scene.device("c").kept();
        let offline = scene.connected(&offline);
        scene.broker.disconnect(offline);
        scene.broker.tick();
        assert_eq!(scene.tenant.count(Endpoint::Token), 1);

        // A re-check that asked the tenant would hang for longer than this test may take.
        scene.tenant.on(Endpoint::Token, Behaviour::Hang);
        scene.broker.asked();
        let started = std::time::Instant::now();
        scene.broker.sighup();
        assert!(started.elapsed() < PATIENCE);
        assert_eq!(
            scene.broker.asked(),
            [
                Asked::Reload(SUCCESS),
                Asked::Login(by_password, SUCCESS),
                Asked::Login(by_token, SUCCESS),
                Asked::Login(offline, SUCCESS),
            ]
        );
        assert_eq!(scene.tenant.count(Endpoint::Token), 1);
        for client in [by_password, by_token] {
            assert!(scene.broker.allows(client, Access::Write, GRANTED));
        }
    });
}

#[test]
fn sighup_about_a_session_from_disk() {
    alone(|| {
        let mut scene = Scene::quiet();
        let sub = scene.tenant.device(DEVICE).expect("the device").user_id;
        let restored = scene.broker.restored("a", &sub, GRANTED);
        scene.broker.sighup();
        assert_eq!(
            scene.broker.asked(),
            [Asked::Reload(SUCCESS), Asked::Login(restored, SUCCESS)]
        );
        assert_eq!(scene.broker.state(restored), State::Offline);
        // Kept, but with no rights: nobody knows them until it signs in.
        for access in Access::ALL {
            assert!(
                !scene.broker.allows(restored, access, GRANTED),
                "{access:?}"
            );
        }
        scene.broker.asked();
        let spec = scene.device("a").kept();
        let client = scene.connected(&spec);
        assert_eq!(
            scene.broker.asked(),
            [Asked::Login(client, SUCCESS), Asked::Disconnect(restored)]
        );
        scene.broker.tick();
        assert!(scene.broker.allows(client, Access::Write, GRANTED));
    });
}

#[test]
fn whose_retained_message_it_was() {
    alone(|| {
        let mut scene = Scene::quiet();
        let spec = scene.device("a").kept();
        let client = scene.connected(&spec);
        for _ in 0..2 {
            assert_eq!(scene.broker.retain_source(client, GRANTED), SUCCESS);
            assert_eq!(scene.broker.retain_source(client, FORBIDDEN), ACL_DENIED);
            // Once connected, once offline.
            if scene.broker.state(client) == State::Connected {
                scene.broker.disconnect(client);
                scene.broker.tick();
            }
        }
        let other = scene
            .broker
            .client(&Spec::new("a").username("auth0|another"));
        assert_eq!(scene.broker.retain_source(other, GRANTED), ACL_DENIED);
        let other = scene.broker.client(&Spec::new("b"));
        assert_eq!(scene.broker.retain_source(other, GRANTED), ACL_DENIED);
        // The question leaves no trace: the session's own client is still who it was.
        assert!(scene.broker.allows(client, Access::Read, GRANTED));
    });
}

#[test]
fn questions_from_another_thread() {
    alone(|| {
        let mut scene = Scene::quiet();
        let spec = scene.device("a");
        let client = scene.connected(&spec);
        let token = scene.tenant.token(DEVICE);
        assert_eq!(scene.broker.http_api("JWT", &token), (AUTH, ACL_DENIED));
        scene.broker.tick();
        assert_eq!(
            scene.broker.lines_with("[foreign-thread]"),
            1,
            "{:#?}",
            scene.broker.log()
        );
        for _ in 0..3 {
            assert_eq!(scene.broker.http_api("JWT", &token), (AUTH, ACL_DENIED));
            scene.broker.tick();
        }
        assert_eq!(scene.broker.lines_with("[foreign-thread]"), 1);
        assert!(scene.broker.allows(client, Access::Write, GRANTED));
    });
}
