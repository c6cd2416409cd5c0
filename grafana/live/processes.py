"""Starts a process, waits until it is ready, and ends it whatever happens. Called by `product.py` and `watch.py`."""

from __future__ import annotations

import contextlib
import random
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

__all__ = ["free_port", "running"]

_STOP_SECONDS: Final = 40.0
_START_SECONDS: Final = 120.0
_OK: Final = 200


def free_port() -> int:
    """Return a free port below the range that the kernel gives to outgoing connections."""
    while True:
        port = random.randrange(10_000, 20_000)  # noqa: S311 - nothing secret about it
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


@contextlib.contextmanager
def running(
    command: Sequence[str],
    *,
    ready: str,
    log: Path,
    folder: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command until the block is left.

    Args:
        command: program and words.
        ready: URL that answers 200 when it is ready.
        log: where all that it writes goes.
        folder: where it runs.
        environ: its environment; None: ours.

    Raises:
        RuntimeError: it ended, or was not ready in time; with what it wrote.
    """
    with log.open("wb") as file:
        process = subprocess.Popen(  # noqa: S603 - commands of this folder
            command, cwd=folder, env=environ, stdout=file, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not _answers(ready):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} is not ready:\n{log.read_text(errors='replace')[-4000:]}")
            time.sleep(0.1)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:  # noqa: S310 - a URL of ours
            return bool(response.status == _OK)
    except (OSError, urllib.error.URLError):
        return False
