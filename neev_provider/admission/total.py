"""The spend of the whole gateway: what this process adds to it, and a picture of it at most a second old.

Each process adds what it charged and says what it holds, once a second, and reads what all do. The budget of the
gateway is checked against that picture, so it may be overshot by what other processes let in within a second.
Called by `virtual.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Final

from neev_provider.admission.rules import Clock
from neev_provider.admission.scripts import TOTAL, TOTAL_NAME, TOTAL_PREFIX
from neev_provider.errors import NeevError

if TYPE_CHECKING:
    from neev_provider.store import Store

__all__ = ["Total", "TotalSpend", "read_total"]

_EVERY: Final = 0.9  # seconds, so that with the call itself a second is not exceeded
_WORD_COUNTS_MS: Final = 10_000
_STALE: Final = 5.0  # seconds


_READER: Final = "reader"  # in the place of a process that charges; it holds nothing


@dataclass(frozen=True, slots=True)
class TotalSpend:
    """The spend of the whole gateway.

    Attributes:
        spent_nanos: nano-USD that all processes charged in the budget's present window, and have told of.
        held_nanos: nano-USD that their calls in flight may still need.
        reset_seconds: until the budget begins anew; None for never.
    """

    spent_nanos: int
    held_nanos: int
    reset_seconds: float | None


async def read_total(store: Store, period: str = "", *, clock: Clock | None = None) -> TotalSpend:
    """Return what all processes have told so far.

    Args:
        store: that holds it.
        period: of the gateway's budget.
        clock: the scripts'.

    Raises:
        ServerError: the store is away.
    """
    moved = (clock or Clock()).moved
    words: list[str | int] = [TOTAL_PREFIX, moved, _READER, 0, period, 0, 0, _WORD_COUNTS_MS]
    _, spent, held, reset, _ = await store.run(TOTAL, (TOTAL_NAME,), words)
    return TotalSpend(int(spent), int(held), None if reset == b"" else int(reset) / 1000)


class Total:
    """The gateway's spend, as one process sees it.

    Args:
        store: that holds it.
        process: this one's id.
        budget_nanos: of the gateway; None for none.
        period: of that budget.
        clock: the scripts'.
    """

    def __init__(
        self,
        store: Store,
        process: str,
        *,
        budget_nanos: int | None = None,
        period: str = "",
        clock: Clock | None = None,
    ) -> None:
        self._store: Final = store
        self._process: Final = process
        self._budget: Final = budget_nanos
        self._period: Final = period
        self._clock: Final = clock or Clock()
        self._number = 0
        self._telling = 0  # what the call under way, or to be made again, adds
        self._charged = 0  # since then
        self._held = 0
        self._spent_by_all = 0
        self._held_by_others = 0
        self._seen_at: float | None = None

    @property
    def is_stale(self) -> bool:
        """Whether there is a budget and nobody knows what is left of it."""
        if self._budget is None:
            return False
        return self._seen_at is None or monotonic() - self._seen_at > _STALE

    def left(self) -> int | None:
        """Return the nano-USD that the gateway's budget leaves; None if it has none."""
        if self._budget is None:
            return None
        used = self._spent_by_all + self._held_by_others + self._telling + self._charged + self._held
        return max(0, self._budget - used)

    def hold(self, nanos: int) -> None:
        """Count what was reserved."""
        self._held += nanos

    def charge(self, nanos: int, released: int) -> None:
        """Count what was charged, and what is no longer reserved."""
        self._charged += nanos
        self._held -= released

    async def tell_for_ever(self) -> None:
        """Tell once a second; ends by being cancelled."""
        while True:
            await asyncio.sleep(_EVERY)
            if self._budget is None and not (self._charged or self._telling):
                continue
            with contextlib.suppress(NeevError):  # told with the next
                await self.tell()

    async def tell(self) -> None:
        """Add what was charged, and look.

        Raises:
            ServerError: the store is away.
        """
        if self._telling == 0:
            self._number += 1
            self._telling, self._charged = self._charged, 0
        words: list[str | int] = [
            TOTAL_PREFIX,
            self._clock.moved,
            self._process,
            self._number,
            self._period,
            self._telling,
            self._held,
            _WORD_COUNTS_MS,
        ]
        _, spent, held, _, _ = await self._store.run(TOTAL, (TOTAL_NAME,), words)
        self._telling = 0
        self._spent_by_all, self._held_by_others = int(spent), int(held)
        self._seen_at = monotonic()
