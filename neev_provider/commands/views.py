"""Keys, teams and audit lines for people (tables) and for scripts (JSON), and how tables are printed.

Called by the commands.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from neev_provider.admission.records import ATTRIBUTES, KeyInfo
from neev_provider.admission.refusals import usd
from neev_provider.admission.rules import NANOS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from neev_provider.admission.audit import AuditEntry
    from neev_provider.admission.declared import Step
    from neev_provider.admission.records import TeamInfo

__all__ = [
    "as_fields",
    "as_json",
    "audit_fields",
    "audit_table",
    "details",
    "keys_table",
    "plan_table",
    "print_table",
    "step_fields",
    "teams_table",
    "usd",
]

_NO_LIMIT: Final = "-"
_PIPE_WIDTH: Final = 10_000  # columns


def print_table(*tables: Table) -> None:
    """Print tables below each other; fitted into a terminal, but a row a line for `grep` and the like."""
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _PIPE_WIDTH
    for number, table in enumerate(tables):
        if number:
            console.print()
        console.print(table)


def as_json(document: object) -> str:
    """Return JSON for scripts."""
    return json.dumps(document, indent=2, ensure_ascii=False, default=str)


def as_fields(info: TeamInfo) -> dict[str, Any]:
    """Return a key or team as JSON has it: attributes by the names that set them, money in USD and nano-USD too.

    What is not set is null; `models` is null for all.
    """
    fields: dict[str, Any] = {"id": info.id}
    if isinstance(info, KeyInfo):
        fields["team"] = info.team_id
    there = info.attributes()
    for name in ATTRIBUTES:
        if name != "expires" or isinstance(info, KeyInfo):
            fields[name] = there.get(name)
    budget = info.max_budget_nanos
    fields |= {
        "blocked": info.blocked,
        "metadata": dict(info.metadata),
        "expires": _iso(info.expires) if isinstance(info, KeyInfo) else None,
        "max_budget": None if budget is None else _usd_number(budget),
        "max_budget_nanos": budget,
        "spend": _usd_number(info.spend_nanos),
        "spend_nanos": info.spend_nanos,
        "held_nanos": info.held_nanos,
        "in_flight": info.in_flight,
        "budget_reset_at": _iso(info.budget_reset_at),
        "created_at": _iso(info.created_at),
        "updated_at": _iso(info.updated_at),
    }
    if isinstance(info, KeyInfo):
        fields["old_secret_until"] = _iso(info.old_secret_until)
    else:
        del fields["expires"]
    return fields


def keys_table(keys: Iterable[KeyInfo], now: datetime) -> Table:
    """Return keys as a table."""
    table = _table("Key", "Id", "Team", "Models", "Limits", "Spent", "State")
    for key in keys:
        table.add_row(
            escape(key.alias or "-"),
            key.id,
            key.team_id or "-",
            escape(_models(key)),
            _limits(key),
            _spent(key),
            _state(key, now),
        )
    return table


def teams_table(teams: Iterable[TeamInfo], now: datetime) -> Table:
    """Return teams as a table."""
    table = _table("Team", "Alias", "Models", "Limits", "Spent", "State")
    for team in teams:
        table.add_row(
            team.id,
            escape(team.alias or "-"),
            escape(_models(team)),
            _limits(team),
            _spent(team),
            _state(team, now),
        )
    return table


def details(info: TeamInfo, now: datetime) -> Table:
    """Return all about one key or team."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    rows: list[tuple[str, str]] = [("id", info.id), ("alias", escape(info.alias or "-"))]
    if isinstance(info, KeyInfo):
        rows.append(("team", info.team_id or "-"))
    rows += [
        ("state", _state(info, now)),
        ("models", escape(", ".join(info.models)) if info.models is not None else "all"),
        ("rpm_limit", _count(info.rpm_limit)),
        ("tpm_limit", _count(info.tpm_limit)),
        ("max_parallel_requests", _count(info.max_parallel_requests)),
        ("max_budget", _NO_LIMIT if info.max_budget_nanos is None else usd(info.max_budget_nanos)),
        ("budget_duration", info.budget_duration or "-"),
        ("spent", usd(info.spend_nanos)),
        ("reserved", f"{usd(info.held_nanos)} by {info.in_flight} calls in flight"),
        ("begins anew", _moment(info.budget_reset_at)),
    ]
    if isinstance(info, KeyInfo):
        rows.append(("expires", _moment(info.expires)))
        if info.old_secret_until is not None and info.old_secret_until > now:
            rows.append(("old secret until", _moment(info.old_secret_until)))
    rows += [
        ("metadata", escape(json.dumps(dict(info.metadata))) if info.metadata else "-"),
        ("created", _moment(info.created_at)),
        ("changed", _moment(info.updated_at)),
    ]
    for name, value in rows:
        table.add_row(name, value)
    return table


