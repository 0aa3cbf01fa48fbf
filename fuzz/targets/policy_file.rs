//! Runs [`fuzz::policy_file`] with libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    fuzz::policy_file(input);
});
