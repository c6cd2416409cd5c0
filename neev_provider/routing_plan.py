"""One request's way through deployments, retries and fallbacks, as LiteLLM 1.106.2's Router goes it.

`_with_retries` is its `async_function_with_retries`, `_with_fallbacks` its `async_function_with_fallbacks`,
`_try_chain` its `run_async_fallback`; they are generators that yield what to do and are sent what came of it, so that
each reads like its model. Called by `routing.py`, which makes plans, and by the gateway, which carries them out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from neev_provider.cooldown import is_retryable_status, routing_status
from neev_provider.errors import NeevError, RequestError, UpstreamError
from neev_provider.routing_settings import ANY_GROUP

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Generator, Mapping, Sequence

    from neev_provider.cooldown import Cooldowns
    from neev_provider.routed import RoutedDeployment
    from neev_provider.routing_settings import FallbackChain, RoutingSettings

__all__ = ["Attempt", "Group", "HandOver", "Plan", "Routes", "Step", "lookup"]

# LiteLLM's constants.py, in seconds.
INITIAL_RETRY_DELAY: Final = 0.5
MAX_RETRY_DELAY: Final = 8.0
JITTER: Final = 0.75
MAX_RETRY_AFTER: Final = 60.0

_TOO_LONG: Final = "context_length_exceeded"
_OUR_ACCOUNT: Final = frozenset({401, 403})
_ACCOUNT: Final = "upstream_auth_error"
_NOT_FOUND: Final = 404
_TOO_MANY: Final = 429
_PREFIX: Final = "neev/"


class Attempt(NamedTuple):
    """Call this deployment now.

    Attributes:
        deployment: whom to call.
        wait: seconds to wait before.
        group: the group it was chosen from, which is not the requested one after a fallback.
        retry: how many attempts at this group came before.
        fallback: how many groups, or order levels, were fallen back to before.
    """

    deployment: RoutedDeployment
    wait: float
    group: str
    retry: int
    fallback: int


class HandOver(NamedTuple):
    """Let LiteLLM answer the whole request, with this model name in place of the client's."""

    model_name: str


Step: TypeAlias = Attempt | HandOver


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Group:
    """The deployments that a public model name stands for.

    Attributes:
        name: what the client asked for.
        deployments: in the configuration's order; empty unless `fast`.
        reason: why LiteLLM has to answer, or None.
        orders: the order levels there are, lowest first.
    """

    name: str
    deployments: tuple[RoutedDeployment, ...] = ()
    reason: str | None = None
    orders: tuple[int, ...] = field(init=False)
    _first: tuple[RoutedDeployment, ...] = field(init=False, repr=False)
    _shares: Sequence[float] | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Prepare the choice among deployments that are all well."""
        first = _lowest(self.deployments)
        object.__setattr__(
            self, "orders", tuple(sorted({d.order for d in self.deployments if d.order is not None}))
        )
        object.__setattr__(self, "_first", first)
        object.__setattr__(self, "_shares", _cumulative_shares(first))

    @property
    def fast(self) -> bool:
        """Whether the fast path may answer."""
        return self.reason is None

    def choose(
        self,
        cooldowns: Cooldowns,
        rng: random.Random,
        order: int | None = None,
        skipped: frozenset[RoutedDeployment] = frozenset(),
    ) -> RoutedDeployment | None:
        """Return a deployment that is not cooling down, or None.

        Args:
            cooldowns: of this process.
            rng: chooses by weight.
            order: take them from this level, not from the lowest that is left.
            skipped: those that refused this request; taken only if no others are left.
        """
        if order is None and not skipped and not cooldowns.any_cooling:
            candidates, shares = self._first, self._shares
        else:
            left = tuple(d for d in self.deployments if not cooldowns.is_cooling(d.standing))
            candidates = _lowest(left) if order is None else tuple(d for d in left if d.order == order)
            candidates = tuple(d for d in candidates if d not in skipped) or candidates
            shares = _cumulative_shares(candidates)
        if len(candidates) <= 1:
            return candidates[0] if candidates else None
        if shares is None:
            return rng.choice(candidates)
        return rng.choices(candidates, cum_weights=shares)[0]


def _lowest(deployments: tuple[RoutedDeployment, ...]) -> tuple[RoutedDeployment, ...]:
    """Return those of the lowest order. As soon as any has an order, those without one are never first."""
    lowest = min((d.order for d in deployments if d.order is not None), default=None)
    return deployments if lowest is None else tuple(d for d in deployments if d.order == lowest)


def _cumulative_shares(deployments: tuple[RoutedDeployment, ...]) -> Sequence[float] | None:
    """Return what `random.choices` needs, or None for equal shares: LiteLLM's `simple_shuffle`."""
    for weights in zip(*(d.weight for d in deployments), strict=True):
        if max(weights) > 0:
            return list(accumulate(weights))
    return None


