"""Processes die without a word, calls in flight: their leases expire, their prompts are charged, once and marked."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from tests import accounts
from tests.faults.house import (
    COMPLETION,
    PROMPT,
    chat,
    prompt_estimate,
    running,
    visit,
)
from tests.proxy.serving import exists

LEASE = 5.0  # seconds; the shortest that can be set
STREAMS = 40
EXPIRED = LEASE * 2 + 20  # a lease's life, a sweep's pause, and patience


def long_stream(seconds: float) -> dict:
    """Return a request for a stream that takes so long."""
    return chat(f"tokens={round(seconds * 20)},rate=20,prompt-tokens=5", stream=True)


async def streams_begun(house, account, body, number: int = STREAMS) -> list[asyncio.Task]:
    """Return streams in flight over all workers."""
    tasks = [asyncio.create_task(house.stream(account, body)) for _ in range(number)]
    await house.until_produced(lambda stats: stats["streams"]["open"] == number)
    return tasks


async def raw_ledger(house, account) -> tuple[int, int]:
    """Return nano-USD held and leases open as they stand in the store; asking this expires nothing."""
    name = f"neev:{{{account.team}}}:use:{account.key}"
    stored = await house.store.call(name, "EVAL", accounts.READ, "1", name)
    return stored[accounts.HELD], stored[accounts.PARALLEL]


async def until_expired(house, account) -> None:
    async with asyncio.timeout(EXPIRED):
        while await raw_ledger(house, account) != (0, 0):
            await asyncio.sleep(0.1)


def kill_all_but_the_store(house) -> int:
    """Return the store, which ends with its parent as soon as it can."""
    served, workers = house.served, house.workers()
    store = house.store_process()
    # The workers first: they must not see the others go.
    others = served.descendants() - {store, *workers}
    for pid in (*workers, served.process.pid, *others):
        os.kill(pid, signal.SIGKILL)
    served.process.wait(10)
    return store


async def test_one_of_two_workers(tmp_path):
    with running(tmp_path) as served:
        async with visit(served) as house:
            account, body = await house.account(), long_stream(6)
            tasks = await streams_begun(house, account, body)
            victim, survivor = house.workers()
            os.kill(victim, signal.SIGKILL)
            heard = await asyncio.gather(*tasks)
            whole = [stream for stream in heard if stream.is_done]
            broken = [stream for stream in heard if stream.is_broken]
            assert len(whole) + len(broken) == STREAMS
            assert whole, "no stream was the survivor's"
            assert broken, "no stream was the victim's"
            # The other worker's streams are unharmed; upstream's work for the victim's was stopped.
            assert {stream.chunks for stream in whole} == {120}
            stats = await house.until_produced(lambda stats: stats["streams"]["open"] == 0)
            assert stats["streams"]["completed"] == len(whole)
            assert stats["streams"]["aborted_by_client"] == len(broken)

            # Nobody asks for this owner any more: the sweep finds its leases.
            await until_expired(house, account)
            books = await house.closed_books(account)
            estimate = prompt_estimate(body)
            assert (books.requests, books.estimated) == (STREAMS, len(broken))
            assert (
                books.spend == len(whole) * (5 * PROMPT + 120 * COMPLETION) + len(broken) * estimate * PROMPT
            )
            assert books.completion_tokens == len(whole) * 120

            # The supervisor has started another, and it serves.
            async with asyncio.timeout(20):
                while len(house.workers()) < 2:
                    await asyncio.sleep(0.05)
            assert survivor in house.workers()
            assert victim not in house.workers()
            answers = await asyncio.gather(*(house.ask(account, chat()) for _ in range(20)))
            assert {status for status, _, _ in answers} == {200}
            again = await house.closed_books(account)
            assert again.spend == books.spend + 20 * (5 * PROMPT + 10 * COMPLETION)
        assert "charged with their prompts" in served.log()


async def test_all_processes_and_a_new_start(tmp_path):
    with running(tmp_path) as served:
        async with visit(served) as house:
            account, body = await house.account(), long_stream(60)
            await asyncio.gather(*(house.ask(account, chat()) for _ in range(10)))
            settled = await house.closed_books(account)
            tasks = await streams_begun(house, account, body, 25)
            everything = served.descendants()
            kill_all_but_the_store(house)
            heard = await asyncio.gather(*tasks)
            assert all(stream.is_broken for stream in heard)
    # At once, while the store may still be ending with its supervisor.
    with running(tmp_path) as served:
        async with visit(served) as house:
            await until_expired(house, account)
            books = await house.closed_books(account)
            assert books.spend - settled.spend == 25 * prompt_estimate(body) * PROMPT
            assert (books.requests, books.estimated) == (10 + 25, 25)
            assert (await house.ask(account, chat()))[0] == 200
    assert not any(exists(pid) for pid in everything)


async def test_a_store_that_outlives_its_gateway_keeps_its_files_for_itself(tmp_path):
    """Two stores on the same files would ruin them, so a new start waits for the old store, or refuses."""
    with running(tmp_path) as served:
        async with visit(served) as house:
            account = await house.account()
            assert (await house.ask(account, chat()))[0] == 200
            before = await house.closed_books(account)
            os.kill(house.store_process(), signal.SIGSTOP)
            store = kill_all_but_the_store(house)
    with pytest.raises(AssertionError, match="is in use by another neev-gateway"), running(tmp_path):
        pass
    os.kill(store, signal.SIGCONT)  # it ends now: its gateway has gone
    with running(tmp_path) as served:
        async with visit(served) as house:
            assert await house.books(account) == before
