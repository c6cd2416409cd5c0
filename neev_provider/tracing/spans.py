"""What a trace says of one request, by OpenTelemetry's conventions for HTTP and for generative AI.

A span for the request, below it one for admission and one for each call upstream, whether it was answered or not, and
one for what LiteLLM answers. Never content, never a key. Called by the application, the routes and `routed_call.py`
on their way; sampling and sending are OpenTelemetry's.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as gen_ai
from opentelemetry.semconv.attributes import (
    error_attributes,
    http_attributes,
    server_attributes,
    url_attributes,
)
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from neev_provider.errors import NeevError, redact

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer

    from neev_provider.gateway.exchange import Exchange
    from neev_provider.routing import Attempt

__all__ = ["RequestTrace", "Tracing"]

_PROVIDER: Final = "neevai"
_OPERATIONS: Final = {"chat": ("chat", "text"), "speech": ("text_to_speech", "speech")}
_OURS_FROM: Final = 500  # statuses from here on are errors of a server, to OpenTelemetry too
_PROPAGATOR: Final = TraceContextTextMapPropagator()
_INCOMING: Final = ("traceparent", "tracestate")


class Tracing:
    """Begins the traces of requests.

    Args:
        tracer: OpenTelemetry's, with sampling and export set up.
    """

    def __init__(self, tracer: Tracer) -> None:
        self._tracer: Final = tracer
        # Spans want the time of day, requests have a clock without one.
        self._epoch_nanos: Final = time.time_ns() - int(time.perf_counter() * 1e9)

    def begin(self, exchange: Exchange) -> None:
        """Begin the trace of a request, as a part of the client's if it names one."""
        sent = {
            name: value.decode("latin-1")
            for name in _INCOMING
            if (value := exchange.headers.get(name.encode())) is not None
        }
        scope = exchange.scope
        path: str = scope["path"][:200]
        attributes: dict[str, Any] = {
            http_attributes.HTTP_REQUEST_METHOD: scope["method"],
            url_attributes.URL_SCHEME: scope.get("scheme", "http"),
            url_attributes.URL_PATH: redact(path),
            "neev.request_id": exchange.request_id.decode(),
        }
        span = self._tracer.start_span(
            str(scope["method"]),
            _PROPAGATOR.extract(sent),
            SpanKind.SERVER,
            attributes,
            start_time=self.moment(exchange.started),
        )
        exchange.facts.trace = RequestTrace(self, self._tracer, span)

    def moment(self, at: float) -> int:
        """Return nanoseconds since 1970 of a moment of `time.perf_counter()`."""
        return self._epoch_nanos + int(at * 1e9)


