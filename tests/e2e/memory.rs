//! The memory that connected devices use, and that all of it is freed: a small `make memory` that counts
//! blocks.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::json;
use testbed::{
    broker::{Mosquitto, Version},
    clients::{Protocol, raw::ConnectPacket},
    crowd::{Crowd, FREED_WITHIN},
    heap::Heap,
    measure::{allow_open_files, in_parallel},
    tenant::{DEVICE, Tenant},
};

use crate::helpers::*;

const DEVICES: usize = 2000;
const WAVES: usize = 2;

/// Returns CONNECTs with the same twenty topics and nothing else in common. Every second one is MQTT 5, but
/// not for 2.0: that release does not tell when the will of such a client can no longer be sent, so the
/// plugin waits for it.
fn connects(version: Version, tenant: &Tenant) -> Vec<ConnectPacket> {
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

/// Returns the bytes per device while a wave is connected.
fn cost(heap: &Heap, broker: &Mosquitto, connects: &[ConnectPacket]) -> (i64, Crowd) {
    let before = heap.now().bytes;
    let crowd = Crowd::connect_in_turn(broker.port(), connects.iter().cloned());
    let crowd = crowd.unwrap_or_else(|refused| panic!("{refused:?}\n{}", broker.log()));
    ((heap.now().bytes - before) / connects.len() as i64, crowd)
}

/// A broker with the plugin, after its waves.
struct Left {
    broker: Mosquitto,
    heap: Heap,
    empty: i64,
    since: Instant,
}

fn after_waves(version: Version, tenant: &Tenant) -> Left {
    let connects = connects(version, tenant);
    let heap = Heap::new().unwrap();
    let plain = heap.watch(Mosquitto::builder(version).quiet().allow_anonymous(true));
    let plain = plain.start().unwrap();
    let (plain_cost, crowd) = cost(&heap, &plain, &connects[..DEVICES]);
    drop((crowd, plain));

    let heap = Heap::new().unwrap();
    let broker = heap.watch(builder(version, &PluginOptions::tokens(tenant)).quiet());
    let broker = broker.start().unwrap();
    broker.expect_log("signing keys were fetched");
    // What the first client allocates once is not part of a device's cost.
    let first = Crowd::connect_in_turn(broker.port(), connects[..1].iter().cloned());
    first.unwrap().leave();
    let empty = heap.now().bytes;
    for wave in connects.chunks(DEVICES) {
        let (with_plugin, crowd) = cost(&heap, &broker, wave);
        let added = with_plugin - plain_cost;
        // The second wave connects while tokens of the first are still cached, which must not cost more.
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

/// A device costs at most 1 KiB over a broker without plugin. After two waves of different devices have
/// connected and disconnected, nothing of them is left.
///
/// One test covers all brokers in parallel, because each of them caches tokens for a minute.
#[test]
fn a_device_costs_at_most_1_kib_and_all_of_it_is_freed() {
    allow_open_files(4 * DEVICES as u64).unwrap();
    let tenant = tenant();
    // Less than one block for each device, however small. This allows for what is kept on purpose of each
    // recent client ID: hashes of 8 bytes in bounded tables with room to grow (pending::client_ids,
    // limits::known_callers).
    let nothing = 48 * (WAVES * DEVICES) as i64;
    let all = Version::ALL.map(|version| after_waves(version, &tenant));
    for left in all {
        let bytes = loop {
            let bytes = left.heap.now().bytes - left.empty;
            if bytes < nothing || left.since.elapsed() > FREED_WITHIN + PATIENCE {
                break bytes;
            }
            thread::sleep(Duration::from_millis(100));
        };
        let version = left.broker.version();
        assert!(bytes < nothing, "{version}: {bytes} bytes are left");
    }
}
