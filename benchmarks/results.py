"""What a run found: rounds as measured, and the medians that are reported. Pure data; written as JSON."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

import msgspec

from benchmarks.load import LoadResult  # noqa: TC001 - msgspec resolves field types at run time

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "FLOOR",
    "ContestantResult",
    "Report",
    "Round",
    "Settings",
    "cpu_ms_per_request",
    "cpu_us_per_chunk",
    "requests_per_cpu_second",
    "when_answered",
]

FLOOR = "rig floor"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked of every contestant.

    Attributes:
        prompt_bytes: the least that a prompt had; 0: as short as the workload's.
        keys: how many keys the contestants that have many were asked with.
    """

    seconds: float
    rounds: int
    connections: int
    streams: int
    chunks: int
    chunks_per_second: float
    prompt_bytes: int = 0
    keys: int = 1


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """One contestant in one round; CPU seconds are those of its whole process tree.

    Attributes:
        single: at one connection.
        parallel: at `Settings.connections`.
        streamed: `Settings.streams` streams.
        memory_bytes: resident, of the whole tree, after the streams.
        memory_by_process: the same process by process, parents before their children.
        foreign_share: of the contestant's core, the share that others took while it was measured, 0 to 1.
    """

    single: LoadResult
    single_cpu: float
    parallel: LoadResult
    parallel_cpu: float
    streamed: LoadResult
    streamed_cpu: float
    memory_bytes: int
    memory_by_process: list[int]
    foreign_share: float


class ContestantResult(msgspec.Struct, kw_only=True):
    """A contestant's rounds, and what they come to.

    Attributes:
        without: what it did not do that others did.
        failure: why there is no (more) figure, or "".
        ready_seconds: from the start of the process to its first good answer.
    """

    name: str
    what: str
    without: str = ""
    versions: dict[str, str] = {}
    ready_seconds: float | None = None
    failure: str = ""
    rounds: list[Round] = []

    def median(self, figure: Callable[[Round], float | None]) -> float | None:
        """Return the median of a figure over the rounds that have it; None if none has."""
        values = self._values(figure)
        return statistics.median(values) if values else None

    def spread(self, figure: Callable[[Round], float | None]) -> tuple[float, float] | None:
        """Return the smallest and the largest of a figure over the rounds."""
        values = self._values(figure)
        return (min(values), max(values)) if values else None

    def _values(self, figure: Callable[[Round], float | None]) -> list[float]:
        return [value for value in map(figure, self.rounds) if value is not None]

    @property
    def errors(self) -> dict[str, int]:
        """Failed and wrong answers of all rounds, by what was wrong."""
        total: dict[str, int] = {}
        for load in (load for r in self.rounds for load in (r.single, r.parallel, r.streamed)):
            for what, count in load.errors.items():
                total[what] = total.get(what, 0) + count
        return total


class Report(msgspec.Struct, kw_only=True):
    """One run on one machine."""

    date: str
    machine: dict[str, str]
    settings: Settings
    shared_core: bool
    floor: ContestantResult
    contestants: list[ContestantResult]


def requests_per_cpu_second(measured: Round) -> float | None:
    """Return how many requests one second of the contestant's CPU answers."""
    return measured.parallel.answered / measured.parallel_cpu if measured.parallel_cpu else None


def cpu_ms_per_request(measured: Round) -> float | None:
    """Return the contestant's CPU per answered request, in milliseconds."""
    return measured.parallel_cpu * 1e3 / measured.parallel.answered if measured.parallel.answered else None


def cpu_us_per_chunk(measured: Round, settings: Settings) -> float | None:
    """Return the contestant's CPU per chunk that upstream sent, opening the streams included, in microseconds.

    By what upstream sent, so that a contestant that joins chunks gains nothing by the count. None unless every
    stream arrived whole: a stream refused or cut is cheap.
    """
    if measured.streamed.answered < settings.streams:
        return None
    return measured.streamed_cpu * 1e6 / (settings.streams * settings.chunks)


def when_answered(load: LoadResult, value: float) -> float | None:
    """Return `value` if there was any good answer: the times of none are not zero."""
    return value if load.answered else None
