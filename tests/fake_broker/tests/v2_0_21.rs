//! All stories with Mosquitto 2.0.21.

mod stories;

use fake_broker::{FakeBroker, Release};

const RELEASE: Release = Release::V2_0_21;

fn broker() -> FakeBroker {
    FakeBroker::load(RELEASE)
}
