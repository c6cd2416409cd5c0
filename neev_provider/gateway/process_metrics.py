"""What the processes that `serve` keeps running cost, and whether they do: the parent's own part of the metrics.

Called by `metrics_server.py` for each scrape.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from neev_provider import __version__
from neev_provider.metrics import families

if TYPE_CHECKING:
    from neev_provider.gateway.supervisor import Supervisor
    from neev_provider.metrics.families import Family
    from neev_provider.metrics.receiver import Receiver

__all__ = ["ProcessMetrics"]

_OWN: Final = "serve"  # this process
_TICKS: Final = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
_PAGE: Final = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
_UTIME, _STIME, _RSS = 11, 12, 21  # fields of /proc/<pid>/stat after the name

_Labels = tuple[str, ...]


class ProcessMetrics:
    """Reads the kernel's account of the processes (Linux; elsewhere only whether they are up).

    Args:
        supervisor: that keeps them running.
        receiver: that knows those which somebody else keeps running.
    """

    def __init__(self, supervisor: Supervisor, receiver: Receiver) -> None:
        self._supervisor: Final = supervisor
        self._receiver: Final = receiver
        self._cpu: Final[dict[str, _Cpu]] = {}

    def values(self) -> dict[Family, dict[_Labels, float]]:
        """Return the values of now."""
        up = dict(self._supervisor.up)
        shown: dict[Family, dict[_Labels, float]] = {
            families.PROCESS_UP: {(name,): serves for name, serves in up.items()},
            families.PROCESS_RESTARTS: {(name,): self._supervisor.restarts.get(name, 0) for name in up},
            families.BUILD_INFO: {(__version__,): 1},
        }
        for name in list(self._receiver.ever):
            if name.rpartition("-")[0] not in up and name not in up:
                # LiteLLM in a container of its own.
                shown[families.PROCESS_UP][(name,)] = name in self._receiver.connected
        self._add_accounts(shown)
        return shown

    def _add_accounts(self, shown: dict[Family, dict[_Labels, float]]) -> None:
        memory, files = shown[families.PROCESS_MEMORY], shown[families.PROCESS_FDS] = {}, {}
        for name, pid in {_OWN: os.getpid(), **self._supervisor.pids}.items():
            with contextlib.suppress(OSError, ValueError, IndexError):  # it has just ended
                fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
                account = fields.rpartition(")")[2].split()
                self._cpu.setdefault(name, _Cpu()).add(pid, int(account[_UTIME]) + int(account[_STIME]))
                memory[(name,)] = int(account[_RSS]) * _PAGE
                files[(name,)] = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
        shown[families.PROCESS_CPU] = {(name,): cpu.ticks / _TICKS for name, cpu in self._cpu.items()}


class _Cpu:
    """The CPU time of a name, over the processes that had it."""

    __slots__ = ("_before", "_now", "_pid")

    def __init__(self) -> None:
        self._before = 0
        self._now = 0
        self._pid = 0

    def add(self, pid: int, ticks: int) -> None:
        if pid != self._pid:
            self._before += self._now
            self._pid = pid
        self._now = ticks

    @property
    def ticks(self) -> int:
        return self._before + self._now
