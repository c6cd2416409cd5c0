"""One `Upstream` per event loop, and a loop of our own for callers that have none.

aiohttp sessions belong to the loop that made them. `PerLoop` gives each running loop its own pooled client and
closes it when that loop shuts down. `Portal` runs a loop in a daemon thread, so that synchronous callers, with or
without a running loop of their own, share the one asynchronous code path. Called by `adapter.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine

__all__ = ["PerLoop", "Portal", "run_to_the_end"]


class _Closable(Protocol):
    async def close(self) -> None: ...


C = TypeVar("C", bound=_Closable)
R = TypeVar("R")


class PerLoop(Generic[C]):
    """Makes one resource for each event loop on first use; the loop's own shutdown closes it."""

    def __init__(self, make: Callable[[], C]) -> None:
        self._make: Final = make
        self._held: Final[
            weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[C, AsyncGenerator[None]]]
        ] = weakref.WeakKeyDictionary()

    async def get(self) -> C:
        """Return the running loop's resource."""
        loop = asyncio.get_running_loop()
        held = self._held.get(loop)
        if held is None:
            resource = self._make()
            # A started asynchronous generator is closed by loop.shutdown_asyncgens(), which asyncio.run()
            # and every server call: the one hook a library has into the end of somebody else's loop.
            keeper = _close_at_end(resource, weakref.ref(self), loop)
            self._held[loop] = held = (resource, keeper)
            await anext(keeper)
        return held[0]

    def forget(self, loop: asyncio.AbstractEventLoop) -> None:
        """Drop a loop that ends; its resource refers to it, so the entry would keep its own key alive."""
        self._held.pop(loop, None)


async def _close_at_end(
    resource: _Closable, owner: weakref.ref[PerLoop[Any]], loop: asyncio.AbstractEventLoop
) -> AsyncGenerator[None]:
    try:
        yield
    finally:
        # A weak reference: in a cycle with its owner the resource would be finalised unclosed.
        if (held_by := owner()) is not None:
            held_by.forget(loop)
        await resource.close()


class Portal:
    """Runs coroutines on a background event loop for synchronous callers."""

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0
        self._thread: threading.Thread | None = None
        self._detached: Final[set[asyncio.Task[object]]] = set()

    def run(self, coroutine: Coroutine[object, object, R]) -> R:
        """Run `coroutine` to its end on the background loop and return its result.

        An interrupt in the calling thread (Ctrl-C) cancels it. Raises whatever the coroutine raises.
        """
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise RuntimeError("a synchronous call was made on the event loop that would have to answer it")
        future = asyncio.run_coroutine_threadsafe(coroutine, self._running())
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def detach(self, make: Callable[[], Coroutine[object, object, object]]) -> None:
        """Start a coroutine without waiting for it: for clean-up that may happen in any thread, at any time.

        An abandoned stream is finalised by the garbage collector, perhaps on the background loop itself, or when the
        interpreter ends and that thread does not run any more; waiting would be for ever.
        """
        loop = self._loop
        if loop is None or self._pid != os.getpid() or sys.is_finalizing():
            return

        def start() -> None:
            task = loop.create_task(make())
            self._detached.add(task)
            task.add_done_callback(self._detached.discard)

        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(start)

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            # Threads do not survive a fork; a forked server gets a loop of its own.
            if self._loop is None or self._pid != os.getpid():
                loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=loop.run_forever, name="neev-provider", daemon=True)
                self._thread.start()
                self._loop, self._pid = loop, os.getpid()
            return self._loop


async def run_to_the_end(main: Coroutine[object, object, None]) -> None:
    """Run what obeys SIGINT and SIGTERM itself, and hold further ones back once it has ended.

    Called as the last coroutine of a process: a loop that closes gives signals their default back, and a process that
    had stopped in order would die of one that comes late.
    """
    try:
        await main
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
