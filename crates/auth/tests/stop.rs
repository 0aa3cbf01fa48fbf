//! A stop of the broker. It has a process of its own, because no thread is waited for after one that was left behind.

mod common;

use std::{
    fs,
    time::{Duration, Instant},
};

use auth::{clock, engine::Step};
use serde_json::json;
use testbed::tenant::{Behaviour, Device, Endpoint, Tenant};

use common::{connect, instance_of};

/// How long a stop waits at least for a thread that writes a file.
const TO_WRITE: Duration = Duration::from_millis(500);

/// A tenant that does not respond says nothing about the disk.
#[test]
fn sessions_are_written_although_the_tenant_does_not_respond() {
    let tenant = Tenant::start();
    tenant.add_device(Device::new("device", "password").topics(json!(["a/#"])));
    let folder = tempfile::tempdir().unwrap();
    let mut instance = instance_of(&tenant, &[("state_dir", folder.path().to_str().unwrap())]);
    let token = tenant.token("device");
    let connect = connect("durable", &token);
    let Step::Admit(admission) = instance.authenticate(&connect, clock::now()) else {
        panic!("the keys are here");
    };
    let admitted = instance.common.admit(admission);
    instance.common.confirm(admitted);

    let fetches = tenant.count(Endpoint::Jwks);
    tenant.on(Endpoint::Jwks, Behaviour::Hang);
    instance.engine.keys().refresh_soon();
    assert!(tenant.wait_for(Endpoint::Jwks, fetches + 1, Duration::from_secs(20)));
    // As where two instances stop one after the other.
    instance.engine.stop();
    let began = Instant::now();
    instance.common.stop();
    // A busy machine may need longer than a stop waits.
    let is_saved = fs::metadata(folder.path().join("sessions")).is_ok_and(|file| file.len() > 0);
    assert!(is_saved || began.elapsed() >= TO_WRITE);
}
