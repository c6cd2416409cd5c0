"""Tokens and money are exact, in streams too, whether or not the client asked (LITELLM.md, Adapter 1 to 3)."""

from __future__ import annotations

import asyncio
import queue
from datetime import datetime

import litellm
import pytest
from litellm.integrations.custom_logger import CustomLogger

from neev_provider.catalog import Catalog
from neev_provider.emulator.echo import count_prompt
from tests.adapter.calling import MODEL, ask

PROMPT, COMPLETION = 100e-9, 500e-9  # USD per token of MODEL


class Ledger(CustomLogger):
    """What LiteLLM's own accounting saw of asynchronous or of synchronous calls."""

    def __init__(self, *, asynchronous: bool) -> None:
        super().__init__()
        self._asynchronous = asynchronous
        self._calls: queue.SimpleQueue[tuple[int, int, float]] = queue.SimpleQueue()
        self._since = datetime.now()  # LiteLLM's times are naive; rows of earlier tests may still come in

    def _put(self, kwargs, response) -> None:
        usage = response.usage
        self._calls.put((usage.prompt_tokens, usage.completion_tokens, kwargs["response_cost"]))

    def log_success_event(self, kwargs, response_obj, start_time, end_time):
        # LiteLLM calls this for the single chunks of a synchronous stream too.
        own = start_time >= self._since and not self._asynchronous
        if own and isinstance(response_obj, litellm.ModelResponse):
            self._put(kwargs, response_obj)

    async def async_log_success_event(self, kwargs, response_obj, start_time, end_time):
        if start_time >= self._since and self._asynchronous:
            self._put(kwargs, response_obj)

    async def next(self) -> tuple[int, int, float]:
        return await asyncio.to_thread(self._calls.get, timeout=10)


@pytest.fixture
def ledger(request) -> Ledger:
    way = request.getfixturevalue("stream" if "stream" in request.fixturenames else "call").way
    ledger = Ledger(asynchronous=way.startswith("async"))
    litellm.callbacks.append(ledger)
    return ledger


def priced(prompt: int, completion: int) -> tuple[int, int, float]:
    return prompt, completion, pytest.approx(prompt * PROMPT + completion * COMPLETION, rel=1e-9)


@pytest.mark.parametrize("asked", [None, {"include_usage": True}, {"include_usage": False}])
async def test_usage_and_cost_are_upstreams(call, ledger, asked):
    messages = ask(echo="tokens=12,prompt-tokens=345")
    options = {"stream_options": asked} if call.streams and asked else {}
    await call(messages, **options)
    assert await ledger.next() == priced(345, 12)


async def test_each_call_is_logged_once(call, ledger):
    for prompt in (345, 346, 347):
        await call(ask(echo=f"tokens=1,prompt-tokens={prompt}"))
    assert sorted([(await ledger.next())[0] for _ in range(3)]) == [345, 346, 347]


async def test_parallel_tool_calls_are_counted(call, ledger, emulator):
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    await call(ask(echo="calls=3,prompt-tokens=50"), tools=[tool], tool_choice="required")
    produced = emulator.stats()["by_model"][MODEL]["completion_tokens"]
    assert produced > 0
    assert await ledger.next() == priced(50, produced)


async def test_two_choices_are_counted_and_both_arrive_whole(call, ledger):
    answer = await call(ask(echo="tokens=6,prompt-tokens=9"), n=2)
    assert await ledger.next() == priced(9, 12)
    if call.streams:
        for index in (0, 1):
            words = [c.delta.content or "" for chunk in answer for c in chunk.choices if c.index == index]
            assert "".join(words).split() == [f"w{i}" for i in range(1, 7)]
            finishes = [c.finish_reason for chunk in answer for c in chunk.choices if c.index == index]
            assert [f for f in finishes if f] == ["stop"]
    else:
        assert [len(choice.message.content.split()) for choice in answer.choices] == [6, 6]


async def test_usage_is_shown_in_a_stream_only_when_the_client_asked(stream):
    for asked in (True, False):
        options = {"stream_options": {"include_usage": True}} if asked else {}
        chunks = await stream(ask(echo="tokens=3,prompt-tokens=8"), **options)
        shown = [chunk.usage for chunk in chunks if getattr(chunk, "usage", None)]
        assert [(u.prompt_tokens, u.completion_tokens) for u in shown] == ([(8, 3)] if asked else [])


async def test_without_usage_from_upstream_the_estimate_is_charged(call, ledger):
    text = "word " * 200
    await call(ask(text, fault="no-usage"))
    prompt, completion, cost = await ledger.next()
    # The emulator counts 200 words each way; an estimate by bytes is near, and never nothing.
    assert 150 <= prompt <= 450
    assert 150 <= completion <= 450
    assert cost == pytest.approx(prompt * PROMPT + completion * COMPLETION, rel=1e-9)


async def test_an_upstream_that_refuses_stream_options_is_asked_once_more_and_remembered(
    stream, ledger, emulator
):
    emulator.set_fault("refuse-stream-options")
    for _ in range(2):
        chunks = await stream(ask("a b c"), model="neev/deepseek-v3-2")
        assert chunks
        prompt, completion, _ = await ledger.next()
        assert (prompt, completion) == (count_prompt(ask("a b c")), 3) or (prompt > 0 and completion > 0)
    refused = [r for r in emulator.requests() if "stream_options" in r["body"]]
    assert len(refused) == 1
    assert len(emulator.requests()) == 3


async def test_cached_prompt_tokens_are_not_free(call, ledger):
    # No cache price is public: they cost what other prompt tokens cost.
    await call(ask(fault="cached-tokens=40", echo="tokens=2,prompt-tokens=60"))
    assert await ledger.next() == priced(60, 2)


@pytest.mark.parametrize(
    "model", [model for model in Catalog.load() if model.modality == "chat"], ids=lambda m: m.id
)
async def test_every_priced_model_costs_what_the_catalog_says(call, model):
    answer = await call(ask(echo="tokens=3,prompt-tokens=1000"), model=f"neev/{model.id}")
    if call.streams:
        answer = litellm.stream_chunk_builder(answer, messages=ask())
        answer.usage = litellm.Usage(prompt_tokens=1000, completion_tokens=3)
    if model.price is None:
        return
    expected = (1000 * model.price.prompt_nanos + 3 * model.price.completion_nanos) / 1e9
    assert litellm.completion_cost(answer, model=f"neev/{model.id}") == pytest.approx(expected, rel=1e-9)


async def test_a_hundred_equal_chunks_are_no_fault(stream, emulator):
    # LITELLM.md, Adapter 9: "model is repeating the same chunk", and the router retries mid-stream.
    chunks = await stream(ask("same " * 150))
    assert (
        sum(1 for chunk in chunks if chunk.choices and "same" in (chunk.choices[0].delta.content or ""))
        == 150
    )
    assert len(emulator.requests()) == 1
