#!/usr/bin/env bash
#
# Compiles the plugin, the module of mosquitto_ctrl and the operator's tool for one target, on any machine:
#
#     packaging/build.sh TARGET         ->  target/packages/TARGET/
#
# TARGET is one of those in packaging/targets.sh. Zig is the C compiler and the linker: it brings the C
# libraries of all targets, in all their versions, so neither the machine's C library nor its architecture
# matters. What comes out is checked by packaging/check.sh.
#
# Needs: cargo, libclang-dev, Mosquitto's headers (mosquitto-dev and libmosquitto-dev), binutils, and Python
# for Zig (packaging/toolchain.sh), as well as Rust's standard library for the target, in one of two ways:
#
#   * compiled, from rustup:    rustup target add TARGET
#   * as source, from which it is compiled here: rustup component add rust-src, or Debian's package rust-src
#     (rust-web-src beside rustc-web) of the very version that `rustc --version` prints
#
# The two give files that work alike and differ in bytes.
#
# Environment: JOBS, how many compilers run at once (default: one a core).
set -euo pipefail
umask 022

die() { printf 'build: %s\n' "$@" >&2; exit 1; }

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=packaging/targets.sh
source packaging/targets.sh
TARGET=${1:-}
[[ $# = 1 && " ${TARGETS[*]} " == *" $TARGET "* ]] || die "usage: packaging/build.sh TARGET, one of: ${TARGETS[*]}"
# shellcheck source=packaging/toolchain.sh
source packaging/toolchain.sh

OUT=$PWD/target/packages
export CARGO_TARGET_DIR=$OUT/cargo CARGO_INCREMENTAL=0 CARGO_PROFILE_RELEASE_STRIP=symbols
export ZIG_GLOBAL_CACHE_DIR=$OUT/zig CARGO_ZIGBUILD_CACHE_DIR=$OUT/zigbuild
SYSROOT=$(rustc --print sysroot)

find_standard_library() { # sets BUILD_STD
  local version source
  BUILD_STD=()
  [[ ! -d $SYSROOT/lib/rustlib/$TARGET/lib ]] || return 0
  version=$(rustc --version | cut -d' ' -f2)
  for source in "$SYSROOT/lib/rustlib/src/rust" "/usr/src/rustc-$version"; do
    [[ -e $source/library/std/Cargo.toml ]] || continue
    # That cargo compiles the library itself is not stable yet, and it looks for the source at rustup's place.
    export RUSTC_BOOTSTRAP=1 __CARGO_TESTS_ONLY_SRC_ROOT=$source/library
    BUILD_STD=("-Zbuild-std=std,panic_unwind")
    STD_SOURCE=$source
    return
  done
  die "Rust's standard library for $TARGET is missing: run: rustup target add $TARGET" \
    "  or get its source: rustup component add rust-src, or the package rust-src of rustc $version"
}

# Nothing in a file should say where it was compiled, so that builds in two folders can be the same.
prefix_maps() { # OPTION : as the compilers of Rust and C take it
  local map
  for map in "$PWD=/mosquitto-auth0" "${CARGO_HOME:-$HOME/.cargo}=/cargo" "$SYSROOT=/rust" \
    ${STD_SOURCE:+"$STD_SOURCE=/rust/src"}; do
    printf '%s=%s ' "$1" "$map"
  done
}

# Mosquitto's headers alone: those of this machine's C library are not the target's.
copy_headers() {
  local header
  mkdir -p "$OUT/include"
  for header in mosquitto.h mosquitto_broker.h mosquitto_plugin.h mqtt_protocol.h; do
    [[ -r /usr/include/$header ]] ||
      die "/usr/include/$header is missing: install the packages mosquitto-dev and libmosquitto-dev"
    cp "/usr/include/$header" "$OUT/include/"
  done
  export CPATH=$OUT/include BINDGEN_EXTRA_CLANG_ARGS="-I$OUT/include"
}

find_standard_library
copy_headers
# One after the other: cargo reads either this variable or a user's configuration, never both.
RUSTFLAGS=$(prefix_maps --remap-path-prefix)
CFLAGS=$(prefix_maps -ffile-prefix-map)
[[ $TARGET != *-musl ]] || RUSTFLAGS+='-C target-feature=-crt-static' # else there is no shared library
export RUSTFLAGS CFLAGS
zig_target=$TARGET
[[ $TARGET != *-gnu ]] || zig_target+=.$GLIBC

printf 'build: %s%s\n' "$zig_target" "${BUILD_STD:+, with the standard library}"
cargo zigbuild --locked --release --target "$zig_target" ${JOBS:+-j "$JOBS"} "${BUILD_STD[@]}" \
  -p mosquitto-auth0 -p cli -p mosquitto-ctrl-auth0

made=$CARGO_TARGET_DIR/$TARGET/release
rm -rf "${OUT:?}/$TARGET"
install -D -m 644 "$made/libmosquitto_auth0.so" "$OUT/$TARGET/$PLUGIN"
install -D -m 644 "$made/libmosquitto_ctrl_auth0.so" "$OUT/$TARGET/$CTRL"
install -D -m 755 "$made/mosquitto-auth0" "$OUT/$TARGET/$TOOL"
packaging/check.sh "$TARGET"
