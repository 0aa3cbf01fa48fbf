#!/usr/bin/env bash
#
# Puts three released Mosquitto brokers side by side, so that the tests can run against each:
#
#     tests/brokers.sh [DIR [ARCH]]     DIR defaults to target/brokers, ARCH to this machine's architecture
#
#     DIR/2.0.11/  DIR/2.0.21/  DIR/2.1.2/
#         mosquitto  mosquitto_{pub,sub,passwd,ctrl}                    run these
#         bin/  lib/  VERSION                                           what they run
#     DIR/2.1.2/plugins/                                                its plugin for persistence in SQLite
#
# Nothing is installed and no root is needed. The programs are Debian's own builds, fetched and
# checked by this machine's apt into a private folder. Each version brings the C library and the
# dynamic loader it was built for; where this machine has a newer one, a newer one, because plugins
# that are built here need it.
# The result may be moved or cached as a whole: the launchers find their files by their own place.
#
# ARCH is x86_64 or aarch64. Brokers of the architecture that this machine does not have keep their own C library, and
# their launchers run them under qemu-user, of the package qemu-user-static.
#
# Environment:
#   DEBIAN_MIRROR   archive to fetch from. Otherwise: the Debian archive this machine's apt uses, or
#                   the default of the installed debootstrap (for Ubuntu and other relatives). A dated
#                   snapshot of the archive will do, and is the way to a release that has been replaced.
#   NEAREST=1       where the exact release has been replaced in its suite, take the suite's newest of
#                   the same series instead (say 2.1.5 in 2.1.2/). VERSION tells what it really is.
set -euo pipefail

# release | suite that it comes from | further suites for its libraries
RELEASES='
2.0.11 bookworm
2.0.21 bookworm-backports bookworm
2.1.2  sid
'
PROGRAMS=(mosquitto mosquitto_pub mosquitto_sub mosquitto_passwd mosquitto_ctrl)
# Libraries that a plugin may need, in addition to the broker's own.
FOR_PLUGINS=(libc.so.6 libm.so.6 libdl.so.2 libpthread.so.0 librt.so.1 libresolv.so.2
             libgcc_s.so.1 libnss_files.so.2 libnss_dns.so.2)
KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg
ARCH=$(uname -m)

say() { printf 'brokers: %s\n' "$*"; }
die() { printf 'brokers: %s\n' "$@" >&2; exit 1; }

is_ready() { [[ -x $1/mosquitto && -s $1/VERSION ]]; } # folders appear whole or not at all

need() { # PROGRAM PACKAGE
  command -v "$1" >/dev/null || die "$1 is missing: install the package $2"
}

multiarch() {
  if command -v dpkg-architecture >/dev/null; then
    dpkg-architecture -qDEB_HOST_MULTIARCH
  else
    printf '%s-linux-gnu\n' "$(uname -m)" # the same name, on the two machines that matter here
  fi
}

is_foreign() { [[ $ARCH != "$(uname -m)" ]]; }

emulator() { # ARCH : the program that runs what is for it, or nothing if this machine does
  local name
  [[ $1 != "$(uname -m)" ]] || return 0
  for name in "qemu-$1-static" "qemu-$1"; do
    ! command -v "$name" >/dev/null || { printf '%s\n' "$name"; return; }
  done
  die "qemu-$1-static is missing: install the package qemu-user-static"
}

find_mirror() {
  if [[ -n ${DEBIAN_MIRROR:-} ]]; then
    printf '%s\n' "${DEBIAN_MIRROR%/}"
    return
  fi
  local found script
  # apt itself reports its sources, in whichever format they are written.
  found=$(apt-get -o Dir::State::lists="$TMP/none" update --print-uris 2>/dev/null |
    sed -nE "s|^'([^']+/debian(/[0-9TZ]+)?)/+dists/.*|\1|p" | sort | uniq -c | sort -rn |
    awk 'NR == 1 { print $2 }' || true)
  if [[ -z $found ]]; then
    for script in /usr/share/debootstrap/scripts/{sid,debian-common} "$(command -v debootstrap || true)" \
                  /usr/sbin/debootstrap; do
      [[ -r $script ]] || continue
      found=$(grep -oE 'https?://[A-Za-z0-9.:/-]+/debian\b' "$script" | head -n 1 || true)
      [[ -z $found ]] || break
    done
  fi
  [[ -n $found ]] || die "this machine's apt knows no Debian archive:" \
    "  set DEBIAN_MIRROR to one, or install the package debootstrap, whose default is then used"
  printf '%s\n' "$found"
}

