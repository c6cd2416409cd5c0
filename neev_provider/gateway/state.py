"""The state directory's lock. Called by `serve.py` and the commands."""

from __future__ import annotations

import contextlib
import fcntl
import time
from typing import TYPE_CHECKING, Final

from neev_provider.errors import ConfigError
from neev_provider.gateway.run_files import write_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["only_one"]

_PAUSE: Final = 0.05  # seconds


@contextlib.contextmanager
def only_one(state: Path, *, seconds: float = 2.0) -> Iterator[int]:
    """Hold the state directory's lock, and yield its descriptor: two stores on the same files would ruin them.

    A store whose `serve` was killed ends by itself, and is waited for.

    Args:
        state: the directory.
        seconds: how long to wait.

    Raises:
        ConfigError: another one has it.
    """
    file = write_file(state / "run" / "lock", "")
    ends = time.monotonic() + seconds
    with file.open("w") as lock:
        while not _locked(lock.fileno()):
            if time.monotonic() > ends:
                raise ConfigError(
                    "--state",
                    str(state),
                    "is in use by another neev-gateway",
                    "Stop that one, or use another --state.",
                )
            time.sleep(_PAUSE)
        yield lock.fileno()


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
