#!/usr/bin/env bash
#
# Plays the stories of tests/fake_broker under valgrind: tests/valgrind.sh [BROKER] [STORY...]
#
# BROKER is v2_0_11, v2_0_21 or v2_1_2, by default each of them, and STORY a part of a test's name, such as `order::`.
# Valgrind sees what no other tool here sees: values that nobody wrote, in the plugin, in its libraries and in the fake
# broker. All stories of one broker take a quarter of an hour.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf 'valgrind: %s\n' "$*"; }
die() { printf 'valgrind: %s\n' "$@" >&2; exit 1; }

brokers=(v2_0_11 v2_0_21 v2_1_2)
if [[ ${1:-} == v2_* ]]; then
  brokers=("$1")
  shift
fi
command -v valgrind >/dev/null || die "valgrind is not installed; fix: tests/dependencies.sh measure"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# First check that it sees a fault at all, in a child process as well.
cat >"$work/planted.c" <<'C'
#include <stdlib.h>
int main(void) { char *a = malloc(1); return a[0] ? 3 : 4; }
C
cc -g -o "$work/planted" "$work/planted.c"
options=(--quiet --trace-children=yes --error-exitcode=97 --leak-check=no --fair-sched=yes)
code=0
valgrind "${options[@]}" sh -c "$work/planted" >/dev/null 2>&1 || code=$?
((code == 97)) || die "a fault that was planted is not seen"

say "building"
cargo build --locked --quiet --lib
for broker in "${brokers[@]}"; do
  program=$(cargo test --locked --quiet --package fake-broker --test "$broker" --no-run --message-format json |
    sed -n 's/.*"executable":"\([^"]*\/'"$broker"'-[^"]*\)".*/\1/p' | tail -n 1)
  [[ -x $program ]] || die "the stories of $broker were not built"
  # Otherwise each story would look whether the plugin is up to date, and valgrind at the compiler.
  export MOSQUITTO_AUTH0_SO=${program%/deps/*}/libmosquitto_auth0.so
  [[ -e $MOSQUITTO_AUTH0_SO ]] || die "$MOSQUITTO_AUTH0_SO was not built"
  say "playing the stories of $broker"
  # A story is a process of its own, and fails if valgrind gives it this exit code. The stories of panics allow
  # a second, which valgrind, thirty times slower, cannot meet.
  FAKE_BROKER_SLOW=30 valgrind "${options[@]}" "$program" "$@" --test-threads=2 --skip stories::panics
done
say "none seen"
