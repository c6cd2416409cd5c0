"""One HTTP exchange over ASGI: its body in, its answer or stream out, its end noted.

Responsible for the protocol's rules: size and pace of a body, one error shape, `x-request-id`, a client that goes
away. Knows nothing of models. Called by the routes.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol

from neev_provider.errors import NeevError, RequestError, redact
from neev_provider.gateway.request_facts import RequestFacts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from neev_provider.admission import Principal

    Scope = Mapping[str, Any]
    Receive = Callable[[], Awaitable[Mapping[str, Any]]]
    Send = Callable[[Mapping[str, Any]], Awaitable[None]]

__all__ = ["EXTENSION", "ClientGoneError", "Exchange", "Limits", "ServerExtension"]

EXTENSION: Final = "neev"
"""Under which name in the scope's `extensions` our own server offers `ServerExtension`."""


class ServerExtension(Protocol):
    """What our server (`http_cycle.py`) can do beyond ASGI; on another one the application does without."""

    @property
    def received(self) -> bool:
        """Whether the whole request has arrived."""

    def write_now(self, body: bytes) -> bool:
        """Take a part of the body without waiting; tell whether the client keeps up."""

    def answer_now(self, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> bool:
        """Give the whole answer without waiting; return False, and do nothing, while the client does not keep up."""

    def watch(self, on_gone: Callable[[], None] | None) -> None:
        """Call this as soon as the client has left."""


_IDS: Final = random.Random()  # noqa: S311 - seeded by the system; ids are to differ, not to be secret
_SANE_ID: Final = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_JSON: Final = {b"content-type": b"application/json"}


class Limits:
    """What a request may take up.

    Attributes:
        body_bytes: the largest body.
        body_seconds: how long a body may take to arrive.
    """

    __slots__ = ("body_bytes", "body_seconds")

    def __init__(self, body_bytes: int = 10_000_000, body_seconds: float = 30.0) -> None:
        self.body_bytes = body_bytes
        self.body_seconds = body_seconds


class ClientGoneError(Exception):
    """The client closed the connection before it had its answer."""


class Exchange:
    """A request and the answer to it.

    Attributes:
        headers: the request's, lower-case names as bytes; of a repeated one the last.
        request_id: the client's if sane, else ours.
        started: `time.perf_counter()` at the start.
        status: of the answer; 0 until one has begun.
        notes: what the access log says beside it: key id, model, tokens, cost.
        answer_headers: sent with the answer, whatever it will be.
        facts: what metrics want to know of it.
    """

    __slots__ = (
        "_receive",
        "_send",
        "_server",
        "answer_headers",
        "facts",
        "headers",
        "notes",
        "request_id",
        "scope",
        "started",
        "status",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.started = time.perf_counter()
        self.scope = scope
        self._receive = receive
        self._send = send
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.request_id = _sane_id(self.headers.get(b"x-request-id")) or _new_id()
        self.status = 0
        self.notes: dict[str, Any] = {}
        self.answer_headers: dict[bytes, bytes] = {}
        self.facts: Final = RequestFacts()
        self._server: Final[ServerExtension | None] = (scope.get("extensions") or {}).get(EXTENSION)

    def note_caller(self, principal: Principal) -> None:
        """Note who asks."""
        self.facts.principal = principal
        self.notes["key_id"] = principal.key_id

    def bearer(self) -> str | None:
        """Return the client's key: of the Authorization header, else Anthropic's `x-api-key` or Azure's `api-key`."""
        given = self.headers.get(b"authorization")
        if given is None:
            token = self.headers.get(b"x-api-key") or self.headers.get(b"api-key") or b""
        else:
            scheme, _, token = given.partition(b" ")
            token = token if scheme.lower() == b"bearer" else b""
        return token.strip().decode("latin-1") or None

    async def body(self, limits: Limits) -> bytes:
        """Return the whole body.

        Raises:
            RequestError: too large (413), too slow (408), not JSON by its content type (415).
            ClientGoneError: the client went away meanwhile.
        """
        self.check_media_type()
        self.check_declared_length(limits)
        part, more = await self._next_part(limits, 0)
        if not more:
            return part  # as nearly always: nothing is put together
        parts, size = [part], len(part)
        while more:
            part, more = await self._next_part(limits, size)
            parts.append(part)
            size += len(part)
        return b"".join(parts)

    def check_media_type(self) -> None:
        """Refuse a body that is not JSON by its content type; without one it is taken for JSON.

        Raises:
            RequestError: 415.
        """
        media = self.headers.get(b"content-type", b"application/json").partition(b";")[0].strip().lower()
        if media != b"application/json" and not media.endswith(b"+json"):
            raise RequestError(
                "unsupported_media_type", "The body must be JSON, with content-type: application/json."
            )

    def check_declared_length(self, limits: Limits) -> None:
        """Refuse a body that is too large by what its head says.

        Raises:
            RequestError: 413.
        """
        declared = self.headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared[:20]) > limits.body_bytes:
            raise _too_large(limits)

    async def body_parts(self, limits: Limits) -> AsyncIterator[bytes]:
        """Yield the body as it arrives.

        Raises:
            RequestError: too large (413), too slow (408).
            ClientGoneError: the client went away meanwhile.
        """
        size = 0
        more = True
        while more:
            part, more = await self._next_part(limits, size)
            size += len(part)
            yield part

    async def _next_part(self, limits: Limits, size: int) -> tuple[bytes, bool]:
        """Return the next part of a body of which `size` bytes have come, and whether more follow."""
        message = await self._receive_within(self.started + limits.body_seconds - time.perf_counter())
        part: bytes = message.get("body", b"")
        if size + len(part) > limits.body_bytes:
            raise _too_large(limits)
        return part, bool(message.get("more_body"))

    async def _receive_within(self, seconds: float) -> Mapping[str, Any]:
        if self._server is not None and self._server.received:
            message = await self._receive()  # it is there
        else:
            began = time.perf_counter()
            try:
                async with asyncio.timeout(seconds):
                    message = await self._receive()
            except TimeoutError:
                raise RequestError("request_timeout", "The request's body did not arrive in time.") from None
            self.facts.waited += time.perf_counter() - began
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        return message

    def while_client_stays(self, after: asyncio.Event | None = None) -> AbstractAsyncContextManager[None]:
        """Cancel what is inside as soon as the client closes the connection.

        Args:
            after: set when the body has been read, if that is done inside.

        Raises:
            ClientGoneError: it did.
        """
        if self._server is not None and after is None:
            return _CancelledWhenGone(self._server)
        return self._watched(after)

    @asynccontextmanager
    async def _watched(self, after: asyncio.Event | None) -> AsyncIterator[None]:
        task = _running_task()
        watcher = asyncio.create_task(self._cancel_on_disconnect(task, after))
        try:
            yield
        except asyncio.CancelledError:
            if watcher.done() and not watcher.cancelled():
                task.uncancel()
                raise ClientGoneError from None
            raise
        finally:
            watcher.cancel()

    async def _cancel_on_disconnect(self, task: asyncio.Task[Any], after: asyncio.Event | None) -> None:
        if after is not None:
            await after.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass
        task.cancel()

    async def reply(self, status: int, body: bytes, headers: Mapping[bytes, bytes] | None = None) -> None:
        """Send a complete answer; JSON unless `headers` says otherwise."""
        given = {**_JSON, **(headers or {}), b"content-length": b"%d" % len(body)}
        if self.scope["method"] == "HEAD":
            body = b""
        if self._server is None or not self._server.answer_now(status, self._lines(given), body):
            await self.begin(status, given)
            await self._send({"type": "http.response.body", "body": body})
        else:
            self.status = status
            self.facts.begun_at = time.perf_counter()
        self.facts.ended_at = time.perf_counter()

    async def fail(self, error: NeevError) -> None:
        """Send an error in OpenAI's shape."""
        self.notes["error"] = error.code
        extra = {name.encode(): value.encode() for name, value in error.headers().items()}
        await self.reply(error.status, error.encode(), extra)

    async def begin(self, status: int, headers: Mapping[bytes, bytes]) -> None:
        """Send status and headers of an answer whose body follows by `write`."""
        self.status = status
        self.facts.begun_at = time.perf_counter()
        lines = self._lines(headers)
        await self._send({"type": "http.response.start", "status": status, "headers": lines})

    def _lines(self, headers: Mapping[bytes, bytes]) -> list[tuple[bytes, bytes]]:
        return [(b"x-request-id", self.request_id), *self.answer_headers.items(), *headers.items()]

    @property
    def write_now(self) -> Callable[[bytes], bool] | None:
        """The server's own way to take a part of the body without waiting; None if it has none.

        It returns whether the client keeps up: if not, wait with `until_writable`.
        """
        return None if self._server is None else self._server.write_now

    async def until_writable(self) -> None:
        """Wait until the client has taken what it was sent."""
        await self._send({"type": "http.response.body", "body": b"", "more_body": True})

    async def write(self, data: bytes) -> None:
        """Send a part of the body."""
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self) -> None:
        """Send the end of the body."""
        await self._send({"type": "http.response.body", "body": b""})
        self.facts.ended_at = time.perf_counter()


