"""Sends what a process has counted to the one that exposes it, twice a second and at the end.

At most one update is under way. While nobody answers, it is kept and what comes after adds up in the recorder, whose
size is bounded, so nothing is lost and nothing grows. Also looks how late the event loop is. Started by the
composition roots.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from time import perf_counter
from typing import TYPE_CHECKING, Final

from neev_provider.metrics.families import LOOP_LAG
from neev_provider.metrics.messages import Hello, Update, frame, read_frame
from neev_provider.metrics.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["Reporter", "reporting"]

_log: Final = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 0.25
_LOOKS_PER_UPDATE: Final = 2
_PATIENCE_SECONDS: Final = 2.0  # for an answer
_MOST_REFUSALS: Final = 5
_LAST_SECONDS: Final = 1.0  # for everything at the end


class Reporter:
    """Reports for one process.

    Args:
        recorder: what the process counts.
        path: of the socket.
        process: its name.
    """

    def __init__(self, recorder: Recorder, path: str, process: str) -> None:
        self._recorder: Final = recorder
        self._path: Final = path
        self._hello: Final = Hello(process, secrets.token_hex(8))
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._unanswered: Update | None = None
        self._refusals = 0
        self._number = 0
        self._shown: object = None  # the gauges that the receiver has
        self._sending: Final = asyncio.Lock()
        self._reaches = True

    async def run(self) -> None:
        """Report until cancelled."""
        while True:
            for _ in range(_LOOKS_PER_UPDATE):
                due = perf_counter() + _LOOK_SECONDS
                await asyncio.sleep(_LOOK_SECONDS)
                self._recorder.observe(LOOP_LAG, (), max(0.0, perf_counter() - due))
            await self.report()

    async def report(self) -> None:
        """Send what is there; if that fails it is sent the next time."""
        async with self._sending:
            try:
                async with asyncio.timeout(_PATIENCE_SECONDS):
                    await self._report()
            except (OSError, EOFError, ValueError) as error:
                self._disconnect()
                if isinstance(error, EOFError):
                    self._note_refusal()
                if self._reaches:
                    _log.warning("metrics cannot be sent to %s: %r", self._path, error)
                self._reaches = False
            except BaseException:
                self._disconnect()  # in the midst of a message perhaps
                raise
            else:
                self._reaches = True

    async def close(self) -> None:
        """Send what is left, and let the connection go."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_SECONDS):
                await self.report()
                if self._unanswered is None:
                    await self.report()  # what was counted while an older update was sent again
        self._disconnect()

    def _note_refusal(self) -> None:
        """Give an update up that the receiver hangs up on, again and again: it cannot read it."""
        self._refusals += 1
        if self._refusals >= _MOST_REFUSALS and self._unanswered is not None:
            self._unanswered = None
            self._recorder.lose()
            self._refusals = 0

    async def _report(self) -> None:
        if self._unanswered is not None:
            await self._send(self._unanswered)
        delta, gauges = self._recorder.take(), self._recorder.gauges()
        if delta.is_empty and gauges == self._shown:
            return
        self._number += 1
        self._unanswered = Update(self._number, delta, gauges)
        await self._send(self._unanswered)

    async def _send(self, update: Update) -> None:
        """Send one update and wait for its answer.

        Raises:
            OSError: nobody is there, or not in time.
            EOFError: the connection ended.
            ValueError: what came was no answer.
        """
        if self._streams is None:
            self._streams = await asyncio.open_unix_connection(self._path)
            self._streams[1].write(frame(self._hello))
        reader, writer = self._streams
        writer.write(frame(update))
        await writer.drain()
        if await read_frame(reader, int) != update.number:
            raise ValueError("the answer is to another update")
        self._unanswered = None
        self._refusals = 0
        self._shown = update.gauges

    def _disconnect(self) -> None:
        self._shown = None
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


@contextlib.asynccontextmanager
async def reporting(path: str | None, process: str) -> AsyncIterator[Recorder | None]:
    """Report what is counted meanwhile, and the rest at the end.

    Args:
        path: of the socket; None if nobody exposes it: then nothing is counted.
        process: its name.
    """
    if path is None:
        yield None
        return
    recorder = Recorder()
    reporter = Reporter(recorder, path, process)
    task = asyncio.create_task(reporter.run())
    try:
        yield recorder
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await reporter.close()
