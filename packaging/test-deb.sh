#!/usr/bin/env bash
#
# Installs the package beside the distribution's own broker, in a fresh tree of Debian or Ubuntu, and uses it there
# with a tenant on this machine:
#
#     packaging/test-deb.sh [FILE.deb [TENANT]]       what is not named is built
#
# Needs: the packages debootstrap and debian-archive-keyring, and root for the tree (it calls sudo for
# that). Nothing is mounted, and outside target/ nothing is written. Everything listens on 127.0.0.1, on
# ports that are free.
#
# A package that `make deb` built needs the C library of the machine that built it, or a newer one. So the tree is of
# the oldest Debian whose C library is new enough: bookworm for what was built on bookworm, trixie for what was built
# on trixie. On Ubuntu it is of the same Ubuntu. packaging/test-packages.sh names the releases itself.
#
# The first run makes the tree and keeps a copy, target/debian/SUITE-ARCH.tar; later runs unpack that and
# need no network. Delete the copy for a tree of today.
#
# The tree is of the package's architecture. If that is not this machine's, the kernel must run its programs with qemu:
# the package qemu-user-static registers that, where systemd runs.
#
# Environment:
#   SUITE           the release to use, of Debian, or of Ubuntu where this machine has Ubuntu's debootstrap
#   DEBIAN_MIRROR   Debian archive to fetch from. Otherwise: the one this machine's apt uses, or the default of
#                   debootstrap. Ubuntu always comes from the default of debootstrap.
set -euo pipefail
umask 022

say() { printf 'test-deb: %s\n' "$*"; }
die() { printf 'test-deb: %s\n' "$@" >&2; exit 1; }

