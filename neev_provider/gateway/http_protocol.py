"""One connection of the gateway's HTTP server: requests answered in their order, held to the limits.

On asyncio's protocol. uvicorn's own has no seams for the limits: nearly all of its methods would be overridden.
Responsible for what concerns several requests of a connection: pipelining, flow control, time limits, refusals,
closing. Reading requests is `http_reader.py`'s; one request and its answer are `http_cycle.py`'s. Called by the event
loop; made by `server.py`, which calls `check` about once a second: a deadline is a number, not a timer.
"""

from __future__ import annotations

import asyncio
import logging
import math
import socket
import struct
from collections import deque
from typing import TYPE_CHECKING, Any, Final, cast

from typing_extensions import override

from neev_provider.errors import NeevError, RequestError, ServerError
from neev_provider.gateway.http_cycle import Cycle, refusal
from neev_provider.gateway.http_reader import RequestReader

if TYPE_CHECKING:
    from neev_provider.gateway.server_state import ServerState

__all__ = ["REFUSED_AT_ONCE", "Connection"]

_log = logging.getLogger(__name__)

_LINGER_SECONDS: Final = 1.0  # without a byte
_LINGER_LONGEST: Final = 10.0  # seconds in all
_IDLE_SECONDS: Final = 1.0  # after which an idle connection may be closed in favour of others
_LINGER_BYTES: Final = (
    64_000_000  # several times the largest body: most clients send all of it before they read
)
_MAX_PIPELINED: Final = 64  # requests that wait on one connection
REFUSED_AT_ONCE: Final = 256  # connections over the limit that are told so; more are closed without a word
_NEVER: Final = math.inf
_RESET: Final = struct.pack("ii", 1, 0)  # close by a reset


