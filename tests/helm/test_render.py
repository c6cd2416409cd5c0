"""What both Helms make of the chart: every file of `ci/`, the defaults against a golden file, both the same."""

from __future__ import annotations

import re

import pytest
import yaml

from tests.helm.charts import (
    CHART,
    CI_FILES,
    HELMS,
    NAME,
    NAMESPACE,
    RELEASE,
    ROOT,
    Objects,
    render,
    render_text,
    run_helm,
)
from tests.helm.golden import GOLDEN, golden_text
from tests.helm.releases import Releases

EXPECTED_CI = {
    "minimal", "ha", "external-redis-tls", "gateway-api", "keda", "external-secrets", "airgapped", "no-litellm"
}  # fmt: skip
STANDARD_LABELS = {
    "app.kubernetes.io/name": "neev-gateway",
    "app.kubernetes.io/instance": RELEASE,
    "app.kubernetes.io/part-of": "neev-gateway",
    "app.kubernetes.io/managed-by": "Helm",
}


def test_ci_covers_what_operators_ask_for():
    assert {file.stem.removesuffix("-values") for file in CI_FILES} == EXPECTED_CI


@pytest.mark.parametrize("file", CI_FILES, ids=lambda file: file.stem)
def test_each_ci_file_passes_lint(helm, file):
    done = run_helm(helm, "lint", "--strict", CHART, "-f", file)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[WARNING]" not in done.stdout
    assert "[ERROR]" not in done.stdout


@pytest.mark.parametrize("file", CI_FILES, ids=lambda file: file.stem)
def test_both_helms_render_the_same(file):
    three, four = (render("-f", file, helm=HELMS[name]) for name in ("helm3", "helm4"))
    key = lambda item: (item["kind"], item["metadata"]["name"])  # noqa: E731
    assert sorted(map(without_secrets, three), key=key) == sorted(map(without_secrets, four), key=key)


def without_secrets(item: dict) -> dict:
    """Generated secrets differ from one render to the next."""
    return {**item, "data": sorted(item["data"])} if item["kind"] == "Secret" else item


def test_the_defaults_render_to_the_golden_file():
    assert golden_text() == GOLDEN.read_text(), "If that is as wanted: python -m tests.helm.golden"


def test_every_object_has_the_standard_labels_and_the_releases_namespace(rendered):
    own = [item for item in rendered if item["metadata"]["name"].startswith(NAME)]
    assert own
    for item in own:
        labels = item["metadata"]["labels"]
        assert labels.items() >= STANDARD_LABELS.items(), item["metadata"]["name"]
        assert re.fullmatch(r"neev-gateway-[\d.]+", labels["helm.sh/chart"])
        assert item["metadata"]["namespace"] in {NAMESPACE, "monitoring"}


def test_no_two_objects_share_kind_and_name(rendered):
    names = [(item["kind"], item["metadata"]["name"]) for item in rendered]
    assert len(names) == len(set(names))


def test_each_selector_finds_its_own_pods_and_no_others(rendered):
    pods = {
        item["metadata"]["name"]: item["spec"]["template"]["metadata"]["labels"]
        for item in rendered
        if item["kind"] in {"Deployment", "StatefulSet"}
    }
    for item in rendered:
        if item["kind"] in {"Deployment", "StatefulSet", "Service", "PodDisruptionBudget"}:
            selector = item["spec"]["selector"]
            selector = selector.get("matchLabels", selector)
            wanted = "r-neev-gateway-store" if item["metadata"]["name"].endswith("-store") else NAME
            assert [name for name, labels in pods.items() if labels.items() >= selector.items()] == [wanted]


def test_a_long_release_name_makes_no_name_too_long():
    done = render_text(release="a" * 53)
    for item in Objects(yaml.safe_load_all(done)):
        assert len(item["metadata"]["name"]) <= 63
        for value in item["metadata"]["labels"].values():
            assert len(value) <= 63


def test_versions_agree():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    version = re.search(r'__version__ = "(.+)"', (ROOT / "neev_provider" / "__init__.py").read_text())
    assert chart["appVersion"] == version[1]
    assert f"{NAME}:{version[1]}".removeprefix("r-") in render_text()


def test_notes_say_the_next_commands(helm, cluster, tmp_path):
    notes = Releases(helm, tmp_path, cluster.kubeconfig).install()["info"]["notes"]
    for said in (
        "kubectl -n llm create secret generic neev-api-key",
        "/key/generate",
        "/v1/chat/completions",
        "helm -n llm test r",
        "metrics.dashboards.enabled=true",
        "http://r-neev-gateway.llm/v1",
    ):
        assert said in notes


def test_notes_name_what_is_missing_and_what_is_served(helm, cluster, tmp_path):
    values = {
        "externalSecrets": {"enabled": True, "secretStoreRef": {"name": "vault"}, "masterKey": {"key": "k"}},
        "masterKey": {"existingSecret": "master"},
        "proxyConfig": {
            "model_list": [{"model_name": "own", "litellm_params": {"model": "neev/gpt-oss-20b"}}]
        },
    }
    notes = Releases(helm, tmp_path, cluster.kubeconfig).install(values=values)["info"]["notes"]
    assert "kubectl -n llm create secret generic neev-api-key" in notes
    assert '"model": "own"' in notes


def test_pods_that_are_all_replaced_at_once_have_no_steps():
    strategy = render(values={"updateStrategy": {"type": "Recreate"}}).of("Deployment")["spec"]["strategy"]
    assert strategy == {"type": "Recreate"}


def test_a_probe_can_be_switched_off():
    for part in ("gateway", "litellm"):
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            if (part, probe) in {("litellm", "startupProbe"), ("litellm", "readinessProbe")}:
                continue
            objects = render(values={part: {probe: None}})
            assert probe not in objects.container(part), (part, probe)


def test_what_all_objects_are_a_part_of_can_be_said():
    label = "app.kubernetes.io/part-of"
    text = render_text(values={"commonLabels": {label: "platform"}})
    assert f"{label}: platform" in text
    assert f"{label}: neev-gateway" not in text
