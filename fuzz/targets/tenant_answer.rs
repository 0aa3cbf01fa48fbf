//! Runs [`fuzz::tenant_answer`] with libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    fuzz::tenant_answer(input);
});
