"""Expires the leases of owners whom nobody asks for any more; one process at a time does it for all.

Leases of owners that are asked for expire in admission itself. Called by `virtual.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from neev_provider.admission.owners import owners_of_day
from neev_provider.admission.scripts import SWEEP, TOTAL_PREFIX, key_name, prefix_of
from neev_provider.errors import NeevError

if TYPE_CHECKING:
    from collections.abc import Callable

    from neev_provider.admission.rules import Clock
    from neev_provider.store import Store

__all__ = ["sweep", "sweep_for_ever"]

_EVERY: Final = 30.0  # seconds, at most
_AT_ONCE: Final = 100


async def sweep(store: Store, clock: Clock) -> tuple[int, int]:
    """Expire what is due of all owners that were asked for today or yesterday.

    Returns:
        How many leases, and the nano-USD charged for them. Owners whose server is away are left to the next sweep:
        what the others were charged must be told, and those after them be asked.

    Raises:
        ServerError: the store is away.
    """
    now = datetime.fromtimestamp(clock.now(), UTC)
    tags = {tag for days in (0, 1) for tag in await owners_of_day(store, now - timedelta(days=days))}
    count = nanos = 0
    waiting = sorted(tags)
    while waiting:
        some, waiting = waiting[:_AT_ONCE], waiting[_AT_ONCE:]
        done = await asyncio.gather(
            *(store.run(SWEEP, (key_name(tag, ""),), (prefix_of(tag), clock.moved)) for tag in some),
            return_exceptions=True,
        )
        for answer in done:
            if isinstance(answer, NeevError):
                continue
            if isinstance(answer, BaseException):
                raise answer
            count, nanos = count + int(answer[0]), nanos + int(answer[1])
    return count, nanos


async def sweep_for_ever(
    store: Store,
    process: str,
    on_expired: Callable[[int, int], None],
    clock: Clock,
    lease_seconds: float,
) -> None:
    """Sweep every half minute, or lease's life if that is shorter, unless another process does.

    Ends by being cancelled.
    """
    lock = TOTAL_PREFIX + "sweeper"
    every = min(_EVERY, lease_seconds)
    while True:
        await asyncio.sleep(every)
        with contextlib.suppress(NeevError):
            if await store.call(lock, "SET", lock, process, "NX", "PX", int(every * 950)) is not None:
                on_expired(*await sweep(store, clock))
