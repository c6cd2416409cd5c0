"""Who is let in while the store is away, if the operator chose `allow`: keys seen a moment ago, within bounds.

Each process counts for itself, so all limits hold for one process and not for all together; what is spent meanwhile
is queued and charged when the store is back. Called by `virtual.py`.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Final

from neev_provider.errors import LimitError, RequestError

if TYPE_CHECKING:
    from neev_provider.admission.terms import Demand, Principal

__all__ = ["KnownKey", "KnownKeys"]

_MOST_KEYS: Final = 10_000
_WINDOW: Final = 61.0  # seconds


@dataclass(slots=True)
class InFlight:
    """How many calls were let in and have not ended; of a key, however often it is remembered anew."""

    count: int = 0


@dataclass(slots=True)
class KnownKey:
    """What is remembered of a key that was let in.

    Attributes:
        principal: who holds it.
        rpm: requests a minute, the lower of its own and its team's; None for no limit.
        tpm: tokens a minute, likewise.
        parallel: calls at once, likewise.
        left: nano-USD that its budgets left when it was last seen; None for no budget.
        seen_at: when that was, by this process's clock.
        recent: when calls were let in since, and their tokens.
        in_flight: calls that were let in so and have not ended.
    """

    principal: Principal
    rpm: int | None
    tpm: int | None
    parallel: int | None
    left: int | None
    seen_at: float
    recent: deque[tuple[float, int]] = field(default_factory=deque)
    in_flight: InFlight = field(default_factory=InFlight)


class KnownKeys:
    """Keys that were let in lately, by the digest of their token.

    Args:
        seconds: for how long one is known.
        parallel: calls at once for each.
    """

    def __init__(self, *, seconds: float, parallel: int) -> None:
        self._seconds: Final = seconds
        self._parallel: Final = parallel
        self._keys: Final[OrderedDict[bytes, KnownKey]] = OrderedDict()

    def remember(self, digest: bytes, key: KnownKey) -> None:
        """Note a key that the store has let in."""
        before = self._keys.pop(digest, None)
        if before is not None:
            key.in_flight = before.in_flight
        self._keys[digest] = key
        if len(self._keys) > _MOST_KEYS:
            self._keys.popitem(last=False)

    def forget(self, digest: bytes) -> None:
        """Note a key that the store has refused for itself."""
        self._keys.pop(digest, None)

    def find(self, digest: bytes) -> KnownKey | None:
        """Return a key that is known; None if it was not let in lately."""
        key = self._keys.get(digest)
        return key if key is not None and monotonic() - key.seen_at <= self._seconds else None

    def take(self, key: KnownKey, demand: Demand, tokens: int, nanos: int) -> None:
        """Let a call of a known key in; `give_back` when it has ended.

        Raises:
            RequestError: the model is not allowed, or has no price and the key has a budget.
            LimitError: one of the limits, as this process counts them.
        """
        if not key.principal.may_call(demand.model):
            raise RequestError("model_not_allowed", f"This key may not call '{demand.model}'.", param="model")
        if key.left is not None and not demand.priced:
            raise RequestError("model_unpriced", f"The model '{demand.model}' has no price.", param="model")
        now = monotonic()
        while key.recent and now - key.recent[0][0] > _WINDOW:
            key.recent.popleft()
        parallel = self._parallel if key.parallel is None else min(self._parallel, key.parallel)
        used = sum(count for _, count in key.recent)
        limit = (
            "parallel"
            if key.in_flight.count >= parallel
            else "requests"
            if key.rpm is not None and len(key.recent) >= key.rpm
            else "tokens"
            if key.tpm is not None and used + tokens > key.tpm
            else ""
        )
        if limit:
            raise LimitError(
                "rate_limit_exceeded",
                "The gateway's store is away, and it lets in less meanwhile.",
                retry_after=1,
            ).of(limit, "key")
        if key.left is not None:
            if key.left < nanos:
                raise LimitError(
                    "budget_exceeded",
                    "The gateway's store is away, and the budget last seen does not cover this request.",
                    retry_after=5,
                ).of("budget", "key")
            key.left -= nanos
        key.in_flight.count += 1
        key.recent.append((now, tokens))

    @staticmethod
    def give_back(key: KnownKey, nanos: int) -> None:
        """Note that a call has ended, and what of its reserve was not spent, in nano-USD."""
        key.in_flight.count -= 1
        if key.left is not None:
            key.left += nanos
