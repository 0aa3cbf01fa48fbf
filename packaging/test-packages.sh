#!/usr/bin/env bash
#
# Tests what packaging/packages.sh has made: packaging/test-packages.sh
#
#   * lintian finds nothing in the Debian packages;
#   * the Debian packages work in bookworm, trixie and sid, with each one's own broker (packaging/test-deb.sh:
#     installed, used over TLS, upgraded, removed, purged), that of the other architecture where the kernel runs its
#     programs under qemu-user;
#   * it works where systemd runs the broker, also with the hardened unit (packaging/test-systemd.sh);
#   * the RPM packages hold what they should, and are installed and removed (packaging/test-rpm.sh);
#   * the files for other machines work (packaging/test-targets.sh): for glibc on the other architecture in Debian's
#     brokers, for musl on both in Mosquitto as Alpine has it;
#   * archives, checksums and bills of materials are whole, the Dockerfile and the compose file can be read, and
#     systemd and AppArmor can read what is for them.
#
# Needs: the packages debootstrap, debian-archive-keyring, lintian, rpm, openssl, qemu-user-static, systemd,
# systemd-container, apparmor, python3-yaml; root for the trees. Takes about ten minutes, and some more when the trees
# and the brokers are made.
set -euo pipefail

die() { printf 'test-packages: %s\n' "$@" >&2; exit 1; }

cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH=$PATH:/usr/sbin:/sbin
RELEASE=$PWD/target/packages/release
for tool in debootstrap lintian rpm openssl systemd-analyze apparmor_parser python3; do
  command -v "$tool" >/dev/null || die "$tool is missing (the top of this script lists the packages)"
done
of_arch() { find "$RELEASE" -name "mosquitto-auth0_*_$1.deb"; }
deb=$(of_arch "$(dpkg --print-architecture)")
[[ -n $deb ]] || die "there is no Debian package in $RELEASE: run packaging/packages.sh first"
cargo build --locked --quiet -p testbed --bin tenant
TENANT=$(realpath "${CARGO_TARGET_DIR:-target}/debug/tenant")
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT

printf '== lintian ==\n'
# Errors, warnings and pedantry. What it only remarks on are names in AWS-LC and that a drop-in has no init script.
lintian --pedantic "$RELEASE"/*.deb | tee "$WORK/lintian"
[[ ! -s $WORK/lintian ]] || die "lintian is not content"

printf '== archives ==\n'
(cd "$RELEASE" && sha256sum --quiet --check SHA256SUMS &&
  diff <(awk '{ print $2 }' SHA256SUMS) <(printf '%s\n' mosquitto-auth0*)) || die "SHA256SUMS does not fit the files"
for archive in "$RELEASE"/*.tar.gz; do
  name=${archive##*/}
  name=${name%.tar.gz}
  tar -xzf "$archive" -C "$WORK"
  for file in mosquitto_auth0.so mosquitto_ctrl_auth0.so mosquitto-auth0 auth0.conf LICENSE THIRD-PARTY.txt \
    docs/install.md examples/README.md examples/nodejs/publisher.js examples/python/publisher.py \
    examples/docker/Dockerfile sbom.cdx.json; do
    [[ -s $WORK/$name/$file ]] || die "$archive has no $file"
  done
  cmp "$WORK/$name/sbom.cdx.json" "$RELEASE/$name.cdx.json"
  python3 - "$RELEASE/$name.cdx.json" <<'PYTHON'
import json, sys
bom = json.load(open(sys.argv[1]))
assert (bom["bomFormat"], bom["specVersion"]) == ("CycloneDX", "1.5")
known = {c["bom-ref"] for c in bom["components"]} | {bom["metadata"]["component"]["bom-ref"]}
for entry in bom["dependencies"]:
    assert entry["ref"] in known and known.issuperset(entry["dependsOn"]), entry
for component in bom["components"]:
    assert component["licenses"], component
    assert "hashes" in component or component["version"] == bom["metadata"]["component"]["version"], component
assert any(c["name"] == "aws-lc-sys" for c in bom["components"])
PYTHON
done

printf '== what other programs read ==\n'
python3 - examples/docker <<'PYTHON'
import re, sys, yaml
folder = sys.argv[1]
compose = yaml.safe_load(open(f"{folder}/compose.yaml"))
service = compose["services"]["mosquitto"]
assert set(service["secrets"]) == set(compose["secrets"]), "each secret is declared and used"
configuration = open(f"{folder}/mosquitto.conf").read()
for path in re.findall(r"/run/secrets/(\S+)", configuration):
    assert path in service["secrets"], f"mosquitto.conf names a secret that is not mounted: {path}"
mounted = [volume.split(":")[1] for volume in service["volumes"]]
for path in re.findall(r"^(?:certfile|persistence_location|plugin_opt_state_dir) (\S+)", configuration, re.M):
    assert any(path.startswith(place) for place in mounted), f"nothing is mounted where mosquitto.conf has {path}"
copied = re.findall(r"\}/(\S+)", open(f"{folder}/Dockerfile").read())
assert {"mosquitto_auth0.so", "mosquitto_ctrl_auth0.so", "mosquitto-auth0"} == set(copied), copied
PYTHON
! command -v hadolint >/dev/null || hadolint examples/docker/Dockerfile
# A unit of its own with both drop-ins: this machine need not have a broker.
mkdir -p "$WORK/units/broker.service.d"
printf '[Service]\nExecStart=/bin/true\n' >"$WORK/units/broker.service"
cp packaging/systemd/*.conf "$WORK/units/broker.service.d/"
systemd-analyze verify "$WORK/units/broker.service" 2>&1 | tee "$WORK/verify"
[[ ! -s $WORK/verify ]] || die "systemd does not accept a drop-in"
mkdir -p "$WORK/apparmor"
cp -r /etc/apparmor.d/. "$WORK/apparmor/"
cp packaging/apparmor/mosquitto-auth0 "$WORK/apparmor/abstractions/"
printf '%s\n' 'include <tunables/global>' 'profile broker /usr/sbin/mosquitto {' '  include <abstractions/base>' \
  '  include <abstractions/mosquitto-auth0>' '}' >"$WORK/profile"
apparmor_parser --skip-kernel-load --skip-cache --base "$WORK/apparmor" "$WORK/profile" ||
  die "AppArmor does not accept its file"

# The RPM packages are installed in the trees that this makes.
for machine in x86_64 aarch64; do
  case $machine in
    x86_64) arch=amd64 ;;
    aarch64) arch=arm64 ;;
  esac
  if [[ $machine != "$(uname -m)" && ! -e /proc/sys/fs/binfmt_misc/qemu-$machine ]]; then
    printf '== %s: skipped, as this kernel cannot run its programs (install qemu-user-static) ==\n' "$arch"
    continue
  fi
  file=$(of_arch "$arch")
  [[ -n $file ]] || die "there is no Debian package for $arch in $RELEASE: run packaging/packages.sh first"
  for suite in bookworm trixie sid; do
    printf '== %s, %s ==\n' "$suite" "$arch"
    SUITE=$suite packaging/test-deb.sh "$file" "$TENANT"
  done
  printf '== rpm, %s ==\n' "$arch"
  packaging/test-rpm.sh "$machine"
done
printf '== systemd ==\n'
packaging/test-systemd.sh "$deb" "$TENANT"
printf '== other machines ==\n'
packaging/test-targets.sh
