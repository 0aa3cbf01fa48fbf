#!/usr/bin/env bash
#
# Builds the Debian package: packaging/deb.sh  ->  target/debian/mosquitto-auth0_VERSION_ARCH.deb
#
# Needs: make, what `cargo build` needs, and the package dpkg-dev.
#
# It holds the plugin, the operator's tool, and the module by which mosquitto_ctrl runs the tool.
#
# The tools of dpkg-dev are called directly. debhelper would compile with its own CFLAGS, which means
# AWS-LC once more and a plugin that nobody has measured; this way the package holds what `make plugin`
# makes, stripped.
#
# The version comes from Cargo.toml. debian/changelog must have an entry for it, which adds the Debian
# revision and the date (the package is the same to the byte each time it is made from the same .so).
set -euo pipefail
umask 022

die() { printf 'deb: %s\n' "$@" >&2; exit 1; }

cd "$(dirname "${BASH_SOURCE[0]}")/.."
for tool in cargo make strip dpkg-shlibdeps dpkg-gencontrol dpkg-deb; do
  command -v "$tool" >/dev/null || die "$tool is missing: install Rust (rustup), make and the package dpkg-dev"
done

PACKAGE=mosquitto-auth0
upstream=$(cargo pkgid --locked)
upstream=${upstream##*[#@]}
version=$(dpkg-parsechangelog -l packaging/debian/changelog -S Version)
# A pre-release of 1.0.0 is 1.0.0-rc.1 to cargo and 1.0.0~rc.1 to Debian, where it sorts before 1.0.0.
[[ ${version%-*} == "${upstream/-/\~}" ]] ||
  die "packaging/debian/changelog begins with $version, Cargo.toml says $upstream: add an entry" \
    "  (dch -c packaging/debian/changelog -v ${upstream/-/\~}-1 does it, from the package devscripts)"

make plugin
make tool
# Only now: a changed environment can make cargo compile everything anew.
SOURCE_DATE_EPOCH=$(dpkg-parsechangelog -l packaging/debian/changelog -S Timestamp)
export SOURCE_DATE_EPOCH LC_ALL=C.UTF-8

out=target/debian
work=$out/build
tree=$work/tree
libdir=/usr/lib/$(dpkg-architecture -qDEB_HOST_MULTIARCH) # where Debian's broker keeps its own plugins
doc=$tree/usr/share/doc/$PACKAGE
rm -rf "$work"
mkdir -p "$tree/DEBIAN" "$doc"

plugin=$tree$libdir/mosquitto_auth0.so
install -D -m 644 "${CARGO_TARGET_DIR:-target}/release/libmosquitto_auth0.so" "$plugin"
ctrl=$tree$libdir/mosquitto_ctrl_auth0.so # where mosquitto_ctrl finds its modules
install -m 644 "${CARGO_TARGET_DIR:-target}/release/libmosquitto_ctrl_auth0.so" "$ctrl"
tool=$tree/usr/bin/mosquitto-auth0
install -D -m 755 "${CARGO_TARGET_DIR:-target}/release/mosquitto-auth0" "$tool"
strip --strip-unneeded --remove-section=.comment "$plugin" "$ctrl" "$tool"
install -D -m 644 packaging/completions/mosquitto-auth0 "$tree/usr/share/bash-completion/completions/mosquitto-auth0"
install -D -m 644 packaging/completions/_mosquitto-auth0 "$tree/usr/share/zsh/vendor-completions/_mosquitto-auth0"
install -D -m 644 packaging/completions/mosquitto-auth0.fish \
  "$tree/usr/share/fish/vendor_completions.d/mosquitto-auth0.fish"

conf=/etc/mosquitto/conf.d/auth0.conf
install -d "$tree${conf%/*}"
sed "s|@LIBDIR@|$libdir|" packaging/auth0.conf >"$tree$conf"
! grep -n '^[^#]' "$tree$conf" || die "packaging/auth0.conf has a line that is no comment"
rotation=/etc/logrotate.d/mosquitto-auth0
install -D -m 644 packaging/logrotate "$tree$rotation"
printf '%s\n' "$conf" "$rotation" >"$tree/DEBIAN/conffiles"
sed "s|@LIBDIR@|$libdir|" packaging/debian/prerm >"$tree/DEBIAN/prerm"
chmod 755 "$tree/DEBIAN/prerm"

install -m 644 packaging/debian/copyright "$doc/copyright"
install -D -m 644 packaging/debian/lintian-overrides "$tree/usr/share/lintian/overrides/$PACKAGE"
gzip -9n <packaging/debian/changelog >"$doc/changelog.Debian.gz"
for page in man/*.[157]; do
  install -d "$tree/usr/share/man/man${page##*.}"
  gzip -9n <"$page" >"$tree/usr/share/man/man${page##*.}/${page##*/}.gz"
