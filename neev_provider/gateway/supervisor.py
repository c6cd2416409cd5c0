"""Child processes: started in order, waited for until ready, watched, stopped together.

Responsible for processes alone; what they are and what they serve is `serve.py`'s. Children run in sessions of
their own, so that Ctrl-C reaches the supervisor only, and die with it even if it is killed (Linux).
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
import signal
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Final, Self

from neev_provider.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

__all__ = ["Child", "ChildSpec", "Supervisor"]

_log = logging.getLogger(__name__)

STOP_SECONDS: Final = 10.0  # between SIGTERM and SIGKILL
_TAIL_LINES: Final = 50  # of a log in which a failed child's last words are looked for
_MAX_LINE: Final = 300  # characters of them that are shown
_BACKOFF_SECONDS: Final = (0.5, 1, 2, 4, 8, 15, 30)
_STABLE_SECONDS: Final = 60.0  # a child that ran so long starts its back-off anew
_POLL_SECONDS: Final = 0.03
_PR_SET_PDEATHSIG: Final = 1


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """What to run.

    Attributes:
        name: for messages and the log file's name.
        command: program and arguments.
        environ: its whole environment.
        log: file that its output is appended to; None passes it through.
        ready: returns True once it serves; polled.
        ready_seconds: how long it may take.
        stop_seconds: between SIGTERM and SIGKILL.
        ready_file: removed before each start, for a `ready` that looks for it.
        inherits: file descriptors that it keeps open for as long as it lives.
        stops_with: a word; neighbours in the order of starts that have the same are stopped together. None: alone.
    """

    name: str
    command: Sequence[str]
    environ: Mapping[str, str] = field(repr=False)
    log: Path | None
    ready: Callable[[], Awaitable[bool]]
    ready_seconds: float = 120.0
    stop_seconds: float = STOP_SECONDS
    ready_file: Path | None = None
    inherits: tuple[int, ...] = ()
    stops_with: str | None = None


class Child:
    """One running process of a `ChildSpec`."""

    def __init__(self, spec: ChildSpec, process: asyncio.subprocess.Process) -> None:
        self.spec: Final = spec
        self.process: Final = process
        self.started_at: Final = time.monotonic()

    @classmethod
    async def start(cls, spec: ChildSpec, *, fresh: bool = True) -> Child:
        """Start the process; does not wait until it is ready.

        Args:
            spec: what to run.
            fresh: begin its log anew; a restart goes on with it.

        Raises:
            ConfigError: the log cannot be written.
        """
        output: IO[bytes] | None = None
        file = spec.log or spec.ready_file
        try:
            if file is not None:
                file.parent.mkdir(parents=True, exist_ok=True)
            if spec.ready_file is not None:
                spec.ready_file.unlink(missing_ok=True)
            if spec.log is not None:
                # A log begins with its start: what is shown after a failure is of this one.
                output = spec.log.open("wb" if fresh else "ab")
        except OSError as error:
            problem = f"cannot be written ({error.strerror})"
            raise ConfigError(str(file), "", problem, "Use another --state.") from None
        try:
            process = await asyncio.create_subprocess_exec(
                *spec.command,
                env=dict(spec.environ),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT if output else None,
                start_new_session=True,
                pass_fds=spec.inherits,
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            )
        finally:
            if output is not None:
                output.close()
        return cls(spec, process)

    async def until_ready(self) -> None:
        """Wait until the child serves.

        Raises:
            ConfigError: it ended, or took too long; tells what it said last.
        """
        deadline = self.started_at + self.spec.ready_seconds
        exited = asyncio.ensure_future(self.process.wait())
        try:
            while not await self.spec.ready():
                await asyncio.wait({exited}, timeout=_POLL_SECONDS)
                if exited.done():
                    raise self._failure(f"ended with exit code {exited.result()} while starting")
                if time.monotonic() > deadline:
                    raise self._failure(f"was not ready after {self.spec.ready_seconds:.0f} s")
        finally:
            exited.cancel()

    async def stop(self) -> None:
        """End the process and what it started: SIGTERM, then SIGKILL after `stop_seconds`."""
        if self.process.returncode is None:
            self._signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(self.process.wait(), self.spec.stop_seconds)
            except TimeoutError:
                _log.warning(
                    "%s did not stop within %.0f s and is killed", self.spec.name, self.spec.stop_seconds
                )
        # Also after a clean exit: a server's own children may have outlived it.
        self._signal(signal.SIGKILL)
        await self.process.wait()

    def kill(self) -> None:
        """End the process and what it started at once."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)

    def _failure(self, problem: str) -> ConfigError:
        log = self.spec.log
        if log is None:
            return ConfigError(self.spec.name, "", problem, "See its output above.")
        said = _last_words(log)
        problem = f"{problem}: {said}" if said else problem
        return ConfigError(self.spec.name, "", problem, f"All of it is in {log}.")


