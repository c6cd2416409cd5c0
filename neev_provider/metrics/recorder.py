"""Counts in one process: plain dictionaries, cheap enough for every request, emptied when what they hold is sent.

Knows nothing of sockets or Prometheus; `reporter.py` sends what is taken from here to the process that exposes it.
Used by one thread.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Final

from neev_provider.metrics.families import LOST_UPDATES
from neev_provider.metrics.messages import Delta

if TYPE_CHECKING:
    from collections.abc import Callable

    from neev_provider.metrics.families import Family

__all__ = ["Recorder"]

_MOST_SERIES: Final = 20_000  # between two deltas: a bound for the time in which nobody takes them
_MOST_NAMES: Final = 20_000

_Labels = tuple[str, ...]


class Recorder:
    """What a process has counted since the last delta was taken, and what its gauges show.

    Args:
        most_series: held at once; updates of others are lost, and counted.
    """

    def __init__(self, most_series: int = _MOST_SERIES) -> None:
        self._room = self._most = most_series
        self._lost = 0
        self._counts: dict[Family, dict[_Labels, float]] = {}
        self._buckets: dict[Family, dict[_Labels, list[float]]] = {}
        self._gauges: Final[list[Callable[[], dict[tuple[Family, _Labels], float]]]] = []
        self._followed: Final[list[tuple[Family, _Labels, Callable[[], int]]]] = []
        self._followed_so_far: Final[list[int]] = []
        self._names: Final[dict[str, str]] = {}
        self._new_names: dict[str, str] = {}

    def add(self, family: Family, labels: _Labels = (), amount: float = 1) -> None:
        """Count. `amount` is in the family's own unit, nano-USD for money."""
        series = self._counts.get(family)
        if series is None:
            series = self._counts[family] = {}
        if labels in series:
            series[labels] += amount
        elif self._takes_one_more():
            series[labels] = amount

    def observe(self, family: Family, labels: _Labels, value: float) -> None:
        """Put a value, in seconds, into a histogram."""
        series = self._buckets.get(family)
        if series is None:
            series = self._buckets[family] = {}
        cell = series.get(labels)
        if cell is None:
            if not self._takes_one_more():
                return
            # One for each bucket, one for all above, and the sum.
            cell = series[labels] = [0] * (len(family.buckets) + 1) + [0.0]
        cell[bisect_left(family.buckets, value)] += 1
        cell[-1] += value

    def name(self, identity: str, alias: str) -> None:
        """Say what people call a key that is counted by its id."""
        if self._names.get(identity) == alias:
            return
        if len(self._names) >= _MOST_NAMES:
            self._names.clear()
        self._names[identity] = self._new_names[identity] = alias

    def watch(self, family: Family, labels: _Labels, read: Callable[[], float]) -> None:
        """Read a gauge whenever a delta is taken. `labels` are without `process`, which the receiver fills in."""
        self.watch_all(lambda: {(family, labels): read()})

    def watch_all(self, read: Callable[[], dict[tuple[Family, _Labels], float]]) -> None:
        """Read several gauges at once."""
        self._gauges.append(read)

    def follow(self, family: Family, labels: _Labels, read: Callable[[], int]) -> None:
        """Count what something else counts from 0 on; read whenever a delta is taken."""
        self._followed.append((family, labels, read))
        self._followed_so_far.append(0)

    def lose(self) -> None:
        """Count an update that could not be counted."""
        self._lost += 1

    def take(self) -> Delta:
        """Return what was counted since the last time, and forget it."""
        for place, (family, labels, read) in enumerate(self._followed):
            now = read()
            if now != self._followed_so_far[place]:
                self.add(family, labels, now - self._followed_so_far[place])
                self._followed_so_far[place] = now
        if self._lost:
            self._counts.setdefault(LOST_UPDATES, {})[()] = self._lost
        counts, buckets, names = self._counts, self._buckets, self._new_names
        self._counts, self._buckets, self._new_names = {}, {}, {}
        self._room, self._lost = self._most, 0
        return Delta(
            {family.name: list(series.items()) for family, series in counts.items()},
            {family.name: list(series.items()) for family, series in buckets.items()},
            names,
        )

    def gauges(self) -> dict[str, list[tuple[_Labels, float]]]:
        """Return what the gauges show now, by family."""
        found: dict[str, list[tuple[_Labels, float]]] = {}
        for read in self._gauges:
            for (family, labels), value in read().items():
                found.setdefault(family.name, []).append((labels, float(value)))
        return found

    def _takes_one_more(self) -> bool:
        if self._room <= 0:
            self.lose()
            return False
        self._room -= 1
        return True
