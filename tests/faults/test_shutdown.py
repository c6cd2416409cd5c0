"""SIGTERM with calls in flight: what they cost is in the store when the process ends, or in the ledger file."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat

import pytest

from neev_provider.admission.settling import replay
from neev_provider.usage import estimate_tokens
from tests.faults.house import COMPLETION, PROMPT, chat, config, prompt_estimate, running, visit
from tests.proxy.serving import exists, serving
from tests.store.servers import server

STREAMS = 24


@pytest.fixture
def durable(tmp_path):
    """A Valkey that outlives the gateway."""
    store = server(tmp_path / "valkey", "--appendonly", "yes", "--appendfsync", "always")
    yield store
    store.stop()


async def streams_begun(house, account, body) -> list[asyncio.Task]:
    tasks = [asyncio.create_task(house.stream(account, body)) for _ in range(STREAMS)]
    await house.until_produced(lambda stats: stats["streams"]["open"] == STREAMS)
    return tasks


async def stopped(served) -> int:
    served.process.send_signal(signal.SIGTERM)
    return await asyncio.to_thread(served.process.wait, 40)


async def test_streams_that_end_within_the_grace_are_whole_and_charged(tmp_path, durable):
    with running(tmp_path, "--store", durable.url, "--grace", "20") as served:
        async with visit(served, durable.url) as house:
            account = await house.account()
            body = chat("tokens=60,rate=30,prompt-tokens=5", stream=True)
            tasks = await streams_begun(house, account, body)
            assert await stopped(served) == 0
            heard = await asyncio.gather(*tasks)
            assert [(stream.is_done, stream.chunks) for stream in heard] == [(True, 60)] * STREAMS
            books = await house.books(account)  # at once: nothing is written after the end
            assert books.agree
            assert (books.held, books.in_flight, books.requests, books.estimated) == (0, 0, STREAMS, 0)
            assert books.spend == STREAMS * (5 * PROMPT + 60 * COMPLETION)


async def test_calls_through_litellm_have_the_grace_too(tmp_path, durable):
    """One takes longer than LiteLLM itself may take to stop, another comes while the gateway still accepts."""
    file = config(tmp_path)
    file.write_text(file.read_text().replace("\nneev:\n", "\nneev:\n  server: {drain_delay: 2}\n"))
    words = ("--engine", "echo", "--store", durable.url, "--grace", "25")
    with serving(tmp_path, *words, config=file) as served:
        async with visit(served, durable.url) as house:
            account = await house.account()
            body = chat("tokens=115,rate=10,prompt-tokens=5", metadata={"only": "LiteLLM"})
            long = asyncio.create_task(house.ask(account, body))
            async with asyncio.timeout(60):  # LiteLLM's first call takes long where much else runs
                while not await house.open_requests():
                    await asyncio.sleep(0.05)
            stopping = asyncio.create_task(stopped(served))
            await asyncio.sleep(0.5)
            late = await house.ask(account, chat(metadata={"only": "LiteLLM"}))
            for status, headers, said in (late, await long):
                assert (status, headers["x-neev-path"]) == (200, "litellm"), said
            assert await stopping == 0
            books = await house.books(account)
            assert books.agree
            assert (books.held, books.in_flight, books.requests, books.estimated) == (0, 0, 2, 0)
            assert books.spend == 2 * 5 * PROMPT + (115 + 10) * COMPLETION
    assert "is killed" not in served.log()


async def test_streams_that_are_cut_are_charged_by_what_was_relayed(tmp_path, durable):
    with running(tmp_path, "--store", durable.url, "--grace", "1") as served:
        async with visit(served, durable.url) as house:
            account = await house.account()
            body = chat("tokens=400,rate=10", stream=True)
            tasks = await streams_begun(house, account, body)
            assert await stopped(served) == 0
            heard = await asyncio.gather(*tasks)
            assert not any(stream.is_done for stream in heard)
            books = await house.books(account)
            assert books.agree
            assert (books.held, books.in_flight, books.requests, books.estimated) == (0, 0, STREAMS, STREAMS)
            assert books.prompt_tokens == STREAMS * prompt_estimate(body)
            assert books.spend == books.prompt_tokens * PROMPT + books.completion_tokens * COMPLETION
            assert books.completion_tokens == sum(estimate_tokens(stream.text) for stream in heard)
    assert not list((tmp_path / "state" / "log").glob("ledger-*"))


@pytest.mark.parametrize(("fate", "log_format"), [("gone", "console"), ("frozen", "json")])
async def test_while_the_store_is_away_each_is_a_line_that_is_replayed_once(
    tmp_path, durable, fate, log_format
):
    words = ("--store", durable.url, "--grace", "1", "--log-format", log_format)
    with running(tmp_path, *words) as served:
        async with visit(served, durable.url) as house:
            account = await house.account()
            await asyncio.gather(*(house.ask(account, chat()) for _ in range(8)))
            settled = await house.closed_books(account)
            body = chat("tokens=400,rate=10", stream=True)
            tasks = await streams_begun(house, account, body)
        if fate == "frozen":
            durable.freeze()
        else:
            durable.stop()
        assert await stopped(served) == 0
        heard = await asyncio.gather(*tasks)
    files = sorted((tmp_path / "state" / "log").glob("ledger-*.jsonl"))
    assert files
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    lines = [line for file in files for line in file.read_text().splitlines()]
    assert len(lines) == STREAMS
    assert sum(json.loads(line)["cost_nanos"] for line in lines) > STREAMS * prompt_estimate(body) * PROMPT
    assert account.token not in "".join(lines)
    log = served.log()
    assert "ledger-" in log, "nobody is told where the lines are"
    assert account.token not in log
    if fate == "frozen":
        durable.thaw()
    else:
        durable.start()
    async with visit(served, durable.url) as house:
        for _ in range(2):
            charged = [await replay(house.store, line) for line in lines]
        assert charged == [None] * STREAMS
        books = await house.closed_books(account)
        assert (books.requests - settled.requests, books.estimated) == (STREAMS, STREAMS)
        assert books.spend - settled.spend == sum(json.loads(line)["cost_nanos"] for line in lines)
        tokens = sum(estimate_tokens(stream.text) for stream in heard)
        assert books.completion_tokens - settled.completion_tokens == tokens


async def test_when_serve_itself_is_killed_its_workers_leave_lines(tmp_path):
    """Store and emulator end with it; what the streams did cost until then is replayed after a new start."""
    with running(tmp_path) as served:
        async with visit(served) as house:
            account = await house.account()
            body = chat("tokens=400,rate=10", stream=True)
            tasks = await streams_begun(house, account, body)
            workers = house.workers()
            os.kill(served.process.pid, signal.SIGKILL)
            heard = await asyncio.gather(*tasks)
            async with asyncio.timeout(40):
                while any(exists(pid) for pid in workers):
                    await asyncio.sleep(0.05)
    assert not any(stream.is_done for stream in heard)
    lines = [
        line
        for file in (tmp_path / "state" / "log").glob("ledger-*.jsonl")
        for line in file.read_text().splitlines()
    ]
    with running(tmp_path) as served:
        async with visit(served) as house:
            for line in lines:
                await replay(house.store, line)
            books = await house.closed_books(account)
            assert (books.requests, books.estimated) == (STREAMS, STREAMS)
            assert books.prompt_tokens == STREAMS * prompt_estimate(body)
            assert books.completion_tokens == sum(estimate_tokens(stream.text) for stream in heard)
            assert books.spend == books.prompt_tokens * PROMPT + books.completion_tokens * COMPLETION
