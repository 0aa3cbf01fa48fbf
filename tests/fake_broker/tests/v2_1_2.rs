//! All stories with Mosquitto 2.1.2.

mod stories;

use std::ffi::c_int;

use fake_broker::{FakeBroker, Release};

const RELEASE: Release = Release::V2_1_2;

#[link(name = "fake_2_1", kind = "static")]
// SAFETY: the declaration is that of fake_2_1.c; the function touches nothing.
unsafe extern "C" {
    safe fn fake_2_1_is_linked() -> c_int;
}

fn broker() -> FakeBroker {
    // Links the file that makes this program a 2.1 broker.
    assert_eq!(fake_2_1_is_linked(), 1);
    FakeBroker::load(RELEASE)
}
