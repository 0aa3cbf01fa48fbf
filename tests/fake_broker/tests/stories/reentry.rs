//! A broker that calls back during a call. The test's deadline detects a deadlock, the fake broker an endless
//! recursion.

use fake_broker::{AclAccess, ClientSpec, PluginCall, SUCCESS, alone};
use serde_json::json;
use testbed::tenant::{DEVICE, Tenant};

use super::{FORBIDDEN, GRANTED, RELEASE, Scene, broker, offline, scratch};

const LOG: &str = "$SYS/broker/log/#";

#[test]
fn log_dest_topic_does_not_recurse() {
    alone(|| {
        let mut scene = Scene::quiet();
        let token = scene
            .tenant
            .mint(DEVICE)
            .claim("topics", json!([LOG]))
            .sign();
        let reader = scene.connected(&ClientSpec::new("reader").token(token).subscribed(LOG));
        // It subscribed earlier and has no right to it now: each line causes one more refusal.
        let outsider = scene.device("outsider").subscribed(LOG);
        let outsider = scene.connected(&outsider);
        scene.broker.log_to_topic();
        scene.broker.asked();

        assert!(!scene.broker.allows(reader, AclAccess::Write, FORBIDDEN));
        scene.broker.tick();
        let asked = scene.broker.asked();
        let may_read = |client, code| {
            PluginCall::Acl(client, AclAccess::Read, "$SYS/broker/log/N".into(), code)
        };
        assert!(asked.contains(&may_read(reader, SUCCESS)), "{asked:#?}");
        assert!(asked.contains(&may_read(outsider, 12)), "{asked:#?}");

        // The outsider's refusal is a log line too, which it may not read either. Then it ends.
        for _ in 0..5 {
            scene.broker.tick();
        }
        scene.broker.forget_log();
        scene.broker.tick();
        assert_eq!(scene.broker.log(), []);
        assert!(
            scene.broker.log_depth() <= 2,
            "{}",
            scene.broker.log_depth()
        );
    });
}

#[test]
fn log_dest_topic_does_not_recurse_in_a_login_or_a_reload() {
    alone(|| {
        let mut scene = Scene::quiet();
        scene.broker.log_to_topic();
        let outsider = scene.device("outsider").subscribed(LOG);
        scene.connected(&outsider);
        let (_, code) = scene.broker.connect_new(&ClientSpec::new("nobody"));
        assert_ne!(code, SUCCESS);
        assert_eq!(scene.broker.lines_with("[no-password]"), 1);
        assert_eq!(scene.broker.reload(), SUCCESS);
        scene.broker.sighup();
        assert!(
            scene.broker.log_depth() <= 2,
            "{}",
            scene.broker.log_depth()
        );
    });
}

#[test]
fn log_dest_topic_works_during_init() {
    alone(|| {
        let (tenant, scratch, mut broker) = (Tenant::start(), scratch(), broker());
        // 2.1 logs each registration, so checks come before init has returned.
        let reader = broker.restored("reader", "somebody", LOG);
        broker.log_to_topic();
        broker.init(&offline(&tenant, &scratch)).expect("it starts");
        assert!(!broker.allows(reader, AclAccess::Read, "$SYS/broker/log/N"));
        if RELEASE.is_2_1() {
            let asked = broker.asked();
            assert!(asked.len() > 1, "nothing was asked during init: {asked:?}");
        }
    });
}

#[test]
fn a_kick_checks_the_will() {
    alone(|| {
        let mut scene = Scene::quiet_with(|options| options.with("leeway", "0"));
        let token = scene.tenant.mint(DEVICE).lifetime(2).sign();
        let spec = ClientSpec::new("a")
            .token(token)
            .will(GRANTED)
            .subscribed(LOG);
        let client = scene.connected(&spec);
        scene.broker.log_to_topic();
        scene.broker.asked();
        scene
            .broker
            .run_until("it is kicked", |broker| broker.kicks() == 1);
        let asked = scene.broker.asked();
        let gone = asked
            .iter()
            .position(|asked| *asked == PluginCall::Disconnect(client));
        let will = PluginCall::Acl(client, AclAccess::Write, GRANTED.into(), SUCCESS);
        let will = asked.iter().position(|asked| *asked == will);
        assert!(gone.is_some() && gone < will, "{asked:#?}");
    });
}

#[test]
fn log_lines_are_written_without_ticks() {
    alone(|| {
        let (tenant, scratch, mut broker) = (Tenant::start(), scratch(), broker());
        broker
            .init_for(1, &offline(&tenant, &scratch))
            .expect("it starts");
        let spec = ClientSpec::new("a").token(tenant.token(DEVICE)).listener(1);
        let (client, code) = broker.connect_new(&spec);
        assert_eq!(code, SUCCESS);
        // A delivery writes no log line: the broker is in the middle of it.
        assert!(!broker.allows(client, AclAccess::Read, FORBIDDEN));
        assert_eq!(broker.lines_with("[not-granted]"), 0);
        // The client's own packet does, if there was no tick.
        assert!(!broker.allows(client, AclAccess::Write, FORBIDDEN));
        assert_eq!(broker.lines_with("[not-granted]"), 2, "{:#?}", broker.log());
        broker.tick();
        assert_eq!(broker.lines_with("[not-granted]"), 2, "{:#?}", broker.log());
    });
}
