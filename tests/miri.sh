#!/usr/bin/env bash
#
# Interprets the tests of the pure crates with miri, which finds undefined behaviour: tests/miri.sh [TEST ARGUMENTS]
#
# The plugin's own unsafe code calls C, which miri cannot interpret; AddressSanitizer, ThreadSanitizer and valgrind see
# that. Here it is about what the pure crates make the standard library and their other libraries do.
# miri needs a nightly compiler: rustup toolchain install nightly --component miri
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cargo +nightly miri --version >/dev/null 2>&1 || {
  printf 'miri: there is none; fix: %s\n' "rustup toolchain install nightly --component miri" >&2
  exit 1
}
export CARGO_TARGET_DIR=$PWD/target/miri
# Time zones come from files.
export MIRIFLAGS="-Zmiri-disable-isolation ${MIRIFLAGS:-}"
# An interpreter is a thousand times slower.
export PROPTEST_CASES=${PROPTEST_CASES:-4}
cargo +nightly miri test --locked --package input --package acl --lib -- "$@"
