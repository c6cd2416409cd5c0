"""`neev-gateway`: the command line. Reads words, calls the rest, prints; decides nothing.

Each command imports what it needs when it runs, so that `--help` and the small ones answer at once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Final, Literal, NoReturn

import typer
from rich.console import Console

from neev_provider import __version__
from neev_provider.commands.lazily import LazyGroup
from neev_provider.emulator.command import emulator
from neev_provider.errors import ConfigError, NeevError
from neev_provider.settings import STORE_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["app", "main"]


class _Commands(LazyGroup):
    modules: ClassVar[Mapping[str, str]] = {
        name: f"neev_provider.commands.{name}" for name in ("keys", "teams", "spend", "models")
    }


app: Final = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="NeevAI's Model Routing API for a whole team.",
)
app.command()(emulator)

ConfigPath = Annotated[Path, typer.Option("--config", "-c", help="The proxy configuration.")]
StatePath = Annotated[
    Path,
    typer.Option("--state", help="Directory for the generated key, the embedded store, logs and run files."),
]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DEFAULT_CONFIG: Final = Path("proxy_config.yaml")
DEFAULT_STATE: Final = Path(".neev")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"neev-gateway {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def serve(
    config: ConfigPath = DEFAULT_CONFIG,
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port to listen on.", show_default="4000")
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port of the Prometheus metrics; 0: none.", show_default="9090"),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, max=64, help="Gateway processes that share the port.", show_default="1"),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            envvar=STORE_VARIABLE,
            help="Where keys, limits and budgets are kept: `embedded` (a Valkey in --state), a Redis URL, "
            "or `none`.",
            show_default="embedded",
        ),
    ] = None,
    upstream: Annotated[
        str | None,
        typer.Option(
            help="`emulator` or a base URL.", show_default="the emulator unless NEEV_API_KEY is set"
        ),
    ] = None,
    engine: Annotated[
        Literal["local", "echo"],
        typer.Option(help="The emulator's engine: local (a real small model) or echo."),
    ] = "local",
    state: StatePath = DEFAULT_STATE,
    litellm: Annotated[
        bool | None,
        typer.Option(
            "--litellm/--no-litellm",
            help="Run LiteLLM behind the gateway, for every route but chat, models and speech.",
            show_default="--litellm",
        ),
    ] = None,
    litellm_url: Annotated[
        str | None,
        typer.Option(
            help="A LiteLLM that runs elsewhere, as `neev-gateway litellm` in a container of its own.",
            show_default="run here",
        ),
    ] = None,
    grace: Annotated[
        int | None,
        typer.Option(
            min=0, max=3600, help="Seconds for running answers to finish when stopped.", show_default="30"
        ),
    ] = None,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"] | None,
        typer.Option(help="The least that the gateway writes; info: a line a request.", show_default="info"),
    ] = None,
    log_format: Annotated[
        Literal["console", "json"] | None,
        typer.Option(
            help="Lines for a person or for a machine.", show_default="console in a terminal, else json"
        ),
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show the logs of the other parts too.")
    ] = False,
) -> None:
    """Serve the API: starts everything that the configuration needs, until Ctrl-C.

    What is said here goes before the file's `neev` section, and that before the defaults.
    """
    from neev_provider.gateway import serve as root  # noqa: PLC0415
    from neev_provider.gateway.options import Flags  # noqa: PLC0415
    from neev_provider.loops import run_to_the_end  # noqa: PLC0415

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    flags = Flags(
        config=config,
        host=host,
        port=port,
        metrics_port=metrics_port,
        workers=workers,
        store=store,
        upstream=upstream,
        engine=engine,
        state=state,
        litellm=litellm,
        litellm_url=litellm_url,
        grace=grace,
        log_level=log_level,
        log_format=log_format,
        verbose=verbose,
    )
    asyncio.run(run_to_the_end(root.serve(flags, os.environ, Console())))


@app.command()
def litellm(
    config: ConfigPath = DEFAULT_CONFIG,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on, on 127.0.0.1.")] = 4001,
    state: Annotated[Path, typer.Option(help="Directory for run files.")] = Path(".neev/litellm"),
) -> None:
    """Run LiteLLM alone, as `serve` would: for a container of its own beside `serve --litellm-url`."""
    from neev_provider.gateway.litellm_process import become_litellm  # noqa: PLC0415
    from neev_provider.gateway.options import Flags  # noqa: PLC0415

    become_litellm(Flags(config=config, state=state), os.environ, port=port)


@app.command()
def audit(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many changes; the last ones.")] = 50,
    as_json: JsonFlag = False,
    store: Annotated[str | None, typer.Option(envvar=STORE_VARIABLE, help="As for keys.")] = None,
    state: StatePath = DEFAULT_STATE,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Show who changed which key or team, and when; the newest first."""
    from neev_provider.commands.audit import show_audit  # noqa: PLC0415
    from neev_provider.commands.opening import StoreChoice  # noqa: PLC0415

    show_audit(StoreChoice(store, state, config), limit=limit, as_json=as_json)


@app.command()
def doctor(
    as_json: JsonFlag = False,
    store: Annotated[str | None, typer.Option(envvar=STORE_VARIABLE, help="As for serve.")] = None,
    upstream: Annotated[
        str | None, typer.Option(help="`emulator` or a base URL.", show_default="as for serve")
    ] = None,
    state: StatePath = DEFAULT_STATE,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Check a deployment, part by part, and say how to mend it; exit code 1 if something is wrong."""
    from neev_provider.commands.doctor import examine  # noqa: PLC0415
    from neev_provider.commands.opening import StoreChoice  # noqa: PLC0415

    examine(StoreChoice(store, state, config), upstream, os.environ, as_json=as_json)


@app.command()
def openapi() -> None:
    """Print the OpenAPI document of what the gateway answers itself; it serves the same at /openapi.json."""
    from neev_provider.openapi import encoded  # noqa: PLC0415

    typer.echo(encoded(__version__), nl=False)


def main() -> None:
    """Run the command; a wrong setting is one line on stderr and exit code 2, never a traceback."""
    # Errors are printed below, once; a library's log lines would say them again.
    logging.getLogger("neev_provider").addHandler(logging.NullHandler())
    try:
        app()
    except ConfigError as error:
        _fail(str(error), code=2)
    except NeevError as error:
        _fail(error.message, code=1)


def _fail(message: str, *, code: int) -> NoReturn:
    Console(stderr=True, soft_wrap=True).print("[bold red]error:[/] ", end="")
    typer.echo(message, err=True)
    sys.exit(code)
