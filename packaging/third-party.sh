#!/usr/bin/env bash
#
# Prints the licences of what is linked into the plugin, the module of mosquitto_ctrl and the tool, each text
# once: packaging/third-party.sh [TARGET]
set -euo pipefail
export LC_ALL=C.UTF-8

die() { printf 'third-party: %s\n' "$@" >&2; exit 1; }

cd "$(dirname "${BASH_SOURCE[0]}")/.."
target=${1:-$(rustc -vV | sed -n 's/^host: //p')}
# Of one target alone, or cargo would fetch what other systems need.
manifests=$(cargo metadata --locked --format-version 1 --filter-platform "$target" |
  grep -oE '"manifest_path":"[^"]+"' | cut -d'"' -f4)
declare -A seen=()
while IFS='|' read -r crate licence; do
  read -r name release origin <<<"${crate/ v/ }"
  [[ $origin != "(/"* ]] || continue # in a folder of this project
  printf '%s\n%s %s: %s\n\n' "$(printf '=%.0s' {1..78})" "$name" "$release" "$licence"
  manifest=$(grep -F "/$name-$release/Cargo.toml" <<<"$manifests" | head -n 1) ||
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
  done < <(find "${manifest%/*}" -type f \( -iname 'LICEN[CS]E*' -o -iname 'COPYING*' -o -iname 'NOTICE*' \
    -o -iname UNLICENSE \) | sort)
  [[ -n $found ]] || printf '(its source holds no text of the licence)\n'
  printf '\n'
done < <(cargo tree --locked -p mosquitto-auth0 -p cli -p mosquitto-ctrl-auth0 --target "$target" \
  --edges normal,no-proc-macro --prefix none --format '{p}|{l}' | sed 's/ (\*)$//; /^$/d' | sort -u)
