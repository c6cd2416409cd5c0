#!/bin/sh
# Installs the Debian packages that tests/system needs; does nothing where they are there already.
set -eu
command -v curl >/dev/null && command -v ip >/dev/null && command -v redis-cli >/dev/null &&
  /usr/bin/python3.11 -c "import ensurepip" 2>/dev/null && exit 0
as_root=""
[ "$(id -u)" -eq 0 ] || as_root=sudo
$as_root apt-get update -qq
$as_root apt-get install -y -qq --no-install-recommends curl iproute2 python3.11-venv redis-tools
