"""Counts requests and upstream attempts of one gateway process: once for each, from what was noted on its way.

On the hot path, so it does no more than build tuples and add; nothing here runs for a streamed chunk. Made by
`worker.py`; called by `app.py` and `routed_call.py`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from neev_provider.admission import tokens
from neev_provider.gateway.request_facts import ABOUT_A_KNOWN_KEY
from neev_provider.metrics import families
from neev_provider.metrics.charges import charge, holder
from neev_provider.metrics.families import NONE
from neev_provider.metrics.recorder import put

if TYPE_CHECKING:
    from neev_provider.admission import Spent
    from neev_provider.errors import NeevError
    from neev_provider.gateway.exchange import Exchange
    from neev_provider.gateway.request_facts import RequestFacts
    from neev_provider.metrics.families import Family
    from neev_provider.metrics.names import PublicNames
    from neev_provider.metrics.recorder import Count, Recorder
    from neev_provider.routing import Attempt, Router

__all__ = ["RequestMetrics"]

_PATHS: Final = ("fast", "litellm", NONE)
_FAST: Final = "fast"
_LITELLM: Final = "litellm"
_MOST_ATTEMPTS: Final = 4096  # kept at hand; names that a wildcard fills in may be many
_STOPPING: Final = 503  # what the server answers in place of a request that it cut
_ERROR: Final = 400  # HTTP statuses from here on
_OF_UPSTREAM: Final = "upstream_"
_NO_STATUS: Final = {"upstream_timeout": "timeout", "upstream_unavailable": "unavailable"}
_UPSTREAM_CODES: Final = (
    *("upstream_auth_error", "upstream_error", "upstream_bad_response"),
    *("upstream_unavailable", "upstream_timeout", "upstream_rate_limited"),
)


class RequestMetrics:
    """What one gateway process counts of requests.

    Args:
        recorder: where to.
        names: the public model names, which bound the label `model`.
    """

    def __init__(self, recorder: Recorder, names: PublicNames) -> None:
        self._recorder: Final = recorder
        self._names: Final = names
        self._running: Final[set[Exchange]] = set()
        self._outcomes: Final[dict[tuple[object, ...], _Outcome]] = {}
        self._attempts: Final[dict[tuple[str, str, str], tuple[Count, list[float]]]] = {}
        self._generation = recorder.generation
        recorder.watch_all(self._gauges)

    def announce(self, router: Router) -> None:
        """Have what rarely happens shown before it does."""
        announce = self._recorder.announce
        for name in sorted(router.public_names()):
            group = router.resolve(name)
            if group is None or not group.fast:
                continue
            for family in (
                families.ESTIMATED_CHARGES,
                families.UNPRICED_CALLS,
                families.UPSTREAM_RETRIES,
                families.ABORTED_STREAMS,
            ):
                announce(family, (name,))
            for deployment in group.deployments:
                announce(families.COOLDOWNS, (name, deployment.name))
                for code in _UPSTREAM_CODES:
                    announce(families.UPSTREAM_ERRORS, (name, deployment.name, code))

    def begun(self, exchange: Exchange) -> None:
        """Note that a request is being answered."""
        self._running.add(exchange)

    def finished(self, exchange: Exchange) -> None:
        """Count a request that has been answered, or left."""
        self._running.discard(exchange)
        facts, notes = exchange.facts, exchange.notes
        model = self._names.label(facts.model)
        path = notes.get("via", NONE)
        status = exchange.status or _STOPPING
        code = notes.get("error") or ("ok" if exchange.status else "server_overloaded")
        key, team = self._holder(exchange, code)
        ended = time.perf_counter() if facts.ended_at is None else facts.ended_at
        outcome = self._outcome(model, team, key, path, status, code, facts.is_stream)
        outcome.requests.amount += 1
        put(outcome.duration, families.REQUEST_DURATION.buckets, ended - exchange.started)
        if facts.begun_at is not None and not facts.client_left:
            ended_for_us = facts.begun_at if facts.is_stream or path != _FAST else ended
            if facts.deployment is not None or (path == _LITELLM and status < _ERROR):
                own = max(0.0, ended_for_us - exchange.started - facts.waited)
                put(outcome.overhead, families.OVERHEAD.buckets, own)
        if facts.spent is not None and not outcome.charge(facts.spent):
            charge(self._recorder, (model, team, key), facts.spent)
        if facts.is_stream:
            self._count_stream(exchange, outcome, model, ended)
        if path == _LITELLM:
            self._count_routing(facts, model)
        if code.startswith(_OF_UPSTREAM) and facts.deployment is not None:
            # It failed after its headers; what fails before them is counted as an attempt.
            self._recorder.add(families.UPSTREAM_ERRORS, (model, facts.deployment, code))

    def _outcome(
        self, model: str, team: str, key: str, path: str, status: int, code: str, is_stream: bool
    ) -> _Outcome:
        """Return what a request counts for; made once for all that ended like this."""
        self._forget_old()
        labels = (model, team, key, path, status, code, is_stream)
        outcome = self._outcomes.get(labels)
        if outcome is None:
            outcome = _Outcome(self._recorder, *labels)
            if not self._recorder.is_full:
                self._outcomes[labels] = outcome
        return outcome

    def _forget_old(self) -> None:
        """Let go of counts and cells that the recorder does not look at any more."""
        if self._generation != self._recorder.generation:
            self._outcomes.clear()
            self._attempts.clear()
            self._generation = self._recorder.generation

    def refused(self, error: NeevError) -> None:
        """Count a request that the server refused before it reached the application."""
        self._recorder.add(families.REQUESTS, (NONE, NONE, NONE, NONE, str(error.status), error.code))

    def attempted(
        self, asked: str, step: Attempt, seconds: float, failure: NeevError | None, *, cools_down: bool
    ) -> None:
        """Count one attempt at upstream.

        Args:
            asked: the group that the client asked for.
            step: of the plan.
            seconds: that it took.
            failure: None if upstream answered.
            cools_down: whether the deployment is left alone from now on.
        """
        self._forget_old()
        attempts = (asked, step.deployment.name, _status(failure))
        found = self._attempts.get(attempts)
        if found is None:
            model, deployment = self._names.label(asked), step.deployment.name
            calls = self._recorder.count(families.UPSTREAM_CALLS, (model, deployment, attempts[2]))
            found = calls, self._recorder.cell(families.UPSTREAM_DURATION, (model, deployment))
            if not self._recorder.is_full and len(self._attempts) < _MOST_ATTEMPTS:
                self._attempts[attempts] = found
        found[0].amount += 1
        put(found[1], families.UPSTREAM_DURATION.buckets, seconds)
        if failure is not None or step.retry or step.fallback:
            self._count_detour(asked, step, failure, cools_down=cools_down)

    def _count_detour(
        self, asked: str, step: Attempt, failure: NeevError | None, *, cools_down: bool
    ) -> None:
        """Count what is out of the ordinary about an attempt."""
        recorder = self._recorder
        model, deployment = self._names.label(asked), step.deployment.name
        if failure is not None and failure.code.startswith(_OF_UPSTREAM):
            recorder.add(families.UPSTREAM_ERRORS, (model, deployment, failure.code))
        if step.retry:
            recorder.add(families.UPSTREAM_RETRIES, (model,))
        elif step.group != asked:
            self.fell_back(asked, step.group)
        if cools_down:
            recorder.add(families.COOLDOWNS, (model, deployment))

    def fell_back(self, asked: str, to: str) -> None:
        """Count a request that goes on to another model."""
        self._recorder.add(families.FALLBACKS, (self._names.label(asked), self._names.label(to)))

    def _holder(self, exchange: Exchange, code: str) -> tuple[str, str]:
        """Return the labels `key` and `team`."""
        principal = exchange.facts.principal
        if principal is not None:
            return holder(self._recorder, principal)
        token = exchange.bearer() if code in ABOUT_A_KNOWN_KEY else None
        key_id = None if token is None else tokens.id_of(token)
        if key_id is None:
            return NONE, NONE
        return key_id, tokens.team_of(key_id) or NONE

    def _count_stream(self, exchange: Exchange, outcome: _Outcome, model: str, ended: float) -> None:
        facts = exchange.facts
        if facts.first_at is not None:
            until_first = facts.first_at - exchange.started
            put(outcome.first_token, families.TIME_TO_FIRST_TOKEN.buckets, until_first)
            produced = 0 if facts.spent is None else facts.spent.completion_tokens
            if produced > 1:
                per_token = (ended - facts.first_at) / (produced - 1)
                put(outcome.per_token, families.TIME_PER_OUTPUT_TOKEN.buckets, per_token)
        if facts.client_left and facts.begun_at is not None:
            self._recorder.add(families.ABORTED_STREAMS, (model,))

    def _count_routing(self, facts: RequestFacts, model: str) -> None:
        """Count what LiteLLM's router says it did for a request that it answered."""
        if facts.retries:
            self._recorder.add(families.UPSTREAM_RETRIES, (model,), facts.retries)
        if facts.fallback is not None:
            self._recorder.add(families.FALLBACKS, (model, self._names.label(facts.fallback)))

    def _gauges(self) -> dict[tuple[Family, tuple[str, ...]], float]:
        running = dict.fromkeys(_PATHS, 0)
        streams = 0
        for exchange in self._running:
            running[exchange.notes.get("via", NONE)] += 1
            streams += exchange.facts.is_stream and exchange.facts.begun_at is not None
        shown: dict[tuple[Family, tuple[str, ...]], float] = {
            (families.IN_FLIGHT, (path,)): count for path, count in running.items()
        }
        shown[families.OPEN_STREAMS, ()] = streams
        return shown