def _sane_id(given: bytes | None) -> bytes | None:
    """Return a client's id of its request, unless it cannot be shown everywhere: it is odd, or a key."""
    if given is None or not _SANE_ID.fullmatch(given):
        return None
    text = given.decode("ascii")
    return given if redact(text) == text else None


def _new_id() -> bytes:
    return b"req_%024x" % _IDS.getrandbits(96)


def _running_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - for the type checker: a coroutine runs in a task
    return task


class _CancelledWhenGone:
    """Cancels its task when the client leaves, without a task of its own that waits for it.

    A class, since every request passes here: two generators made into contexts took 2 % of it.
    """

    __slots__ = ("_is_gone", "_server", "_task")

    def __init__(self, server: ServerExtension) -> None:
        self._server: Final = server
        self._task: Final = _running_task()
        self._is_gone = False

    async def __aenter__(self) -> None:
        self._server.watch(self._on_gone)
        if self._task.cancelling():
            try:
                await asyncio.sleep(0)  # it has left already: nothing is begun for it
            except asyncio.CancelledError as error:
                self._leave(error)
                raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave(error)

    def _leave(self, error: BaseException | None) -> None:
        self._server.watch(None)
        if self._is_gone and isinstance(error, asyncio.CancelledError):
            self._task.uncancel()
            raise ClientGoneError from None

    def _on_gone(self) -> None:
        self._is_gone = True
        self._task.cancel()


def _too_large(limits: Limits) -> RequestError:
    return RequestError("request_too_large", f"The body is larger than {limits.body_bytes:,} bytes.")
