#!/usr/bin/env bash
#
# Builds everything that a release consists of, on any machine, for all machines:
#
#     packaging/packages.sh [TARGET...] ->  target/packages/release/      without a TARGET: for all of them
#
#     mosquitto-auth0_VERSION_ARCH.deb             Debian, Ubuntu, Raspberry Pi OS with 64 bits
#     mosquitto-auth0-VERSION-1.ARCH.rpm           Fedora, RHEL and their like
#     mosquitto-auth0-VERSION-TARGET.tar.gz        the three files, documents, examples, licences
#     mosquitto-auth0-VERSION-TARGET.cdx.json      what is linked into them (CycloneDX)
#     SHA256SUMS
#
# The targets are those in packaging/targets.sh; packaging/build.sh says what compiling needs. Builds are
# reproducible: packaging/test-reproducible.sh compares two. What an earlier run made stays until all is built.
set -euo pipefail

die() { printf 'packages: %s\n' "$@" >&2; exit 1; }

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=packaging/targets.sh
source packaging/targets.sh
for target; do
  [[ " ${TARGETS[*]} " == *" $target "* ]] || die "there is no target $target: name one or more of ${TARGETS[*]}"
done
[[ $# = 0 ]] || TARGETS=("$@")
for folder in "$PWD" "${CARGO_HOME:-$HOME/.cargo}"; do
  [[ $folder != *[[:space:]]* ]] || die "RUSTFLAGS cannot hold the space in '$folder': use a folder without one"
done
python3 -c 'import tomllib' 2>/dev/null || die "Python 3.11 or later is missing: install it and put it first in PATH"

out=target/packages/release
export RELEASE_DIR=$out.new
rm -rf "$RELEASE_DIR"
mkdir -p "$RELEASE_DIR"
for target in "${TARGETS[@]}"; do
  packaging/build.sh "$target"
  packaging/tarball.sh "$target"
  [[ $target == *-gnu ]] || continue
  packaging/deb.sh "$target"
  packaging/rpm.sh "$target"
done
(cd "$RELEASE_DIR" && sha256sum mosquitto-auth0* >SHA256SUMS)
rm -rf "$out"
mv "$RELEASE_DIR" "$out"
printf 'packages: %s\n' "$out"/*
