"""`neev-gateway keys ...`: virtual keys made, shown, changed, rotated, revoked, and as a file declares them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from neev_provider.admission import tokens
from neev_provider.admission.keys import Keys
from neev_provider.admission.rules import period_of
from neev_provider.commands import views
from neev_provider.commands.apply import apply
from neev_provider.commands.attributes import (
    AliasOption,
    BudgetDurationOption,
    BudgetOption,
    ByOption,
    ExpiresOption,
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
    from neev_provider.admission.keys import NewKey
    from neev_provider.admission.records import KeyInfo
    from neev_provider.store import Store

__all__ = ["app"]

app: Final = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Virtual keys: limits, budgets, who holds them."
)
app.command("apply")(apply)

STATE: Final = Path(".neev")
CONFIG: Final = Path("proxy_config.yaml")
KeyArgument = Annotated[str, typer.Argument(metavar="KEY", help="A key's id, alias or token.")]


@app.command("create")
def create(
    *,
    alias: AliasOption = None,
    team: Annotated[str | None, typer.Option("--team", help="Its team's id or alias.")] = None,
    model: ModelsOption = None,
    rpm_limit: RpmOption = None,
    tpm_limit: TpmOption = None,
    max_parallel_requests: ParallelOption = None,
    max_budget: BudgetOption = None,
    budget_duration: BudgetDurationOption = None,
    expires: ExpiresOption = None,
    metadata: MetadataOption = None,
    by: ByOption = None,
    as_json: JsonOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the token alone.")] = False,
    store: StoreOption = None,
    state: StateOption = STATE,
    config: ConfigOption = CONFIG,
) -> None:
    """Make a key. Its token is shown this once; only its hash is kept."""
    attributes = given(
        alias=alias,
        models=model,
        rpm_limit=rpm_limit,
        tpm_limit=tpm_limit,
        max_parallel_requests=max_parallel_requests,
        max_budget=max_budget,
        budget_duration=budget_duration,
        metadata=metadata,
        expires=expires,
    )

    async def work(opened: Store) -> NewKey:
        keys = Keys(opened)
        team_id = None if team is None else (await keys.find_team(team)).id
        return await keys.create_key(attributes, team=team_id, by=who(by))

    made = run(StoreChoice(store, state, config), work)
    warn_of_unknown_models(model, config)
    _show_new(made, as_json=as_json, quiet=quiet)


@app.command("list")
def list_keys(
    team: Annotated[str | None, typer.Option("--team", help="Those of a team, by its id or alias.")] = None,
    as_json: JsonOption = False,
    store: StoreOption = None,
    state: StateOption = STATE,
    config: ConfigOption = CONFIG,
) -> None:
    """List keys, the oldest first."""

    async def work(opened: Store) -> list[KeyInfo]:
        keys = Keys(opened)
        return await keys.list_keys(team=None if team is None else (await keys.find_team(team)).id)

    found = run(StoreChoice(store, state, config), work, reads=True)
    if as_json:
        typer.echo(views.as_json([views.as_fields(key) for key in found]))
    elif found:
        views.print_table(views.keys_table(found, datetime.now(UTC)))
    else:
        typer.echo("No keys yet. Make one: neev-gateway keys create --alias NAME")


@app.command("info")
def info(
    key: KeyArgument,
    as_json: JsonOption = False,
    store: StoreOption = None,
    state: StateOption = STATE,
    config: ConfigOption = CONFIG,
) -> None:
    """Show all about a key but its secret."""
    choice = StoreChoice(store, state, config)
    _show(run(choice, lambda opened: Keys(opened).find_key(key), reads=True), as_json=as_json)


@app.command("update")
def update(
    key: KeyArgument,
    *,
    alias: AliasOption = None,
    model: ModelsOption = None,
    rpm_limit: RpmOption = None,
    tpm_limit: TpmOption = None,
    max_parallel_requests: ParallelOption = None,
    max_budget: BudgetOption = None,
    budget_duration: BudgetDurationOption = None,
    expires: ExpiresOption = None,
    metadata: MetadataOption = None,
    unset: UnsetOption = None,
    by: ByOption = None,
    as_json: JsonOption = False,
    store: StoreOption = None,
    state: StateOption = STATE,
    config: ConfigOption = CONFIG,
) -> None:
    """Change what is given; the rest stays. It holds from the key's next request on."""
    attributes = given(
        alias=alias,
        models=model,
        rpm_limit=rpm_limit,
        tpm_limit=tpm_limit,
        max_parallel_requests=max_parallel_requests,
        max_budget=max_budget,
        budget_duration=budget_duration,
        metadata=metadata,
        expires=expires,
    )
    changes = to_unset(attributes, unset)

    async def work(opened: Store) -> KeyInfo:
        keys = Keys(opened)
        return await keys.update_key((await keys.find_key(key)).id, changes, by=who(by))

    changed = run(StoreChoice(store, state, config), work)
    warn_of_unknown_models(model, config)
    _show(changed, as_json=as_json)


@app.command("block")
def block(
    key: KeyArgument,
    by: ByOption = None,
    store: StoreOption = None,
    state: StateOption = STATE,
    config: ConfigOption = CONFIG,
) -> None:
    """Refuse a key's calls from now on; its limits and spend stay."""
    _set_blocked(key, by, StoreChoice(store, state, config), blocked=True)


@app.command("unblock")
def unblock(
    key: KeyArgument,
    by: ByOption = None,
    store: StoreOption = None,
    state: StateOption = STATE,
    config: ConfigOption = CONFIG,
) -> None:
    """Let a key's calls in again."""
    _set_blocked(key, by, StoreChoice(store, state, config), blocked=False)


@app.command("rotate")
def rotate(
    key: KeyArgument,
    grace: Annotated[
        str,
        typer.Option(
            "--grace",
            help="For how long the old secret is good too, as 24h; at most 30d. 0s ends all old ones.",
        ),
    ] = "0s",
    by: ByOption = None,
    as_json: JsonOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the token alone.")] = False,
    store: StoreOption = None,
    state: StateOption = STATE,
    config: ConfigOption = CONFIG,
) -> None:
    """Give a key a new secret; its id, limits and spend stay."""
    seconds = _seconds(grace)

    async def work(opened: Store) -> NewKey:
        keys = Keys(opened)
        return await keys.rotate_key((await keys.find_key(key)).id, grace_seconds=seconds, by=who(by))

    _show_new(run(StoreChoice(store, state, config), work), as_json=as_json, quiet=quiet)


@app.command("revoke")
def revoke(
    key: Annotated[list[str], typer.Argument(metavar="KEY...", help="Ids, aliases or tokens.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    by: ByOption = None,
    store: StoreOption = None,
    state: StateOption = STATE,
    config: ConfigOption = CONFIG,
) -> None:
    """Remove keys for good, at once and everywhere. What they spent stays in the reports."""

    async def find(opened: Store) -> list[KeyInfo]:
        keys = Keys(opened)
        return [await keys.find_key(one) for one in key]

    async def work(opened: Store) -> None:
        keys = Keys(opened)
        for one in found:
            await keys.revoke_key(one.id, by=who(by))
            typer.echo(f"Key {_name(one)} is revoked.")

    choice = StoreChoice(store, state, config)
    found = list({one.id: one for one in run(choice, find)}.values())
    if not yes:
        typer.confirm(
            f"Revoke {'keys' if len(found) > 1 else 'key'} {', '.join(map(_name, found))}?", abort=True
        )
    run(choice, work)


@app.command("new-token")
def new_token(
    team: Annotated[str | None, typer.Option("--team", help="The id of the key's team.")] = None,
) -> None:
    """Print a token for a key that a file will declare (`token: os.environ/NAME`). Asks and changes nothing."""
    if team is not None and not tokens.is_tag(team):
        raise RequestError(
            "invalid_value", "'--team' must be the id of a team: letters, digits and hyphens.", param="team"
        )
    typer.echo(tokens.new_token(tokens.new_key_id(team)))


def _set_blocked(key: str, by: str | None, choice: StoreChoice, *, blocked: bool) -> None:
    async def work(opened: Store) -> KeyInfo:
        keys = Keys(opened)
        found = await keys.find_key(key)
        await (keys.block_key if blocked else keys.unblock_key)(found.id, by=who(by))
        return found

    typer.echo(f"Key {_name(run(choice, work))} is {'blocked' if blocked else 'not blocked'}.")


def _show(key: KeyInfo, *, as_json: bool) -> None:
    if as_json:
        typer.echo(views.as_json(views.as_fields(key)))
    else:
        views.print_table(views.details(key, datetime.now(UTC)))


def _show_new(made: NewKey, *, as_json: bool, quiet: bool) -> None:
    if quiet:
        typer.echo(made.token)
    elif as_json:
        typer.echo(views.as_json({**views.as_fields(made.key), "token": made.token}))
    else:
        views.print_table(views.details(made.key, datetime.now(UTC)))
        # Not by rich: a line broken for the window could not be copied.
        typer.echo(f"\n{made.token}\n\nKeep it now: it is shown this once.")


def _name(key: KeyInfo) -> str:
    return key.id if key.alias is None else f"{key.alias} ({key.id})"


def _seconds(duration: str) -> float:
    """Return the seconds of a duration.

    Raises:
        RequestError: it is none, or in calendar months.
    """
    if duration in {"0", "0s"}:
        return 0.0
    try:
        return int(period_of(duration)) / 1000
    except ValueError:
        raise RequestError(
            "invalid_value", "'--grace' must be a number and s, m, h, d or w, as 24h.", param="grace"
        ) from None