class _Outcome:
    """The counts and cells of requests that ended alike: one look-up for each request, not one for each family."""

    __slots__ = (
        "_input",
        "_output",
        "_spend",
        "duration",
        "first_token",
        "overhead",
        "per_token",
        "requests",
    )

    def __init__(
        self,
        recorder: Recorder,
        model: str,
        team: str,
        key: str,
        path: str,
        status: int,
        code: str,
        is_stream: bool,
    ) -> None:
        of = (model, team, key)
        self.requests: Final = recorder.count(families.REQUESTS, (*of, path, str(status), code))
        stream = "true" if is_stream else "false"
        self.duration: Final = recorder.cell(families.REQUEST_DURATION, (model, path, stream))
        self.overhead: Final = recorder.cell(families.OVERHEAD, (path,))
        self.first_token: Final = recorder.cell(families.TIME_TO_FIRST_TOKEN, (model, path))
        self.per_token: Final = recorder.cell(families.TIME_PER_OUTPUT_TOKEN, (model, path))
        self._input: Final = recorder.count(families.TOKENS, (*of, "input", "false"))
        self._output: Final = recorder.count(families.TOKENS, (*of, "output", "false"))
        self._spend: Final = recorder.count(families.SPEND, of)

    def charge(self, spent: Spent) -> bool:
        """Count what an ordinary call was charged, as `charges.charge` would; return False for any other."""
        if spent.estimated or spent.characters or spent.cost_nanos is None:
            return False
        self._input.amount += spent.prompt_tokens
        self._output.amount += spent.completion_tokens
        self._spend.amount += spent.cost_nanos
        return True


def _status(failure: NeevError | None) -> str:
    """Return the HTTP status that upstream gave; a 200 that turned out to be none is one still."""
    if failure is None:
        return "200"
    if failure.upstream_status is not None:
        return str(failure.upstream_status)
    return _NO_STATUS.get(failure.code, "200")
