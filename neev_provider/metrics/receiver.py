"""Takes what other processes have counted, over a socket in the file system that only this user can open.

Each update counts once, however often it is sent. Run by the process that exposes the sums.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import socket
import stat
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, Self

from neev_provider.errors import ConfigError
from neev_provider.metrics.messages import Hello, Update, frame, read_frame

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from neev_provider.metrics.sums import Sums

__all__ = ["Receiver"]

_log: Final = logging.getLogger(__name__)

_MOST_CONNECTIONS: Final = 256
_MOST_INSTANCES: Final = 4096  # whose last number is remembered
_MAX_PATH: Final = 100  # the kernel takes 107 bytes
_HELLO_SECONDS: Final = 5.0
_PROCESS: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")


class Receiver:
    """The socket and who is connected to it. Use as an asynchronous context manager.

    Args:
        path: of the socket.
        sums: that what is received is added to.

    Attributes:
        connected: names of the processes that are.
        ever: names of those that have been.
    """

    def __init__(self, path: Path, sums: Sums) -> None:
        self.connected: Final[set[str]] = set()
        self.ever: Final[set[str]] = set()
        self._path: Final = path
        self._sums: Final = sums
        self._numbers: Final[OrderedDict[str, int]] = OrderedDict()  # instance to its last update
        self._tasks: Final[set[asyncio.Task[None]]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._serve, sock=_listen(self._path))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - for the type checker: a coroutine runs in a task
        self._tasks.add(task)
        try:
            with contextlib.suppress(OSError, EOFError, asyncio.CancelledError):
                await self._receive(reader, writer)
        except ValueError as error:
            _log.warning("what came over the metrics socket cannot be read: %s", error)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _receive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Add what one process sends, until it ends.

        Raises:
            ValueError: it sends something else.
            EOFError: it ended.
            OSError: it broke off.
        """
        async with asyncio.timeout(_HELLO_SECONDS):
            hello = await read_frame(reader, Hello)
        if not _PROCESS.fullmatch(hello.process):
            raise ValueError("no name of a process")
        if len(self.connected) >= _MOST_CONNECTIONS:
            raise ValueError("too many processes")
        name = self._free_name(hello.process)
        self.connected.add(name)
        self.ever.add(name)
        try:
            while True:
                update = await read_frame(reader, Update)
                self._take(name, hello.instance, update)
                writer.write(frame(update.number))
                await writer.drain()
        finally:
            self.connected.discard(name)
            self._sums.drop(name)

    def _take(self, name: str, instance: str, update: Update) -> None:
        if update.number > self._numbers.get(instance, 0):
            self._sums.add(name, update.delta)
            self._numbers[instance] = update.number
            self._numbers.move_to_end(instance)
            if len(self._numbers) > _MOST_INSTANCES:
                self._numbers.popitem(last=False)
        if update.gauges is not None:
            self._sums.show(name, update.gauges)

    def _free_name(self, wanted: str) -> str:
        """Return the name, with a number if another process of that name is connected."""
        name, number = wanted, 1
        while name in self.connected:
            number += 1
            name = f"{wanted}-{number}"
        return name


def _listen(path: Path) -> socket.socket:
    """Return the listening socket; only this user may connect.

    Raises:
        ConfigError: the path cannot be used, or another process listens there.
    """
    remedy = "Set neev.metrics.socket to another path, or use another --state."
    if len(os.fsencode(path)) > _MAX_PATH:
        raise ConfigError("neev.metrics.socket", str(path), "is too long for a socket", remedy)
    listener = socket.socket(socket.AF_UNIX)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _remove_stale(path)
        mask = os.umask(0o177)  # before anybody can connect, not after
        try:
            listener.bind(str(path))
        finally:
            os.umask(mask)
        listener.listen()
    except OSError as error:
        listener.close()
        raise ConfigError(
            "neev.metrics.socket", str(path), f"cannot be used ({error.strerror or error})", remedy
        ) from None
    return listener


def _remove_stale(path: Path) -> None:
    """Remove a socket that nobody listens at any more.

    Raises:
        OSError: somebody does, or it is no socket.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(0, "it is a file of another kind")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise FileExistsError(0, f"another process has it: {error}") from None
        else:
            raise FileExistsError(0, "another process listens there")
