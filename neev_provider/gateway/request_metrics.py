"""Counts requests and upstream attempts of one gateway process: once for each, from what was noted on its way.

On the hot path, so it does no more than build tuples and add; nothing here runs for a streamed chunk. Made by
`worker.py`; called by `app.py` and `routed_call.py`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from neev_provider.admission import tokens
from neev_provider.metrics import families
from neev_provider.metrics.charges import charge, holder
from neev_provider.metrics.families import NONE

if TYPE_CHECKING:
    from neev_provider.errors import NeevError
    from neev_provider.gateway.exchange import Exchange
    from neev_provider.gateway.request_facts import RequestFacts
    from neev_provider.metrics.families import Family
    from neev_provider.metrics.names import PublicNames
    from neev_provider.metrics.recorder import Recorder
    from neev_provider.routing import Attempt, Router

__all__ = ["RequestMetrics"]

_PATHS: Final = ("fast", "litellm", NONE)
_FAST: Final = "fast"
_LITELLM: Final = "litellm"
_STOPPING: Final = 503  # what the server answers in place of a request that it cut
_ERROR: Final = 400  # HTTP statuses from here on
_OF_UPSTREAM: Final = "upstream_"
_NO_STATUS: Final = {"upstream_timeout": "timeout", "upstream_unavailable": "unavailable"}
_UPSTREAM_CODES: Final = (
    *("upstream_auth_error", "upstream_error", "upstream_bad_response"),
    *("upstream_unavailable", "upstream_timeout", "upstream_rate_limited"),
)
# Refusals of a key whose secret was right.
_ABOUT_A_KNOWN_KEY: Final = frozenset(
    {
        *("rate_limit_exceeded", "budget_exceeded", "model_not_allowed", "model_unpriced"),
        *("key_blocked", "expired_api_key"),
    }
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
        recorder.watch_all(self._gauges)

    def announce(self, router: Router) -> None:
        """Count nothing for what rarely happens, so that the first time is seen as a rise."""
        add = self._recorder.add
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
                add(family, (name,), 0)
            for deployment in group.deployments:
                add(families.COOLDOWNS, (name, deployment.name), 0)
                for code in _UPSTREAM_CODES:
                    add(families.UPSTREAM_ERRORS, (name, deployment.name, code), 0)

    def begun(self, exchange: Exchange) -> None:
        """Note that a request is being answered."""
        self._running.add(exchange)

    def finished(self, exchange: Exchange) -> None:
        """Count a request that has been answered, or left."""
        self._running.discard(exchange)
        facts, notes = exchange.facts, exchange.notes
        recorder = self._recorder
        model = self._names.label(facts.model)
        path = notes.get("via", NONE)
        status = exchange.status or _STOPPING
        code = notes.get("error") or ("ok" if exchange.status else "server_overloaded")
        key, team = self._holder(exchange, code)
        ended = time.perf_counter() if facts.ended_at is None else facts.ended_at
        seconds = ended - exchange.started
        recorder.add(families.REQUESTS, (model, team, key, path, str(status), code))
        stream = "true" if facts.is_stream else "false"
        recorder.observe(families.REQUEST_DURATION, (model, path, stream), seconds)
        if facts.begun_at is not None and not facts.client_left:
            ended_for_us = facts.begun_at if facts.is_stream or path != _FAST else ended
            if facts.deployment is not None or (path == _LITELLM and status < _ERROR):
                recorder.observe(
                    families.OVERHEAD, (path,), max(0.0, ended_for_us - exchange.started - facts.waited)
                )
        if facts.spent is not None:
            charge(recorder, (model, team, key), facts.spent)
        if facts.is_stream:
            self._count_stream(exchange, model, path, ended)
        if path == _LITELLM:
            self._count_routing(facts, model)
        if code.startswith(_OF_UPSTREAM) and facts.deployment is not None:
            # It failed after its headers; what fails before them is counted as an attempt.
            recorder.add(families.UPSTREAM_ERRORS, (model, facts.deployment, code))

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
        recorder = self._recorder
        model, deployment = self._names.label(asked), step.deployment.name
        recorder.add(families.UPSTREAM_CALLS, (model, deployment, _status(failure)))
        recorder.observe(families.UPSTREAM_DURATION, (model, deployment), seconds)
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
        token = exchange.bearer() if code in _ABOUT_A_KNOWN_KEY else None
        key_id = None if token is None else tokens.id_of(token)
        if key_id is None:
            return NONE, NONE
        return key_id, tokens.team_of(key_id) or NONE

    def _count_stream(self, exchange: Exchange, model: str, path: str, ended: float) -> None:
        facts, recorder = exchange.facts, self._recorder
        if facts.first_at is not None:
            recorder.observe(families.TIME_TO_FIRST_TOKEN, (model, path), facts.first_at - exchange.started)
            produced = 0 if facts.spent is None else facts.spent.completion_tokens
            if produced > 1:
                per_token = (ended - facts.first_at) / (produced - 1)
                recorder.observe(families.TIME_PER_OUTPUT_TOKEN, (model, path), per_token)
        if facts.client_left and facts.begun_at is not None:
            recorder.add(families.ABORTED_STREAMS, (model,))

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


def _status(failure: NeevError | None) -> str:
    """Return the HTTP status that upstream gave; a 200 that turned out to be none is one still."""
    if failure is None:
        return "200"
    if failure.upstream_status is not None:
        return str(failure.upstream_status)
    return _NO_STATUS.get(failure.code, "200")
