"""When a failed call is tried again, and when not.

Responsible for the decision alone: it neither sleeps nor calls. Every figure of the retry policy stands here. Only
what failed before upstream's first byte ever comes here. Called by `upstream.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from neev_provider.errors import NeevError, UpstreamError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["NO_RETRIES", "ConnectError", "RetryBudget", "RetryPolicy"]

# The vendor's own client policy (NEEV_API.md, "Limits, retries, timeouts").
MAX_RETRIES: Final = 2
BASE_DELAY_SECONDS: Final = 0.25
MAX_DELAY_SECONDS: Final = 8.0
MAX_RETRY_AFTER_SECONDS: Final = 30.0

RETRIED_STATUSES: Final = frozenset({429, 502, 503, 504})
# Often a bad request in disguise (NEEV_API.md, "What the live service got wrong").
ONCE_RETRIED_STATUSES: Final = frozenset({500})

BUDGET_RATIO: Final = 0.1  # retries per call
BUDGET_FLOOR: Final = 10  # retries that are there without any traffic, so that a lone client has its own
BUDGET_FLOOR_PER_SECOND: Final = 1.0  # how fast they come back
BUDGET_CEILING: Final = 100  # retries that traffic can save up: those of the last 1,000 calls


class ConnectError(UpstreamError):
    """Upstream gave no answer at all: no connection, or one that broke before the status line."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often, and after which wait, a call is tried again.

    Attributes:
        max_retries: attempts after the first.
        base_delay: seconds; the bound of the first wait, doubled for each one after it.
        max_delay: seconds; the bound of any wait that upstream did not ask for.
        max_retry_after: seconds; if upstream asks for more, the call fails at once and the caller is told.
        budget_ratio: retries per call over all calls to a host; more of them would be a storm.
        budget_floor: retries allowed without any traffic.
    """

    max_retries: int = MAX_RETRIES
    base_delay: float = BASE_DELAY_SECONDS
    max_delay: float = MAX_DELAY_SECONDS
    max_retry_after: float = MAX_RETRY_AFTER_SECONDS
    budget_ratio: float = BUDGET_RATIO
    budget_floor: int = BUDGET_FLOOR

    def delay(self, error: NeevError, earlier: Sequence[NeevError], jitter: float) -> float | None:
        """Return how many seconds to wait before the next attempt, or None for no other.

        Args:
            error: why the attempt failed.
            earlier: why those before it failed.
            jitter: a random number from 0 to 1: "full jitter", so that callers that failed together do not come
                back together. What upstream asked for is waited in full, and the jitter comes on top.
        """
        if len(earlier) >= self.max_retries or not _worth_retrying(error, earlier):
            return None
        if error.retry_after is not None:
            if error.retry_after > self.max_retry_after:
                return None
            return error.retry_after + jitter * self.base_delay
        return float(jitter * min(self.max_delay, self.base_delay * 2 ** len(earlier)))


def _worth_retrying(error: NeevError, earlier: Sequence[NeevError]) -> bool:
    if isinstance(error, ConnectError) or error.upstream_status in RETRIED_STATUSES:
        return True
    return error.upstream_status in ONCE_RETRIED_STATUSES and all(
        before.upstream_status not in ONCE_RETRIED_STATUSES for before in earlier
    )


NO_RETRIES: Final = RetryPolicy(max_retries=0)


class RetryBudget:
    """Keeps retries to a share of the calls, so that an upstream in trouble is not called three times as often.

    Every call adds `ratio` of a retry, every retry takes one. Kept per host, in whole thousandths of a retry.

    Args:
        ratio: retries per call.
        floor: retries that are there without any traffic; they come back at one a second.
        clock: seconds, monotonic.
    """

    __slots__ = ("_balance", "_clock", "_floor", "_share", "_topped_up")

    def __init__(self, ratio: float, floor: int, clock: Callable[[], float]) -> None:
        self._share: Final = round(ratio * 1000)
        self._floor: Final = floor * 1000
        self._clock: Final = clock
        self._balance = self._floor
        self._topped_up = clock()

    def add_call(self) -> None:
        """Count a call that was not a retry."""
        ceiling = max(self._floor, BUDGET_CEILING * 1000)
        self._balance = min(ceiling, self._balance + self._share)

    def take_retry(self) -> bool:
        """Take one retry out of the budget; return False if there is none."""
        now = self._clock()
        regained = int((now - self._topped_up) * BUDGET_FLOOR_PER_SECOND * 1000)
        if regained > 0:
            self._topped_up = now
            self._balance = max(self._balance, min(self._floor, self._balance + regained))
        if self._balance < 1000:  # noqa: PLR2004 - one retry
            return False
        self._balance -= 1000
        return True
