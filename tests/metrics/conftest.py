"""Sums in memory, and a real socket between two ends of it."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from neev_provider.metrics.receiver import Receiver
from neev_provider.metrics.recorder import Recorder
from neev_provider.metrics.reporter import Reporter
from neev_provider.metrics.sums import Sums


@pytest.fixture
def sums():
    return Sums()


@pytest.fixture
def recorder():
    return Recorder()


class Line:
    """A receiver on a socket, and processes that report to it."""

    def __init__(self, path, sums: Sums) -> None:
        self.path = path
        self.sums = sums
        self.receiver = Receiver(path, sums)
        self._stack = AsyncExitStack()
        self._ends: list[Reporter] = []

    async def open(self) -> None:
        self.receiver = Receiver(self.path, self.sums)
        self._stack = AsyncExitStack()
        await self._stack.enter_async_context(self.receiver)

    async def close(self) -> None:
        await self._stack.aclose()

    def reporter(self, recorder: Recorder, process: str = "gateway-0") -> Reporter:
        end = Reporter(recorder, str(self.path), process)
        self._ends.append(end)
        return end

    async def close_all(self) -> None:
        for end in self._ends:
            await end.close()
        await self.close()

    async def until(self, condition) -> None:
        async with asyncio.timeout(5):
            while not condition():
                await asyncio.sleep(0.005)


@pytest.fixture
async def line(tmp_path, sums):
    opened = Line(tmp_path / "run" / "metrics.sock", sums)
    await opened.open()
    yield opened
    await opened.close_all()
