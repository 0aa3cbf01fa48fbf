#!/usr/bin/env bash
#
# Uses the package where systemd runs the broker: in a Debian 12 that is booted in a container, with and without
# the hardened unit.
#
#     packaging/test-systemd.sh [FILE.deb [TENANT]]   what is not named is built
#
# Needs: the packages debootstrap, debian-archive-keyring, openssl and systemd-container, and root. The container has
# the network of this machine; everything listens on 127.0.0.1, on ports that are free.
#
# The first run makes the tree and keeps a copy, target/debian/systemd-ARCH.tar; later runs need no network.
#
# Environment: DEBIAN_MIRROR, the archive to fetch from. Otherwise: the default of debootstrap.
set -euo pipefail
umask 022

say() { printf 'test-systemd: %s\n' "$*"; }
die() { printf 'test-systemd: %s\n' "$@" >&2; exit 1; }

cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH=$PATH:/usr/sbin:/sbin
[[ $EUID = 0 ]] || die "a container takes root: call it with sudo"
for tool in debootstrap systemd-nspawn nsenter openssl; do
  command -v "$tool" >/dev/null || die "$tool is missing (the top of this script lists the packages)"
done
FILE=${1:-} TENANT=${2:-}
if [[ -z $FILE ]]; then
  packaging/deb.sh
  FILE=$(find target/debian -maxdepth 1 -name 'mosquitto-auth0_*.deb')
fi
if [[ -z $TENANT ]]; then
  cargo build --locked --quiet -p testbed --bin tenant
  TENANT=${CARGO_TARGET_DIR:-target}/debug/tenant
fi
mkdir -p target/debian
WORK=$(mktemp -d "$PWD/target/debian/systemd.XXXXXX")
TREE=$WORK/tree
LOG=$TREE/var/log/mosquitto/mosquitto.log
CACHE=$PWD/target/debian/systemd-$(dpkg --print-architecture).tar
CONTAINER='' INIT=''
# shellcheck source=packaging/checks.sh
source packaging/checks.sh

