#!/bin/sh
# Installs the Debian packages that tests/system, `make dashboards-preview` and `make bench-peers` need; does nothing where they are there.
set -eu
missing=""
need() { # a command, and the package that has it
    command -v "$1" >/dev/null || missing="$missing $2"
}
need curl curl
need ip iproute2
need redis-server redis-server
need nginx nginx-light
need promtool prometheus
need prometheus-alertmanager prometheus-alertmanager
need chromium chromium
[ -e "$(echo /usr/lib/*/faketime/libfaketime.so.1)" ] || missing="$missing libfaketime"
[ -d /usr/share/fonts/truetype/dejavu ] || missing="$missing fonts-dejavu-core"
/usr/bin/python3.11 -c "import ensurepip" 2>/dev/null || missing="$missing python3.11-venv"
[ -n "$missing" ] || exit 0
as_root=""
[ "$(id -u)" -eq 0 ] || as_root=sudo
$as_root apt-get update -qq
# Run level 1: the programs are wanted, not the services that these packages would start.
# shellcheck disable=SC2086 - a list of words
$as_root env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
