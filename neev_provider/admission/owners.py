"""Which owners were asked for on a day: where sweeps look for leases, and reports for spend.

An owner is on record before its first call of a day is sent upstream: whatever becomes of the process after that,
the lease is found. Called by `virtual.py` (notes), `sweeping.py` and `spend.py` (read).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from neev_provider.admission.rules import DAY_MS
from neev_provider.admission.scripts import TOTAL_PREFIX
from neev_provider.errors import NeevError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from neev_provider.store import Store

__all__ = ["Owners", "owners_of_day", "put_on_record"]

_TTL: Final = 400 * 86_400  # seconds, as the days' spend (common.lua)
_AGAIN: Final = 1.0  # seconds
_AT_ONCE: Final = 500


class Owners:
    """Notes the owners that this process asks for.

    Args:
        store: where.
    """

    def __init__(self, store: Store) -> None:
        self._store: Final = store
        self._day = -1
        self._noted: Final[set[str]] = set()
        self._waiting: Final[set[tuple[int, str]]] = set()

    def is_noted(self, tag: str, at: int) -> bool:
        """Tell whether an owner is on record for a day.

        Args:
            tag: of the owner.
            at: Unix milliseconds of the call's admission.
        """
        if at // DAY_MS != self._day:
            self._day = at // DAY_MS
            self._noted.clear()
        return tag in self._noted

    async def note(self, tag: str, at: int) -> None:
        """Put an owner on record for the day of `at`; if the store is away, as soon as it is back."""
        self.note_later(tag, at)
        with contextlib.suppress(NeevError):
            await self._write(at // DAY_MS, [tag])

    def note_later(self, tag: str, at: int) -> None:
        """Do so within about a second of the store's answering."""
        self._waiting.add((at // DAY_MS, tag))

    async def note_for_ever(self) -> None:
        """Note again what could not be noted; ends by being cancelled."""
        while True:
            await asyncio.sleep(_AGAIN)
            by_day: dict[int, list[str]] = defaultdict(list)
            for day, tag in list(self._waiting)[:_AT_ONCE]:
                by_day[day].append(tag)
            with contextlib.suppress(NeevError):
                for day, tags in by_day.items():
                    await self._write(day, tags)

    async def _write(self, day: int, tags: list[str]) -> None:
        await put_on_record(self._store, tags, day * DAY_MS)
        self._waiting.difference_update((day, tag) for tag in tags)
        if day == self._day:
            self._noted.update(tags)


async def put_on_record(store: Store, tags: Sequence[str], at: int) -> None:
    """Note that owners were asked for on the day of `at` (Unix milliseconds).

    Raises:
        ServerError: the store is away.
    """
    name = _name(datetime.fromtimestamp(at / 1000, UTC))
    await store.call(name, "SADD", name, *tags)
    await store.call(name, "EXPIRE", name, _TTL)


async def owners_of_day(store: Store, day: datetime) -> list[str]:
    """Return the tags of the owners that were asked for on a day.

    Raises:
        ServerError: the store is away.
    """
    name = _name(day)
    return [tag.decode() for tag in await store.call(name, "SMEMBERS", name)]


def _name(day: datetime) -> str:
    return f"{TOTAL_PREFIX}day:{day:%Y%m%d}"
