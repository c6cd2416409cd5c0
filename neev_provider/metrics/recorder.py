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

__all__ = ["Count", "Recorder", "put"]

_MOST_SERIES: Final = 20_000  # a bound for the time in which nobody takes them
_MOST_NAMES: Final = 20_000

_Labels = tuple[str, ...]


class Count:
    """What one series of a counter has risen by since the last delta; whoever holds it may add to `amount`."""

    __slots__ = ("amount",)

    def __init__(self) -> None:
        self.amount: float = 0


def put(cell: list[float], bounds: tuple[float, ...], value: float) -> None:
    """Put a value into a histogram's cell: one number for each bucket, one for all above, and the sum."""
    cell[bisect_left(bounds, value)] += 1
    cell[-1] += value


class Recorder:
    """What a process has counted since the last delta was taken, and what its gauges show.

    Args:
        most_series: held at once; updates of others are lost, and counted.

    Attributes:
        generation: rises when counts and cells that somebody holds are not looked at any more.
    """

    def __init__(self, most_series: int = _MOST_SERIES) -> None:
        self.generation = 0
        self._room = self._most = most_series
        self._lost = 0
        self._counts: Final[dict[Family, dict[_Labels, Count]]] = {}
        self._cells: Final[dict[Family, dict[_Labels, list[float]]]] = {}
        self._announced: Final[set[tuple[Family, _Labels]]] = set()
        self._gauges: Final[list[Callable[[], dict[tuple[Family, _Labels], float]]]] = []
        self._followed: Final[list[tuple[Family, _Labels, Callable[[], int]]]] = []
        self._followed_so_far: Final[list[int]] = []
        self._names: Final[dict[str, str]] = {}
        self._new_names: dict[str, str] = {}

    def count(self, family: Family, labels: _Labels = ()) -> Count:
        """Return the count of a series, which may be kept while `generation` stays."""
        series = self._counts.get(family)
        if series is None:
            series = self._counts[family] = {}
        count = series.get(labels)
        if count is None:
            count = Count()
            if self._takes_one_more():
                series[labels] = count
        return count

    def cell(self, family: Family, labels: _Labels) -> list[float]:
        """Return the cell of a histogram's series for `put`, which may be kept while `generation` stays."""
        series = self._cells.get(family)
        if series is None:
            series = self._cells[family] = {}
        cell = series.get(labels)
        if cell is None:
            cell = [0] * (len(family.buckets) + 1) + [0.0]
            if self._takes_one_more():
                series[labels] = cell
        return cell

    @property
    def is_full(self) -> bool:
        """Whether further series are lost: what is returned for them must not be kept."""
        return self._room <= 0

    def add(self, family: Family, labels: _Labels = (), amount: float = 1) -> None:
        """Count. `amount` is in the family's own unit, nano-USD for money."""
        self.count(family, labels).amount += amount

    def observe(self, family: Family, labels: _Labels, value: float) -> None:
        """Put a value, in seconds, into a histogram."""
        put(self.cell(family, labels), family.buckets, value)

    def announce(self, family: Family, labels: _Labels) -> None:
        """Have a counter shown with 0 before anything happens, so that the first time is seen as a rise."""
        self._announced.add((family, labels))

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
        """Return what was counted since the last time, and begin anew."""
        for place, (family, labels, read) in enumerate(self._followed):
            now = read()
            if now != self._followed_so_far[place]:
                self.add(family, labels, now - self._followed_so_far[place])
                self._followed_so_far[place] = now
        counts = self._taken_counts()
        if self._lost:
            counts.setdefault(LOST_UPDATES.name, []).append(((), self._lost))
            self._lost = 0
        cells = self._taken_cells()
        names, self._new_names = self._new_names, {}
        if 2 * self._room < self._most:
            # Most are of the past: those that are not will be there again with the next request.
            self._counts.clear()
            self._cells.clear()
            self._room = self._most
            self.generation += 1
        return Delta(counts, cells, names)

    def _taken_counts(self) -> dict[str, list[tuple[_Labels, float]]]:
        taken: dict[str, list[tuple[_Labels, float]]] = {}
        for family, labels in self._announced:
            taken.setdefault(family.name, []).append((labels, 0))
        self._announced.clear()
        for family, series in self._counts.items():
            for labels, count in series.items():
                if count.amount:
                    taken.setdefault(family.name, []).append((labels, count.amount))
                    count.amount = 0
        return taken

    def _taken_cells(self) -> dict[str, list[tuple[_Labels, list[float]]]]:
        taken: dict[str, list[tuple[_Labels, list[float]]]] = {}
        for family, series in self._cells.items():
            for labels, cell in series.items():
                if any(cell):
                    taken.setdefault(family.name, []).append((labels, cell.copy()))
                    cell[:] = [0] * len(cell)
        return taken

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
