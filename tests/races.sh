#!/usr/bin/env bash
#
# Runs the plugin under ThreadSanitizer: tests/races.sh [--if-possible] [TEST ARGUMENTS]
#
# Builds the plugin and std in target/races, so that the sanitizer sees every lock, and runs the stories of
# tests/fake_broker. This takes two minutes the first time, and half a minute afterwards.
# Std's source comes with rustup (component rust-src, added if it is missing). Parts of this are not stable in
# Rust yet, so the compiler is told to allow them; the plugin itself uses none of them. Where a distribution's
# Rust has no source, --if-possible prints that and exits with success.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf 'races: %s\n' "$*"; }
die() { printf 'races: %s\n' "$@" >&2; exit 1; }

without_source() { # WHY
  [[ $if_possible ]] || die "$1"
  say "LEFT OUT: $1"
  exit 0
}

if_possible=
if [[ ${1:-} == --if-possible ]]; then
  if_possible=1
  shift
fi
if [[ ! -e $(rustc --print sysroot)/lib/rustlib/src/rust/library/Cargo.lock ]]; then
  command -v rustup >/dev/null || without_source "Rust's own source is missing, and rustup, which would bring it"
  say "adding Rust's own source"
  rustup component add rust-src || without_source "Rust's own source cannot be had; it is rustup's component rust-src"
fi

target=$(rustc -vV | sed -n 's/^host: //p')
export RUSTC_BOOTSTRAP=1
export CARGO_TARGET_DIR=$PWD/target/races

# First check that the sanitizer finds a race at all.
mkdir -p "$CARGO_TARGET_DIR"
rustc --edition 2024 -Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer \
  --crate-name planted -o "$CARGO_TARGET_DIR/planted" - <<'RUST' || die "this Rust has no ThreadSanitizer for $target"
static mut SHARED: u32 = 0;

fn main() {
    let other = std::thread::spawn(|| unsafe { SHARED += 1 });
    unsafe { SHARED += 1 };
    other.join().unwrap();
}
RUST
report=$("$CARGO_TARGET_DIR/planted" 2>&1 || true)
[[ $report == *"WARNING: ThreadSanitizer: data race"* ]] || die "a race that was planted is not seen:" "$report"

# The sanitizer's functions are in the program that loads the plugin. So the program has to export them, and
# undefined symbols in the plugin must not be an error.
RUSTFLAGS="-Zsanitizer=thread -Clink-arg=-Wl,--export-dynamic-symbol=__tsan_* -Clink-arg=-Wl,--warn-unresolved-symbols"
export RUSTFLAGS
options=(--locked --quiet -Zbuild-std --target "$target")
say "building (the first time takes two minutes)"
log=$CARGO_TARGET_DIR/build.log
cargo build "${options[@]}" --package mosquitto-auth0 --lib >"$log" 2>&1 ||
  die "the plugin does not build:" "$(tail -n 30 "$log")"
export MOSQUITTO_AUTH0_SO=$CARGO_TARGET_DIR/$target/debug/libmosquitto_auth0.so
# Without -q, awk reads to the end and nm gets no SIGPIPE.
nm -D --undefined-only "$MOSQUITTO_AUTH0_SO" | awk '/__tsan_write/ { seen = 1 } END { exit !seen }' ||
  die "$MOSQUITTO_AUTH0_SO was built without the sanitizer"

# The stories in which the plugin panics on purpose build a plugin of their own.
cargo test "${options[@]}" --package fake-broker --test v2_1_2 -- --skip stories::panics "$@"
say "none seen"
