//! A token ends while its client is connected.

use fake_broker::{
    ACL_DENIED, Access, Asked, BAD_USERNAME_OR_PASSWORD, Client, SUCCESS, Spec, State, alone,
};
use testbed::{signing::now, tenant::DEVICE};

use super::{FORBIDDEN, GRANTED, RELEASE, Scene, wait_until_time_is};

/// Long enough to connect with on a busy machine, short enough to wait for.
const SHORT: i64 = 3;

/// A client whose token has ended by now, and which the broker has not yet noticed.
fn expired(change: impl FnOnce(Spec) -> Spec) -> (Scene, Client) {
    let mut scene = Scene::quiet_with(|options| options.with("leeway", "0"));
    let token = scene.tenant.mint(DEVICE).lifetime(SHORT).sign();
    let client = scene.connected(&change(Spec::new("a").token(token).will(GRANTED)));
    assert!(scene.broker.allows(client, Access::Write, GRANTED));
    wait_until_time_is(now() + SHORT as u64);
    scene.broker.asked();
    (scene, client)
}

#[test]
fn its_rights_end_at_that_second() {
    alone(|| {
        let (mut scene, client) = expired(|spec| spec);
        for access in [Access::Write, Access::Subscribe, Access::Read] {
            assert_eq!(
                scene.broker.acl(client, access, GRANTED),
                ACL_DENIED,
                "{access:?}"
            );
        }
        // To want less is always allowed.
        assert_eq!(
            scene.broker.acl(client, Access::Unsubscribe, FORBIDDEN),
            SUCCESS
        );
        scene.broker.tick();
        assert!(scene.broker.lines_with("[rights-expired]") > 0);
    });
}

#[test]
fn its_rights_end_though_the_broker_has_not_ticked_since() {
    alone(|| {
        // 2.1 does not tick while its clock has been set back, nor, without websockets, while it sleeps. 2.0
        // ticks in every round of its loop, ten times a second and more (src/loop.c).
        if !RELEASE.is_2_1() {
            return;
        }
        let mut scene = Scene::quiet_with(|options| options.with("leeway", "0"));
        let token = scene.tenant.mint(DEVICE).lifetime(SHORT).sign();
        let client = scene.connected(&Spec::new("a").token(token));
        scene.broker.tick();
        assert!(scene.broker.allows(client, Access::Write, GRANTED));
        wait_until_time_is(now() + SHORT as u64);
        assert!(!scene.broker.allows(client, Access::Write, GRANTED));
    });
}

#[test]
fn it_is_kicked_once_and_its_will_goes_out() {
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
        assert_eq!(scene.broker.state(client), State::Gone);
        let will = Asked::Acl(client, Access::Write, GRANTED.into(), SUCCESS);
        assert_eq!(scene.broker.asked(), [Asked::Disconnect(client), will]);
        for _ in 0..5 {
            scene.broker.tick();
        }
        assert_eq!(scene.broker.kicks(), 1);
    });
}

#[test]
fn one_that_left_before_is_not_kicked() {
    alone(|| {
        // 2.0 is damaged by a kick of an offline session, which the fake broker does not forgive.
        let mut scene = Scene::quiet_with(|options| options.with("leeway", "0"));
        let token = scene.tenant.mint(DEVICE).lifetime(SHORT).sign();
        let kept = scene.connected(&Spec::new("a").token(token.as_str()).kept());
        let gone = scene.connected(&Spec::new("b").token(token.as_str()));
        let again = scene.connected(&Spec::new("c").token(token));
        scene.broker.disconnect(kept);
        scene.broker.disconnect(gone);
        // This one came back with a new token.
        let spec = scene.device("c");
        let back = scene.connected(&spec);
        assert_eq!(scene.broker.state(again), State::Gone);
        wait_until_time_is(now() + SHORT as u64);
        for _ in 0..5 {
            scene.broker.tick();
        }
        assert_eq!(scene.broker.kicks(), 0);
        assert_eq!(scene.broker.state(back), State::Connected);
        // Messages are still queued for the one that the broker keeps.
        assert!(scene.broker.allows(kept, Access::Read, GRANTED));
        // Of one that is not connected it can only be the will, which was granted in time.
        assert!(scene.broker.allows(kept, Access::Write, GRANTED));
    });
}

#[test]
fn a_kept_session_keeps_its_subscriptions_when_it_is_kicked() {
    alone(|| {
        // A kick asks about each subscription of a kept session and removes what is denied. A
        // device that comes back with a new token is told "session present" and would be deaf.
        let (mut scene, client) = expired(|spec| spec.kept().subscribed(GRANTED));
        scene
            .broker
            .run_until("it is kicked", |broker| broker.kicks() > 0);
        assert_eq!(scene.broker.state(client), State::Offline);
        let asked = scene.broker.asked();
        let subscription = Asked::Acl(client, Access::Subscribe, GRANTED.into(), SUCCESS);
        assert_eq!(asked.first(), Some(&subscription), "{asked:#?}");
        // And what comes for it meanwhile is queued.
        scene.broker.tick();
        assert!(scene.broker.allows(client, Access::Read, GRANTED));
    });
}

#[test]
fn sighup_comes_before_the_tick_that_would_have_noticed() {
    alone(|| {
        let (mut scene, client) = expired(|spec| spec);
        scene.broker.sighup();
        let code = RELEASE.refusal(BAD_USERNAME_OR_PASSWORD);
        let will = Asked::Acl(client, Access::Write, GRANTED.into(), SUCCESS);
        assert_eq!(
            scene.broker.asked(),
            [
                Asked::Reload(SUCCESS),
                Asked::Login(client, code),
                Asked::Disconnect(client),
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
        let expected = [Asked::Reload(SUCCESS), Asked::Login(client, SUCCESS)];
        assert_eq!(scene.broker.asked(), expected);
        assert_eq!(scene.broker.state(client), State::Offline);
    });
}

#[test]
fn an_expired_token_lets_nobody_in() {
    alone(|| {
        let (mut scene, _) = expired(|spec| spec);
        let token = scene.tenant.mint(DEVICE).lifetime(0).sign();
        let spec = Spec::new("b").token(token);
        scene.refused(&spec, BAD_USERNAME_OR_PASSWORD, "[token-expired]");
    });
}
