"""One HTTP request and its answer over ASGI: reading, writing, noticing that the client left, dropping the line.

The only module that speaks ASGI messages. Knows nothing about NeevAI. Called by every route.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

from neev_provider.emulator.refusal import ClientGone, Refusal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, MutableMapping

    Scope = MutableMapping[str, Any]
    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]

__all__ = ["DROP_EXTENSION", "MAX_BODY_BYTES", "Exchange"]

MAX_BODY_BYTES: Final = 100 * 1024 * 1024  # NeevAI states no limit; this one protects the laptop

# Scope extension by which `server.py` lends the connection: drop(reset: bool) -> None.
DROP_EXTENSION: Final = "neev_emulator.drop"

Header = tuple[bytes, bytes]


class Exchange:
    """One request being answered.

    Attributes:
        method: HTTP method.
        path: percent-decoded path.
        headers: lower-case names to values, the last of equal names.
        status: the status sent, 0 before.
        ending: why no complete answer was sent: "aborted" by the client, "dropped" or "stalled" by a fault; else "".
        request_id: value of the answer's x-request-id.
    """

    __slots__ = (
        "_finished",
        "_receive",
        "_scope",
        "_send",
        "ending",
        "headers",
        "method",
        "path",
        "request_id",
        "status",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._finished = False
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.status = 0
        self.ending = ""
        self.request_id = "req_" + os.urandom(12).hex()

    @property
    def query(self) -> dict[str, str]:
        """Return the query parameters; the last of equal names."""
        return dict(parse_qsl(self._scope.get("query_string", b"").decode("latin-1")))

    @property
    def client_host(self) -> str | None:
        """Return the peer's address, or None on a Unix socket."""
        client = self._scope.get("client")
        return client[0] if client else None

    def header(self, name: bytes) -> str | None:
        """Return a header's value as text; `name` in lower case."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    async def body(self) -> bytes:
        """Return the whole request body.

        Raises:
            ClientGone: the client left while sending it.
            Refusal: it is larger than `MAX_BODY_BYTES`.
        """
        parts: list[bytes] = []
        size = 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            part = message.get("body", b"")
            size += len(part)
            if size > MAX_BODY_BYTES:
                raise Refusal(413, "request_too_large", "The request body is too large.", rule="body:size")
            parts.append(part)
            if not message.get("more_body", False):
                return parts[0] if len(parts) == 1 else b"".join(parts)

    async def respond(
        self,
        status: int,
        body: bytes,
        content_type: bytes = b"application/json",
        headers: Iterable[Header] = (),
    ) -> None:
        """Send a whole answer."""
        await self.start(status, content_type, [*headers, (b"content-length", str(len(body)).encode())])
        await self.write(body, last=True)

    async def start(self, status: int, content_type: bytes, headers: Iterable[Header] = ()) -> None:
        """Send status and headers; a body follows by `write`."""
        self.status = status
        fields = [(b"x-request-id", self.request_id.encode()), *headers]
        if content_type:
            fields.append((b"content-type", content_type))
        await self._send({"type": "http.response.start", "status": status, "headers": fields})

    async def write(self, data: bytes, *, last: bool = False) -> None:
        """Send a part of the body."""
        if last:
            self._finished = True
        await self._send({"type": "http.response.body", "body": data, "more_body": not last})

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Interrupt the block if the client leaves.

        Raises:
            ClientGone: it left; whatever the block was doing has been cancelled.
        """
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - inside a coroutine
        gone = False

        async def watch() -> None:
            nonlocal gone
            await self._until_disconnected()
            # A server also reports a disconnect once the answer is complete.
            if not self._finished:
                gone = True
                task.cancel()

        watcher = asyncio.get_running_loop().create_task(watch())
        try:
            yield
        except asyncio.CancelledError:
            if not gone:
                raise
            task.uncancel()
            raise ClientGone from None
        finally:
            watcher.cancel()

    async def drop(self, *, reset: bool = False) -> None:
        """Close the connection without completing the answer: after what was written, or at once by a reset."""
        self.ending = "reset" if reset else "dropped"
        drop = self._scope.get("extensions", {}).get(DROP_EXTENSION)
        if drop is None:
            raise ConnectionAbortedError(
                "this server cannot drop a connection; it closes it after this error"
            )
        drop(reset)
        await self._until_disconnected()

    async def stall(self, seconds: float) -> None:
        """Send nothing more until the client leaves or `seconds` have passed, then drop the connection."""
        self.ending = "stalled"
        try:
            async with asyncio.timeout(seconds):
                await self._until_disconnected()
        except TimeoutError:
            await self.drop()

    async def _until_disconnected(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
