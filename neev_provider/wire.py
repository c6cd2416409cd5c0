"""HTTP/1.1 to upstream: pooled connections, one request at a time on each, parsed by httptools.

Only what a relay needs: a request that is ready goes out in one write, an answer's body is handed over as it arrives,
and what had arrived before a connection broke is not lost. No redirects, cookies, proxies or decompression. A general
client costs 100 us more of CPU for a call and 20 us more for a chunk (docs/performance.md). Called by `upstream.py`;
time limits of a whole call are its caller's.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import zlib
from collections import deque
from socket import gaierror
from typing import TYPE_CHECKING, Final, NamedTuple, cast

import httptools
from multidict import CIMultiDict
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from yarl import URL

    Resolve = Callable[[str], Awaitable[str]]
    Sink = Callable[[bytes], bool]

__all__ = [
    "Answer",
    "CertificateError",
    "ConnectTimeoutError",
    "DisconnectedError",
    "NoConnectionError",
    "Origin",
    "Pool",
    "ProtocolError",
    "TLSError",
    "UnresolvedError",
    "WireError",
]

KEEP_ALIVE_SECONDS: Final = (
    30.0  # below the usual 60 s and more of load balancers, so that they never close first
)
_HIGH_WATER: Final = 128 * 1024  # bytes read ahead of a slow client
_MAX_HEAD_BYTES: Final = 16 * 1024
_MAX_HEADERS: Final = 200
_ONE_WRITE_BYTES: Final = 64 * 1024  # a larger body is not copied behind its head
_INFORMATIONAL: Final = range(100, 200)


class WireError(Exception):
    """The connection, not the answer, is at fault.

    NoConnectionError       nothing was sent
      ConnectTimeoutError   in no time
      UnresolvedError       the host's name has no address
      TLSError              no secure connection
        CertificateError    the host's certificate is not valid
    DisconnectedError       the connection broke while an answer was expected
    ProtocolError           the answer is not HTTP/1.1
    """


class NoConnectionError(WireError):
    """There is no connection."""


class ConnectTimeoutError(NoConnectionError):
    """There was no connection in time."""


class UnresolvedError(NoConnectionError):
    """The host's name has no address."""


class TLSError(NoConnectionError):
    """There is no secure connection."""


class CertificateError(TLSError):
    """The host's certificate is not valid."""


class DisconnectedError(WireError):
    """The connection broke while an answer was expected."""


class ProtocolError(WireError):
    """The answer is not HTTP/1.1."""


class Origin(NamedTuple):
    """Where connections lead."""

    host: str
    port: int
    tls: bool

    @classmethod
    def of(cls, url: URL) -> Origin:
        """Return the origin of an http or https URL."""
        return cls(url.host or "", url.port or 0, url.scheme == "https")


class Answer:
    """An answer whose head has arrived; `close` it.

    Attributes:
        status: the HTTP status.
        headers: by case-insensitive name.
    """

    __slots__ = ("_connection", "_inflate", "_pool", "headers", "status")

    def __init__(self, connection: _Connection, pool: Pool) -> None:
        self._connection: _Connection | None = connection
        self._pool: Final = pool
        self.status: Final = connection.status
        self.headers: Final = CIMultiDict(
            (name.decode("latin-1"), value.decode("latin-1")) for name, value in connection.headers
        )
        # It was asked not to, but some compress all the same.
        encoding = self.headers.get("content-encoding", "identity").strip().lower()
        self._inflate = None if encoding in {"identity", ""} else _Inflate(encoding)

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


class _Inflate:
    """Undoes gzip and deflate, a bounded piece at a time.

    Raises:
        ProtocolError: compressed in another way.
    """

    def __init__(self, encoding: str) -> None:
        if encoding not in {"gzip", "x-gzip", "deflate"}:
            raise ProtocolError("the answer is compressed in a way that was not asked for")
        self._stream: Final = zlib.decompressobj(47)  # gzip or zlib, by its head

    @property
    def holds_more(self) -> bool:
        """Whether something is left of what was fed."""
        return bool(self._stream.unconsumed_tail)

    @property
    def is_finished(self) -> bool:
        """Whether the end was found."""
        return self._stream.eof

    def feed(self, data: bytes) -> bytes:
        """Return the next piece.

        Raises:
            ProtocolError: it is broken.
        """
        try:
            return self._stream.decompress(self._stream.unconsumed_tail + data, _HIGH_WATER)
        except zlib.error as fault:
            raise ProtocolError(str(fault)) from None


