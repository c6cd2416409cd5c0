"""Every manifest is what Kubernetes and the operators take: the oldest and the newest supported version, strictly."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml

from tests.helm.charts import CHART, CI_FILES, TOOLS, render_file, render_text
from tests.helm.shapes import SHAPES

VALIDATE = Path(__file__).parent / "validate.py"
OLDEST, NEWEST = "1.30.0", "1.37.0"


def validate(*files: Path) -> subprocess.CompletedProcess[str]:
    command = [TOOLS / "python", "-W", "ignore", VALIDATE, f"{OLDEST},{NEWEST}", *files]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=100)


@pytest.fixture(scope="module")
def manifests(tmp_path_factory) -> list[Path]:
    directory = tmp_path_factory.mktemp("manifests")
    files = {"defaults": (), **{file.stem: ("-f", file) for file in CI_FILES}}
    for name, words in files.items():
        (directory / f"{name}.yaml").write_text(render_text(*words))
    return sorted(directory.iterdir())


def test_the_oldest_supported_version_is_the_charts():
    said = yaml.safe_load((CHART / "Chart.yaml").read_text())["kubeVersion"]
    assert said == f">={OLDEST}-0"


def test_every_manifest_is_valid(manifests):
    done = validate(*manifests)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"checked {OLDEST} {NEWEST}" in done.stdout
    unknown = set(re.findall(r"unknown (\S+) (\S+)", done.stdout))
    assert unknown == set(SHAPES)


BREAKS = {
    "Deployment": ("automountServiceAccountToken: false", "automountServiceAccountTokens: false"),
    "ServiceMonitor": ("path: /metrics", "paths: /metrics"),
    "ScaledObject": ("pollingInterval: 15", "pollingIntervals: 15"),
    "HorizontalPodAutoscaler": ("minReplicas: 3", "minReplicas: three"),
}


def test_the_check_does_find_faults(manifests, tmp_path):
    documents = [document for file in manifests for document in file.read_text().split("\n---\n")]
    for kind, (line, wrong) in BREAKS.items():
        text = next(text for text in documents if f"kind: {kind}\n" in text and line in text)
        (tmp_path / f"{kind}.yaml").write_text(text.replace(line, wrong, 1))
    done = validate(*sorted(tmp_path.iterdir()))
    assert done.returncode == 1
    assert {line.split(": ")[1].split("/")[0] for line in done.stdout.splitlines()[:-1]} == set(BREAKS)


@pytest.mark.parametrize("file", CI_FILES, ids=lambda file: file.stem)
def test_routes_and_external_secrets_have_their_definitions_shape(file):
    for item in render_file(file):
        shape = SHAPES.get((item["apiVersion"], item["kind"]))
        if shape is not None:
            jsonschema.validate(item["spec"], shape, cls=jsonschema.Draft202012Validator)
