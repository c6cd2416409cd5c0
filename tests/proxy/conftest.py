"""One `neev-gateway serve` for the suite, with the real model and voice."""

from __future__ import annotations

import pytest

from neev_provider.commands.models_catalog import sync_config
from tests.proxy.serving import ROOT, serving

OWN_PRICE = "{id: tts-1, modality: speech, voices: any, price: {characters: 15.0}}"


@pytest.fixture(scope="session")
def served(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("served")) as running:
        yield running


@pytest.fixture(scope="session")
def echoing(tmp_path_factory):
    """The echo engine, which plays faults, a price of the team's own for speech, and everything through LiteLLM."""
    directory = tmp_path_factory.mktemp("echoing")
    config = directory / "proxy_config.yaml"
    shipped = (ROOT / "proxy_config.yaml").read_text()
    assert "  models: []\n" in shipped
    config.write_text(shipped.replace("  models: []\n", f"  fast_path: false\n  models: [{OWN_PRICE}]\n"))
    assert "input_cost_per_character" in sync_config(config, None, check=False, environ={})
    with serving(directory, "--engine", "echo", config=config) as running:
        yield running


def pytest_collection_modifyitems(items):
    # One process has the servers; started in each, they would cost half a minute and a gigabyte more.
    for item in items:
        if "tests/proxy/" in item.nodeid:
            item.add_marker(pytest.mark.xdist_group("proxy"))
