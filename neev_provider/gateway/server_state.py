"""The limits of the HTTP server, and what its connections share. Made by `server.py`, used by `http_protocol.py`."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from neev_provider.errors import NeevError
    from neev_provider.gateway.http_cycle import App, Cycle
    from neev_provider.gateway.http_protocol import Connection

__all__ = ["ServerOptions", "ServerState"]


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """The limits of a server.

    Attributes:
        header_bytes: the largest request line with headers.
        header_count: the most headers of a request.
        header_seconds: how long a request's head may take to arrive; the first one from the connection's start.
        keep_alive_seconds: how long a connection may wait for its next request; longer than a load balancer's 60,
            so that it is the balancer that closes.
        write_seconds: how long a client may take nothing of what it is sent.
        max_connections: of this process; two file descriptors each, the client's and upstream's.
        drain_delay: seconds between not being ready any more and not accepting any more.
        grace: seconds that running requests have to finish when the server is stopped.
        backlog: connections that may wait to be accepted.
    """

    header_bytes: int = 32_768
    header_count: int = 200
    header_seconds: float = 30.0
    keep_alive_seconds: float = 75.0
    write_seconds: float = 120.0
    max_connections: int = 4096
    drain_delay: float = 0.0
    grace: float = 30.0
    backlog: int = 2048


@dataclass(slots=True)
class ServerState:
    """What the connections of a server share.

    Attributes:
        app: the ASGI application.
        options: the limits.
        loop: the event loop.
        connections: those that are open.
        running: requests that the application works on.
        is_full: more connected than there is room for, since the last check.
        date_line: the Date header of this second.
        draining: no further requests are wanted.
        empty: set when the last connection has closed while draining.
        on_refused: told of what is refused before it reaches the application, or None.
    """

    app: App
    options: ServerOptions
    loop: asyncio.AbstractEventLoop
    connections: set[Connection] = field(default_factory=set)
    running: set[Cycle] = field(default_factory=set)
    is_full: bool = False
    date_line: bytes = b""
    draining: bool = False
    empty: asyncio.Event = field(default_factory=asyncio.Event)
    on_refused: Callable[[NeevError], None] | None = None
