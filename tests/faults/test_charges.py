"""What is not a plain chat call: tools, several choices, cached prompts, speech, models without a price."""

from __future__ import annotations

import json

import pytest

from neev_provider.usage import estimate_tokens
from tests.faults.house import (
    CHARACTER,
    COMPLETION,
    NANOS,
    PROMPT,
    SPEECH,
    characters,
    chat,
    cost,
    prompt_estimate,
    speech,
)

WAYS = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city", "days"],
        },
    },
}


def in_usd(nanos: int) -> str:
    return f"{nanos / NANOS:.9f}"


class TestTools:
    @WAYS
    async def test_calls_are_charged_as_upstream_counts_them(self, house, account, stream):
        body = chat("calls=3", tools=[WEATHER], tool_choice="required", stream=stream)
        status, _, answer = await house.ask(account, body)
        assert status == 200
        assert b"get_weather" in answer
        books = await house.closed_books(account)
        total = (await house.produced())["total"]
        assert total["completion_tokens"] > 3
        assert (books.prompt_tokens, books.completion_tokens) == (
            total["prompt_tokens"],
            total["completion_tokens"],
        )
        assert books.spend == cost(total)
        assert books.estimated == 0

    @WAYS
    async def test_without_usage_their_arguments_are_part_of_the_estimate(self, house, account, stream):
        body = chat("calls=3", fault="no-usage", tools=[WEATHER], tool_choice="required", stream=stream)
        assert (await house.ask(account, body))[0] == 200
        books = await house.closed_books(account)
        assert books.estimated == 1
        assert books.prompt_tokens == prompt_estimate(body) > estimate_tokens(json.dumps(WEATHER))
        assert books.completion_tokens >= estimate_tokens("get_weather" * 3)
        assert books.spend == books.prompt_tokens * PROMPT + books.completion_tokens * COMPLETION


class TestSeveralChoices:
    @WAYS
    async def test_all_are_charged(self, house, account, stream):
        status, _, _ = await house.ask(account, chat("tokens=20,prompt-tokens=7", n=3, stream=stream))
        assert status == 200
        books = await house.closed_books(account)
        assert books.spend == cost((await house.produced())["total"]) == 7 * PROMPT + 60 * COMPLETION
        assert books.requests == 1

    @WAYS
    async def test_without_usage_all_are_part_of_the_estimate(self, house, account, stream):
        body = chat("tokens=20", fault="no-usage", n=3, stream=stream)
        assert (await house.ask(account, body))[0] == 200
        text = " ".join(f"w{n}" for n in range(1, 21))
        assert (await house.closed_books(account)).completion_tokens == estimate_tokens(text * 3)

    async def test_max_tokens_is_lowered_so_that_all_of_them_are_covered(self, house):
        body = chat("tokens=100,prompt-tokens=1", n=3, max_tokens=100)
        budget = prompt_estimate(body) * PROMPT + 3 * 10 * COMPLETION
        account = await house.account(max_budget=in_usd(budget))
        status, headers, answer = await house.ask(account, body)
        assert (status, headers["x-neev-max-tokens-clamped"]) == (200, "10")
        assert json.loads(answer)["usage"]["completion_tokens"] == 30
        books = await house.closed_books(account)
        assert books.spend == cost((await house.produced())["total"]) == PROMPT + 30 * COMPLETION <= budget


class TestCachedPromptTokens:
    @WAYS
    async def test_cost_what_the_configuration_says(self, house, account, stream):
        body = chat("tokens=10,prompt-tokens=100", fault="cached-tokens=40", model="caching", stream=stream)
        assert (await house.ask(account, body))[0] == 200
        books = await house.closed_books(account)
        assert (await house.produced())["total"]["cached_tokens"] == 40
        assert books.spend == 60 * 100 + 40 * 30 + 10 * 500
        assert (books.prompt_tokens, books.estimated) == (100, 0)

    async def test_cost_as_much_as_others_where_it_says_nothing(self, house, account):
        body = chat("tokens=10,prompt-tokens=100", fault="cached-tokens=40")
        assert (await house.ask(account, body))[0] == 200
        assert (await house.closed_books(account)).spend == 100 * PROMPT + 10 * COMPLETION


class TestSpeech:
    async def test_is_charged_by_the_character_white_space_left_out(self, house, account):
        body = speech("a bc  déf\n語")
        assert (await house.ask(account, body, SPEECH))[0] == 200
        books = await house.closed_books(account)
        assert (books.characters, books.spend) == (7, 7 * CHARACTER)
        assert (books.requests, books.estimated, books.prompt_tokens) == (1, 0, 0)

    async def test_that_a_budget_does_not_cover_is_not_spoken(self, house):
        body = speech("a" * 100)
        account = await house.account(max_budget=in_usd(100 * CHARACTER - 1))
        status, _, answer = await house.ask(account, body, SPEECH)
        assert (status, json.loads(answer)["error"]["code"]) == (429, "budget_exceeded")
        assert (await house.closed_books(account)).spend == 0
        assert (await house.produced())["requests"] == {}

    async def test_that_a_budget_just_covers_is(self, house):
        body = speech("a" * 100)
        account = await house.account(max_budget=in_usd(100 * CHARACTER))
        assert (await house.ask(account, body, SPEECH))[0] == 200
        assert (await house.closed_books(account)).spend == characters(body) * CHARACTER


class TestAModelWithoutAPrice:
    @WAYS
    async def test_is_refused_to_who_has_a_budget_and_not_called(self, house, account, stream):
        status, _, answer = await house.ask(account, chat(model="kimi-k3", stream=stream))
        assert (status, json.loads(answer)["error"]["code"]) == (403, "model_unpriced")
        assert (await house.produced())["requests"] == {}
        assert (await house.closed_books(account)).requests == 0

    @WAYS
    async def test_is_counted_and_not_charged_to_who_has_none(self, house, stream):
        account = await house.account(max_budget=None)
        status, headers, _ = await house.ask(account, chat(model="kimi-k3", stream=stream))
        assert status == 200
        assert "x-neev-cost-usd" not in headers
        books = await house.closed_books(account)
        assert (books.requests, books.spend) == (1, 0)
        assert (books.prompt_tokens, books.completion_tokens) == (5, 10)
