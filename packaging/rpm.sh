#!/usr/bin/env bash
#
# Builds the RPM package from what packaging/build.sh has compiled:
#
#     packaging/rpm.sh TARGET           ->  target/packages/release/mosquitto-auth0-VERSION-1.ARCH.rpm
#
# Needs: cargo, binutils and rpmbuild (Debian's package rpm).
set -euo pipefail
umask 022

die() { printf 'rpm: %s\n' "$@" >&2; exit 1; }

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=packaging/targets.sh
source packaging/targets.sh
# shellcheck source=packaging/lay-out.sh
source packaging/lay-out.sh
TARGET=${1:-}
[[ $# = 1 && " ${TARGETS[*]} " == *" $TARGET "* && $TARGET == *-gnu ]] || die "usage: packaging/rpm.sh TARGET"
command -v rpmbuild >/dev/null || die "rpmbuild is missing: install the package rpm"

arch=${TARGET%%-*}
out=$PWD/$RELEASE_DIR
from=target/packages/$TARGET
work=$out/build-rpm
tree=$work/tree
libdir=/usr/lib64
upstream=$(cargo pkgid --locked)
upstream=${upstream##*[#@]}
# One date for all packages: that of the newest entry in debian/changelog.
SOURCE_DATE_EPOCH=$(dpkg-parsechangelog -l packaging/debian/changelog -S Timestamp)
export SOURCE_DATE_EPOCH LC_ALL=C.UTF-8
glibc=$(readelf --version-info --wide "$from"/* 2>/dev/null | grep -oE 'GLIBC_[0-9.]+' | sort -uV | tail -n 1)

rm -rf "$work"
mkdir -p "$tree"
lay_out "$tree" "$from" "$libdir" "$TARGET"
install -D -m 644 packaging/completions/_mosquitto-auth0 "$tree/usr/share/zsh/site-functions/_mosquitto-auth0"
install -D -m 644 LICENSE "$tree/usr/share/licenses/mosquitto-auth0/LICENSE"

list_files() {
  local file
  printf '%%config(noreplace) %s\n' "${CONFIGURATION[@]}"
  (cd "$tree" && find . -type f | sort) | while read -r file; do
    file=${file#.}
    case $file in
      /etc/*) ;;
      /usr/share/doc/*) printf '%%doc %s\n' "$file" ;;
      /usr/share/licenses/*) printf '%%license %s\n' "$file" ;;
      *) printf '%s\n' "$file" ;;
    esac
  done
  (cd "$tree" && find usr/share/{doc,licenses}/mosquitto-auth0 -type d | sort) | sed 's|^|%dir /|'
}

cat >"$work/package.spec" <<SPEC
Name: mosquitto-auth0
Version: ${upstream/-/\~}
Release: 1
Summary: Auth0 logins and topic rights for the Mosquitto MQTT broker
License: MIT AND ISC AND Apache-2.0 AND BSD-3-Clause
Requires: mosquitto >= 2.0.11, ca-certificates, libc.so.6($glibc)(64bit)
AutoReqProv: no

%description
$(sed -n '/^Description:/,$ { /^Description:/d; s/^ \.$//; s/^ //; p }' packaging/debian/control)

%install
mkdir -p %{buildroot}
cp -a "$tree/." "%{buildroot}/"

%preun
# The only argument is 0 where the package is removed and not upgraded.
if [ "\$1" = 0 ]; then set -- remove; fi
$(removal_guard "$libdir" | sed '1d; s/%/%%/g')

%files
$(list_files)
SPEC

# Nothing is compiled, stripped or compressed again, and nothing is of this machine or of this moment.
rpmbuild -bb --quiet --nodeps --target "$arch-linux" --buildroot "$work/root" \
  --define "_topdir $work/rpm" --define "_rpmdir $out" \
  --define '_rpmfilename %{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}.rpm' \
  --define '__os_install_post %{nil}' --define '_build_id_links none' --define 'debug_package %{nil}' \
  --define '_buildhost localhost' --define 'use_source_date_epoch_as_buildtime 1' \
  --define 'clamp_mtime_to_source_date_epoch 1' --define '_binary_payload w9.gzdio' \
  "$work/package.spec" >"$work/log" 2>&1 || { cat "$work/log" >&2; die "rpmbuild failed (above)"; }
rm -rf "$work"
printf 'rpm: %s\n' "$RELEASE_DIR/mosquitto-auth0-${upstream/-/\~}-1.$arch.rpm"