# A private apt, which uses the machine's proxy and certificates and nothing else of it. With an empty status
# file it assumes that nothing is installed, and so lists every library.
write_apt_conf() { # FOLDER SUITE...
  local at=$1 suite options="signed-by=$KEYRING"
  shift
  mkdir -p "$at"/{lists/partial,archives/partial,debs}
  : >"$at/status"
  # A dated snapshot has expired by its nature; an operator who names a mirror has chosen its age.
  [[ -z ${DEBIAN_MIRROR:-} ]] || options+=" check-valid-until=no"
  for suite in "$@"; do
    printf 'deb [%s] %s %s main\n' "$options" "$MIRROR" "$suite"
  done >"$at/sources.list"
  cat >"$at/apt.conf" <<CONF
#clear APT::Architectures;
#clear APT::Update;
#clear APT::Default-Release;
#clear DPkg;
APT::Update::Error-Mode "any"; # half an index is no index
APT::Install-Recommends "false";
APT::Install-Suggests "false";
APT::Sandbox::User "$(id -un)";
Acquire::Languages "none";
Acquire::Retries "3";
Dir::Etc::sourcelist "$at/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State::status "$at/status";
Dir::State::extended_states "$at/extended_states";
Dir::State::lists "$at/lists";
Dir::Cache "$at";
Dir::Cache::archives "$at/archives";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Dir::Log "$at";
CONF
  ! is_foreign ||
    printf 'APT::Architecture "%s";\nAPT::Architectures { "%s"; };\n' "$FOREIGN" "$FOREIGN" >>"$at/apt.conf"
}

on_offer() { # CONF : the versions of the package mosquitto, newest first
  apt-cache -c "$1" madison mosquitto | awk -F'|' '{ gsub(/ /, "", $2); print $2 }' | sort -Vru
}

choose_package() { # RELEASE CONF : the version of the package to fetch, or nothing
  local series='' offer
  [[ -z ${NEAREST:-} ]] || series=${1%.*}.
  offer=$(on_offer "$2")
  awk -v release="$1-" -v series="$series" '
    index($0, release) == 1                         { exact = exact ? exact : $0 }
    series != "" && index($0, series) == 1          { near = near ? near : $0 }
    END                                             { print exact ? exact : near }' <<<"$offer"
}

replaced() { # RELEASE SUITE CONF
  local offer
  offer=$(on_offer "$3" | xargs)
  die "$1 is no longer in $2; what is there: ${offer:-no mosquitto at all}" \
    "  NEAREST=1 takes the newest of the series ${1%.*}, if there is one;" \
    "  DEBIAN_MIRROR set to a dated snapshot of the archive gets $1 itself"
}

