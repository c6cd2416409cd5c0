"""The rendered configuration is the repository's own; its checksum changes exactly when it does; every value counts."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml

from helm.chart_files import documented_values
from neev_provider.config import load_config
from tests.helm.charts import CHART, HELMS, NAME, ROOT, Objects, render, render_text, run_helm
from tests.helm.typed import typed

CONFIG_FILE = ROOT / "proxy_config.yaml"
CONFIG = yaml.safe_load(CONFIG_FILE.read_text())
ENVIRON = {"NEEV_API_KEY": "sk-nc-x", "LITELLM_MASTER_KEY": "sk-" + "x" * 40}
KEYS = {
    "teams": [{"id": "research", "max_budget": 0.0000005, "metadata": {"cost": 5000000}}],
    "keys": [{"alias": "ci", "team": "research", "token": "os.environ/CI_TOKEN"}],
}


def config_of(objects) -> dict:
    return yaml.safe_load(objects.of("ConfigMap")["data"]["proxy_config.yaml"])


def checksum_of(objects) -> str:
    return objects.of("Deployment")["spec"]["template"]["metadata"]["annotations"]["checksum/config"]


class TestTheConfiguration:
    def test_is_the_repositorys_to_the_last_number(self, defaults):
        """Helm writes 0.0000006 as 6e-07, which Python's YAML reads as a text."""
        assert typed(config_of(defaults)) == typed(CONFIG)

    def test_passes_the_gateways_own_check(self, rendered, tmp_path):
        file = tmp_path / "proxy_config.yaml"
        file.write_text(rendered.of("ConfigMap")["data"]["proxy_config.yaml"])
        assert load_config(file, ENVIRON).deployments

    def test_can_be_changed_setting_by_setting(self):
        config = config_of(render(values={"proxyConfig": {"router_settings": {"num_retries": 7}}}))
        assert config["router_settings"] == {**CONFIG["router_settings"], "num_retries": 7}
        assert config["model_list"] == CONFIG["model_list"]

    def test_can_be_a_file_as_it_is(self, helm):
        objects = render("--set-file", f"proxyConfig={CONFIG_FILE}", helm=helm)
        assert objects.of("ConfigMap")["data"]["proxy_config.yaml"].strip() == CONFIG_FILE.read_text().strip()

    @pytest.mark.parametrize("number", [1e-9, 6e-7, 2.5e-8, 0.00005, 1.5, 100, 1_000_000, 123_456_789_012])
    def test_keeps_every_number(self, helm, number):
        config = config_of(render("--set-json", f'proxyConfig.x={{"a": [{number!r}]}}', helm=helm))
        assert typed(config["x"]) == typed({"a": [number]})

    def test_keeps_texts_that_look_like_numbers(self):
        assert config_of(render("--set-json", 'proxyConfig.x="6e-07"'))["x"] == "6e-07"


class TestTheDeclaredKeys:
    def test_are_what_the_job_gets(self):
        objects = render(values={"keysConfig": KEYS})
        assert typed(yaml.safe_load(objects.of("ConfigMap", f"{NAME}-keys")["data"]["keys.yaml"])) == typed(
            KEYS
        )
        job = objects.of("Job", f"{NAME}-keys")
        assert job["metadata"]["annotations"]["helm.sh/hook"] == "post-install,post-upgrade"
        assert objects.container("keys")["args"] == [
            "keys",
            "apply",
            "--file=/etc/neev-gateway/keys.yaml",
            "--yes",
            "--by=helm",
        ]

    def test_can_be_a_file(self, tmp_path):
        file = tmp_path / "keys.yaml"
        file.write_text("keys:\n  - alias: ci  # Jenkins\n    token: os.environ/CI_TOKEN\n")
        objects = render("--set-file", f"keysConfig={file}")
        assert objects.of("ConfigMap", f"{NAME}-keys")["data"]["keys.yaml"] == file.read_text()

    def test_get_their_tokens_from_a_secret_that_only_the_job_sees(self):
        objects = render(values={"keysConfig": KEYS, "keysJob": {"existingSecret": "tokens"}})
        assert objects.container("keys")["envFrom"] == [{"secretRef": {"name": "tokens"}}]
        assert "envFrom" not in objects.container("gateway")

    def test_need_no_job_where_there_are_none(self, defaults):
        assert not defaults.has("Job", f"{NAME}-keys")

    def test_do_not_restart_the_gateway(self, defaults):
        assert _deployment(render(values={"keysConfig": KEYS})) == _deployment(defaults)


