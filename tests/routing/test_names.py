"""What a public model name stands for, and which names there are."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest

from neev_provider.catalog import Catalog
from neev_provider.config import load_config
from neev_provider.routing import PublicModel, Router
from tests.routing.routes import ENVIRON, A, B, build, deployment


def ids(group) -> list[str]:
    return [each.model.id for each in group.deployments]


def names(router) -> list[str]:
    return [public.name for public in router.models()]


def test_the_shipped_configuration_is_served_without_litellm():
    environ = {"NEEV_API_KEY": "sk-nc-x", "LITELLM_MASTER_KEY": "sk-x"}
    router = Router(load_config("proxy_config.yaml", environ), environ)
    assert router.litellm_reason is None
    assert {public.name: router.resolve(public.name).reason for public in router.models()} == {
        model.id: None for model in Catalog.load() if model.id in names(router)
    }
    assert "tts-1" in names(router)


def test_a_name_stands_for_all_its_deployments(tmp_path):
    router = build(tmp_path, deployment("a", A), deployment("b", B), deployment("a", B))
    assert ids(router.resolve("a")) == [A, B]
    assert [each.name for each in router.resolve("a").deployments] == ["a#1", "a#2"]


def test_an_unknown_name_stands_for_nothing(tmp_path):
    router = build(tmp_path, deployment("a"))
    assert router.resolve("nope") is None
    assert router.resolve("") is None
    assert router.resolve("A") is None


def test_an_alias_stands_for_its_target(tmp_path):
    router = build(
        tmp_path, deployment("a"), model_group_alias={"nick": "a", "shy": {"model": "a", "hidden": True}}
    )
    assert ids(router.resolve("nick")) == ids(router.resolve("shy")) == [A]
    assert router.resolve("nick").name == "nick"


def test_an_alias_goes_before_a_model_of_its_name(tmp_path):
    router = build(tmp_path, deployment("a", A), deployment("b", B), model_group_alias={"a": "b"})
    assert ids(router.resolve("a")) == [B]


def test_an_alias_may_mean_a_wildcards_model(tmp_path):
    router = build(tmp_path, deployment("neev/*", "*"), model_group_alias={"nick": f"neev/{A}"})
    assert ids(router.resolve("nick")) == [A]


@pytest.mark.parametrize(
    ("pattern", "model", "name"),
    [
        ("neev/*", "*", f"neev/{A}"),
        ("*", "*", A),
        ("our-*", "*", f"our-{A}"),
        ("gpt-*", "gpt-*", A),
        ("*", A, "any"),
    ],
)
def test_a_wildcard_stands_for_models_of_the_catalog(pattern, model, name, tmp_path):
    router = build(tmp_path, deployment(pattern, model))
    assert ids(router.resolve(name)) == [A]
    assert router.resolve(name).deployments[0].name == pattern


def test_a_wildcard_does_not_stand_for_models_that_do_not_exist(tmp_path):
    router = build(tmp_path, deployment("neev/*", "*"))
    assert router.resolve("neev/nope") is None
    assert router.resolve("neev/*") is None


def test_a_name_of_its_own_goes_before_a_wildcard(tmp_path):
    router = build(tmp_path, deployment("*", A), deployment("b", B))
    assert ids(router.resolve("b")) == [B]


def test_names_that_clients_invent_do_not_pile_up(tmp_path):
    router = build(tmp_path, deployment("*", A))
    for number in range(3000):
        assert router.resolve(f"invented-{number}") is not None
    assert len(router._wildcards) <= 1024
    assert len(router._routed) == 1


def test_a_name_of_any_length_is_answered_soon(tmp_path):
    router = build(tmp_path, deployment("*-*-*-*-*!", A))
    assert router.resolve("a-" * 100_000) is None


def test_routing_needs_no_litellm():
    code = "import sys, neev_provider.routing; sys.exit('litellm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_wildcard_knows_models_that_upstream_lists_meanwhile(tmp_path):
    build(tmp_path, deployment("neev/*", "*"))
    catalogs = [Catalog.load()]
    config = load_config(tmp_path / "proxy_config.yaml", ENVIRON)
    router = Router(config, ENVIRON, catalog=lambda: catalogs[-1], rng=random.Random(1))
    assert router.resolve("neev/new-model") is None
    catalogs.append(catalogs[0].merged([{"id": "new-model", "owned_by": "someone", "created": 5}]))
    assert ids(router.resolve("neev/new-model")) == ["new-model"]
    assert "neev/new-model" in names(router)


def test_every_public_name_is_listed_once(tmp_path):
    router = build(
        tmp_path,
        deployment("a"),
        deployment("a", B),
        deployment("b", B),
        model_group_alias={"nick": "a", "shy": {"model": "a", "hidden": True}},
    )
    assert names(router) == ["a", "b", "nick"]
    assert router.models()[2].model.id == A


def test_wildcards_are_listed_with_all_they_stand_for(tmp_path):
    router = build(tmp_path, deployment("our-*", "*"), deployment("any-*", A))
    assert names(router) == [f"our-{model.id}" for model in Catalog.load()]


def test_another_providers_models_are_listed_without_details(tmp_path):
    entry = {"model_name": "claude", "litellm_params": {"model": "anthropic/claude"}}
    assert build(tmp_path, entry).models() == [PublicModel("claude", None)]


@pytest.mark.parametrize("name", [f"neev/{A}", "dep-1"])
def test_litellms_other_ways_to_name_a_deployment_are_its_own(name, tmp_path):
    router = build(tmp_path, deployment("a", A, info={"id": "dep-1"}))
    assert "it names a deployment by" in router.resolve(name).reason


def test_unknown_names_are_litellms_if_there_are_default_fallbacks(tmp_path):
    router = build(tmp_path, deployment("a"), default_fallbacks=["a"])
    assert router.resolve("nope").reason == "unknown models go to the default fallback"


def test_unknown_names_are_litellms_if_another_providers_wildcard_might_fit(tmp_path):
    router = build(tmp_path, {"model_name": "openai/*", "litellm_params": {"model": "openai/*"}})
    assert router.resolve("gpt-4o").reason == "LiteLLM may find a provider for it"
    assert router.resolve("openai/gpt-4o").reason == "openai/gpt-4o is not a model of NeevAI"
