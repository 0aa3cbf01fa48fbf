//! All the stories, told to Mosquitto 2.0.21.

mod stories;

use fake_broker::{Broker, Release};

const RELEASE: Release = Release::V2_0_21;

fn broker() -> Broker {
    Broker::load(RELEASE)
}
