//! Many clients at once, so that the plugin's threads are busy while the broker continues. `tests/races.sh`
//! runs this to find data races.

use std::time::Duration;

use fake_broker::{AclAccess, ClientSpec, SUCCESS, alone};
use serde_json::json;
use testbed::tenant::{Behaviour, CLIENT_ID, CLIENT_SECRET, CONNECTION, Device, Endpoint};

use super::{GRANTED, Scene, options};

/// Forty devices sign in, are refused, and retry until they are admitted, while the broker checks access and
/// fetches the keys again. Then the broker stops with more logins pending.
#[test]
fn forty_devices_are_admitted_by_a_busy_broker() {
    alone(|| {
        let mut scene = Scene::live(|tenant| {
            options(tenant)
                .with("client_id", CLIENT_ID)
                .with("client_secret", CLIENT_SECRET)
                .with("connection", CONNECTION)
                .with("login_wait", "0")
                // A sanitizer on a busy machine is slow, and a login that times out would be asked about again.
                .instead("timeout", "60")
        });
        let spec = |i: usize| {
            let spec = ClientSpec::new(format!("c{i}"));
            spec.username(format!("d{i}")).password("pass").v5()
        };
        for i in 0..80 {
            let device = Device::new(&format!("d{i}"), "pass");
            scene.tenant.add_device(device.topics(json!([GRANTED])));
        }
        let inside = scene.device("inside");
        let inside = scene.connected(&inside);
        let mut outside: Vec<_> = (0..40)
            .map(|i| (scene.broker.client(&spec(i)), spec(i)))
            .collect();
        scene.broker.run_until("all are in", |broker| {
            outside.retain(|(client, spec)| {
                let refused = broker.connect(*client) != SUCCESS;
                if refused {
                    broker.reuse(*client, spec);
                }
                refused
            });
            broker.reload();
            broker.forget_log();
            assert!(broker.allows(inside, AclAccess::Write, GRANTED));
            outside.is_empty()
        });
        assert_eq!(scene.tenant.count(Endpoint::Token), 40, "each once");
        let soon = Duration::from_millis(200);
        scene.tenant.on(Endpoint::Token, Behaviour::Delay(soon));
        for spec in (40..80).map(spec) {
            assert_ne!(scene.broker.connect_new(&spec).1, SUCCESS);
        }
        scene.broker.cleanup();
    });
}
