"""A server that copies bytes between two sockets and knows nothing of HTTP: what the kernel and an event loop cost.

No gateway on this event loop can cost less for a chunk, so it stands in the table as a contestant of its own. Its own
process (`python -m benchmarks.bare_copy --port N --upstream http://127.0.0.1:M`), pinned by the rig.
"""

from __future__ import annotations

import argparse
import asyncio
from typing import Final, cast
from urllib.parse import urlsplit

import uvloop

__all__ = ["main"]


class _End(asyncio.Protocol):
    """One of the two connections."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._other: _End | None = None
        self._early: list[bytes] = []  # what came before the other was there

    def join(self, other: _End) -> None:
        """Send what comes to the other."""
        self._other = other
        for data in self._early:
            other.write(data)
        self._early.clear()

    def write(self, data: bytes) -> None:
        """Send it on."""
        if self._transport is not None:
            self._transport.write(data)

    def close(self) -> None:
        """Close this connection."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Copy."""
        if self._other is None:
            self._early.append(data)
        else:
            self._other.write(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the interface's
        """Close the other one too."""
        if self._other is not None:
            self._other.close()


class _Client(_End):
    """A client's connection; makes the one to upstream."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__()
        self._address: Final = host, port

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connect to upstream."""
        super().connection_made(transport)
        self._connecting = asyncio.create_task(self._connect())

    async def _connect(self) -> None:
        _, upstream = await asyncio.get_running_loop().create_connection(_End, *self._address)
        upstream.join(self)
        self.join(upstream)


async def _serve(host: str, port: int, upstream: str) -> None:
    to = urlsplit(upstream)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: _Client(to.hostname or "", to.port or 80), host, port, backlog=1024
    )
    async with server:
        await server.serve_forever()


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bare_copy", description=__doc__)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upstream", required=True)
    options = parser.parse_args()
    uvloop.run(_serve(options.host, options.port, options.upstream))


if __name__ == "__main__":
    main()
