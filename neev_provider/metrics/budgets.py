"""Budgets as gauges: what keys, teams and the gateway may spend, have spent, and may still have to.

Read from the store whenever somebody wants to see them, so they are there before any traffic; while the store is
away the last ones are shown. Run by the process that exposes metrics.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final

from neev_provider.admission import tokens
from neev_provider.admission.keys import Keys
from neev_provider.admission.records import KeyInfo
from neev_provider.admission.total import read_total
from neev_provider.errors import NeevError
from neev_provider.metrics import families
from neev_provider.metrics.families import ALL, NONE, OTHER

if TYPE_CHECKING:
    from neev_provider.admission.records import TeamInfo
    from neev_provider.admission.rules import AdmissionSettings
    from neev_provider.admission.total import TotalSpend
    from neev_provider.metrics.families import Family
    from neev_provider.metrics.sums import Sums
    from neev_provider.store import Store

__all__ = ["Budgets"]

_log: Final = logging.getLogger(__name__)

_FRESH_SECONDS: Final = 1.0
_READ_SECONDS: Final = 5.0  # a bound of one look, far beyond what it takes
_NANO: Final = 10**9

_Labels = tuple[str, ...]  # scope, team, key


class Budgets:
    """The budgets of a store, as last seen.

    Args:
        store: that holds them.
        settings: with the gateway's own budget.
        sums: whose caps hold, and which is told aliases.
        most_owners: of keys that are read: teams, and keys without one.
    """

    def __init__(self, store: Store, settings: AdmissionSettings, sums: Sums, *, most_owners: int) -> None:
        self._store: Final = store
        self._keys: Final = Keys(store)
        self._settings: Final = settings
        self._sums: Final = sums
        self._most_owners: Final = most_owners
        self._reading: asyncio.Task[None] | None = None
        self._seen_at: float | None = None
        self._usd: dict[Family, dict[_Labels, float]] = {}
        self._resets: dict[_Labels, float] = {}  # Unix seconds

    async def refresh(self) -> None:
        """Look, unless somebody just did; if the store is away what was seen last is kept."""
        if self._seen_at is not None and time.monotonic() - self._seen_at < _FRESH_SECONDS:
            return
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read())
        await asyncio.shield(self._reading)

    async def close(self) -> None:
        """End what is under way, and the store's connections."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        await self._store.close()

    def values(self) -> dict[Family, dict[tuple[str, ...], float]]:
        """Return the gauges as they are now; called from any thread."""
        if self._seen_at is None:
            return {}
        now = time.time()
        shown: dict[Family, dict[tuple[str, ...], float]] = {
            family: dict(series) for family, series in self._usd.items()
        }
        shown[families.BUDGET_RESET] = {labels: max(0.0, at - now) for labels, at in self._resets.items()}
        shown[families.BUDGET_READ_AGE] = {(): time.monotonic() - self._seen_at}
        return shown

    async def _read(self) -> None:
        try:
            async with asyncio.timeout(_READ_SECONDS):
                infos = await self._keys.list_some(self._most_owners)
                total = await read_total(self._store, self._settings.budget_period)
        except (NeevError, TimeoutError):
            return
        except Exception:  # noqa: BLE001 - a record that cannot be read must not take all metrics away
            _log.exception("budgets cannot be read")
            return
        for kind in ("key", "team"):
            of_kind = [info for info in infos if isinstance(info, KeyInfo) == (kind == "key")]
            self._sums.learn(kind, {info.id: info.alias or info.id for info in of_kind})
        usd: dict[Family, dict[_Labels, float]] = {
            families.BUDGET_LIMIT: {},
            families.BUDGET_USED: {},
            families.BUDGET_RESERVED: {},
        }
        resets: dict[_Labels, float] = {}
        for info in infos:
            labels = self._labels(info)
            if labels is None:
                continue
            _put(usd, labels, info.max_budget_nanos, info.spend_nanos, info.held_nanos)
            if info.max_budget_nanos is not None and info.budget_reset_at is not None:
                resets[labels] = info.budget_reset_at.timestamp()
        self._put_total(usd, resets, total)
        self._usd, self._resets, self._seen_at = usd, resets, time.monotonic()

    def _labels(self, info: TeamInfo) -> _Labels | None:
        """Return a key's or team's labels; None if it is beyond the cap: budgets of many make no sense as one."""
        if not isinstance(info, KeyInfo):
            team = self._sums.label("team", info.id)
            return None if team == OTHER else ("team", team, ALL)
        key = self._sums.label("key", info.id)
        team_id = tokens.team_of(info.id)
        team = NONE if team_id is None else self._sums.label("team", team_id)
        return None if key == OTHER else ("key", team, key)

    def _put_total(
        self, usd: dict[Family, dict[_Labels, float]], resets: dict[_Labels, float], total: TotalSpend
    ) -> None:
        labels = ("gateway", ALL, ALL)
        budget = self._settings.budget_nanos
        _put(usd, labels, budget, total.spent_nanos, total.held_nanos)
        if budget is not None and total.reset_seconds is not None:
            resets[labels] = time.time() + total.reset_seconds


def _put(
    usd: dict[Family, dict[_Labels, float]], labels: _Labels, limit: int | None, used: int, held: int
) -> None:
    if limit is not None:
        usd[families.BUDGET_LIMIT][labels] = limit / _NANO
    usd[families.BUDGET_USED][labels] = used / _NANO
    usd[families.BUDGET_RESERVED][labels] = held / _NANO
