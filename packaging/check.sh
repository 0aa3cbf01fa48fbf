#!/usr/bin/env bash
#
# Checks what was compiled for one target, and says what it needs where it runs:
#
#     packaging/check.sh TARGET         reads target/packages/TARGET/
#
# A file that needs a newer C library, or another library, would not load on a machine that the package claims
# to be for; a plugin that exports more than Mosquitto asks for could replace a function of the broker.
#
# Needs: readelf (binutils).
set -euo pipefail

die() { printf 'check: %s\n' "$@" >&2; exit 1; }

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=packaging/targets.sh
source packaging/targets.sh
TARGET=${1:-}
FOLDER=target/packages/$TARGET
[[ $# = 1 && -d $FOLDER ]] || die "usage: packaging/check.sh TARGET, after packaging/build.sh TARGET"

newest() { sort -uV | tail -n 1; }
exported() { # FILE : the names that others can use
  readelf --dyn-syms --wide "$1" | awk '$5 ~ /GLOBAL|WEAK/ && $7 != "UND" && $8 { print $8 }' | sort | xargs
}
libraries() { readelf --dynamic --wide "$1" | sed -nE 's/.*\(NEEDED\).*\[(.*)\]/\1/p' | sort | xargs; }
glibc_of() { readelf --version-info --wide "$1" | { grep -oE 'GLIBC_[0-9.]+' || true; } | cut -d_ -f2 | newest; }

check_machine() { # FILE
  local machine
  case $TARGET in
    x86_64-*) machine='Advanced Micro Devices X86-64' ;;
    aarch64-*) machine=AArch64 ;;
  esac
  readelf --file-header "$1" | grep -q "Machine: *$machine" || die "$1 is not for $TARGET"
}

# Parts of the C library alone, under the names that glibc and musl give them.
check_libraries() { # FILE
  local library everywhere='^libc\.so$'
  [[ $TARGET == *-musl ]] || everywhere='^(lib(c|m|dl|pthread|rt)|ld-linux-[a-z0-9_-]+)\.so\.[0-9]$'
  for library in $(libraries "$1"); do
    [[ $library =~ $everywhere ]] || die "$1 needs $library, which not every machine has"
  done
}

check_glibc() { # FILE
  local version
  version=$(glibc_of "$1")
  [[ $TARGET == *-gnu ]] || { [[ -z $version ]] || die "$1 is for musl and needs glibc"; return 0; }
  [[ $(printf '%s\n' "$version" "$GLIBC" | newest) == "$GLIBC" ]] || die "$1 needs glibc $version: $GLIBC was asked for"
}

check_exports() { # FILE NAMES
  local names
  names=$(exported "$1")
  [[ $names == "$2" ]] || die "$1 exports: ${names:0:400}" "  it should export: ${2:-nothing}"
}

# The broker's and OpenSSL's functions are weak, so that one file serves all brokers. Every other one must be
# in the C library, which has to say so by a version: a function of neither would stop the broker's start.
check_imports() { # FILE
  local names
  [[ $TARGET == *-gnu ]] || return 0
  names=$(readelf --dyn-syms --wide "$1" |
    awk '$5 == "GLOBAL" && $7 == "UND" && $8 && $8 !~ /@GLIBC_/ { print $8 }' | xargs)
  [[ -z $names ]] || die "$1 needs functions that are not in the C library: $names"
}

check_hardening() { # FILE
  local dynamic segments
  dynamic=$(readelf --dynamic --wide "$1")
  segments=$(readelf --program-headers --wide "$1")
  grep -qE 'BIND_NOW|FLAGS_1.*NOW' <<<"$dynamic" || die "$1 looks functions up late, so its table stays writable"
  grep -q GNU_RELRO <<<"$segments" || die "$1 has no RELRO"
  ! grep -q TEXTREL <<<"$dynamic" || die "$1 has text relocations"
  ! grep -qE '(RPATH|RUNPATH)' <<<"$dynamic" || die "$1 looks for libraries in a folder of the build"
  ! grep -E 'GNU_STACK.* RWE' <<<"$segments" || die "$1 has an executable stack"
  ! grep -q SONAME <<<"$dynamic" || die "$1 has a SONAME, for which ldconfig would make a link"
  [[ $1 != *.so ]] || ! grep -q 'NEEDED.*mosquitto' <<<"$dynamic" || die "$1 links to a library of Mosquitto"
}

check_stripped() { # FILE
  ! readelf --sections --wide "$1" | grep -E '\.symtab|\.debug' >&2 || die "$1 is not stripped"
  ! grep -aoE "($PWD|${CARGO_HOME:-$HOME/.cargo})/[[:print:]]*" "$1" | head -n 3 >&2 ||
    die "$1 says where it was compiled"
}

for file in "$PLUGIN" "$CTRL" "$TOOL"; do
  path=$FOLDER/$file
  check_machine "$path"
  check_libraries "$path"
  check_glibc "$path"
  check_imports "$path"
  check_hardening "$path"
  check_stripped "$path"
  glibc=$(glibc_of "$path")
  printf 'check: %-28s %-22s %8s KB, needs %s%s\n' "$TARGET" "$file" "$(($(stat -c %s "$path") / 1024))" \
    "$(libraries "$path")" "${glibc:+ (glibc $glibc)}"
done
check_exports "$FOLDER/$PLUGIN" 'mosquitto_plugin_cleanup mosquitto_plugin_init mosquitto_plugin_version'
check_exports "$FOLDER/$CTRL" ctrl_main
# 2.0 unmaps a plugin that threads may still be in (build.rs).
readelf --dynamic --wide "$FOLDER/$PLUGIN" | grep -q NODELETE ||
  die "$FOLDER/$PLUGIN may be unmapped: -z nodelete is lost"
