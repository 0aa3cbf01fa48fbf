//! All stories with Mosquitto 2.0.11.

mod stories;

use fake_broker::{FakeBroker, Release};

const RELEASE: Release = Release::V2_0_11;

fn broker() -> FakeBroker {
    FakeBroker::load(RELEASE)
}
