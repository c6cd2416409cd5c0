#!/bin/sh
# Builds the image with its bases pinned by digest. Usage: build.sh NAME[:TAG]; PUSH=1 pushes it, with attestations.
#
# BUILD_IMAGE and RUNTIME_IMAGE name other bases, as from a mirror; a tag is resolved to the digest that it has now.
# image/bases.lock keeps what was resolved, so that the next build has the same bases; remove it to have newer ones.
set -eu
cd "$(dirname "$0")/.."
name=${1:?"usage: build.sh NAME[:TAG]"}
lock=image/bases.lock
if [ ! -f "$lock" ]; then
  for variable in BUILD_IMAGE RUNTIME_IMAGE; do
    default=$(sed -n "s/^ARG $variable=//p" Dockerfile)
    image=$(eval "printf %s \"\${$variable:-$default}\"")
    case $image in
      *@sha256:*) ;;
      *) image=$image@$(docker buildx imagetools inspect --format '{{.Manifest.Digest}}' "$image") ;;
    esac
    echo "$variable=$image"
  done > "$lock.new"
  mv "$lock.new" "$lock"
fi
. "./$lock"
case $BUILD_IMAGE$RUNTIME_IMAGE in
  *@sha256:*@sha256:*) ;;
  *) echo "error: $lock does not name both images by digest; remove it" >&2; exit 1 ;;
esac
version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' neev_provider/__init__.py)
if [ -n "${PUSH:-}" ]; then how="--push --provenance=mode=max --sbom=true"; else how=--load; fi
docker buildx build $how --tag "$name" \
  --build-arg BUILD_IMAGE="$BUILD_IMAGE" --build-arg RUNTIME_IMAGE="$RUNTIME_IMAGE" \
  --build-arg VERSION="$version" --build-arg REVISION="$(git rev-parse HEAD)" .
