//! Under which client ids a login may wait. While it does, 2.1 hangs up on everybody else who uses that client
//! id, and does not ask about them.

use fake_broker::{AUTH_DELAYED, Client, Options, SERVER_BUSY, SUCCESS, Spec, UNKNOWN, alone};
use testbed::tenant::{
    Behaviour, CLIENT_ID, CLIENT_SECRET, CONNECTION, DEVICE, Endpoint, Gate, PASSWORD, Tenant,
};

use super::{GRANTED, PATIENCE, RELEASE, Scene};

/// The broker itself never waits.
fn options(tenant: &Tenant) -> Options {
    super::options(tenant)
        .with("client_id", CLIENT_ID)
        .with("client_secret", CLIENT_SECRET)
        .with("connection", CONNECTION)
        .with("login_wait", "0")
        .with("login_cache", "0")
}

/// A stranger with a password of his own making.
fn junk(id: &str, number: usize) -> Spec {
    let spec = Spec::new(id).username(format!("nobody {number} of {id}"));
    spec.password("junk").address("198.51.100.7")
}

/// What a login is told that has to wait: nothing yet, or to come back.
fn not_yet() -> i32 {
    if RELEASE.is_2_1() {
        AUTH_DELAYED
    } else {
        come_back()
    }
}

fn come_back() -> i32 {
    RELEASE.refusal(SERVER_BUSY)
}

/// The tenant holds its answers.
fn held(scene: &Scene) -> Gate {
    let gate = Gate::new();
    scene
        .tenant
        .on(Endpoint::Token, Behaviour::Gate(gate.clone()));
    gate
}

/// Strangers come with junk, and the device gets in on its first try, while the tenant answers nobody.
#[track_caller]
fn nobody_keeps_it_out(scene: &mut Scene, device: &Spec, id: &str) {
    let gate = held(scene);
    for number in 0..3 {
        let (_, code) = scene.broker.knock(&junk(id, 100 + number));
        assert_eq!(code, come_back(), "{:#?}", scene.broker.log());
        let (_, code) = scene.broker.knock(device);
        assert_eq!(code, SUCCESS, "{:#?}", scene.broker.log());
    }
    assert!(
        gate.wait_for(3, PATIENCE),
        "the tenant is asked all the same"
    );
    gate.open();
    scene.broker.tick();
}

#[test]
fn no_login_waits_under_a_client_id_that_is_in_use() {
    alone(|| {
        let mut scene = Scene::live(options);
        for device in [scene.device("a"), scene.device("b").kept()] {
            scene.connected(&device);
        }
        // One that came in before the broker was restarted.
        let sub = scene.tenant.device(DEVICE).expect("the device").user_id;
        scene.broker.restored("c", &sub, GRANTED);
        let (a, b) = (scene.device("a"), scene.device("b").kept());
        let c = scene.device("c").kept();
        for (device, id) in [(c, "c"), (a, "a"), (b, "b")] {
            nobody_keeps_it_out(&mut scene, &device, id);
        }
        assert_eq!(
            scene.broker.lines_with("this client id has a session"),
            usize::from(RELEASE.is_2_1())
        );
    });
}

#[test]
fn no_login_waits_under_a_client_id_that_was_used_lately() {
    alone(|| {
        let mut scene = Scene::live(options);
        let device = scene.device("a");
        let client = scene.connected(&device);
        scene.broker.disconnect(client);
        scene.broker.tick();
        let gate = held(&scene);
        let (_, code) = scene.broker.knock(&junk("a", 1));
        assert_eq!(code, come_back(), "{:#?}", scene.broker.log());
        assert_eq!(scene.broker.knock(&device).1, SUCCESS);
        let line = "somebody used this client id within the last day";
        assert_eq!(scene.broker.lines_with(line), usize::from(RELEASE.is_2_1()));
        gate.open();
    });
}

