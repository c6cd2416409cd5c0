"""The leases that this process holds: kept open while it lives, and others' expired when theirs has died.

A lease lives 90 s and is renewed every 20 s or so, so a stream may last as long as it likes and a killed process
blocks its places for 90 s at most. Called by `virtual.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from typing import TYPE_CHECKING, Final

from neev_provider.admission.rules import Clock
from neev_provider.admission.scripts import RENEW, key_name, prefix_of
from neev_provider.errors import NeevError

if TYPE_CHECKING:
    from neev_provider.store import Store

__all__ = ["Leases"]

_RENEWALS: Final = 4.5  # in a lease's life
_AT_ONCE: Final = 500


class Leases:
    """Open leases of one process.

    Args:
        store: that holds them.
        process: whose they are.
        seconds: that one lives without being renewed.
        clock: the scripts'.
    """

    def __init__(self, store: Store, process: str, *, seconds: float, clock: Clock | None = None) -> None:
        self.milliseconds: Final = round(seconds * 1000)
        self._store: Final = store
        self._process: Final = process
        self._clock: Final = clock or Clock()
        self._open: Final[dict[str, str]] = {}
        self._next = 0

    def __len__(self) -> int:
        return len(self._open)

    def new_id(self) -> str:
        """Return an id that no other lease has."""
        self._next += 1
        return f"{self._process}-{self._next:x}"

    def hold(self, lease: str, tag: str) -> None:
        """Renew it from now on."""
        self._open[lease] = tag

    def release(self, lease: str) -> None:
        """Renew it no longer."""
        self._open.pop(lease, None)

    async def renew_for_ever(self) -> None:
        """Renew what is open, again and again; ends by being cancelled."""
        while True:
            await asyncio.sleep(self.milliseconds / 1000 / _RENEWALS)
            await self.renew()

    async def renew(self) -> None:
        """Renew what is open, and leave out the owners whose server is away: leases outlive that, up to a bound."""
        by_tag: dict[str, list[str]] = defaultdict(list)
        for lease, tag in self._open.items():
            by_tag[tag].append(lease)
        for tag, leases in by_tag.items():
            for first in range(0, len(leases), _AT_ONCE):
                words: list[str | int] = [
                    prefix_of(tag),
                    self._clock.moved,
                    self.milliseconds,
                    *leases[first : first + _AT_ONCE],
                ]
                with contextlib.suppress(NeevError):
                    await self._store.run(RENEW, (key_name(tag, ""),), words)
