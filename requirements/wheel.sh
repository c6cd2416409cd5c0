#!/bin/sh
# Builds the wheel twice, in folders, time zones, file times and modes that differ, and keeps it only if both are the same byte for byte.
# Usage: BIN=.venv-audit/bin wheel.sh TARGET; SOURCE_DATE_EPOCH is the last commit's time unless it is set.
set -eu
source=$(cd "$(dirname "$0")/.." && pwd)
target=$1
bin=$(cd "${BIN:-.venv-audit/bin}" && pwd)
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$source" log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

build() { # the folder; what follows is the environment
  folder=$work/$1
  shift
  mkdir -p "$folder"
  (cd "$source" && tar -cf - --exclude=__pycache__ pyproject.toml README.md LICENSE neev_provider) | tar -C "$folder" -xf -
  chmod -R "$MODE" "$folder"
  find "$folder" -exec touch -d "$TOUCHED" {} +
  env "$@" "$bin/python" -m pip wheel --disable-pip-version-check --quiet --no-deps --no-index --no-build-isolation \
    --wheel-dir "$folder/dist" "$folder"
}
MODE=u=rwX,go=rX TOUCHED=2020-01-01 build first TZ=UTC LC_ALL=C PYTHONHASHSEED=0
MODE=u=rwX,go= TOUCHED=2024-06-30 build a/second TZ=Asia/Kolkata LC_ALL=C.UTF-8 PYTHONHASHSEED=1
wheel=$(basename "$work"/first/dist/*.whl)
if ! cmp "$work/first/dist/$wheel" "$work/a/second/dist/$wheel"; then
  echo "error: two builds of $wheel differ; diffoscope shows where" >&2
  exit 1
fi
mkdir -p "$target"
cp "$work/first/dist/$wheel" "$target/"
cd "$target" && sha256sum "$wheel"
