#!/usr/bin/env bash
# Installs missing packages, and nothing else:
# tests/dependencies.sh build|dashboard|deb|demo|measure|packages|test|test-packages
set -euo pipefail

# For bindgen and cc, to build the plugin with Mosquitto 2.0's headers.
packages=(build-essential libclang-dev mosquitto-dev libmosquitto-dev)
# For tests/brokers.sh, to fetch three brokers and verify their origin.
brokers=(debian-archive-keyring debootstrap)
# For tests/sanitized.sh, to build a broker, beside a compiler.
sanitized=(dpkg-dev libcjson-dev libssl-dev)
# For the Debian package.
deb=(dpkg-dev)
# For the packages of a release, and to test them.
release=(binutils python3 python3-venv rpm)
released=(apparmor libssl-dev lintian openssl python3-yaml qemu-user-static systemd
          systemd-container util-linux)
# An identity server, an HTTP proxy (its program alone, without its service) and a monitoring system for the tests, the
# languages of the samples, and the programs in the README's commands.
test=(curl glewlwyd openssl prometheus python3 python3-venv tinyproxy-bin)
# By command, not by package: Node often comes from another source, with which Debian's npm cannot be installed.
node=(node:nodejs npm:npm)
# For the picture of the dashboard.
dashboard=(chromium pngquant prometheus prometheus-node-exporter)
commands=()

case ${1:-} in
  build) ;;
  dashboard)
    packages+=("${brokers[@]}" "${dashboard[@]}")
    commands=("${node[@]}")
    ;;
  demo) packages+=("${brokers[@]}") ;;
  measure) packages+=("${brokers[@]}" valgrind libcurl4-openssl-dev) ;;
  deb) packages+=("${deb[@]}") ;;
  packages) packages+=("${deb[@]}" "${release[@]}") ;;
  test-packages) packages+=("${brokers[@]}" "${deb[@]}" "${release[@]}" "${released[@]}") ;;
  test)
    packages+=("${brokers[@]}" "${sanitized[@]}" "${deb[@]}" "${test[@]}")
    commands=("${node[@]}")
    ;;
  *)
    echo "usage: $0 build|dashboard|deb|demo|measure|packages|test|test-packages" >&2
    exit 2
    ;;
esac

# The compiler comes first: nothing is fetched if it is too old.
needed=$(sed -n '/^rust-version/{s/.*"\(.*\)"/\1/p;q}' "$(dirname "${BASH_SOURCE[0]}")/../Cargo.toml")
for tool in cargo rustc; do
  if path=$(command -v "$tool"); then
    answer=$("$tool" --version 2>&1) || true
    version=$(sed -nE "s/^$tool ([0-9.]+).*/\1/p" <<<"$answer")
    if [[ -n $version && $(printf '%s\n' "$needed" "$version" | sort -V | head -n 1) == "$needed" ]]; then
      continue
    fi
    found="$path says: ${answer%%$'\n'*}"
  else
    found="$tool is missing"
  fi
  cat >&2 <<TEXT
dependencies: Rust $needed or later is needed, and $found
  On Debian 12 and 13, where apt has the security archive: sudo apt install cargo-web rustfmt-web rust-web-clippy
  (they replace the older packages cargo and rustc). On Ubuntu 24.04: sudo apt install rustup, and then
  rustup default stable. Or from https://rustup.rs; if you have rustup: rustup update stable && rustup default stable.
  Then run this again.
TEXT
  exit 1
done
if ! command -v apt-get >/dev/null; then
  echo "dependencies: this is neither Debian nor Ubuntu; install by hand: ${packages[*]}" >&2
  exit 1
fi

is_installed() { dpkg-query -W -f='${db:Status-Status}\n' "$1" 2>/dev/null | grep -qx installed; }

missing=()
for package in "${packages[@]}"; do
  is_installed "$package" || missing+=("$package")
done
for pair in "${commands[@]}"; do
  command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
done
if ((${#missing[@]} == 0)); then
  exit 0
fi

root=()
if ((EUID != 0)); then
  if ! command -v sudo >/dev/null; then
    echo "dependencies: run as root: apt-get install ${missing[*]}" >&2
    exit 1
  fi
  root=(sudo)
fi
echo "dependencies: installing ${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
quietly() {
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive "$@" >"$log" 2>&1 || {
    tail -20 "$log" >&2
    echo "dependencies: failed: $*" >&2
    exit 1
  }
}
quietly apt-get update
# apt only warns of archives that it cannot reach.
if grep -q 'Failed to fetch' "$log" && ! grep -qE '^(Hit|Get):' "$log"; then
  echo "dependencies: no package archive can be reached: check this machine's network and apt's proxy" \
    "(/etc/apt/apt.conf.d), then run this again" >&2
  exit 1
fi

# Only programs and headers are needed, but mosquitto-dev installs a broker. policy-rc.d is Debian's way to
# prevent that services start (invoke-rc.d(8)); it is removed at the end.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
  trap 'rm -f "$log"; "${root[@]}" rm -f "$policy"' EXIT
  printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee "$policy" >/dev/null
  "${root[@]}" chmod 755 "$policy"
fi
services=()
for service in mosquitto glewlwyd prometheus prometheus-node-exporter; do
  is_installed "$service" || services+=("$service")
done

if [[ " ${missing[*]} " == *" glewlwyd "* ]]; then
  # Its package would ask for a database.
  echo 'glewlwyd glewlwyd/config_type select No configuration' | "${root[@]}" debconf-set-selections
  missing+=(dbconfig-no-thanks)
  # Its postinst unpacks a sample from a folder that slim images leave out, unless this file exists.
  "${root[@]}" mkdir -p /etc/glewlwyd
  [[ -e /etc/glewlwyd/glewlwyd.conf ]] || "${root[@]}" touch /etc/glewlwyd/glewlwyd.conf
fi
quietly apt-get install -y --no-install-recommends "${missing[@]}"

# The services must not start at the next boot either, unless they were installed before. Without systemctl
# there is no systemd that would start them.
for service in "${services[@]}"; do
  if is_installed "$service" && command -v systemctl >/dev/null; then
    quietly systemctl disable "$service.service"
  fi
done
