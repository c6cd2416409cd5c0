#!/bin/sh
# Installs the Debian packages that tests/system and `make dashboards-preview` need; does nothing where they are there.
set -eu
missing=""
need() { command -v "$1" >/dev/null || missing="$missing $2"; }
need curl curl
need ip iproute2
need promtool prometheus
need prometheus-alertmanager prometheus-alertmanager
need chromium chromium
[ -d /usr/share/fonts/truetype/dejavu ] || missing="$missing fonts-dejavu-core"
[ -n "$missing" ] || exit 0
as_root=""
[ "$(id -u)" -eq 0 ] || as_root=sudo
# The programs are wanted, not the services that these packages would start.
if [ -d /run/systemd/system ]; then
  $as_root systemctl mask --quiet prometheus prometheus-alertmanager
fi
$as_root apt-get update -qq
# shellcheck disable=SC2086 # one word for each package
$as_root apt-get install -y -qq --no-install-recommends $missing
