"""One request and its answer on a connection: the application's `receive` and `send`.

Responsible for the body's hand-over, the answer's framing and what the application did wrong; knows nothing of
parsing, pipelining and time. Called by `http_protocol.py`. An answer's head is held back until the
body's first part or the loop's next round, so that a short answer is one write: each is a system call.
"""

from __future__ import annotations

import asyncio
import http
import logging
import secrets
from typing import TYPE_CHECKING, Any, Final

from neev_provider.errors import NeevError, ServerError
from neev_provider.gateway.exchange import EXTENSION

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from neev_provider.gateway.http_protocol import Connection

    Message = Mapping[str, Any]
    App = Callable[
        [Mapping[str, Any], Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
        Awaitable[None],
    ]

__all__ = ["Cycle", "refusal"]

_log = logging.getLogger(__name__)

BODY_HIGH_WATER: Final = 65_536  # bytes of a body that wait for the application before reading pauses

_STATUS_LINES: Final = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n".encode() for s in http.HTTPStatus}
_BODILESS: Final = frozenset({204, 304})
_DISCONNECT: Final[Message] = {"type": "http.disconnect"}


def refusal(error: NeevError, date_line: bytes) -> bytes:
    """Return the whole answer to a request that does not reach the application; the connection closes after it."""
    body = error.encode()
    headers: list[tuple[bytes, bytes]] = [
        (b"x-request-id", b"req_" + secrets.token_hex(12).encode()),
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        *((name.encode(), value.encode()) for name, value in error.headers().items()),
    ]
    lines = [b"%b: %b\r\n" % header for header in headers]
    return b"".join([_STATUS_LINES[error.status], date_line, *lines, b"connection: close\r\n\r\n", body])


class Cycle:
    """A request that the application answers.

    Attributes:
        keep_alive: whether another request may follow on the connection.
        gone: nobody takes the answer any more.
        received: the whole request has arrived.
        answered: the whole answer was given.
    """

    __slots__ = (
        "_body",
        "_buffered",
        "_chunked",
        "_connection",
        "_expects_continue",
        "_flush",
        "_handed_over",
        "_head",
        "_on_gone",
        "_remaining",
        "_scope",
        "_started",
        "_waiter",
        "answered",
        "gone",
        "keep_alive",
        "received",
        "task",
    )

    def __init__(
        self, connection: Connection, scope: dict[str, Any], *, keep_alive: bool, expects_continue: bool
    ) -> None:
        self._connection: Final = connection
        self._scope: Final = scope
        self._expects_continue = expects_continue
        self.keep_alive = keep_alive
        self.gone = False
        self.received = False
        self.answered = False
        self.task: asyncio.Task[None] | None = None
        self._on_gone: Callable[[], None] | None = None
        self._body: list[bytes] = []
        self._buffered = 0
        self._handed_over = False
        self._waiter: asyncio.Future[None] | None = None
        self._started = False
        self._head = b""
        self._flush: asyncio.Handle | None = None
        self._chunked = False
        self._remaining: int | None = None

    async def run(self, app: App) -> None:
        """Call the application; whatever it does, the connection is left in order."""
        self._scope["extensions"] = {EXTENSION: self}
        try:
            await app(self._scope, self.receive, self.send)
            if not self.answered and not self.gone:
                raise RuntimeError("The application returned before its answer was complete.")  # noqa: TRY301
        except asyncio.CancelledError:
            stopping = ServerError("server_overloaded", "This server is stopping. Try again.", retry_after=1)
            self._give_up(stopping)
        except NeevError as error:
            # The application breaks off a begun answer: nothing else tells the client that it is not whole.
            _log.debug("an answer was broken off: %s", error.code)
            self._give_up(error)
        except Exception:  # noqa: BLE001 - the last line of defence: logged, and told without a detail
            if self.gone or self.answered:
                _log.exception("the application failed after the answer")
            else:
                _log.exception("the application failed")
            self._give_up(
                ServerError("internal_error", "Something went wrong here. Please tell the operator.")
            )
        finally:
            # Circles that only the garbage collector would open.
            del self._scope["extensions"]
            self._cancel_flush()
            self._connection.on_over(self)

    def _give_up(self, error: NeevError) -> None:
        """Answer with an error if nothing is out yet, else break off."""
        if self.gone or self.answered:
            return
        self._cancel_flush()
        is_begun = self.is_begun
        self.cut()
        if is_begun:
            self._connection.break_off(hard=not self._chunked and self._remaining is None)
        else:
            self._connection.refuse_now(error)

    # The request

    def feed(self, part: bytes) -> bool:
        """Take a part of the body; return whether enough waits, so that reading should pause."""
        if self.gone or self.answered:
            return False
        self._body.append(part)
        self._buffered += len(part)
        self.wake()
        return self._buffered > BODY_HIGH_WATER

    def watch(self, on_gone: Callable[[], None] | None) -> None:
        """Call this as soon as nobody takes the answer any more; None to call nothing. Part of the extension."""
        self._on_gone = on_gone
        if on_gone is not None and self.gone:
            on_gone()
        elif on_gone is not None:
            self._connection.resume_reading()  # else the end of the connection would not be seen

    def cut(self) -> None:
        """Nobody takes the answer any more: what is sent is dropped, and the application told so."""
        self.gone = True
        if self._on_gone is not None:
            self._on_gone()
        self.wake()

    def wake(self) -> None:
        """Let a waiting `receive` look again."""
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    @property
    def is_begun(self) -> bool:
        """Whether a part of the answer is out."""
        return self._started and not self._head

    async def receive(self) -> Message:
        """Return the next part of the body, then, once it is so, that the exchange is over."""
        while not self.gone and not self.answered:
            if self._body or (self.received and not self._handed_over):
                return self._hand_over()
            if self._expects_continue:
                self._expects_continue = False
                if not self._started:
                    self._connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._connection.resume_reading()
            self._waiter = self._connection.state.loop.create_future()
            await self._waiter
        return _DISCONNECT

    def _hand_over(self) -> Message:
        parts = self._body
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        self._body = []
        self._buffered = 0
        self._expects_continue = False  # it did not wait
        self._handed_over = self.received
        return {"type": "http.request", "body": body, "more_body": not self.received}

    # The answer

    async def send(self, message: Message) -> None:
        """Send a part of the answer; waits while the client does not take what it was sent.

        Raises:
            RuntimeError: the application broke the protocol's rules.
        """
        connection = self._connection
        if connection.writable is not None and not self.gone:
            await connection.writable.wait()
        if self.gone:
            return
        kind = message["type"]
        if self._chunked and not self._head and kind == "http.response.body" and message.get("more_body"):
            # A stream's chunk, the hot path.
            body = message["body"]
            if body:
                connection.write(b"%x\r\n%b\r\n" % (len(body), body))
        elif kind == "http.response.body" and self._started and not self.answered:
            self._send_body(message.get("body", b""), more=message.get("more_body", False))
        elif kind == "http.response.start" and not self._started:
            self._begin(message["status"], message.get("headers", ()))
            self._flush = connection.state.loop.call_soon(self._flush_head)
        else:
            raise RuntimeError(f"{kind} is not possible at this point of an answer.")

    def answer_now(self, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> bool:
        """Give the whole answer without waiting; return False, and do nothing, while the client does not keep up.

        Part of the extension: most answers are short and whole.
        """
        if self._connection.writable is not None or self._started:
            return False
        if not self.gone:
            self._begin(status, headers)
            self._send_body(body, more=False)
        return True

    def write_now(self, body: bytes) -> bool:
        """Send a part of the body without waiting; return whether the client keeps up.

        Part of the extension: a stream's chunk is passed on in the call that brought it.
        """
        connection = self._connection
        if self.gone:
            return True
        if self._chunked and not self._head:
            connection.write(b"%x\r\n%b\r\n" % (len(body), body))
        else:
            self._send_body(body, more=True)
        return connection.writable is None

    def _begin(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        connection = self._connection
        # What of the request is still to come nobody would read.
        keep_alive = self.keep_alive and self.received
        chunked = self._scope["http_version"] == "1.1"
        lines = 2
        parts = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status, connection.state.date_line]
        for given, value in headers:
            name = given.lower()
            if name == b"content-length":
                self._remaining = int(value)
                chunked = False
            elif name == b"connection":
                keep_alive = keep_alive and b"close" not in value.lower()
                continue
            elif name == b"transfer-encoding":
                continue  # framing is decided here
            parts += (name, b": ", value, b"\r\n")
            lines += 1
        if status in _BODILESS or self._scope["method"] == "HEAD":
            self._remaining = 0
            chunked = False
        elif chunked:
            parts.append(b"transfer-encoding: chunked\r\n")
            lines += 1
        elif self._remaining is None:
            keep_alive = False  # the end of the connection is the end of the body
        if not keep_alive:
            parts.append(b"connection: close\r\n")
            lines += 1
        head = b"".join(parts)
        if head.count(b"\n") != lines or head.count(b"\r") != lines or b"\0" in head:
            raise RuntimeError("A header of the answer holds a line break or NUL.")
        self.keep_alive = keep_alive
        self._chunked = chunked
        self._head = head + b"\r\n"
        self._started = True

    def _cancel_flush(self) -> None:
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None

    def _flush_head(self) -> None:
        if self._head and not self.gone:
            head, self._head = self._head, b""
            self._connection.write(head)

    def _send_body(self, body: bytes, *, more: bool) -> None:
        if self._chunked:
            data = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            if not more:
                data += b"0\r\n\r\n"
        elif self._remaining is None:
            data = body
        elif self._scope["method"] == "HEAD":
            data = b""
        else:
            data = body
            self._remaining -= len(body)
            if self._remaining < 0 or (self._remaining and not more):
                raise RuntimeError("The answer's body is not as long as its content-length.")
        if self._head:
            data = self._head + data
            self._head = b""
        if data:
            self._connection.write(data)
        if not more:
            self._complete()

    def _complete(self) -> None:
        self._cancel_flush()
        self.answered = True
        self._chunked = False
        self._body = []
        self.wake()
        self._connection.on_answered(self)
