"""What a gateway process writes: one line a request and the log of everything else, for a person or a machine.

Request lines never hold content. They are collected for a twentieth of a second, so that a busy gateway spends one
system call on a dozen of them. Called by `worker.py` (set up) and `app.py` (request lines).
"""

from __future__ import annotations

import asyncio
import logging
import os
import select
import sys
import time
from collections import deque
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import msgspec
from typing_extensions import override

from neev_provider.admission.ledger_file import keep_ledger
from neev_provider.errors import NeevError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["AccessLog", "Output", "set_up_logging"]

_log: Final = logging.getLogger(__name__)

_FLUSH_SECONDS: Final = 0.05
_RETRY_SECONDS: Final = 0.2
_MOST_WAITING: Final = 1_000_000  # bytes of lines that nobody reads


class AccessLog:
    """Writes request lines.

    Args:
        write: puts bytes out, all of them.
        as_json: a line is a JSON object; else made to be read.
    """

    def __init__(self, write: Callable[[bytes], object], *, as_json: bool) -> None:
        self._write: Final = write
        self._format: Final[Callable[[dict[str, Any]], str]] = _as_json if as_json else _for_a_person
        self._lines: Final[list[dict[str, Any]]] = []
        self._timer: asyncio.TimerHandle | None = None

    def write(self, line: dict[str, Any]) -> None:
        """Take one line; it is out a moment later."""
        line["time"] = time.time()
        self._lines.append(line)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_FLUSH_SECONDS, self.flush)

    def flush(self) -> None:
        """Write what was taken."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines = [self._format(line).encode() for line in self._lines]
        self._lines.clear()
        for block in _blocks(lines):
            self._write(block)


class Output:
    """Where lines go. Its reader may stall (a paused terminal, a slow collector), which must hold up no request.

    Lines that find no room wait, up to a bound; more are lost, which is told once there is room again.

    Args:
        descriptor: of a file, pipe or terminal. Its mode stays as it is, for other processes share it.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor: Final = descriptor
        self._poll: Final = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        self._waiting: Final[deque[bytes]] = deque()
        self._size = 0
        self._lost = 0
        self._timer: asyncio.TimerHandle | None = None

    def __call__(self, block: bytes) -> None:
        """Write some lines, now or as soon as there is room."""
        self._waiting.append(block)
        self._size += len(block)
        self._drain()
        while self._size > _MOST_WAITING:
            lost = self._waiting.popleft()
            self._size -= len(lost)
            self._lost += lost.count(b"\n")

    def _drain(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        # A pipe that polls as writable takes PIPE_BUF bytes at once (pipe(7)).
        while self._waiting and self._poll.poll(0):
            block = self._waiting.popleft()
            self._size -= len(block)
            try:
                rest = block[os.write(self._descriptor, block[: select.PIPE_BUF]) :]
            except OSError:  # nobody reads any more
                continue
            if rest:
                self._waiting.appendleft(rest)
                self._size += len(rest)
        if self._waiting:
            self._timer = asyncio.get_running_loop().call_later(_RETRY_SECONDS, self._drain)
        elif self._lost:
            _log.warning("%d request lines were lost: nobody read what was written", self._lost)
            self._lost = 0


def set_up_logging(level: str, *, as_json: bool, ledger: Path | None = None) -> AccessLog | None:
    """Send Python's logging to stderr and return the log for request lines on stdout; None if the level is above.

    Args:
        level: "debug", "info", "warning" or "error".
        as_json: lines for a machine.
        ledger: file for what calls did cost and the store never learned; None leaves it in the log.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if as_json else logging.Formatter("%(levelname)s %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    # Breaking a connection off is how a client learns that an answer is not whole: meant, and in the request's line.
    logging.getLogger("uvicorn.error").addFilter(_is_not_meant)
    if ledger is not None:
        keep_ledger(ledger)
    shows_requests = logging.getLogger().isEnabledFor(logging.INFO)
    return AccessLog(Output(sys.stdout.fileno()), as_json=as_json) if shows_requests else None


def _blocks(lines: list[bytes]) -> Iterator[bytes]:
    """Put lines together as far as the kernel writes them undivided: workers share a pipe."""
    block: list[bytes] = []
    size = 0
    for line in lines:
        if block and size + len(line) > select.PIPE_BUF:
            yield b"".join(block)
            block.clear()
            size = 0
        block.append(line)
        size += len(line)
    if block:
        yield b"".join(block)


def _is_not_meant(record: logging.LogRecord) -> bool:
    return record.exc_info is None or not isinstance(record.exc_info[1], NeevError)


class _JsonFormatter(logging.Formatter):
    @override
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _timestamp(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


def _as_json(line: dict[str, Any]) -> str:
    line["time"] = _timestamp(line["time"])
    return msgspec.json.encode(line).decode() + "\n"


def _for_a_person(line: dict[str, Any]) -> str:
    words = [
        time.strftime("%H:%M:%S", time.localtime(line["time"])),
        str(line["status"]),
        line["method"],
        _printable(line["path"]),
        f"{line['ms']:.0f} ms" if line["ms"] >= 10 else f"{line['ms']:.1f} ms",  # noqa: PLR2004 - digits that matter
    ]
    if "model" in line:
        words.append(_printable(line["model"]))
    if "prompt_tokens" in line:
        about = "~" if line.get("estimated") else ""
        words.append(f"{about}{line['prompt_tokens']}+{line['completion_tokens']} tokens")
    if line.get("cost_nanos") is not None:
        words.append("${}.{:09d}".format(*divmod(line["cost_nanos"], 10**9)))
    if "error" in line:
        words.append(line["error"])
    words += [f"key={line['key_id']}"] if "key_id" in line else []
    words += [f"via={line['via']}"] if "via" in line else []
    return " ".join([*words, line["request_id"]]) + "\n"


def _printable(text: str) -> str:
    """Return a client's text without what would move the cursor or forge a line."""
    return text if text.isprintable() else text.encode("unicode_escape").decode()


def _timestamp(seconds: float) -> str:
    whole = int(seconds)
    return f"{_second(whole)}.{int((seconds - whole) * 1000):03d}Z"


@lru_cache(maxsize=4)  # a busy gateway writes thousands of lines in one second
def _second(whole: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))
