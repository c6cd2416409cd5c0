"""Processes of the rig: pinned to a core, accounted with all their descendants, and ended whatever happens.

Linux only: affinity, `/proc` and process control are what the measurement rests on. Called by the rig.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "PinnedProcess",
    "ProcessSample",
    "adopt_orphans",
    "busy_seconds",
    "kill_descendants",
    "start_pinned",
    "tree",
]

STOP_SECONDS: Final = 10.0  # between SIGTERM and SIGKILL
_TAIL_CHARACTERS: Final = 600  # of a log that is shown when a process fails
_TICK: Final = 1 / os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36


@dataclass(frozen=True, slots=True)
class ProcessSample:
    """One process at one moment.

    Attributes:
        pid: its id.
        parent: its parent's id.
        name: as the kernel shows it, at most 15 characters.
        cpu_seconds: user and system time of all its threads, and of children it has waited for.
        rss_bytes: resident memory, shared pages included.
        started: in ticks since boot; with the id it names a process for good.
    """

    pid: int
    parent: int
    name: str
    cpu_seconds: float
    rss_bytes: int
    started: int

    @classmethod
    def parse(cls, stat: str) -> Self:
        """Read a line of `/proc/<pid>/stat`; the field numbers are proc(5)'s, minus three."""
        pid, _, rest = stat.partition(" (")
        name, _, rest = rest.rpartition(") ")
        fields = rest.split()
        return cls(
            pid=int(pid),
            parent=int(fields[1]),
            name=name,
            cpu_seconds=sum(int(field) for field in fields[11:15]) * _TICK,
            rss_bytes=int(fields[21]) * _PAGE,
            started=int(fields[19]),
        )


def tree(root: int) -> list[ProcessSample]:
    """Return the process `root` and all its descendants; empty if it is gone."""
    samples: dict[int, ProcessSample] = {}
    for path in Path("/proc").iterdir():
        if path.name.isdecimal() and (sample := _read(int(path.name))) is not None:
            samples[sample.pid] = sample
    children: dict[int, list[ProcessSample]] = {}
    for sample in samples.values():
        children.setdefault(sample.parent, []).append(sample)
    found = [samples[root]] if root in samples else []
    for sample in found:  # grows while it is walked
        found += children.get(sample.pid, [])
    return found


def _read(pid: int) -> ProcessSample | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:  # gone in the meantime
        return None
    return ProcessSample.parse(stat)


def busy_seconds(core: int) -> float:
    """Return how long `core` has been busy since boot, with anything at all."""
    for line in Path("/proc/stat").read_text(encoding="ascii").splitlines():
        name, *fields = line.split()
        if name == f"cpu{core}":
            user, nice, system, _idle, _iowait, irq, softirq, steal, *_ = map(int, fields)
            return (user + nice + system + irq + softirq + steal) * _TICK
    return 0.0


def adopt_orphans() -> None:
    """Make descendants whose parent dies children of this process, where `kill_descendants` finds them."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def kill_descendants() -> None:
    """Kill every descendant that is left."""
    own = os.getpid()
    for sample in tree(own):
        if sample.pid != own:
            with contextlib.suppress(ProcessLookupError):
                os.kill(sample.pid, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass


class PinnedProcess:
    """A process on one core, with its output in a log file. A context manager: leaving it ends it and its tree."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        core: int,
        environ: Mapping[str, str],
        directory: Path,
        log: Path,
    ) -> None:
        self.name: Final = name
        self._log: Final = log
        with log.open("wb") as output:
            self.started_at: Final = time.monotonic()
            self._process: Final = start_pinned(
                command,
                core,
                env=dict(environ),
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the rig, which then stops its children in order
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    @property
    def tail(self) -> str:
        """What it said last, in one line."""
        said = self._log.read_text(encoding="utf-8", errors="replace")
        return " ".join(said.split())[-_TAIL_CHARACTERS:]

    def sample(self) -> list[ProcessSample]:
        """Return the process and its descendants as they are now."""
        return tree(self._process.pid)

    def stop(self) -> None:
        """End the process, politely first, and then whatever it left behind."""
        family = self.sample()
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_SECONDS)
        for sample in family:
            now = _read(sample.pid)
            if now is not None and now.started == sample.started:  # else the id is somebody else's by now
                with contextlib.suppress(ProcessLookupError):
                    os.kill(sample.pid, signal.SIGKILL)
        self._process.wait()


def start_pinned(command: Sequence[str], core: int, **options: Any) -> subprocess.Popen[bytes]:
    """Start a process that stays on `core` and ends when the rig does.

    Args:
        command: program and arguments.
        core: its number.
        options: of `subprocess.Popen`.
    """
    libc = ctypes.CDLL(None)

    def prepare() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        os.sched_setaffinity(0, {core})
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

    # Python loses a KeyboardInterrupt that comes while it works around a fork, so Ctrl-C waits until that is over.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return subprocess.Popen(command, preexec_fn=prepare, **options)  # noqa: PLW1509 - no threads here
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
