"""`neev-gateway models ...`: the catalog, and the configuration's generated part."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated, Final

import typer

from neev_provider.commands import models_catalog, views
from neev_provider.commands.attributes import JsonOption

__all__ = ["app"]

app: Final = typer.Typer(no_args_is_help=True, add_completion=False, help="The model catalog.")


@app.command("list")
def list_models(
    live: Annotated[bool, typer.Option("--live", help="Ask the upstream's own list too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List the catalog: ids, owners, context windows, prices."""
    environ = os.environ
    catalog = asyncio.run(models_catalog.live_catalog(environ)) if live else models_catalog.catalog(environ)
    if as_json:
        typer.echo(models_catalog.as_json(catalog))
    else:
        views.print_table(models_catalog.as_table(catalog))


@app.command("sync-config")
def sync_config(
    config: Annotated[Path, typer.Option("--config", "-c", help="The proxy configuration.")] = Path(
        "proxy_config.yaml"
    ),
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 1 if the file is stale.")
    ] = False,
    base_url: Annotated[
        str | None, typer.Option(help="Upstream for the speech models. [default: the vendor's]")
    ] = None,
) -> None:
    """Write the models of the catalog into the generated part of the proxy configuration."""
    is_new = not config.exists()
    difference = models_catalog.sync_config(config, base_url, check=check, environ=os.environ)
    if not difference:
        typer.echo(f"{config} is up to date.")
        return
    if not is_new:  # of which all would be different
        typer.echo(difference, nl=False)
    if check:
        typer.echo(
            f"error: {config} is stale. Run: neev-gateway models sync-config --config {config}", err=True
        )
        raise typer.Exit(1)
    typer.echo(f"{config} written.")
