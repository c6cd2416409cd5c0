"""uvicorn around the emulator: sockets, signals, and connections that can be dropped half-way.

Called by `command.py` and `testing.py`. The only module that knows uvicorn.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import signal
import socket
import struct
from typing import TYPE_CHECKING, Any, Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from neev_provider.emulator.exchange import DROP_EXTENSION
from neev_provider.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from neev_provider.emulator.app import EmulatorApp

__all__ = ["EmulatorServer", "address", "listen", "run_on_fast_loop"]

_BACKLOG: Final = 2048
_GRACE_SECONDS: Final = 0.3  # between the stop and the end of answers that are still being sent
_BACKSTOP_SECONDS: Final = 5  # uvicorn's own patience, after which it complains in its log
_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 s: close() sends RST


def _quiet_logger() -> logging.Logger:
    logger = logging.getLogger("neev_provider.emulator.connections")
    logger.disabled = True
    return logger


class _DroppableProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 connection, lent to the application so that it can break it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Broken connections are wanted here, and uvicorn's own logger belongs to the process around us.
        self.logger = _quiet_logger()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # Head and body go out in two writes; without this, the second may wait 40 ms for an acknowledgement.
        connection = transport.get_extra_info("socket")
        if connection is not None and connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {DROP_EXTENSION: self.drop}  # type: ignore[dict-item]

    def drop(self, reset: bool) -> None:
        """Close the connection: at once and by RST, or after what was written."""
        if not reset:
            self.transport.close()
            return
        connection = self.transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.on_started: Callable[[], None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.on_started is not None:
            self.on_started()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn raises the signal anew after a clean stop, so that the exit code tells of a failure.
        yield


class EmulatorServer:
    """One emulator, served on a socket.

    Attributes:
        root_url: its address without `/v1`, as `http://127.0.0.1:4010`.
    """

    def __init__(self, app: EmulatorApp, listener: socket.socket) -> None:
        self._app = app
        self._listener = listener
        self.root_url = address(listener)
        self._server = _Server(
            uvicorn.Config(
                _asgi(app),
                http=_DroppableProtocol,
                ws="none",
                lifespan="off",  # the engine is started before the socket answers
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=_BACKSTOP_SECONDS,
                timeout_keep_alive=75,
            )
        )

    async def run(self, ready: Callable[[], None], *, handle_signals: bool = False) -> None:
        """Start the engine, serve until `stop`, then close everything.

        Args:
            ready: called once requests are answered.
            handle_signals: stop on SIGTERM and SIGINT.

        Raises:
            ConfigError: the engine cannot start.
        """
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGTERM, signal.SIGINT) if handle_signals else ()
        for number in numbers:
            loop.add_signal_handler(number, self.stop)
        try:
            await self._app.engine.start()
            self._server.on_started = ready
            await self._server.serve(sockets=[self._listener])
        finally:
            self._listener.close()
            await self._app.engine.close()
            for number in numbers:
                loop.remove_signal_handler(number)

    def stop(self) -> None:
        """Stop serving; call it on the server's own loop."""
        self._server.should_exit = True
        asyncio.get_running_loop().call_later(_GRACE_SECONDS, self._end_open_answers)

    def _end_open_answers(self) -> None:
        for task in self._server.server_state.tasks:
            task.cancel()


def _asgi(app: EmulatorApp) -> Any:
    """Return the app as a plain function: uvicorn would take a callable object for an older ASGI version."""

    async def call(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)

    return call


def run_on_fast_loop(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine on uvloop, or where there is none (Windows) on asyncio's own loop."""
    try:
        import uvloop  # noqa: PLC0415
    except ImportError:
        asyncio.run(coroutine)
    else:
        uvloop.run(coroutine)


def listen(host: str, port: int) -> socket.socket:
    """Bind a listening socket.

    Args:
        host: address or name.
        port: 0 for any free one.

    Raises:
        ConfigError: the address cannot be used.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        reason = "is in use" if error.errno == errno.EADDRINUSE else (error.strerror or str(error))
        raise ConfigError(
            "emulator", f"{host}:{port}", reason, "Choose another --port (0 is any free one) or --host."
        ) from None


def address(listener: socket.socket) -> str:
    """Return the URL at which a listening socket can be reached from this machine."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
