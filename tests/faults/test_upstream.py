"""Upstream fails in every way it can: what is charged is what it produced, or a marked estimate; or nothing."""

from __future__ import annotations

import pytest

from neev_provider.usage import estimate_tokens
from tests.faults.house import (
    CHARACTER,
    COMPLETION,
    PROMPT,
    SPEECH,
    characters,
    chat,
    cost,
    prompt_estimate,
    speech,
)


class TestACallThatFailsCostsNothing:
    @pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
    @pytest.mark.parametrize(
        "fault",
        ["status=500", "status=429,retry-after=0", "status=503,shape=html", "reset", "html", "empty-body"],
    )
    async def test_refused_or_broken_before_its_answer(self, house, account, fault, stream):
        status, _, _ = await house.ask(account, chat(fault=fault, stream=stream))
        assert status >= 429
        books = await house.closed_books(account)
        assert (books.spend, books.requests) == (0, 0)
        assert cost((await house.produced())["total"]) == 0

    @pytest.mark.parametrize("fault", ["bad-json", "cut-after=0"])
    async def test_a_whole_answer_that_cannot_be_read(self, house, account, fault):
        assert (await house.ask(account, chat(fault=fault)))[0] == 502
        books = await house.closed_books(account)
        assert (books.spend, books.requests) == (0, 0)

    @pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
    async def test_one_that_never_comes(self, house, account, stream):
        status, _, _ = await house.ask(account, chat(fault="stall", model="hasty", stream=stream))
        assert status == 504
        books = await house.closed_books(account)
        assert (books.spend, books.requests) == (0, 0)

    @pytest.mark.parametrize("fault", ["empty-audio", "status=500", "reset"])
    async def test_speech_without_audio(self, house, account, fault):
        assert (await house.ask(account, speech("hello", fault=fault), SPEECH))[0] >= 502
        books = await house.closed_books(account)
        assert (books.spend, books.requests) == (0, 0)


class TestACallThatIsTriedAgain:
    @pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
    @pytest.mark.parametrize(
        "fault", ["status=503,times=1", "reset,times=1", "status=429,retry-after=0,times=1"]
    )
    async def test_is_charged_once(self, house, account, fault, stream):
        body = chat(fault=f"{fault},id={account.key[:20]}", model="stubborn", stream=stream)
        assert (await house.ask(account, body))[0] == 200
        books = await house.closed_books(account)
        total = (await house.produced())["total"]
        assert total["requests"] == books.requests == 1
        assert books.spend == cost(total) == 5 * PROMPT + 10 * COMPLETION
        assert books.estimated == 0


class TestAStreamThatBreaksOff:
    """What came of it is charged by an estimate, and marked."""

    @pytest.mark.parametrize("fault", ["cut-after=7", "error-after=7", "stall-after=7", "cut-after=0"])
    async def test_is_charged_by_an_estimate_of_what_came(self, house, account, fault):
        body = chat("tokens=20", fault=fault, model="hasty", stream=True)
        heard = await house.stream(account, body)
        assert (heard.status, heard.is_done) == (200, False)
        assert heard.error is not None
        books = await house.closed_books(account)
        assert (books.requests, books.estimated) == (1, 1)
        prompt, completion = prompt_estimate(body), estimate_tokens(heard.text)
        assert (books.prompt_tokens, books.completion_tokens) == (prompt, completion)
        assert books.spend == prompt * PROMPT + completion * COMPLETION
        produced = (await house.produced())["total"]["completion_tokens"]
        assert (heard.chunks, produced) == ((0, 1) if fault == "cut-after=0" else (7, 7))


class TestAStreamThatIsOdd:
    @pytest.mark.parametrize(
        "fault", ["odd-chunks", "split-bytes", "crlf", "no-done", "bad-json-chunk=3", "null-content", "think"]
    )
    async def test_is_charged_as_upstream_counted_it(self, house, account, fault):
        heard = await house.stream(account, chat("tokens=20", fault=fault, stream=True))
        assert heard.status == 200
        books = await house.closed_books(account)
        assert books.spend == cost((await house.produced())["total"])
        assert (books.requests, books.estimated) == (1, 0)

    @pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
    async def test_without_usage_it_is_charged_by_an_estimate(self, house, account, stream):
        body = chat("tokens=20", fault="no-usage", stream=stream)
        status, _, answer = await house.ask(account, body)
        assert status == 200
        text = " ".join(f"w{n}" for n in range(1, 21))
        assert stream or text.encode() in answer
        books = await house.closed_books(account)
        assert books.spend == prompt_estimate(body) * PROMPT + estimate_tokens(text) * COMPLETION
        assert (books.requests, books.estimated) == (1, 1)

    async def test_where_usage_may_not_be_asked_for_it_is_charged_by_an_estimate(self, house, account):
        body = chat("tokens=20", fault="refuse-stream-options", stream=True, model="gpt-oss-20b")
        heard = await house.stream(account, body)
        assert (heard.status, heard.is_done) == (200, True)
        books = await house.closed_books(account)
        assert books.spend == prompt_estimate(body) * 75 + estimate_tokens(heard.text) * 300
        assert (books.requests, books.estimated) == (1, 1)


class TestSpeechThatBreaksOff:
    async def test_is_charged_by_its_characters(self, house, account):
        body = speech("a" * 400, fault="cut-after=1")
        await house.ask_in_vain(account, body, SPEECH)
        books = await house.closed_books(account)
        assert (books.characters, books.requests) == (characters(body), 1)
        assert books.spend == characters(body) * CHARACTER
        assert (await house.produced())["total"]["characters"] == 400
