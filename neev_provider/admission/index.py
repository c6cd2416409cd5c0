"""Which owners there are: names that lie in a slot of their own.

They are written before a record is made and after it is gone, so what is there is always listed; what a crash left
behind names nobody. Called by `keys.py` and `lookup.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from neev_provider.admission.scripts import INDEX_PREFIX

if TYPE_CHECKING:
    from neev_provider.admission.rules import Clock
    from neev_provider.store import Store

__all__ = ["Index"]

_OWNERS: Final = INDEX_PREFIX + "owners"  # tag to 0, or when it was retired (ms)
_KEEP_MS: Final = 400 * 86_400_000  # as long as spend is kept


class Index:
    """The lists of a store. All methods raise ServerError if it is away.

    Args:
        store: that holds them.
        clock: the scripts'.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store: Final = store
        self._clock: Final = clock

    async def owners(self, *, with_retired: bool = False) -> list[str]:
        """Return the tags of all owners."""
        last = "+inf" if with_retired else 0
        return [tag.decode() for tag in await self._store.call(_OWNERS, "ZRANGEBYSCORE", _OWNERS, 0, last)]

    async def add_owner(self, tag: str) -> None:
        """List an owner."""
        await self._store.call(_OWNERS, "ZADD", _OWNERS, 0, tag)

    async def retire_owner(self, tag: str) -> None:
        """Keep an owner that is gone for the reports, as long as its spend is kept."""
        now = round(self._clock.now() * 1000)
        await self._store.call(_OWNERS, "ZADD", _OWNERS, now, tag)
        await self._store.call(_OWNERS, "ZREMRANGEBYSCORE", _OWNERS, 1, now - _KEEP_MS)
