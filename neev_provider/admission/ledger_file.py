"""What calls did cost and the store never learned, in a file: one bare JSON line each, whatever form the log has.

A line is what `admission.settling.replay` reads. The file is made when the first line is written, for its owner
alone; it is only ever appended to, so a restarted process goes on with it. A line that the file does not take goes to
stderr. The lines come from `settling.py` through the logger `neev_provider.ledger`. Set up by both doors.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from typing import TYPE_CHECKING, Final

from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["LedgerFile", "keep_ledger"]

_log = logging.getLogger(__name__)

_SYNC_SECONDS: Final = 0.05  # between two looks at the disk: 100,000 lines at once must not take minutes


def keep_ledger(path: Path) -> Callable[[], None]:
    """Have what the store does not take written to a file; return what ends that."""
    handler = LedgerFile(path)
    lines = logging.getLogger("neev_provider.ledger")
    lines.addHandler(handler)
    lines.propagate = False

    def end() -> None:
        lines.removeHandler(handler)
        lines.propagate = True
        handler.close()

    return end


class LedgerFile(logging.Handler):
    """Appends the ledger's lines to a file.

    A line is in the system's hands before `emit` returns, so it outlives the process however that ends; it is on the
    disk 50 ms later at most, if more lines follow or the process ends by itself.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path: Final = path
        self._file: int | None = None
        self._synced_at = 0.0
        self._is_torn = False  # the file ends in the middle of a line

    @override
    def emit(self, record: logging.LogRecord) -> None:
        line = record.getMessage().encode() + b"\n"
        try:
            self._append(line)
        except OSError as error:
            sys.stderr.write(
                f"{self._path} cannot be written ({error.strerror}); to be kept:\n{line.decode()}"
            )
            sys.stderr.flush()

    def _append(self, line: bytes) -> None:
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            _log.error("what calls did cost cannot be written to the store; it is kept in %s", self._path)
        data = b"\n" + line if self._is_torn else line
        while data:
            written = os.write(self._file, data)
            data = data[written:]
            self._is_torn = bool(data)
        now = time.monotonic()
        if now - self._synced_at >= _SYNC_SECONDS:
            self._synced_at = now
            os.fsync(self._file)

    @override
    def close(self) -> None:
        if self._file is not None:
            try:
                os.fsync(self._file)
            finally:
                os.close(self._file)
                self._file = None
        super().close()
