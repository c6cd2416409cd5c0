#!/bin/sh
# Puts together what the image adds to its base, as a file tree: the environment in /opt/neev, the configuration in
# /etc/neev-gateway, the state directory. The Dockerfile's first stage runs it; so do the tests, without a container
# engine. Everything comes from hash-locked wheels; nothing is compiled.
#
# Usage: assemble.sh TARGET [PYTHON]       PYTHON: as in the final image, /usr/bin/python3.11
set -eu
source=$(cd "$(dirname "$0")/.." && pwd)
target=$1
python=${2:-/usr/bin/python3.11}
mkdir -p "$target"
target=$(cd "$target" && pwd)
prefix=${target%/}/opt/neev
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
install="-m pip install --disable-pip-version-check --quiet --no-deps --no-compile"

# 1. The tools of this step, which stay behind.
"$python" -m venv "$work/build"
tools=$work/build/bin/python
"$tools" $install --require-hashes --only-binary :all: -r "$source/requirements-build.lock"

# 2. The distribution's wheel.
mkdir "$work/source"
cp -R "$source/pyproject.toml" "$source/README.md" "$source/LICENSE" "$source/neev_provider" "$work/source"
"$tools" -m pip wheel --disable-pip-version-check --quiet --no-deps --no-index --no-build-isolation \
  --wheel-dir "$work/wheel" "$work/source"

# 3. The environment: no pip, no setuptools.
"$python" -m venv --without-pip --symlinks "$prefix"
into="-m pip --python $prefix/bin/python"
"$tools" $into install --disable-pip-version-check --quiet --no-deps --no-compile \
  --require-hashes --only-binary :all: -r "$source/requirements-image.lock"
"$tools" $into install --disable-pip-version-check --quiet --no-deps --no-compile --no-index "$work"/wheel/*.whl

# 4. What is run is made ready to be run: bytecode now, for the image cannot write it; paths as they will be.
find "$prefix/bin" -type f ! -name neev-gateway -delete
sed -i "1s|^#!.*|#!/opt/neev/bin/python3|" "$prefix/bin/neev-gateway"
rm -rf "$prefix/include"
"$prefix/bin/python" -m compileall -q -j 0 -s "${target%/}" -p / --invalidation-mode unchecked-hash "$prefix/lib"

# The place where it was put together says nothing in the image.
sed -i "/^command = /d" "$prefix/pyvenv.cfg"

# 5. The list of contents, in CycloneDX's form.
mkdir -p "$prefix/share"
"$work/build/bin/cyclonedx-py" environment --output-reproducible --of JSON --output-file "$prefix/share/sbom.cdx.json" \
  "$prefix/bin/python"
cp "$source/LICENSE" "$prefix/share/LICENSE"

# 6. Configuration and the places that are written.
mkdir -p "$target/etc/neev-gateway" "$target/var/lib/neev-gateway"
cp "$source/proxy_config.yaml" "$target/etc/neev-gateway/proxy_config.yaml"
chmod -R a+rX,go-w "$target"
