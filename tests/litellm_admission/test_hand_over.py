"""A fallback that leaves NeevAI, from the gateway to LiteLLM: one request to its key, whoever answers."""

from __future__ import annotations

import asyncio
import os
import sys

import aiohttp
import msgspec
import pytest

from neev_provider.gateway.options import WorkerOptions
from tests.litellm_admission.conftest import MASTER
from tests.litellm_admission.test_admission import COST, call, chat, settled
from tests.proxy.serving import free_port

FAULT = {"model": "gpt-oss-20b"}  # which "leaving" calls, and "foreign" does not


@pytest.fixture
async def gateway(litellm, tmp_path):
    """A client of a gateway before the LiteLLM process, on the same store."""
    port, ready = free_port(), tmp_path / "ready"
    options = WorkerOptions(
        number=0,
        config=str(litellm.config),
        host="127.0.0.1",
        port=port,
        ready_file=str(ready),
        log_level="error",
        litellm_url=litellm.root_url,
        limits={},
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "neev_provider.gateway.worker", msgspec.json.encode(options).decode()),
        env={
            **os.environ,
            "LITELLM_MASTER_KEY": MASTER,
            "NEEV_API_KEY": "sk-nc-" + "0" * 40,
            "NEEV_BASE_URL": litellm.emulator.root_url + "/v1",
            "NEEV_STORE": litellm.store_url,
        },
    )
    try:
        async with asyncio.timeout(30):
            while not ready.exists():
                assert process.returncode is None
                await asyncio.sleep(0.02)
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            yield session
    finally:
        process.terminate()
        await process.wait()


@pytest.mark.parametrize("stream", [False, True])
async def test_it_takes_one_count_and_one_place_and_is_charged_exactly(gateway, keys, litellm, stream):
    limits = {"max_budget": 1, "rpm_limit": 5, "max_parallel_requests": 1}
    made = await keys.create_key(limits, by="test")
    litellm.emulator.set_fault("status=503", **FAULT)
    body = chat(model="leaving", stream=stream)
    for number in range(1, 6):
        status, headers, answer = await call(gateway, made.token, body)
        assert (status, headers["x-neev-path"]) == (200, "litellm"), answer
        assert headers["x-ratelimit-remaining-requests"] == str(5 - number)
        await settled(keys, made.key.id, number * COST)
    status, _, answer = await call(gateway, made.token, body)
    assert (status, answer["error"]["code"]) == (429, "rate_limit_exceeded"), answer
    assert (await settled(keys, made.key.id)).spend_nanos == 5 * COST


async def test_its_place_is_free_when_the_fallback_fails_too(gateway, keys, litellm):
    made = await keys.create_key({"max_parallel_requests": 1, "rpm_limit": 2}, by="test")
    litellm.emulator.set_fault("status=503")
    for _ in range(2):
        status, _, answer = await call(gateway, made.token, chat(model="leaving", num_retries=0))
        assert status == 502, answer
        assert (await settled(keys, made.key.id)).spend_nanos == 0


@pytest.mark.parametrize("way", ["through the gateway", "to LiteLLM itself"])
async def test_a_client_cannot_pass_for_a_request_that_was_let_in(gateway, http, keys, litellm, way):
    made = await keys.create_key({"rpm_limit": 1}, by="test")
    status, _, answer = await call(http, made.token, chat(model="foreign"))
    assert status == 200, answer
    client = gateway if way == "through the gateway" else http
    headers = {"Authorization": f"Bearer {made.token}", "x-neev-ticket": "0123456789abcdef-1." + "0" * 64}
    async with client.post("/v1/chat/completions", json=chat(model="foreign"), headers=headers) as response:
        assert response.status == 429
