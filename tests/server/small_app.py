"""A small ASGI application on the gateway's server, as a process of its own: `small_app.py PORT OPTIONS-AS-JSON`."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import sys
import time
from pathlib import Path
from urllib.parse import parse_qs

import uvloop

from neev_provider.errors import UpstreamError
from neev_provider.gateway.http_protocol import Connection
from neev_provider.gateway.server import Readiness, ServerOptions, listen, serve


class SmallApp:
    def __init__(self) -> None:
        self.readiness = Readiness()
        self.journal: list[str] = []
        self.flooded = 0

    async def __call__(self, scope, receive, send) -> None:
        self.scope, self.receive, self.send = scope, receive, send
        name = scope["path"].strip("/").partition("/")[0] or "echo"
        if name not in {"journal", "state"}:
            self.journal.append(f"{scope['method']} {scope['path']}")
        query = {key: values[0] for key, values in parse_qs(scope["query_string"].decode()).items()}
        await getattr(self, name, self.echo)(scope, receive, send, **query)

    async def body(self, receive) -> bytes:
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise asyncio.CancelledError
            body += message["body"]
            if not message["more_body"]:
                return body

    async def reply(self, send, body: bytes, status: int = 200, *headers: tuple[bytes, bytes]) -> None:
        headers = ((b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *headers)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def echo(self, scope, receive, send, **_) -> None:
        seen = {
            "method": scope["method"],
            "path": scope["path"],
            "raw_path": scope["raw_path"].decode(),
            "query": scope["query_string"].decode(),
            "version": scope["http_version"],
            "headers": [
                [name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]
            ],
            "body": (await self.body(receive)).decode("latin-1"),
        }
        await self.reply(send, json.dumps(seen).encode())

    async def state(self, scope, receive, send) -> None:
        """What this process says of itself."""
        state = {
            "ready": self.readiness.is_ready(),
            "journal": self.journal,
            "flooded": self.flooded,
            "resident": resident(),
            "cpu": time.process_time(),
            "files": resource.getrlimit(resource.RLIMIT_NOFILE),
        }
        await self.reply(send, json.dumps(state).encode())

    async def connections(self, scope, receive, send) -> None:
        """How many there are in memory; from the first call on nobody looks for circles."""
        gc.disable()
        found = sum(isinstance(each, Connection) for each in gc.get_objects())
        await self.reply(send, json.dumps(found).encode())

    async def reject(self, scope, receive, send) -> None:
        """Answer without having read the body."""
        await self.reply(send, b"{}", 401)

    async def stream(self, scope, receive, send, parts="3", size="5", **_) -> None:
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"content-type", b"text/event-stream")],
            }
        )
        for number in range(int(parts)):
            await send(
                {"type": "http.response.body", "body": b"%d" % (number % 10) * int(size), "more_body": True}
            )
        await send({"type": "http.response.body", "body": b""})

    async def hold(self, scope, receive, send, until="", begun="", **_) -> None:
        """Answer once the file `until` exists; with `begun`, after a first part of the answer."""
        if begun:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        while not until or not os.path.exists(until):  # noqa: ASYNC240 - quick
            await asyncio.sleep(0.01)
        if not begun:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})

    async def flood(self, scope, receive, send, **_) -> None:
        """Send without end until the client leaves."""
        await self.body(receive)
        left = asyncio.ensure_future(receive())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while not left.done():
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
            self.flooded += 65536
            await asyncio.sleep(0)
        self.journal.append(left.result()["type"])

    async def leave(self, scope, receive, send, **_) -> None:
        """Wait until the client leaves."""
        await self.body(receive)
        self.journal.append((await receive())["type"])

    async def headers_then_wait(self, scope, receive, send, **_) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-early", b"1")]})
        await self.leave(scope, receive, send)

    async def fail(self, scope, receive, send, begun="", how="", **_) -> None:
        if begun:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        if how == "neev":
            raise UpstreamError("upstream_error", "It broke.")
        if how == "returns":
            return
        if how == "long":
            await self.send(
                {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]}
            )
            await self.send({"type": "http.response.body", "body": b"too long"})
        if how == "header":
            await self.send({"type": "http.response.start", "status": 200, "headers": [(b"x", b"a\r\ny: b")]})
        raise ValueError("secret detail")


def resident() -> int:
    """Bytes of memory in use."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if "VmRSS" in line)
    return int(line.split()[1]) * 1024


def main() -> None:
    port, given = int(sys.argv[1]), json.loads(sys.argv[2])
    app = SmallApp()
    options = ServerOptions(**given)
    uvloop.run(
        serve(
            app,
            listen("127.0.0.1", port, options.backlog),
            options,
            readiness=app.readiness,
            on_drain=lambda: app.journal.append("drain"),
        )
    )


if __name__ == "__main__":
    main()
