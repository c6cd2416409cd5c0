"""Spend and budgets: who spends what on which model, what is left, and who runs out when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from grafana.frame import Row, dashboard
from grafana.panels import AMBER, GREEN, RED, Column, Query, graph, number, ranking, rows
from grafana.queries import fraction, increase, largest, rate, select

if TYPE_CHECKING:
    from grafana_foundation_sdk.models.dashboard import Dashboard

    from grafana.panels import Panel

SPEND: Final = "neev_spend_usd_total"
BUDGET: Final = "scope, team, key"
PACE: Final = "6h"
"""What the last hours say of the next ones."""


def board() -> Dashboard:
    """Return the dashboard."""
    return dashboard(
        "spend",
        "What is spent by team, key and model; budgets, what is left of them, and who runs out when.",
        [
            Row("Spend", _sums()),
            Row("Who spends it, on what", _who()),
            Row("Budgets", _budgets()),
        ],
        since="now-24h",
    )


def _sums() -> list[Panel]:
    def spent(title: str, description: str, since: str | None) -> Panel:
        return number(
            title,
            description,
            "currencyUSD",
            Query(increase(SPEND)),
            see=("overview",),
            since=since,
            decimals=2,
        )

    tokens = "neev_tokens_total"
    return [
        spent("Spend", "USD charged in the time shown, as counted while the gateway ran.", None),
        spent("Spend today", "USD charged since midnight.", "now/d"),
        spent(
            "Spend this month",
            "USD charged since the first of the month, if Prometheus keeps that long.",
            "now/M",
        ),
        number(
            "Spend per day at this pace",
            "What a day costs if it goes on as in the time shown.",
            "currencyUSD",
            Query(f"{increase(SPEND)} * 86400 / $__range_s"),
            see=("overview",),
            decimals=2,
        ),
        number(
            "Charged by estimate",
            "Part of the tokens whose count NeevAI did not send: the client left, or usage was missing. "
            "They were charged by our estimate.",
            "percentunit",
            Query(fraction(increase(tokens, 'estimated="true"'), increase(tokens))),
            see=("NeevEstimatedChargesRising",),
            steps=((None, GREEN), (0.02, AMBER), (0.1, RED)),
            decimals=1,
        ),
        number(
            "Unpriced calls",
            "Calls of models without a known price: they cost us money that nobody was charged.",
            "short",
            Query(f"{increase('neev_unpriced_calls_total')} or vector(0)"),
            see=("NeevUnpricedCalls",),
            steps=((None, GREEN), (1, RED)),
            decimals=0,
        ),
    ]


def _who() -> list[Panel]:
    def hourly(label: str) -> Panel:
        return graph(
            f"Spend per hour by {label}",
            "USD charged in each hour before the moment shown.",
            "currencyUSD",
            Query(f"topk(10, {increase(SPEND, by=label, window='1h')})", f"{{{{{label}}}}}"),
            see=("overview",) if label != "model" else ("models",),
            width=8,
            stacked=True,
            calculations=("max", "lastNotNull"),
        )

    return [
        hourly("team"),
        hourly("key"),
        hourly("model"),
        rows(
            "Top keys",
            "What each key was charged in the time shown, for how many requests and tokens.",
            (
                Column("team", "Team"),
                Column("key", "Key"),
                Column("usd", "Spend", "currencyUSD", decimals=4),
                Column("requests", "Requests", "short", decimals=0),
                Column("input", "Tokens in", "short"),
                Column("output", "Tokens out", "short"),
                Column("refused", "Refused by a limit", "short", decimals=0),
            ),
            {
                "usd": f"topk(50, {increase(SPEND, by='team, key')})",
                "requests": increase("neev_requests_total", 'key!="none"', by="team, key"),
                "input": increase("neev_tokens_total", 'direction="input"', by="team, key"),
                "output": increase("neev_tokens_total", 'direction="output"', by="team, key"),
                "refused": increase("neev_limit_rejections_total", 'key!="none"', by="team, key"),
            },
            see=("models",),
            sort="Spend",
            width=16,
            height=9,
        ),
        ranking(
            "Top models by spend",
            "The ten models that cost most in the time shown.",
            "currencyUSD",
            Query(f"sort_desc(topk(10, {increase(SPEND, by='model')} > 0))", "{{model}}"),
            see=("models",),
            width=8,
            height=9,
        ),
    ]


def _budgets() -> list[Panel]:
    limit = largest("neev_budget_limit_usd", by=BUDGET)
    used = largest("neev_budget_used_usd", by=BUDGET)
    reserved = largest("neev_budget_reserved_usd", by=BUDGET)
    reset = largest("neev_budget_reset_seconds", by=BUDGET)
    pace = f"max by ({BUDGET}) (deriv({select('neev_budget_used_usd')}[{PACE}]))"
    left = f"clamp_min({limit} - {used}, 0)"
    ends = f"{left} / ({pace} > 0)"
    colours = ((None, GREEN), (0.8, AMBER), (0.95, RED))
    return [
        rows(
            "Who runs out when",
            f"Every budget. 'Runs out in': what is left, at the pace of the last {PACE}; empty if nothing is spent. "
            "No reset: the budget is a total.",
            (
                Column("scope", "Of", width=90),
                Column("team", "Team"),
                Column("key", "Key"),
                Column("limit", "Budget", "currencyUSD", decimals=2),
                Column("used", "Used", "currencyUSD", decimals=4),
                Column("reserved", "Reserved", "currencyUSD", decimals=4),
                Column("left", "Left", "currencyUSD", decimals=4),
                Column("part", "Used part", "percentunit", colours, gauge=True, width=190),
                Column("reset", "Reset in", "dtdurations"),
                Column("ends", "Runs out in", "dtdurations"),
                Column("lasts", "Lasts until reset", "bool_yes_no", ((None, RED), (1, GREEN)), width=130),
            ),
            {
                "limit": limit,
                "used": f"{used} and {limit}",
                "reserved": f"{reserved} and {limit}",
                "left": left,
                "part": f"{used} / ({limit} > 0)",
                "reset": reset,
                "ends": ends,
                "lasts": f"({ends}) >= bool ({reset})",
            },
            see=("NeevBudgetNearlyUsed", "NeevBudgetRunsOut"),
            sort="Used part",
            height=10,
        ),
        graph(
            "Burn-down",
            "What is left of each budget. A jump upwards is its reset.",
            "percentunit",
            Query(f"bottomk(15, {left} / ({limit} > 0))", "{{scope}} {{team}} / {{key}}"),
            see=("NeevBudgetNearlyUsed", "NeevBudgetRunsOut"),
            largest=1,
            calculations=("min", "lastNotNull"),
        ),
        graph(
            "Refused by limits and budgets",
            "Requests refused per second, by the limit that was hit and whose it is.",
            "reqps",
            Query(rate("neev_limit_rejections_total", by="limit, scope"), "{{limit}} of {{scope}}"),
            see=("overview", "NeevBudgetNearlyUsed"),
            stacked=True,
        ),
    ]
