"""`neev-gateway audit`: who changed which key or team. Called by `cli.py`."""

from __future__ import annotations

import typer

from neev_provider.admission.keys import Keys
from neev_provider.commands import views
from neev_provider.commands.opening import StoreChoice, run

__all__ = ["show_audit"]


def show_audit(choice: StoreChoice, *, limit: int, as_json: bool) -> None:
    """Print the last changes.

    Raises:
        ConfigError: the store does not answer.
    """
    entries = run(choice, lambda store: Keys(store).audit(limit=limit), reads=True)
    if as_json:
        typer.echo(views.as_json([views.audit_fields(entry) for entry in entries]))
    elif entries:
        views.print_table(views.audit_table(entries))
    else:
        typer.echo("Nothing was changed yet.")