#[test]
fn a_login_that_waited_in_vain_is_the_last_one_that_waits_there() {
    alone(|| {
        let mut scene = Scene::live(options);
        let device = scene.device("a");
        let gate = held(&scene);
        let (first, code) = scene.broker.knock(&junk("a", 1));
        assert_eq!(code, not_yet());
        assert!(gate.wait_for(1, PATIENCE));
        gate.open();
        if RELEASE.is_2_1() {
            scene.broker.run_until("it is refused", |broker| {
                broker.state(first) == fake_broker::State::Gone
            });
        }
        let gate = held(&scene);
        let (_, code) = scene.broker.knock(&junk("a", 2));
        assert_eq!(code, come_back(), "{:#?}", scene.broker.log());
        assert_eq!(scene.broker.knock(&device).1, SUCCESS);
        gate.open();
    });
}

/// Hanging up before the answer comes gives a stranger no second chance.
#[test]
fn a_login_that_hung_up_is_the_last_one_that_waits_there() {
    alone(|| {
        let mut scene = Scene::live(options);
        let device = scene.device("a");
        let gate = held(&scene);
        let (first, code) = scene.broker.knock(&junk("a", 1));
        assert_eq!(code, not_yet());
        assert!(gate.wait_for(1, PATIENCE));
        if code == AUTH_DELAYED {
            scene.broker.hang_up(first);
        }
        let (_, code) = scene.broker.knock(&junk("a", 2));
        assert_eq!(code, come_back(), "{:#?}", scene.broker.log());
        // Nothing is left of the first by which this one would be taken for kept out.
        scene.broker.tick();
        assert_eq!(scene.broker.lines_with("[client-id-pending]"), 0);
        assert_eq!(scene.broker.knock(&device).1, SUCCESS);
        gate.open();
    });
}

/// A device that is turned away so is let in when it comes back, and the tenant is asked once.
#[test]
fn who_may_not_wait_is_let_in_when_it_comes_back() {
    alone(|| {
        let mut scene = Scene::live(options);
        let by_token = scene.device("a");
        let client = scene.connected(&by_token);
        scene.broker.disconnect(client);
        scene.broker.tick();
        let by_password = Spec::new("a").username(DEVICE).password(PASSWORD);
        let gate = held(&scene);
        let (_, code) = scene.broker.knock(&by_password);
        assert_eq!(code, come_back(), "{:#?}", scene.broker.log());
        assert!(gate.wait_for(1, PATIENCE));
        let (_, code) = scene.broker.knock(&by_password);
        assert_eq!(code, come_back(), "it is still being asked about");
        gate.open();
        scene
            .broker
            .run_until("it is in", |broker| broker.knock(&by_password).1 == SUCCESS);
        assert_eq!(scene.tenant.count(Endpoint::Token), 1);
    });
}

/// What the one chance costs, and that the log says so: once a minute, however many are turned away.
#[test]
fn whom_a_login_keeps_out_is_in_the_log() {
    alone(|| {
        if !RELEASE.is_2_1() {
            return;
        }
        let mut scene = Scene::live(options);
        let device = scene.device("a").address("192.0.2.9");
        let gate = held(&scene);
        let (stranger, code) = scene.broker.knock(&junk("a", 1));
        assert_eq!(code, AUTH_DELAYED);
        for _ in 0..3 {
            assert_eq!(scene.broker.knock(&device).1, UNKNOWN);
        }
        let code = |broker: &mut fake_broker::Broker, client: Client| broker.state(client);
        scene.broker.tick();
        let lines = scene.broker.log();
        let told: Vec<_> = lines
            .iter()
            .filter(|line| line.text.contains("[client-id-pending]"))
            .collect();
        assert_eq!(told.len(), 1, "{lines:#?}");
        for part in ["'a'", "192.0.2.9", "198.51.100.7", "; cure: "] {
            assert!(told[0].text.contains(part), "{}", told[0].text);
        }
        gate.open();
        scene.broker.run_until("it is refused", |broker| {
            code(broker, stranger) == fake_broker::State::Gone
        });
        assert_eq!(scene.broker.knock(&device).1, SUCCESS);
        assert_eq!(
            scene.broker.lines_with("[client-id-pending]"),
            1,
            "nobody else was kept out"
        );
    });
}
