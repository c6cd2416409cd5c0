"""The store frozen, killed, or away for long, under load: no client hangs, none is let in unseen, nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from tests.faults.house import Account, Heard, House, chat, cost, running, visit
from tests.store.servers import server

CALLERS, STREAMS = 12, 20
BOUND = (
    5.0  # seconds within which every request is answered; documented are 0.25 s for each call to the store
)
UP_AGAIN = 20.0


@dataclass
class Answer:
    began: float
    ended: float
    status: int
    headers: dict
    code: str


@dataclass
class Load:
    """Callers that ask again and again, and streams that go on all the while."""

    house: House
    account: Account
    answers: list[Answer] = field(default_factory=list)
    streams: list[asyncio.Task[Heard]] = field(default_factory=list)

    async def call(self) -> Answer:
        began = time.monotonic()
        status, headers, body = await self.house.ask(self.account, chat("tokens=10"))
        code = "" if status == 200 else json.loads(body)["error"]["code"]
        answer = Answer(began, time.monotonic(), status, headers, code)
        self.answers.append(answer)
        return answer

    async def call_until(self, enough: asyncio.Event) -> None:
        while not enough.is_set():
            await self.call()
            await asyncio.sleep(0.05)

    def during(self, begin: float, end: float) -> list[Answer]:
        """Return the answers to what was asked after `begin` and answered before `end`."""
        return [answer for answer in self.answers if begin < answer.began and answer.ended < end]

    async def until_served(self) -> None:
        """Wait until calls are let in again, by every worker as far as ten in a row can tell."""
        async with asyncio.timeout(UP_AGAIN):
            in_a_row = 0
            while in_a_row < 10:
                in_a_row = in_a_row + 1 if (await self.call()).status == 200 else 0


@contextlib.asynccontextmanager
async def under_load(house: House, stream_seconds: float) -> AsyncIterator[Load]:
    """Load a gateway while the block runs; streams end by themselves."""
    load = Load(house, await house.account())
    body = chat(f"tokens={round(stream_seconds * 10)},rate=10", stream=True)
    load.streams = [asyncio.create_task(house.stream(load.account, body)) for _ in range(STREAMS)]
    await house.until_produced(lambda stats: stats["streams"]["open"] == STREAMS)
    enough = asyncio.Event()
    callers = [asyncio.create_task(load.call_until(enough)) for _ in range(CALLERS)]
    try:
        await asyncio.sleep(0.5)  # so that every worker has served some
        yield load
    finally:
        enough.set()
        await asyncio.gather(*callers)


async def adds_up(load: Load) -> None:
    """Check that streams ran on to their end, and that every call was charged what upstream counted."""
    heard = await asyncio.gather(*load.streams)
    assert [stream.is_done for stream in heard] == [True] * STREAMS
    assert {answer.status for answer in load.answers} <= {200, 503}
    assert {answer.code for answer in load.answers if answer.status == 503} <= {"store_unavailable"}
    assert max(answer.ended - answer.began for answer in load.answers) < BOUND
    total = (await load.house.produced())["total"]
    # What expired leases were charged is put right when their settles come, a second or two after the store.
    async with asyncio.timeout(UP_AGAIN):
        while (books := await load.house.closed_books(load.account)).estimated:
            await asyncio.sleep(0.05)
    served = sum(answer.status == 200 for answer in load.answers)
    assert books.requests == total["requests"] == served + STREAMS
    assert books.spend == cost(total)


def all_refused(answers: list[Answer]) -> bool:
    assert len(answers) > CALLERS
    assert all("retry-after" in {name.lower() for name in answer.headers} for answer in answers)
    return {answer.status for answer in answers} == {503}


async def test_frozen_for_ten_seconds(tmp_path):
    """Twice as long as a lease: those of running streams expire, and what was charged for them is put right."""
    with running(tmp_path) as served:
        async with visit(served) as house, under_load(house, 15) as load:
            store = house.store_process()
            frozen = time.monotonic()
            os.kill(store, signal.SIGSTOP)
            try:
                await asyncio.sleep(10)
            finally:
                thawed = time.monotonic()
                os.kill(store, signal.SIGCONT)
            await load.until_served()
        async with visit(served) as load.house:
            assert all_refused(load.during(frozen, thawed))
            await adds_up(load)


async def test_killed_and_started_again_by_the_supervisor(tmp_path):
    with running(tmp_path) as served:
        async with visit(served) as house, under_load(house, 6) as load:
            store = house.store_process()
            os.kill(store, signal.SIGKILL)
            await load.until_served()
        async with visit(served) as load.house:
            await adds_up(load)
            assert store not in served.descendants()


@pytest.mark.parametrize("seconds", [15, pytest.param(60, marks=pytest.mark.system)])
async def test_away_and_back_with_its_file(tmp_path, seconds):
    durable = server(tmp_path / "valkey", "--appendonly", "yes", "--appendfsync", "always")
    try:
        with running(tmp_path, "--store", durable.url) as served:
            async with visit(served, durable.url) as house, under_load(house, seconds + 3) as load:
                gone = time.monotonic()
                durable.stop()
                await asyncio.sleep(seconds)
                back = time.monotonic()
                durable.start()
                await load.until_served()
            async with visit(served, durable.url) as load.house:
                assert all_refused(load.during(gone + 0.5, back))
                await adds_up(load)
    finally:
        durable.stop()
