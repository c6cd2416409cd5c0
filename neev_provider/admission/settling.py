"""Settles off the path of the response: in order for each owner, again while the store is away, each once.

Every settle of a process has a number. The store remembers the last number of each process and owner, so a settle
that is sent again because its answer was lost counts once. What is settled while one write for the same owner is
under way goes with the next, in one. What cannot be written in the end is logged, one JSON line for each, and
`replay` reads such lines. Called by `virtual.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import msgspec

from neev_provider.admission.confirmed import Confirmed
from neev_provider.admission.owners import put_on_record
from neev_provider.admission.rules import Clock
from neev_provider.admission.scripts import REPLAY, SETTLE, prefix_of, seen_name
from neev_provider.errors import NeevError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from neev_provider.store import Store

__all__ = ["Settle", "Settler", "replay"]

_LOG: Final = logging.getLogger("neev_provider.admission")
_LEDGER: Final = logging.getLogger("neev_provider.ledger")
_BATCH: Final = 64
_FIRST_WAIT: Final = 0.05  # seconds
_LONGEST_WAIT: Final = 2.0
_LOOK: Final = 1.0  # between two looks at whether the store was away
_REFUSALS: Final = 5  # in a row, by a store that answers: then the settles are logged


class Settle(
    msgspec.Struct, gc=False
):  # thousands are kept (`confirmed.py`), and none can be part of a circle
    """What a request did cost; also the form of its line in the log.

    Attributes:
        process: who settles.
        number: of this settle among those of the process; rises.
        tag: of the owner.
        lease: id of the request.
        key_id: of the key.
        at: Unix milliseconds of its admission.
        prompt_tokens: tokens read.
        completion_tokens: tokens produced.
        cost_nanos: nano-USD.
        estimated: whether tokens are an estimate.
        characters: of speech.
        model: upstream's id; "" if nothing was produced.
        held_nanos: nano-USD that were reserved.
        sent: whether it may have reached the store.
        counted: whether the gateway's total has it.
    """

    process: str
    number: int
    tag: str
    lease: str
    key_id: str
    at: int
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_nanos: int = 0
    estimated: bool = False
    characters: int = 0
    model: str = ""
    held_nanos: int = 0
    sent: bool = False
    counted: bool = False

    def words(self) -> tuple[str | int, ...]:
        """Return the arguments that charge.lua reads."""
        return (
            self.number,
            self.lease,
            self.key_id,
            self.at,
            self.prompt_tokens,
            self.completion_tokens,
            self.cost_nanos,
            int(self.estimated),
            self.characters,
            self.model,
        )


class Settler:
    """The settles of one process.

    Args:
        store: where they go.
        max_queued: how many may wait; more are logged.
        clock: the scripts'.
        on_charged: told of every settle that is done: nano-USD that were charged, nano-USD no longer held.
    """

    def __init__(
        self,
        store: Store,
        *,
        max_queued: int,
        clock: Clock | None = None,
        on_charged: Callable[[int, int], None] = lambda _charged, _released: None,
    ) -> None:
        self.process: Final = secrets.token_hex(8)
        self.lost = 0
        """How many were logged instead of written."""
        self._store: Final = store
        self._max_queued: Final = max_queued
        self._clock: Final = clock or Clock()
        self._on_charged: Final = on_charged
        self._confirmed: Final = Confirmed()
        self._queues: Final[dict[str, deque[Settle]]] = {}
        self._tasks: Final[set[asyncio.Task[None]]] = set()
        self._queued = 0
        self._number = 0
        self._closed = False

    @property
    def queued(self) -> int:
        """How many are not written yet."""
        return self._queued

    def add(self, settle: Settle) -> None:
        """Write a settle as soon as may be; returns at once. Numbers it."""
        self._number += 1
        settle.number = self._number
        if self._closed or self._queued >= self._max_queued:
            self._log(settle)
            return
        self._queued += 1
        queue = self._queues.get(settle.tag)
        if queue is not None:
            queue.append(settle)
            return
        self._start(settle.tag, deque((settle,)))

    def _start(self, tag: str, queue: deque[Settle]) -> None:
        self._queues[tag] = queue
        task = asyncio.create_task(self._write_or_log(tag, queue))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def flush(self) -> None:
        """Return when nothing waits any more."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self, grace: float) -> None:
        """Write what waits; log what is not written after `grace` seconds."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace)
        self._closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for queue in self._queues.values():
            for settle in queue:
                self._log(settle)
        self._queues.clear()
        self._queued = 0

    async def _write_or_log(self, tag: str, queue: deque[Settle]) -> None:
        """Write an owner's settles; by a fault of ours none is lost, and none that comes after waits for ever."""
        try:
            await self._write(tag, queue)
        except Exception:  # noqa: BLE001 - the last line of defence
            _LOG.exception("settles could not be written")
            # What comes meanwhile waits with them: `close` logs them all if the store does not come back.
            while True:
                seen = await self._seen(seen_name(tag, self.process))
                if seen is not None:
                    break
                await asyncio.sleep(_LONGEST_WAIT)
            del self._queues[tag]
            self._queued -= len(queue)
            self._log_refused(queue, seen)

    async def _write(self, tag: str, queue: deque[Settle]) -> None:
        """Write an owner's settles until none waits."""
        prefix, name = prefix_of(tag), seen_name(tag, self.process)
        wait, refusals = _FIRST_WAIT, 0
        while queue:
            batch = [queue[index] for index in range(min(len(queue), _BATCH))]
            words: list[str | int] = [prefix, self._clock.moved, self._confirmed.last(tag)]
            for settle in batch:
                settle.sent = True
                words += settle.words()
            try:
                charged = await self._store.run(SETTLE, (name,), words)
            except NeevError as error:
                refusals = refusals + 1 if error.code != "store_unavailable" else 0
                if refusals >= _REFUSALS and (seen := await self._seen(name)) is not None:
                    self._log_refused(batch, seen)
                    self._done(queue, len(batch))
                    refusals = 0
                await asyncio.sleep(wait)
                wait = min(2 * wait, _LONGEST_WAIT)
                continue
            wait, refusals = _FIRST_WAIT, 0
            if charged and charged[0] == b"lost":
                self._tell_again(tag, int(charged[1]), queue)
                continue
            self._done(queue, len(batch))
            self._confirmed.add(tag, batch)
            for settle, nanos in zip(batch, charged, strict=True):
                self._count(settle, settle.cost_nanos if nanos == b"seen" else int(nanos))
        del self._queues[tag]

    def _tell_again(self, tag: str, number: int, queue: deque[Settle]) -> None:
        """Put what the store has confirmed and forgotten, all after `number`, before what waits."""
        lost = self._confirmed.take_after(tag, number)
        _LOG.warning("the store has lost %d settles that it had confirmed; they are told again", len(lost))
        queue.extendleft(reversed(lost))
        self._queued += len(lost)

    async def watch_for_ever(self) -> None:
        """Look, whenever the store was away, whether it has kept what it had confirmed; ends by being cancelled."""
        epoch = self._store.epoch
        while True:
            await asyncio.sleep(_LOOK)
            if not self._store.is_connected:
                continue
            now = self._store.epoch
            if now == epoch:
                self._confirmed.forget_old()
                continue
            with contextlib.suppress(NeevError):  # it is away again
                await self._look()
                epoch = now

    async def _look(self) -> None:
        failed: NeevError | None = None
        for tag in self._confirmed.owners():
            words = (prefix_of(tag), self._clock.moved, self._confirmed.last(tag))
            try:
                answer = await self._store.run(SETTLE, (seen_name(tag, self.process),), words)
            except NeevError as error:
                failed = error  # one server of a cluster may be away, and the others not
                continue
            if answer and tag not in self._queues:  # else they are told before what waits there
                self._start(tag, deque())
                self._tell_again(tag, int(answer[1]), self._queues[tag])
        if failed is not None:
            raise failed

    async def _seen(self, name: str) -> int | None:
        """Return the number of the last settle of this process that the store has dealt with; None if it won't say.

        A guess would be wrong for good: no later settle may pass by what perhaps was charged until it is known.
        """
        try:
            return int(await self._store.call(name, "GET", name) or 0)
        except NeevError:
            return None

    def _log_refused(self, settles: Iterable[Settle], seen: int) -> None:
        """Log what the store will not take. Later settles pass it by, so only now does its number tell anything."""
        for settle in settles:
            settle.sent = settle.number <= seen
            self._log(settle)

    def _done(self, queue: deque[Settle], count: int) -> None:
        for _ in range(count):
            queue.popleft()
        self._queued -= count

    def _count(self, settle: Settle, nanos: int) -> None:
        if not settle.counted:
            settle.counted = True
            self._on_charged(nanos, settle.held_nanos)

    def _log(self, settle: Settle) -> None:
        self.lost += 1
        self._count(settle, settle.cost_nanos)
        _LEDGER.error("%s", msgspec.json.encode(settle).decode())


async def replay(store: Store, line: str | bytes) -> int | None:
    """Charge a settle that was logged; once, however often it is replayed.

    Args:
        store: where it goes.
        line: the logged JSON.

    Returns:
        Nano-USD that were charged; None if they had been before.

    Raises:
        ValueError: not such a line, or from so long ago that the store does not know whether it was charged.
        ServerError: the store is away; replay it again.
    """
    try:
        settle = msgspec.json.decode(line, type=Settle)
    except msgspec.DecodeError as error:
        raise ValueError(f"not a settle: {error}") from None
    words = (prefix_of(settle.tag), 0, *settle.words(), int(settle.sent))
    await put_on_record(store, [settle.tag], settle.at)
    charged: Any = await store.run(REPLAY, (seen_name(settle.tag, settle.process),), words)
    if charged == b"old":
        raise ValueError("too old: nobody knows any more whether it was charged")
    return None if charged == b"seen" else int(charged)
