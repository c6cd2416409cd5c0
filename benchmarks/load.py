"""The load generator: a closed loop of requests, or parallel streams, on kept-alive connections.

Its own process (`python -m benchmarks.load`, plan as JSON on stdin, result as JSON on stdout), pinned by the rig.
Plain sockets and epoll: an event loop's bookkeeping would cost more than the requests. Every answer is compared
with the workload's.
"""

from __future__ import annotations

import itertools
import select
import socket
import sys
import time
from typing import Final

import msgspec

from benchmarks.http import body_of, message_end, request_bytes
from benchmarks.workload import CHAT_TEXT, MODEL, PATH, chat_body, stream_body, stream_text, text_of_events

__all__ = ["LoadPlan", "LoadResult", "main", "percentile_ms", "run"]

DRAIN_SECONDS: Final = 15.0  # after the end, for answers under way
_STALL_SECONDS: Final = 30.0  # a stream that says nothing for so long has failed
_ERROR_CHARACTERS: Final = 160
_READ_BYTES: Final = 262_144
_CHAT_TEXT: Final = CHAT_TEXT.encode()


class LoadPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What to do.

    Attributes:
        port: where, on 127.0.0.1.
        headers: sent with every request.
        connections: how many, each with one request at a time.
        seconds: how long a closed loop runs; not used by streams.
        chunks: of each stream; 0 for a closed loop of non-streamed requests.
        stagger: seconds between the starts of two streams, so that their chunks do not come in step; epoll counts
            whole milliseconds.
        prompt_bytes: the least that a prompt has.
        model: to ask for.
        tokens: keys that the requests take turns with, in place of the one in `headers`.
    """

    port: int
    connections: int
    headers: dict[str, str] = {}
    seconds: float = 0.0
    chunks: int = 0
    stagger: float = 0.001
    prompt_bytes: int = 0
    model: str = MODEL
    tokens: list[str] = []


class LoadResult(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it.

    Attributes:
        answered: good answers, those that came while draining included: what the contestant worked for.
        per_second: good answers per second, without draining.
        errors: failed or wrong answers, by what was wrong.
        p50_ms: median time to the complete answer; of streams, to the first event.
        p99_ms: 99th percentile of the same.
        seconds: from the first request to the last answer.
    """

    answered: int
    per_second: float
    errors: dict[str, int]
    p50_ms: float
    p99_ms: float
    seconds: float


def percentile_ms(nanoseconds: list[int], share: float) -> float:
    """Return a percentile (nearest rank) in milliseconds; NaN becomes 0 for an empty list, JSON has no NaN."""
    if not nanoseconds:
        return 0.0
    ranked = sorted(nanoseconds)
    return ranked[min(len(ranked) - 1, int(share * len(ranked)))] / 1e6


def run(plan: LoadPlan) -> LoadResult:
    """Run the plan; bounded in time whatever the contestant does."""
    return _Streams(plan).run() if plan.chunks else _ClosedLoop(plan).run()


class _Client:
    """What both modes share: connections, errors, times."""

    def __init__(self, plan: LoadPlan, body: bytes) -> None:
        self.plan: Final = plan
        keys = [{"authorization": f"Bearer {token}"} for token in plan.tokens] or [{}]
        requests = [request_bytes(plan.port, PATH, {**plan.headers, **key}, body) for key in keys]
        self.requests: Final = itertools.cycle(requests)
        self.epoll: Final = select.epoll()
        self.sockets: Final[dict[int, socket.socket]] = {}
        self.started: Final[dict[int, int]] = {}
        self.times: Final[list[int]] = []
        self.errors: Final[dict[str, int]] = {}
        self.answered = 0

    def connect(self) -> int:
        connection = socket.create_connection(("127.0.0.1", self.plan.port), timeout=10)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        number = connection.fileno()
        self.sockets[number] = connection
        self.epoll.register(number, select.EPOLLIN)
        return number

    def send(self, number: int) -> None:
        self.started[number] = time.perf_counter_ns()
        # The last answer has been read, so it is taken at once, or the connection is dead.
        self.sockets[number].sendall(next(self.requests))

    def close(self, number: int) -> None:
        self.epoll.unregister(number)
        self.sockets.pop(number).close()
        self.started.pop(number, None)

    def fail(self, what: str) -> None:
        self.errors[what] = self.errors.get(what, 0) + 1

    def result(self, *, per_second: float, seconds: float) -> LoadResult:
        for number in list(self.sockets):
            self.close(number)
        self.epoll.close()
        return LoadResult(
            answered=self.answered,
            per_second=per_second,
            errors=self.errors,
            p50_ms=percentile_ms(self.times, 0.50),
            p99_ms=percentile_ms(self.times, 0.99),
            seconds=seconds,
        )


