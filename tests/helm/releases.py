"""`helm install` and `helm upgrade` for real, with Helm's own driver that keeps releases in memory and touches no cluster."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import yaml

from tests.helm.charts import CHART, NAMESPACE, RELEASE, Objects, run_helm


class Releases:
    """The history of one release; in a file between two commands."""

    def __init__(self, helm: str, directory: Path, kubeconfig: str | Path = os.devnull) -> None:
        self._helm = helm
        self._file = directory / "releases.yaml"
        self._file.write_text("[]")
        self._kubeconfig = kubeconfig

    def install(self, *words: str | Path, **options: Any) -> dict[str, Any]:
        return self._run("install", *words, **options)

    def upgrade(self, *words: str | Path, **options: Any) -> dict[str, Any]:
        return self._run("upgrade", *words, **options)

    def _run(self, *words: str | Path, **options: Any) -> dict[str, Any]:
        environ = {
            "HELM_DRIVER": "memory",
            "HELM_MEMORY_DRIVER_DATA": str(self._file),
            "KUBECONFIG": str(self._kubeconfig),
        }
        command, *more = words
        fixed = (RELEASE, CHART, "-n", NAMESPACE, "--output", "json", "--disable-openapi-validation")
        done = run_helm(self._helm, command, *fixed, *more, environ=environ, **options)
        assert done.returncode == 0, done.stderr
        release: dict[str, Any] = json.loads(done.stdout)
        self._file.write_text(json.dumps([release]))
        return release


def objects_of(release: dict[str, Any]) -> Objects:
    """What a release consists of, without its hooks."""
    return Objects(yaml.safe_load_all(release["manifest"]))
