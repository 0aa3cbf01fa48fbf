//! The order of events, and reused memory addresses.

use fake_broker::{
    ACL_DENIED, AUTH, AclAccess, ClientSpec, ClientState, PluginCall, SUCCESS, alone,
};
use testbed::tenant::{Behaviour, DEVICE, Endpoint};

use super::{ALSO_GRANTED, FORBIDDEN, GRANTED, PATIENCE, RELEASE, Scene, credentials, login};

fn acl(client: fake_broker::FakeClient, access: AclAccess, topic: &str, code: i32) -> PluginCall {
    PluginCall::Acl(client, access, topic.into(), code)
}

#[test]
fn a_takeover_leaves_the_new_client_its_rights() {
    alone(|| {
        let mut scene = Scene::quiet();
        let spec = scene.device("a").kept().will(GRANTED).queued(ALSO_GRANTED);
        let old = scene.connected(&spec);
        scene.broker.asked();
        let new = scene.connected(&spec);
        assert_eq!(
            scene.broker.asked(),
            [
                PluginCall::Login(new, SUCCESS),
                acl(old, AclAccess::Write, GRANTED, SUCCESS),
                PluginCall::Disconnect(old),
                acl(new, AclAccess::Read, ALSO_GRANTED, SUCCESS),
            ]
        );
        for _ in 0..3 {
            scene.broker.tick();
            assert!(scene.broker.allows(new, AclAccess::Write, GRANTED));
        }
    });
}

#[test]
fn a_takeover_of_an_offline_session_leaves_the_new_client_its_rights() {
    alone(|| {
        let mut scene = Scene::quiet();
        let spec = scene.device("a").kept().queued(ALSO_GRANTED);
        let old = scene.connected(&spec);
        scene.broker.asked();
        scene.broker.disconnect(old);
        let event = if RELEASE.is_2_1() {
            PluginCall::Offline(old)
        } else {
            PluginCall::Disconnect(old)
        };
        assert_eq!(scene.broker.asked(), [event]);
        scene.broker.tick();
        assert_eq!(scene.broker.state(old), ClientState::Offline);
        // Messages are queued for it.
        assert!(scene.broker.allows(old, AclAccess::Read, ALSO_GRANTED));
        assert!(!scene.broker.allows(old, AclAccess::Read, FORBIDDEN));

        scene.broker.asked();
        let new = scene.connected(&spec);
        assert_eq!(
            scene.broker.asked(),
            [
                PluginCall::Login(new, SUCCESS),
                PluginCall::Disconnect(old),
                acl(new, AclAccess::Read, ALSO_GRANTED, SUCCESS),
            ]
        );
        scene.broker.tick();
        assert!(scene.broker.allows(new, AclAccess::Write, GRANTED));
        // Its address belongs to another client now, which has a certificate and never signs in.
        scene.broker.reuse(old, &scene.device("b"));
        assert!(!scene.broker.allows(old, AclAccess::Read, ALSO_GRANTED));
    });
}

#[test]
fn a_late_disconnect_of_the_old_websocket_takes_no_rights() {
    alone(|| {
        let mut scene = Scene::quiet();
        let spec = scene.device("a").will(GRANTED).websocket();
        let old = scene.connected(&spec);
        scene.broker.asked();
        let new = scene.connected(&spec);
        let expected = [
            PluginCall::Login(new, SUCCESS),
            acl(old, AclAccess::Write, GRANTED, SUCCESS),
        ];
        assert_eq!(scene.broker.asked(), expected);
        scene.broker.tick();
        assert_eq!(scene.broker.asked(), [PluginCall::Disconnect(old)]);
        for _ in 0..3 {
            scene.broker.tick();
            assert!(scene.broker.allows(new, AclAccess::Write, GRANTED));
        }
        scene.broker.reuse(old, &scene.device("a"));
        assert!(!scene.broker.allows(old, AclAccess::Write, GRANTED));
    });
}

