"""Reads what was spent, by day, key, team and model. Called by the command line and the admin routes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from neev_provider.admission.owners import owners_of_day
from neev_provider.admission.scripts import prefix_of
from neev_provider.admission.tokens import tag_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from neev_provider.store import Store

__all__ = ["DaySpend", "read_spend"]

_AT_ONCE: Final = 100


@dataclass(frozen=True, slots=True)
class DaySpend:
    """What one key spent on one model on one day (UTC).

    Attributes:
        day: `2026-05-28`.
        key_id: of the key, which may be gone.
        team_id: of its team; None if it has none.
        model: upstream's id; the public name for calls of a process that died.
        requests: that were answered.
        prompt_tokens: tokens read.
        completion_tokens: tokens produced.
        cost_nanos: nano-USD.
        estimated: how many of the requests were charged by an estimate.
        characters: of speech.
    """

    day: str
    key_id: str
    team_id: str | None
    model: str
    requests: int
    prompt_tokens: int
    completion_tokens: int
    cost_nanos: int
    estimated: int
    characters: int


async def read_spend(
    store: Store, first: datetime, last: datetime, *, owners: Sequence[str] | None = None
) -> list[DaySpend]:
    """Return the spend of some days, by day.

    Args:
        store: that holds it.
        first: a moment of the first day (UTC).
        last: a moment of the last.
        owners: tags (a team's id, or of a key without one its own); None for all that were asked for.

    Raises:
        ServerError: the store is away.
    """
    found: list[DaySpend] = []
    for number in range((last.date() - first.date()).days + 1):
        day = first + timedelta(days=number)
        tags = sorted(await owners_of_day(store, day) if owners is None else owners)
        for start in range(0, len(tags), _AT_ONCE):
            names = [f"{prefix_of(tag)}day:{day:%Y%m%d}" for tag in tags[start : start + _AT_ONCE]]
            for flat in await asyncio.gather(*(store.call(name, "HGETALL", name) for name in names)):
                found += [_entry(f"{day:%Y-%m-%d}", flat[i], flat[i + 1]) for i in range(0, len(flat), 2)]
    return [entry for entry in found if entry.requests or entry.cost_nanos or entry.prompt_tokens]


def _entry(day: str, field: Any, value: Any) -> DaySpend:
    key_id, _, model = field.decode().partition(" ")
    figures = [int(figure) for figure in value.split()]
    team = tag_of(key_id) if tag_of(key_id) != key_id else None
    return DaySpend(day, key_id, team, model, *figures)
