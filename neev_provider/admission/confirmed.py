"""Settles that the store confirmed a moment ago: told again if it turns out to have lost them.

A store that is killed may forget its last second though it had answered, and a replica that takes a primary's place
knows what had reached it. Every settle has a number, and the store knows the last of each process and owner; if that
is lower than the last that it confirmed, those between are taken from here. Called by `settling.py`.
"""

from __future__ import annotations

import math
from collections import deque
from itertools import takewhile
from time import monotonic
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from neev_provider.admission.settling import Settle

__all__ = ["Confirmed"]

_SECONDS: Final = 5.0  # a disk is written to every second or two, a replica is rarely as late
_MOST: Final = 20_000  # of one owner


class Confirmed:
    """The last settles of a process that were confirmed, by owner and in their order."""

    def __init__(self) -> None:
        self._by_tag: Final[dict[str, deque[tuple[float, Settle]]]] = {}

    def last(self, tag: str) -> int:
        """Return the number of an owner's last one; 0 if there is none."""
        kept = self._by_tag.get(tag)
        return kept[-1][1].number if kept else 0

    def owners(self) -> list[str]:
        """Return the tags of those who have any."""
        return list(self._by_tag)

    def add(self, tag: str, settles: Iterable[Settle]) -> None:
        """Keep some that were confirmed just now."""
        now = monotonic()
        kept = self._by_tag.setdefault(tag, deque(maxlen=_MOST))
        kept.extend((now, settle) for settle in settles)
        while kept and kept[0][0] < now - _SECONDS:
            kept.popleft()

    def take_after(self, tag: str, number: int) -> list[Settle]:
        """Take out an owner's with higher numbers."""
        kept = self._by_tag.pop(tag, None) or deque()
        lost = [settle for _, settle in takewhile(lambda each: each[1].number > number, reversed(kept))]
        for _ in lost:
            kept.pop()
        if kept:
            self._by_tag[tag] = kept
        return lost[::-1]

    def forget_old(self) -> None:
        """Let go of those that no store forgets any more."""
        horizon = monotonic() - _SECONDS
        for tag, kept in list(self._by_tag.items()):
            if (kept[-1][0] if kept else -math.inf) < horizon:
                del self._by_tag[tag]
