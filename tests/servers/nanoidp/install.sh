#!/usr/bin/env bash
# Installs nanoidp, with which `cargo test --test e2e nanoidp` runs:
#
#     tests/servers/nanoidp/install.sh
#
# It goes to target/servers/nanoidp and takes 100 MB there. pip checks each package by the checksums in
# requirements.txt, for Python 3.11 and 3.13 on x86_64 and aarch64. Part of `make test`, which goes on without nanoidp
# where that does not work.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."

die() { echo "nanoidp: $*" >&2; exit 1; }

list=tests/servers/nanoidp/requirements.txt
folder=target/servers/nanoidp
if cmp -s "$list" "$folder/requirements.txt"; then
  exit 0
fi
rm -rf "$folder"
python3 -m venv "$folder" || die "Python has no venv: install the package python3-venv"
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: \
  --require-hashes -r "$list" || die "pip does not get what $list lists"
cp "$list" "$folder/requirements.txt" # last: the tests run where it is
