"""Which deployments are left alone for a while because they failed, decided as LiteLLM's router decides it.

Responsible for counting successes and failures, and for the rules (LiteLLM 1.106.2: `cooldown_handlers.py` and
`cooldown_cache.py` of its `router_utils`). Not responsible for choosing among those that are left (`routing.py`).
State is that of one process. Called by `routing.py`.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from neev_provider.errors import NeevError

__all__ = ["CooldownRules", "Cooldowns", "Standing", "is_retryable_status", "routing_status"]

# LiteLLM's constants.py, with its names.
DEFAULT_COOLDOWN_TIME_SECONDS: Final = 5.0
DEFAULT_ALLOWED_FAILS: Final = 3  # a setting of just this number counts as not set
DEFAULT_FAILURE_THRESHOLD_PERCENT: Final = 0.5
DEFAULT_FAILURE_THRESHOLD_MINIMUM_REQUESTS: Final = 5
SINGLE_DEPLOYMENT_TRAFFIC_FAILURE_THRESHOLD: Final = 1000
_COUNTED_SECONDS: Final = 60.0

_TOO_MANY: Final = 429
_OUT_OF_FUNDS: Final = 402
_RETRYABLE: Final = frozenset({408, 409, 429})
_COOLED_CLIENT_ERRORS: Final = frozenset({401, 402, 404, 408, 429})


def routing_status(error: NeevError) -> int | None:
    """Return the HTTP status by which an error is judged here.

    A refusal of our own account is judged by what upstream said (401, 402, 403), although clients see a 502.
    """
    return error.upstream_status if error.code == "upstream_auth_error" else error.status


def is_retryable_status(status: int) -> bool:
    """Return LiteLLM's `should_retry`: whether the same request may go better the next time."""
    return status in _RETRYABLE or status >= 500  # noqa: PLR2004 - every server error


@dataclass(frozen=True, slots=True)
class CooldownRules:
    """What `router_settings` say about cooldowns.

    Attributes:
        seconds: how long, unless the deployment or upstream's Retry-After says otherwise.
        allowed_fails: failures within `seconds` that are forgiven; None for LiteLLM's percentages, by which a
            deployment cools down when more than half of at least 5 calls in a minute failed.
        disabled: never cool down.
    """

    seconds: float = DEFAULT_COOLDOWN_TIME_SECONDS
    allowed_fails: int | None = None
    disabled: bool = False


class _Window:
    """A count that starts anew a fixed time after its first entry."""

    __slots__ = ("_count", "_ends")

    def __init__(self) -> None:
        self._count = 0
        self._ends = 0.0

    def add(self, now: float, seconds: float) -> int:
        if now > self._ends:
            self._count, self._ends = 0, now + seconds
        self._count += 1
        return self._count

    def read(self, now: float) -> int:
        return 0 if now > self._ends else self._count


class Standing:
    """How one deployment has been doing.

    Args:
        alone: whether it is the only one of its model name: such are spared where LiteLLM spares them.
        exempt: never cools down: LiteLLM's rule for deployments with a wildcard name.
        seconds: the deployment's own cooldown time, or None.
    """

    __slots__ = ("alone", "cause", "cool_until", "exempt", "failures", "forgiven", "seconds", "successes")

    def __init__(self, *, alone: bool, exempt: bool = False, seconds: float | None = None) -> None:
        self.alone: Final = alone
        self.exempt: Final = exempt
        self.seconds: Final = seconds
        self.cool_until: float | None = None
        self.cause: NeevError | None = None  # of its last cooldown
        self.successes: Final = _Window()
        self.failures: Final = _Window()
        self.forgiven: Final = _Window()


class Cooldowns:
    """Keeps the cooldowns of one process.

    Args:
        rules: as configured.
        clock: seconds, monotonic.
    """

    def __init__(self, rules: CooldownRules, clock: Callable[[], float]) -> None:
        self._rules: Final = rules
        self._clock: Final = clock
        self._cooling: set[Standing] = set()

    @property
    def any_cooling(self) -> bool:
        """Whether any deployment at all may be cooling down; costs nothing when none is."""
        return bool(self._cooling)

    def is_cooling(self, standing: Standing) -> bool:
        """Return whether the deployment is to be left alone."""
        if standing.cool_until is None:
            return False
        if standing.cool_until > self._clock():
            return True
        standing.cool_until = None
        self._cooling.discard(standing)
        return False

    def remaining(self, standings: Iterable[Standing]) -> float:
        """Return in how many seconds the first of them may be called again."""
        now = self._clock()
        ends = [standing.cool_until for standing in standings if standing.cool_until is not None]
        return max(0.0, min(ends, default=now) - now)

    def succeeded(self, standing: Standing) -> None:
        """Count a success."""
        standing.successes.add(self._clock(), _COUNTED_SECONDS)

    def failed(self, standing: Standing, error: NeevError) -> bool:
        """Count a failure; return whether the deployment cools down from now on."""
        now = self._clock()
        standing.failures.add(now, _COUNTED_SECONDS)
        seconds = self._seconds(standing, error)
        status = routing_status(error)
        if status is None or self._rules.disabled or standing.exempt or seconds <= 0:
            return False
        if not self._is_at_fault(standing, status, now):
            return False
        standing.cool_until = now + seconds
        standing.cause = copy(error)  # without the frames it came through, and all that they hold
        self._cooling.add(standing)
        return True

    def _seconds(self, standing: Standing, error: NeevError) -> float:
        if standing.seconds is not None:
            return standing.seconds
        return self._rules.seconds if error.retry_after is None else error.retry_after

    def _is_at_fault(self, standing: Standing, status: int, now: float) -> bool:
        if status < 500 and status not in _COOLED_CLIENT_ERRORS:  # noqa: PLR2004
            return False  # the request's own fault
        if status == _OUT_OF_FUNDS and standing.alone:
            return False
        if self._rules.allowed_fails is not None:
            return standing.forgiven.add(now, self._rules.seconds) > self._rules.allowed_fails
        if (status == _TOO_MANY and not standing.alone) or not is_retryable_status(status):
            return True
        fails = standing.failures.read(now)
        calls = fails + standing.successes.read(now)
        if fails == calls >= SINGLE_DEPLOYMENT_TRAFFIC_FAILURE_THRESHOLD:
            return True
        return (
            not standing.alone
            and calls >= DEFAULT_FAILURE_THRESHOLD_MINIMUM_REQUESTS
            and fails / calls > DEFAULT_FAILURE_THRESHOLD_PERCENT
        )
