//! All the stories, told to Mosquitto 2.0.11.

mod stories;

use fake_broker::{Broker, Release};

const RELEASE: Release = Release::V2_0_11;

fn broker() -> Broker {
    Broker::load(RELEASE)
}
