"""How admission behaves: what the operator sets, and how long things live. Read by this package."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from decimal import Decimal
from time import time
from typing import TYPE_CHECKING, Final, Literal, Self

if TYPE_CHECKING:
    from neev_provider.config_schema import AdmissionOptions

__all__ = ["DAY_MS", "MAX_BUDGET_NANOS", "NANOS", "AdmissionSettings", "Clock", "period_of"]

DAY_MS: Final = 86_400_000
"""Milliseconds in a day."""

NANOS: Final = 10**9
"""Nano-USD in a USD."""

MAX_BUDGET_NANOS: Final = 9_000_000 * NANOS
"""The largest budget: Lua's numbers are exact up to 2^53."""

_DURATION: Final = re.compile(r"([1-9][0-9]{0,8})(s|m|h|d|w|mo)")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_LONGEST_SECONDS: Final = 3660 * 86_400  # ten years
_MOST_MONTHS: Final = 120
_ABSOLUTE: Final = 10**12


def period_of(duration: str) -> str:
    """Return a budget's duration as the scripts read it: milliseconds, or `<n>mo` for calendar months in UTC.

    Args:
        duration: in LiteLLM's words: `30s`, `15m`, `24h`, `30d`, `2w`, `1mo`.

    Raises:
        ValueError: it is none of these, or longer than ten years.
    """
    match = _DURATION.fullmatch(duration)
    if match is None:
        raise ValueError("a duration is a number and s, m, h, d, w or mo, as 24h, 30d or 1mo")
    number, unit = int(match[1]), match[2]
    if (unit == "mo" and number > _MOST_MONTHS) or number * _SECONDS.get(unit, 0) > _LONGEST_SECONDS:
        raise ValueError("a duration is at most ten years")
    return duration if unit == "mo" else str(number * _SECONDS[unit] * 1000)


class Clock:
    """The scripts' clock: the store's own. Tests move it; clients and configuration have no way to it.

    Attributes:
        moved: milliseconds that it is ahead; from 10^12 on, the Unix time in milliseconds that it shows.
    """

    __slots__ = ("moved",)

    def __init__(self, moved: int = 0) -> None:
        self.moved = moved

    def now(self) -> float:
        """Return Unix seconds, by this machine's clock."""
        return self.moved / 1000 if self.moved >= _ABSOLUTE else time() + self.moved / 1000


@dataclass(frozen=True, slots=True)
class AdmissionSettings:
    """What the operator sets.

    Attributes:
        master_may_call_models: whether the master key, which has no budget, is good for models too.
        on_store_outage: refuse while the store is away, or let known keys in.
        remember_seconds: how long a key that was let in counts as known (`allow`).
        outage_parallel: calls at once for each key in one process while the store is away (`allow`), unless its own
            limit is lower.
        budget_nanos: of the whole gateway, nano-USD; None for none.
        budget_period: of that budget, as `period_of` returns it; "" for one that never begins anew.
        lease_seconds: after which the lease of a process that died expires.
        max_queued: settles that wait for the store in memory; more are written to the log.
        assumed_output: tokens taken from a limit for a request that sets no `max_tokens`.
        clock: the scripts'.
    """

    master_may_call_models: bool = False
    on_store_outage: Literal["reject", "allow"] = "reject"
    remember_seconds: float = 600.0
    outage_parallel: int = 20
    budget_nanos: int | None = None
    budget_period: str = ""
    lease_seconds: float = 90.0
    max_queued: int = 100_000
    assumed_output: int = 1024
    clock: Clock = field(default_factory=Clock)

    @classmethod
    def of(cls, options: AdmissionOptions) -> Self:
        """Return what a configuration file says."""
        budget = options.max_budget
        return cls(
            master_may_call_models=options.master_key_may_call_models,
            on_store_outage=options.on_store_outage,
            remember_seconds=options.remember_seconds,
            lease_seconds=options.lease_seconds,
            # Through text: the binary fraction of 0.1 is not what was meant.
            budget_nanos=None if budget is None else int(Decimal(str(budget)) * NANOS),
            budget_period="" if options.budget_duration is None else period_of(options.budget_duration),
        )