# Copies PROGRAM's libraries from the unpacked packages, and refuses any that would come from elsewhere: a
# broker that uses one library of this machine works today and crashes after the next upgrade.
gather_libraries() { # LOADER SEARCH_PATH PROGRAM UNPACKED TO
  local listing name file
  listing=$(${EMULATOR:+"$EMULATOR"} "$1" --inhibit-cache --library-path "$2" --list "$3" 2>&1) ||
    die "${3##*/} finds no libraries:" "$listing"
  while read -r name file; do
    [[ $name != */* ]] || continue # the loader itself, which the program names by its path
    [[ $file == "$4"/* ]] || die "${3##*/}: $name would come from ${file:-nowhere}, not from the packages"
    [[ -e $5/$name ]] || cp -L "$file" "$5/$name"
  done < <(awk '$2 == "=>" { print $1, ($3 == "not" ? "" : $3) }' <<<"$listing")
}

write_launcher() { # FILE PROGRAM LOADER_NAME
  cat >"$1" <<LAUNCHER
#!/bin/sh
# Runs this release with its own loader and libraries. The path is absolute because a broker that becomes a
# daemon changes its folder.
here=\${0%/*}
case \$here in /*) ;; *) here=\$PWD/\$here ;; esac
exec ${EMULATOR:+$EMULATOR }"\$here/lib/$3" --inhibit-cache --argv0 $2 --library-path "\$here/lib" "\$here/bin/$2" "\$@"
LAUNCHER
  chmod +x "$1"
}

set_up() { # RELEASE SUITE [FURTHER SUITES]
  local release=$1 suite=$2 apt=$TMP/apt.$1 unpacked=$TMP/unpacked.$1 made=$TMP/$1
  local conf=$apt/apt.conf package wanted file path loader name search ldconfig=ldconfig
  shift
  is_ready "$DIR/$release" && { say "$release: ready"; return; }

  say "$release: asking $MIRROR for $suite"
  write_apt_conf "$apt" "$@"
  apt-get -c "$conf" -qq update || die "$release: $MIRROR does not give the suites: $*" \
    "  try again later, or set DEBIAN_MIRROR to $MIRROR to accept that its date has passed, or to another archive"
  package=$(choose_package "$release" "$conf")
  [[ -n $package ]] || replaced "$release" "$suite" "$conf"

  # apt lists everything that a bare machine would need; only the libraries of that are fetched.
  wanted=$(apt-get -c "$conf" -qq --simulate install \
    {mosquitto,mosquitto-clients,libmosquitto1}="$package" |
    awk '$1 == "Inst" && $2 ~ /^(mosquitto|lib|zlib)/ { sub(/^\(/, "", $3); print $2 "=" $3 }') ||
    die "$release: apt finds no way to satisfy mosquitto $package in: $*"
  ! is_foreign || wanted+=$'\nlibc-bin' # this machine's ldconfig does not read another architecture's libraries
  say "$release: fetching mosquitto $package and $(($(wc -l <<<"$wanted") - 1)) packages with it"
  (cd "$apt/debs" && xargs apt-get -c "$conf" -qq download <<<"$wanted") || die "$release: the download failed"

  mkdir -p "$unpacked" "$made"/{bin,lib}
  for file in "$apt"/debs/*.deb; do dpkg-deb -x "$file" "$unpacked"; done
  search=$(find "$unpacked" -type d -path "*lib/$TRIPLET" | paste -sd:)
  # Not every package contains the short name (libx.so.1) by which programs load its library.
  ! is_foreign || ldconfig=$(find "$unpacked" -path '*/sbin/ldconfig' | head -n 1)
  find "$unpacked" -type d -path "*lib/$TRIPLET" -exec ${EMULATOR:+"$EMULATOR"} "$ldconfig" -n {} +
  loader=$(find "$unpacked" -path "*lib/$TRIPLET/ld-linux*.so.*" | head -n 1)
  [[ -n $search && -n $loader ]] || die "$release: the packages hold no loader for $TRIPLET"
  name=${loader##*/}
  for file in "${PROGRAMS[@]}"; do
    path=$(find "$unpacked"/usr/{bin,sbin} -name "$file" 2>/dev/null | head -n 1)
    [[ -n $path ]] || die "$release: the packages hold no $file"
    gather_libraries "$loader" "$search" "$path" "$unpacked" "$made/lib"
    cp "$path" "$made/bin/$file"
    write_launcher "$made/$file" "$file" "$name"
  done
  # The broker's own plugin that keeps sessions in a database, with its library.
  path=$(find "$unpacked" -name mosquitto_persist_sqlite.so | head -n 1)
  if [[ -n $path ]]; then
    gather_libraries "$loader" "$search" "$path" "$unpacked" "$made/lib"
    install -D -m 644 "$path" "$made/plugins/${path##*/}"
  fi
  for file in "${FOR_PLUGINS[@]}"; do
    path=$(find "$unpacked" -path "*lib/$TRIPLET/$file" | head -n 1)
    [[ -z $path || -e $made/lib/$file ]] || cp -L "$path" "$made/lib/$file"
  done
  cp -L "$loader" "$made/lib/$name"
  printf '%s\n' "$package" >"$made/VERSION"

  # With -h both print their version; 2.0 then exits with 3, which is not an error.
  [[ $("$made/mosquitto" -h 2>&1 || true) == *"mosquitto version ${package%%-*}"* ]] ||
    die "$release: was unpacked but does not start:" "$("$made/mosquitto" -h 2>&1 || true)"
  rm -rf "${DIR:?}/$release"
  mv "$made" "$DIR/$release"
  rm -rf "$apt" "$unpacked"
  say "$release: ready (mosquitto $package)"
}

glibc_of() { # LOADER
  "$1" --version | sed -nE '1s/.* ([0-9]+\.[0-9]+)[^ ]*$/\1/p'
}

newer() { # VERSION THAN
  [[ $1 != "$2" && $(printf '%s\n' "$1" "$2" | sort -V | tail -n 1) == "$1" ]]
}

# A plugin that is built here needs at least this machine's C library. A broker with an older one gets the newest of the
# three instead, or this machine's if that is newer still: the C library is backward compatible. (A plugin for another
# architecture is built by packaging/build.sh, for an old C library.)
lend_libc() {
  local here newest='' lender='' folder loader version file from
  here=$(ldd --version | sed -nE '1s/.* ([0-9]+\.[0-9]+)$/\1/p')
  for folder in "$DIR"/[0-9]*; do
    [[ -d $folder ]] || return 0 # none could be fetched
    loader=$(echo "$folder"/lib/ld-linux*.so.*)
    version=$(glibc_of "$loader")
    if [[ -z $newest ]] || newer "$version" "$newest"; then
      newest=$version lender=$folder
    fi
  done
  # This machine's own, if no broker came with one that is new enough.
  ! newer "${here:-0}" "$newest" || newest=$here lender=''
  for folder in "$DIR"/[0-9]*; do
    loader=$(echo "$folder"/lib/ld-linux*.so.*)
    newer "${here:-0}" "$(glibc_of "$loader")" || continue
    say "${folder##*/}: gets glibc $newest, because this machine has $here"
    for file in "${FOR_PLUGINS[@]}" "${loader##*/}"; do
      from=$lender/lib/$file
      [[ -n $lender ]] || from=$(ldconfig -p | awk -v name="$file" -v folder="/$TRIPLET/" \
        '$1 == name && index($NF, folder) && !found++ { print $NF }')
      [[ ! -e $from ]] || cp -L --remove-destination "$from" "$folder/lib/$file"
    done
  done
}

# Every run begins with this: it locks DIR and removes unfinished work.
begin_work() {
  need apt-get apt
  need dpkg-deb dpkg
  need flock util-linux
  PATH=$PATH:/usr/sbin:/sbin # not everybody's has it
  need ldconfig libc-bin
  [[ -r $KEYRING ]] || die "the keys that Debian signs its archive with are missing ($KEYRING):" \
    "  install the package debian-archive-keyring"

  exec 9>"$DIR/.lock"
  flock -n 9 || { say "another run is at work in $DIR, waiting for it"; flock 9; }
  rm -rf "$DIR"/.making.* # left by a run that was killed: we hold the lock, so nobody is using it
  TMP=$(mktemp -d "$DIR/.making.XXXXXX")
  trap 'rm -rf "$TMP"' EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  TRIPLET=$(multiarch) EMULATOR='' FOREIGN=''
  if is_foreign; then
    case $ARCH in
      x86_64) FOREIGN=amd64 ;;
      aarch64) FOREIGN=arm64 ;;
      *) die "ARCH is x86_64 or aarch64" ;;
    esac
    TRIPLET=$ARCH-linux-gnu
    EMULATOR=$(emulator "$ARCH")
  fi
  MIRROR=$(find_mirror)
}

