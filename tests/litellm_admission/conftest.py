"""One plain `litellm --config ...` for the suite, with an emulator behind it and a real Valkey beside it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from neev_provider.admission.keys import Keys
from neev_provider.emulator.testing import emulator_in_thread
from neev_provider.store import Store
from tests.proxy.serving import ROOT, free_port
from tests.store.servers import server

MASTER = "sk-0123456789abcdef0123456789abcdef0123456789"
OWN_KEY = "sk-of-the-configuration-0123456789abcdef01234"
OWN = """
  - model_name: shaky            # falls back to gpt-oss-120b
    litellm_params: {model: neev/gpt-oss-20b, num_retries: 0}
    model_info: {mode: chat, input_cost_per_token: 0.000000075, output_cost_per_token: 0.0000003}
  - model_name: dear-after       # falls back to minimax-m3
    litellm_params: {model: neev/gpt-oss-20b, num_retries: 0}
    model_info: {mode: chat, input_cost_per_token: 0.000000075, output_cost_per_token: 0.0000003}
  - model_name: unpriced-after   # falls back to kimi-k3
    litellm_params: {model: neev/gpt-oss-20b, num_retries: 0}
    model_info: {mode: chat, input_cost_per_token: 0.000000075, output_cost_per_token: 0.0000003}
  - model_name: voice
    litellm_params: {model: openai/tts-1, api_base: "EMULATOR", api_key: sk-nc-x}
    model_info: {mode: audio_speech, input_cost_per_character: 0.000015}
  - model_name: leaving          # falls back to a model that is not NeevAI's
    litellm_params: {model: neev/gpt-oss-20b, num_retries: 0}
    model_info: {mode: chat, input_cost_per_token: 0.000000075, output_cost_per_token: 0.0000003}
  - model_name: foreign          # the same emulator, but to LiteLLM it is OpenAI
    litellm_params: {model: openai/gpt-oss-120b, api_base: "EMULATOR", api_key: sk-nc-x}
    model_info: {mode: chat, input_cost_per_token: 0.0000001, output_cost_per_token: 0.0000005}
  - model_name: bare             # priced by the catalog alone
    litellm_params: {model: neev/gpt-oss-20b}

litellm_settings:
"""


@dataclass
class LiteLLM:
    root_url: str
    emulator: object
    store_url: str | None
    log: Path
    config: Path


def own_config(folder: Path, emulator_url: str) -> Path:
    text = (ROOT / "proxy_config.yaml").read_text()
    assert "  # fallbacks:" in text
    text = text.replace("\nlitellm_settings:\n", OWN.replace("EMULATOR", emulator_url), 1)
    text = text.replace("https://inference.ai.neevcloud.com/v1", emulator_url)
    text = text.replace(
        "  # fallbacks:",
        "  fallbacks: [{shaky: [gpt-oss-120b]}, {dear-after: [minimax-m3]}, {unpriced-after: [kimi-k3]}, {leaving: [foreign]}]\n  disable_cooldowns: true\n  # fallbacks:",
        1,
    )
    text = text.replace("\nneev:\n", f"\nneev:\n  keys: [{{alias: own, key: {OWN_KEY}}}]\n", 1)
    file = folder / "proxy_config.yaml"
    file.write_text(text)
    return file


@pytest.fixture(scope="session")
def store_server(tmp_path_factory):
    running = server(tmp_path_factory.mktemp("valkey"))
    yield running
    running.stop()


@pytest.fixture(scope="session")
def litellm(tmp_path_factory, store_server):
    folder = tmp_path_factory.mktemp("litellm")
    with emulator_in_thread() as emulator:
        yield from started(folder, emulator, store_server.url)


def started(folder: Path, emulator, store_url: str | None, environ: dict[str, str] | None = None):
    base_url = emulator.root_url + "/v1"
    port = free_port()
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("NEEV_", "LITELLM_"))}
    log = folder / "log"
    config = own_config(folder, base_url)
    with log.open("wb") as file:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "neev_provider.litellm_server"),
                *("--config", str(config), "--host", "127.0.0.1", "--port", str(port)),
            ],
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env={
                **clean,
                "LITELLM_MASTER_KEY": MASTER,
                "LITELLM_LOCAL_MODEL_COST_MAP": "True",
                "NEEV_API_KEY": "sk-nc-" + "0" * 40,
                "NEEV_BASE_URL": base_url,
                **({} if store_url is None else {"NEEV_STORE": store_url}),
                **(environ or {}),
            },
        )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 90
        while not answers(url + "/health/liveliness"):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield LiteLLM(url, emulator, store_url, log, config)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return response.status == 200
    except (OSError, urllib.error.URLError):
        return False


@pytest.fixture
async def keys(litellm):
    litellm.emulator.clear()
    litellm.emulator.clear_faults()
    async with Store.from_url(litellm.store_url) as store:
        yield Keys(store)


@pytest.fixture
async def http(litellm):
    async with aiohttp.ClientSession(litellm.root_url) as session:
        yield session


def pytest_collection_modifyitems(items):
    for item in items:
        if "tests/litellm_admission/" in item.nodeid:
            item.add_marker(pytest.mark.xdist_group("litellm_admission"))
