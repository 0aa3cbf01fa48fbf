//! Metrics: retained messages under `$SYS`, and `metrics_file`.

use std::{
    fs,
    thread::sleep,
    time::{Duration, Instant},
};

use fake_broker::{AclAccess, ClientSpec, FakeBroker, SUCCESS, alone, plugin_threads};
use testbed::tenant::{DEVICE, Tenant};

use super::{FORBIDDEN, GRANTED, Scene, broker, offline, patience, scratch};

fn metric(broker: &FakeBroker, topic: &str) -> Option<String> {
    broker.retained(&format!("$SYS/broker/auth0/{topic}"))
}

/// Ticks until a metric has this value.
fn wait_for(broker: &mut FakeBroker, topic: &str, value: &str) {
    let until = Instant::now() + patience();
    while metric(broker, topic).as_deref() != Some(value) {
        assert!(
            Instant::now() < until,
            "{topic}: {:?}",
            metric(broker, topic)
        );
        broker.tick();
        sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_tick_publishes_what_has_changed() {
    alone(|| {
        let mut scene = Scene::quiet_with(|options| options.with("metrics_interval", "1"));
        wait_for(&mut scene.broker, "sessions/connected", "0");
        assert_eq!(metric(&scene.broker, "logins/admitted"), None, "not yet");
        let spec = scene.device("a");
        let client = scene.connected(&spec);
        assert!(scene.broker.allows(client, AclAccess::Write, GRANTED));
        assert!(!scene.broker.allows(client, AclAccess::Write, FORBIDDEN));
        let (_, code) = scene.broker.connect_new(&ClientSpec::new("nobody"));
        assert_ne!(code, SUCCESS);
        wait_for(&mut scene.broker, "sessions/connected", "1");
        for (topic, value) in [
            ("logins/admitted", "1"),
            ("logins/refused/no-password", "1"),
            ("decisions/allowed", "1"),
            ("decisions/refused/not-granted", "1"),
            ("config/generation", "1"),
        ] {
            assert_eq!(
                metric(&scene.broker, topic).as_deref(),
                Some(value),
                "{topic}"
            );
        }
        // Nothing happens, so nothing is published.
        let published = scene.broker.retained_published();
        let until = Instant::now() + Duration::from_millis(2500);
        while Instant::now() < until {
            scene.broker.tick();
            sleep(Duration::from_millis(20));
        }
        assert_eq!(scene.broker.retained_published(), published);
        scene.broker.disconnect(client);
        wait_for(&mut scene.broker, "sessions/connected", "0");
    });
}

/// 2.0.11 with `per_listener_settings true`.
#[test]
fn without_ticks_a_connect_publishes_them() {
    alone(|| {
        let (tenant, scratch, mut broker) = (Tenant::start(), scratch(), broker());
        broker
            .init_for(1, &offline(&tenant, &scratch))
            .expect("it starts");
        let spec = ClientSpec::new("a").token(tenant.token(DEVICE)).listener(1);
        let (_, code) = broker.connect_new(&spec);
        assert_eq!(code, SUCCESS);
        assert_eq!(metric(&broker, "logins/admitted").as_deref(), Some("1"));
        assert_eq!(metric(&broker, "sessions/connected").as_deref(), Some("1"));
    });
}

#[test]
fn the_file_is_there_while_the_broker_runs() {
    alone(|| {
        let (tenant, scratch, mut broker) = (Tenant::start(), scratch(), broker());
        let path = scratch.path().join("auth0.prom");
        let options = offline(&tenant, &scratch).with("metrics_file", path.to_str().unwrap());
        broker.init(&options).expect("it starts");
        let until = Instant::now() + patience();
        while !path.exists() {
            assert!(Instant::now() < until, "{:?}", broker.log());
            broker.tick();
            sleep(Duration::from_millis(20));
        }
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            text.contains("\nmosquitto_auth0_config_generation 1\n"),
            "{text}"
        );
        broker.cleanup();
        assert!(!path.exists());
        assert_eq!(plugin_threads(), 0);
    });
}

#[test]
fn an_interval_of_zero_publishes_nothing() {
    alone(|| {
        let mut scene = Scene::quiet_with(|options| options.with("metrics_interval", "0"));
        let spec = scene.device("a");
        scene.connected(&spec);
        scene.broker.tick();
        assert_eq!(scene.broker.retained_published(), 0);
    });
}
