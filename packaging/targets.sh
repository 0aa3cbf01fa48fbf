# What packages are made for. Read by the other scripts of this folder.
#
# A glibc file is meant to run where there is this glibc or a later one and Mosquitto 2.0.11 or later: Debian 12 and
# later, Ubuntu 22.04 and later, RHEL 9 and later, Fedora, openSUSE. A musl file is for Alpine, on which the official
# Docker image is built, and for OpenWrt.
# shellcheck shell=bash disable=SC2034

GLIBC=2.31
TARGETS=(x86_64-unknown-linux-gnu aarch64-unknown-linux-gnu x86_64-unknown-linux-musl aarch64-unknown-linux-musl)

# Where packages go. packaging/packages.sh sets another folder while it builds.
RELEASE_DIR=${RELEASE_DIR:-target/packages/release}

# The files of a target, as packages name them.
PLUGIN=mosquitto_auth0.so CTRL=mosquitto_ctrl_auth0.so TOOL=mosquitto-auth0
