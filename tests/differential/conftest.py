"""Two gateways with one configuration: one answers itself, the other sends everything through LiteLLM."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest

from tests.differential.answers import Answer, ask
from tests.differential.corpus import CORPUS
from tests.proxy.serving import ROOT, Served, serving

HOUSE = """
  - model_name: house            # an alias: the public name differs from upstream's id
    litellm_params: {model: neev/gpt-oss-120b, allowed_openai_params: [reasoning_effort]}
    model_info: {input_cost_per_token: 0.0000001, output_cost_per_token: 0.0000005, cache_read_input_token_cost: 0.0000001}

litellm_settings:
"""


def config(folder: Path, *, fast_path: bool) -> Path:
    """The shipped configuration with an alias, without retries and cooldowns: every case stands for itself."""
    text = (ROOT / "proxy_config.yaml").read_text()
    for old, new in (
        ("\nlitellm_settings:\n", HOUSE),
        ("  num_retries: 2\n", "  num_retries: 0\n  disable_cooldowns: true\n"),
        ("\nneev:\n", f"\nneev:\n  fast_path: {str(fast_path).lower()}\n"),
    ):
        assert old in text
        text = text.replace(old, new, 1)
    file = folder / "proxy_config.yaml"
    file.write_text(text)
    return file


async def _answers(served: Served) -> dict[str, Answer]:
    limit = asyncio.Semaphore(8)
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(served.root_url, timeout=timeout, auto_decompress=False) as session:

        async def one(case):
            async with limit:
                return case.name, await ask(session, served.key, case)

        return dict(await asyncio.gather(*map(one, CORPUS)))


@pytest.fixture(scope="session")
def fast_answers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fast")
    with serving(folder, "--no-litellm", "--engine", "echo", config=config(folder, fast_path=True)) as served:
        return asyncio.run(_answers(served))


@pytest.fixture(scope="session")
def litellm_answers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("litellm")
    with serving(folder, "--engine", "echo", config=config(folder, fast_path=False)) as served:
        return asyncio.run(_answers(served))


def pytest_collection_modifyitems(items):
    for item in items:
        if "tests/differential/" in item.nodeid:
            item.add_marker(pytest.mark.xdist_group("differential"))