class TestTheChecksum:
    def test_changes_with_the_configuration(self, defaults):
        assert checksum_of(render(values={"proxyConfig": {"a": 1}})) != checksum_of(defaults)

    def test_does_not_change_with_anything_else(self, defaults):
        values = {
            "replicaCount": 3,
            "commonLabels": {"a": "b"},
            "keysConfig": KEYS,
            "service": {"port": 8080},
            "image": {"tag": "9"},
        }
        assert checksum_of(render(values=values)) == checksum_of(defaults)

    def test_of_the_store_changes_with_its_settings_only(self, defaults):
        def store(**bundled) -> str:
            objects = defaults if not bundled else render(values={"store": {"bundled": bundled}})
            spec = objects.of("StatefulSet", f"{NAME}-store")["spec"]
            return spec["template"]["metadata"]["annotations"]["checksum/config"]

        assert store(maxMemory="1gb") != store()
        assert store(resources={"requests": {"cpu": "2"}}) == store()


def _deployment(objects) -> dict:
    return objects.of("Deployment")


def test_a_new_version_of_the_chart_alone_replaces_no_pod(defaults, tmp_path):
    copy = tmp_path / "neev-gateway"
    shutil.copytree(CHART, copy)
    chart = copy / "Chart.yaml"
    chart.write_text(chart.read_text().replace("version: 0.1.0", "version: 0.2.0", 1))
    assert "0.2.0" in chart.read_text()
    done = run_helm(HELMS["helm4"], "template", "r", copy, "-n", "llm")
    after = Objects(yaml.safe_load_all(done.stdout))
    assert after.of("Deployment")["metadata"]["labels"]["helm.sh/chart"] == "neev-gateway-0.2.0"
    for kind, name in (("Deployment", NAME), ("StatefulSet", f"{NAME}-store")):
        assert after.of(kind, name)["spec"]["template"] == defaults.of(kind, name)["spec"]["template"]