class Supervisor:
    """Keeps children running until it is told to stop.

    Use as an asynchronous context manager: leaving it stops every child, the last started first (or what was given
    its place by `keep_place`), but side by side those that say so.

    Attributes:
        up: child's name to whether it serves.
        restarts: child's name to how often it was started anew.
    """

    def __init__(self) -> None:
        self.up: Final[dict[str, bool]] = {}
        self.restarts: Final[dict[str, int]] = {}
        self._order: Final[dict[str, int]] = {}
        self._children: list[Child] = []
        self._watchers: set[asyncio.Task[None]] = set()
        self._stopping = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopping = True
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        # What others depend on goes after them, once they have written what they have to.
        while self._children:
            group = [self._children.pop()]
            word = group[0].spec.stops_with
            while word and self._children and self._children[-1].spec.stops_with == word:
                group.append(self._children.pop())
            await asyncio.gather(*(child.stop() for child in group))

    @property
    def pids(self) -> dict[str, int]:
        """Name to process id of the children that run."""
        children = list(self._children)  # another thread may be changing it
        return {child.spec.name: child.process.pid for child in children if child.process.returncode is None}

    def kill(self) -> None:
        """End every child at once; leaving the context has nothing more to wait for."""
        for child in self._children:
            child.kill()

    def keep_place(self, name: str) -> None:
        """Have a child that is started later stopped as if it were started now: after all that is started until then.

        Args:
            name: of its `ChildSpec`.
        """
        self._order.setdefault(name, len(self._order))

    async def start(self, spec: ChildSpec) -> None:
        """Start a child, wait until it serves, and keep it running from then on.

        Raises:
            ConfigError: it did not become ready.
        """
        child = await self._launch(spec)
        await child.until_ready()
        self.up[spec.name] = True
        self._watch(spec, child)

    def start_behind(self, spec: ChildSpec, report: Callable[[ConfigError | None, float], None]) -> None:
        """Start a child and keep it running, without waiting for it.

        Args:
            spec: what to run.
            report: called each time it has become ready (None) or failed to, with the seconds that it took.
        """
        self._watch(spec, None, report)

    def _watch(
        self,
        spec: ChildSpec,
        child: Child | None,
        report: Callable[[ConfigError | None, float], None] | None = None,
    ) -> None:
        watcher = asyncio.create_task(self._keep(spec, child, report), name=f"watch {spec.name}")
        self._watchers.add(watcher)

    async def _keep(
        self,
        spec: ChildSpec,
        child: Child | None,
        report: Callable[[ConfigError | None, float], None] | None,
    ) -> None:
        """Start a child anew whenever it ends, with growing pauses while it keeps ending."""
        failures = 0
        while not self._stopping:
            if child is None:
                child = await self._launch_or_tell(spec, report, fresh=failures == 0)
            what = "could not be started"
            if child is not None:
                what = f"ended with exit code {await child.process.wait()}"
                self.up[spec.name] = False
                if time.monotonic() - child.started_at > _STABLE_SECONDS:
                    failures = 0
            pause = _BACKOFF_SECONDS[min(failures, len(_BACKOFF_SECONDS) - 1)]
            failures += 1
            self.restarts[spec.name] = self.restarts.get(spec.name, 0) + 1
            _log.error("%s %s; starting it again in %s s", spec.name, what, pause)
            if child is not None:
                await child.stop()
                self._children.remove(child)
                child = None
            await asyncio.sleep(pause)

    async def _launch_or_tell(
        self, spec: ChildSpec, report: Callable[[ConfigError | None, float], None] | None, *, fresh: bool
    ) -> Child | None:
        """Start a child anew; None if the machine has no room for it just now: no memory, process or file."""
        try:
            child = await self._launch(spec, fresh=fresh)
        except (ConfigError, OSError) as error:
            _log.error("%s: %s", spec.name, error)
            return None
        await self._until_ready(child, report)
        return child

    async def _launch(self, spec: ChildSpec, *, fresh: bool = True) -> Child:
        self.up[spec.name] = False
        child = await Child.start(spec, fresh=fresh)
        self._children.append(child)
        self._children.sort(key=lambda each: self._order.setdefault(each.spec.name, len(self._order)))
        return child

    async def _until_ready(
        self, child: Child, report: Callable[[ConfigError | None, float], None] | None
    ) -> None:
        failure: ConfigError | None = None
        try:
            await child.until_ready()
            self.up[child.spec.name] = True
        except ConfigError as error:
            failure = error
            await child.stop()
        if report is not None:
            report(failure, time.monotonic() - child.started_at)
        elif failure is not None:
            _log.error("%s", failure)


def _last_words(path: Path) -> str:
    """Return the last line of a log that says something; of a traceback that is the error itself."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            lines = [line.strip() for line in deque(file, _TAIL_LINES) if line.strip()]
    except OSError:  # somebody has cleared the logs away
        return ""
    return lines[-1][:_MAX_LINE] if lines else ""


def _die_with_parent() -> None:
    """Ask the kernel to end this child when the supervisor dies, however it dies."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
