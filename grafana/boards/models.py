"""Models: of each, how fast it is, how often it fails, and what the gateway did about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from grafana.frame import Row, dashboard
from grafana.objectives import TIME_TO_FIRST_TOKEN
from grafana.panels import AMBER, GREEN, RED, Column, Query, graph, rows
from grafana.queries import increase, occurring, quantile, rate

if TYPE_CHECKING:
    from grafana_foundation_sdk.models.dashboard import Dashboard

    from grafana.panels import Panel

REQUESTS: Final = "neev_requests_total"
NO_FAULT_OF_OURS: Final = 'code=~"upstream_.*"'
FAILED_CALL: Final = 'status!~"2.."'
INPUT: Final = 'direction="input"'
OUTPUT: Final = 'direction="output"'
FAILED_PART: Final = ((None, GREEN), (0.01, AMBER), (0.05, RED))


def board() -> Dashboard:
    """Return the dashboard."""
    return dashboard(
        "models",
        "Latency, time to first token, tokens per second, errors, retries and fallbacks by model.",
        [
            Row("Side by side", _table()),
            Row("Traffic", _traffic()),
            Row("Latency", _latency()),
            Row("Upstream's failures, and what was done about them", _failures()),
        ],
        since="now-6h",
    )


def _by_model(expression: str) -> Query:
    return Query(expression, "{{model}}")


def _table() -> list[Panel]:
    whole = increase(REQUESTS, by="model")
    failed = increase(REQUESTS, NO_FAULT_OF_OURS, by="model")
    first, each = "neev_time_to_first_token_seconds", "neev_time_per_output_token_seconds"
    return [
        rows(
            "Models",
            "A row for each model that was asked for in the time shown. Speed: the median stream's tokens "
            "per second after the first one.",
            (
                Column("model", "Model", width=230),
                Column("n", "Requests", "short", decimals=0),
                Column("failed", "Failed upstream", "percentunit", FAILED_PART, decimals=2),
                Column("first", "First token p50", "s"),
                Column("slow", "First token p95", "s", ((None, GREEN), (TIME_TO_FIRST_TOKEN.threshold, RED))),
                Column("speed", "Tokens/s of a stream", "short", decimals=0),
                Column("duration", "Duration p95", "s"),
                Column("output", "Tokens out", "short"),
                Column("usd", "Spend", "currencyUSD", decimals=4),
            ),
            {
                "n": f"{whole} > 0",
                "failed": f"({failed} or 0 * {whole}) / ({whole} > 0)",
                "first": f"{quantile(0.5, first, by='model', window='$__range')} >= 0",
                "slow": f"{quantile(0.95, first, by='model', window='$__range')} >= 0",
                "speed": f"1 / ({quantile(0.5, each, by='model', window='$__range')} > 0)",
                "duration": f"{quantile(0.95, 'neev_request_duration_seconds', by='model', window='$__range')} >= 0",
                "output": f"{increase('neev_tokens_total', OUTPUT, by='model')} > 0",
                "usd": f"{increase('neev_spend_usd_total', by='model')} > 0",
            },
            see=("spend", TIME_TO_FIRST_TOKEN.alert),
            sort="Requests",
            height=9,
        )
    ]  # fmt: skip


def _traffic() -> list[Panel]:
    tokens = "neev_tokens_total"
    return [
        graph(
            "Requests by model",
            "Answers per second, refusals too.",
            "reqps",
            _by_model(f"topk(10, {rate(REQUESTS, by='model')})"),
            see=("overview",),
            width=8,
            stacked=True,
        ),
        graph(
            "Tokens out per second",
            "Tokens charged as output per second, of all streams and answers together.",
            "short",
            _by_model(f"topk(10, {rate(tokens, OUTPUT, by='model')})"),
            see=("spend",),
            width=8,
            stacked=True,
        ),
        graph(
            "Tokens in per second",
            "Tokens charged as input per second.",
            "short",
            _by_model(f"topk(10, {rate(tokens, INPUT, by='model')})"),
            see=("spend",),
            width=8,
            stacked=True,
        ),
    ]


def _latency() -> list[Panel]:
    def at(of: float, title: str, description: str, family: str) -> Panel:
        return graph(
            f"{title} p{100 * of:g}",
            description,
            "s",
            _by_model(quantile(of, family, by="model")),
            see=("overview", TIME_TO_FIRST_TOKEN.alert),
            width=8,
            limit=TIME_TO_FIRST_TOKEN.threshold if "first" in family else None,
        )

    first = "From the request to the first content of a stream. Dashed: what the objective allows."
    return [
        at(0.5, "Time to first token", first, "neev_time_to_first_token_seconds"),
        at(0.95, "Time to first token", first, "neev_time_to_first_token_seconds"),
        at(0.99, "Time to first token", first, "neev_time_to_first_token_seconds"),
        at(0.95, "Request duration", "To the last byte, streams included.", "neev_request_duration_seconds"),
        graph(
            "Tokens per second of one stream",
            "The median stream's speed after its first token.",
            "short",
            _by_model(f"1 / ({quantile(0.5, 'neev_time_per_output_token_seconds', by='model')} > 0)"),
            see=("overview",),
            width=8,
        ),
        graph(
            "Upstream's answer p95 by deployment",
            "From a call to upstream's headers, each try by itself: which of several accounts or regions "
            "is slow.",
            "s",
            Query(
                quantile(0.95, "neev_upstream_duration_seconds", by="model, deployment"),
                "{{model}} at {{deployment}}",
            ),
            see=("internals",),
            width=8,
        ),
    ]


def rarely(family: str, by: str) -> str:
    """Return how often per second, of those models only of which it happened at all."""
    return occurring(rate(family, by=by), family, by=by)


def _failures() -> list[Panel]:
    calls = "neev_upstream_calls_total"
    return [
        graph(
            "Upstream's answers by status",
            "Calls per second by HTTP status; timeout and unavailable are calls without one. Retries count.",
            "reqps",
            Query(rate(calls, by="status"), "{{status}}"),
            see=("NeevAvailabilityBurn",),
            width=8,
            stacked=True,
        ),
        graph(
            "Upstream's errors by model",
            "Errors per second by our code; no line: none. upstream_auth_error: our own account is refused.",
            "ops",
            Query(rarely("neev_upstream_errors_total", "model, code"), "{{model}} {{code}}"),
            see=("NeevUpstreamAuthError", "NeevAvailabilityBurn"),
            width=8,
        ),
        graph(
            "Failed calls by model",
            "Part of the calls to upstream that had no good answer, before retries.",
            "percentunit",
            _by_model(
                f"({rate(calls, FAILED_CALL, by='model')} or 0 * {rate(calls, by='model')})"
                f" / ({rate(calls, by='model')} > 0)"
            ),
            see=("NeevAvailabilityBurn",),
            width=8,
            largest=1,
        ),
        graph(
            "Retries",
            "Calls repeated before the first byte, per second. They stop at a tenth of the traffic.",
            "ops",
            _by_model(rarely("neev_upstream_retries_total", "model")),
            see=("NeevAvailabilityBurn",),
            width=6,
        ),
        graph(
            "Fallbacks",
            "Requests answered by another model than the one asked for, per second.",
            "ops",
            Query(rate("neev_fallbacks_total", by="model, to"), "{{model}} → {{to}}"),
            see=("NeevAvailabilityBurn",),
            width=6,
        ),
        graph(
            "Cooldowns",
            "Deployments put aside after repeated failures, per hour.",
            "short",
            Query(
                occurring(
                    increase("neev_cooldowns_total", by="model, deployment", window="1h"),
                    "neev_cooldowns_total",
                    by="model, deployment",
                ),
                "{{model}} at {{deployment}}",
            ),
            see=("NeevAvailabilityBurn",),
            width=6,
        ),
        graph(
            "Streams that clients left",
            "Streams per second whose client went away before the end; what was produced is charged.",
            "ops",
            _by_model(rarely("neev_aborted_streams_total", "model")),
            see=("spend", "NeevEstimatedChargesRising"),
            width=6,
        ),
    ]
