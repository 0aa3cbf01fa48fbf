#!/usr/bin/env bash
#
# Runs the targets with libFuzzer: fuzz/run.sh [--runs N] [--seconds N] [TARGET...]
#
# Without TARGET it runs all of them. Each stops after so many runs or seconds, whichever comes first; a minute if
# neither is said. New inputs are kept in target/fuzz/corpus, and an input
# that makes a target fail in target/fuzz/failures: add it to fuzz/seeds/TARGET together with the fix.
# It uses only stable parts of the compiler and does not need a nightly one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf 'fuzz: %s\n' "$*"; }
usage() { sed -n '3,/^set /{/^set /!s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; exit 2; }

limits=()
targets=()
while (($#)); do
  case $1 in
    --runs) limits+=("-runs=${2:?}"); shift 2 ;;
    --seconds) limits+=("-max_total_time=${2:?}"); shift 2 ;;
    -*) usage ;;
    *) targets+=("$1"); shift ;;
  esac
done
((${#limits[@]})) || limits=(-max_total_time=60)
if ((${#targets[@]} == 0)); then
  for folder in fuzz/seeds/*/; do
    targets+=("$(basename "$folder")")
  done
fi

host=$(rustc -vV | sed -n 's/^host: //p')
export CARGO_TARGET_DIR=$PWD/target/fuzz
# These flags tell libFuzzer which branches an input takes and what it is compared with. libFuzzer's functions
# are in the targets; the plugin's .so, which is built as well, does not need them.
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cdebug-assertions -Ccodegen-units=1
  -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
  -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares
  -Clink-arg=-Wl,--warn-unresolved-symbols"
mkdir -p "$CARGO_TARGET_DIR"
say "building (the first time takes two minutes)"
log=$CARGO_TARGET_DIR/build.log
# With --target the flags apply to the targets only, and not to build scripts.
cargo build --locked --quiet --release --target "$host" --config 'profile.release.lto="off"' \
  --package fuzz --features libfuzzer --bins >"$log" 2>&1 || {
  tail -n 30 "$log" >&2
  exit 1
}
for target in "${targets[@]}"; do
  [[ -d fuzz/seeds/$target ]] || { say "there is no target $target"; usage; }
  found=$CARGO_TARGET_DIR/corpus/$target failures=$CARGO_TARGET_DIR/failures/$target/
  mkdir -p "$found" "$failures"
  dictionary=()
  [[ ! -e fuzz/$target.dict ]] || dictionary=("-dict=fuzz/$target.dict")
  "$CARGO_TARGET_DIR/$host/release/fuzz-$target" "${limits[@]}" "${dictionary[@]}" -max_len=4096 -timeout=10 -seed=1 \
    "-artifact_prefix=$failures" "$found" "fuzz/seeds/$target" >"$log" 2>&1 || {
    tail -n 60 "$log" >&2
    say "$target: FAILED; the input is in $failures"
    exit 1
  }
  covered=$(grep -oE 'cov: [0-9]+' "$log" | tail -n 1 || true)
  kept=$(find "$found" -type f | wc -l)
  say "$target: $(grep -E '^Done' "$log" || tail -n 1 "$log"); $covered; $kept inputs worth keeping"
done
