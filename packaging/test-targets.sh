#!/usr/bin/env bash
#
# Loads what packaging/build.sh compiled into brokers that this machine does not have, and uses it there over TLS with
# tokens and passwords, with a tenant on this machine:
#
#     packaging/test-targets.sh [TARGET...]
#
# TARGET is one of those in packaging/targets.sh. By default these are all but glibc on this machine's architecture, of
# which packaging/test-deb.sh tests the package. What is for the other architecture runs under qemu-user.
#
#     glibc   Debian's brokers of that architecture, each with its own C library (tests/brokers.sh)
#     musl    Mosquitto 2.0 and 2.1 with Alpine's C library and OpenSSL (packaging/musl-brokers.sh)
#
# What is missing is built or fetched.
#
# The client secret lies where Docker puts it: alone on a read-only mount, with mode 0444. The mount is made in a
# namespace of the broker's own, by root or by whoever may make namespaces for users.
#
# Needs: openssl, unshare (util-linux), and for the other architecture the package qemu-user-static.
set -euo pipefail
umask 022

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=tests/brokers.sh
source tests/brokers.sh
say() { printf 'test-targets: %s\n' "$*"; }
die() { printf 'test-targets: %s\n' "$@" >&2; exit 1; }
# shellcheck source=packaging/targets.sh
source packaging/targets.sh
# shellcheck source=packaging/checks.sh
source packaging/checks.sh
BROKERS=$PWD/target/packages/brokers
CLIENTS=$PWD/target/brokers/2.1.2
[[ -x $CLIENTS/mosquitto_pub ]] || NEAREST=1 tests/brokers.sh
if [[ $# = 0 ]]; then
  for target in "${TARGETS[@]}"; do
    [[ $target == "$(uname -m)"-*-gnu ]] || set -- "$@" "$target"
  done
fi
for target; do
  [[ -e target/packages/$target/$PLUGIN ]] || packaging/build.sh "$target"
  case $target in
    *-gnu) NEAREST=1 tests/brokers.sh "$BROKERS/$target" "${target%%-*}" ;;
    *-musl) packaging/musl-brokers.sh "$BROKERS/$target" "${target%%-*}" ;;
  esac
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

# ---- running what is for other machines ----

machine() { # BROKER'S FOLDER : sets RUN, by which a program is run with that broker's libraries
  RUN=(${EMULATOR:+"$EMULATOR"} "$1"/lib/ld-*.so.* --library-path "$1/lib")
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

start_broker() { # BROKER'S FOLDER [WRAPPER]
  for _ in 1 2 3; do
    PORT=$(free_port)
    # The example for Docker, with the paths and the tenant of this test. (2.0.11 buffers what goes to stdout.)
    sed -e "s|^listener .*|listener $PORT 127.0.0.1|" -e "s|/usr/lib/mosquitto_auth0.so|$MADE/$PLUGIN|" \
      -e "s|/mosquitto/data|$WORK/data|" -e "s|/mosquitto/certs|$WORK|" -e "s|/run/secrets/auth0|$SECRET|" \
      -e "s|/run/secrets|$WORK|" -e "s|YOUR-TENANT.eu.auth0.com|$(its domain)|" \
      -e "s|YOUR-CLIENT-ID|$(its client_id)|" -e "s|https://mqtt.example/|$(its audience)|" -e 's|stdout|stderr|' \
      examples/docker/mosquitto.conf >"$WORK/mosquitto.conf"
    # Here nobody has a user mosquitto, and the tenant is trusted by its own authority. An emulated processor takes
    # seconds for a handshake, so the broker waits for the tenant as long as it takes.
    printf '%s\n' "plugin_opt_ca_file $(its ca_file)" 'plugin_opt_topics_claim topics' 'plugin_opt_timeout 20' \
      'plugin_opt_login_wait 20' 'plugin_opt_stall_budget 100' 'user root' >>"$WORK/mosquitto.conf"
    rm -f "$LOG"
    ${2:+"$2"} "${RUN[@]}" "$1/bin/mosquitto" -c "$WORK/mosquitto.conf" >"$LOG" 2>&1 &
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
tool_runs() { "${RUN[@]}" "$MADE/$TOOL" --version | grep -q 'Brokers: Mosquitto'; }

# ---- the checks ----

start_tenant
make_certificate
d1=(-u JWT -P "$(token d1)")
forged=$(token d1)
forged=${forged%??????????}AAAAAAAAAA
cat "$(its client_secret_file)" >"$WORK/host-secret"
chmod 444 "$WORK/host-secret"

for target; do
  MADE=$PWD/target/packages/$target
  EMULATOR=$(emulator "${target%%-*}")
  for broker in "$BROKERS/$target"/*; do
    machine "$broker"
    on="${target/-unknown-linux/}, Mosquitto ${broker##*/}"
    rm -rf "$WORK/data"
    mkdir "$WORK/data"
    cp "$WORK/host-secret" "$SECRET"
    check "$on: the tool runs with its libraries" tool_runs
    check "$on: a secret that every user can read keeps the broker from starting" not start_broker "$broker"
    check "$on: and the log has the fix" logs "chmod 640 $SECRET"
    check "$on: mounted as Docker does it, the same file will do" start_broker "$broker" with_secret_mounted
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
