"""The gateway as users run it: `neev-gateway serve --no-litellm`, with an emulator behind it that plays faults."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest

from tests.proxy.serving import ROOT, serving

OWN = """
  - model_name: house            # an alias: the public name differs from upstream's id
    litellm_params: {model: neev/gpt-oss-120b}
  - model_name: shaky            # falls back to house
    litellm_params: {model: neev/gpt-oss-20b, num_retries: 0}
  - model_name: elsewhere
    litellm_params: {model: openai/gpt-4o, api_key: x}

litellm_settings:
"""


def own_config(folder: Path) -> Path:
    text = (ROOT / "proxy_config.yaml").read_text()
    assert "  # fallbacks:" in text
    text = text.replace("\nlitellm_settings:\n", OWN, 1)
    text = text.replace(
        "  # fallbacks:",
        "  fallbacks: [{shaky: [house]}]\n  disable_cooldowns: true  # the tests make every fault\n  # fallbacks:",
        1,
    )
    file = folder / "proxy_config.yaml"
    file.write_text(text)
    return file


@pytest.fixture(scope="session")
def gateway(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gateway")
    with serving(folder, "--no-litellm", "--engine", "echo", config=own_config(folder)) as running:
        yield running


@pytest.fixture
async def client(gateway):
    async with aiohttp.ClientSession(
        gateway.root_url, headers={"Authorization": f"Bearer {gateway.key}"}, auto_decompress=False
    ) as session:
        yield session


@pytest.fixture
async def emulator_control(gateway):
    """The emulator's own view, without faults or memory of earlier tests."""
    async with aiohttp.ClientSession(gateway.emulator_url) as session:
        for what in ("faults", "requests"):
            async with session.delete(f"/_emulator/{what}") as response:
                assert response.status < 300
        yield session


def pytest_collection_modifyitems(items):
    for item in items:
        if "tests/gateway/" in item.nodeid:
            item.add_marker(pytest.mark.xdist_group("gateway"))
