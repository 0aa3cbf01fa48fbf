#!/usr/bin/env bash
#
# Builds a target's packages here and in a copy of the source in another folder, and compares the bytes:
#
#     packaging/test-reproducible.sh [TARGET...]        default: x86_64-unknown-linux-musl
#
# The copy has its own compilers' caches and another length of path. What has been compiled here is used again.
# Needs: what packaging/packages.sh needs, some gigabytes of disk, and the time of a whole build.
set -euo pipefail

die() { printf 'test-reproducible: %s\n' "$@" >&2; exit 1; }

cd "$(dirname "${BASH_SOURCE[0]}")/.."
[[ $# != 0 ]] || set -- x86_64-unknown-linux-musl
copy=$PWD/target/packages/elsewhere/a-folder-of-another-name
rm -rf "$copy"
mkdir -p "$copy/target/packages"
git ls-files --cached --others --exclude-standard -z | xargs -0 cp --parents -t "$copy"
# Compilers as they were downloaded and checked, and nothing that they made.
cp -r target/packages/tools "$copy/target/packages/" 2>/dev/null || true

packaging/packages.sh "$@"
(umask 077 && "$copy/packaging/packages.sh" "$@")
if ! diff "target/packages/release/SHA256SUMS" "$copy/target/packages/release/SHA256SUMS"; then
  die "the files differ (above); both are kept: target/packages/release and ${copy#"$PWD/"}/target/packages/release"
fi
cat target/packages/release/SHA256SUMS
rm -rf "${copy%/*}"
printf 'test-reproducible: the same bytes in both folders\n'