cd_project() { cd "$(dirname "${BASH_SOURCE[0]}")/.."; }

main() {
  [[ $# -le 2 && ${1:-} != -* ]] || { sed -n '3,/^set /{/^set /!s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; exit 2; }
  [[ $# -ge 1 ]] || cd_project
  ARCH=${2:-$ARCH}
  DIR=${1:-target/brokers}
  mkdir -p "$DIR"
  DIR=$(cd "$DIR" && pwd)

  local releases=() line missing=0
  while read -r line; do
    [[ -z $line ]] && continue
    releases+=("$line")
    is_ready "$DIR/${line%% *}" || missing=1
  done <<<"$RELEASES"
  if [[ $missing = 0 ]]; then
    say "all ready in $DIR"
    return
  fi

  begin_work

  local failed=() words status
  for line in "${releases[@]}"; do
    # A release that cannot be fetched must not stop the others. This runs in a subshell and not inside an
    # `if`, where `set -e` would have no effect.
    read -ra words <<<"$line"
    set +e
    (set -e; set_up "${words[@]}")
    status=$?
    set -e
    [[ $status = 0 ]] || failed+=("${words[0]}")
  done
  is_foreign || lend_libc
  [[ ${#failed[@]} = 0 ]] || die "not set up: ${failed[*]}"
  say "all ready in $DIR"
}

# tests/sanitized.sh and scripts in packaging use the functions of this file.
[[ ${BASH_SOURCE[0]} != "$0" ]] || main "$@"
