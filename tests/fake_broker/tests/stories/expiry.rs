//! A token expires while its client is connected.

use fake_broker::{
    ACL_DENIED, AclAccess, BAD_USERNAME_OR_PASSWORD, ClientSpec, ClientState, FakeClient,
    PluginCall, SUCCESS, alone,
};
use testbed::{signing::now, tenant::DEVICE};

use super::{FORBIDDEN, GRANTED, RELEASE, Scene, wait_until_time_is};

/// Seconds: long enough to connect on a busy machine, short enough to wait for.
const SHORT: i64 = 3;

/// Connects a client, and returns when its token has expired and the broker has not ticked since.
fn expired(change: impl FnOnce(ClientSpec) -> ClientSpec) -> (Scene, FakeClient) {
    let mut scene = Scene::quiet_with(|options| options.with("leeway", "0"));
    let token = scene.tenant.mint(DEVICE).lifetime(SHORT).sign();
    let client = scene.connected(&change(ClientSpec::new("a").token(token).will(GRANTED)));
    assert!(scene.broker.allows(client, AclAccess::Write, GRANTED));
    wait_until_time_is(now() + SHORT as u64);
    scene.broker.asked();
    (scene, client)
}

#[test]
fn rights_end_at_exp() {
    alone(|| {
        let (mut scene, client) = expired(|spec| spec);
        for access in [AclAccess::Write, AclAccess::Subscribe, AclAccess::Read] {
            assert_eq!(
                scene.broker.acl(client, access, GRANTED),
                ACL_DENIED,
                "{access:?}"
            );
        }
        // Unsubscribing is always allowed.
        assert_eq!(
            scene.broker.acl(client, AclAccess::Unsubscribe, FORBIDDEN),
            SUCCESS
        );
        scene.broker.tick();
        assert!(scene.broker.lines_with("[rights-expired]") > 0);
    });
}

#[test]
fn rights_end_at_exp_without_a_tick() {
    alone(|| {
        // 2.1 does not tick while its clock is set back, nor, without websockets, while it sleeps. 2.0 ticks
        // in every iteration of its loop, ten times a second and more (src/loop.c).
        if !RELEASE.is_2_1() {
            return;
        }
        let mut scene = Scene::quiet_with(|options| options.with("leeway", "0"));
        let token = scene.tenant.mint(DEVICE).lifetime(SHORT).sign();
        let client = scene.connected(&ClientSpec::new("a").token(token));
        scene.broker.tick();
        assert!(scene.broker.allows(client, AclAccess::Write, GRANTED));
        wait_until_time_is(now() + SHORT as u64);
        assert!(!scene.broker.allows(client, AclAccess::Write, GRANTED));
    });
}

#[test]
fn the_client_is_kicked_once_and_its_will_is_sent() {
    alone(|| {
        let (mut scene, client) = expired(|spec| spec);
        scene
            .broker
            .run_until("it is kicked", |broker| broker.kicks() > 0);
        assert_eq!(
            scene
                .broker
                .lines_with("disconnecting [rights-expired] 'a'"),
            1
        );
        assert_eq!(scene.broker.state(client), ClientState::Gone);
        let will = PluginCall::Acl(client, AclAccess::Write, GRANTED.into(), SUCCESS);
        assert_eq!(scene.broker.asked(), [PluginCall::Disconnect(client), will]);
        for _ in 0..5 {
            scene.broker.tick();
        }
        assert_eq!(scene.broker.kicks(), 1);
    });
}

#[test]
fn an_absent_client_is_not_kicked() {
    alone(|| {
        // 2.0 is damaged by a kick of an offline session, on which the fake broker aborts.
        let mut scene = Scene::quiet_with(|options| options.with("leeway", "0"));
        let token = scene.tenant.mint(DEVICE).lifetime(SHORT).sign();
        let kept = scene.connected(&ClientSpec::new("a").token(token.as_str()).kept());
        let gone = scene.connected(&ClientSpec::new("b").token(token.as_str()));
        let again = scene.connected(&ClientSpec::new("c").token(token));
        scene.broker.disconnect(kept);
        scene.broker.disconnect(gone);
        // This one came back with a new token.
        let spec = scene.device("c");
        let back = scene.connected(&spec);
        assert_eq!(scene.broker.state(again), ClientState::Gone);
        wait_until_time_is(now() + SHORT as u64);
        for _ in 0..5 {
            scene.broker.tick();
        }
        assert_eq!(scene.broker.kicks(), 0);
        assert_eq!(scene.broker.state(back), ClientState::Connected);
        // Messages are still queued for the client whose session the broker keeps.
        assert!(scene.broker.allows(kept, AclAccess::Read, GRANTED));
        // For a client that is not connected this can only be its will, which was granted in time.
        assert!(scene.broker.allows(kept, AclAccess::Write, GRANTED));
    });
}

#[test]
fn a_kept_session_keeps_its_subscriptions_when_it_is_kicked() {
    alone(|| {
        // A kick asks about each subscription of a kept session and removes denied ones. A device that came
        // back with a new token would get "session present" and no messages.
        let (mut scene, client) = expired(|spec| spec.kept().subscribed(GRANTED));
        scene
            .broker
            .run_until("it is kicked", |broker| broker.kicks() > 0);
        assert_eq!(scene.broker.state(client), ClientState::Offline);
        let asked = scene.broker.asked();
        let subscription = PluginCall::Acl(client, AclAccess::Subscribe, GRANTED.into(), SUCCESS);
        assert_eq!(asked.first(), Some(&subscription), "{asked:#?}");
        // And messages that arrive meanwhile are queued.
        scene.broker.tick();
        assert!(scene.broker.allows(client, AclAccess::Read, GRANTED));
    });
}

#[test]
fn sighup_disconnects_a_client_whose_token_has_expired() {
    alone(|| {
        let (mut scene, client) = expired(|spec| spec);
        scene.broker.sighup();
        let code = RELEASE.refusal(BAD_USERNAME_OR_PASSWORD);
        let will = PluginCall::Acl(client, AclAccess::Write, GRANTED.into(), SUCCESS);
        assert_eq!(
            scene.broker.asked(),
            [
                PluginCall::Reload(SUCCESS),
                PluginCall::Login(client, code),
                PluginCall::Disconnect(client),
                will,
            ]
        );
        assert_eq!(scene.broker.lines_with("[token-expired]"), 1);
        scene.broker.tick();
        assert_eq!(scene.broker.kicks(), 0);
    });
}

#[test]
fn sighup_never_drops_an_offline_session() {
    alone(|| {
        let (mut scene, client) = expired(|spec| spec.kept());
        scene.broker.disconnect(client);
        scene.broker.tick();
        scene.broker.asked();
        scene.broker.sighup();
        let expected = [
            PluginCall::Reload(SUCCESS),
            PluginCall::Login(client, SUCCESS),
        ];
        assert_eq!(scene.broker.asked(), expected);
        assert_eq!(scene.broker.state(client), ClientState::Offline);
    });
}

#[test]
fn an_expired_token_is_refused() {
    alone(|| {
        let (mut scene, _) = expired(|spec| spec);
        let token = scene.tenant.mint(DEVICE).lifetime(0).sign();
        let spec = ClientSpec::new("b").token(token);
        scene.refused(&spec, BAD_USERNAME_OR_PASSWORD, "[token-expired]");
    });
}