def test_what_is_written_from_other_files_is_up_to_date():
    done = subprocess.run(
        [sys.executable, ROOT / "helm" / "chart_files.py", "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, f"Run: make chart-files\n{done.stdout}{done.stderr}"


# What must be set for a value to count, by the value's beginning; the first that fits.
CONTEXTS = {
    "image.tag": {},
    "upstream.": {},
    "masterKey.existingSecretKey": {"masterKey": {"existingSecret": "m"}},
    "externalSecrets.": {
        "masterKey": {"existingSecret": "m"},
        "externalSecrets": {
            "enabled": True,
            "secretStoreRef": {"kind": "SecretStore", "name": "vault"},
            "upstream": {"key": "a"},
            "masterKey": {"key": "b"},
        },
    },
    "keysJob.": {"keysConfig": {"keys": [{"alias": "a", "token": "os.environ/A"}]}},
    "store.external.tls.": {"store": {"mode": "external", "external": {"url": "rediss://a", "tls": {"caSecret": "s"}}}},
    "store.external.existingSecretUrlKey": {"store": {"mode": "external", "external": {"existingSecret": "s", "existingSecretUrlKey": "k"}}},
    "store.external.": {"store": {"mode": "external", "external": {"url": "redis://a", "existingSecret": "s"}}},
    "store.bundled.existingSecretKey": {"store": {"bundled": {"existingSecret": "s"}}},
    "service.": {"service": {"type": "LoadBalancer"}},
    "ingress.": {"ingress": {"enabled": True, "hosts": [{"host": "a"}]}},
    "httpRoute.": {"httpRoute": {"enabled": True, "parentRefs": [{"name": "a"}]}},
    "metrics.serviceMonitor.": {"metrics": {"serviceMonitor": {"enabled": True}}},
    "metrics.podMonitor.": {"metrics": {"podMonitor": {"enabled": True}}},
    "metrics.prometheusRule.": {"metrics": {"prometheusRule": {"enabled": True, "additionalGroups": [{"name": "a", "rules": []}]}}},
    "metrics.dashboards.": {"metrics": {"dashboards": {"enabled": True}}},
    "autoscaling.": {"autoscaling": {"enabled": True}},
    "keda.": {"keda": {"enabled": True, "triggers": [{"type": "cpu"}]}},
    "networkPolicy.store": {"store": {"mode": "external", "external": {"url": "redis://a"}}},
    "serviceAccount.": {},
    "helmTest.existingSecretKey": {"helmTest": {"existingSecret": "a"}},
}  # fmt: skip
# Where the type alone does not give another value that fits.
OTHERS = {
    "upstream.baseUrl": "https://a/v1",
    "image.digest": "sha256:" + "0" * 64,
    "store.bundled.image.digest": "sha256:" + "0" * 64,
    "image.pullPolicy": "Always",
    "store.bundled.image.pullPolicy": "Always",
    "externalSecrets.apiVersion": "external-secrets.io/v1beta1",
    "externalSecrets.refreshInterval": "5m",
    "externalSecrets.secretStoreRef": {"name": "b"},
    "externalSecrets.upstream": {"key": "z"},
    "externalSecrets.masterKey": {"key": "z"},
    "keysConfig": {"keys": [{"alias": "b", "token": "os.environ/B"}]},
    "gateway.logLevel": "debug",
    "gateway.logFormat": "console",
    "gateway.extraArgs": ["--verbose"],
    "store.mode": "external",
    "store.external.url": "redis://b",
    "store.bundled.maxMemory": "1gb",
    "store.bundled.persistence.size": "5Gi",
    "store.bundled.persistence.accessModes": ["ReadWriteOncePod"],
    "terminationGracePeriodSeconds": 999,
    "service.type": "NodePort",
    "service.nodePort": 30000,
    "service.externalTrafficPolicy": "Local",
    "service.ipFamilyPolicy": "SingleStack",
    "service.loadBalancerSourceRanges": ["10.0.0.0/8"],
    "ingress.hosts": [{"host": "b"}],
    "httpRoute.hostnames": ["b"],
    "httpRoute.timeouts": {"request": "1s"},
    "metrics.serviceMonitor.interval": "1s",
    "metrics.serviceMonitor.scrapeTimeout": "1s",
    "metrics.podMonitor.interval": "1s",
    "metrics.podMonitor.scrapeTimeout": "1s",
    "autoscaling.behavior": {"scaleUp": {"a": "b"}},
    "keda.behavior": {"scaleUp": {"a": "b"}},
    "podDisruptionBudget.minAvailable": 1,
    "podDisruptionBudget.maxUnavailable": 2,
    "networkPolicy.clients": [],
    "networkPolicy.prometheus": [],
    "networkPolicy.dns": [],
    "networkPolicy.upstream": [],
    "networkPolicy.store": [{"podSelector": {}}],
    "networkPolicy.upstreamPorts": [1],
    "networkPolicy.storePorts": [1],
    "scratchSize": "1Gi",
    "updateStrategy": {"type": "Recreate"},
}  # fmt: skip


NO_CONTEXT: dict = {}


def test_every_value_counts():
    """Each documented value, set to something else, makes another render: none is left over from an older chart."""
    values = documented_values((CHART / "values.yaml").read_text())
    assert len(values) > 120
    if not list((CHART / "files" / "dashboards").glob("*.json")):
        values = [value for value in values if not value.path.startswith("metrics.dashboards.")]
    bases = {id(context): _stable(context) for context in [NO_CONTEXT, *CONTEXTS.values()]}
    with ThreadPoolExecutor(2) as pool:
        results = pool.map(lambda value: (value.path, _counts(value, bases)), values)
    assert [path for path, counts in results if not counts] == []


def _counts(value, bases: dict[int, str]) -> bool:
    context = next((c for beginning, c in CONTEXTS.items() if value.path.startswith(beginning)), NO_CONTEXT)
    base = bases[id(context)]
    changed = yaml.safe_load(yaml.safe_dump(context))
    at = changed
    *parents, name = value.path.split(".")
    for parent in parents:
        at = at.setdefault(parent, {})
    at[name] = _other(value.path, at.get(name, value.default))
    if value.path == "store.mode":
        at["external"] = {"url": "redis://a"}
    return _stable(changed) != base


def _other(path: str, default):
    if path in OTHERS:
        return OTHERS[path]
    match default:
        case bool():
            return not default
        case int():
            return default + 1
        case str():
            return "other"
        case list():
            return [{"name": "other"}]
        case _:
            return {"requests": {"cpu": "9"}} if path.endswith("resources") else _other_mapping(path)


def _other_mapping(path: str) -> dict:
    return {"periodSeconds": 99} if path.endswith("Probe") else {"other": "other"}


def _stable(values: dict) -> str:
    """The render without what is generated anew each time."""
    return re.sub(r"(?m)^  (LITELLM_MASTER_KEY|password): .*$", "", render_text(values=values))
