#!/usr/bin/env bash
#
# Builds a Mosquitto 2.1.2 that watches its memory, beside those that tests/brokers.sh sets up:
#
#     tests/sanitized.sh [DIR]          DIR defaults to target/brokers
#
#     DIR/asan-2.1.2/
#         mosquitto     run this: with AddressSanitizer, and with it LeakSanitizer
#         VERSION       what it really is
#
# The source is Debian's, of the release in tests/brokers.sh, fetched and checked by this machine's apt in
# the same way; only the broker is built. Nothing is installed and no root is needed. It runs with this
# machine's libraries, so it cannot be moved to another machine.
#
# Environment: DEBIAN_MIRROR and NEAREST, as in tests/brokers.sh.
set -euo pipefail

# shellcheck source=tests/brokers.sh
source "$(dirname "${BASH_SOURCE[0]}")/brokers.sh"

RELEASE=2.1.2
# Not a name that begins with a number: those are the releases.
NAME=asan-$RELEASE

say() { printf 'sanitized: %s\n' "$*"; }
die() { printf 'sanitized: %s\n' "$@" >&2; exit 1; }

# Frame pointers and line numbers, so that a report says where. -O1 because -O0 is twice as slow.
FLAGS='-O1 -g -std=gnu99 -fsanitize=address -fno-omit-frame-pointer'

# As Debian builds it, less what needs further packages and no test asks for. Its own websockets stay: they
# are why the loop comes round ten times a second and not only when there is something to do.
SETTINGS=(WITH_WEBSOCKETS=yes WITH_BUNDLED_DEPS=yes WITH_DOCS=no WITH_HTTP_API=no WITH_EDITLINE=no
          WITH_SQLITE=no WITH_GMOCK=no WITH_SHARED_LIBRARIES=no WITH_STATIC_LIBRARIES=yes)

build_part() { # SOURCE FOLDER TARGET
  local log=$TMP/make.log
  make -C "$1/$2" -j"$(nproc)" "${SETTINGS[@]}" CFLAGS="$FLAGS -ffile-prefix-map=$1/=" LDFLAGS=-fsanitize=address "$3" >"$log" 2>&1 || {
    tail -n 20 "$log" >&2
    die "$NAME: Mosquitto's source was fetched but does not build (above);" \
      "  tests/dependencies.sh test installs what it needs"
  }
}

build() { # SUITE...
  local apt=$TMP/apt.$NAME made=$TMP/$NAME source=$TMP/source package
  local conf=$apt/apt.conf

  say "$NAME: asking $MIRROR for the source in $1"
  write_apt_conf "$apt" "$@"
  sed -i 's/^deb /deb-src /' "$apt/sources.list"
  apt-get -c "$conf" -qq update || die "$NAME: $MIRROR does not give the sources of: $*" \
    "  try again later, or set DEBIAN_MIRROR to another archive (a dated one may be past its date)"
  package=$(choose_package "$RELEASE" "$conf")
  [[ -n $package ]] || replaced "$RELEASE" "$1" "$conf"
  # apt checks the files against the index, and that against Debian's keys.
  (cd "$apt/debs" && apt-get -c "$conf" -qq source --download-only "mosquitto=$package") ||
    die "$NAME: the download of Mosquitto's source failed"
  dpkg-source --no-check --extract "$apt"/debs/*.dsc "$source" >"$TMP/unpack.log" 2>&1 ||
    die "$NAME: the source cannot be unpacked:" "$(tail -n 5 "$TMP/unpack.log")"

  say "$NAME: building mosquitto $package"
  build_part "$source" libcommon libmosquitto_common.a
  build_part "$source" src mosquitto
  mkdir -p "$made"
  cp "$source/src/mosquitto" "$made/mosquitto"
  printf '%s\n' "$package" >"$made/VERSION"

  # Only asked whether it starts; what it leaves behind on this way is not our business.
  [[ $(ASAN_OPTIONS=detect_leaks=0 "$made/mosquitto" -h 2>&1 || true) == *"mosquitto version ${package%%-*}"* ]] ||
    die "$NAME: was built but does not start:" "$("$made/mosquitto" -h 2>&1 || true)"
  rm -rf "${DIR:?}/$NAME"
  mv "$made" "$DIR/$NAME"
  say "$NAME: ready (mosquitto $package)"
}

sanitized() {
  [[ $# -le 1 && ${1:-} != -* ]] || { sed -n '3,/^set /{/^set /!s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; exit 2; }
  [[ $# -eq 1 ]] || cd_project
  DIR=${1:-target/brokers}
  mkdir -p "$DIR"
  DIR=$(cd "$DIR" && pwd)
  is_ready "$DIR/$NAME" && { say "ready in $DIR/$NAME"; return; }

  need make make
  need cc gcc
  need dpkg-source dpkg-dev
  begin_work
  local release suites
  while read -r release suites; do
    [[ $release != "$RELEASE" ]] || break
  done <<<"$RELEASES"
  # shellcheck disable=SC2086 # several suites are several words
  build $suites
}

sanitized "$@"