class Pool:
    """Connections of one event loop, the latest used first.

    Args:
        resolve: returns the address to connect to for a host's name; the system's way by default.
        keep_alive: seconds that an idle connection is kept.
    """

    def __init__(self, *, resolve: Resolve | None = None, keep_alive: float = KEEP_ALIVE_SECONDS) -> None:
        self._resolve: Final = resolve
        self._keep_alive: Final = keep_alive
        self._idle: Final[dict[Origin, deque[_Connection]]] = {}
        self._busy: Final[set[_Connection]] = set()
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

    def release(self, connection: _Connection) -> None:
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

    def _take(self, origin: Origin, now: float) -> _Connection | None:
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

    async def _connect(self, origin: Origin, seconds: float) -> _Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(seconds):
                host = origin.host if self._resolve is None else await self._resolve(origin.host)
                _, connection = await loop.create_connection(
                    lambda: _Connection(origin, loop),
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


class _Connection(asyncio.Protocol):
    """One connection: a request, then its answer, then perhaps another."""

    __slots__ = (
        "_asked",
        "_head_bytes",
        "_is_informational",
        "_keep",
        "_parser",
        "_paused",
        "_sink",
        "_size",
        "_transport",
        "_unfinished_bytes",
        "_waiter",
        "complete",
        "fault",
        "headers",
        "idle_since",
        "loop",
        "lost",
        "origin",
        "parts",
        "status",
    )

    _transport: asyncio.Transport

    def __init__(self, origin: Origin, loop: asyncio.AbstractEventLoop) -> None:
        self.origin: Final = origin
        self.loop: Final = loop
        self.lost = False
        self.idle_since = 0.0
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.parts: list[bytes] = []
        self.complete = False
        self.fault: WireError | None = None
        self._asked = False
        self._head_bytes = 0
        self._unfinished_bytes = 0
        self._is_informational = False
        self._keep = False
        self._paused = False
        self._sink: Sink | None = None
        self._size = 0
        self._waiter: asyncio.Future[None] | None = None
        self._parser = httptools.HttpResponseParser(self)

    @property
    def is_reusable(self) -> bool:
        """Whether another request may be sent."""
        return self.complete and self._keep and not self.lost

    async def ask(self, head: bytes, body: bytes) -> None:
        """Send a request; return when the head of the answer is there.

        Raises:
            TimeoutError: `expire` was called.
            WireError: the connection broke, or the answer is not HTTP.
        """
        self._asked = True
        if len(body) <= _ONE_WRITE_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._transport.write(body)
        while not self.status:
            if self.fault is not None:
                raise self.fault
            await self.wait()

    async def read(self) -> bytes:
        """Return what has arrived of the body, at least one byte; nothing at its end.

        Raises:
            WireError: it broke off, or its framing is broken; what had arrived was returned before.
        """
        while not self.parts:
            if self.complete:
                return b""
            if self.fault is not None:
                raise self.fault
            await self.wait()
        return self.take()

    async def pump(self, sink: Sink) -> bool:
        """Do as `Answer.pump`."""
        while True:
            if self.parts and not sink(self.take()):
                return False
            if self.complete:
                return True
            if self.fault is not None:
                raise self.fault
            self._sink = sink
            try:
                await self.wait()
            finally:
                stopped = self._sink is None
                self._sink = None
            if stopped:
                return False

    async def wait(self) -> None:
        """Wait until something has arrived, or nothing more will."""
        if self._waiter is not None:
            raise RuntimeError("an answer is read twice at once")
        self._waiter = self.loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def take(self) -> bytes:
        """Return what has arrived."""
        parts = self.parts
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        self._size = 0
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        return data

    def expire(self) -> None:
        """Let a waiting `ask` fail: its time is up."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(TimeoutError())

    def rest(self, now: float) -> None:
        """Forget the last exchange."""
        self.idle_since = now
        self.status = 0
        self.headers = []
        self.complete = False
        self._asked = False
        self._head_bytes = self._unfinished_bytes = 0
        if self.parts:
            self.take()

    def abort(self) -> None:
        """Break the connection off."""
        self._transport.abort()
        if not self.lost:
            self._end(DisconnectedError("the connection was closed here"))

    # asyncio's calls

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        # asyncio does so itself, but not for every kind of socket.
        with contextlib.suppress(OSError, AttributeError):
            transport.get_extra_info("socket").setsockopt(6, 1, 1)  # IPPROTO_TCP, TCP_NODELAY

    @override
    def data_received(self, data: bytes) -> None:
        if not self._asked or self.complete:
            # An answer to nothing: whatever it is, it must not become the next request's.
            self.abort()
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as fault:
            self._end(ProtocolError(str(fault)))
            self._transport.abort()
            return
        if not self.status:
            # httptools tells of a header when it has ended: one without an end is counted here.
            self._unfinished_bytes += len(data)
            if self._unfinished_bytes > _MAX_HEAD_BYTES:
                self._end(ProtocolError("the headers are too large"))
                self._transport.abort()
                return
        if self._sink is None or self.complete:
            self._wake()
        elif self.parts:
            self._pour(self._sink)

    def _pour(self, sink: Sink) -> None:
        try:
            if sink(self.take()):
                return
        except Exception as fault:  # noqa: BLE001 - it is raised where the sink came from
            if self._waiter is not None and not self._waiter.done():
                self._waiter.set_exception(fault)
        self._sink = None
        self._wake()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        fault = DisconnectedError("closed" if exc is None else str(exc))
        if exc is None and self.status and not self.complete and self._ends_with_connection():
            self.complete = True
        self._end(fault)

    # httptools' calls

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header."""
        self._head_bytes += len(name) + len(value) + 4
        if self._head_bytes > _MAX_HEAD_BYTES or len(self.headers) >= _MAX_HEADERS:
            raise ValueError("the headers are too large")
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Note the status; a 1xx is not the answer yet."""
        status = self._parser.get_status_code()
        self._is_informational = status in _INFORMATIONAL
        if self._is_informational:
            self.headers = []
        else:
            self.status = status

    def on_body(self, body: bytes) -> None:
        """Keep a part of the body; stop reading when nobody takes it."""
        self.parts.append(body)
        self._size += len(body)
        if self._size > _HIGH_WATER and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        """Note the end."""
        if self._is_informational:
            self._is_informational = False
        else:
            self.complete = True
            self._keep = self._parser.should_keep_alive()

    def _ends_with_connection(self) -> bool:
        return not any(name.lower() in {b"content-length", b"transfer-encoding"} for name, _ in self.headers)

    def _end(self, fault: WireError) -> None:
        self.lost = True
        if self.fault is None:
            self.fault = fault
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
