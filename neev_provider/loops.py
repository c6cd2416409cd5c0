"""One `Upstream` per event loop, and a loop of our own for callers that have none.

aiohttp sessions belong to the loop that made them. `PerLoop` gives each running loop its own pooled client and
closes it when that loop shuts down. `Portal` runs a loop in a daemon thread, so that synchronous callers, with or
without a running loop of their own, share the one asynchronous code path. Called by `adapter.py`.
"""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine

__all__ = ["PerLoop", "Portal"]


class _Closable(Protocol):
    async def close(self) -> None: ...


C = TypeVar("C", bound=_Closable)
R = TypeVar("R")


class PerLoop(Generic[C]):
    """Makes one resource for each event loop on first use; the loop's own shutdown closes it."""

    def __init__(self, make: Callable[[], C]) -> None:
        self._make: Final = make
        self._held: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[C, AsyncGenerator[None]]]] = (
            WeakKeyDictionary()
        )

    async def get(self) -> C:
        """Return the running loop's resource."""
        loop = asyncio.get_running_loop()
        held = self._held.get(loop)
        if held is None:
            resource = self._make()
            # A started asynchronous generator is closed by loop.shutdown_asyncgens(), which asyncio.run()
            # and every server call: the one hook a library has into the end of somebody else's loop.
            keeper = _close_at_end(resource)
            self._held[loop] = held = (resource, keeper)
            await anext(keeper)
        return held[0]


async def _close_at_end(resource: _Closable) -> AsyncGenerator[None]:
    try:
        yield
    finally:
        await resource.close()


class Portal:
    """Runs coroutines on a background event loop for synchronous callers."""

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0

    def run(self, coroutine: Coroutine[object, object, R]) -> R:
        """Run `coroutine` to its end on the background loop and return its result.

        An interrupt in the calling thread (Ctrl-C) cancels it. Raises whatever the coroutine raises.
        """
        future = asyncio.run_coroutine_threadsafe(coroutine, self._running())
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            # Threads do not survive a fork; a forked server gets a loop of its own.
            if self._loop is None or self._pid != os.getpid():
                loop = asyncio.new_event_loop()
                threading.Thread(target=loop.run_forever, name="neev-provider", daemon=True).start()
                self._loop, self._pid = loop, os.getpid()
            return self._loop
