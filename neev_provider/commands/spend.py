"""`neev-gateway spend`: what was spent; `spend replay`: charges what was logged instead."""

from __future__ import annotations

import csv
import io
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, Literal

import typer

from neev_provider.admission import tokens
from neev_provider.admission.keys import Keys
from neev_provider.admission.settling import replay
from neev_provider.admission.spend import read_spend
from neev_provider.commands import views
from neev_provider.commands.attributes import JsonOption
from neev_provider.commands.opening import ConfigOption, StateOption, StoreChoice, StoreOption, run
from neev_provider.commands.spend_report import (
    Report,
    add_up,
    first_day,
    report_columns,
    report_fields,
    report_table,
)
from neev_provider.errors import ConfigError
from neev_provider.store import Store

__all__ = ["app"]

STATE: Final = Path(".neev")
CONFIG: Final = Path("proxy_config.yaml")

app: Final = typer.Typer(
    add_completion=False, help="What was spent, to the nano-USD.", invoke_without_command=True
)


@app.callback()
def spend(
    context: typer.Context,
    by: Annotated[
        Literal["key", "team", "model", "day"], typer.Option("--by", help="What to add up by.")
    ] = "key",
    since: Annotated[
        str,
        typer.Option("--since", help="How far back, as 30d or 6mo, or the first day, as 2026-11-01 (UTC)."),
    ] = "30d",
    team: Annotated[str | None, typer.Option("--team", help="Of one team alone, by its id or alias.")] = None,
    key: Annotated[
        str | None, typer.Option("--key", help="Of one key alone, by its id, alias or token.")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="Of one model alone.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_json: JsonOption = False,
    store: StoreOption = None,
    state: StateOption = STATE,
    config: ConfigOption = CONFIG,
) -> None:
    """Show what was spent, by key, team, model or day (UTC), as far back as 13 months."""
    if context.invoked_subcommand is not None:
        return
    today = datetime.now(UTC)
    first = first_day(since, today)

    async def work(opened: Store) -> Report:
        keys = Keys(opened)
        key_id = None if key is None else await _key_id(keys, key)
        team_id = None if team is None else (await keys.find_team(team)).id
        owner = team_id if key_id is None else tokens.tag_of(key_id)
        owners = None if owner is None else [owner]
        entries = [
            entry
            for entry in await read_spend(opened, first, today, owners=owners)
            if key_id in {None, entry.key_id}
            and team_id in {None, entry.team_id}
            and model in {None, entry.model}
        ]
        if key is not None and not entries:
            await keys.find_key(key)  # a key that is gone is known by what it spent alone
        return add_up(entries, by, await _names(keys, by), (first.date(), today.date()))

    report = run(StoreChoice(store, state, config), work, reads=True)
    if as_json:
        typer.echo(views.as_json(report_fields(report)))
    elif as_csv:
        typer.echo(_csv(report), nl=False)
    elif report.total.requests:
        views.print_table(report_table(report))
    else:
        typer.echo(f"Nothing was spent since {first:%Y-%m-%d}.")


@app.command("replay")
def replay_file(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The lines of the ledger's log; - for standard input.")
    ],
    store: StoreOption = None,
    state: StateOption = STATE,
    config: ConfigOption = CONFIG,
) -> None:
    """Charge what was logged because the store did not take it; each line once, however often it is replayed."""
    lines = _lines(file)

    async def work(opened: Store) -> tuple[int, int, int]:
        charged = nanos = 0
        wrong: list[tuple[int, ValueError]] = []
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                cost = await replay(opened, line)
            except ValueError as error:
                wrong.append((number, error))
                continue
            charged += cost is not None
            nanos += cost or 0
        for number, reason in wrong[:10]:
            typer.echo(f"warning: line {number} of {file} was left out: {reason}.", err=True)
        return charged, nanos, len(wrong)

    charged, nanos, wrong = run(StoreChoice(store, state, config), work)
    typer.echo(f"{charged} charges made, {views.usd(nanos)} in all; those made before were left as they are.")
    if wrong:
        raise typer.Exit(1)


async def _key_id(keys: Keys, word: str) -> str:
    """Return a key's id; of one that is gone, the word itself: its spend stays."""
    found = await keys.key_of_alias(word)
    return tokens.id_of(word) or word if found is None else found.id


async def _names(keys: Keys, by: str) -> dict[str | None, dict[str, str | None]]:
    """Return what else is known of what is added up, by id."""
    if by == "key":
        return {key.id: {"key_alias": key.alias, "team_id": key.team_id} for key in await keys.list_keys()}
    if by == "team":
        return {team.id: {"team_alias": team.alias} for team in await keys.list_teams()}
    return {}


def _csv(report: Report) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=report_columns(report))
    writer.writeheader()
    writer.writerows(report_fields(report)["rows"])
    return text.getvalue()


def _lines(file: Path) -> list[str]:
    """Return the lines of a file or of standard input.

    Raises:
        ConfigError: it cannot be read.
    """
    if str(file) == "-":
        return sys.stdin.readlines()
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise ConfigError(str(file), "", f"cannot be read ({reason})", "Name the ledger's log.") from None
