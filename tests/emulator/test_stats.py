"""What is counted is what was produced, also when the client does not stay to the end."""

from __future__ import annotations

import asyncio

import pytest

from neev_provider.emulator.stats import key_label


async def until(condition, seconds=2.0):
    """Wait until a condition on another thread's state holds."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


async def test_tokens_are_counted_by_model_and_by_key(call, emulator):
    await call.chat(emulator, "a b c")
    other = {"authorization": "Bearer sk-nc-another-key-wxyz"}
    await call.send(
        emulator, "POST", "/v1/chat/completions", headers=other, json=call.message("a", model="glm-4-7")
    )
    stats = emulator.stats()
    assert stats["by_model"]["gpt-oss-120b"]["prompt_tokens"] == 3
    assert stats["by_model"]["glm-4-7"]["completion_tokens"] == 1
    assert stats["total"]["requests"] == 2
    label = key_label("sk-nc-another-key-wxyz")
    assert label.startswith("wxyz-")
    assert stats["by_key"][label]["requests"] == 1
    assert len(stats["by_key"]) == 2


async def test_requests_are_counted_by_route_and_status(call, emulator):
    await call.chat(emulator)
    await call.chat(emulator, temperature=9)
    await call.get(emulator, "/v1/models/kimi-k3")
    await call.get(emulator, "/anything/else")
    assert emulator.stats()["requests"] == {
        "POST /v1/chat/completions": {"200": 1, "400": 1},
        "GET /v1/models/{id}": {"200": 1},
        "GET other": {"404": 1},
    }


async def test_a_refused_request_bills_nothing(call, emulator):
    await call.chat(emulator, temperature=9)
    assert emulator.stats()["total"]["prompt_tokens"] == 0


async def test_a_client_that_leaves_a_stream_stops_it_and_pays_for_what_was_produced(call, session, emulator):
    headers = {**emulator.headers, "x-neev-echo": "tokens=1000,rate=100"}
    response = await session.post(
        emulator.base_url + "/chat/completions", headers=headers, json=call.message("a b", stream=True)
    )
    received = b""
    while received.count(b'"content"') < 6:
        received += await response.content.readany()
    assert emulator.stats()["streams"]["open"] == 1
    response.close()
    await until(lambda: emulator.stats()["streams"]["open"] == 0)
    stats = emulator.stats()
    assert stats["streams"]["aborted_by_client"] == stats["aborted_by_client"] == 1
    assert stats["requests"]["POST /v1/chat/completions"] == {"aborted": 1}
    assert stats["total"]["prompt_tokens"] == 2
    produced = stats["total"]["completion_tokens"]
    assert received.count(b'"content"') - 1 <= produced < 100
    assert emulator.requests()[-1]["ending"] == "aborted"


async def test_requests_from_before_a_clear_are_not_counted_after_it(call, session, emulator):
    headers = {**emulator.headers, "x-neev-echo": "tokens=1000,rate=100"}
    url = emulator.base_url + "/chat/completions"
    response = await session.post(url, headers=headers, json=call.message(stream=True))
    emulator.clear()
    assert emulator.stats()["streams"]["open"] == 1, "it is still there"
    response.close()
    await until(lambda: emulator.stats()["streams"]["open"] == 0)
    stats = emulator.stats()
    assert stats["total"]["requests"] == stats["aborted_by_client"] == 0
    assert stats["requests"] == {}


@pytest.mark.parametrize("echo", ["tokens=1000,rate=100", "first=30"])
async def test_a_client_that_leaves_an_unstreamed_answer_stops_it(call, emulator, echo):
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(call.chat(emulator, echo=echo), 0.15)
    await until(lambda: emulator.stats()["aborted_by_client"] == 1)
    assert emulator.stats()["total"]["completion_tokens"] < 100


async def test_a_client_that_leaves_during_a_slow_first_byte_is_noticed(call, emulator):
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(call.chat(emulator, fault="slow-first-byte=30"), 0.1)
    await until(lambda: emulator.stats()["aborted_by_client"] == 1)


async def test_a_client_that_leaves_speech_stops_it(call, session, emulator):
    headers = {**emulator.headers, "x-neev-echo": "rate=20"}
    body = {"model": "tts-1", "voice": "alloy", "input": "x" * 5000}
    response = await session.post(emulator.base_url + "/audio/speech", headers=headers, json=body)
    await response.content.readany()
    response.close()
    await until(lambda: emulator.stats()["aborted_by_client"] == 1)
    assert 0 < emulator.stats()["total"]["audio_bytes"] < 5000 * 24


async def test_many_streams_at_once_are_counted_exactly(call, emulator):
    streams = [call.stream(emulator, echo="tokens=50,rate=1000") for _ in range(40)]
    assert all(chunks.done for chunks in await asyncio.gather(*streams))
    stats = emulator.stats()
    assert stats["streams"] == {
        "open": 0,
        "started": 40,
        "completed": 40,
        "aborted_by_client": 0,
        "cut_by_fault": 0,
    }
    assert stats["total"]["completion_tokens"] == 2000
