"""The sums over all processes, kept by the one that exposes them, and the names that people know keys and teams by.

Bounded by `Caps`: values beyond a cap become `other`, so the sums stay right. Counters only rise, whichever process
ends; gauges go with their process. Written by the event loop and read by the thread that answers a scrape, so a lock
guards all of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Final

from neev_provider.errors import redact
from neev_provider.metrics.families import (
    ALL,
    CAPPED,
    FAMILIES,
    LABEL_OVERFLOWS,
    LOST_UPDATES,
    MASTER,
    NONE,
    OTHER,
    Family,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from neev_provider.metrics.messages import Delta

__all__ = ["Caps", "Sums"]

_UNCOUNTED: Final = frozenset({OTHER, NONE, ALL, MASTER})
_MOST_NAMES: Final = 50_000
_NAMED: Final = frozenset({"key", "team"})  # labels whose values have aliases

_Labels = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Caps:
    """How many values the labels may have.

    Attributes:
        key: keys.
        team: teams.
        model: public model names.
        deployment: deployments.
        series: of each family; one more beyond this has `other` for all of the above.
    """

    key: int = 500
    team: int = 200
    model: int = 200
    deployment: int = 200
    series: int = 20_000


class Sums:
    """What all processes have counted.

    Args:
        caps: of the labels.
    """

    def __init__(self, caps: Caps | None = None) -> None:
        self._caps: Final = caps or Caps()
        self._lock: Final = Lock()
        self._counts: Final[dict[Family, dict[_Labels, float]]] = {}
        self._buckets: Final[dict[Family, dict[_Labels, list[float]]]] = {}
        self._gauges: Final[dict[str, dict[Family, dict[_Labels, float]]]] = {}
        self._seen: Final[dict[str, set[str]]] = {kind: set() for kind in CAPPED.values()}
        self._names: Final[dict[str, dict[str, str]]] = {kind: {} for kind in _NAMED}  # by id

    # Writing

    def add(self, process: str, delta: Delta) -> None:
        """Add what a process has counted."""
        with self._lock:
            self._learn("key", delta.names)
            for name, counts in delta.counts.items():
                family = _family(name, "counter")
                for labels, amount in counts:
                    bounded = None if family is None else self._bounded(family, labels, process)
                    if family is None or bounded is None:
                        self._count(LOST_UPDATES, (), 1)
                    else:
                        self._count(family, bounded, amount)
            for name, cells in delta.buckets.items():
                family = _family(name, "histogram")
                for labels, cell in cells:
                    bounded = None if family is None else self._bounded(family, labels, process)
                    if family is None or bounded is None or len(cell) != len(family.buckets) + 2:
                        self._count(LOST_UPDATES, (), 1)
                    else:
                        self._put(family, bounded, cell)

    def show(self, process: str, gauges: Mapping[str, Iterable[tuple[_Labels, float]]]) -> None:
        """Replace what the gauges of a process show."""
        with self._lock:
            shown: dict[Family, dict[_Labels, float]] = {}
            for name, values in gauges.items():
                family = _family(name, "gauge")
                for labels, value in values:
                    bounded = None if family is None else self._bounded(family, labels, process)
                    if family is None or bounded is None:
                        self._count(LOST_UPDATES, (), 1)
                    else:
                        shown.setdefault(family, {})[bounded] = value
            self._gauges[process] = shown

    def drop(self, process: str) -> None:
        """Forget what the gauges of a process have shown."""
        with self._lock:
            self._gauges.pop(process, None)

    def learn(self, kind: str, names: Mapping[str, str]) -> None:
        """Remember what people call keys (`key`) or teams (`team`): id to alias."""
        with self._lock:
            self._learn(kind, names)

    def label(self, kind: str, identity: str) -> str:
        """Return what is shown of a key or a team: its alias or id, or `other` if there is no place for it."""
        with self._lock:
            placed = self._place(kind, identity)
            return self._names[kind].get(placed, placed)

    # Reading

    def counters(self, family: Family) -> dict[_Labels, float]:
        """Return a counter's series, by the labels that are exposed."""
        with self._lock:
            found: dict[_Labels, float] = dict.fromkeys(family.from_zero, 0)
            for labels, amount in self._counts.get(family, {}).items():
                shown = self._shown(family, labels)
                found[shown] = found.get(shown, 0) + amount
            return found

    def histograms(self, family: Family) -> dict[_Labels, list[float]]:
        """Return a histogram's series: a count for each bucket, one for all above, the sum."""
        with self._lock:
            found: dict[_Labels, list[float]] = {}
            for labels, cell in self._buckets.get(family, {}).items():
                shown = self._shown(family, labels)
                there = found.get(shown)
                found[shown] = list(cell) if there is None else list(map(sum, zip(there, cell, strict=True)))
            return found

    def gauges(self, family: Family) -> dict[_Labels, float]:
        """Return a gauge's series over all processes that live."""
        with self._lock:
            found: dict[_Labels, float] = {}
            for shown in self._gauges.values():
                for labels, value in shown.get(family, {}).items():
                    name = self._shown(family, labels)
                    if name not in found:
                        found[name] = value
                    else:
                        found[name] = (
                            max(found[name], value) if family.joined == "max" else found[name] + value
                        )
            return found

    # Their parts; all of them with the lock held

    def _bounded(self, family: Family, labels: _Labels, process: str) -> _Labels | None:
        """Return the labels under which an update is kept; None if they are not the family's."""
        if family.labels == ("process",) and not labels:
            return (process,)
        if len(labels) != len(family.labels):
            return None
        bounded = tuple(
            self._place(CAPPED[label], value) if label in CAPPED else value
            for label, value in zip(family.labels, labels, strict=True)
        )
        if family.kind == "gauge":
            return bounded
        series = self._counts.get(family) if family.kind == "counter" else self._buckets.get(family)
        if series is None or bounded in series or len(series) < self._caps.series:
            return bounded
        self._count(LABEL_OVERFLOWS, ("series",), 1)
        return tuple(
            OTHER if label in CAPPED else value for label, value in zip(family.labels, labels, strict=True)
        )

    def _place(self, kind: str, value: str) -> str:
        seen = self._seen[kind]
        if value in seen or value in _UNCOUNTED:
            return value
        if len(seen) < getattr(self._caps, kind):
            seen.add(value)
            return value
        self._count(LABEL_OVERFLOWS, (kind,), 1)
        return OTHER

    def _count(self, family: Family, labels: _Labels, amount: float) -> None:
        series = self._counts.setdefault(family, {})
        series[labels] = series.get(labels, 0) + amount

    def _put(self, family: Family, labels: _Labels, cell: list[float]) -> None:
        series = self._buckets.setdefault(family, {})
        there = series.get(labels)
        if there is None:
            series[labels] = list(cell)
        else:
            for place, amount in enumerate(cell):
                there[place] += amount

    def _learn(self, kind: str, names: Mapping[str, str]) -> None:
        known = self._names[kind]
        for identity, alias in names.items():
            if len(known) >= _MOST_NAMES:
                known.clear()
            # A name that means something else here would be taken for it; a key in it would be shown to all.
            known[identity] = identity if alias in _UNCOUNTED else redact(alias)

    def _shown(self, family: Family, labels: _Labels) -> _Labels:
        if _NAMED.isdisjoint(family.labels):
            return labels
        return tuple(
            self._names[label].get(value, value) if label in _NAMED else value
            for label, value in zip(family.labels, labels, strict=True)
        )


def _family(name: str, kind: str) -> Family | None:
    family = FAMILIES.get(name)
    return family if family is not None and family.kind == kind else None
