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
# The targets are those in packaging/targets.sh; packaging/build.sh says what compiling needs. The same source,
# compilers and day of release shall give the same bytes in every folder (packaging/test-reproducible.sh).
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=packaging/targets.sh
source packaging/targets.sh
[[ $# = 0 ]] || TARGETS=("$@")

out=target/packages/release
rm -rf "$out"
mkdir -p "$out"
for target in "${TARGETS[@]}"; do
  packaging/build.sh "$target"
  packaging/tarball.sh "$target"
  [[ $target == *-gnu ]] || continue
  packaging/deb.sh "$target"
  packaging/rpm.sh "$target"
done
(cd "$out" && sha256sum mosquitto-auth0* >SHA256SUMS)
printf 'packages: %s\n' "$out"/*
