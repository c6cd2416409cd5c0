"""LiteLLM's `/spend/...` reports, and `/spend/daily` in our own words: days, keys, teams and models, to the nano-USD.

Reads the daily rollups: there is no log of single requests, and nothing by end users. Who may call is checked by
`admin.py`, which calls this.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from neev_provider.admission.spend import read_spend
from neev_provider.admission.tokens import is_tag, tag_of
from neev_provider.errors import RequestError
from neev_provider.gateway.admin_desk import sorted_by, told
from neev_provider.gateway.admin_shapes import key_entry, usd_of
from neev_provider.gateway.admin_words import seconds_of

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping

    from neev_provider.admission.spend import DaySpend
    from neev_provider.gateway.admin_desk import Desk
    from neev_provider.gateway.admin_request import AdminRequest

__all__ = [
    "DAILY_PARAMETERS",
    "LOG_PARAMETERS",
    "REPORT_PARAMETERS",
    "spend_daily",
    "spend_keys",
    "spend_logs",
    "spend_report",
]

_DATES: Final = frozenset({"start_date", "end_date", "api_key"})
LOG_PARAMETERS: Final = _DATES | {"user_id", "request_id", "summarize"}
REPORT_PARAMETERS: Final = _DATES | {"group_by", "internal_user_id", "team_id", "customer_id"}
DAILY_PARAMETERS: Final = _DATES | {"since", "by", "team_id"}

_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_MOST_DAYS: Final = 400  # as long as rollups are kept
_SINCE: Final = "30d"
_BY: Final[Mapping[str, Callable[[DaySpend], str | None]]] = {
    "key": lambda row: row.key_id,
    "team": lambda row: row.team_id,
    "model": lambda row: row.model,
    "day": lambda row: row.day,
}


@dataclass(slots=True)
class _Sum:
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    characters: int = 0
    estimated: int = 0
    nanos: int = 0

    def add(self, row: DaySpend) -> None:
        self.requests += row.requests
        self.prompt_tokens += row.prompt_tokens
        self.completion_tokens += row.completion_tokens
        self.characters += row.characters
        self.estimated += row.estimated
        self.nanos += row.cost_nanos

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def entry(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "characters": self.characters,
            "estimated_requests": self.estimated,
            "spend": usd_of(self.nanos),
            "spend_nanos": self.nanos,
        }


@dataclass(frozen=True, slots=True)
class _Span:
    first: datetime
    last: datetime


async def spend_keys(request: AdminRequest, desk: Desk) -> Any:
    """List all keys, the dearest first; what each spent in its budget's present window."""
    del request
    keys = sorted_by(await desk.keys.list_keys(), lambda key: key.spend_nanos, descending=True)
    return await told(keys, key_entry)


async def spend_logs(request: AdminRequest, desk: Desk) -> Any:
    """Tell each day's spend by key and model; the days without any too."""
    _refuse(request, "user_id", "request_id")
    if request.query.get("summarize", "true").lower() != "true":
        raise _not_kept("summarize", "There is no log of single requests; spend is kept by day.")
    span = _span(request)
    by_day = _grouped(await _rows(request, desk, span), lambda row: row.day)
    days = ((span.first + timedelta(days=n)) for n in range((span.last - span.first).days + 1))
    return [_log_entry(f"{day:%Y-%m-%d}", by_day.get(f"{day:%Y-%m-%d}", ())) for day in days]


def _log_entry(day: str, rows: Iterable[DaySpend]) -> dict[str, Any]:
    rows = list(rows)
    nanos = _total(rows).nanos
    return {
        **{key_id: usd_of(_total(of_key).nanos) for key_id, of_key in _grouped(rows, _BY["key"]).items()},
        "startTime": day,
        "spend": usd_of(nanos),
        "spend_nanos": nanos,
        "users": {},
        "models": {
            model: usd_of(_total(of_model).nanos) for model, of_model in _grouped(rows, _BY["model"]).items()
        },
    }


async def spend_report(request: AdminRequest, desk: Desk) -> Any:
    """Tell the spend of each day by team, or of each key over all days."""
    _refuse(request, "internal_user_id", "customer_id")
    group_by = request.choice("group_by", ("team", "customer", "api_key"), "team")
    if group_by == "customer":
        raise _not_kept(
            "group_by", "Spend is not kept by the end users of those who call; use team or api_key."
        )
    rows = await _rows(request, desk, _span(request))
    if group_by == "api_key" or "api_key" in request.query:
        return _by_key(rows)
    names = {team.id: team.alias or team.id for team in await desk.keys.list_teams()}
    return [
        {"group_by_day": day, "teams": _by_team(of_day, names)}
        for day, of_day in _grouped(rows, _BY["day"]).items()
    ]


def _by_team(rows: list[DaySpend], names: Mapping[str, str]) -> list[dict[str, Any]]:
    return [
        {
            "team_id": team,
            "team_name": "Unassigned Team" if team is None else names.get(team, team),
            "total_spend": usd_of(total.nanos),
            "total_spend_nanos": total.nanos,
            "metadata": [
                {
                    "model": model,
                    "api_key": key_id,
                    "spend": usd_of(part.nanos),
                    "spend_nanos": part.nanos,
                    "total_tokens": part.tokens,
                }
                for (model, key_id), some in _grouped(of_team, lambda row: (row.model, row.key_id)).items()
                for part in (_total(some),)
            ],
        }
        for team, of_team in _grouped(rows, _BY["team"]).items()
        for total in (_total(of_team),)
    ]


