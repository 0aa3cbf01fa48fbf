//! Runs [`fuzz::state_file`] with libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    fuzz::state_file(input);
});
