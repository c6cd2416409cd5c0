"""Overview: in ten seconds, who spends what, whether users wait, and whose fault an error is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from grafana.frame import Row, dashboard
from grafana.objectives import (
    ANSWERED,
    AVAILABILITY,
    FAILED,
    OUR_FAULT,
    OVERHEAD,
    TIME_TO_FIRST_TOKEN,
    UPSTREAMS_FAULT,
    Objective,
)
from grafana.panels import AMBER, GREEN, RED, Column, Query, Steps, graph, number, ranking, rows
from grafana.queries import either, fraction, increase, largest, quantile, rate, total

if TYPE_CHECKING:
    from grafana_foundation_sdk.models.dashboard import Dashboard

    from grafana.panels import Panel

UPSTREAM: Final = (UPSTREAMS_FAULT, 'status!="499"')
LIMITS: Final = 'code=~"rate_limit_exceeded|budget_exceeded"'
CLIENT: Final = ('status=~"4..", code!~"upstream_.+|rate_limit_exceeded|budget_exceeded"',)
SUCCEEDED: Final = 'code="ok", status!="499"'
FAST: Final = 'path="fast"'
FAILED_AT_ALL: Final = 'code!="ok"'


def board() -> Dashboard:
    """Return the dashboard."""
    return dashboard(
        "overview",
        "Is it working, does anybody wait, whose fault are errors, what does it cost.",
        [
            Row("Does it keep its promises?", _promises()),
            Row("Traffic, and whose fault an error is", _traffic()),
            Row("Do users wait?", _waiting()),
            Row("Money", _money()),
        ],
        since="now-6h",
    )


def _met(objective: Objective) -> Steps:
    """Return the colours of a part that shall be at least the objective."""
    missed = 1 - objective.target
    return ((None, RED), (round(objective.target, 4), AMBER), (round(1 - missed / 2, 4), GREEN))


def _promises() -> list[Panel]:
    failed = increase("neev_requests_total", FAILED)
    answerable = either("neev_requests_total", ANSWERED, FAILED)
    streams = "neev_time_to_first_token_seconds"
    overhead = "neev_gateway_overhead_seconds"
    prompt = increase(streams, f'le="{TIME_TO_FIRST_TOKEN.threshold}"', suffix="_bucket")
    quick = increase(overhead, FAST, f'le="{OVERHEAD.threshold}"', suffix="_bucket")
    return [
        number(
            "Availability",
            "Part of the requests that were answered, of those that could be: without clients' own errors and limits "
            f"refused. Upstream's failures count. Objective: {AVAILABILITY.target:.1%}.",
            "percentunit",
            Query(f"1 - {fraction(failed, answerable)}"),
            see=("models", AVAILABILITY.alert),
            steps=_met(AVAILABILITY),
            decimals=2,
        ),
        number(
            "Error budget left",
            "What remains of the failures that the availability objective allows for the time shown. Below 0 it is "
            "missed.",
            "percentunit",
            Query(f"1 - ({fraction(failed, answerable)}) / {round(1 - AVAILABILITY.target, 6):g}"),
            see=(AVAILABILITY.alert,),
            steps=((None, RED), (0, AMBER), (0.5, GREEN)),
            decimals=0,
        ),
        number(
            f"First token within {TIME_TO_FIRST_TOKEN.threshold:g} s",
            f"Part of the streams that began in time. Objective: {TIME_TO_FIRST_TOKEN.target:.0%}.",
            "percentunit",
            Query(f"{prompt} / ({increase(streams, suffix='_count')} > 0)"),
            see=("models", TIME_TO_FIRST_TOKEN.alert),
            steps=_met(TIME_TO_FIRST_TOKEN),
            decimals=1,
        ),
        number(
            f"Overhead within {1000 * (OVERHEAD.threshold or 0):g} ms",
            "Part of the requests of the fast path in which the gateway itself took no longer. "
            f"Objective: {OVERHEAD.target:.0%}.",
            "percentunit",
            Query(f"{quick} / ({increase(overhead, FAST, suffix='_count')} > 0)"),
            see=("internals", OVERHEAD.alert),
            steps=_met(OVERHEAD),
            decimals=1,
        ),
        number(
            "Requests per second",
            "Everything that was answered, refusals too.",
            "reqps",
            Query(rate("neev_requests_total")),
            see=("models",),
            instant=False,
        ),
        number(
            "Spend today",
            "USD charged since midnight, as counted while the gateway ran. The ledger is exact: "
            "`neev-gateway spend`.",
            "currencyUSD",
            Query(increase("neev_spend_usd_total")),
            see=("spend",),
            since="now/d",
            decimals=2,
        ),
    ]


def _traffic() -> list[Panel]:
    requests = "neev_requests_total"
    return [
        graph(
            "Requests by outcome",
            "Limit: refused by a limit or budget of ours. Client: at fault, or gone before the answer. "
            "Upstream: NeevAI failed or refused. Gateway: our own failure.",
            "reqps",
            Query(rate(requests, SUCCEEDED), "answered", GREEN),
            Query(rate(requests, LIMITS), "limit", "yellow"),
            Query(rate(requests, *CLIENT), "client", "blue"),
            Query(rate(requests, *UPSTREAM), "upstream", AMBER),
            Query(rate(requests, OUR_FAULT), "gateway", RED),
            see=("models", AVAILABILITY.alert),
            stacked=True,
        ),
        graph(
            "Errors: ours and upstream's",
            "Part of all requests that failed, by whose fault it was; streams that broke off count.",
            "percentunit",
            Query(fraction(rate(requests, *UPSTREAM), rate(requests)), "upstream", AMBER),
            Query(fraction(rate(requests, OUR_FAULT), rate(requests)), "gateway", RED),
            see=("models", "internals", AVAILABILITY.alert),
        ),
        rows(
            "Errors by code",
            "Every error code of the time shown, most frequent first. Codes that begin with upstream_ are NeevAI's.",
            (
                Column("code", "Code", width=210),
                Column("status", "Status", width=70),
                Column("n", "Requests", "short", decimals=0),
            ),
            {"n": f"sort_desc({increase(requests, FAILED_AT_ALL, by='code, status')} > 0)"},
            see=("models", AVAILABILITY.alert),
            sort="Requests",
            width=8,
        ),
        graph(
            "429: our limits and upstream's",
            "Requests refused per second. Ours by the kind of limit; upstream: NeevAI's own limit, after retries.",
            "reqps",
            Query(rate("neev_limit_rejections_total", by="limit"), "{{limit}}"),
            Query(rate(requests, 'code="upstream_rate_limited"'), "upstream", AMBER),
            see=("spend",),
            width=8,
            stacked=True,
        ),
        graph(
            "In flight",
            "Requests being answered at each moment, by path, and streams open.",
            "short",
            Query(total("neev_in_flight_requests", by="path"), "{{path}}"),
            Query(total("neev_open_streams"), "open streams"),
            see=("internals",),
            width=8,
        ),
    ]


def _waiting() -> list[Panel]:
    def spread(family: str) -> list[Query]:
        return [Query(quantile(of, family), f"p{100 * of:g}") for of in (0.5, 0.95, 0.99)]

    return [
        graph(
            "Time to first token",
            "Of streams: from the request to the first content. Dashed: what the objective allows.",
            "s",
            *spread("neev_time_to_first_token_seconds"),
            see=("models", TIME_TO_FIRST_TOKEN.alert),
            width=8,
            limit=TIME_TO_FIRST_TOKEN.threshold,
        ),
        graph(
            "Request duration",
            "From the request to the last byte of its answer, streams included.",
            "s",
            *spread("neev_request_duration_seconds"),
            see=("models",),
            width=8,
        ),
        graph(
            "What the gateway adds",
            "Duration less the time spent waiting for upstream, on the fast path. Dashed: what the objective allows.",
            "s",
            *(
                Query(quantile(of, "neev_gateway_overhead_seconds", FAST), f"p{100 * of:g}")
                for of in (0.5, 0.95, 0.99)
            ),
            see=("internals", OVERHEAD.alert),
            width=8,
            limit=OVERHEAD.threshold,
        ),
    ]


def _money() -> list[Panel]:
    used = largest("neev_budget_used_usd", by="scope, team, key")
    limit = largest("neev_budget_limit_usd", by="scope, team, key")
    return [
        graph(
            "Spend per hour by team",
            "USD charged in each hour before the moment shown.",
            "currencyUSD",
            Query(increase("neev_spend_usd_total", by="team", window="1h"), "{{team}}"),
            see=("spend",),
            width=8,
            stacked=True,
        ),
        ranking(
            "Top keys by spend",
            "The ten keys that were charged most in the time shown.",
            "currencyUSD",
            Query(
                f"sort_desc(topk(10, {increase('neev_spend_usd_total', by='team, key')} > 0))",
                "{{team}} / {{key}}",
            ),
            see=("spend",),
        ),
        ranking(
            "Budgets used most",
            "The ten budgets nearest to their end, of keys, teams and the gateway.",
            "percentunit",
            Query(f"sort_desc(topk(10, {used} / ({limit} > 0)))", "{{scope}} {{team}} / {{key}}"),
            see=("spend", "NeevBudgetNearlyUsed"),
            steps=((None, GREEN), (0.8, AMBER), (0.95, RED)),
            largest=1,
        ),
    ]
