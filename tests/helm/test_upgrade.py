"""An upgrade keeps what must not change: selectors, claims, generated secrets, the configuration's numbers."""

from __future__ import annotations

import base64
import re

import pytest
import yaml

from tests.helm.charts import NAME, ROOT, Objects, render
from tests.helm.golden import GOLDEN
from tests.helm.releases import Releases, objects_of
from tests.helm.typed import typed

CONFIG = yaml.safe_load((ROOT / "proxy_config.yaml").read_text())


class TestGeneratedSecrets:
    def test_survive_every_upgrade(self, helm, cluster, tmp_path):
        releases = Releases(helm, tmp_path, cluster.kubeconfig)
        first = objects_of(releases.install())
        cluster.keep(first)
        second = objects_of(releases.upgrade(values={"replicaCount": 5}))
        assert second.of("Deployment")["spec"]["replicas"] == 5
        for name, entry in ((f"{NAME}-master-key", "LITELLM_MASTER_KEY"), (f"{NAME}-store", "password")):
            assert second.of("Secret", name)["data"] == first.of("Secret", name)["data"]
            assert list(second.of("Secret", name)["data"]) == [entry]

    def test_are_strong_and_every_installs_own(self):
        found = [render() for _ in range(2)]
        keys = [_text(o.of("Secret", f"{NAME}-master-key")["data"]["LITELLM_MASTER_KEY"]) for o in found]
        passwords = [_text(o.of("Secret", f"{NAME}-store")["data"]["password"]) for o in found]
        assert all(re.fullmatch(r"sk-[A-Za-z0-9]{48}", key) for key in keys)
        # It stands in a URL.
        assert all(re.fullmatch(r"[A-Za-z0-9]{40}", password) for password in passwords)
        assert len(set(keys)) == len(set(passwords)) == 2

    def test_are_not_made_where_the_team_names_its_own(self):
        objects = render(
            values={
                "masterKey": {"existingSecret": "mine"},
                "store": {"bundled": {"existingSecret": "mine-too"}},
            }
        )
        assert [item for item in objects if item["kind"] == "Secret"] == []


class TestWhatKubernetesForbidsToChange:
    """Against the golden file, which is the last release's render."""

    BEFORE = Objects(yaml.safe_load_all(GOLDEN.read_text()))

    def test_the_selectors(self, defaults):
        for kind, name in (("Deployment", NAME), ("StatefulSet", f"{NAME}-store")):
            assert (
                defaults.of(kind, name)["spec"]["selector"] == self.BEFORE.of(kind, name)["spec"]["selector"]
            )

    def test_the_claim_and_the_service_of_the_store(self, defaults):
        now, before = (each.of("StatefulSet", f"{NAME}-store")["spec"] for each in (defaults, self.BEFORE))
        assert now["serviceName"] == before["serviceName"]
        assert now["volumeClaimTemplates"] == before["volumeClaimTemplates"]
        assert now["persistentVolumeClaimRetentionPolicy"] == {
            "whenDeleted": "Retain",
            "whenScaled": "Retain",
        }

    @pytest.mark.parametrize(
        "values",
        [
            {"image": {"tag": "9.9.9"}},
            {"podLabels": {"a": "b"}, "commonLabels": {"c": "d"}},
            {"litellm": {"enabled": False}, "metrics": {"enabled": False}},
        ],
    )
    def test_no_ordinary_value_touches_them(self, values):
        after = render(values=values)
        for kind, name in (("Deployment", NAME), ("StatefulSet", f"{NAME}-store")):
            assert after.of(kind, name)["spec"]["selector"] == self.BEFORE.of(kind, name)["spec"]["selector"]
        claims = self.BEFORE.of("StatefulSet", f"{NAME}-store")["spec"]["volumeClaimTemplates"]
        assert after.of("StatefulSet", f"{NAME}-store")["spec"]["volumeClaimTemplates"] == claims


def test_reused_values_keep_their_numbers(helm, cluster, tmp_path):
    """Helm keeps a release's values as JSON, whose numbers come back as fractions: 1000000 as 1e+06."""
    releases = Releases(helm, tmp_path, cluster.kubeconfig)
    own = {"proxyConfig": {"neev": {"server": {"max_body_bytes": 20_000_000}}}}
    releases.install(values={**own, "replicaCount": 3})
    after = objects_of(releases.upgrade("--reuse-values", "--set", "minReadySeconds=7"))
    assert after.of("Deployment")["spec"]["replicas"] == 3
    config = yaml.safe_load(after.of("ConfigMap")["data"]["proxy_config.yaml"])
    assert typed(config["model_list"]) == typed(CONFIG["model_list"])
    assert typed(config["neev"]["server"]["max_body_bytes"]) == typed(20_000_000)


def _text(encoded: str) -> str:
    return base64.b64decode(encoded).decode()
