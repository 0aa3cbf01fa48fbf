//! A broker that calls back while it is called. A deadlock is seen by the test's deadline, a
//! recursion without bound by the fake broker.

use fake_broker::{Access, Asked, SUCCESS, Spec, alone};
use serde_json::json;
use testbed::tenant::{DEVICE, Tenant};

use super::{FORBIDDEN, GRANTED, RELEASE, Scene, broker, offline, scratch};

const LOG: &str = "$SYS/broker/log/#";

#[test]
fn the_log_as_topics() {
    alone(|| {
        let mut scene = Scene::quiet();
        let token = scene
            .tenant
            .mint(DEVICE)
            .claim("topics", json!([LOG]))
            .sign();
        let reader = scene.connected(&Spec::new("reader").token(token).subscribed(LOG));
        // Subscribed once, and has no right to it today: each line is one more refusal.
        let outsider = scene.device("outsider").subscribed(LOG);
        let outsider = scene.connected(&outsider);
        scene.broker.log_to_topic();
        scene.broker.asked();

        assert!(!scene.broker.allows(reader, Access::Write, FORBIDDEN));
        scene.broker.tick();
        let asked = scene.broker.asked();
        let may_read =
            |client, code| Asked::Acl(client, Access::Read, "$SYS/broker/log/N".into(), code);
        assert!(asked.contains(&may_read(reader, SUCCESS)), "{asked:#?}");
        assert!(asked.contains(&may_read(outsider, 12)), "{asked:#?}");

        // The outsider's refusal is a line too, which it may not read either; and then it ends.
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
fn the_log_as_topics_during_a_login_and_a_reload() {
    alone(|| {
        let mut scene = Scene::quiet();
        scene.broker.log_to_topic();
        let outsider = scene.device("outsider").subscribed(LOG);
        scene.connected(&outsider);
        let (_, code) = scene.broker.connect_new(&Spec::new("nobody"));
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
fn the_log_as_topics_from_the_very_start() {
    alone(|| {
        let (tenant, scratch, mut broker) = (Tenant::start(), scratch(), broker());
        // 2.1 logs each registration, so questions come before init is through.
        let reader = broker.restored("reader", "somebody", LOG);
        broker.log_to_topic();
        broker.init(&offline(&tenant, &scratch)).expect("it starts");
        assert!(!broker.allows(reader, Access::Read, "$SYS/broker/log/N"));
        if RELEASE.is_2_1() {
            let asked = broker.asked();
            assert!(asked.len() > 1, "nothing was asked during init: {asked:?}");
        }
    });
}

#[test]
fn a_kick_asks_about_the_will_of_the_kicked() {
    alone(|| {
        let mut scene = Scene::quiet_with(|options| options.with("leeway", "0"));
        let token = scene.tenant.mint(DEVICE).lifetime(2).sign();
        let spec = Spec::new("a").token(token).will(GRANTED).subscribed(LOG);
        let client = scene.connected(&spec);
        scene.broker.log_to_topic();
        scene.broker.asked();
        scene
            .broker
            .run_until("it is kicked", |broker| broker.kicks() == 1);
        let asked = scene.broker.asked();
        let gone = asked
            .iter()
            .position(|asked| *asked == Asked::Disconnect(client));
        let will = Asked::Acl(client, Access::Write, GRANTED.into(), SUCCESS);
        let will = asked.iter().position(|asked| *asked == will);
        assert!(gone.is_some() && gone < will, "{asked:#?}");
    });
}

#[test]
fn a_broker_that_never_ticks_still_gets_its_lines() {
    alone(|| {
        let (tenant, scratch, mut broker) = (Tenant::start(), scratch(), broker());
        broker
            .init_for(1, &offline(&tenant, &scratch))
            .expect("it starts");
        let spec = Spec::new("a").token(tenant.token(DEVICE)).listener(1);
        let (client, code) = broker.connect_new(&spec);
        assert_eq!(code, SUCCESS);
        // A delivery writes nothing: the broker is in the middle of it.
        assert!(!broker.allows(client, Access::Read, FORBIDDEN));
        assert_eq!(broker.lines_with("[not-granted]"), 0);
        // The client's own packet does, where no tick came.
        assert!(!broker.allows(client, Access::Write, FORBIDDEN));
        assert_eq!(broker.lines_with("[not-granted]"), 2, "{:#?}", broker.log());
        broker.tick();
        assert_eq!(broker.lines_with("[not-granted]"), 2, "{:#?}", broker.log());
    });
}
