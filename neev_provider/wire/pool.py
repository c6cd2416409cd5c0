"""Pooled connections, and the answers that arrive on them. Called by `upstream.py`."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from socket import gaierror
from typing import TYPE_CHECKING, Final

from multidict import CIMultiDict

from neev_provider.wire.connection import Connection
from neev_provider.wire.faults import (
    CertificateError,
    ConnectTimeoutError,
    DisconnectedError,
    NoConnectionError,
    ProtocolError,
    TLSError,
    UnresolvedError,
    WireError,
)
from neev_provider.wire.inflate import Inflate

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from neev_provider.wire.connection import Origin

    Resolve = Callable[[str], Awaitable[str]]
    Sink = Callable[[bytes], bool]

__all__ = ["Answer", "Pool", "headers_of"]

KEEP_ALIVE_SECONDS: Final = (
    30.0  # below the usual 60 s and more of load balancers, so that they never close first
)


class Answer:
    """An answer whose head has arrived; `close` it.

    Attributes:
        status: the HTTP status.
        head: the headers as they came, names and values.
    """

    __slots__ = ("_connection", "_inflate", "_pool", "head", "status")

    def __init__(self, connection: Connection, pool: Pool) -> None:
        self._connection: Connection | None = connection
        self._pool: Final = pool
        self.status: Final = connection.status
        self.head: Final = connection.headers
        # It was asked not to, but some compress all the same.
        encoding = self.header(b"content-encoding").strip().lower()
        self._inflate = None if encoding in {"identity", ""} else Inflate(encoding)

    def header(self, name: bytes) -> str:
        """Return the first header of a lower-case name, "" if there is none: cheaper than `headers` for one."""
        for given, value in self.head:
            if given.lower() == name:
                return value.decode("latin-1")
        return ""

    @property
    def headers(self) -> CIMultiDict[str]:
        """The headers, by case-insensitive name."""
        return headers_of(self.head)

    @property
    def is_complete(self) -> bool:
        """Whether all of it has arrived, read or not."""
        if self._inflate is not None and self._inflate.holds_more:
            return False
        return self._connection is None or self._connection.complete

    @property
    def is_lost(self) -> bool:
        """Whether its connection is gone."""
        return self._connection is None or self._connection.lost

    async def read(self) -> bytes:
        """Return what has arrived, at least one byte; nothing at the end.

        Raises:
            DisconnectedError: it broke off, or was closed meanwhile. What had arrived was returned before.
            ProtocolError: its framing is broken.
        """
        connection = self._connection
        if connection is None:
            raise DisconnectedError("the answer was closed")
        inflate = self._inflate
        if inflate is None:
            return await connection.read()
        try:
            while True:
                if inflate.holds_more and (data := inflate.feed(b"")):
                    return data
                part = await connection.read()
                if not part and not inflate.is_finished:
                    raise DisconnectedError("the compressed answer has no end")
                if not part or (data := inflate.feed(part)):
                    return data if part else b""
        except WireError:
            connection.abort()
            raise

    async def pump(self, sink: Sink) -> bool:
        """Hand what arrives to `sink` at once, from the loop's own call, until it wants no more.

        A task that is woken for every read costs a third of a relayed chunk.

        Args:
            sink: takes some bytes; returns whether it wants more. What it raises is raised here.

        Returns:
            Whether this was the end of the body.

        Raises:
            WireError: as `read`.
        """
        connection = self._connection
        if self._inflate is None and connection is not None:
            return await connection.pump(sink)
        while data := await self.read():
            if not sink(data):
                return False
        return True

    def close(self) -> None:
        """Give the connection back if all has arrived, else break it off; may be called again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            if self._inflate is not None and self._inflate.holds_more:
                connection.abort()
            self._pool.release(connection)


def headers_of(head: Iterable[tuple[bytes, bytes]]) -> CIMultiDict[str]:
    """Return headers by case-insensitive name."""
    return CIMultiDict((name.decode("latin-1"), value.decode("latin-1")) for name, value in head)