class _ClosedLoop(_Client):
    """Each connection sends its next request when it has its answer."""

    def __init__(self, plan: LoadPlan) -> None:
        super().__init__(plan, chat_body(plan.prompt_bytes, plan.model))
        self._partial: Final[dict[int, bytes]] = {}

    def run(self) -> LoadResult:
        numbers = [self.connect() for _ in range(self.plan.connections)]
        began = time.perf_counter_ns()
        deadline = began + int(self.plan.seconds * 1e9)
        for number in numbers:
            self.send(number)
        self._until(deadline, send_next=True)
        per_second = self.answered / ((time.perf_counter_ns() - began) / 1e9)
        self._until(time.perf_counter_ns() + int(DRAIN_SECONDS * 1e9), send_next=False)
        if self.started:
            self.fail("no answer")
        return self.result(per_second=per_second, seconds=(time.perf_counter_ns() - began) / 1e9)

    def _until(self, deadline: int, *, send_next: bool) -> None:
        now = time.perf_counter_ns()
        while now < deadline and self.started:
            for number, _ in self.epoll.poll((deadline - now) / 1e9 + 0.001):
                try:
                    if not self._read(number):
                        continue
                    if send_next:
                        self.send(number)
                except (OSError, EOFError) as error:
                    self._lost(number, error, reconnect=send_next)
            now = time.perf_counter_ns()

    def _read(self, number: int) -> bool:
        """Read what there is; return whether the answer is complete."""
        data = self.sockets[number].recv(_READ_BYTES, socket.MSG_DONTWAIT)
        if not data:
            raise EOFError
        if number in self._partial:
            data = self._partial.pop(number) + data
        if message_end(data) is None:
            self._partial[number] = data
            return False
        elapsed = time.perf_counter_ns() - self.started.pop(number)
        if _CHAT_TEXT in data and data.startswith(b"HTTP/1.1 200"):
            self.answered += 1
            self.times.append(elapsed)
        else:
            self.fail(_describe(data))
        return True

    def _lost(self, number: int, error: Exception, *, reconnect: bool) -> None:
        if number in self.started:  # while draining, idle connections may be closed
            self.fail("connection closed" if isinstance(error, EOFError) else type(error).__name__)
        self._partial.pop(number, None)
        self.close(number)
        if reconnect:
            self.send(self.connect())


class _Streams(_Client):
    """One stream per connection; done when every stream has ended."""

    def __init__(self, plan: LoadPlan) -> None:
        super().__init__(plan, stream_body(plan.chunks, plan.prompt_bytes, plan.model))
        self._expected: Final = stream_text(plan.chunks)
        self._received: Final[dict[int, bytearray]] = {}

    def run(self) -> LoadResult:
        numbers = [self.connect() for _ in range(self.plan.connections)]
        began = time.perf_counter_ns()
        for number in numbers:
            self._received[number] = bytearray()
            self.send(number)
            pause_ends = time.perf_counter() + self.plan.stagger
            while (left := pause_ends - time.perf_counter()) > 0:
                self._poll(left)
        while self._received:
            if not self._poll(_STALL_SECONDS):
                self.errors["stalled"] = len(self._received)
                break
        seconds = (time.perf_counter_ns() - began) / 1e9
        return self.result(per_second=self.answered / seconds, seconds=seconds)

    def _poll(self, seconds: float) -> bool:
        ready = self.epoll.poll(seconds)
        for number, _ in ready:
            self._read(number)
        return bool(ready)

    def _read(self, number: int) -> None:
        received = self._received[number]
        try:
            data = self.sockets[number].recv(_READ_BYTES, socket.MSG_DONTWAIT)
        except OSError as error:
            data = b""
            self.fail(type(error).__name__)
        if b"data:" in data and number in self.started:
            self.times.append(time.perf_counter_ns() - self.started.pop(number))
        received += data
        # The end of a chunked body. In the middle of one it would be part of an event, and events are JSON.
        if not data or received.endswith(b"0\r\n\r\n"):
            self._finish(number, bytes(received))

    def _finish(self, number: int, message: bytes) -> None:
        del self._received[number]
        self.close(number)
        if not message.startswith(b"HTTP/1.1 200"):
            self.fail(_describe(message))
            return
        try:
            text, done = text_of_events(body_of(message))
        except ValueError:
            self.fail("broken event")
            return
        if not done:
            self.fail("cut stream")
        elif text != self._expected:
            self.fail("wrong text")
        else:
            self.answered += 1


def _describe(message: bytes) -> str:
    """Say what was answered instead: the status, and how the body begins."""
    status = message.partition(b"\r\n")[0].decode("latin-1")
    body = " ".join(body_of(message)[:_ERROR_CHARACTERS].decode(errors="replace").split())
    return f"{status} {body}".strip() or "closed without an answer"


def main() -> None:
    """Read the plan from stdin, run it, write the result to stdout."""
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=LoadPlan)
    sys.stdout.buffer.write(msgspec.json.encode(run(plan)))


if __name__ == "__main__":
    main()
