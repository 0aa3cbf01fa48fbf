#!/usr/bin/env bash
#
# Builds Mosquitto for musl, as Alpine and so the official Docker image have it, for packaging/test-targets.sh:
#
#     packaging/musl-brokers.sh DIR ARCH    ARCH is x86_64 or aarch64
#
#     DIR/2.0/  DIR/2.1/                    laid out as by tests/brokers.sh
#         bin/mosquitto                     run it: lib/ld-musl.so.1 --library-path lib bin/mosquitto
#         lib/                              OpenSSL as Alpine builds it, and musl
#
# The sources of Mosquitto and cJSON and musl itself are Debian's, fetched and checked by this machine's apt; OpenSSL is
# in a package of PyPI for musl (packaging/musl-libraries.txt). Zig compiles. Nothing is installed, and no root needed.
#
# Needs: what packaging/build.sh needs, dpkg-dev, libssl-dev (the headers), debian-archive-keyring.
# Environment: DEBIAN_MIRROR, as for tests/brokers.sh.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=tests/brokers.sh
source tests/brokers.sh
say() { printf 'musl-brokers: %s\n' "$*"; }
die() { printf 'musl-brokers: %s\n' "$@" >&2; exit 1; }

[[ $# = 2 && $2 =~ ^(x86_64|aarch64)$ ]] || die "usage: packaging/musl-brokers.sh DIR x86_64|aarch64"
mkdir -p "$1"
DIR=$(cd "$1" && pwd) ARCH=$2
[[ ! -d $DIR/2.0 || ! -d $DIR/2.1 ]] || { say "$ARCH: ready"; exit 0; }
begin_work
# shellcheck source=packaging/toolchain.sh
source packaging/toolchain.sh

lib=$TMP/lib
headers=$TMP/include
mkdir -p "$lib" "$headers" "$TMP/link"
compiler=$TMP/cc
# Zig's linker knows no list of names to export, so all are. And only where code may lie anywhere does it tell musl's
# stdin, stdout and stderr apart.
cat >"$compiler" <<SH
#!/bin/bash
exec python3 -m ziglang cc -target $ARCH-linux-musl -fPIE -pie "\${@/#-Wl,--dynamic-list=*/-rdynamic}"
SH
chmod +x "$compiler"
export ZIG_GLOBAL_CACHE_DIR=$PWD/target/packages/zig

quietly() { "$@" >"$TMP/log" 2>&1 || { tail -n 20 "$TMP/log" | cut -c-300 >&2; die "failed: $*"; }; }

fetch_openssl() {
  local wheel file name
  quietly pip download --quiet --no-deps --only-binary :all: --require-hashes -r packaging/musl-libraries.txt \
    --python-version 3.12 --implementation cp --abi cp312 --platform "musllinux_1_2_$ARCH" -d "$TMP/wheel"
  wheel=$(echo "$TMP"/wheel/*.whl)
  quietly python3 -m zipfile -e "$wheel" "$TMP/wheel/unpacked"
  for name in ssl crypto; do
    file=$(echo "$TMP"/wheel/unpacked/*.libs/lib"$name"-*.so.3)
    cp "$file" "$lib/"
    ln -s "$lib/${file##*/}" "$TMP/link/lib$name.so"
  done
  # Headers of an earlier OpenSSL 3 do: it is backward compatible.
  cp -rL /usr/include/openssl "$headers/"
  cp -L "/usr/include/$(multiarch)/openssl"/* "$headers/openssl/"
}

fetch_musl() {
  local apt=$TMP/apt.musl
  write_apt_conf "$apt" trixie
  apt-get -c "$apt/apt.conf" -qq update
  (cd "$apt/debs" && apt-get -c "$apt/apt.conf" -qq download musl)
  dpkg-deb -x "$apt"/debs/musl_*.deb "$apt/unpacked"
  cp -L "$(find "$apt/unpacked" -name 'libc.so' -path '*musl*' | head -n 1)" "$lib/ld-musl.so.1"
  chmod 755 "$lib/ld-musl.so.1"
}

fetch_source() { # SUITE PACKAGE : to $TMP/PACKAGE.SUITE
  local apt=$TMP/apt.$2.$1
  write_apt_conf "$apt" "$1"
  sed -i 's/^deb /deb-src /' "$apt/sources.list"
  apt-get -c "$apt/apt.conf" -qq update
  (cd "$apt/debs" && quietly apt-get -c "$apt/apt.conf" -qq source --download-only "$2")
  quietly dpkg-source --no-check --extract "$apt"/debs/*.dsc "$TMP/$2.$1"
}

# As the official image builds it, without what needs further libraries and no test uses.
SETTINGS=(CC="$compiler" AR=ar WITH_DOCS=no WITH_SHARED_LIBRARIES=no WITH_STATIC_LIBRARIES=yes WITH_BUNDLED_DEPS=yes
  WITH_SYSTEMD=no WITH_SRV=no WITH_ADNS=no CFLAGS="-O2 -std=gnu99 -w -I$headers")

build() { # SOURCE FOLDER TARGET SETTING...
  quietly make -C "$1/$2" "${SETTINGS[@]}" "${@:4}" LDFLAGS="-L$TMP/link" "$3"
}

keep() { # SERIES SOURCE
  local new=$TMP/$1
  mkdir -p "$new/bin"
  cp "$2/src/mosquitto" "$new/bin/"
  cp -r "$lib" "$new/"
  rm -rf "${DIR:?}/$1"
  mv "$new" "$DIR/$1"
}

fetch_openssl
fetch_musl
fetch_source trixie cjson
mkdir -p "$headers/cjson"
cp "$TMP/cjson.trixie/cJSON.h" "$headers/cjson/"
cp "$TMP/cjson.trixie/cJSON.h" "$headers/"
"$compiler" -O2 -c "$TMP/cjson.trixie/cJSON.c" -o "$TMP/cJSON.o"
ar rcs "$TMP/link/libcjson.a" "$TMP/cJSON.o"

fetch_source trixie mosquitto
say "$ARCH: building Mosquitto 2.0"
build "$TMP/mosquitto.trixie" src mosquitto WITH_WEBSOCKETS=no
keep 2.0 "$TMP/mosquitto.trixie"

fetch_source sid mosquitto
say "$ARCH: building Mosquitto 2.1"
settings_2_1=(WITH_WEBSOCKETS=yes WITH_HTTP_API=no WITH_EDITLINE=no WITH_SQLITE=no WITH_GMOCK=no)
build "$TMP/mosquitto.sid" libcommon libmosquitto_common.a "${settings_2_1[@]}"
build "$TMP/mosquitto.sid" src mosquitto "${settings_2_1[@]}"
keep 2.1 "$TMP/mosquitto.sid"
say "$ARCH: ready"