def audit_table(entries: Iterable[AuditEntry]) -> Table:
    """Return changes as a table, as given."""
    table = _table("When", "Who", "What", "Of", "Changes")
    for entry in entries:
        table.add_row(
            entry.at.strftime("%Y-%m-%d %H:%M:%SZ"),
            escape(entry.by),
            entry.action,
            escape(f"{entry.kind} {entry.id}"),
            escape(_changes(entry.changes)),
        )
    return table


def audit_fields(entry: AuditEntry) -> dict[str, Any]:
    """Return a change as JSON has it."""
    return {
        "at": entry.at.isoformat().replace("+00:00", "Z"),
        "by": entry.by,
        "action": entry.action,
        "kind": entry.kind,
        "id": entry.id,
        "changes": dict(entry.changes),
    }


def plan_table(plan: Iterable[Step]) -> Table:
    """Return what will be done."""
    table = Table(box=None, show_header=False, pad_edge=False)
    marks = {
        "create": "[green]+[/]",
        "update": "[yellow]~[/]",
        "rotate": "[yellow]~[/]",
        "revoke": "[red]-[/]",
    }
    for step in plan:
        table.add_row(
            marks[step.action],
            step.action,
            step.kind,
            escape(step.name if step.team is None else f"{step.name} ({step.team})"),
            escape(_changes(step.attributes)),
        )
    return table


def step_fields(step: Step) -> dict[str, Any]:
    """Return a step of a plan as JSON has it."""
    return {
        "action": step.action,
        "kind": step.kind,
        "name": step.name,
        "id": step.id or None,
        "attributes": dict(step.attributes),
    }


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in headings:
        # An id that is broken over two lines could not be copied.
        table.add_column(heading, overflow="fold", no_wrap=heading in {"Id", "Of", "Spent"})
    return table


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _usd_number(nanos: int) -> float:
    return float(Decimal(nanos) / NANOS)


def _moment(moment: datetime | None) -> str:
    return "-" if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%d %H:%MZ")


def _day(moment: datetime | None) -> str:
    return "-" if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%d")


def _count(limit: int | None) -> str:
    return _NO_LIMIT if limit is None else f"{limit:,}"


def _models(info: TeamInfo) -> str:
    if info.models is None:
        return "all"
    first, rest = info.models[:2], len(info.models) - 2
    return ", ".join(first) + (f" +{rest}" if rest > 0 else "")


def _limits(info: TeamInfo) -> str:
    words = [
        f"{limit:,} {unit}"
        for limit, unit in (
            (info.rpm_limit, "rpm"),
            (info.tpm_limit, "tpm"),
            (info.max_parallel_requests, "at once"),
        )
        if limit is not None
    ]
    return ", ".join(words) or _NO_LIMIT


def _spent(info: TeamInfo) -> str:
    if info.max_budget_nanos is None:
        return usd(info.spend_nanos)
    per = f" per {info.budget_duration}" if info.budget_duration else ""
    return f"{usd(info.spend_nanos)} of {usd(info.max_budget_nanos)}{per}"


def _state(info: TeamInfo, now: datetime) -> str:
    if info.blocked:
        return "[red]blocked[/]"
    expires = info.expires if isinstance(info, KeyInfo) else None
    if expires is not None and expires <= now:
        return "[red]expired[/]"
    return "active" if expires is None else f"until {_day(expires)}"


def _changes(changes: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={_value(value)}" for name, value in changes.items()) or "-"


def _value(value: Any) -> str:
    if value is None:
        return "unset"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, bool | dict | list) else str(value)
