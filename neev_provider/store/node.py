"""One server of the store: its connection, opened when needed and again when lost, behind its circuit breaker.

Called by `client.py`, which knows which server to ask.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any, Final

import hiredis

from neev_provider.errors import ServerError
from neev_provider.store.breaker import Breaker

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from neev_provider.store.connection import Connection, Word

__all__ = ["Node", "Timing", "UnknownOutcomeError", "unavailable"]

_LOG: Final = logging.getLogger("neev_provider.store")
_TURNS: Final = 20  # of the event loop; on one that is not busy they take no time


class Timing:
    """How long things may take, in seconds.

    Args:
        call: one call, its connection and its retries included.
        probe: between two looks at a server that does not answer; also the time that connecting may take.
        failures: how many in a row until callers fail at once.
    """

    __slots__ = ("call", "failures", "probe")

    def __init__(self, call: float = 0.25, probe: float = 1.0, failures: int = 5) -> None:
        self.call = call
        self.probe = probe
        self.failures = failures


class UnknownOutcomeError(ServerError):
    """A call was sent and not answered: the store may have carried it out."""


def unavailable(retry_after: float, kind: type[ServerError] = ServerError) -> ServerError:
    """Return what a client is told while the store is away."""
    return kind(
        "store_unavailable",
        "The gateway's store is not answering, so limits and budgets cannot be checked. Try again shortly.",
        retry_after=retry_after,
    )


class Node:
    """One server.

    Args:
        name: for logs.
        timing: bounds.
        connect: opens a connection.
    """

    def __init__(self, name: str, timing: Timing, connect: Callable[[], Awaitable[Connection]]) -> None:
        self.name: Final = name
        self._timing: Final = timing
        self._connect: Final = connect
        self._breaker: Final = Breaker(timing.failures)
        self._connection: Connection | None = None
        self._connecting: asyncio.Task[Connection] | None = None
        self._probing: asyncio.Task[None] | None = None
        self.epoch = 0
        """How many connections there have been."""

    @property
    def is_open(self) -> bool:
        """Whether callers fail at once."""
        return self._breaker.is_open

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection now."""
        return self._connection is not None and not self._connection.gone

    async def call(self, *words: Word, asking: bool = False) -> Any:
        """Return the server's reply.

        Args:
            words: of the command.
            asking: whether a cluster said that this server is to be asked once for what is on its way there.

        Raises:
            UnknownOutcomeError: no reply in time.
            ServerError: no server; nothing was sent.
            hiredis.ReplyError: the server refuses.
        """
        connection, kind = self._connection, ServerError
        try:
            if connection is None or connection.gone:
                connection = await self._connected()
            kind = UnknownOutcomeError
            if asking:  # it holds for the next command alone: nothing may come between the two
                connection.call("ASKING").add_done_callback(_retrieved)
            reply = await connection.call(*words)
        except hiredis.ReplyError:
            self._breaker.succeeded()
            raise
        except OSError as error:
            self._failed(error)
            raise unavailable(self._timing.probe, kind) from None
        self._breaker.succeeded()
        return reply

    def drop(self) -> None:
        """Let go of the connection; the next call opens another, perhaps to another server."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def close(self) -> None:
        """End everything; calls in flight fail."""
        tasks = [task for task in (self._probing, self._connecting) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.drop()

    async def _connected(self) -> Connection:
        """Return a connection; all who wait for one share the attempt, and outlive none of their own bounds."""
        if self._breaker.is_open:
            raise ConnectionError("the circuit is open")
        connecting = self._connecting
        if connecting is None:
            connecting = self._connecting = asyncio.create_task(self._open())
            connecting.add_done_callback(_retrieved)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._timing.call):
                return await asyncio.shield(connecting)
        # Perhaps this process was busy, and not the server slow: connecting takes some turns of the loop.
        for _ in range(_TURNS):
            if connecting.done():
                return connecting.result()
            await asyncio.sleep(0)
        raise TimeoutError

    async def _open(self) -> Connection:
        try:
            async with asyncio.timeout(self._timing.probe):
                self._connection = await self._connect()
                self.epoch += 1
                return self._connection
        except hiredis.ReplyError as error:
            # Refused at the log-in: the server's words name users and rules, never passwords.
            _LOG.error("the store %s refuses the gateway: %s", self.name, error)
            raise ConnectionError("refused") from None
        finally:
            self._connecting = None

    def _failed(self, error: OSError) -> None:
        if self._breaker.failed():
            _LOG.warning("the store %s does not answer (%s)", self.name, str(error) or type(error).__name__)
        if self._breaker.is_open and self._probing is None:
            self._probing = asyncio.create_task(self._probe())

    async def _probe(self) -> None:
        """Look once a second whether the server is back, so that no client's request has to."""
        while True:
            await asyncio.sleep(self._timing.probe)
            with contextlib.suppress(OSError, hiredis.ReplyError):
                if self._connection is None or self._connection.gone:
                    await self._open()
                if self._connection is not None:
                    await self._connection.call("PING")
                    break
        self._probing = None
        self._breaker.succeeded()
        _LOG.warning("the store %s answers again", self.name)


def _retrieved(task: asyncio.Future[Any]) -> None:
    """Keep asyncio from reporting a failure that everybody who waited for it has left."""
    if not task.cancelled():
        task.exception()
