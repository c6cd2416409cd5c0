"""Spend added up by key, team, model or day, and shown: as a table with bars, or as fields for JSON and CSV.

The fields are those of `GET /spend/daily` (`gateway/admin_spend.py`), so that a script can read either.
Pure: asks no store. Called by `spend.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from rich.bar import Bar
from rich.markup import escape
from rich.table import Table

from neev_provider.admission.refusals import usd
from neev_provider.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from neev_provider.admission.spend import DaySpend

__all__ = ["Report", "Row", "add_up", "first_day", "report_columns", "report_fields", "report_table"]

_SINCE: Final = re.compile(r"([1-9][0-9]{0,3})(d|w|mo)")
_DAYS: Final = {"d": 1, "w": 7, "mo": 31}
_LONGEST: Final = 400  # days that are kept
_BAR: Final = 30  # characters
_NOTHING: Final[Mapping[str, str]] = {"team": "(no team)", "model": "(none)"}
# What else is told of a key or team; the first is what it goes by.
_FACTS: Final[Mapping[str, tuple[str, ...]]] = {"key": ("key_alias", "team_id"), "team": ("team_alias",)}


@dataclass(frozen=True, slots=True)
class Row:
    """Figures of one key, team, model or day; see `DaySpend`.

    Attributes:
        name: its id or the day; None for what has no team or no model.
        facts: what else is known of a key or team, by the names of `_FACTS`.
    """

    name: str | None
    facts: Mapping[str, str | None] = field(default_factory=dict)
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    characters: int = 0
    cost_nanos: int = 0
    estimated: int = 0

    def plus(self, entry: DaySpend | Row) -> Row:
        """Return the sum."""
        return Row(
            self.name,
            self.facts,
            self.requests + entry.requests,
            self.prompt_tokens + entry.prompt_tokens,
            self.completion_tokens + entry.completion_tokens,
            self.characters + entry.characters,
            self.cost_nanos + entry.cost_nanos,
            self.estimated + entry.estimated,
        )


_FIGURES: Final[tuple[tuple[str, Callable[[Row], int]], ...]] = (
    ("Requests", attrgetter("requests")),
    ("Tokens in", attrgetter("prompt_tokens")),
    ("Tokens out", attrgetter("completion_tokens")),
    ("Characters", attrgetter("characters")),
    ("Estimated", attrgetter("estimated")),
)


@dataclass(frozen=True, slots=True)
class Report:
    """What was spent.

    Attributes:
        by: `key`, `team`, `model` or `day`.
        rows: the dearest first; days in their order, each of them.
        total: of all.
        first: day.
        last: day.
    """

    by: str
    rows: tuple[Row, ...]
    total: Row
    first: date
    last: date


def first_day(since: str, today: datetime) -> datetime:
    """Return the first day that is meant by `30d` (the day 30 days ago), `6mo` or `2026-11-01`.

    No earlier one than is kept.

    Raises:
        RequestError: it is none of these, or lies in the future.
    """
    match = _SINCE.fullmatch(since)
    if match is not None:
        first = today - timedelta(days=int(match[1]) * _DAYS[match[2]])
    else:
        try:
            first = datetime.combine(date.fromisoformat(since), today.timetz())
        except ValueError:
            raise _wrong_since("must be a number and d, w or mo, as 30d, or a day, as 2026-11-01") from None
    if first > today:
        raise _wrong_since("lies in the future")
    return max(first, today - timedelta(days=_LONGEST))


def add_up(
    entries: Iterable[DaySpend],
    by: str,
    facts: Mapping[str | None, Mapping[str, str | None]],
    days: tuple[date, date],
) -> Report:
    """Return the sums.

    Args:
        entries: of the days.
        by: what to add up by.
        facts: id to what else is known of it, as `key_alias` and `team_id`, or `team_alias`.
        days: the first and the last.
    """
    rows: dict[str | None, Row] = {}
    first, last = days
    if by == "day":
        for number in range((last - first).days + 1):
            day = (first + timedelta(days=number)).isoformat()
            rows[day] = Row(day)
    total = Row("total")
    for entry in entries:
        name = _name(entry, by)
        rows[name] = rows.get(name, Row(name, facts.get(name, {}))).plus(entry)
        total = total.plus(entry)
    found = list(rows.values())
    if by != "day":
        found.sort(key=lambda row: (-row.cost_nanos, row.name or ""))
    return Report(by, tuple(found), total, first, last)


def _name(entry: DaySpend, by: str) -> str | None:
    match by:
        case "key":
            return entry.key_id
        case "team":
            return entry.team_id
        case "model":
            return entry.model
        case _:
            return entry.day


def report_fields(report: Report) -> dict[str, Any]:
    """Return the report as JSON has it."""
    return {
        "by": report.by,
        "start_date": report.first.isoformat(),
        "end_date": report.last.isoformat(),
        "rows": [_fields(report.by, row) for row in report.rows],
        "total": _figures(report.total),
    }


def report_columns(report: Report) -> list[str]:
    """Return the names of a row's fields."""
    return list(_fields(report.by, report.total))


def _fields(by: str, row: Row) -> dict[str, Any]:
    facts = {name: row.facts.get(name) for name in _FACTS.get(by, ())}
    return {by: row.name, **facts, **_figures(row)}


def _figures(row: Row) -> dict[str, Any]:
    return {
        "requests": row.requests,
        "prompt_tokens": row.prompt_tokens,
        "completion_tokens": row.completion_tokens,
        "characters": row.characters,
        "estimated_requests": row.estimated,
        "spend": row.cost_nanos / 10**9,
        "spend_nanos": row.cost_nanos,
    }


def report_table(report: Report) -> Table:
    """Return the report as a table; a key or team goes by its alias, if it has one, and days have bars."""
    table = Table(box=None, pad_edge=False, show_footer=len(report.rows) > 1)
    total = report.total
    table.add_column(report.by.capitalize(), "total", overflow="fold", no_wrap=report.by == "day")
    # Figures that are nought in every row take no room.
    figures = [
        (heading, figure)
        for heading, figure in _FIGURES
        if figure(total) or heading not in {"Characters", "Estimated"}
    ]
    for heading, figure in figures:
        table.add_column(heading, f"{figure(total):,}", justify="right", no_wrap=True)
    table.add_column("Spent", usd(total.cost_nanos), justify="right", no_wrap=True)
    if report.by == "day":
        table.add_column("", max_width=_BAR - 1)  # and the padding, which the last column has to itself
    most = max((row.cost_nanos for row in report.rows), default=0)
    for row in report.rows:
        alias = next((row.facts.get(name) for name in _FACTS.get(report.by, ())), None)
        cells: list[Any] = [escape(alias or row.name or _NOTHING.get(report.by, ""))]
        cells += [f"{figure(row):,}" for _, figure in figures]
        cells.append(usd(row.cost_nanos))
        if report.by == "day":
            cells.append(Bar(most or 1, 0, row.cost_nanos, color="green"))  # as wide as there is room
        table.add_row(*cells)
    return table


def _wrong_since(rule: str) -> RequestError:
    return RequestError("invalid_value", f"'--since' {rule}.", param="since")
