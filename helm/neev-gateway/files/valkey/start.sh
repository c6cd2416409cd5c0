#!/bin/sh
# Starts Valkey with the password of its Secret, which so stands in no argument and no environment variable.
# Usage: start.sh CONFIG PASSWORD_FILE RUN_DIR [VALKEY OPTION ...]
set -eu
umask 077
config=$1 password_file=$2 run=$3
shift 3
password=$(cat "$password_file")
case $password in
  "" | *[!A-Za-z0-9._~-]*)
    echo "error: the store's password is empty or holds other characters than letters, digits and -._~ ;" \
      "it also stands in a URL. Change the Secret and restart this pod and the gateway's." >&2
    exit 1
    ;;
esac
{ cat "$config" && printf '\nrequirepass %s\n' "$password"; } > "$run/valkey.conf"
exec valkey-server "$run/valkey.conf" "$@"
