"""Values that cannot be meant are refused, by a message that says what to change."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
import yaml

from tests.helm.charts import CHART, template

SCHEMA = json.loads((CHART / "values.schema.json").read_text())
MODEL = {"model_name": "m", "litellm_params": {"model": "neev/gpt-oss-20b"}}

# What each contradiction is, and what the message must name: the values to change.
CONTRADICTIONS = {
    "two autoscalers": (
        {"autoscaling": {"enabled": True}, "keda": {"enabled": True, "triggers": [{"type": "cpu"}]}},
        "autoscaling.enabled and keda.enabled would scale the same pods: switch one of them off",
    ),
    "KEDA without a trigger": ({"keda": {"enabled": True}}, "keda.triggers"),
    "an autoscaler without a metric": (
        {"autoscaling": {"enabled": True, "targetCPUUtilizationPercentage": ""}},
        "autoscaling.targetCPUUtilizationPercentage or autoscaling.metrics",
    ),
    "scaling by the share of a request that is not made": (
        {"autoscaling": {"enabled": True}, "gateway": {"resources": {"requests": {"cpu": None}}}},
        "gateway.resources.requests.cpu",
    ),
    "a minimum above the maximum": (
        {"autoscaling": {"enabled": True, "minReplicas": 20}},
        "autoscaling.minReplicas is more than autoscaling.maxReplicas",
    ),
    "KEDA's minimum above its maximum": (
        {"keda": {"enabled": True, "triggers": [{"type": "cpu"}], "minReplicaCount": 20}},
        "keda.minReplicaCount is more than keda.maxReplicaCount",
    ),
    "several pods that each keep their own keys": (
        {"store": {"mode": "embedded"}, "replicaCount": 2},
        "set replicaCount=1 without autoscaling, or store.mode to bundled or external",
    ),
    "an autoscaler of pods that each keep their own keys": (
        {"store": {"mode": "embedded"}, "replicaCount": 1, "autoscaling": {"enabled": True}},
        "set replicaCount=1 without autoscaling",
    ),
    "a Job for keys inside a pod": (
        {"store": {"mode": "embedded"}, "replicaCount": 1, "keysConfig": {"keys": [{"alias": "a", "token": "os.environ/A"}]}},
        "keysConfig needs a store that the Job can reach",
    ),
    "a declared key whose token would be printed": (
        {"keysConfig": {"keys": [{"alias": "ci"}]}},
        "the key ci in keysConfig names no token",
    ),
    "the same in a file": (
        {"keysConfig": "keys:\n  - alias: ci\n"},
        "the key ci in keysConfig names no token",
    ),
    "a token in a ConfigMap": (
        {"keysConfig": {"keys": [{"alias": "ci", "token": "sk-neev-x.y"}]}},
        "the key ci in keysConfig holds a token itself",
    ),
    "an external store that is not named": ({"store": {"mode": "external"}}, "set store.external.url"),
    "an external store that is not used": (
        {"store": {"external": {"url": "redis://r:6379"}}},
        "set store.mode=external",
    ),
    "a password in the store's URL": (
        {"store": {"mode": "external", "external": {"url": "redis://u:p@r:6379"}}},
        "the password in the Secret that store.external.existingSecret names",
    ),
    "two places for the store's URL": (
        {"store": {"mode": "external", "external": {"url": "redis://r", "existingSecret": "s", "existingSecretUrlKey": "u"}}},
        "leave one of them empty",
    ),
    "an entry without its Secret": (
        {"store": {"mode": "external", "external": {"existingSecretUrlKey": "u"}}},
        "needs store.external.existingSecret",
    ),
    "a user without a password": (
        {"store": {"mode": "external", "external": {"url": "redis://r", "username": "u"}}},
        "store.external.username needs the password's Secret",
    ),
    "an authority without TLS": (
        {"store": {"mode": "external", "external": {"url": "redis://r", "tls": {"caSecret": "ca"}}}},
        "begin store.external.url with rediss",
    ),
    "an authority for a URL out of a Secret": (
        {"store": {"mode": "external", "external": {"existingSecret": "s", "existingSecretUrlKey": "u", "tls": {"caSecret": "ca"}}}},
        "?ssl_ca_certs=/path",
    ),
    "a grace shorter than the drain": (
        {"terminationGracePeriodSeconds": 600},
        "terminationGracePeriodSeconds=600 is shorter than the drain: at least 625",
    ),
    "a ServiceMonitor of nothing": (
        {"metrics": {"enabled": False, "serviceMonitor": {"enabled": True}}},
        "need metrics.enabled=true",
    ),
    "two monitors": (
        {"metrics": {"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}}},
        "would collect everything twice",
    ),
    "an Ingress without a host": ({"ingress": {"enabled": True}}, "ingress.hosts"),
    "a route without a Gateway": ({"httpRoute": {"enabled": True}}, "httpRoute.parentRefs"),
    "a vault that is not named": (
        {"externalSecrets": {"enabled": True, "upstream": {"key": "k"}}},
        "externalSecrets.secretStoreRef.name",
    ),
    "nothing to fetch from a vault": (
        {"externalSecrets": {"enabled": True, "secretStoreRef": {"name": "vault"}}},
        "set externalSecrets.upstream or externalSecrets.masterKey",
    ),
    "a fetched key that nobody uses": (
        {"externalSecrets": {"enabled": True, "secretStoreRef": {"name": "v"}, "masterKey": {"key": "k"}}},
        "masterKey.existingSecret",
    ),
    "a budget that never lets a node be emptied": (
        {"podDisruptionBudget": {"minAvailable": 2}},
        "lets no node ever be emptied: use maxUnavailable",
    ),
    "a budget that lets no pod go": (
        {"podDisruptionBudget": {"maxUnavailable": 0}},
        "podDisruptionBudget.maxUnavailable=0 lets no node ever be emptied",
    ),
    "the same as a share": (
        {"podDisruptionBudget": {"minAvailable": "100%"}},
        "podDisruptionBudget.minAvailable=100% of replicaCount=2 lets no node ever be emptied",
    ),
    "a share that is rounded up to all": (
        {"podDisruptionBudget": {"minAvailable": "51%"}},
        "podDisruptionBudget.minAvailable=51% of replicaCount=2 lets no node",
    ),
    "a budget of as many as an autoscaler leaves": (
        {"autoscaling": {"enabled": True, "minReplicas": 2}, "podDisruptionBudget": {"minAvailable": 2}},
        "podDisruptionBudget.minAvailable=2 of autoscaling.minReplicas=2 lets no node ever be emptied: use maxUnavailable, ",
    ),
    "the same of KEDA, and a share": (
        {"keda": {"enabled": True, "triggers": [{"type": "cpu"}], "minReplicaCount": 3}, "podDisruptionBudget": {"minAvailable": "67%"}},
        "podDisruptionBudget.minAvailable=67% of keda.minReplicaCount=3 lets no node",
    ),
    "a budget of one where KEDA may leave none": (
        {"keda": {"enabled": True, "triggers": [{"type": "cpu"}], "minReplicaCount": 0}, "podDisruptionBudget": {"minAvailable": 1}},
        "podDisruptionBudget.minAvailable=1 of keda.minReplicaCount=0 lets no node",
    ),
    "a store of no version": (
        {"store": {"bundled": {"image": {"tag": None}}}},
        "set store.bundled.image.tag or digest",
    ),
    "a label of all objects that selects pods": (
        {"commonLabels": {"app.kubernetes.io/name": "x"}},
        "commonLabels sets app.kubernetes.io/name",
    ),
    "a label of pods that selects them": (
        {"podLabels": {"app.kubernetes.io/component": "x"}},
        "podLabels sets app.kubernetes.io/component",
    ),
    "a node's port of a Service that has none": ({"service": {"nodePort": 30000}}, "service.type=NodePort or LoadBalancer"),
    "a traffic policy of a Service inside": (
        {"service": {"externalTrafficPolicy": "Local"}},
        "service.externalTrafficPolicy needs service.type",
    ),
    "a load balancer's class without one": (
        {"service": {"type": "NodePort", "loadBalancerClass": "x"}},
        "service.loadBalancerClass needs service.type=LoadBalancer",
    ),
    "a load balancer's clients without one": (
        {"service": {"loadBalancerSourceRanges": ["10.0.0.0/8"]}},
        "service.loadBalancerSourceRanges needs service.type=LoadBalancer",
    ),
    "a store behind a closed port": (
        {"store": {"mode": "external", "external": {"url": "rediss://[fd00::1]:6379,r:6380/0?a=b:1"}}},
        "store.external.url has port 6380, which the network policy does not let through: add it to networkPolicy.storePorts",
    ),
    "an upstream behind a closed port": (
        {"upstream": {"baseUrl": "https://models.example:8443/v1"}},
        "upstream.baseUrl has port 8443, which the network policy does not let through",
    ),
    "an upstream behind a closed port that is not written": (
        {"upstream": {"baseUrl": "http://models.example/v1"}},
        "upstream.baseUrl has port 80,",
    ),
    "LiteLLM on the gateway's port": ({"litellm": {"port": 4000}}, "litellm.port=4000 is another container's port"),
    "metrics on the gateway's port": ({"metrics": {"port": 4000}}, "metrics.port=4000 is the API's port"),
    "a configuration without models": ({"proxyConfig": {"model_list": []}}, "proxyConfig.model_list is empty"),
    "a configuration that is not YAML": ({"proxyConfig": "a: [b"}, "proxyConfig is not YAML"),
    "a port in the configuration": (
        {"proxyConfig": {"neev": {"server": {"port": 8080}}}},
        "proxyConfig.neev.server.port is the chart's to say: remove it and set service.port",
    ),
    "a grace in a configuration file": (
        {"proxyConfig": yaml.safe_dump({"model_list": [MODEL], "neev": {"server": {"grace": 5}}})},
        "remove it and set drain.graceSeconds",
    ),
    "a store in the configuration": (
        {"proxyConfig": {"neev": {"store": "redis://r"}}},
        "proxyConfig.neev.store is the chart's to say: remove it and set store.mode",
    ),
    "LiteLLM switched off in the configuration": (
        {"proxyConfig": {"neev": {"litellm": {"enabled": False}}}},
        "set litellm.enabled",
    ),
    "a log level in the configuration": (
        {"proxyConfig": {"neev": {"log": {"level": "debug"}}}},
        "set gateway.logLevel",
    ),
    "a master key in the configuration": (
        {"proxyConfig": {"general_settings": {"master_key": "sk-secret"}}},
        "name a Secret in masterKey.existingSecret",
    ),
    "an upstream key in the configuration": (
        {"proxyConfig": {"model_list": [{**MODEL, "litellm_params": {"model": "neev/x", "api_key": "sk-nc-secret"}}]}},
        "proxyConfig.model_list[0].litellm_params.api_key stands in a ConfigMap",
    ),
    "a client's key in the configuration": (
        {"proxyConfig": {"neev": {"keys": [{"alias": "a", "key": "sk-secret"}]}}},
        "proxyConfig.neev.keys[0].key stands in a ConfigMap",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_values_that_contradict_each_other_are_refused(name):
    values, said = CONTRADICTIONS[name]
    done = template(values=values)
    assert done.returncode != 0
    problems = [line for line in done.stderr.splitlines() if line.startswith("- ")]
    assert len(problems) == 1, done.stderr
    assert said in problems[0]
    assert "sk-secret" not in done.stderr


@pytest.mark.parametrize(
    ("least", "scaled"),
    [
        (1, {}),
        ("50%", {}),
        (2, {"minReplicas": 3}),
        ("66%", {"minReplicas": 3}),
        (0, {"minReplicas": 1}),
        ("0%", {}),
    ],
)
def test_a_budget_that_lets_a_pod_go_is_not(least, scaled):
    autoscaling = {"enabled": bool(scaled), **scaled}
    done = template(values={"podDisruptionBudget": {"minAvailable": least}, "autoscaling": autoscaling})
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "policy", [{"enabled": False}, {"upstreamPorts": [8443], "storePorts": [6380]}, {"extraEgress": [{}]}]
)
def test_ports_that_the_network_policy_lets_through_are_not(policy):
    external = {"mode": "external", "external": {"url": "redis+sentinel://r:6380,r2:6380/main"}}
    upstream = {"baseUrl": "https://models.example:8443/v1"}
    done = template(values={"store": external, "upstream": upstream, "networkPolicy": policy})
    assert done.returncode == 0, done.stderr


def test_both_helms_show_all_problems_at_once(helm):
    values = {**CONTRADICTIONS["two monitors"][0], "terminationGracePeriodSeconds": 1}
    done = template(values=values, helm=helm)
    assert done.returncode != 0
    assert len([line for line in done.stderr.splitlines() if line.startswith("- ")]) == 2


@pytest.mark.parametrize(
    "values",
    [
        {"replicas": 3},
        {"gateway": {"worker": 2}},
        {"store": {"mode": "none"}},
        {"store": {"external": {"url": "http://r"}}},
        {"service": {"port": 70000}},
        {"replicaCount": "three"},
        {"image": {"digest": "sha256:short"}},
        {"image": {"repository": ""}},
        {"upstream": {"existingSecret": ""}},
        {"upstream": {"baseUrl": "models.internal"}},
        {"upstream": {"apiKey": "sk-nc-secret"}},
        {"keysConfig": {"keys": [{"team": "no-alias"}]}},
        {"keysConfig": {"users": []}},
        {"metrics": {"serviceMonitor": {"interval": "30"}}},
        {"networkPolicy": {"clients": [{}]}},
        {"drain": {"graceSeconds": -1}},
        {"gateway": {"resources": {"limit": {"cpu": 1}}}},
    ],
    ids=str,
)
def test_unknown_names_and_impossible_values_are_refused_by_the_schema(helm, values):
    done = template(values=values, helm=helm)
    assert done.returncode != 0
    assert "don't meet the specifications of the schema" in done.stderr


def _mappings(values: dict, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield (*path, name)
            if name != "proxyConfig":
                yield from _mappings(value, (*path, name))


@pytest.mark.parametrize(
    "path", list(_mappings(yaml.safe_load((CHART / "values.yaml").read_text()))), ids=".".join
)
def test_a_mapping_that_is_taken_away_is_left_out_or_refused_in_words(path):
    done = template("--set", f"{'.'.join(path)}=null")
    if done.returncode != 0:
        assert path[-1] in done.stderr
        assert "schema" in done.stderr or "These values do not fit together" in done.stderr, done.stderr


def test_both_helms_name_what_was_taken_away(helm):
    done = template("--set", "gateway=null", helm=helm)
    assert done.returncode != 0
    assert re.search(r"missing propert\w+:? 'gateway'|gateway is required", done.stderr), done.stderr


def test_the_schema_knows_every_value_and_no_others():
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert set(SCHEMA["properties"]) - {"global"} == set(values)
    _compare(values, SCHEMA, "")


def _compare(values: dict, schema: dict, path: str) -> None:
    """Where the schema names properties, they are those of values.yaml, and nothing else is let through."""
    while "$ref" in schema:
        schema = SCHEMA["definitions"][schema["$ref"].rpartition("/")[2]]
    if "properties" not in schema or not isinstance(values, dict):
        return
    assert schema["additionalProperties"] is False, path
    for name, value in values.items():
        assert name in schema["properties"], f"{path}{name} is missing in values.schema.json"
        _compare(value, schema["properties"][name], f"{path}{name}.")
