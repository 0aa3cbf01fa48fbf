#!/usr/bin/env bash
#
# Loads the musl files into Mosquitto 2.0 and 2.1 as Alpine's C library and OpenSSL run it, and uses them there over
# TLS with tokens and passwords, with a tenant on this machine:
#
#     packaging/test-musl.sh [ARCH...]  x86_64, aarch64 or both (the default); the other one than this machine's
#                                       runs under qemu-user
#
# What is missing is built: packaging/build.sh, packaging/musl-brokers.sh, tests/brokers.sh (for its clients).
#
# The client secret lies where Docker puts it: alone on a read-only mount, with mode 0444. The mount is made in a
# namespace of the broker's own, by root or by whoever may make namespaces for users.
#
# Needs: openssl, unshare (util-linux), and for the other architecture the package qemu-user-static.
set -euo pipefail
umask 022

say() { printf 'test-musl: %s\n' "$*"; }
die() { printf 'test-musl: %s\n' "$@" >&2; exit 1; }

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=packaging/targets.sh
source packaging/targets.sh
# shellcheck source=packaging/checks.sh
source packaging/checks.sh
ARCHES=("$@")
[[ $# != 0 ]] || ARCHES=(x86_64 aarch64)
CLIENTS=$PWD/target/brokers/2.1.2
[[ -x $CLIENTS/mosquitto_pub ]] || NEAREST=1 tests/brokers.sh
for arch in "${ARCHES[@]}"; do
  [[ -e target/packages/$arch-unknown-linux-musl/$PLUGIN ]] || packaging/build.sh "$arch-unknown-linux-musl"
  packaging/musl-brokers.sh "$arch"
done
cargo build --locked --quiet -p testbed --bin tenant
TENANT=${CARGO_TARGET_DIR:-target}/debug/tenant

WORK=$(mktemp -d "$PWD/target/packages/test.XXXXXX")
LOG=$WORK/log BROKER_PID=''
finish() {
  local status=$?
  trap - EXIT
  stop "$BROKER_PID"
  stop "$TENANT_PID"
  [[ $FAILED != 0 || $status = 0 ]] || FAILED=1 # it ended before its time
  [[ $FAILED = 0 || ! -s $LOG ]] || { say "the end of the broker's log:"; tail -n 40 "$LOG"; }
  rm -rf "$WORK"
  printf '%d passed, %d failed\n' "$PASSED" "$FAILED"
  [[ $FAILED = 0 ]] || exit 1
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# ---- running what is for musl ----

machine() { # ARCH : sets RUN, by which a program of that architecture is run
  local folder=$PWD/target/packages/musl/$1 emulator=()
  if [[ $1 != "$(uname -m)" ]]; then
    emulator=("$(command -v "qemu-$1-static" || command -v "qemu-$1")") ||
      die "qemu-$1-static is missing: install the package qemu-user-static"
  fi
  RUN=("${emulator[@]}" "$folder/ld-musl.so.1" --library-path "$folder/lib")
}

# The mount point, beside the file that is mounted there.
SECRET=$WORK/mounted-secret
NAMESPACE=(unshare --mount)
[[ $EUID = 0 ]] || NAMESPACE+=(--map-root-user)
# shellcheck disable=SC2016 # the inner shell's variables
MOUNTED='mount --bind "$0" "$1" && mount -o remount,bind,ro "$1" && shift && exec "$@"'
with_secret_mounted() { # COMMAND... : becomes it
  exec "${NAMESPACE[@]}" sh -c "$MOUNTED" "$WORK/host-secret" "$SECRET" "$@"
}

broker_is_up() { grep -q 'mosquitto version .* running' "$LOG" 2>/dev/null; }
broker_is_up_or_gone() { broker_is_up || is_gone "$BROKER_PID"; }

start_broker() { # ARCH SERIES [WRAPPER]
  local folder=$PWD/target/packages/musl/$1 plugin=$PWD/target/packages/$1-unknown-linux-musl/$PLUGIN
  for _ in 1 2 3; do
    PORT=$(free_port)
    # The example for Docker, with the paths and the tenant of this test.
    sed -e "s|^listener .*|listener $PORT 127.0.0.1|" -e "s|/usr/lib/mosquitto_auth0.so|$plugin|" \
      -e "s|/mosquitto/data|$WORK/data|" -e "s|/mosquitto/certs|$WORK|" -e "s|/run/secrets/auth0|$SECRET|" \
      -e "s|/run/secrets|$WORK|" -e "s|YOUR-TENANT.eu.auth0.com|$(its domain)|" \
      -e "s|YOUR-CLIENT-ID|$(its client_id)|" -e "s|https://mqtt.example/|$(its audience)|" \
      examples/docker/mosquitto.conf >"$WORK/mosquitto.conf"
    # Here nobody has a user mosquitto, and the tenant is trusted by its own authority. An emulated processor takes
    # seconds for a handshake, so the broker waits for the tenant as long as it takes.
    printf '%s\n' "plugin_opt_ca_file $(its ca_file)" 'plugin_opt_topics_claim topics' 'plugin_opt_timeout 20' \
      'plugin_opt_login_wait 20' 'plugin_opt_stall_budget 100' 'user root' >>"$WORK/mosquitto.conf"
    rm -f "$LOG"
    ${3:+"$3"} "${RUN[@]}" "$folder/mosquitto-$2" -c "$WORK/mosquitto.conf" >"$LOG" 2>&1 &
    BROKER_PID=$!
    within 60 broker_is_up_or_gone || true
    if broker_is_up; then return 0; fi
    stop_broker
    grep -qs 'Address already in use' "$LOG" || break # else somebody was quicker
  done
  cat "$LOG"
  return 1
}
stop_broker() {
  stop "$BROKER_PID"
  BROKER_PID=''
}
ends_by_itself() { # when it is asked to
  kill "$BROKER_PID"
  within 20 is_gone "$BROKER_PID"
}
logs() { within 20 grep -qF -- "$1" "$LOG"; }

client() { # PROGRAM ARGUMENT...
  timeout 60 "$CLIENTS/$1" -h localhost -p "$PORT" -V mqttv5 --cafile "$WORK/server.pem" "${@:2}"
}
tool_runs() { "${RUN[@]}" "$PWD/target/packages/$1-unknown-linux-musl/$TOOL" --version | grep -q 'Brokers: Mosquitto'; }

# ---- the checks ----

start_tenant
make_certificate
d1=(-u JWT -P "$(token d1)")
forged=$(token d1)
forged=${forged%??????????}AAAAAAAAAA
cat "$(its client_secret_file)" >"$WORK/host-secret"
chmod 444 "$WORK/host-secret"

for arch in "${ARCHES[@]}"; do
  machine "$arch"
  check "$arch: the tool runs" tool_runs "$arch"
  for series in 2.0 2.1; do
    rm -rf "$WORK/data"
    mkdir "$WORK/data"
    cp "$WORK/host-secret" "$SECRET"
    on="$arch, Mosquitto $series"
    check "$on: a secret that every user can read keeps the broker from starting" not start_broker "$arch" "$series"
    check "$on: and the log has the fix" logs "chmod 640 $SECRET"
    check "$on: mounted as Docker does it, the same file will do" start_broker "$arch" "$series" with_secret_mounted
    check "$on: the tenant's keys are fetched" logs 'signing keys were fetched'
    check "$on: with a token over TLS a device publishes to its topic" publish d1 "${d1[@]}" -t devices/d1/state
    check "$on: and receives it" receives 'devices/d1/state: hello from d1' d1 "${d1[@]}" -t 'devices/d1/#'
    check "$on: and not to another one's" is_denied mosquitto_pub -q 1 -m mischief -i d1 "${d1[@]}" -t devices/d2/state
    check "$on: nor subscribes to it" is_denied mosquitto_sub -W 30 -i d1 "${d1[@]}" -t 'devices/d2/#'
    check "$on: with its password it publishes, too" publish d1 -u d1 -P 'a password' -t devices/d1/state
    check "$on: with a forged token nobody gets in" is_refused mosquitto_pub -i forger -u JWT -P "$forged" -t a -m b
    check "$on: the log says why" logs '[token-signature]'
    check "$on: nor with a wrong password" is_refused mosquitto_pub -i guesser -u d1 -P 'a guess' -t a -m b
    check "$on: the log says why" logs '[login-refused]'
    kill -HUP "$BROKER_PID"
    check "$on: after SIGHUP a device publishes as before" publish d1 "${d1[@]}" -t devices/d1/state
    check "$on: asked to stop, the broker stops" ends_by_itself
    stop_broker
  done
done
