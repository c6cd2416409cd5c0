"""An upstream that plays what a test writes, byte for byte, and sees what the client does to its sockets."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from dataclasses import dataclass, field

import pytest

from neev_provider.upstream import Deployment, Timeouts, Upstream

KEY = "sk-nc-0123456789abcdef"


@dataclass
class Exchange:
    """One request, and the socket to answer it on."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int
    _reader: asyncio.StreamReader
    _writer: asyncio.StreamWriter
    closed_by_server: bool = False

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def gone(self) -> None:
        """Wait until the client has closed the connection."""
        try:
            while await self._reader.read(65536):
                pass
        except ConnectionError:
            pass

    def close(self) -> None:
        self.closed_by_server = True
        self._writer.close()

    def reset(self) -> None:
        """Close with a TCP reset."""
        raw = self._writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()


@dataclass
class ScriptedUpstream:
    """Answers each request with the next of its answers, the last one again and again."""

    address: str = ""
    requests: list[Exchange] = field(default_factory=list)
    connections: int = 0
    open_connections: int = 0
    reads_bodies: bool = True
    greeting: bytes = b""
    faults: list[BaseException] = field(default_factory=list)
    _answers: list = field(default_factory=list)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    def play(self, *answers) -> None:
        """Set the answers: bytes to send, or coroutine functions that are given the `Exchange`."""
        self._answers = list(answers)

    @property
    def base_url(self) -> str:
        return self.address + "/v1"

    def deployment(self, **fields) -> Deployment:
        return Deployment(**{"name": "test", "base_url": self.base_url, "api_key": KEY, **fields})

    async def until(self, condition, seconds=1.0) -> None:
        """Wait until `condition()` holds; it is looked at whenever a connection comes or goes."""
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(condition)

    async def all_closed(self, seconds=1.0) -> None:
        await self.until(lambda: self.open_connections == 0, seconds)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open_connections += 1
        number = self.connections
        try:
            await self._serve(number, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        except Exception as error:
            self.faults.append(error)
        finally:
            writer.close()
            self.open_connections -= 1
            async with self._changed:
                self._changed.notify_all()

    async def _serve(self, number, reader, writer) -> None:
        if self.greeting:
            writer.write(self.greeting)
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            method, path, _ = head[0].split(" ")
            headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in head[1:] if line)}
            body = await reader.readexactly(int(headers.get("content-length", 0)) if self.reads_bodies else 0)
            exchange = Exchange(method, path, headers, body, number, reader, writer)
            self.requests.append(exchange)
            async with self._changed:
                self._changed.notify_all()
            answer = self._answers[min(len(self.requests), len(self._answers)) - 1]
            if isinstance(answer, bytes):
                await exchange.send(answer)
            else:
                await answer(exchange)
            if exchange.closed_by_server:
                return


class Play:
    """Makes answers."""

    COMPLETION = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }
    EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null}]}\n\n'
    DONE = b"data: [DONE]\n\n"

    @staticmethod
    def http(status=200, body=b"", content_type="application/json", **headers) -> bytes:
        """A whole answer with a length."""
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        lines = [f"HTTP/1.1 {status} X", f"content-length: {len(body)}"]
        if content_type:
            lines.append(f"content-type: {content_type}")
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, "", ""]).encode() + body

    @staticmethod
    def head(content_type="text/event-stream", **headers) -> bytes:
        """The beginning of a chunked answer."""
        lines = ["HTTP/1.1 200 OK", "transfer-encoding: chunked"]
        if content_type:
            lines.append(f"content-type: {content_type}")
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, "", ""]).encode()

    @staticmethod
    def chunks(*parts: bytes, end=True) -> bytes:
        framed = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
        return framed + (b"0\r\n\r\n" if end else b"")

    @classmethod
    def stream(cls, *events: bytes) -> bytes:
        return cls.head() + cls.chunks(*events)

    @classmethod
    def completion(cls) -> bytes:
        return cls.http(200, cls.COMPLETION)

    @staticmethod
    def error(status, message="no", *, code=None, param=None, **headers) -> bytes:
        body = {"error": {"message": message, "type": "x", "param": param, "code": code}}
        return Play.http(status, body, **headers)


@pytest.fixture
def play() -> type[Play]:
    return Play


@pytest.fixture
async def server():
    scripted = ScriptedUpstream()
    listener = await asyncio.start_server(scripted.serve, "127.0.0.1", 0)
    scripted.address = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    yield scripted
    listener.close()
    await scripted.all_closed()
    await listener.wait_closed()
    assert scripted.faults == []


class FakeTime:
    """A clock that moves only when somebody sleeps."""

    def __init__(self):
        self.now = 1000.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def fake_time() -> FakeTime:
    return FakeTime()


@pytest.fixture
async def make_upstream(fake_time):
    """Make clients that do not really wait between attempts, and close them in the end."""
    made: list[Upstream] = []

    def make(**options) -> Upstream:
        options = {"clock": fake_time.clock, "sleep": fake_time.sleep, "jitter": lambda: 1.0, **options}
        made.append(Upstream(**options))
        return made[-1]

    yield make
    for upstream in made:
        await upstream.close()


@pytest.fixture
def upstream(make_upstream) -> Upstream:
    return make_upstream()


@pytest.fixture
def fast() -> Timeouts:
    """Time limits that a test can wait for."""
    return Timeouts(connect=0.1, idle=0.1, total=0.5)
