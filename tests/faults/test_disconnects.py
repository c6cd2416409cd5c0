"""A client leaves, at every stage of a call: it pays for what it got, frees its place, and upstream stops working."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import aiohttp
import pytest

from neev_provider.usage import estimate_tokens
from tests.faults.house import (
    CHARACTER,
    CHAT,
    COMPLETION,
    PATIENCE,
    PROMPT,
    SPEECH,
    Heard,
    characters,
    chat,
    prompt_estimate,
    speech,
)

UPSTREAM_STOPS = (
    4.0  # seconds after which upstream must have been told; a second, on a machine that is not busy
)


@pytest.fixture
async def account(house):
    return await house.account(max_parallel_requests=1)


async def leave(house, account, body, path=CHAT, *, after_chunks: int | None = None) -> Heard:
    """Ask, leave before the headers or after so many chunks, and return what was heard until then."""
    heard = Heard()
    async with house.session(account) as session:
        asking = asyncio.create_task(session.post(path, json=body).__aenter__())
        if after_chunks is None:
            # What the emulator has begun to work on was let in and sent.
            async with asyncio.timeout(PATIENCE):
                while not await house.open_requests():
                    await asyncio.sleep(0.01)
            asking.cancel()
            return heard
        response = await asking
        assert response.status == 200
        while heard.chunks < after_chunks:
            heard.take(await response.content.readline())
        response.close()
    return heard


async def upstream_has_stopped(house) -> None:
    began = time.monotonic()
    await house.upstream_is_idle()
    assert time.monotonic() - began < UPSTREAM_STOPS


async def place_is_free(house, account) -> None:
    """Its only place for a call is free again."""
    async with asyncio.timeout(PATIENCE):
        while (await house.ask(account, chat("tokens=1")))[0] != 200:
            await asyncio.sleep(0.02)


class TestBeforeItIsLetIn:
    async def test_nothing_is_sent_upstream_and_nothing_is_charged(self, house, account):
        store = house.store_process()
        async with house.session(account) as session:
            os.kill(store, signal.SIGSTOP)
            try:
                named = {"x-request-id": account.key}
                request = session.post(CHAT, json=chat("tokens=5"), headers=named)
                asking = asyncio.create_task(request.__aenter__())
                await asyncio.sleep(0.05)  # less than the gateway waits for the store
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
                await asyncio.sleep(0.05)
            finally:
                os.kill(store, signal.SIGCONT)
        async with asyncio.timeout(PATIENCE):
            while f'"request_id":"{account.key}"' not in house.served.log():
                await asyncio.sleep(0.02)
        books = await house.closed_books(account)
        assert (books.spend, books.requests) == (0, 0)
        assert (await house.produced())["requests"] == {}
        await place_is_free(house, account)


class TestBeforeTheHeaders:
    @pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
    @pytest.mark.parametrize("slow", ["slow-first-byte=60", "stall", ""])
    async def test_the_prompt_is_charged_by_an_estimate(self, house, account, stream, slow):
        body = chat("tokens=5,first=60", fault=slow, stream=stream)
        await leave(house, account, body)
        await upstream_has_stopped(house)
        books = await house.closed_books(account)
        assert books.spend == prompt_estimate(body) * PROMPT
        assert (books.requests, books.estimated, books.completion_tokens) == (1, 1, 0)
        await place_is_free(house, account)

    async def test_a_whole_answer_that_is_being_written_is_charged_by_its_prompt(self, house, account):
        body = chat("tokens=300,rate=20")
        await leave(house, account, body)
        await upstream_has_stopped(house)
        books = await house.closed_books(account)
        assert books.spend == prompt_estimate(body) * PROMPT
        assert (books.requests, books.estimated) == (1, 1)
        assert (await house.produced())["total"]["completion_tokens"] < 300

    async def test_speech_is_charged_by_its_characters(self, house, account):
        body = speech("a" * 400, fault="slow-first-byte=60")
        await leave(house, account, body, SPEECH)
        await upstream_has_stopped(house)
        books = await house.closed_books(account)
        assert books.spend == characters(body) * CHARACTER
        assert (books.requests, books.estimated, books.characters) == (1, 1, characters(body))
        await place_is_free(house, account)

    async def test_while_a_failed_attempt_is_waited_out_nothing_is_charged(self, house, account):
        body = chat(fault="status=429,retry-after=30", model="stubborn")
        async with house.session(account) as session:
            asking = asyncio.create_task(session.post(CHAT, json=body).__aenter__())
            await house.until_produced(lambda stats: stats["requests"])
            await asyncio.sleep(0.1)  # so that the gateway has read the refusal, and waits
            asking.cancel()
        books = await house.closed_books(account)
        assert (books.spend, books.requests) == (0, 0)
        await place_is_free(house, account)


class TestAfterTheHeaders:
    @pytest.mark.parametrize("chunks", [0, 1, 10], ids=["no chunk", "first chunk", "mid-stream"])
    async def test_what_was_relayed_is_charged_by_an_estimate(self, house, account, chunks):
        first = "first=0.3," if chunks == 0 else ""
        body = chat(f"tokens=400,{first}rate=40", stream=True)
        heard = await leave(house, account, body, after_chunks=chunks)
        await upstream_has_stopped(house)
        books = await house.closed_books(account)
        assert (books.requests, books.estimated) == (1, 1)
        assert books.prompt_tokens == prompt_estimate(body)
        assert books.spend == books.prompt_tokens * PROMPT + books.completion_tokens * COMPLETION
        # The client heard what it read; upstream may have written a little more before it was stopped.
        produced = (await house.produced())["total"]["completion_tokens"]
        assert produced < 400
        most = estimate_tokens(" ".join(f"w{n}" for n in range(1, produced + 1)))
        assert estimate_tokens(heard.text) <= books.completion_tokens <= most
        await place_is_free(house, account)

    async def test_before_usage_all_that_was_written_is_charged_by_an_estimate(self, house, account):
        body = chat("tokens=30", fault="stall-after=30", stream=True)
        heard = await leave(house, account, body, after_chunks=30)
        await upstream_has_stopped(house)
        books = await house.closed_books(account)
        assert books.spend == prompt_estimate(body) * PROMPT + estimate_tokens(heard.text) * COMPLETION
        assert (books.requests, books.estimated) == (1, 1)
        assert (await house.produced())["total"]["completion_tokens"] == 30
        await place_is_free(house, account)

    async def test_speech_is_charged_by_its_characters(self, house, account):
        body = speech("a" * 4000, echo="rate=2")
        async with house.session(account) as session, session.post(SPEECH, json=body) as response:
            assert await response.content.readany()
            response.close()
        await upstream_has_stopped(house)
        books = await house.closed_books(account)
        assert books.spend == characters(body) * CHARACTER
        assert books.requests == 1
        await place_is_free(house, account)


async def test_many_clients_that_leave_at_any_moment_are_all_accounted_for(house):
    """80 streams, each left at a moment of its own: every one is charged once, and none stays open upstream."""
    account = await house.account()
    body = chat("tokens=60,rate=60", stream=True)

    async def visit(number: int) -> bool:
        """Return whether the stream was heard to its end."""
        try:
            async with asyncio.timeout(number * 0.02):
                return (await house.stream(account, body)).is_done
        except TimeoutError:
            return False

    heard = await asyncio.gather(*(visit(number) for number in range(80)))
    await upstream_has_stopped(house)
    books = await house.closed_books(account)
    stats = await house.produced()
    calls = stats["requests"].get("POST /v1/chat/completions", {})
    # A client may leave after its call was let in and before upstream has heard of it: that is charged as well.
    assert sum(calls.values()) <= books.requests <= 80
    assert 0 < sum(heard) <= calls["200"]
    # Those that came to their end are charged as counted, the others by an estimate.
    assert books.requests - books.estimated >= sum(heard)
    assert books.spend == books.prompt_tokens * PROMPT + books.completion_tokens * COMPLETION


async def test_no_connection_of_a_client_that_left_is_kept(house, account):
    """Clients that hang up without a word (RST) are noticed as well."""
    body = chat("tokens=400,rate=20", stream=True)
    connector = aiohttp.TCPConnector()
    async with aiohttp.ClientSession(
        house.served.root_url, headers=account.headers, connector=connector
    ) as session:
        response = await session.post(CHAT, json=body)
        await response.content.readline()
        response.connection.transport.abort()
        await upstream_has_stopped(house)
    assert (await house.closed_books(account)).estimated == 1
    await place_is_free(house, account)
