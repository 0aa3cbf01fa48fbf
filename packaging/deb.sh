#!/usr/bin/env bash
#
# Builds the Debian package:
#
#     packaging/deb.sh                  for this machine: compiles the plugin and the tool
#                                       ->  target/debian/mosquitto-auth0_VERSION_ARCH.deb
#     packaging/deb.sh TARGET           from what packaging/build.sh has compiled for TARGET
#                                       ->  target/packages/release/mosquitto-auth0_VERSION_ARCH.deb
#
# Needs: make, what `cargo build` needs, binutils, and the package dpkg-dev.
#
# It holds the plugin, the operator's tool, and the module by which mosquitto_ctrl runs the tool.
#
# The tools of dpkg-dev are called directly. debhelper would compile with its own CFLAGS, which means
# AWS-LC once more and a plugin that nobody has measured; this way the package holds what cargo makes,
# stripped.
#
# The version comes from Cargo.toml. debian/changelog must have an entry for it, which adds the Debian
# revision and the date (the package is the same to the byte each time it is made from the same .so).
set -euo pipefail
umask 022

die() { printf 'deb: %s\n' "$@" >&2; exit 1; }

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=packaging/targets.sh
source packaging/targets.sh
# shellcheck source=packaging/lay-out.sh
source packaging/lay-out.sh
for tool in cargo make strip readelf dpkg-gencontrol dpkg-deb; do
  command -v "$tool" >/dev/null || die "$tool is missing: install Rust (rustup), make and the package dpkg-dev"
done

PACKAGE=mosquitto-auth0
TARGET=${1:-}
[[ $# -le 1 && ( -z $TARGET || " ${TARGETS[*]} " == *" $TARGET "* && $TARGET == *-gnu ) ]] ||
  die "usage: packaging/deb.sh [TARGET], a target with glibc"
upstream=$(cargo pkgid --locked)
upstream=${upstream##*[#@]}
version=$(dpkg-parsechangelog -l packaging/debian/changelog -S Version)
# A pre-release of 1.0.0 is 1.0.0-rc.1 to cargo and 1.0.0~rc.1 to Debian, where it sorts before 1.0.0.
[[ ${version%-*} == "${upstream/-/\~}" ]] ||
  die "packaging/debian/changelog begins with $version, Cargo.toml says $upstream: add an entry" \
    "  (dch -c packaging/debian/changelog -v ${upstream/-/\~}-1 does it, from the package devscripts)"

if [[ -z $TARGET ]]; then
  # In one go, so that they are linked at the same time.
  cargo build --locked --release -p mosquitto-auth0 -p cli -p mosquitto-ctrl-auth0
  out=target/debian
  from=$out/compiled
  made=${CARGO_TARGET_DIR:-target}/release
  rm -rf "$from"
  install -D -m 644 "$made/libmosquitto_auth0.so" "$from/$PLUGIN"
  install -D -m 644 "$made/libmosquitto_ctrl_auth0.so" "$from/$CTRL"
  install -D -m 755 "$made/mosquitto-auth0" "$from/$TOOL"
  strip --strip-unneeded --remove-section=.comment "$from"/*
  TARGET=$(rustc -vV | sed -n 's/^host: //p')
else
  out=$RELEASE_DIR
  from=target/packages/$TARGET
  case $TARGET in
    x86_64-*) export DEB_HOST_ARCH=amd64 ;;
    aarch64-*) export DEB_HOST_ARCH=arm64 ;;
  esac
fi
# Only now: a changed environment can make cargo compile everything anew.
SOURCE_DATE_EPOCH=$(dpkg-parsechangelog -l packaging/debian/changelog -S Timestamp)
export SOURCE_DATE_EPOCH LC_ALL=C.UTF-8

work=$out/build-deb
tree=$work/tree
# The same in all releases, though the broker's own plugins lie one folder deeper from 2.1 on.
libdir=/usr/lib/$(dpkg-architecture ${DEB_HOST_ARCH:+"-a$DEB_HOST_ARCH"} -qDEB_HOST_MULTIARCH)
doc=$tree/usr/share/doc/$PACKAGE
rm -rf "$work"
mkdir -p "$tree/DEBIAN"
lay_out "$tree" "$from" "$libdir" "$TARGET"
install -D -m 644 packaging/completions/_mosquitto-auth0 "$tree/usr/share/zsh/vendor-completions/_mosquitto-auth0"
install -m 644 packaging/debian/copyright "$doc/copyright"
install -D -m 644 packaging/debian/lintian-overrides "$tree/usr/share/lintian/overrides/$PACKAGE"
gzip -9n <packaging/debian/changelog >"$doc/changelog.Debian.gz"
# Where Debian's tools look for it, beside the one that the documents link to.
gzip -9n <CHANGELOG.md >"$doc/changelog.gz"
printf '%s\n' "${CONFIGURATION[@]}" >"$tree/DEBIAN/conffiles"
removal_guard "$libdir" >"$tree/DEBIAN/prerm"
chmod 755 "$tree/DEBIAN/prerm"

# dpkg-shlibdeps would ask for the C library that this machine has, and cannot read another architecture's.
depends() {
  local files=("$from/$PLUGIN" "$from/$CTRL" "$from/$TOOL") glibc
  glibc=$(readelf --version-info --wide "${files[@]}" | grep -oE 'GLIBC_[0-9.]+' | cut -d_ -f2 | sort -uV | tail -n 1)
  printf 'libc6 (>= %s)' "$glibc"
  ! readelf --dynamic --wide "${files[@]}" | grep -qF '[libgcc_s.so.1]' || printf ', libgcc-s1 (>= 4.2)'
}

(cd "$tree" && find usr -type f -print0 | sort -z | xargs -0 md5sum >DEBIAN/md5sums)

# This one looks for debian/ where it is called, and writes into it.
needs=$(depends)
cp -r packaging/debian "$work/debian"
(cd "$work" && dpkg-gencontrol -p"$PACKAGE" -V"shlibs:Depends=$needs" -Ptree -Otree/DEBIAN/control)

rm -f "$out/$PACKAGE"_*_"$(dpkg-architecture -qDEB_HOST_ARCH)".deb # of earlier versions
dpkg-deb --root-owner-group -Zxz --build "$tree" "$out" >/dev/null
rm -rf "$work"
printf 'deb: %s\n' "$out/$PACKAGE"_*_"$(dpkg-architecture -qDEB_HOST_ARCH)".deb