finish() {
  local status=$?
  trap - EXIT
  [[ -z $INIT ]] || inside systemctl poweroff >/dev/null 2>&1 || true
  [[ -z $CONTAINER ]] || within 30 is_gone "$CONTAINER" || stop "$CONTAINER"
  stop "$TENANT_PID"
  [[ $FAILED != 0 || $status = 0 ]] || FAILED=1 # it ended before its time
  if [[ $FAILED != 0 ]]; then
    tail -n 30 "$WORK/console" "$LOG" 2>/dev/null || true
  fi
  rm -rf "$WORK"
  printf '%d passed, %d failed\n' "$PASSED" "$FAILED"
  [[ $FAILED = 0 ]] || exit 1
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# ---- the container ----

make_tree() {
  say "making a tree"
  quietly debootstrap --variant=minbase --keyring=/usr/share/keyrings/debian-archive-keyring.gpg \
    --include=systemd-sysv,dbus,procps,ca-certificates,mosquitto,mosquitto-clients bookworm "$TREE" \
    ${DEBIAN_MIRROR:+"$DEBIAN_MIRROR"}
  printf '127.0.0.1 localhost\n' >"$TREE/etc/hosts"
  tar -C "$TREE" --numeric-owner -cf "$CACHE.part" .
  mv "$CACHE.part" "$CACHE"
}

inside() { # COMMAND...
  nsenter --target "$INIT" --mount --uts --ipc --pid -- env -i PATH=/usr/sbin:/usr/bin LC_ALL=C.UTF-8 "$@"
}

boot() {
  local options=(--quiet --boot --directory="$TREE" --console=pipe --link-journal=no)
  # Where no systemd runs this machine, there is nothing to register the container with.
  [[ -d /run/systemd/system ]] || options+=(--register=no --keep-unit)
  systemd-nspawn "${options[@]}" </dev/null >"$WORK/console" 2>&1 &
  CONTAINER=$!
  within 30 has_init || die "the container does not start" "$(cat "$WORK/console")"
  within 60 is_booted || die "the container does not boot" "$(cat "$WORK/console")"
}
has_init() { INIT=$(pgrep -P "$CONTAINER" -x systemd); }
# Not everything can run in a container, so `degraded` will do.
is_booted() { [[ $(inside systemctl is-system-running 2>/dev/null) =~ ^(running|degraded)$ ]]; }

is_active() { [[ $(inside systemctl is-active mosquitto) == active ]]; }
has_drop_in() { inside systemctl show mosquitto --property=DropInPaths | grep -q "/$1"; }
restarts() { inside systemctl daemon-reload && inside systemctl restart mosquitto && within 20 is_active; }
reloads() { : >"$LOG" && inside systemctl reload mosquitto && logs 'configuration generation'; }
logs() { within 20 grep -qF -- "$1" "$LOG"; }
broker() { inside systemctl show mosquitto --property=MainPID --value; }
may_write() { inside nsenter --target "$(broker)" --mount -- sh -c ": >>$1"; } # PATH
has_status() { inside grep -q "^$1:[[:space:]]*$2$" "/proc/$(broker)/status"; } # LINE VALUE
client() { inside timeout 60 "$1" -h localhost -p "$PORT" -V mqttv5 --cafile /etc/mosquitto/certs/server.pem "${@:2}"; }
keeps_a_session() { client mosquitto_sub -c -x 3600 -q 1 -E -i keeper "${d1[@]}" -t 'devices/d1/#'; }
lists_the_session() { inside mosquitto-auth0 sessions | grep -q '^keeper .* away '; }
is_saved() { [[ -s $TREE/var/lib/mosquitto/auth0/sessions ]]; }

check_the_broker() { # HOW : what holds however it is confined
  : >"$LOG"
  check "$1: it restarts" restarts
  check "$1: the tenant's keys are fetched" logs 'signing keys were fetched'
  check "$1: with a token over TLS a device publishes to its topic" publish d1 "${d1[@]}" -t devices/d1/state
  check "$1: and not to another one's" is_denied mosquitto_pub -q 1 -m mischief -i d1 "${d1[@]}" -t devices/d2/state
  check "$1: with its password it publishes, too" publish d1 -u d1 -P 'a password' -t devices/d1/state
  check "$1: a device leaves a session behind" keeps_a_session
  check "$1: the tool lists it" lists_the_session
  check "$1: its rights are saved" within 20 is_saved
  check "$1: systemctl reload reads the configuration again" reloads
  check "$1: it restarts once more" restarts
  check "$1: and knows the session" lists_the_session
}

# ---- the checks ----

if [[ -s $CACHE ]]; then
  mkdir "$TREE"
  tar -C "$TREE" --numeric-owner -xpf "$CACHE"
else
  make_tree
fi
start_tenant
make_certificate
d1=(-u JWT -P "$(token d1)")
PORT=$(free_port)
cp "$FILE" "$TREE/root/package.deb"
quietly chroot "$TREE" dpkg --install /root/package.deb
install -d "$TREE/etc/mosquitto/certs"
install -m 644 "$WORK/server.pem" "$TREE/etc/mosquitto/certs/"
install -m 644 "$(its ca_file)" "$TREE/etc/mosquitto/tenant.pem"
for secret in "$WORK/server.key:certs/server.key" "$(its client_secret_file):auth0.secret"; do
  install -m 640 -g "$(chroot "$TREE" id -g mosquitto)" "${secret%:*}" "$TREE/etc/mosquitto/${secret#*:}"
done
cat >"$TREE/etc/mosquitto/conf.d/auth0.conf" <<CONF
listener $PORT 127.0.0.1
certfile /etc/mosquitto/certs/server.pem
keyfile /etc/mosquitto/certs/server.key
plugin $(chroot "$TREE" dpkg -L mosquitto-auth0 | grep '/mosquitto_auth0\.so$')
plugin_opt_domain $(its domain)
plugin_opt_ca_file /etc/mosquitto/tenant.pem
plugin_opt_audience $(its audience)
plugin_opt_client_id $(its client_id)
plugin_opt_client_secret_file /etc/mosquitto/auth0.secret
plugin_opt_connection $(its connection)
plugin_opt_state_dir /var/lib/mosquitto/auth0
CONF
boot
check "the broker is started at boot, with the plugin" within 20 is_active
check "after the network, the resolver and the clock" has_drop_in mosquitto-auth0.conf
check_the_broker "as Debian has it"

install -D -m 644 "$TREE/usr/share/doc/mosquitto-auth0/examples/systemd/hardening.conf" \
  "$TREE/etc/systemd/system/mosquitto.service.d/hardening.conf"
check_the_broker hardened
check "hardened: the drop-in is in force" has_drop_in hardening.conf
check "hardened: the broker can write to its own folder" may_write /var/lib/mosquitto/proof
for path in /etc/mosquitto/proof /usr/proof /home/proof /var/lib/proof; do
  check "hardened: and not to $path" not may_write "$path"
done
check "hardened: system calls are filtered" has_status Seccomp 2
check "hardened: it gains no privileges" has_status NoNewPrivs 1
inside systemctl stop mosquitto
inside rm -rf /run/mosquitto
check "hardened: it starts without a folder for its pid file, as after a boot" restarts

sed -i 's/^plugin_opt_domain .*/plugin_opt_domain https:\/\/t.example/' "$TREE/etc/mosquitto/conf.d/auth0.conf"
: >"$LOG"
check "a wrong option keeps the broker from starting" not restarts
check "and the log names it" logs 'option domain'
