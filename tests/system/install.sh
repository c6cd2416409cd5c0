#!/bin/sh
# Installs the Debian packages that tests/system needs; does nothing where they are there already.
set -eu
missing=""
need() { # a command, and the package that has it
    command -v "$1" >/dev/null || missing="$missing $2"
}
need curl curl
need ip iproute2
need redis-server redis-server
[ -n "$missing" ] || exit 0
as_root=""
[ "$(id -u)" -eq 0 ] || as_root=sudo
$as_root apt-get update -qq
# Run level 1: the packages' services are not started.
# shellcheck disable=SC2086 - a list of words
$as_root env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