done
# What the README points at lies beside it. Named by their kind: the source may be no checkout of git's,
# and what running the samples leaves beside them is none of them.
for file in README.md CHANGELOG.md CONTRIBUTING.md SECURITY.md docs/*.{md,svg,json,yml} examples/README.md \
  examples/nodejs/*.js* examples/python/*.{py,txt}; do
  install -D -m 644 "$file" "$doc/$file"
done

# The licences of what is linked into the plugin and the tool, each text once.
third_party() {
  local manifests crate licence name release dir file sum found
  local -A seen=()
  manifests=$(cargo metadata --locked --format-version 1 | grep -oE '"manifest_path":"[^"]+"' | cut -d'"' -f4)
  while IFS='|' read -r crate licence; do
    read -r name release origin <<<"${crate/ v/ }"
    [[ $origin != "(/"* ]] || continue # in a folder of this project
    printf '%s\n%s %s: %s\n\n' "$(printf '=%.0s' {1..78})" "$name" "$release" "$licence"
    dir=$(grep -F "/$name-$release/Cargo.toml" <<<"$manifests" | head -n 1) ||
      die "cargo does not say where the source of $crate is"
    found=
    while read -r file; do
      sum=$(sha256sum <"$file")
      if [[ -n ${seen[$sum]:-} ]]; then
        printf '(%s: the same as %s)\n' "${file##*/}" "${seen[$sum]}"
      else
        seen[$sum]="${file##*/} of $name"
        printf -- '---- %s ----\n\n%s\n\n' "${file##*/}" "$(<"$file")"
      fi
      found=1
    done < <(find "${dir%/*}" -type f \( -iname 'LICEN[CS]E*' -o -iname 'COPYING*' -o -iname 'NOTICE*' \
      -o -iname UNLICENSE \) | sort)
    [[ -n $found ]] || printf '(its source holds no text of the licence)\n'
    printf '\n'
  done < <(cargo tree --locked -p "$PACKAGE" -p cli -p mosquitto-ctrl-auth0 --edges normal,no-proc-macro --prefix none \
    --format '{p}|{l}' | sed 's/ (\*)$//; /^$/d' | sort -u)
}
third_party | gzip -9n >"$doc/third-party.gz"

(cd "$tree" && find usr -type f -print0 | sort -z | xargs -0 md5sum >DEBIAN/md5sums)

# These two look for debian/ where they are called, and write into it.
cp -r packaging/debian "$work/debian"
(
  cd "$work"
  dpkg-shlibdeps "${plugin#"$work"/}" "${ctrl#"$work"/}" "${tool#"$work"/}"
  dpkg-gencontrol -p"$PACKAGE" -Ptree -Otree/DEBIAN/control
)

rm -f "$out/$PACKAGE"_*.deb # of earlier versions
dpkg-deb --root-owner-group -Zxz --build "$tree" "$out" >/dev/null
rm -rf "$work"
printf 'deb: %s\n' "$out/$PACKAGE"_*.deb
