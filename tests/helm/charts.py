"""Renders the chart with the real Helm, and finds things in what comes out."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "neev-gateway"
CI_FILES = sorted((CHART / "ci").glob("*-values.yaml"))
TOOLS = ROOT / ".venv-charts" / "bin"
RELEASE, NAMESPACE = "r", "llm"
NAME = "r-neev-gateway"


def helm_of(major: int) -> str:
    """The Helm on PATH if it has that major version, else the one of `.venv-charts`."""
    found = shutil.which("helm")
    if found is not None:
        said = subprocess.run([found, "version", "--short"], capture_output=True, text=True).stdout
        if said.startswith(f"v{major}."):
            return found
    return str(TOOLS / f"helm{major}")


HELMS = {"helm3": helm_of(3), "helm4": helm_of(4)}


def run_helm(
    helm: str,
    *words: str | Path,
    values: dict[str, Any] | None = None,
    environ: dict[str, str] | None = None,
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run it without the developer's own clusters and settings; `values` go before files."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("HELM_", "KUBE"))}
    return subprocess.run(
        [helm, *map(str, words), *(() if values is None else ("-f", "-"))],
        input=yaml.safe_dump(values or {}),
        capture_output=True,
        text=True,
        timeout=60,
        cwd=cwd,
        env={**clean, "KUBECONFIG": os.devnull, **(environ or {})},
    )


def template(
    *words: str | Path,
    values: dict[str, Any] | None = None,
    helm: str = HELMS["helm4"],
    release: str = RELEASE,
) -> subprocess.CompletedProcess[str]:
    """`helm template`, whatever comes of it; `words` are more options."""
    return run_helm(helm, "template", release, CHART, "-n", NAMESPACE, *words, values=values)


def render_text(*words: str | Path, **options: Any) -> str:
    """Return what `helm template` prints."""
    done = template(*words, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def render(*words: str | Path, **options: Any) -> Objects:
    return Objects(yaml.safe_load_all(render_text(*words, **options)))


def render_file(file: Path, **options: Any) -> Objects:
    return render("-f", file, **options)


class Objects(list[dict[str, Any]]):
    """Kubernetes objects."""

    def __init__(self, objects: Iterator[Any]) -> None:
        super().__init__(item for item in objects if item)

    def of(self, kind: str, name: str = NAME) -> dict[str, Any]:
        (found,) = [item for item in self if item["kind"] == kind and item["metadata"]["name"] == name]
        return found

    def has(self, kind: str, name: str = NAME) -> bool:
        return any(item["kind"] == kind and item["metadata"]["name"] == name for item in self)

    def pods(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield every pod's spec with the name of what makes it."""
        for item in self:
            name = f"{item['kind']}/{item['metadata']['name']}"
            if item["kind"] == "Pod":
                yield name, item["spec"]
            elif item["kind"] in {"Deployment", "StatefulSet", "Job"}:
                yield name, item["spec"]["template"]["spec"]

    def containers(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for name, pod in self.pods():
            for container in [*pod.get("initContainers", []), *pod["containers"]]:
                yield f"{name}/{container['name']}", container

    def container(self, name: str) -> dict[str, Any]:
        (found,) = [item for where, item in self.containers() if where.endswith("/" + name)]
        return found
