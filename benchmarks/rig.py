"""The rig: starts everything on its core, measures in rounds, ends everything.

Two cores: contestants on the first, mock upstream and load generator together on the second. Rounds are
interleaved (A B A B), so that a slow minute of the machine hits every contestant. Called by the command line.
"""

from __future__ import annotations

import compileall
import contextlib
import importlib.metadata
import os
import platform
import re
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

import neev_provider
from benchmarks.contestants import filled
from benchmarks.load import DRAIN_SECONDS, LoadPlan, LoadResult, run
from benchmarks.processes import PinnedProcess, adopt_orphans, busy_seconds, kill_descendants, start_pinned
from benchmarks.results import FLOOR, ContestantResult, Report, Round
from benchmarks.store import make_keys, start_store
from benchmarks.workload import MODEL
from neev_provider.errors import ServerError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from benchmarks.contestants import Contestant
    from benchmarks.results import Settings

__all__ = ["Rig", "RigError"]

_REPOSITORY: Final = Path(__file__).resolve().parent.parent
_POLL_SECONDS: Final = 0.01
_WARM_UP_SECONDS: Final = 1.0
_LOAD_SPARE_SECONDS: Final = 60.0  # of a load generator beyond its plan, before it is taken for stuck
_UPSTREAM_READY_SECONDS: Final = 20.0


class RigError(Exception):
    """The rig itself does not work; there is nothing to report."""


class _Running:
    """A contestant that is up."""

    def __init__(
        self,
        process: PinnedProcess,
        port: int,
        headers: dict[str, str],
        result: ContestantResult,
        tokens: list[str],
        model: str = MODEL,
    ) -> None:
        self.process: Final = process
        self.port: Final = port
        self.headers: Final = headers
        self.result: Final = result
        self.tokens: Final = tokens
        self.model: Final = model

    def cpu(self) -> float:
        return sum(sample.cpu_seconds for sample in self.process.sample())