class Connection(asyncio.Protocol):
    """A client's connection.

    Attributes:
        state: what it shares with the others.
        writable: while the client does not take what it was sent, set once it does; None while it does.
    """

    def __init__(self, state: ServerState) -> None:
        self.state: Final = state
        self.writable: asyncio.Event | None = None
        self._options: Final = state.options
        self._is_surplus = False
        # The requests
        self._receiving: Cycle | None = None  # the last one, whose body may still come
        self._answering: Cycle | None = None
        self._waiting: deque[Cycle | NeevError] = deque()
        # The connection
        self._is_reading = True
        self._is_deaf = False  # what comes is thrown away
        self._lingering = False
        self._linger_until = 0.0
        self._discarded = 0
        self._written = 0
        self._taken = 0
        self._stuck_since = 0.0
        self._deadline = _NEVER

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        state = self.state
        self._client = _address(transport.get_extra_info("peername"))
        server = _address(transport.get_extra_info("sockname"))
        self._reader = RequestReader(self, self._options, self._client, server)
        self._deadline = state.loop.time() + self._options.header_seconds
        state.connections.add(self)
        surplus = len(state.connections) - self._options.max_connections
        if surplus > REFUSED_AT_ONCE:
            self._transport.abort()
        if surplus > 0:
            self._is_surplus = state.is_full = True

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        state = self.state
        state.connections.discard(self)
        if state.draining and not state.connections:
            state.empty.set()
        self._cut()
        self.resume_writing()
        self._reader.close()
        # What holds this object: a circle would stay until it is looked for.
        del self._reader
        self._receiving = None

    @override
    def eof_received(self) -> None:
        """The client has left; one that only closes its own side is not told apart, as in nginx."""
        self._cut()

    def _cut(self) -> None:
        self._is_deaf = True
        for cycle in (self._answering, *self._waiting):
            if isinstance(cycle, Cycle):
                cycle.cut()
        self._waiting.clear()

    # Reading

    @override
    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            self._discard(len(data))
            return
        fault = self._reader.feed(data)
        if fault is None:
            return
        last = self._receiving
        if fault.code == "invalid_http" and last is not None and last.received and not last.keep_alive:
            self._is_deaf = True  # what follows a request that said `connection: close` is nobody's
        else:
            self._refuse(fault)

    def on_head(self) -> None:
        """Begin a head; called by the reader, as are the next three."""
        if self._receiving is not None:  # the first head's time runs from the connection's start
            self._deadline = self.state.loop.time() + self._options.header_seconds

    def on_request(
        self, scope: dict[str, Any], *, keep_alive: bool, expects_continue: bool
    ) -> NeevError | None:
        """Take a request: its turn comes after those before it."""
        if self._is_surplus:
            return ServerError(
                "server_overloaded", "There are too many connections here. Try again later.", retry_after=1
            )
        if len(self._waiting) >= _MAX_PIPELINED:
            return RequestError("invalid_http", f"More than {_MAX_PIPELINED} requests were sent ahead.")
        keep_alive = keep_alive and not self.state.draining
        cycle = Cycle(self, scope, keep_alive=keep_alive, expects_continue=expects_continue)
        self._receiving = cycle
        self._deadline = _NEVER
        if self._answering is None:
            self._start(cycle)
        else:
            self._waiting.append(cycle)
            self._pause_reading()
        return None

    def on_body(self, part: bytes) -> None:
        """Take a part of a body."""
        if self._receiving is not None and self._receiving.feed(part):
            self._pause_reading()

    def on_end(self) -> None:
        """Note that all of a request has come."""
        if self._receiving is not None:
            self._receiving.received = True
            self._receiving.wake()

    def _pause_reading(self) -> None:
        if self._is_reading:
            self._is_reading = False
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on, if only to notice that the client leaves; not what is refused already, before its turn."""
        if not self._is_reading and (self._lingering or not self._is_deaf):
            self._is_reading = True
            self._transport.resume_reading()

    # Answering

    def _start(self, cycle: Cycle) -> None:
        self._answering = cycle
        state = self.state
        state.running.add(cycle)
        cycle.task = state.loop.create_task(cycle.run(state.app))

    def write(self, data: bytes) -> None:
        """Send bytes, now or as soon as the client takes them."""
        if not self._transport.is_closing():
            self._written += len(data)
            self._transport.write(data)

    def on_answered(self, cycle: Cycle) -> None:
        """Go on after a complete answer: with the next request, waiting for it, or closing."""
        self._answering = None
        if not cycle.keep_alive:
            self._close_after_answer(linger=not cycle.received)
        elif self._waiting:
            self._next()
        else:
            self.resume_reading()
            options = self._options
            seconds = options.header_seconds if self._reader.in_head else options.keep_alive_seconds
            self._deadline = self.state.loop.time() + seconds

    def on_over(self, cycle: Cycle) -> None:
        """Forget an exchange that the application is done with, whether it was answered or left."""
        self.state.running.discard(cycle)
        if cycle is self._answering and cycle.gone:
            self._answering = None

    def _next(self) -> None:
        following = self._waiting.popleft()
        if isinstance(following, NeevError):
            self.refuse_now(following)
        else:
            self._start(following)

    def _refuse(self, error: NeevError) -> None:
        """Answer what does not reach the application, when its turn comes, and read no further request."""
        _log.debug("refused %s: %s", self._client, error.message)
        self._is_deaf = True
        current = self._answering
        if current is None:
            self._tell_refused(error)
            self.refuse_now(error)
        elif self._receiving is current and not current.received:
            # It is the running request that is at fault, in its body.
            begun = current.is_begun
            current.cut()
            if begun:
                self.break_off()
            else:
                self.refuse_now(error)
        else:
            self._tell_refused(error)
            last = self._receiving
            if self._waiting and self._waiting[-1] is last and last is not None and not last.received:
                self._waiting.pop()  # the same of one that waits
            self._waiting.append(error)
            self._pause_reading()

    def _tell_refused(self, error: NeevError) -> None:
        if self.state.on_refused is not None:
            self.state.on_refused(error)

    def refuse_now(self, error: NeevError) -> None:
        """Answer with an error and close."""
        self._answering = None
        if not self._transport.is_closing():
            self.write(refusal(error, self.state.date_line))
            self._close_after_answer(linger=True)

    def break_off(self, *, hard: bool = False) -> None:
        """End the connection in the middle of an answer, so that the client knows that it is not whole.

        Args:
            hard: the answer's end is the connection's, so that an orderly one would look like success.
        """
        self._is_deaf = True
        if hard:
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._transport.abort()
        else:
            self._transport.close()

    def _close_after_answer(self, *, linger: bool) -> None:
        """Close; lingering, only our side, until the client is done or has been silent for a second.

        A socket that is closed with unread data resets the connection, and the client loses the answer.
        """
        self._is_deaf = True
        self._waiting.clear()
        if not linger:
            self._transport.close()
        elif not self._transport.is_closing():
            self._lingering = True
            now = self.state.loop.time()
            self._deadline, self._linger_until = now + _LINGER_SECONDS, now + _LINGER_LONGEST
            self._transport.write_eof()
            self.resume_reading()

    def _discard(self, size: int) -> None:
        self._discarded += size
        if not self._lingering:
            return
        if self._discarded > _LINGER_BYTES:
            self._transport.close()
        else:
            self._deadline = min(self._linger_until, self.state.loop.time() + _LINGER_SECONDS)

    # Flow control and time

    @override
    def pause_writing(self) -> None:
        if self.writable is None:
            self.writable = asyncio.Event()

    @override
    def resume_writing(self) -> None:
        if self.writable is not None:
            self.writable.set()
            self.writable = None

    def check(self, now: float) -> None:
        """Enforce the time limits; `now` is the loop's time."""
        unsent = self._transport.get_write_buffer_size()
        taken = self._written - unsent
        if not unsent or taken != self._taken:
            self._taken = taken
            self._stuck_since = now
        elif now - self._stuck_since > self._options.write_seconds:
            _log.debug("%s takes nothing of its answer", self._client)
            self._transport.abort()
            return
        if now > self._deadline and self._answering is None:
            self._deadline = _NEVER
            if self._reader.in_head and not self._is_deaf:
                self._refuse(RequestError("request_timeout", "The request's headers did not arrive in time."))
            else:
                self._transport.close()

    def make_room(self, now: float) -> None:
        """Close if idle, and not just now: others cannot connect."""
        idle_since = self._deadline - self._options.keep_alive_seconds
        if self._is_idle and now - idle_since > _IDLE_SECONDS:
            self._transport.close()

    @property
    def _is_idle(self) -> bool:
        """Whether it has served requests and waits for the next."""
        is_free = self._answering is None and not self._is_deaf
        return is_free and self._receiving is not None and not self._reader.in_head

    def drain(self) -> None:
        """Take no further request: close at once if idle, else after the running answer."""
        if self._receiving is None:
            # Just opened: its request is probably on its way.
            self._deadline = min(self._deadline, self.state.loop.time() + _LINGER_SECONDS)
        elif self._is_idle:
            self._transport.close()
        else:
            last = self._waiting[-1] if self._waiting else self._answering
            if isinstance(last, Cycle):
                last.keep_alive = False

    def end(self) -> None:
        """Close at once."""
        self._transport.abort()


def _address(given: Any) -> tuple[str, int] | None:
    """Return host and port of a socket's name; None for a Unix socket's."""
    return (given[0], given[1]) if isinstance(given, tuple) else None
