#!/usr/bin/env bash
#
# Packs what packaging/build.sh has compiled for systems without a package of ours:
#
#     packaging/tarball.sh TARGET  ->  target/packages/release/mosquitto-auth0-VERSION-TARGET.tar.gz and .cdx.json
#
# Needs: cargo, GNU tar, Python 3.11 or later.
set -euo pipefail
umask 022

die() { printf 'tarball: %s\n' "$@" >&2; exit 1; }

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=packaging/targets.sh
source packaging/targets.sh
TARGET=${1:-}
[[ $# = 1 && " ${TARGETS[*]} " == *" $TARGET "* ]] || die "usage: packaging/tarball.sh TARGET, one of: ${TARGETS[*]}"

SOURCE_DATE_EPOCH=$(dpkg-parsechangelog -l packaging/debian/changelog -S Timestamp)
export SOURCE_DATE_EPOCH LC_ALL=C.UTF-8
upstream=$(cargo pkgid --locked)
name=mosquitto-auth0-${upstream##*[#@]}-$TARGET
out=$RELEASE_DIR
work=$out/build-tarball
top=$work/$name
rm -rf "$work"
mkdir -p "$top"

cp "target/packages/$TARGET"/{"$PLUGIN","$CTRL","$TOOL"} "$top/"
cp LICENSE README.md CHANGELOG.md SECURITY.md CONTRIBUTING.md packaging/auth0.conf "$top/"
sed -i 's|@LIBDIR@|/usr/local/lib|' "$top/auth0.conf"
cp -r docs man packaging/completions "$top/"
# By their kind, as in packaging/lay-out.sh: what running the samples leaves beside them is not packed.
for file in examples/README.md examples/nodejs/*.js* examples/python/*.{py,txt} examples/docker/*; do
  install -D -m 644 "$file" "$top/$file"
done
cp -r packaging/systemd "$top/examples/systemd"
cp -r packaging/apparmor "$top/examples/apparmor"
packaging/third-party.sh "$TARGET" >"$top/THIRD-PARTY.txt"
packaging/sbom.py "$TARGET" >"$top/sbom.cdx.json"
cp "$top/sbom.cdx.json" "$out/$name.cdx.json"

# Nothing of this machine and of this moment is in it.
chmod -R u=rwX,go=rX "$top"
tar -C "$work" --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --format=gnu \
  -cf - "$name" |
  gzip -9n >"$out/$name.tar.gz"
rm -rf "$work"
printf 'tarball: %s\n' "$out/$name.tar.gz"