[[ $# -le 2 ]] || die "usage: packaging/test-deb.sh [FILE.deb [TENANT]]"
FILE=${1:+$(realpath -- "$1")} TENANT=${2:+$(realpath -- "$2")}
SELF=$(realpath -- "${BASH_SOURCE[0]}")
cd "${SELF%/*}/.."
PACKAGE=mosquitto-auth0
PATH=$PATH:/usr/sbin:/sbin
KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg
command -v debootstrap >/dev/null || die "debootstrap is missing: install the package debootstrap"
[[ -r $KEYRING ]] || die "$KEYRING is missing: install the package debian-archive-keyring"

if [[ -z $FILE ]]; then
  packaging/deb.sh
  FILE=$(find "$PWD/target/debian" -maxdepth 1 -name "${PACKAGE}_*.deb")
fi
if [[ -z $TENANT ]]; then
  cargo build --locked -p testbed --bin tenant
  TENANT=$(realpath -- "${CARGO_TARGET_DIR:-target}/debug/tenant")
fi
if [[ $EUID != 0 ]]; then
  say "a tree of another system takes root: calling sudo"
  exec sudo --preserve-env=DEBIAN_MIRROR,SUITE "$SELF" "$FILE" "$TENANT"
fi

ARCH=$(dpkg-deb -f "$FILE" Architecture)
if [[ $ARCH != "$(dpkg --print-architecture)" ]]; then
  registered=/proc/sys/fs/binfmt_misc/qemu-$(dpkg-architecture -A "$ARCH" -qDEB_TARGET_GNU_CPU)
  [[ -e $registered ]] || die "this machine does not run programs for $ARCH: there is no $registered" \
    "  install the package qemu-user-static, and restart systemd-binfmt"
fi

# The Debian releases to choose from, oldest first, with the version of their C library.
SUITES=(bookworm:2.36 trixie:2.41 forky:2.42)

is_ubuntu() { [[ $(readlink -f "/usr/share/debootstrap/scripts/$1") == */gutsy ]]; } # SUITE

choose_suite() { # prints the oldest release that can install the package
  local needed suite own
  own=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")
  if [[ -n $own ]] && is_ubuntu "$own"; then
    printf '%s\n' "$own"
    return
  fi
  needed=$(dpkg-deb -f "$FILE" Depends | sed -nE 's/.*\blibc6 \(>= ([0-9.]+)\).*/\1/p')
  [[ -n $needed ]] || die "$FILE does not say which libc6 it needs"
  for suite in "${SUITES[@]}"; do
    if dpkg --compare-versions "${suite#*:}" ge "$needed"; then
      printf '%s\n' "${suite%:*}"
      return
    fi
  done
  die "$FILE needs libc6 $needed, which no Debian release in SUITES has" \
    "  build the package on an older release, or add the release that has it to SUITES in $SELF"
}

export LC_ALL=C.UTF-8
SUITE=${SUITE:-$(choose_suite)}
mkdir -p target/debian
WORK=$(mktemp -d "$PWD/target/debian/test.XXXXXX")
TREE=$WORK/tree
LOG=$TREE/var/log/mosquitto/mosquitto.log
CACHE=$PWD/target/debian/$SUITE-$ARCH.tar

# ---- leaving nothing behind ----

# shellcheck source=packaging/checks.sh
source packaging/checks.sh

BROKER_PID=''

finish() {
  local status=$?
  trap - EXIT
  stop "$BROKER_PID"
  stop "$TENANT_PID"
  [[ $FAILED != 0 || $status = 0 ]] || FAILED=1 # it ended before its time
  if [[ $FAILED != 0 && -s $LOG ]]; then
    say "the end of the broker's log:"
    tail -n 40 "$LOG"
  fi
  # debootstrap mounts /proc for a while; were it still there, rm would be the wrong thing to do.
  if grep -qF " $TREE/" /proc/mounts; then
    say "something is mounted in $TREE, so it stays"
  else
    rm -rf "$WORK"
  fi
  printf '%d passed, %d failed\n' "$PASSED" "$FAILED"
  [[ $FAILED = 0 ]] || exit 1
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# ---- the tree ----

CLEAN=(env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive)
in_tree() { chroot "$TREE" "${CLEAN[@]}" "$@"; }
apt_in_tree() { in_tree apt-get -qq -y -o DPkg::Use-Pty=0 -o APT::Sandbox::User=root "$@" </dev/null; }

find_mirror() { # prints nothing where debootstrap's default shall be taken
  if [[ -n ${DEBIAN_MIRROR:-} ]]; then
    printf '%s\n' "${DEBIAN_MIRROR%/}"
  else
    # shellcheck disable=SC2016 # apt's variable, not the shell's
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
      sed -nE 's|^(https?://.*/debian)/?$|\1|p' | sort -u | head -n 1 || true
  fi
}

make_tree() {
  local mirror='' from=(--components=main,universe) # where Ubuntu has Mosquitto
  if ! is_ubuntu "$SUITE"; then
    mirror=$(find_mirror)
    from=(--keyring="$KEYRING")
  fi
  say "making a $SUITE tree from ${mirror:-the default archive of debootstrap}"
  quietly debootstrap --arch="$ARCH" --variant=minbase "${from[@]}" "$SUITE" "$TREE" ${mirror:+"$mirror"}
  # No service is started in here.
  printf '#!/bin/sh\nexit 101\n' >"$TREE/usr/sbin/policy-rc.d"
  chmod 755 "$TREE/usr/sbin/policy-rc.d"
  printf '127.0.0.1 localhost\n' >"$TREE/etc/hosts"
  # The tree reaches the archive as this machine does: through the same proxy, trusting the same CA, and accepting an
  # archive whose date has passed if this machine accepts it.
  apt-config dump | grep -iE '^Acquire::(https?::proxy|Check-Valid-Until) ' \
    >"$TREE/etc/apt/apt.conf.d/90machine" || true
  if [[ -r /etc/ssl/certs/ca-certificates.crt ]]; then
    cp /etc/ssl/certs/ca-certificates.crt "$TREE/etc/apt/machine.crt"
    printf 'Acquire::https::CAInfo "/etc/apt/machine.crt";\n' >>"$TREE/etc/apt/apt.conf.d/90machine"
  fi
  quietly apt_in_tree update
  quietly apt_in_tree install mosquitto mosquitto-clients
  quietly apt_in_tree clean
  # What the package will need is only put by: apt has to ask for it.
  quietly apt_in_tree install --download-only ca-certificates
  tar -C "$TREE" --numeric-owner -cf "$CACHE.part" .
  mv "$CACHE.part" "$CACHE"
  [[ -z ${SUDO_UID:-} ]] || chown "$SUDO_UID" "$CACHE" target/debian
}

if [[ -s $CACHE ]]; then
  say "unpacking ${CACHE#"$PWD"/}"
  mkdir "$TREE"
  tar -C "$TREE" --numeric-owner -xpf "$CACHE"
else
  make_tree
fi
cp -L /etc/resolv.conf "$TREE/etc/resolv.conf" 2>/dev/null || true

# ---- the broker ----

broker_is_up() { grep -q 'mosquitto version .* running' "$LOG" 2>/dev/null; }
broker_is_up_or_gone() { broker_is_up || is_gone "$BROKER_PID"; }

# Starts the broker as Debian's unit does, with the folders that systemd makes: with 2.0 as root, which it gives up
# itself, with 2.1 as the user mosquitto. The settings given go into a file beside the example. Sets BROKER_PID, PORT.
start_broker() { # [SETTING...] : those of the listener come first
  local user=0:0 # as numbers, since names would be those of this machine
  ! grep -q '^User=mosquitto' "$TREE"/usr/lib/systemd/system/mosquitto.service ||
    user=$(in_tree id -u mosquitto):$(in_tree id -g mosquitto)
  in_tree install -d -m 740 -o mosquitto /var/log/mosquitto /run/mosquitto
  in_tree install -d -o mosquitto -g mosquitto /var/lib/mosquitto
  for _ in 1 2 3; do
    PORT=$(free_port)
    printf '%s\n' "listener $PORT 127.0.0.1" "${LISTENER[@]}" "$@" >"$TREE/etc/mosquitto/conf.d/test.conf"
    rm -f "$LOG"
    chroot --userspec="$user" "$TREE" "${CLEAN[@]}" mosquitto -c /etc/mosquitto/mosquitto.conf >"$WORK/broker" 2>&1 &
    BROKER_PID=$!
    within 30 broker_is_up_or_gone || true
    if broker_is_up; then return 0; fi
    stop_broker
    grep -qs 'Address already in use' "$LOG" "$WORK/broker" || break # else somebody was quicker
  done
  cat "$WORK/broker" "$LOG" || true
  return 1
}

stop_broker() {
  stop "$BROKER_PID"
  BROKER_PID=''
}

has_plugin() { grep -q '/mosquitto_auth0\.so$' "/proc/$BROKER_PID/maps"; }
runs_as() { [[ $(awk '$1 == "Uid:" { print $2, $3, $4 }' "/proc/$BROKER_PID/status") == "$1 $1 $1" ]]; }
logs() { within 20 grep -qF -- "$1" "$LOG"; }
logs_about() { grep -F -- "$1" "$LOG" | tee /dev/stderr | grep -qF -- "$2"; }

# With TLS, once there is a plugin.
SECURED=() LISTENER=()
secure() {
  make_certificate
  install -m 644 "$WORK/server.pem" "$TREE/etc/mosquitto/certs/server.pem"
  install -m 640 "$WORK/server.key" "$TREE/etc/mosquitto/certs/server.key"
  in_tree chgrp mosquitto /etc/mosquitto/certs/server.key
  LISTENER=('certfile /etc/mosquitto/certs/server.pem' 'keyfile /etc/mosquitto/certs/server.key')
  SECURED=(--cafile /etc/mosquitto/certs/server.pem)
}
in_the_clear() { SECURED=() client "$@"; }

client() { # PROGRAM ARGUMENT... : one of the tree's own clients, as nobody
  timeout 60 chroot --userspec=nobody:nogroup "$TREE" "${CLEAN[@]}" HOME=/nonexistent \
    "$1" -h 127.0.0.1 -p "$PORT" -V mqttv5 "${SECURED[@]}" "${@:2}"
}

# ---- the package ----

# 2.1's own plugins lie one folder deeper; ours stays where a configuration names it.
LIBDIR=/usr/lib/$(dpkg-architecture -A "$ARCH" -qDEB_TARGET_MULTIARCH)
PLUGIN=$LIBDIR/mosquitto_auth0.so
CONF=/etc/mosquitto/conf.d/auth0.conf
SECRET=/etc/mosquitto/auth0.secret
POLICY=/etc/mosquitto/auth0-policy.toml
STATE=/var/lib/mosquitto/auth0
DECISIONS=/var/log/mosquitto/auth0-decisions.json
ROTATION=/etc/logrotate.d/mosquitto-auth0
APPARMOR=/etc/apparmor.d/abstractions/mosquitto-auth0
TOOL=/usr/bin/mosquitto-auth0
CTRL=${PLUGIN/mosquitto_auth0/mosquitto_ctrl_auth0}

install_it() { apt_in_tree "$@" install "/root/$PACKAGE.deb"; }
# shellcheck disable=SC2016 # dpkg's variables, not the shell's
field() { in_tree dpkg-query -W -f '${'"$2"'}' "$1"; }
is_installed() { [[ $(field "$1" db:Status-Abbrev 2>/dev/null) == 'ii ' ]]; }
depends_on() { dpkg-deb -f "$FILE" Depends | tee /dev/stderr | tr ',' '\n' | sed 's/^ //' | grep -q "^$1"; } # BEGINNING
has_one_script() {
  local files
  files=$(dpkg-deb --ctrl-tarfile "$FILE" | tar -t | grep -v '/$' | sort | xargs)
  [[ $files == './conffiles ./control ./md5sums ./prerm' ]]
}
holds_keys() { [[ -n $(find "$TREE$STATE" -type f -perm 600 | tee /dev/stderr) ]]; }
has_mode() { [[ $(in_tree stat -c '%A %U:%G' "$2" | tee /dev/stderr) == "$1" ]]; }
is_stripped() { # FILE
  readelf -S --wide "$TREE$1" >"$WORK/said" && grep -q '\.dynsym' "$WORK/said" &&
    not grep -E '\.symtab|\.debug' "$WORK/said"
}
has_documents() {
  local doc=/usr/share/doc/$PACKAGE
  in_tree test -s $doc/copyright && in_tree gzip -t $doc/third-party.gz $doc/changelog.Debian.gz &&
    for file in $(grep -oE '\]\((docs|examples)/[^)#]+' README.md | cut -c3- | sort -u); do
      in_tree test -s "$doc/$file" || return 1
    done
}
has_manual_pages() {
  in_tree gzip -t /usr/share/man/man1/mosquitto-auth0.1.gz /usr/share/man/man5/mosquitto-auth0.conf.5.gz \
    /usr/share/man/man7/mosquitto-auth0.7.gz
}
has_completions() {
  in_tree bash -c '. /usr/share/bash-completion/completions/mosquitto-auth0 && complete -p mosquitto-auth0' &&
    in_tree test -s /usr/share/zsh/vendor-completions/_mosquitto-auth0 &&
    in_tree test -s /usr/share/fish/vendor_completions.d/mosquitto-auth0.fish
}
drop_in_is_an_order() {
  local settings file=/usr/lib/systemd/system/mosquitto.service.d/mosquitto-auth0.conf
  settings=$(grep -vE '^(#|$)' "$TREE$file" | tee /dev/stderr)
  [[ $settings == $'[Unit]\nAfter='* && $(wc -l <<<"$settings") = 2 ]]
}
tool_says() { in_tree "${@:2}" | tee /dev/stderr | grep -q -- "$1"; } # TEXT COMMAND...
tool_answers_no() { # TEXT COMMAND... : with the exit code 1
  local said status=0
  said=$(in_tree "${@:2}") || status=$?
  printf '%s\n' "$said" >&2
  [[ $status = 1 && $said == *"$1"* ]]
}
conffiles_are_as_shipped() {
  local sums
  sums=$(in_tree md5sum "$CONF" "$ROTATION" "$APPARMOR" | awk '{ print $2, $1 }' | xargs)
  [[ $(field $PACKAGE Conffiles | xargs | tee /dev/stderr) == "$sums" ]]
}
is_as_shipped() { [[ -z $(in_tree dpkg --verify $PACKAGE | tee /dev/stderr) ]]; }
only_its_conffile_differs() {
  [[ $(in_tree dpkg --verify $PACKAGE | tee /dev/stderr | awk '{ print $(NF - 1), $NF }') == "c $CONF" ]]
}
only_its_conffile_stays() { [[ -e $TREE$CONF && ! -e $TREE$PLUGIN ]]; }
removal_is_refused() { # HOW FILE : and one line names the line that loads the plugin
  local line
  line=$(grep -nE '^ *plugin ' "$TREE$2" | cut -d: -f1)
  not apt_in_tree "$1" $PACKAGE >"$WORK/said" 2>&1 && tee /dev/stderr <"$WORK/said" |
    grep -qE "^$PACKAGE is not removed: line $line of $2 loads the plugin, .*; fix: put a # in front of that line"
}
nothing_of_it_stays() { [[ -z $(find "$TREE" -xdev -iname '*auth0*' | tee /dev/stderr) ]]; }

# Editing the example as its comments say.
uncomment() { sed -i -E "s/^#($1) /\\1 /" "$TREE$CONF"; } # NAMES of settings
put() { sed -i -E "s|^($1) .*|\\1 $2|" "$TREE$CONF"; }    # NAME VALUE of one that is no comment any more
run_its_commands() {
  local commands
  commands=$(sed -nE 's/^# {5}((touch|chown|chmod|install) .*)/\1/p' "$TREE$CONF" | tee /dev/stderr)
  [[ $(wc -l <<<"$commands") = 3 ]] && in_tree sh -ec "$commands"
}

# ==== installing ====

cp "$FILE" "$TREE/root/$PACKAGE.deb"
say "$SUITE, $ARCH: installing ${FILE##*/} beside mosquitto $(field mosquitto Version)"
check "the tree has the release's broker" is_installed mosquitto
check "and no ca-certificates" not is_installed ca-certificates
check "apt installs the package" install_it
check "it is installed" is_installed $PACKAGE
check "ca-certificates has come with it" is_installed ca-certificates
check "it depends on a broker that it works with" depends_on 'mosquitto (>= 2\.0\.11)$'
check "it depends on the C library" depends_on 'libc6 (>= '
check "its only maintainer script is the one that guards its removal" has_one_script
check "the plugin lies beside the broker's own: $PLUGIN" has_mode '-rw-r--r-- root:root' "$PLUGIN"
check "the tool is there" has_mode '-rwxr-xr-x root:root' "$TOOL"
check "and the module of mosquitto_ctrl" has_mode '-rw-r--r-- root:root' "$CTRL"
for file in "$PLUGIN" "$TOOL" "$CTRL"; do
  check "stripped: $file" is_stripped "$file"
done
check "the tool runs" tool_says 'Brokers: Mosquitto 2\.0\.11 and later' mosquitto-auth0 --version
check "mosquitto_ctrl runs it" tool_says 'Brokers: Mosquitto 2\.0\.11 and later' mosquitto_ctrl auth0 --version
check "the completions are there" has_completions
check "copyright, licences of others and changelog are there" has_documents
check "the manual pages are there" has_manual_pages
check "the example is there" has_mode '-rw-r--r-- root:root' "$CONF"
check "it is a conffile, and so is what logrotate and AppArmor read" conffiles_are_as_shipped
check "systemd gets an order for the broker's unit and no command" drop_in_is_an_order
check "every line of it is a comment" not grep -n '^[^#]' "$TREE$CONF"
check "it names this machine's plugin" grep -qxF "#plugin $PLUGIN" "$TREE$CONF"
check "every file is as shipped" is_as_shipped

# ==== untouched ====

check "untouched: Debian's broker starts" start_broker 'allow_anonymous true'
check "without the plugin" not has_plugin
check "a device without anything publishes" publish anonymous -t devices/d1/state
check "and receives" receives 'devices/d1/state: hello from anonymous' anonymous -t 'devices/#'
stop_broker
rm -f "$TREE/var/lib/mosquitto/mosquitto.db"

# ==== edited as its comments say ====

start_tenant
secure
# The tenant is trusted as any other is: by the certificates of the system.
cp "$(its ca_file)" "$TREE/usr/local/share/ca-certificates/tenant.crt"
quietly in_tree update-ca-certificates
d1=(-u JWT -P "$(token d1)")
all=(-u JWT -P "$(token all)")
forged=$(token d1)
forged=${forged%??????????}AAAAAAAAAA

uncomment 'plugin|plugin_opt_domain|plugin_opt_audience|plugin_opt_state_dir'
put plugin_opt_domain https://example.com/
check "with a wrong setting the broker does not start" not start_broker
check "and its log names the setting" logs_about mosquitto-auth0 'option domain'

put plugin_opt_domain "$(its domain)"
put plugin_opt_audience "$(its audience)"
check "edited: Debian's broker starts" start_broker
check "with the plugin" has_plugin
check "as the user mosquitto" runs_as "$(in_tree id -u mosquitto)"
check "it has made the folder for its state" has_mode 'drwx------ mosquitto:mosquitto' "$STATE"
check "its listener speaks TLS only" not in_the_clear mosquitto_pub -i d1 "${d1[@]}" -t devices/d1/state -m no
check "over TLS a device with a token publishes to its topic" publish d1 "${d1[@]}" -t devices/d1/state
check "and receives it" receives 'devices/d1/state: hello from d1' d1 "${d1[@]}" -t 'devices/d1/#'
check "it may not subscribe to another device's topics" is_denied mosquitto_sub -W 30 -i d1 "${d1[@]}" -t 'devices/d2/#'
check "it may not publish to them" is_denied mosquitto_pub -q 1 -r -m mischief -i d1 "${d1[@]}" -t devices/d2/state
check "the log says so: [not-granted]" logs '[not-granted]'
check "the tool commands the broker" tool_answers_no "no client is connected" mosquitto-auth0 kick nobody
check "and lists its sessions" tool_answers_no "There is no such session" mosquitto-auth0 sessions --client-id nobody
check "a device with a token for more publishes elsewhere" publish all "${all[@]}" -t devices/end
# What is retained for the first of two filters comes before what is retained for the second.
check "and finds nothing of the mischief" receives 'devices/end: hello from all' all "${all[@]}" \
  -t devices/d2/state -t devices/end
check "a device without a token is refused" is_refused mosquitto_pub -i stranger -t devices/d1/state -m mischief
check "the log says so: [no-password]" logs '[no-password]'
check "and who it was" logs_about '[no-password]' stranger
check "a device with a forged token is refused" is_refused mosquitto_pub -i forger -u JWT -P "$forged" \
  -t devices/d1/state -m mischief
check "the log says so: [token-signature]" logs '[token-signature]'
check "and who it was" logs_about '[token-signature]' forger

# ==== installed again, as an upgrade would be ====

check "apt installs it over itself" install_it --reinstall
check "the edited example stays" only_its_conffile_differs
check "the broker goes on" publish d1 "${d1[@]}" -t devices/d1/state
stop_broker

# ==== with every setting of the example, and so with passwords ====

check "the example's commands make the file for the secret" run_its_commands
check "only root and the broker may read it" has_mode '-rw-r----- root:mosquitto' "$SECRET"
cat "$(its client_secret_file)" >"$TREE$SECRET"
uncomment 'plugin_opt_[a-z0-9_]+'
put plugin_opt_client_id "$(its client_id)"
put plugin_opt_connection "$(its connection)"
put plugin_opt_topics_claim topics
check "the example names a policy file, and without one the broker does not start" not start_broker
check "and its log names it" logs_about mosquitto-auth0 "$POLICY"
cat >"$TREE$POLICY" <<'TOML'
[[rule]]
name = "news"
allow = { publish = ["news"] }
TOML
check "with every setting of the example the broker starts" start_broker
me=device-$(token d1 | subject) # as the example's client_id_template has it
check "a device with its password publishes to its topic" publish "$me" -u d1 -P 'a password' -t devices/d1/state
check "and where the policy file lets it" publish "$me" -u d1 -P 'a password' -t news
check "and to no other" is_denied mosquitto_pub -q 1 -m mischief -i "$me" -u d1 -P 'a password' -t devices/d2/state
check "and under no other client ID" is_refused mosquitto_pub -i d1 -u d1 -P 'a password' \
  -t devices/d1/state -m mischief
check "the log says so: [client-id]" logs '[client-id]'
check "one with a wrong password is refused" is_refused mosquitto_pub -i guesser -u d1 -P 'a guess' \
  -t devices/d1/state -m mischief
check "the log says so: [login-refused]" logs '[login-refused]'
check "one with a token gets in as before" publish "$me" "${d1[@]}" -t devices/d1/state
check "the tenant's keys are kept for the next start" holds_keys
stop_broker

# ==== removed ====

check "while the configuration loads the plugin, apt does not remove it" removal_is_refused remove "$CONF"
check "nor purge it" removal_is_refused purge "$CONF"
check "it stays installed" is_installed $PACKAGE
check "and the broker starts as before" start_broker
check "with the plugin" has_plugin
stop_broker
sed -i -E 's/^plugin/#&/' "$TREE$CONF"
OTHER=/etc/mosquitto/conf.d/other.conf
printf '%s\n' 'per_listener_settings false' "  plugin ${PLUGIN/#\/usr\//\/usr\/share\/..\/} " >"$TREE$OTHER"
check "nor while another file loads it, by another spelling of its path" removal_is_refused remove "$OTHER"
rm "$TREE$OTHER"
# The operator's, and ours.
rm -r "$TREE$SECRET" "$TREE$POLICY" "$TREE$STATE" "$TREE$DECISIONS" "$TREE/root/$PACKAGE.deb"
check "apt removes it" apt_in_tree remove $PACKAGE
check "the example stays, since it was edited, and the plugin does not" only_its_conffile_stays
check "apt purges it" apt_in_tree purge $PACKAGE
check "nothing is left of it" nothing_of_it_stays
check "Debian's broker is still there" is_installed mosquitto
SECURED=() LISTENER=()
check "and starts" start_broker 'allow_anonymous true'
check "and a device without anything publishes" publish anonymous -t devices/d1/state
stop_broker
