"""A gateway before a server that plays LiteLLM, and one before a real LiteLLM with an emulator behind it."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from pytest_asyncio import is_async_test

from neev_provider.emulator.testing import RunningEmulator, emulator_in_thread
from neev_provider.gateway.exchange import Limits
from neev_provider.gateway.litellm_path import LiteLLMPath
from tests.litellm_path.serving import (
    MASTER_KEY,
    PROVIDER_KEY,
    gateway_before,
    playing,
    running_litellm,
    session_of,
)
from tests.proxy.serving import ROOT

OWN = """
  - model_name: house            # an alias: the public name differs from upstream's id
    litellm_params: {{model: neev/gpt-oss-120b}}
  - model_name: shaky            # falls back to a model that is not NeevAI's
    litellm_params: {{model: neev/gpt-oss-20b, num_retries: 0}}
  - model_name: other            # the same emulator, but to LiteLLM it is OpenAI
    litellm_params: {{model: openai/gpt-oss-120b, api_base: "{url}", api_key: {key}}}
  - model_name: dead
    litellm_params: {{model: openai/gpt-4o, api_base: "http://127.0.0.1:9/v1", api_key: {key}}}
  - model_name: cooling          # alone in its group, so that LiteLLM has nobody left to ask
    litellm_params: {{model: openai/gpt-4o-mini, api_base: "{url}", api_key: {key}, rpm: 1}}

litellm_settings:
"""


@dataclass(frozen=True)
class RealLiteLLM:
    """What the tests of a real LiteLLM need to know."""

    url: str
    config: Path
    emulator: RunningEmulator


@pytest.fixture(scope="session")
def real_litellm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("litellm")
    with emulator_in_thread("echo") as emulator:
        text = (ROOT / "proxy_config.yaml").read_text()
        for old, new in (
            ("\nlitellm_settings:\n", OWN.format(url=emulator.base_url, key=PROVIDER_KEY)),
            ("  num_retries: 2\n", "  num_retries: 0\n  disable_cooldowns: true\n"),
            ("  # fallbacks:", "  fallbacks: [{shaky: [other]}]\n  # fallbacks:"),
            ("https://inference.ai.neevcloud.com/v1", emulator.base_url),
        ):
            assert old in text
            text = text.replace(old, new, 1)
        config = folder / "proxy_config.yaml"
        config.write_text(text)
        with running_litellm(folder, config, emulator.base_url) as url:
            yield RealLiteLLM(url, config, emulator)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def _played():
    async with playing() as litellm:
        yield litellm


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def _client(_played):
    path = LiteLLMPath(_played.url, limits=Limits(), forward_key=MASTER_KEY)
    async with gateway_before(path) as url, session_of(url) as session:
        yield session


@pytest.fixture
def played(_played):
    """What plays LiteLLM, without a memory of earlier tests."""
    _played.forget()
    return _played


@pytest.fixture
def client(_client, played):
    """A client of a gateway before the played LiteLLM."""
    return _client


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def _gateways(real_litellm):
    """Clients of two gateways before the real LiteLLM: one passes everything on, one serves NeevAI's endpoints."""
    async with AsyncExitStack() as stack:
        sessions = []
        for fast_path in (False, True):
            path = LiteLLMPath(real_litellm.url, limits=Limits(), forward_key=MASTER_KEY)
            environ = {"NEEV_BASE_URL": real_litellm.emulator.base_url}
            gateway = gateway_before(path, config=real_litellm.config, environ=environ, fast_path=fast_path)
            sessions.append(
                await stack.enter_async_context(session_of(await stack.enter_async_context(gateway)))
            )
        yield sessions


@pytest.fixture
def emulator(real_litellm):
    """The emulator behind the real LiteLLM, without faults or a memory of earlier tests."""
    real_litellm.emulator.clear_faults()
    real_litellm.emulator.clear()
    return real_litellm.emulator


@pytest.fixture
def real(_gateways, emulator):
    """A client of a gateway before the real LiteLLM, which serves NeevAI's endpoints too."""
    return _gateways[0]


@pytest.fixture
def fast(_gateways, emulator):
    """The same of a gateway that serves NeevAI's endpoints itself."""
    return _gateways[1]


def pytest_collection_modifyitems(items):
    for item in items:
        if "tests/litellm_path/" in item.nodeid and is_async_test(item):
            # One event loop, so that the servers are started once.
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)
