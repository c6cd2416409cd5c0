"""Raw HTTP over a socket: what is sent is exactly what a test says, what comes back is taken apart strictly."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Self

from tests.proxy.serving import ROOT, free_port


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    complete: bool = True

    @property
    def error(self) -> tuple[int, str]:
        """Status and code of an error in our shape."""
        error = json.loads(self.body)["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["message"]
        assert self.headers["x-request-id"].startswith("req_")
        assert self.headers["content-type"] == "application/json"
        return self.status, error["code"]

    def json(self):
        return json.loads(self.body)


class Wire:
    """A client's connection."""

    def __init__(self, port: int, timeout: float = 20) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout)
        self.buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self.socket.close()

    def send(self, data: bytes) -> Wire:
        self.socket.sendall(data)
        return self

    def more(self) -> bool:
        """Read what is there; False at the end."""
        try:
            data = self.socket.recv(262_144)
        except ConnectionResetError:
            data = b""
        self.buffer += data
        return bool(data)

    def until(self, mark: bytes) -> bytes | None:
        while mark not in self.buffer:
            if not self.more():
                return None
        found, _, self.buffer = self.buffer.partition(mark)
        return found

    def exactly(self, size: int) -> bytes | None:
        while len(self.buffer) < size:
            if not self.more():
                return None
        found, self.buffer = self.buffer[:size], self.buffer[size:]
        return found

    def answer(self, *, head: bool = False) -> Answer:
        """Read one answer; `head` = to HEAD."""
        start = self.until(b"\r\n\r\n")
        assert start is not None, f"the connection ended instead of an answer: {self.buffer!r}"
        line, *fields = start.decode("latin-1").split("\r\n")
        version, status, _ = line.split(" ", 2)
        assert version == "HTTP/1.1"
        headers = {name: value for name, _, value in (field.partition(": ") for field in fields)}
        assert len(headers) == len(fields), "a repeated header"
        if status == "100":
            return Answer(100, headers, b"")
        body: bytes | None = b""
        if head or status in {"204", "304"}:
            pass
        elif "content-length" in headers:
            body = self.exactly(int(headers["content-length"]))
        elif headers.get("transfer-encoding") == "chunked":
            body, complete = self.chunks()
            return Answer(int(status), headers, body, complete)
        else:
            assert headers["connection"] == "close"
            while self.more():
                pass
            body, self.buffer = self.buffer, b""
        return Answer(int(status), headers, body or b"", body is not None)

    def chunks(self) -> tuple[bytes, bool]:
        body = b""
        while (line := self.until(b"\r\n")) is not None:
            size = int(line, 16)
            part = self.exactly(size + 2)
            if part is None:
                return body, False
            assert part.endswith(b"\r\n")
            body += part[:-2]
            if size == 0:
                return body, True
        return body, False

    def ends(self) -> bool:
        """Wait for the end of the connection; True if nothing more came before it."""
        return not self.buffer and not self.more()


@dataclass
class Small:
    """The small application's process."""

    process: subprocess.Popen[str]
    port: int
    wires: list[Wire] = field(default_factory=list)

    def wire(self, timeout: float = 20) -> Wire:
        """Connect; the end of the process closes what the test leaves open."""
        self.wires.append(Wire(self.port, timeout))
        return self.wires[-1]

    def ask(self, request: bytes) -> Answer:
        with self.wire() as wire:
            return wire.send(request).answer()

    def state(self) -> dict:
        return self.ask(get("/state")).json()

    def calls(self, path: str) -> int:
        """How often the application was called for a path."""
        return sum(entry.endswith(f" {path}") for entry in self.state()["journal"])

    def until(self, condition) -> dict:
        """Wait until the process's state fulfils a condition; return it."""
        return eventually(lambda: state if condition(state := self.state()) else None)

    def is_accepting(self) -> bool:
        with contextlib.suppress(ConnectionRefusedError, ConnectionResetError):
            self.wire().socket.close()
            return True
        return False


def eventually(look):
    """Return what `look` returns as soon as that is true."""
    deadline = time.monotonic() + 20
    while not (found := look()):
        assert time.monotonic() < deadline, "this did not happen within 20 s"
        time.sleep(0.01)
    return found


def get(path: str, *headers: str, version: str = "1.1", method: str = "GET") -> bytes:
    return request(method, path, *headers, version=version)


def post(path: str, body: bytes, *headers: str) -> bytes:
    return request("POST", path, f"Content-Length: {len(body)}", *headers) + body


def request(method: str, path: str, *headers: str, version: str = "1.1") -> bytes:
    lines = [f"{method} {path} HTTP/{version}", "Host: here", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1")


@contextlib.contextmanager
def small(files: int | None = None, **options) -> Iterator[Small]:
    """Run the small application; `files` = its hard limit of open files, of which the soft one is half."""
    port = free_port()
    limit = [] if files is None else ["prlimit", f"--nofile={files // 2}:{files}"]
    process = subprocess.Popen(
        [*limit, sys.executable, "-m", "tests.server.small_app", str(port), json.dumps(options)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    running = Small(process, port)
    try:
        eventually(lambda: process.poll() is not None or running.is_accepting())
        assert process.poll() is None, process.stderr.read()
        running.ask(get("/state"))
        yield running
    finally:
        process.kill()  # how it ends by itself is `test_drain.py`'s
        process.communicate()
        for wire in running.wires:
            wire.socket.close()