class Pool:
    """Connections of one event loop, the latest used first.

    Args:
        resolve: returns the address to connect to for a host's name; the system's way by default.
        keep_alive: seconds that an idle connection is kept.
    """

    def __init__(self, *, resolve: Resolve | None = None, keep_alive: float = KEEP_ALIVE_SECONDS) -> None:
        self._resolve: Final = resolve
        self._keep_alive: Final = keep_alive
        self._idle: Final[dict[Origin, deque[Connection]]] = {}
        self._busy: Final[set[Connection]] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._tls: ssl.SSLContext | None = None
        self.closed = False

    @property
    def busy(self) -> int:
        """How many connections have an answer under way."""
        return len(self._busy)

    async def send(
        self, origin: Origin, head: bytes, body: bytes, *, connect_seconds: float, seconds: float
    ) -> Answer:
        """Send a request and wait for the head of its answer.

        Args:
            origin: where to.
            head: request line and headers, with the blank line at its end.
            body: may be empty.
            connect_seconds: until there is a connection.
            seconds: until the head of the answer is there.

        Raises:
            TimeoutError: no answer in time.
            WireError: no connection, or it broke, or the answer is not HTTP.
            RuntimeError: the pool is closed.
        """
        if self.closed:
            raise RuntimeError("this pool is closed")
        loop = asyncio.get_running_loop()
        ends = loop.time() + seconds
        connection = self._take(origin, loop.time())
        if connection is None:
            connection = await self._connect(origin, min(connect_seconds, seconds))
        self._busy.add(connection)
        timer = loop.call_at(ends, connection.expire)
        try:
            await connection.ask(head, body)
        except BaseException:
            self._busy.discard(connection)
            connection.abort()
            raise
        finally:
            timer.cancel()
        try:
            return Answer(connection, self)
        except ProtocolError:
            self._busy.discard(connection)
            connection.abort()
            raise

    def release(self, connection: Connection) -> None:
        """Take a connection back whose answer nobody reads any more."""
        self._busy.discard(connection)
        if not connection.is_reusable or self.closed:
            connection.abort()
            return
        loop = connection.loop
        connection.rest(loop.time())
        self._idle.setdefault(connection.origin, deque()).append(connection)
        if self._sweeper is None:
            self._sweeper = loop.call_later(self._keep_alive, self._sweep, loop)

    async def close(self) -> None:
        """Break all connections off."""
        self.closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for connection in [*self._busy, *(c for idle in self._idle.values() for c in idle)]:
            connection.abort()
        self._busy.clear()
        self._idle.clear()
        await asyncio.sleep(0)  # transports close in the loop's next round

    def _take(self, origin: Origin, now: float) -> Connection | None:
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            if not connection.lost and now - connection.idle_since < self._keep_alive:
                return connection
            connection.abort()
        return None

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for origin, idle in list(self._idle.items()):
            while idle and (idle[0].lost or now - idle[0].idle_since >= self._keep_alive):
                idle.popleft().abort()
            if not idle:
                del self._idle[origin]
        self._sweeper = loop.call_later(self._keep_alive, self._sweep, loop) if self._idle else None

    async def _connect(self, origin: Origin, seconds: float) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(seconds):
                host = origin.host if self._resolve is None else await self._resolve(origin.host)
                _, connection = await loop.create_connection(
                    lambda: Connection(origin, loop),
                    host,
                    origin.port,
                    ssl=self._tls_context() if origin.tls else None,
                    server_hostname=origin.host if origin.tls else None,
                )
        except TimeoutError:
            raise ConnectTimeoutError("no connection in time") from None
        except gaierror as fault:
            raise UnresolvedError(str(fault)) from None
        except ssl.SSLCertVerificationError as fault:
            raise CertificateError(str(fault)) from None
        except ssl.SSLError as fault:
            raise TLSError(str(fault)) from None
        except OSError as fault:
            kind = TLSError if origin.tls and isinstance(fault, ConnectionError) else NoConnectionError
            raise kind(str(fault)) from None
        return connection

    def _tls_context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls
