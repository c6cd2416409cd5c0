"""`neev-gateway teams ...`: teams made, shown, changed and revoked; their limits hold over all their keys."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from neev_provider.admission.keys import Keys
from neev_provider.commands import views
from neev_provider.commands.apply import apply
from neev_provider.commands.attributes import (
    AliasOption,
    BudgetDurationOption,
    BudgetOption,
    ByOption,
    JsonOption,
    MetadataOption,
    ModelsOption,
    ParallelOption,
    RpmOption,
    TpmOption,
    UnsetOption,
    given,
    to_unset,
)
from neev_provider.commands.opening import ConfigOption, StateOption, StoreChoice, StoreOption, run, who
from neev_provider.commands.warnings import warn_of_unknown_models
from neev_provider.errors import RequestError

if TYPE_CHECKING:
    from neev_provider.admission.records import KeyInfo, TeamInfo
    from neev_provider.store import Store

__all__ = ["app"]

app: Final = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Teams: limits and budgets over all keys of a team."
)
app.command("apply")(apply)

STATE: Final = Path(".neev")
CONFIG: Final = Path("proxy_config.yaml")
TeamArgument = Annotated[str, typer.Argument(metavar="TEAM", help="A team's id or alias.")]


@app.command("create")
def create(
    team: Annotated[
        str | None,
        typer.Argument(
            metavar="[TEAM]",
            help="Its id: 1 to 40 letters, digits and hyphens; stands at the beginning of its keys.",
            show_default="random",
        ),
    ] = None,
    *,
    alias: AliasOption = None,
    model: ModelsOption = None,
    rpm_limit: RpmOption = None,
    tpm_limit: TpmOption = None,
    max_parallel_requests: ParallelOption = None,
    max_budget: BudgetOption = None,
    budget_duration: BudgetDurationOption = None,
    metadata: MetadataOption = None,
    by: ByOption = None,
    as_json: JsonOption = False,
    store: StoreOption = None,
    state: StateOption = STATE,
    config: ConfigOption = CONFIG,
) -> None:
    """Make a team."""
    attributes = given(
        alias=alias,
        models=model,
        rpm_limit=rpm_limit,
        tpm_limit=tpm_limit,
        max_parallel_requests=max_parallel_requests,
        max_budget=max_budget,
        budget_duration=budget_duration,
        metadata=metadata,
    )
    made = run(
        StoreChoice(store, state, config),
        lambda opened: Keys(opened).create_team(attributes, team_id=team, by=who(by)),
    )
    warn_of_unknown_models(model, config)
    _show(made, as_json=as_json)


@app.command("list")
def list_teams(
    as_json: JsonOption = False,
    store: StoreOption = None,
    state: StateOption = STATE,
    config: ConfigOption = CONFIG,
) -> None:
    """List teams, the oldest first."""
    found = run(StoreChoice(store, state, config), lambda opened: Keys(opened).list_teams(), reads=True)
    if as_json:
        typer.echo(views.as_json([views.as_fields(team) for team in found]))
    elif found:
        views.print_table(views.teams_table(found, datetime.now(UTC)))
    else:
        typer.echo("No teams yet. Make one: neev-gateway teams create NAME")


@app.command("info")
def info(
    team: TeamArgument,
    as_json: JsonOption = False,
    store: StoreOption = None,
    state: StateOption = STATE,
    config: ConfigOption = CONFIG,
) -> None:
    """Show all about a team, and its keys."""

    async def work(opened: Store) -> tuple[TeamInfo, list[KeyInfo]]:
        keys = Keys(opened)
        found = await keys.find_team(team)
        return found, await keys.list_keys(team=found.id)

    found, of_team = run(StoreChoice(store, state, config), work, reads=True)
    if as_json:
        typer.echo(
            views.as_json({**views.as_fields(found), "keys": [views.as_fields(key) for key in of_team]})
        )
        return
    now = datetime.now(UTC)
    views.print_table(views.details(found, now), *([views.keys_table(of_team, now)] if of_team else ()))


@app.command("update")
def update(
    team: TeamArgument,
    *,
    alias: AliasOption = None,
    model: ModelsOption = None,
    rpm_limit: RpmOption = None,
    tpm_limit: TpmOption = None,
    max_parallel_requests: ParallelOption = None,
    max_budget: BudgetOption = None,
    budget_duration: BudgetDurationOption = None,
    metadata: MetadataOption = None,
    unset: UnsetOption = None,
    by: ByOption = None,
    as_json: JsonOption = False,
    store: StoreOption = None,
    state: StateOption = STATE,
    config: ConfigOption = CONFIG,
) -> None:
    """Change what is given; the rest stays. It holds from the next request of its keys on."""
    attributes = given(
        alias=alias,
        models=model,
        rpm_limit=rpm_limit,
        tpm_limit=tpm_limit,
        max_parallel_requests=max_parallel_requests,
        max_budget=max_budget,
        budget_duration=budget_duration,
        metadata=metadata,
    )
    changes = to_unset(attributes, unset)

    async def work(opened: Store) -> TeamInfo:
        keys = Keys(opened)
        return await keys.update_team((await keys.find_team(team)).id, changes, by=who(by))

    changed = run(StoreChoice(store, state, config), work)
    warn_of_unknown_models(model, config)
    _show(changed, as_json=as_json)


@app.command("block")
def block(
    team: TeamArgument,
    by: ByOption = None,
    store: StoreOption = None,
    state: StateOption = STATE,
    config: ConfigOption = CONFIG,
) -> None:
    """Refuse the calls of all keys of a team from now on."""
    _set_blocked(team, by, StoreChoice(store, state, config), blocked=True)


@app.command("unblock")
def unblock(
    team: TeamArgument,
    by: ByOption = None,
    store: StoreOption = None,
    state: StateOption = STATE,
    config: ConfigOption = CONFIG,
) -> None:
    """Let the calls of a team's keys in again."""
    _set_blocked(team, by, StoreChoice(store, state, config), blocked=False)


@app.command("revoke")
def revoke(
    team: TeamArgument,
    with_keys: Annotated[bool, typer.Option("--with-keys", help="Revoke its keys first.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    by: ByOption = None,
    store: StoreOption = None,
    state: StateOption = STATE,
    config: ConfigOption = CONFIG,
) -> None:
    """Remove a team for good. What it spent stays in the reports."""

    async def find(opened: Store) -> tuple[TeamInfo, int]:
        keys = Keys(opened)
        found = await keys.find_team(team)
        return found, len(await keys.list_keys(team=found.id))

    choice = StoreChoice(store, state, config)
    found, count = run(choice, find)
    if count and not with_keys:
        raise RequestError(
            "invalid_value", f"The team '{found.id}' has keys ({count}); add --with-keys to revoke them too."
        )
    if not yes:
        its = f" and its {count} keys" if with_keys and count else ""
        typer.confirm(f"Revoke team {found.id}{its}?", abort=True)
    run(choice, lambda opened: Keys(opened).delete_team(found.id, with_keys=with_keys, by=who(by)))
    typer.echo(f"Team {found.id} is revoked.")


def _set_blocked(team: str, by: str | None, choice: StoreChoice, *, blocked: bool) -> None:
    async def work(opened: Store) -> TeamInfo:
        keys = Keys(opened)
        found = await keys.find_team(team)
        await (keys.block_team if blocked else keys.unblock_team)(found.id, by=who(by))
        return found

    typer.echo(f"Team {run(choice, work).id} is {'blocked' if blocked else 'not blocked'}.")


def _show(team: TeamInfo, *, as_json: bool) -> None:
    if as_json:
        typer.echo(views.as_json(views.as_fields(team)))
    else:
        views.print_table(views.details(team, datetime.now(UTC)))
