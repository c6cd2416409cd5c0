"""One HTTP/1.1 connection: a request, then its answer, then perhaps another. Made and kept by `pool.py`."""

from __future__ import annotations

import asyncio
import contextlib
from copy import copy
from typing import TYPE_CHECKING, Final, NamedTuple, cast

import httptools
from typing_extensions import override

from neev_provider.wire.faults import DisconnectedError, ProtocolError, WireError

if TYPE_CHECKING:
    from collections.abc import Callable

    from yarl import URL

    Sink = Callable[[bytes], bool]

__all__ = ["Connection", "Origin"]

_HIGH_WATER: Final = 128 * 1024  # bytes read ahead of a slow client
_MAX_HEAD_BYTES: Final = 16 * 1024
_MAX_HEADERS: Final = 200
_ONE_WRITE_BYTES: Final = 64 * 1024  # a larger body is not copied behind its head
_INFORMATIONAL: Final = range(100, 200)


class Origin(NamedTuple):
    """Where connections lead."""

    host: str
    port: int
    tls: bool

    @classmethod
    def of(cls, url: URL) -> Origin:
        """Return the origin of an http or https URL."""
        return cls(url.host or "", url.port or 0, url.scheme == "https")


class Connection(asyncio.Protocol):
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
                raise copy(self.fault)  # one that is kept and raised holds the frames that hold it
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
                raise copy(self.fault)
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
                raise copy(self.fault)
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
        del self._parser  # which holds this object: a circle would stay until it is looked for

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
