"""Servers that attacks are pointed at: one that nobody should ever call, and an upstream that repeats all it is told."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.proxy.serving import free_port


@dataclass
class Trap:
    """A socket that is listened on; whoever connects has been led astray."""

    port: int
    callers: list[bytes] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextlib.contextmanager
def trap() -> Iterator[Trap]:
    with socket.create_server(("127.0.0.1", free_port())) as listener:
        set_up = Trap(listener.getsockname()[1])

        def listen() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.settimeout(2)
                    with contextlib.suppress(OSError):
                        set_up.callers.append(connection.recv(1000))

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        try:
            yield set_up
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(5)


class _Parrot(BaseHTTPRequestHandler):
    """Answers as the prompt says, and repeats the request's headers, the key among them, wherever it can."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._send(200, "application/json", b'{"object":"list","data":[]}')

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.seen.append(dict(self.headers))
        given = self.headers["authorization"]
        said = re.search(rb"parrot: (\S+)", body)
        way = said[1].decode() if said else "ok"
        error = {
            "message": f"Not {given} {given.removeprefix('Bearer ')}",
            "param": given,
            "code": given,
            "type": given,
        }
        told = json.dumps({"error": error, "detail": given, "headers": dict(self.headers)}).encode()
        if way.isdigit():
            self._send(int(way), "application/json", told)
        elif way == "text":
            self._send(400, "text/plain", given.encode())
        elif way == "html":
            self._send(502, "text/html", b"<html>" + given.encode())
        elif way == "200-error":
            self._send(200, "application/json", told)
        elif way == "stream-error":
            self._send(200, "text/event-stream", b"data: " + told + b"\n\n")
        elif way == "stream-broken":
            chunk = {"id": "1", "object": "chat.completion.chunk", "model": "m", "choices": []}
            text = (
                b"data: "
                + json.dumps(chunk).encode()
                + b"\n\nevent: error\ndata: "
                + given.encode()
                + b"\n\n"
            )
            self._send(200, "text/event-stream", text)
        else:
            message = {"role": "assistant", "content": "ok"}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
            answer = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
            self._send(200, "application/json", json.dumps({**answer, "usage": usage}).encode())

    def _send(self, status: int, media: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", media)
        self.send_header("content-length", str(len(body)))
        self.send_header("x-echo", self.headers.get("authorization", ""))
        self.send_header("set-cookie", f"key={self.headers.get('authorization', '')}")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_) -> None:
        pass


class Parrot(ThreadingHTTPServer):
    """The upstream that repeats what it is told.

    Attributes:
        seen: the headers of all calls.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", free_port()), _Parrot)
        self.seen: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


@contextlib.contextmanager
def parrot() -> Iterator[Parrot]:
    with Parrot() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join(5)
