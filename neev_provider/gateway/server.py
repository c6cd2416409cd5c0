"""The HTTP server of one gateway process: accepts, keeps time, drains.

`serve` runs until SIGTERM or SIGINT. Then readiness fails; after `drain_delay`, in which load balancers notice, no
connection is accepted any more, idle ones are closed, and running requests have `grace` seconds to finish, their
answers saying `connection: close`. What still runs is cut. A second signal cuts at once. In either case `serve`
returns, so that the process ends with exit code 0. Called by `worker.py`; the connections are `http_protocol.py`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import resource
import signal
import socket
from email.utils import formatdate
from typing import TYPE_CHECKING, Final

from neev_provider.gateway.http_protocol import REFUSED_AT_ONCE, Connection
from neev_provider.gateway.server_state import ServerOptions, ServerState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from neev_provider.errors import NeevError
    from neev_provider.gateway.http_cycle import App

__all__ = ["Readiness", "ServerOptions", "listen", "raise_file_limit", "serve"]

_log = logging.getLogger(__name__)

_BACKLOG: Final = ServerOptions().backlog
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_CHECK_SECONDS: Final = 1.0  # between two looks at the time limits, at most
_CHECKS_PER_LIMIT: Final = 4
_CUT_SECONDS: Final = 1.0  # that cut requests have to put things in order
_OTHER_FILES: Final = 128 + REFUSED_AT_ONCE  # the store, logs, modules; connections that are only refused
_FILES_PER_CONNECTION: Final = 2  # the client's and upstream's


class Readiness:
    """Whether requests should be sent here: from the start of accepting until the first signal."""

    def __init__(self) -> None:
        self._is_ready = False

    def is_ready(self) -> bool:
        """Return whether requests should be sent here."""
        return self._is_ready

    def set(self, *, ready: bool) -> None:
        """Change it; `serve` does."""
        self._is_ready = ready


def listen(host: str, port: int, backlog: int = _BACKLOG) -> socket.socket:
    """Return a listening socket that other processes may share the port of.

    Raises:
        OSError: the address cannot be bound.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named so that accepted sockets have it too: asyncio switches Nagle off for TCP only.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, port))
        listener.listen(backlog)
    except OSError:
        listener.close()
        raise
    return listener


def raise_file_limit() -> int:
    """Raise the process's soft limit of open files to the hard one; return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


async def serve(
    app: App,
    listener: socket.socket,
    options: ServerOptions,
    *,
    readiness: Readiness | None = None,
    on_ready: Callable[[], None] | None = None,
    on_drain: Callable[[], None] | None = None,
    on_refused: Callable[[NeevError], None] | None = None,
) -> None:
    """Serve until a signal; must run in the main thread.

    Args:
        app: an ASGI application.
        listener: of `listen`; closed at the end.
        options: the limits.
        readiness: set while requests should be sent here.
        on_ready: called once connections are accepted and signals are obeyed.
        on_drain: called with the first signal.
        on_refused: told of requests that do not reach the application.
    """
    readiness = readiness or Readiness()
    limits = _fitting(options, raise_file_limit())
    state = ServerState(app, limits, asyncio.get_running_loop(), on_refused=on_refused)
    with _signals(state.loop) as (first, second):
        server = await state.loop.create_server(
            lambda: Connection(state), sock=listener, backlog=options.backlog
        )
        checks = asyncio.create_task(_keep_time(state))
        try:
            readiness.set(ready=True)
            if on_ready is not None:
                on_ready()
            await first.wait()
            readiness.set(ready=False)
            if on_drain is not None:
                on_drain()
            await _wait(second, options.drain_delay)
            await _close(server)
            await _drain(state, second)
        finally:
            readiness.set(ready=False)
            checks.cancel()
            server.close()
            await _cut(state)


def _fitting(options: ServerOptions, files: int) -> ServerOptions:
    """Return the options with as many connections as the process may open files for."""
    possible = max(1, (files - _OTHER_FILES) // _FILES_PER_CONNECTION)
    if options.max_connections <= possible:
        return options
    _log.warning(
        "%d open files are too few for %d connections: %d are served",
        files,
        options.max_connections,
        possible,
    )
    return dataclasses.replace(options, max_connections=possible)


@contextlib.contextmanager
def _signals(loop: asyncio.AbstractEventLoop) -> Iterator[tuple[asyncio.Event, asyncio.Event]]:
    """Yield two events, set by the first and the second signal to end."""
    first, second = asyncio.Event(), asyncio.Event()

    def received() -> None:
        (second if first.is_set() else first).set()

    for number in _SIGNALS:
        loop.add_signal_handler(number, received)
    # They stay as long as the loop: one more signal must not end the process while it writes what calls did cost.
    yield first, second


async def _close(server: asyncio.Server) -> None:
    """Accept no more connections, but those that wait in the system's queue: closing it would reset them."""
    await asyncio.sleep(0)
    server.close()
    await asyncio.sleep(0)


async def _keep_time(state: ServerState) -> None:
    """Hold the connections to their time limits, and the clock that answers show."""
    options = state.options
    limits = (options.header_seconds, options.keep_alive_seconds, options.write_seconds)
    pause = min(_CHECK_SECONDS, min(limits) / _CHECKS_PER_LIMIT)
    while True:
        state.date_line = f"date: {formatdate(usegmt=True)}\r\n".encode()
        now = state.loop.time()
        for connection in tuple(state.connections):
            try:
                connection.check(now)
                if state.is_full:
                    connection.make_room(now)
            except Exception:  # noqa: BLE001 - logged; the others' limits must hold
                _log.exception("a connection's time limits could not be checked")
        state.is_full = False
        await asyncio.sleep(pause)


async def _drain(state: ServerState, second: asyncio.Event) -> None:
    """Wait until the running requests are done, the grace is over or a second signal comes."""
    state.draining = True
    for connection in tuple(state.connections):
        connection.drain()
    if state.connections:
        empty, hurried = (asyncio.ensure_future(event.wait()) for event in (state.empty, second))
        await asyncio.wait((empty, hurried), timeout=state.options.grace, return_when=asyncio.FIRST_COMPLETED)
        empty.cancel()
        hurried.cancel()


async def _cut(state: ServerState) -> None:
    """End what still runs, and every connection."""
    tasks = [cycle.task for cycle in state.running if cycle.task is not None]
    if tasks:
        _log.warning("%d running requests are cut", len(tasks))
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=_CUT_SECONDS)
    for connection in tuple(state.connections):
        connection.end()
    await asyncio.sleep(0)  # in which they notice


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
