#!/bin/sh
# Writes what the distribution is served with, as locked for the image, with hashes, in CycloneDX's form; the same input gives the same
# file. The image's own list (image/assemble.sh) is made from what is installed there, and has the licences.
# Usage: BIN=.venv-audit/bin sbom.sh TARGET
set -eu
cd "$(dirname "$0")/.."
mkdir -p "$1"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The tool reads no dynamic version.
version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' neev_provider/__init__.py)
sed "s/^dynamic = .*/version = \"$version\"/" pyproject.toml > "$work/pyproject.toml"
# It warns that a lock does not say what depends on what.
PYTHONWARNINGS=ignore "${BIN:-.venv-audit/bin}/cyclonedx-py" requirements --output-reproducible --of JSON \
  --pyproject "$work/pyproject.toml" --mc-type application --output-file "$1/neev-provider.cdx.json" requirements-image.lock
echo "$1/neev-provider.cdx.json"