class Rig:
    """One benchmark run.

    Args:
        settings: what to ask of every contestant.
        say: told what happens, one line at a time.
    """

    def __init__(self, settings: Settings, say: Callable[[str], None]) -> None:
        self._settings: Final = settings
        self._say: Final = say
        cores = sorted(os.sched_getaffinity(0))
        self.shared_core: Final = len(cores) == 1
        self._contestant_core: Final = cores[0]
        self._rig_core: Final = cores[-1] if self.shared_core else cores[1]
        self._store_words: dict[str, str] = {}
        self._tokens: list[str] = []

    def run(self, contestants: Sequence[Contestant]) -> Report:
        """Start and measure `contestants`; one that fails is reported as failed, the others go on.

        Raises:
            RigError: the mock upstream or the load generator does not work.
        """
        adopt_orphans()
        # Bytecode, as an installer makes it: that of the others is there, ours would be made while we measure.
        compileall.compile_dir(Path(neev_provider.__file__).parent, quiet=2)
        os.sched_setaffinity(0, {self._rig_core})
        machine = _machine()
        try:
            with ExitStack() as stack:
                directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="neev-bench-")))
                floor = self._start_upstream(stack, directory)
                if any(contestant.needs_store for contestant in contestants):
                    self._start_store(stack, directory)
                started = [
                    self._start(stack, directory, contestant, floor.port) for contestant in contestants
                ]
                self._measure_rounds([floor, *(running for _, running in started if running)])
        finally:
            kill_descendants()
        return Report(
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            machine=machine,
            settings=self._settings,
            shared_core=self.shared_core,
            floor=floor.result,
            contestants=[result for result, _ in started],
        )

    def _start_upstream(self, stack: ExitStack, directory: Path) -> _Running:
        port = _free_port()
        module = [sys.executable, "-m", "benchmarks.upstream", "--port", str(port)]
        process = stack.enter_context(
            PinnedProcess(
                "mock upstream",
                [*module, "--rate", str(self._settings.chunks_per_second)],
                core=self._rig_core,
                environ=os.environ,
                directory=_REPOSITORY,
                log=directory / "upstream.log",
            )
        )
        result = ContestantResult(name=FLOOR, what="the load generator straight onto the mock upstream")
        running = _Running(process, port, {}, result, [])
        if failure := self._until_ready(running, _UPSTREAM_READY_SECONDS):
            raise RigError(f"the mock upstream {failure}")
        return running

    def _start_store(self, stack: ExitStack, directory: Path) -> None:
        self._say("starting the store")
        process, url = start_store(directory, self._rig_core, _environ({}))
        stack.enter_context(process)
        try:
            self._tokens = make_keys(url, self._settings.keys)
            self._store_words = {"store": url, "virtual_key": self._tokens[0]}
        except ServerError as error:
            raise RigError(f"the store does not answer: {error.message}; {process.tail}") from None

    def _start(
        self, stack: ExitStack, directory: Path, contestant: Contestant, upstream_port: int
    ) -> tuple[ContestantResult, _Running | None]:
        self._say(f"starting {contestant.name}")
        home = directory / contestant.name
        home.mkdir()
        port = _free_port()
        words = {
            "repository": str(_REPOSITORY),
            "python": sys.executable,
            "bin": str(Path(sys.executable).parent),
            "dir": str(home),
            "port": str(port),
            "metrics_port": str(_free_port()),
            "upstream": f"http://127.0.0.1:{upstream_port}",
            "upstream_host": f"127.0.0.1:{upstream_port}",
            "key": "sk-" + secrets.token_urlsafe(32),
            **self._store_words,
        }
        for name, text in contestant.files.items():
            (home / name).write_text(filled(text(), words), encoding="utf-8")
        result = ContestantResult(
            name=contestant.name,
            what=contestant.what,
            without=contestant.without,
            versions=_versions(contestant.packages) | _version_said(contestant, words),
        )
        try:
            process = PinnedProcess(
                contestant.name,
                [filled(word, words) for word in contestant.command],
                core=self._contestant_core,
                environ=_environ({name: filled(value, words) for name, value in contestant.environ.items()}),
                directory=home,
                log=directory / f"{contestant.name}.log",
            )
        except OSError as error:
            result.failure = f"did not start: {error}"
            return result, None
        headers = {name: filled(value, words) for name, value in contestant.headers.items()}
        tokens = self._tokens if contestant.many_keys else []
        running = _Running(stack.enter_context(process), port, headers, result, tokens, contestant.model)
        if failure := self._until_ready(running, contestant.ready_seconds):
            result.failure = failure
            process.stop()
            return result, None
        return result, running

    def _until_ready(self, running: _Running, seconds: float) -> str:
        """Wait for the first good answer; return why there was none, or ""."""
        process = running.process
        plan = LoadPlan(port=running.port, headers=running.headers, connections=1, model=running.model)
        said: dict[str, int] = {}
        while time.monotonic() - process.started_at < seconds:
            if not process.alive:
                return f"ended while starting; it said last: {process.tail}"
            with contextlib.suppress(OSError):  # does not listen yet
                answer = run(plan)
                if answer.answered:
                    running.result.ready_seconds = time.monotonic() - process.started_at
                    return ""
                said = answer.errors
            time.sleep(_POLL_SECONDS)
        answers = f" (answers: {', '.join(said)})" if said else ""
        return f"not ready after {seconds:.0f} s{answers}; it said last: {process.tail}"

    def _measure_rounds(self, running: Sequence[_Running]) -> None:
        for one in running:
            self._say(f"warming up {one.result.name}")
            self._load(one, connections=self._settings.connections, seconds=_WARM_UP_SECONDS)
            self._load(one, connections=self._settings.streams, chunks=min(20, self._settings.chunks))
        for number in range(1, self._settings.rounds + 1):
            for one in running:
                if one.result.failure:
                    continue
                self._say(f"round {number} of {self._settings.rounds}: {one.result.name}")
                measured = self._measure(one)
                if one.process.alive:
                    one.result.rounds.append(measured)
                else:
                    one.result.failure = f"ended in round {number}; it said last: {one.process.tail}"

    def _measure(self, running: _Running) -> Round:
        settings = self._settings
        core = self._rig_core if running.result.name == FLOOR else self._contestant_core
        busy, cpu, began = busy_seconds(core), [running.cpu()], time.monotonic()
        single = self._load(running, connections=1, seconds=settings.seconds)
        cpu.append(running.cpu())
        parallel = self._load(running, connections=settings.connections, seconds=settings.seconds)
        cpu.append(running.cpu())
        streamed = self._load(running, connections=settings.streams, chunks=settings.chunks)
        samples = running.process.sample()
        cpu.append(sum(sample.cpu_seconds for sample in samples))
        foreign = (busy_seconds(core) - busy - (cpu[-1] - cpu[0])) / (time.monotonic() - began)
        memory = [sample.rss_bytes for sample in samples]
        return Round(
            single=single,
            single_cpu=cpu[1] - cpu[0],
            parallel=parallel,
            parallel_cpu=cpu[2] - cpu[1],
            streamed=streamed,
            streamed_cpu=cpu[3] - cpu[2],
            memory_bytes=sum(memory),
            memory_by_process=memory,
            foreign_share=max(0.0, foreign),
        )

    def _load(
        self, running: _Running, *, connections: int, seconds: float = 0.0, chunks: int = 0
    ) -> LoadResult:
        plan = LoadPlan(
            port=running.port,
            headers=running.headers,
            connections=connections,
            seconds=seconds,
            chunks=chunks,
            prompt_bytes=self._settings.prompt_bytes,
            tokens=running.tokens,
            model=running.model,
        )
        ideal = chunks / self._settings.chunks_per_second + seconds
        with start_pinned(
            [sys.executable, "-m", "benchmarks.load"],
            self._rig_core,
            cwd=_REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            try:
                said, complaint = process.communicate(
                    msgspec.json.encode(plan), timeout=ideal * 3 + DRAIN_SECONDS + _LOAD_SPARE_SECONDS
                )
            except subprocess.TimeoutExpired:
                return _failed("load generator stuck")
            finally:
                process.kill()  # does nothing if it has ended
        if process.returncode:
            last = complaint.decode(errors="replace").strip().rpartition("\n")[2]
            return _failed(last or f"load generator ended with {process.returncode}")
        return msgspec.json.decode(said, type=LoadResult)


def _failed(what: str) -> LoadResult:
    return LoadResult(answered=0, per_second=0.0, errors={what: 1}, p50_ms=0.0, p99_ms=0.0, seconds=0.0)


def _environ(own: dict[str, str]) -> dict[str, str]:
    """A small environment: the caller's keys, proxies and settings are none of a contestant's business."""
    kept = {
        name: os.environ[name] for name in ("HOME", "LANG", "LC_ALL", "PATH", "TMPDIR") if name in os.environ
    }
    return {**kept, "NO_PROXY": "127.0.0.1", **own}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _versions(packages: Sequence[str]) -> dict[str, str]:
    return {package: importlib.metadata.version(package) for package in packages}


def _version_said(contestant: Contestant, words: Mapping[str, str]) -> dict[str, str]:
    """Return what a program says of its own version; nothing if it cannot be run, which starting it will show."""
    if not contestant.version:
        return {}
    command = [filled(word, words) for word in contestant.version]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    except OSError:
        return {}
    found = re.search(r"\d+\.\d+\.\d+", done.stdout + done.stderr)
    return {contestant.name: found[0]} if found else {}


def _machine() -> dict[str, str]:
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if line.startswith("model name")
    ]
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "load average before": f"{os.getloadavg()[0]:.2f}",
    }
