"""The mock upstream: a fixed answer as fast as Python can give it, and streams at a given pace.

Its own process (`python -m benchmarks.upstream --port N --rate R`), pinned by the rig. Answers chat completions
and the model list; knows no keys, validates nothing, fails never: what is measured is what stands in front of it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import Final, cast

import uvloop

from benchmarks.http import body_of, message_end
from benchmarks.workload import CHAT_ANSWER, MODEL, STREAM_END, STREAM_EVENTS, STREAM_ROLE, STREAM_USAGE

__all__ = ["MockUpstream", "main"]


def _answer(status: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _framed(event: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(event), event)


_CHAT: Final = _answer("200 OK", CHAT_ANSWER)
_MODELS: Final = _answer(
    "200 OK",
    json.dumps({"object": "list", "data": [{"id": MODEL, "object": "model", "owned_by": "bench"}]}).encode(),
)
_NOT_FOUND: Final = _answer(
    "404 Not Found", b'{"error":{"message":"not found","type":"invalid_request_error"}}'
)
_STREAM_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
_EVENTS: Final = tuple(_framed(event) for event in STREAM_EVENTS)
_FINISH, _DONE = (_framed(event) for event in STREAM_END)
_ROLE, _USAGE = _framed(STREAM_ROLE), _framed(STREAM_USAGE)
_LAST_CHUNK: Final = b"0\r\n\r\n"


class MockUpstream(asyncio.Protocol):
    """One connection.

    Args:
        rate: chunks per second of a stream.
    """

    transport: asyncio.Transport

    def __init__(self, rate: float) -> None:
        self._interval: Final = 1 / rate
        self._loop: Final = asyncio.get_running_loop()
        self._pending = b""
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the interface's
        """Stop the stream that nobody reads any more."""
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Answer a request once it is complete."""
        if self._pending:
            data = self._pending + data
        end = message_end(data)
        if end is None:
            self._pending = data
            return
        self._pending = b""
        if not data.startswith(b"POST"):
            self.transport.write(_MODELS if b"/models" in data[: data.find(b"\r\n")] else _NOT_FOUND)
        elif b'"stream":true' in data or b'"stream": true' in data:
            self._start_stream(body_of(data))
        else:
            self.transport.write(_CHAT)

    def _start_stream(self, body: bytes) -> None:
        request = json.loads(body)
        self._chunks = int(request.get("max_tokens") or request.get("max_completion_tokens") or 1)
        self._with_usage = bool((request.get("stream_options") or {}).get("include_usage"))
        self._sent = 0
        self.transport.write(_STREAM_HEAD + _ROLE)
        self._due = self._loop.time()
        self._schedule()

    def _schedule(self) -> None:
        # By the clock, not by pauses: a late chunk does not delay the ones after it.
        self._due += self._interval
        self._timer = self._loop.call_at(self._due, self._tick)

    def _tick(self) -> None:
        self.transport.write(_EVENTS[self._sent % len(_EVENTS)])
        self._sent += 1
        if self._sent < self._chunks:
            self._schedule()
            return
        self._timer = None
        self.transport.write(_FINISH + (_USAGE if self._with_usage else b"") + _DONE + _LAST_CHUNK)


async def _serve(port: int, rate: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: MockUpstream(rate), "127.0.0.1", port, backlog=1024)
    async with server:
        await server.serve_forever()


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.upstream", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--rate", type=float, default=100.0, help="chunks per second of a stream")
    options = parser.parse_args()
    uvloop.run(_serve(options.port, options.rate))


if __name__ == "__main__":
    main()
