"""The service level objectives, as data, and the recording and alerting rules that are made of them.

An alert looks at how fast the error budget of 30 days is spent, over a long window (it is real) and a short one (it
still goes on), as the SRE workbook has it: 14.4 times as fast uses up 2 % of the budget in an hour, 6 times 5 % in
six hours, once 10 % in three days. With little traffic one failure is a large part of it, so a long window that had
fewer requests than `GUARD` alarms nobody. Called by `generate.py`; thresholds are read by `boards/`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

__all__ = [
    "ANSWERED",
    "AVAILABILITY",
    "BURNS",
    "FAILED",
    "GUARD",
    "OBJECTIVES",
    "OUR_FAULT",
    "OVERHEAD",
    "TIME_TO_FIRST_TOKEN",
    "UPSTREAMS_FAULT",
    "Burn",
    "Objective",
    "rule_groups",
]

GUARD: Final = 100
"""Requests in the long window below which no burn rate is an alarm."""
CLUSTER: Final = "namespace, job"
"""What one gateway is, however many instances it has."""


@dataclass(frozen=True)
class Burn:
    """How fast the budget is spent, and over which windows that is looked at."""

    name: str
    factor: float
    long: str
    short: str
    hold: str


BURNS: Final = (
    Burn("fast", 14.4, "1h", "5m", "2m"),
    Burn("medium", 6, "6h", "30m", "15m"),
    Burn("slow", 1, "3d", "6h", "1h"),
)


@dataclass(frozen=True)
class Objective:
    """A promise: this part of all events is good.

    Attributes:
        name: as in recorded names.
        alert: the alert's name.
        target: the part that is good, 0 to 1.
        whole: events a second, with `{window}`, summed up by cluster.
        bad: the part of them that is not good, with `{window}` and `{events}`, the name that `whole` is recorded by.
        summary: what an alert says.
        severities: by burn name. What does not hurt a user wakes nobody.
        threshold: seconds that a good event takes at most, where that is what is promised.
    """

    name: str
    alert: str
    target: float
    whole: str
    bad: str
    summary: str
    severities: dict[str, str]
    threshold: float | None = None


def _rate(selector: str) -> str:
    return f"sum by ({CLUSTER}) (rate({selector}[{{window}}]))"


def _slow(family: str, threshold: float, matcher: str = "") -> tuple[str, str]:
    """Return all events of a histogram, and the part above the threshold, which must be a bucket's bound."""
    whole = _rate(f"{family}_count{matcher.join(('{{', '}}')) if matcher else ''}")
    within = ", ".join(filter(None, (matcher, f'le="{threshold}"')))
    return whole, f"1 - {_rate(f'{family}_bucket{{{{{within}}}}}')} / {{events}}"


UPSTREAMS_FAULT: Final = 'code=~"upstream_.+"'
OUR_FAULT: Final = 'code=~"internal_error|store_unavailable|server_overloaded|litellm_unavailable"'
FAILED: Final = 'code=~"upstream_.+|internal_error|store_unavailable|server_overloaded|litellm_unavailable"'
"""What failed through our fault or upstream's. By code: a stream that breaks off has status 200."""
ANSWERED: Final = 'code="ok", path!="none", status!="499"'
"""What was answered: no probes, and nothing whose client had left."""

_FIRST_TOKEN: Final = 2.5
_OVERHEAD: Final = 0.01
_WAITS = _slow("neev_time_to_first_token_seconds", _FIRST_TOKEN)
_COSTS = _slow("neev_gateway_overhead_seconds", _OVERHEAD, 'path="fast"')

AVAILABILITY: Final = Objective(
    name="availability",
    alert="NeevAvailabilityBurn",
    target=0.995,
    whole=(
        f"sum by ({CLUSTER}) (rate(neev_requests_total{{{{{ANSWERED}}}}}[{{window}}])"
        f" or rate(neev_requests_total{{{{{FAILED}}}}}[{{window}}]))"
    ),
    # Before the first failure there is no series of any.
    bad=f"({_rate(f'neev_requests_total{{{{{FAILED}}}}}')} or 0 * {{events}}) / {{events}}",
    summary="Requests fail, through the gateway's fault or upstream's",
    severities={"fast": "critical", "medium": "critical", "slow": "warning"},
)
TIME_TO_FIRST_TOKEN: Final = Objective(
    name="time_to_first_token",
    alert="NeevTimeToFirstTokenBurn",
    target=0.95,
    whole=_WAITS[0],
    bad=_WAITS[1],
    summary=f"Streams begin later than {_FIRST_TOKEN:g} s",
    severities={"fast": "critical", "medium": "warning", "slow": "warning"},
    threshold=_FIRST_TOKEN,
)
OVERHEAD: Final = Objective(
    name="overhead",
    alert="NeevOverheadBurn",
    target=0.99,
    whole=_COSTS[0],
    bad=_COSTS[1],
    summary=f"The gateway itself takes more than {1000 * _OVERHEAD:g} ms of a request",
    severities={"fast": "warning", "medium": "warning", "slow": "warning"},
    threshold=_OVERHEAD,
)
OBJECTIVES: Final = (AVAILABILITY, TIME_TO_FIRST_TOKEN, OVERHEAD)


def rule_groups(runbook: str) -> list[dict[str, Any]]:
    """Return the groups of a rule file: for each objective what is recorded, and after it, its alerts."""
    return [
        {
            "name": f"neev-{objective.name}",
            "rules": [*_recorded(objective), *(_alert(objective, burn, runbook) for burn in BURNS)],
        }
        for objective in OBJECTIVES
    ]


def _windows() -> list[str]:
    """Return every window once, shortest first."""
    units = {"m": 1, "h": 60, "d": 1440}
    both = {window for burn in BURNS for window in (burn.short, burn.long)}
    return sorted(both, key=lambda window: int(window[:-1]) * units[window[-1]])


def _recorded(objective: Objective) -> list[dict[str, str]]:
    rules = []
    for window in _windows():
        events = _name(objective, "events:rate", window)
        rules += [
            {"record": events, "expr": objective.whole.format(window=window)},
            {
                "record": _name(objective, "errors:ratio_rate", window),
                "expr": objective.bad.format(window=window, events=events),
            },
        ]
    return rules


def _name(objective: Objective, what: str, window: str) -> str:
    return f"namespace_job:neev_{objective.name}_{what}{window}"


def _alert(objective: Objective, burn: Burn, runbook: str) -> dict[str, Any]:
    limit = f"{burn.factor:g} * {round(1 - objective.target, 6):g}"
    seconds = {"h": 3600, "d": 86_400}[burn.long[-1]] * int(burn.long[:-1])
    return {
        "alert": objective.alert,
        "expr": (
            f"{_name(objective, 'errors:ratio_rate', burn.long)} > {limit}\n"
            f"and {_name(objective, 'errors:ratio_rate', burn.short)} > {limit}\n"
            f"and {_name(objective, 'events:rate', burn.long)} * {seconds} >= {GUARD}\n"
        ),
        "for": burn.hold,
        "labels": {"severity": objective.severities[burn.name], "burn": burn.name},
        "annotations": {
            "summary": f"{objective.summary} ({burn.name} burn at {{{{ $labels.job }}}})",
            "description": (
                f"{{{{ $value | humanizePercentage }}}} in the last {burn.long}; the objective allows "
                f"{round(1 - objective.target, 6):.2%} over 30 days. At this pace that is used up in "
                f"{30 / burn.factor:.0f} days or sooner."
            ),
            "runbook_url": f"{runbook}#{objective.alert.lower()}",
        },
    }