class Routes(NamedTuple):
    """What a plan needs of the router that made it."""

    settings: RoutingSettings
    cooldowns: Cooldowns
    rng: random.Random
    resolve: Callable[[str], Group | None]


class _NoDeploymentsError(UpstreamError):
    """All deployments of a group are cooling down; LiteLLM answers 429 too, whatever the cause."""


_Way: TypeAlias = "Generator[Step, NeevError, NeevError]"
_Target: TypeAlias = tuple[str, int | None]  # a group, or one order level of the group that failed


class Plan:
    """What to do next for one request, and in the end, which error to answer with.

    Args:
        routes: of the router.
        group: what the client asked for; must be `fast`.
        may_call: whether the client's key may call a model name; asked before a fallback to it.
    """

    __slots__ = (
        "_attempted",
        "_current",
        "_error",
        "_group",
        "_may_call",
        "_name",
        "_routes",
        "_way",
        "error",
    )

    def __init__(self, routes: Routes, group: Group, may_call: Callable[[str], bool] | None) -> None:
        self._routes: Final = routes
        self._name: Final = group.name
        self._may_call: Final = may_call
        self._attempted: set[str | _Target] = set()
        self._current: RoutedDeployment | None = None
        self._error: NeevError | None = None
        self._group: Final = group
        self._way: _Way | None = None
        self.error: NeevError | None = None

    def next(self) -> Step | None:
        """Return what to do, or None if nothing is left: `error` is the answer then.

        Raises:
            RuntimeError: the outcome of the last attempt was not told.
        """
        if self.error is not None:
            return None
        if self._way is None and self._current is None:
            first = self._group.choose(self._routes.cooldowns, self._routes.rng)
            if first is not None:  # as a rule it answers: then no way had to be made
                self._current = first
                return Attempt(first, 0.0, self._name, 0, 0)
        if self._current is not None and self._error is None:
            raise RuntimeError("the last attempt's outcome is missing")
        try:
            step = self._go_on()
        except StopIteration as end:
            self.error = end.value
            return None
        if type(step) is Attempt:
            self._current = step.deployment
        return step

    def _go_on(self) -> Step:
        way = self._way
        if way is None:
            way = self._way = self._with_fallbacks(self._group, None, 0, self._current)
            step = next(way)  # the attempt that was made before there was a way, if one was
            if self._current is None:
                return step
        error, self._error = self._error, None
        return next(way) if error is None else way.send(error)

    def failed(self, error: NeevError) -> bool:
        """Tell that the last attempt failed. After a first byte was relayed this is the end: do not ask `next`.

        Returns:
            Whether the deployment is left alone from now on, for a while.
        """
        if self._current is None:
            return False
        self._error = error
        return self._routes.cooldowns.failed(self._current.standing, error)

    def succeeded(self) -> None:
        """Tell that the last attempt succeeded."""
        if self._current is not None:
            self._routes.cooldowns.succeeded(self._current.standing)

    def _with_fallbacks(
        self, group: Group, order: int | None, depth: int, first: RoutedDeployment | None = None
    ) -> _Way:
        """Try a group, `first` before all, then what it falls back to; return the error if all fails."""
        error = yield from self._with_retries(group, order, depth, first)
        settings = self._routes.settings
        names = (group.name, self._name)
        too_long = error.code == _TOO_LONG
        if len(group.orders) > 1 and not too_long:
            tried = group.orders[0] if order is None else order
            levels: list[_Target] = [(group.name, level) for level in group.orders if level > tried]
            if targets := levels + _targets(lookup(settings.fallbacks, names)):
                return (yield from self._try_chain(targets, group.name, error, depth))
        chains = settings.context_fallbacks if too_long and settings.context_fallbacks else settings.fallbacks
        if targets := _targets(lookup(chains, names)):
            yield from self._try_chain(targets, group.name, error, depth)
        return error

    def _try_chain(self, targets: Sequence[_Target], failed: str, error: NeevError, depth: int) -> _Way:
        """Try what a failed group falls back to; return the last error."""
        if depth >= self._routes.settings.max_fallbacks:
            return error
        self._attempted.add(failed)
        for target in targets:
            name, order = target
            if order is None and name == failed:
                continue
            if name != failed and self._may_call is not None and not self._may_call(name):
                continue
            key = name if order is None else target
            if key in self._attempted:
                continue
            self._attempted.add(key)
            depth += 1
            group = self._routes.resolve(name)
            if group is None:
                error = RequestError("model_not_found", f"The model '{name}' does not exist.", param="model")
            elif group.fast:
                error = yield from self._with_fallbacks(group, order, depth)
            else:
                yield HandOver(name)
                return error
        return error

    def _with_retries(
        self, group: Group, order: int | None, depth: int, first: RoutedDeployment | None
    ) -> _Way:
        """Try the deployments of a group, `first` before all if it is chosen already; return the last error."""
        routes = self._routes
        refused: frozenset[RoutedDeployment] = frozenset()
        retries: int | None = None
        retry = 0
        wait = 0.0
        while True:
            deployment = first or group.choose(routes.cooldowns, routes.rng, order, refused)
            first = None
            if deployment is None:
                error: NeevError = self._no_deployments(group)
            else:
                error = yield Attempt(deployment, wait, group.name, retry, depth)
            if retries is None:  # the deployment that fails first decides
                own = None if deployment is None else deployment.num_retries
                retries = routes.settings.num_retries if own is None else own
            if retry >= retries or not self._is_worth_a_retry(group, error):
                return error
            status = _status(error)
            if deployment is not None and status is not None and not is_retryable_status(status):
                refused |= {deployment}
            wait = self._wait(group, error, retry)
            retry += 1

    def _is_worth_a_retry(self, group: Group, error: NeevError) -> bool:
        status = _status(error)
        if status is not None and not is_retryable_status(status) and status not in _OUR_ACCOUNT:
            return False
        if status in _OUR_ACCOUNT and len(group.deployments) == 1:
            return False
        cooldowns = self._routes.cooldowns
        return not cooldowns.any_cooling or any(
            not cooldowns.is_cooling(deployment.standing) for deployment in group.deployments
        )

    def _wait(self, group: Group, error: NeevError, retry: int) -> float:
        """Return how long LiteLLM waits: not at all if there are others to turn to."""
        if len(group.deployments) > 1:
            return 0.0
        jitter = JITTER * self._routes.rng.random()
        if error.retry_after is not None and 0 < error.retry_after <= MAX_RETRY_AFTER:
            return error.retry_after + jitter
        delay = max(INITIAL_RETRY_DELAY * 2.0**retry, self._routes.settings.retry_after)
        return min(delay, MAX_RETRY_DELAY) + jitter

    def _no_deployments(self, group: Group) -> NeevError:
        causes = [d.standing.cause for d in group.deployments if d.standing.cause is not None]
        account = next((cause for cause in causes if cause.code == _ACCOUNT), None)
        if account is not None:
            return _NoDeploymentsError(_ACCOUNT, account.message, upstream_status=account.upstream_status)
        return _NoDeploymentsError(
            "upstream_rate_limited",
            f"All deployments of '{group.name}' have failed and are left alone for a while. Try again later.",
            retry_after=self._routes.cooldowns.remaining(d.standing for d in group.deployments),
        )


def _status(error: NeevError) -> int | None:
    return None if isinstance(error, _NoDeploymentsError) else routing_status(error)


def _targets(chain: FallbackChain | None) -> list[_Target]:
    return [] if chain is None else [(name, None) for name in chain.targets]


def lookup(chains: Mapping[str, FallbackChain], names: Sequence[str]) -> FallbackChain | None:
    """Return the chain of the first of `names` that has one of its own, else the one for every group.

    A name with the provider's prefix, as a wildcard gives it, also finds the chain of the name without.
    """
    for name in names:
        chain = chains.get(name) or chains.get(name.removeprefix(_PREFIX))
        if chain is not None:
            return chain
    return chains.get(ANY_GROUP)
