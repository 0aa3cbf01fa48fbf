# Puts zig and cargo-zigbuild on the PATH, from target/packages/tools, where pip installs them once. Both are
# compiled programs that PyPI serves; packaging/toolchain.txt has their versions and checksums. Read by
# packaging/build.sh.
# shellcheck shell=bash

install_toolchain() {
  local tools=$PWD/target/packages/tools
  if ! cmp -s packaging/toolchain.txt "$tools/toolchain.txt"; then
    rm -rf "$tools"
    python3 -m venv "$tools" || die "Python has no venv: install the package python3-venv"
    "$tools/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r packaging/toolchain.txt ||
      die "pip does not get what packaging/toolchain.txt lists"
    cp packaging/toolchain.txt "$tools/"
  fi
  PATH=$tools/bin:$PATH
}
install_toolchain