#[test]
fn a_refused_takeover_leaves_the_connected_client() {
    alone(|| {
        let mut scene = Scene::quiet();
        let good = scene.device("a");
        let client = scene.connected(&good);
        // 2.0.11 sends the disconnect event of the refused client without its ID, the others with it.
        scene.refused(&ClientSpec::new("a"), 134, "[no-password]");
        scene.refused(
            &ClientSpec::new("a").username("u").password("p"),
            AUTH,
            "[credentials-off]",
        );
        assert!(scene.broker.allows(client, AclAccess::Write, GRANTED));
        scene.broker.sighup();
        assert_eq!(scene.broker.state(client), ClientState::Connected);
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
                assert_eq!(asked[1], acl(client, AclAccess::Write, will, code));
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
fn a_disconnected_client_has_no_rights() {
    alone(|| {
        let mut scene = Scene::quiet();
        let spec = scene.device("a");
        let client = scene.connected(&spec);
        scene.broker.disconnect(client);
        scene.broker.tick();
        // The same bytes at the same address again, but no client has signed in.
        let sub = scene.tenant.device(DEVICE).expect("the device").user_id;
        scene
            .broker
            .reuse(client, &ClientSpec::new("a").username(sub));
        for access in AclAccess::ALL {
            assert!(!scene.broker.allows(client, access, GRANTED), "{access:?}");
        }
        scene.broker.tick();
        assert!(scene.broker.lines_with("[unknown-client]") > 0);
    });
}

#[test]
fn another_client_at_a_reused_address_has_no_rights() {
    alone(|| {
        let mut scene = Scene::quiet();
        let spec = scene.device("a");
        let sub = scene.tenant.device(DEVICE).expect("the device").user_id;
        for with_tick in [true, false] {
            for stranger in [
                ClientSpec::new("b").username(sub.as_str()),
                ClientSpec::new("a").username("auth0|another"),
                ClientSpec::new("a"),
            ] {
                let client = scene.connected(&spec);
                scene.broker.disconnect(client);
                if with_tick {
                    scene.broker.tick();
                }
                scene.broker.reuse(client, &stranger);
                for access in AclAccess::ALL {
                    assert!(!scene.broker.allows(client, access, GRANTED), "{access:?}");
                }
            }
        }
    });
}

#[test]
fn a_reused_address_does_not_authenticate() {
    alone(|| {
        let mut scene = Scene::quiet();
        let spec = scene.device("a").kept();
        let sub = scene.tenant.device(DEVICE).expect("the device").user_id;
        for (again, code, reason) in [
            (
                ClientSpec::new("a").username(sub.as_str()),
                134,
                "[no-password]",
            ),
            (
                ClientSpec::new("a").username(sub.as_str()).password("p"),
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
fn a_recheck_causes_no_tenant_request() {
    alone(|| {
        let mut scene = Scene::live(|tenant| credentials(tenant).instead("timeout", "60"));
        let by_password = login("a").kept();
        let by_password = scene.connected(&by_password);
        let by_token = scene.device("b");
        let by_token = scene.connected(&by_token);
        let offline = scene.device("c").kept();
        let offline = scene.connected(&offline);
        scene.broker.disconnect(offline);
        scene.broker.tick();
        assert_eq!(scene.tenant.count(Endpoint::Token), 1);

        // A recheck that asked the tenant would hang for longer than this test may take.
        scene.tenant.on(Endpoint::Token, Behaviour::Hang);
        scene.broker.asked();
        let started = std::time::Instant::now();
        scene.broker.sighup();
        assert!(started.elapsed() < PATIENCE);
        assert_eq!(
            scene.broker.asked(),
            [
                PluginCall::Reload(SUCCESS),
                PluginCall::Login(by_password, SUCCESS),
                PluginCall::Login(by_token, SUCCESS),
                PluginCall::Login(offline, SUCCESS),
            ]
        );
        assert_eq!(scene.tenant.count(Endpoint::Token), 1);
        for client in [by_password, by_token] {
            assert!(scene.broker.allows(client, AclAccess::Write, GRANTED));
        }
    });
}

#[test]
fn a_restored_session_may_only_receive_until_its_client_signs_in() {
    alone(|| {
        let mut scene = Scene::quiet();
        let sub = scene.tenant.device(DEVICE).expect("the device").user_id;
        let restored = scene.broker.restored("a", &sub, GRANTED);
        scene.broker.sighup();
        assert_eq!(
            scene.broker.asked(),
            [
                PluginCall::Reload(SUCCESS),
                PluginCall::Login(restored, SUCCESS)
            ]
        );
        assert_eq!(scene.broker.state(restored), ClientState::Offline);
        // Messages are queued for it. It has no other rights: they are unknown until its client signs in.
        for access in AclAccess::ALL {
            assert_eq!(
                scene.broker.allows(restored, access, GRANTED),
                access == AclAccess::Read,
                "{access:?}"
            );
        }
        let log = "$SYS/broker/log/N";
        assert!(!scene.broker.allows(restored, AclAccess::Read, log));
        scene.broker.asked();
        let spec = scene.device("a").kept();
        let client = scene.connected(&spec);
        assert_eq!(
            scene.broker.asked(),
            [
                PluginCall::Login(client, SUCCESS),
                PluginCall::Disconnect(restored)
            ]
        );
        scene.broker.tick();
        assert!(scene.broker.allows(client, AclAccess::Write, GRANTED));
    });
}

/// The restored session may be one of a local user.
#[test]
fn a_restored_session_is_left_to_others_where_there_are_others() {
    alone(|| {
        let mut scene = Scene::quiet_with(|options| options.with("on_other", "defer"));
        let restored = scene.broker.restored("a", "somebody", GRANTED);
        for access in AclAccess::ALL {
            // Nobody else is there, so the broker denies it.
            assert!(!scene.broker.allows(restored, access, GRANTED));
        }
        scene.broker.tick();
        assert_eq!(scene.broker.lines_with("[unknown-client]"), 0);
    });
}

#[test]
fn check_retain_source_uses_the_publishers_rights() {
    alone(|| {
        let mut scene = Scene::quiet();
        let spec = scene.device("a").kept();
        let client = scene.connected(&spec);
        for _ in 0..2 {
            assert_eq!(scene.broker.retain_source(client, GRANTED), SUCCESS);
            assert_eq!(scene.broker.retain_source(client, FORBIDDEN), ACL_DENIED);
            // Once connected, once offline.
            if scene.broker.state(client) == ClientState::Connected {
                scene.broker.disconnect(client);
                scene.broker.tick();
            }
        }
        let other = scene
            .broker
            .client(&ClientSpec::new("a").username("auth0|another"));
        assert_eq!(scene.broker.retain_source(other, GRANTED), ACL_DENIED);
        let other = scene.broker.client(&ClientSpec::new("b"));
        assert_eq!(scene.broker.retain_source(other, GRANTED), ACL_DENIED);
        // The check leaves no trace: the session's own client keeps its rights.
        assert!(scene.broker.allows(client, AclAccess::Read, GRANTED));
    });
}

#[test]
fn calls_from_another_thread_are_refused() {
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
        assert!(scene.broker.allows(client, AclAccess::Write, GRANTED));
    });
}
