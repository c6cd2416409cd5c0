#!/bin/sh
# Whether Valkey answers: not while it still loads its data. Usage: ping.sh PASSWORD_FILE
set -eu
REDISCLI_AUTH=$(cat "$1")
export REDISCLI_AUTH
test "$(valkey-cli ping)" = PONG
