# What packages are made for. Read by the other scripts of this folder.
#
# A glibc file runs on every distribution that has this glibc or a later one: Debian 11, Ubuntu 20.04, RHEL 9
# and their like. A musl file is for Alpine, on which the official Docker image is built, and for OpenWrt.
# shellcheck shell=bash disable=SC2034

GLIBC=2.31
TARGETS=(x86_64-unknown-linux-gnu aarch64-unknown-linux-gnu x86_64-unknown-linux-musl aarch64-unknown-linux-musl)

# The files of a target, as packages name them.
PLUGIN=mosquitto_auth0.so CTRL=mosquitto_ctrl_auth0.so TOOL=mosquitto-auth0
