"""Asks Prometheus what each panel of a dashboard asks, and gives the answers in the form that the page draws.

Only what these dashboards use is understood: legends, merged and organized tables, a panel's own time.
Called by `__main__.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from grafana.live.asked import everything_chosen, filled

if TYPE_CHECKING:
    from collections.abc import Mapping

    from grafana.live.watch import Prometheus

__all__ = ["Span", "collect"]

_POINTS: Final = 240
_SCRAPES_OF_A_RATE: Final = 4

Json = dict[str, Any]


@dataclass(frozen=True)
class Span:
    """What is looked at, in seconds of the epoch, and how many seconds lie between two scrapes."""

    begin: float
    end: float
    scrape: int

    @property
    def step(self) -> int:
        """Seconds between two points of a line."""
        return max(self.scrape, round((self.end - self.begin) / _POINTS))

    @property
    def rate(self) -> int:
        """Seconds over which rates are taken, by Grafana's rule."""
        return max(_SCRAPES_OF_A_RATE * self.scrape, self.step + self.scrape)


def collect(board: Json, prometheus: Prometheus, span: Span) -> Json:
    """Return a dashboard with `data` in every panel."""
    variables = everything_chosen(board)
    panels = [
        panel if panel["type"] == "row" else {**panel, "data": _data(panel, prometheus, span, variables)}
        for panel in board["panels"]
    ]
    return {**board, "panels": panels, "span": [span.begin, span.end]}


def _data(panel: Json, prometheus: Prometheus, span: Span, variables: Mapping[str, str]) -> Any:
    begin = _midnight(span.end) if "timeFrom" in panel else span.begin

    def text(target: Json) -> str:
        return filled(
            target["expr"], variables, seconds=max(1, round(span.end - begin)), rate_seconds=span.rate
        )

    if panel["type"] == "table":
        answers = {
            target["refId"]: prometheus.query(text(target), at=span.end) for target in panel["targets"]
        }
        return _table(panel, answers)
    series = []
    for target in panel["targets"]:
        if target.get("instant"):
            found = prometheus.query(text(target), at=span.end)
            points = [[one["value"]] for one in found]
        else:
            found = prometheus.query_range(text(target), span.begin, span.end, span.step)
            points = [one["values"] for one in found]
        series += [
            {
                "name": _legend(target, one["metric"]),
                "query": target["refId"],
                "points": [[moment, _number(value)] for moment, value in values],
            }
            for one, values in zip(found, points, strict=True)
        ]
    return series


def _midnight(moment: float) -> float:
    """Return the beginning of the day; of a month too, as no preview runs for longer."""
    return datetime.fromtimestamp(moment).astimezone().replace(hour=0, minute=0, second=0).timestamp()


def _number(text: str) -> float | None:
    value = float(text)
    return value if abs(value) != float("inf") and value == value else None  # noqa: PLR0124 - not a number


def _legend(target: Json, labels: Mapping[str, str]) -> str:
    form = target.get("legendFormat", "")
    if not form:
        return "Value"
    return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda match: labels.get(match[1], ""), form)


def _table(panel: Json, answers: Mapping[str, list[Json]]) -> Json:
    """Join the answers by their labels and order columns, as Grafana's transformations `merge` and `organize` do."""
    organize = panel["transformations"][-1]["options"]
    rows: dict[tuple[tuple[str, str], ...], dict[str, Any]] = {}
    for letter, series in answers.items():
        value = f"Value #{letter}" if len(answers) > 1 else "Value"
        for one in series:
            row = rows.setdefault(tuple(sorted(one["metric"].items())), dict(one["metric"]))
            row[value] = _number(one["value"][1])
    names = sorted(organize["indexByName"], key=organize["indexByName"].__getitem__)
    titles = [organize["renameByName"][name] for name in names]
    [sort] = panel["options"]["sortBy"]
    place = titles.index(sort["displayName"])
    body = [[row.get(name) for name in names] for row in rows.values()]
    known: list[Any] = [row for row in body if row[place] is not None]
    known.sort(key=lambda row: row[place], reverse=sort["desc"])
    return {"columns": titles, "rows": known + [row for row in body if row[place] is None]}
