//! What connected devices cost, and that nothing is left of them: a small `make memory`, by the block.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::json;
use testbed::{
    broker::{Broker, Version},
    clients::{Protocol, raw::Connect},
    crowd::{Crowd, FORGOTTEN_WITHIN},
    heap::Heap,
    measure::{allow_open_files, in_parallel},
    tenant::{DEVICE, Tenant},
};

use crate::setting::*;

const DEVICES: usize = 2000;
const WAVES: usize = 2;

/// All with the same twenty topics, and otherwise with nothing in common. Every second one speaks MQTT 5, but
/// for 2.0, which does not say when the will of such a client can no longer come: it is waited for there.
fn connects(version: Version, tenant: &Tenant) -> Vec<Connect> {
    let topics: Vec<String> = (0..20).map(|i| format!("greenhouse/{i}/+")).collect();
    tenant.change_device(DEVICE, |device| device.topics = Some(json!(topics)));
    in_parallel(WAVES * DEVICES, |i| {
        let token = tenant
            .mint(DEVICE)
            .claim("sub", format!("auth0|{i:024x}"))
            .sign();
        let protocol = match version.can_delay_logins() && i % 2 == 0 {
            true => Protocol::V5,
            false => Protocol::V311,
        };
        token_connect(protocol, &format!("device-{i:06}"), &token)
    })
}

/// Bytes per device while a wave is in.
fn cost(heap: &Heap, broker: &Broker, connects: &[Connect]) -> (i64, Crowd) {
    let before = heap.now().bytes;
    let crowd = Crowd::enter(broker.port(), connects.iter().cloned());
    let crowd = crowd.unwrap_or_else(|refused| panic!("{refused:?}\n{}", broker.log()));
    ((heap.now().bytes - before) / connects.len() as i64, crowd)
}

/// A broker with the plugin, after its waves.
struct Left {
    broker: Broker,
    heap: Heap,
    empty: i64,
    since: Instant,
}

fn after_waves(version: Version, tenant: &Tenant) -> Left {
    let connects = connects(version, tenant);
    let heap = Heap::new().unwrap();
    let plain = heap.watch(Broker::builder(version).quiet().allow_anonymous(true));
    let plain = plain.start().unwrap();
    let (plain_cost, crowd) = cost(&heap, &plain, &connects[..DEVICES]);
    drop((crowd, plain));

    let heap = Heap::new().unwrap();
    let broker = heap.watch(builder(version, &Options::tokens(tenant)).quiet());
    let broker = broker.start().unwrap();
    broker.expect_log("signing keys are here");
    // What is only there from the first client on is no device's.
    let first = Crowd::enter(broker.port(), connects[..1].iter().cloned());
    first.unwrap().leave();
    let empty = heap.now().bytes;
    for wave in connects.chunks(DEVICES) {
        let (with_plugin, crowd) = cost(&heap, &broker, wave);
        let added = with_plugin - plain_cost;
        // The second wave comes while tokens of the first are still remembered, which costs no more.
        assert!(added <= 1024, "{version}: {added} bytes each");
        crowd.leave();
    }
    Left {
        broker,
        heap,
        empty,
        since: Instant::now(),
    }
}

/// A device costs at most 1 KiB over a broker without plugin. When two waves have come and gone, each
/// of devices of its own, nothing is left of them.
///
/// One test for all brokers, because each of them remembers tokens for a minute: they do it together.
#[test]
fn a_device_costs_little_and_leaves_nothing() {
    allow_open_files(4 * DEVICES as u64).unwrap();
    let tenant = tenant();
    // Not one block of each device, be it the smallest, over what is remembered on purpose of each client ID that
    // came in lately: hashes of 8 bytes in tables with room to grow (logins::names, logins::known), which are bounded.
    let nothing = 48 * (WAVES * DEVICES) as i64;
    let all = Version::ALL.map(|version| after_waves(version, &tenant));
    for left in all {
        let bytes = loop {
            let bytes = left.heap.now().bytes - left.empty;
            if bytes < nothing || left.since.elapsed() > FORGOTTEN_WITHIN + PATIENCE {
                break bytes;
            }
            thread::sleep(Duration::from_millis(100));
        };
        let version = left.broker.version();
        assert!(bytes < nothing, "{version}: {bytes} bytes are left");
    }
}
