"""Which owners were asked for on a day: how reports and sweeps find what they did. Called by this package only.

Processes note owners with their totals (`total.py`).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from neev_provider.admission.scripts import TOTAL_PREFIX

if TYPE_CHECKING:
    from neev_provider.store import Store

__all__ = ["note_owner", "owners_of_day"]

_KEEP_SECONDS: Final = 400 * 86_400  # as long as spend is kept


async def owners_of_day(store: Store, day: datetime) -> list[str]:
    """Return the tags of the owners that were asked for on a day.

    Raises:
        ServerError: the store is away.
    """
    name = _name(day)
    return [tag.decode() for tag in await store.call(name, "SMEMBERS", name)]


async def note_owner(store: Store, tag: str, at: int) -> None:
    """Note that an owner was asked for on the day of `at` (Unix milliseconds).

    Raises:
        ServerError: the store is away.
    """
    name = _name(datetime.fromtimestamp(at / 1000, UTC))
    await store.call(name, "SADD", name, tag)
    await store.call(name, "EXPIRE", name, _KEEP_SECONDS)


def _name(day: datetime) -> str:
    return f"{TOTAL_PREFIX}day:{day:%Y%m%d}"
