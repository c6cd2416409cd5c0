"""What metrics and traces want to know of one request, noted on its way by whoever learns it.

Held by `exchange.py`, read by `request_metrics.py` and `tracing/`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from neev_provider.admission import Principal, Spent
    from neev_provider.tracing.spans import RequestTrace

__all__ = ["ABOUT_A_KNOWN_KEY", "RequestFacts"]

ABOUT_A_KNOWN_KEY: Final = frozenset(
    {
        *("rate_limit_exceeded", "budget_exceeded", "model_not_allowed", "model_unpriced"),
        *("key_blocked", "expired_api_key"),
    }
)
"""Codes of refusals of a key whose secret was right."""


class RequestFacts:
    """Facts of one request; moments are of `time.perf_counter()`.

    Attributes:
        model: that the client asked for; None if it named none.
        principal: who asks; None while nobody was recognised.
        is_stream: whether the client asked for a stream.
        waited: seconds spent waiting for others: upstream, LiteLLM, the request's own body.
        begun_at: when the answer began; None before.
        first_at: when the first event of a stream came that is no comment; None before.
        ended_at: when the answer had been sent; None before.
        deployment: name of the one that answered; None before.
        spent: what was charged; None if nothing could be.
        client_left: whether the client was gone before the end.
        retries: attempts after the first that LiteLLM says it made.
        fallback: the model that answered in LiteLLM instead of the one that was asked for, or None.
        route: which endpoint it was for, as `/v1/models/{model}`; "" if none.
        trace: that it is a part of; None if it is not traced.
        upstream_head: header lines that go with the next call upstream, for the trace.
    """

    __slots__ = (
        "begun_at",
        "client_left",
        "deployment",
        "ended_at",
        "fallback",
        "first_at",
        "is_stream",
        "model",
        "principal",
        "retries",
        "route",
        "spent",
        "trace",
        "upstream_head",
        "waited",
    )

    def __init__(self) -> None:
        self.model: str | None = None
        self.principal: Principal | None = None
        self.is_stream = False
        self.waited = 0.0
        self.begun_at: float | None = None
        self.first_at: float | None = None
        self.ended_at: float | None = None
        self.deployment: str | None = None
        self.spent: Spent | None = None
        self.client_left = False
        self.retries = 0
        self.fallback: str | None = None
        self.route = ""
        self.trace: RequestTrace | None = None
        self.upstream_head = b""
