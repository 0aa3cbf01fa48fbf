#!/usr/bin/env bash
#
# Builds the releases that tests/brokers.sh sets up once more, as brokers that watch their memory:
#
#     tests/sanitized.sh [DIR]          DIR defaults to target/brokers
#
#     DIR/asan-2.0.11/  DIR/asan-2.0.21/  DIR/asan-2.1.2/
#         mosquitto     run this: with AddressSanitizer, and with it LeakSanitizer
#         VERSION       what it really is
#
# The sources are Debian's, fetched and checked by this machine's apt as tests/brokers.sh does it; only the
# broker is built. Nothing is installed and no root is needed. They run with this
# machine's libraries, so they cannot be moved to another machine.
#
# Environment: DEBIAN_MIRROR and NEAREST, as in tests/brokers.sh.
set -euo pipefail

# shellcheck source=tests/brokers.sh
source "$(dirname "${BASH_SOURCE[0]}")/brokers.sh"

say() { printf 'sanitized: %s\n' "$*"; }
die() { printf 'sanitized: %s\n' "$@" >&2; exit 1; }

# release to build | suite that has its source (the archive does not keep every backport's)
SOURCES='
2.0.11 bookworm
2.0.21 trixie
2.1.2  sid
'

# Frame pointers and line numbers, so that a report shows the place. -O1 because -O0 is twice as slow.
FLAGS='-O1 -g -std=gnu99 -fsanitize=address -fno-omit-frame-pointer'

# As Debian builds them, without what needs further packages and no test uses.
SETTINGS=(WITH_DOCS=no WITH_SHARED_LIBRARIES=no WITH_STATIC_LIBRARIES=yes WITH_BUNDLED_DEPS=yes)
# 2.1 has websockets of its own. With them its loop iterates ten times a second, even when there is nothing to
# do.
SETTINGS_2_1=(WITH_WEBSOCKETS=yes WITH_HTTP_API=no WITH_EDITLINE=no WITH_SQLITE=no WITH_GMOCK=no)
SETTINGS_2_0=(WITH_WEBSOCKETS=no WITH_SYSTEMD=no)

build_part() { # SOURCE FOLDER TARGET SETTING...
  local source=$1 folder=$2 target=$3 log=$TMP/make.log
  shift 3
  make -C "$source/$folder" -j"$(nproc)" "${SETTINGS[@]}" "$@" CFLAGS="$FLAGS -ffile-prefix-map=$source/=" \
    LDFLAGS=-fsanitize=address "$target" >"$log" 2>&1 || {
    tail -n 20 "$log" >&2
    die "$NAME: Mosquitto's source was fetched but does not build (above);" \
      "  tests/dependencies.sh test installs what it needs"
  }
}

build() { # RELEASE SUITE
  local NAME=asan-$1 release=$1 suite=$2 package # not a name that begins with a number: those are the releases
  local apt=$TMP/apt.$NAME made=$TMP/$NAME source=$TMP/source.$NAME
  local conf=$apt/apt.conf
  is_ready "$DIR/$NAME" && { say "$NAME: ready"; return; }

  say "$NAME: asking $MIRROR for the source in $suite"
  write_apt_conf "$apt" "$suite"
  sed -i 's/^deb /deb-src /' "$apt/sources.list"
  apt-get -c "$conf" -qq update || die "$NAME: $MIRROR does not give the sources of: $suite" \
    "  try again later, or set DEBIAN_MIRROR to $MIRROR to accept that its date has passed, or to another archive"
  package=$(choose_package "$release" "$conf")
  [[ -n $package ]] || replaced "$release" "$suite" "$conf"
  # apt checks the files against the index, and the index against Debian's keys.
  (cd "$apt/debs" && apt-get -c "$conf" -qq source --download-only "mosquitto=$package") ||
    die "$NAME: the download of Mosquitto's source failed"
  dpkg-source --no-check --extract "$apt"/debs/*.dsc "$source" >"$TMP/unpack.log" 2>&1 ||
    die "$NAME: the source cannot be unpacked:" "$(tail -n 5 "$TMP/unpack.log")"

  say "$NAME: building mosquitto $package"
  if [[ $release == 2.0.* ]]; then
    build_part "$source" src mosquitto "${SETTINGS_2_0[@]}"
  else
    build_part "$source" libcommon libmosquitto_common.a "${SETTINGS_2_1[@]}"
    build_part "$source" src mosquitto "${SETTINGS_2_1[@]}"
  fi
  mkdir -p "$made"
  cp "$source/src/mosquitto" "$made/mosquitto"
  printf '%s\n' "$package" >"$made/VERSION"

  # This only checks that it starts; leaks on this path do not matter.
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

  local release suite missing=0
  while read -r release suite; do
    [[ -z $release ]] || is_ready "$DIR/asan-$release" || missing=1
  done <<<"$SOURCES"
  if [[ $missing = 0 ]]; then
    say "all ready in $DIR"
    return
  fi

  need make make
  need cc gcc
  need dpkg-source dpkg-dev
  begin_work
  while read -r release suite; do
    [[ -z $release ]] || build "$release" "$suite" </dev/null
  done <<<"$SOURCES"
  say "all ready in $DIR"
}

sanitized "$@"