class RequestTrace:
    """The trace of one request.

    Args:
        tracing: whose clock it uses.
        tracer: makes its spans.
        span: of the request as a whole.
    """

    __slots__ = ("_call", "_context", "_span", "_tracer", "_tracing")

    def __init__(self, tracing: Tracing, tracer: Tracer, span: Span) -> None:
        self._tracing: Final = tracing
        self._tracer: Final = tracer
        self._span: Final = span
        self._context: Final[Context] = set_span_in_context(span)
        self._call: Span | None = None

    @contextmanager
    def admission(self) -> Iterator[None]:
        """Time what decides whether a request is let in."""
        span = self._tracer.start_span("admission", self._context)
        try:
            yield
        except NeevError as error:
            span.set_attribute(error_attributes.ERROR_TYPE, error.code)
            if error.status >= _OURS_FROM:
                span.set_status(Status(StatusCode.ERROR))
            raise
        finally:
            span.end()

    def begin_attempt(self, asked: str, step: Attempt, *, is_stream: bool) -> bytes:
        """Begin a call upstream.

        Args:
            asked: the model that the client named.
            step: of the routing plan.
            is_stream: whether a stream is asked for.

        Returns:
            Header lines that make upstream's spans part of this trace.
        """
        deployment = step.deployment
        operation, output = _OPERATIONS.get(deployment.model.modality, ("chat", "text"))
        origin = deployment.upstream.chat.origin
        attributes: dict[str, Any] = {
            gen_ai.GEN_AI_OPERATION_NAME: operation,
            gen_ai.GEN_AI_PROVIDER_NAME: _PROVIDER,
            gen_ai.GEN_AI_REQUEST_MODEL: deployment.model.id,
            gen_ai.GEN_AI_REQUEST_STREAM: is_stream,
            gen_ai.GEN_AI_OUTPUT_TYPE: output,
            server_attributes.SERVER_ADDRESS: origin.host,
            server_attributes.SERVER_PORT: origin.port,
            "neev.deployment": deployment.name,
            "neev.model": asked,
            "neev.is_retry": bool(step.retry),
            "neev.is_fallback": bool(step.fallback),
        }
        name = f"{operation} {deployment.model.id}"
        self._call = self._tracer.start_span(name, self._context, SpanKind.CLIENT, attributes)
        return b"".join(b"%b: %b\r\n" % pair for pair in self._outgoing(self._call))

    def fail_attempt(self, failure: NeevError) -> None:
        """End a call upstream that brought no answer."""
        span, self._call = self._call, None
        if span is None:
            return
        if failure.upstream_status is not None:
            span.set_attribute(http_attributes.HTTP_RESPONSE_STATUS_CODE, failure.upstream_status)
        span.set_attribute(error_attributes.ERROR_TYPE, failure.code)
        span.set_status(Status(StatusCode.ERROR, failure.message))
        span.end()

    def begin_litellm(self, path: str) -> Mapping[str, str]:
        """Begin a call of LiteLLM; return the headers that make its spans part of this trace."""
        self._call = self._tracer.start_span(
            "litellm", self._context, SpanKind.CLIENT, {url_attributes.URL_PATH: redact(path)}
        )
        return {name.decode(): value.decode("latin-1") for name, value in self._outgoing(self._call)}

    def end(self, exchange: Exchange) -> None:
        """End the trace: the request has been answered, or its client has left."""
        facts, notes, span = exchange.facts, exchange.notes, self._span
        code = notes.get("error")
        ended = self._tracing.moment(time.perf_counter() if facts.ended_at is None else facts.ended_at)
        if self._call is not None:
            self._end_call(exchange, self._call, code, ended)
            self._call = None
        if facts.route:
            span.update_name(f"{exchange.scope['method']} {facts.route}")
            span.set_attribute(http_attributes.HTTP_ROUTE, facts.route)
        span.set_attribute(http_attributes.HTTP_RESPONSE_STATUS_CODE, exchange.status)
        span.set_attributes(_noted(exchange))
        if code is not None:
            span.set_attribute(error_attributes.ERROR_TYPE, code)
        if exchange.status >= _OURS_FROM or (code is not None and facts.is_stream):
            span.set_status(Status(StatusCode.ERROR))
        span.end(ended)

    def _end_call(self, exchange: Exchange, span: Span, code: str | None, ended: int) -> None:
        facts, spent = exchange.facts, exchange.facts.spent
        if facts.deployment is not None:
            span.set_attribute(http_attributes.HTTP_RESPONSE_STATUS_CODE, 200)
        if spent is not None:
            span.set_attributes(
                {
                    gen_ai.GEN_AI_USAGE_INPUT_TOKENS: spent.prompt_tokens,
                    gen_ai.GEN_AI_USAGE_OUTPUT_TOKENS: spent.completion_tokens,
                    "neev.usage_estimated": spent.estimated,
                }
            )
            if spent.model:
                span.set_attribute(gen_ai.GEN_AI_RESPONSE_MODEL, spent.model)
        if facts.first_at is not None:
            span.set_attribute(gen_ai.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK, facts.first_at - exchange.started)
            span.add_event("first chunk", timestamp=self._tracing.moment(facts.first_at))
        if code is not None:
            span.set_attribute(error_attributes.ERROR_TYPE, code)
            span.set_status(Status(StatusCode.ERROR))
        elif facts.client_left:
            span.set_attribute(error_attributes.ERROR_TYPE, "client_left")
        span.end(ended)

    def _outgoing(self, span: Span) -> list[tuple[bytes, bytes]]:
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier, set_span_in_context(span, self._context))
        return [(name.encode(), value.encode("latin-1")) for name, value in carrier.items()]


def _noted(exchange: Exchange) -> dict[str, Any]:
    """Return what we know of a request beyond HTTP: who asked for what, and what it did cost."""
    facts = exchange.facts
    found: dict[str, Any] = {"neev.path": exchange.notes.get("via", "none")}
    if facts.principal is not None:
        found["neev.key"] = facts.principal.key_id
        if facts.principal.alias:
            found["neev.key_alias"] = facts.principal.alias
        if facts.principal.team:
            found["neev.team"] = facts.principal.team
    if facts.model is not None:
        found["neev.model"] = redact(facts.model[:200])
    if facts.spent is not None and facts.spent.cost_nanos is not None:
        found["neev.cost_nano_usd"] = facts.spent.cost_nanos
    if facts.client_left:
        found["neev.client_left"] = True
    return found
