"""`neev-gateway keys apply`: keys and teams as a file declares them, with the plan shown first.

Mounted by `keys.py` and `teams.py`; what has to change is `admission/declared.py`'s to say.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from neev_provider.admission.declared import apply_plan, make_plan, read_declaration
from neev_provider.admission.keys import Keys
from neev_provider.commands import views
from neev_provider.commands.attributes import ByOption, JsonOption
from neev_provider.commands.opening import ConfigOption, StateOption, StoreChoice, StoreOption, run, who
from neev_provider.commands.warnings import warn_of_unknown_models
from neev_provider.config import read_yaml

if TYPE_CHECKING:
    from neev_provider.admission.declared import Step
    from neev_provider.admission.keys import NewKey
    from neev_provider.store import Store

__all__ = ["apply"]

STATE: Final = Path(".neev")
CONFIG: Final = Path("proxy_config.yaml")


def apply(
    file: Annotated[Path, typer.Option("--file", "-f", help="YAML or JSON with `teams` and `keys`.")],
    prune: Annotated[
        bool, typer.Option("--prune", help="Revoke the keys and teams that the file does not name.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan; change nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    by: ByOption = None,
    as_json: JsonOption = False,
    store: StoreOption = None,
    state: StateOption = STATE,
    config: ConfigOption = CONFIG,
) -> None:
    """Make keys and teams as a file declares them: shows the plan, asks, carries it out.

    A second run finds nothing to do. A key whose file names no `token` gets one, shown this once. What the file does
    not name is left alone, unless `--prune` is given.
    """
    declared = read_declaration(read_yaml(file), str(file), os.environ)
    choice = StoreChoice(store, state, config)

    async def plan_it(opened: Store) -> list[Step]:
        return await make_plan(Keys(opened), declared, prune=prune)

    async def carry_out(opened: Store) -> None:
        async for new in apply_plan(Keys(opened), plan, by=who(by)):
            shown.extend([new] if new.token not in declared_tokens else [])

    plan = run(choice, plan_it, reads=dry_run, declared=True)
    models = [model for step in plan for model in step.attributes.get("models") or ()]
    warn_of_unknown_models(list(dict.fromkeys(models)), config)
    if not as_json:
        _show_plan(plan)
    declared_tokens = {step.token for step in plan}
    shown: list[NewKey] = []
    try:
        if plan and not dry_run:
            if not yes:
                _ask(len(plan))
            run(choice, carry_out, declared=True)
    finally:
        # Also when a later step failed: nobody could read these tokens again.
        if as_json:
            _print_json(plan, shown, applied=not dry_run)
        else:
            _show_tokens(shown)
    if plan and not as_json:
        typer.echo("Nothing was changed (--dry-run)." if dry_run else f"Done: {len(plan)} changes.")


def _print_json(plan: list[Step], made: list[NewKey], *, applied: bool) -> None:
    tokens = {new.key.alias or new.key.id: new.token for new in made}
    steps = [views.step_fields(step) for step in plan]
    typer.echo(views.as_json({"plan": steps, "applied": applied, "tokens": tokens}))


def _show_tokens(made: list[NewKey]) -> None:
    for new in made:
        typer.echo(f"{new.key.alias}  {new.token}")
    if made:
        typer.echo("\nKeep them now: tokens are shown this once.")


def _show_plan(plan: list[Step]) -> None:
    if plan:
        views.print_table(views.plan_table(plan))
    else:
        typer.echo("Nothing to do: all is as declared.")


def _ask(changes: int) -> None:
    """Ask whether to go on.

    Raises:
        Exit: no, or there is nobody to ask.
    """
    if not sys.stdin.isatty():
        typer.echo("Nobody to ask: run it again with --yes.", err=True)
        raise typer.Exit(1)
    typer.confirm(f"Make {changes} changes?", abort=True)