def _by_key(rows: list[DaySpend]) -> list[dict[str, Any]]:
    found = [
        {
            "api_key": key_id,
            **_costs(_total(of_key)),
            "model_details": [
                {"model": model, **_costs(_total(of_model))}
                for model, of_model in _grouped(of_key, _BY["model"]).items()
            ],
        }
        for key_id, of_key in _grouped(rows, _BY["key"]).items()
    ]
    return sorted(found, key=lambda entry: -entry["total_cost_nanos"])


def _costs(total: _Sum) -> dict[str, Any]:
    return {
        "total_cost": usd_of(total.nanos),
        "total_cost_nanos": total.nanos,
        "total_input_tokens": total.prompt_tokens,
        "total_output_tokens": total.completion_tokens,
    }


async def spend_daily(request: AdminRequest, desk: Desk) -> Any:
    """Tell the spend by key, team, model or day, from the day that lies `since` back."""
    by = request.choice("by", tuple(_BY), "day") or "day"
    has_dates = not request.query.keys().isdisjoint(("start_date", "end_date"))
    if has_dates and "since" in request.query:
        raise RequestError("invalid_value", "'since' cannot be given beside dates.", param="since")
    span = _span(request) if has_dates else _since(request)
    rows = await _rows(request, desk, span)
    names = await _names(by, desk)
    entries = [
        {by: value, **names.get(value, {}), **_total(some).entry()}
        for value, some in _grouped(rows, _BY[by]).items()
    ]
    if by != "day":
        entries.sort(key=lambda entry: -entry["spend_nanos"])
    return {
        "by": by,
        "start_date": f"{span.first:%Y-%m-%d}",
        "end_date": f"{span.last:%Y-%m-%d}",
        "rows": entries,
        "total": _total(rows).entry(),
    }


async def _names(by: str, desk: Desk) -> dict[str | None, dict[str, Any]]:
    """Return what else is known of those that are told; what is gone has no name."""
    if by == "key":
        keys = await desk.keys.list_keys()
        return {key.id: {"key_alias": key.alias, "team_id": key.team_id} for key in keys}
    if by == "team":
        return {team.id: {"team_alias": team.alias} for team in await desk.keys.list_teams()}
    return {}


async def _rows(request: AdminRequest, desk: Desk, span: _Span) -> list[DaySpend]:
    """Return what the request asks for, of one key or team if it says so."""
    name, team = request.query.get("api_key"), request.query.get("team_id")
    key_id = None if name is None else await desk.spender(name, "api_key")
    owner = team if key_id is None else tag_of(key_id)
    if owner is not None and not is_tag(owner):
        return []
    owners = None if owner is None else [owner]
    return [
        row
        for row in await read_spend(desk.store, span.first, span.last, owners=owners)
        if key_id in {None, row.key_id} and team in {None, row.team_id}
    ]


def _span(request: AdminRequest) -> _Span:
    first, last = _date(request, "start_date"), _date(request, "end_date")
    if not timedelta(0) <= last - first < timedelta(days=_MOST_DAYS):
        raise RequestError(
            "invalid_value",
            f"'end_date' must be on or after 'start_date', and both within {_MOST_DAYS} days.",
            param="end_date",
        )
    return _Span(first, last)


def _date(request: AdminRequest, name: str) -> datetime:
    text = request.query.get(name)
    if text is None:
        raise RequestError("missing_required_parameter", f"'{name}' is required, as 2026-01-31.", param=name)
    try:
        if _DATE.fullmatch(text):
            return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError:
        pass
    raise RequestError("invalid_value", f"'{name}' must be a day as 2026-01-31.", param=name)


def _since(request: AdminRequest) -> _Span:
    now = datetime.now(UTC)
    since = timedelta(seconds=seconds_of(request.query.get("since", _SINCE), "since"))
    if since >= timedelta(days=_MOST_DAYS):
        raise RequestError("invalid_value", f"'since' must be less than {_MOST_DAYS}d.", param="since")
    return _Span(now - since, now)


def _grouped(rows: Iterable[DaySpend], value_of: Callable[[DaySpend], Hashable]) -> dict[Any, list[DaySpend]]:
    groups: dict[Any, list[DaySpend]] = defaultdict(list)
    for row in rows:
        groups[value_of(row)].append(row)
    return dict(groups)


def _total(rows: Iterable[DaySpend]) -> _Sum:
    total = _Sum()
    for row in rows:
        total.add(row)
    return total


def _refuse(request: AdminRequest, *names: str) -> None:
    for name in names:
        if name in request.query:
            raise _not_kept(name, "Spend is kept by day, key, team and model.")


def _not_kept(name: str, why: str) -> RequestError:
    return RequestError("unsupported_parameter", f"'{name}' cannot be honoured. {why}", param=name)
