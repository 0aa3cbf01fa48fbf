//! Runs [`fuzz::rules`] with libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    fuzz::rules(input);
});
