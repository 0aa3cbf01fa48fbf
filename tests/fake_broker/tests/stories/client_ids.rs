//! The client IDs under which a login may wait. While it waits, 2.1 refuses every other client with that ID
//! without asking the plugin.

use fake_broker::{
    AUTH_DELAYED, ClientSpec, FakeClient, InitOptions, SERVER_BUSY, SUCCESS, UNKNOWN, alone,
};
use testbed::tenant::{
    Behaviour, CLIENT_ID, CLIENT_SECRET, CONNECTION, DEVICE, Endpoint, ResponseGate, Tenant,
};

use super::{GRANTED, RELEASE, Scene, login, patience};

/// Options with which the broker itself never waits.
fn options(tenant: &Tenant) -> InitOptions {
    super::options(tenant)
        .with("client_id", CLIENT_ID)
        .with("client_secret", CLIENT_SECRET)
        .with("connection", CONNECTION)
        .with("login_wait", "0")
        .with("login_cache", "0")
}

/// Returns a client with an unknown user and password.
fn junk(id: &str, number: usize) -> ClientSpec {
    let spec = ClientSpec::new(id).username(format!("nobody {number} of {id}"));
    spec.password("junk").address("198.51.100.7")
}

/// Returns the code for a login that has to wait: delayed, or to come back.
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

/// Makes the tenant hold its responses.
fn held(scene: &Scene) -> ResponseGate {
    let gate = ResponseGate::new();
    scene
        .tenant
        .on(Endpoint::Token, Behaviour::Gate(gate.clone()));
    gate
}

/// Connects a client, which must be refused for now.
#[track_caller]
fn assert_must_come_back(scene: &mut Scene, spec: &ClientSpec) {
    let (_, code) = scene.broker.start_connect(spec);
    assert_eq!(code, come_back(), "{:#?}", scene.broker.log());
}

/// Connects a client, which must be admitted at once.
#[track_caller]
fn assert_admitted(scene: &mut Scene, spec: &ClientSpec) {
    let (_, code) = scene.broker.start_connect(spec);
    assert_eq!(code, SUCCESS, "{:#?}", scene.broker.log());
}

/// Starts with a junk login under the client ID `a`, which the tenant holds.
fn waiting_login() -> (Scene, FakeClient, ResponseGate) {
    let mut scene = Scene::live(options);
    let gate = held(&scene);
    let (first, code) = scene.broker.start_connect(&junk("a", 1));
    assert_eq!(code, not_yet());
    assert!(gate.wait_for(1, patience()));
    (scene, first, gate)
}

/// Checks that the device is admitted on its first try after junk from others, while the tenant does not
/// respond.
#[track_caller]
fn assert_admitted_despite_junk(scene: &mut Scene, device: &ClientSpec, id: &str) {
    let gate = held(scene);
    for number in 0..3 {
        // No login waits while ticks are late, which they are on a slow machine.
        scene.broker.tick();
        assert_must_come_back(scene, &junk(id, 100 + number));
        assert_admitted(scene, device);
    }
    assert!(
        gate.wait_for(3, patience()),
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
        // A session from before the broker's restart.
        let sub = scene.tenant.device(DEVICE).expect("the device").user_id;
        scene.broker.restored("c", &sub, GRANTED);
        let (a, b) = (scene.device("a"), scene.device("b").kept());
        let c = scene.device("c").kept();
        for (device, id) in [(c, "c"), (a, "a"), (b, "b")] {
            assert_admitted_despite_junk(&mut scene, &device, id);
        }
        assert_eq!(
            scene.broker.lines_with("this client ID has a session"),
            usize::from(RELEASE.is_2_1())
        );
    });
}

#[test]
fn no_login_waits_under_a_recently_used_client_id() {
    alone(|| {
        let mut scene = Scene::live(options);
        let device = scene.device("a");
        let client = scene.connected(&device);
        scene.broker.disconnect(client);
        scene.broker.tick();
        let gate = held(&scene);
        assert_must_come_back(&mut scene, &junk("a", 1));
        assert_admitted(&mut scene, &device);
        let line = "somebody used this client ID within the last day";
        assert_eq!(scene.broker.lines_with(line), usize::from(RELEASE.is_2_1()));
        gate.open();
    });
}

#[test]
fn after_a_refusal_no_login_waits_under_the_client_id() {
    alone(|| {
        let (mut scene, first, gate) = waiting_login();
        let device = scene.device("a");
        gate.open();
        if RELEASE.is_2_1() {
            scene.broker.run_until("it is refused", |broker| {
                broker.state(first) == fake_broker::ClientState::Gone
            });
        }
        let gate = held(&scene);
        assert_must_come_back(&mut scene, &junk("a", 2));
        assert_admitted(&mut scene, &device);
        gate.open();
    });
}

/// Closing the connection before the answer comes gives an attacker no second chance.
#[test]
fn after_a_hang_up_no_login_waits_under_the_client_id() {
    alone(|| {
        let (mut scene, first, gate) = waiting_login();
        let device = scene.device("a");
        if RELEASE.is_2_1() {
            scene.broker.hang_up(first);
        }
        assert_must_come_back(&mut scene, &junk("a", 2));
        // The first login leaves nothing behind that would make this one count as kept out.
        scene.broker.tick();
        assert_eq!(scene.broker.lines_with("[client-id-pending]"), 0);
        assert_admitted(&mut scene, &device);
        gate.open();
    });
}

/// A device that is refused for this reason is admitted when it comes back, with one request to the tenant.
#[test]
fn a_login_that_may_not_wait_is_admitted_on_retry() {
    alone(|| {
        let mut scene = Scene::live(options);
        let by_token = scene.device("a");
        let client = scene.connected(&by_token);
        scene.broker.disconnect(client);
        scene.broker.tick();
        let by_password = login("a");
        let gate = held(&scene);
        assert_must_come_back(&mut scene, &by_password);
        assert!(gate.wait_for(1, patience()));
        let (_, code) = scene.broker.start_connect(&by_password);
        assert_eq!(code, come_back(), "it is still being asked about");
        gate.open();
        scene.broker.run_until("it is in", |broker| {
            broker.start_connect(&by_password).1 == SUCCESS
        });
        assert_eq!(scene.tenant.count(Endpoint::Token), 1);
    });
}

/// The one chance keeps others out meanwhile. The log says so once a minute, however many are refused.
#[test]
fn clients_kept_out_by_a_waiting_login_are_logged() {
    alone(|| {
        if !RELEASE.is_2_1() {
            return;
        }
        let mut scene = Scene::live(options);
        let device = scene.device("a").address("192.0.2.9");
        let gate = held(&scene);
        let (attacker, code) = scene.broker.start_connect(&junk("a", 1));
        assert_eq!(code, AUTH_DELAYED);
        for _ in 0..3 {
            assert_eq!(scene.broker.start_connect(&device).1, UNKNOWN);
        }
        scene.broker.tick();
        let lines = scene.broker.log();
        let told: Vec<_> = lines
            .iter()
            .filter(|line| line.text.contains("[client-id-pending]"))
            .collect();
        assert_eq!(told.len(), 1, "{lines:#?}");
        for part in ["'a'", "192.0.2.9", "198.51.100.7", "; fix: "] {
            assert!(told[0].text.contains(part), "{}", told[0].text);
        }
        gate.open();
        scene.broker.run_until("it is refused", |broker| {
            broker.state(attacker) == fake_broker::ClientState::Gone
        });
        assert_admitted(&mut scene, &device);
        assert_eq!(
            scene.broker.lines_with("[client-id-pending]"),
            1,
            "nobody else was kept out"
        );
    });
}
