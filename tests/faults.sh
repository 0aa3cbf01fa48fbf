#!/usr/bin/env bash
#
# Plays every fault of the table in docs/evidence.md on each of the three brokers, and prints which of them passed.
#
# The table names the tests; this script only runs them. It fails unless every cell is `ok`, or `once` for a test that
# passed and has no broker of its own. It needs a quarter of an hour, of which building is the most.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Each row: the fault, and the tests as `file::name`.
awk -F'|' '/^\| fault /{on = 1; next} /^\|---/{next} !/^\|/{on = 0} on{print $2 "|" $3}' docs/evidence.md >"$work/rows"
[[ -s $work/rows ]] || { echo "faults: docs/evidence.md has no table of faults" >&2; exit 1; }
grep -o '`[^`]*\.rs::[a-z0-9_]*`' "$work/rows" | tr -d '`' >"$work/tests"

# tests/e2e/keys.rs::name is keys::name there; crates/auth/src/a/tests.rs::name is name in the crate `auth`.
mapfile -t e2e < <(sed -n 's|^tests/e2e/\(.*\)\.rs::\(.*\)|\1::\2|p' "$work/tests" | sort -u)
mapfile -t units < <(sed -n 's|^crates/auth/src/.*\.rs::\(.*\)|\1|p' "$work/tests" | sort -u)
code=0
cargo test --locked --test e2e -- "${e2e[@]}" >"$work/log" 2>&1 || code=$?
cargo test --locked --package auth --lib -- "${units[@]}" >>"$work/log" 2>&1 || code=$?

printf '%-62s %-8s %-8s %-8s\n' test 2.0.11 2.0.21 2.1.2
outcome() { # NAME : what cargo says about this test: ok, FAILED, ignored, or nothing
  sed -nE "s/^test (.*::)?$1 \.\.\. ([A-Za-z]+).*/\2/p" "$work/log" | head -n 1
}
bad=0
while read -r test; do
  name=${test#*::}
  cells=()
  alone=$(outcome "$name")
  for broker in v2_0_11 v2_0_21 v2_1_2; do
    if [[ $alone == ok ]]; then
      cells+=(once)
      continue
    fi
    cell=${alone:-$(outcome "$name::$broker")}
    [[ $cell == ok ]] || bad=1
    cells+=("${cell:-missing}")
  done
  printf '%-62s %-8s %-8s %-8s\n' "$name" "${cells[@]}"
done < <(sort -u "$work/tests")
if ((code || bad)); then
  tail -n 60 "$work/log" >&2
  echo "faults: a test did not pass, or did not run (above)" >&2
  exit 1
fi
echo "faults: nothing that was granted was lost, and nobody was let in who should not be"
