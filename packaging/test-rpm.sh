#!/usr/bin/env bash
#
# Installs and removes the RPM package of an architecture, of this machine's by default, in the tree that
# packaging/test-deb.sh made of bookworm, by rpm itself: packaging/test-rpm.sh [x86_64|aarch64]
#
# Nobody's broker runs here: no tree of Fedora or RHEL can be had from Debian's archive. The files are those of the
# Debian package, of the same compilation.
#
# Needs: rpm, and root for the tree.
set -euo pipefail
umask 022

say() { printf 'test-rpm: %s\n' "$*"; }
die() { printf 'test-rpm: %s\n' "$@" >&2; exit 1; }

SELF=$(realpath -- "${BASH_SOURCE[0]}")
cd "${SELF%/*}/.."
MACHINE=${1:-$(uname -m)}
case $MACHINE in
  x86_64) ARCH=amd64 ;;
  aarch64) ARCH=arm64 ;;
  *) die "usage: packaging/test-rpm.sh [x86_64|aarch64]" ;;
esac
FILE=$(find "$PWD/target/packages/release" -name "mosquitto-auth0-*.$MACHINE.rpm")
CACHE=target/debian/bookworm-$ARCH.tar
[[ -n $FILE ]] || die "there is no package: run packaging/packages.sh first"
[[ -s $CACHE ]] || die "$CACHE is missing: SUITE=bookworm packaging/test-deb.sh makes it"
if [[ $EUID != 0 ]]; then
  say "a tree of another system takes root: calling sudo"
  exec sudo "$SELF" "$MACHINE"
fi
# shellcheck source=packaging/checks.sh
source packaging/checks.sh
WORK=$(mktemp -d "$PWD/target/packages/test-rpm.XXXXXX")
TREE=$WORK/tree
finish() {
  local status=$?
  trap - EXIT
  [[ $FAILED != 0 || $status = 0 ]] || FAILED=1
  rm -rf "$WORK"
  printf '%d passed, %d failed\n' "$PASSED" "$FAILED"
  [[ $FAILED = 0 ]] || exit 1
}
trap finish EXIT

mkdir "$TREE"
tar -C "$TREE" --numeric-owner -xpf "$CACHE"
CONF=/etc/mosquitto/conf.d/auth0.conf
PLUGIN=/usr/lib64/mosquitto_auth0.so

# This database is of the tree's own. What the package needs is looked at by its list: the tree's packages are Debian's.
in_rpm() { rpm --root "$TREE" --dbpath /var/lib/rpm "$@"; }
rpm_install() { in_rpm --nodeps --ignorearch "$@"; }
requires() { rpm -qp --requires "$FILE" | tee /dev/stderr | grep -qE -- "$1"; }
is_configuration() { rpm -qpc "$FILE" | tee /dev/stderr | grep -qxF "$1"; }
has_mode() { [[ $(stat -c '%A %u:%g' "$TREE$2" | tee /dev/stderr) == "$1" ]]; }
is_as_shipped() { [[ -z $(in_rpm -V --nodeps mosquitto-auth0 2>&1 | tee /dev/stderr) ]]; }
removal_is_refused() {
  not in_rpm -e mosquitto-auth0 >"$WORK/said" 2>&1 && tee /dev/stderr <"$WORK/said" |
    grep -qF "mosquitto-auth0 is not removed: line"
}
nothing_of_it_stays() { # but what the operator has edited
  [[ -z $(find "$TREE" -xdev -iname '*auth0*' ! -name '*.rpmsave' | tee /dev/stderr) ]]
}
same_as_in_the_archive() {
  local archive
  archive=$(find target/packages/release -name "*-$MACHINE-unknown-linux-gnu.tar.gz")
  tar -xzf "$archive" -C "$WORK" --wildcards --strip-components 1 '*/mosquitto_auth0.so'
  cmp "$WORK/mosquitto_auth0.so" "$TREE$PLUGIN"
}

check "it needs a broker that it works with" requires '^mosquitto >= 2\.0\.11$'
check "it needs the C library, by its version" requires '^libc\.so\.6\(GLIBC_2\.[0-9]+\)\(64bit\)$'
check "it needs certificate authorities" requires '^ca-certificates$'
check "the example is the operator's" is_configuration "$CONF"
check "rpm installs it" rpm_install -i "$FILE"
check "the plugin lies where Fedora and RHEL keep the broker's own" has_mode '-rw-r--r-- 0:0' "$PLUGIN"
check "it is the file of the archive" same_as_in_the_archive
check "every file is as shipped" is_as_shipped
check "the tool runs" chroot "$TREE" mosquitto-auth0 --version
check "every line of the example is a comment" not grep -n '^[^#]' "$TREE$CONF"
check "the example names the plugin" grep -qxF "#plugin $PLUGIN" "$TREE$CONF"
sed -i 's/^#plugin /plugin /' "$TREE$CONF"
check "while the configuration loads the plugin, it is not removed" removal_is_refused
check "and everything is there" has_mode '-rw-r--r-- 0:0' "$PLUGIN"
check "an upgrade goes on all the same" rpm_install -U --replacepkgs --oldpackage "$FILE"
check "and leaves the edited example" grep -qxF "plugin $PLUGIN" "$TREE$CONF"
sed -i 's/^plugin /#plugin /' "$TREE$CONF"
check "once it is off, it is removed" in_rpm -e mosquitto-auth0
check "nothing is left of it" nothing_of_it_stays
