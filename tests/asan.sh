#!/usr/bin/env bash
#
# Runs the end-to-end tests with AddressSanitizer and LeakSanitizer: tests/asan.sh [TEST ARGUMENTS]
#
# Plugin, std, the C code in the plugin and the brokers are all built with the sanitizer (in target/asan, and by
# tests/sanitized.sh). A broker that misuses memory ends with a report, and one that stops reports what it leaks. The
# script fails if a test fails, if anybody misuses memory, or if the plugin leaks some. (A broker that stops over its
# configuration leaks some itself.)
#
# All tests take about forty minutes. Std's source comes with rustup (component rust-src). Parts of this are not stable
# in Rust yet, so the compiler is told to allow them; the plugin itself uses none of them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf 'asan: %s\n' "$*"; }
die() { printf 'asan: %s\n' "$@" >&2; exit 1; }

[[ -e $(rustc --print sysroot)/lib/rustlib/src/rust/library/Cargo.lock ]] ||
  rustup component add rust-src || die "Rust's own source is missing; it is rustup's component rust-src"
tests/sanitized.sh

target=$(rustc -vV | sed -n 's/^host: //p')
work=$PWD/target/asan
mkdir -p "$work"

# The brokers with the sanitizer under the names of the released ones, whose clients they borrow.
rm -rf "$work/brokers" "$work/reports"
mkdir -p "$work/brokers" "$work/reports"
for release in 2.0.11 2.0.21 2.1.2; do
  mkdir "$work/brokers/$release"
  for file in "target/brokers/$release"/*; do
    ln -s "$PWD/$file" "$work/brokers/$release/"
  done
  ln -sf "$PWD/target/brokers/asan-$release/mosquitto" "$work/brokers/$release/mosquitto"
done

build() { # COMMAND...
  RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$work "$@"
}

# The sanitizer's functions are in the broker that loads the plugin, so they are undefined in the plugin.
rustflags=(-Zsanitizer=address -Clink-arg=-Wl,--warn-unresolved-symbols)
say "building the plugin (the first time takes three minutes)"
log=$work/build.log
RUSTFLAGS="${rustflags[*]}" TARGET_CFLAGS="-fsanitize=address -fno-omit-frame-pointer" \
  build cargo build --locked --quiet -Zbuild-std --target "$target" --package mosquitto-auth0 --lib >"$log" 2>&1 ||
  die "the plugin does not build:" "$(tail -n 30 "$log")"
plugin=$work/$target/debug/libmosquitto_auth0.so
# Without -q, awk reads to the end and nm gets no SIGPIPE.
nm -D --undefined-only "$plugin" | awk '/__asan_report_store/ { seen = 1 } END { exit !seen }' ||
  die "$plugin was built without the sanitizer"

# Each line of a report names the file of the program: the broker, or the plugin. Some tests load a library before the
# sanitizer's.
format="stack_trace_format='    #%n %m in %f %S'"
options=$format:verify_asan_link_order=0
leaks=suppressions=$PWD/crates/testbed/src/broker/known_leaks:print_suppressions=0:exitcode=0

bad_reports() { # FILE...: those that are not about leaks of the broker alone
  awk -v plugin="$plugin" '
    /ERROR: AddressSanitizer/ || index($0, plugin) || /unknown module/ { bad[FILENAME] = 1 }
    END { for (file in bad) print file }
  ' "$@"
}

# First check that faults of a plugin are seen at all, in each broker.
build rustc --edition 2024 --crate-type cdylib "${rustflags[@]}" -Cunsafe-allow-abi-mismatch=sanitizer \
  --crate-name planted -o "$work/planted.so" - 2>"$log" <<'RUST' || die "$(tail -n 30 "$log")"
/// The broker calls this first. It does what the variable PLANTED says, and refuses to be loaded.
#[unsafe(no_mangle)]
extern "C" fn mosquitto_plugin_version(_count: i32, _versions: *const i32) -> i32 {
    let bytes = std::hint::black_box(vec![1_u8; 8]);
    match std::env::var("PLANTED").as_deref() {
        Ok("overflow") => -i32::from(unsafe { *std::hint::black_box(bytes.as_ptr().add(8)) }),
        _ => {
            std::mem::forget(bytes);
            -1
        }
    }
}
RUST
printf 'listener 0 %s/planted.sock\nplugin %s/planted.so\n' "$work" "$work" >"$work/planted.conf"
for release in 2.0.11 2.0.21 2.1.2; do
  for planted in overflow leak; do
    ASAN_OPTIONS=$options LSAN_OPTIONS=$leaks PLANTED=$planted \
      "$work/brokers/$release/mosquitto" -c "$work/planted.conf" >"$log" 2>&1 || true
    [[ $(plugin=$work/planted.so bad_reports "$log") ]] ||
      die "$release does not report the planted $planted:" "$(cat "$log")"
  done
done

say "running the tests"
code=0
# These cannot run so: `sanitized` plays what does misuse memory (`make test` runs it), three bring an allocator of
# their own, `dump` asks the C library to overwrite what is freed, dynamic-security is played on the machine's own
# broker, and the brokers were built without an HTTP API and, those of 2.0, without websockets.
others=()
for name in sanitized:: memory:: generations_leave_nothing_behind a_gigabyte freed_memory_is_overwritten \
  dynamic_security the_http_api forwarded_header trusted_proxys_header; do
  others+=(--skip "$name")
done
ASAN_OPTIONS=log_path=$work/reports/report:$options LSAN_OPTIONS=$leaks \
  MOSQUITTO_BROKERS=$work/brokers MOSQUITTO_AUTH0_SO=$plugin STOP_WITH_SIGTERM=1 \
  cargo test --locked --test e2e -- "${others[@]}" "$@" || code=$?
shopt -s nullglob
reports=("$work/reports"/*)
((${#reports[@]} == 0)) || mapfile -t reports < <(bad_reports "${reports[@]}")
((${#reports[@]} == 0)) || die "${#reports[@]} reports, in target/asan/reports; the first one:" \
  "$(head -n 60 "${reports[0]}")"
((code == 0)) || die "there is no report, but tests failed"
say "none seen"
