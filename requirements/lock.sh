#!/bin/sh
# Resolves requirements/*.in into the hash-locked files at the top. No index addresses are written.
# Usage: lock.sh [--upgrade | --upgrade-package NAME]; what is locked stays where neither says otherwise.
# A release younger than LOCK_AGE days (default 3) is left out: compromised releases are mostly found within days.
set -eu
cd "$(dirname "$0")/.."
newest=$(date -u -d "-${LOCK_AGE:-3} days" +%Y-%m-%d)
compile() {
  "${BIN:-.venv/bin}/uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes \
    --no-emit-index-url --no-header --exclude-newer "$newest" "$@"
}
compile --no-emit-package neev-provider --overrides requirements/overrides.txt \
  requirements/runtime.in --output-file requirements.lock "$@"
compile --no-emit-package neev-provider --overrides requirements/overrides.txt \
  --constraints requirements.lock requirements/dev.in --output-file requirements-dev.lock "$@"
compile --no-emit-package neev-provider --overrides requirements/overrides.txt \
  --constraints requirements.lock requirements/image.in --output-file requirements-image.lock "$@"
compile requirements/build.in --output-file requirements-build.lock "$@"
compile requirements/clients.in --output-file requirements-clients.lock "$@"
compile requirements/frameworks.in --output-file requirements-frameworks.lock "$@"
compile requirements/aider.in --output-file requirements-aider.lock "$@"
compile requirements/bench.in --output-file requirements-bench.lock "$@"
compile requirements/audit.in --output-file requirements-audit.lock "$@"
compile --constraints requirements.lock requirements/security.in --output-file requirements-security.lock "$@"
compile --overrides requirements/charts-overrides.txt requirements/charts.in --output-file requirements-charts.lock "$@"
# The packages for Node; npm comes from requirements-frameworks.lock and writes no addresses either.
for node in tests/system/clients/programs/node benchmarks/portkey; do
  case " $* " in *" --upgrade "*) rm -f $node/package-lock.json ;; esac
  PATH="$PWD/.venv-frameworks/bin:$PATH" npm --prefix $node install --package-lock-only --ignore-scripts --no-audit --no-fund \
    --loglevel error --before="$newest"
done
