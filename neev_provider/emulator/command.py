"""`neev-gateway emulator`: options in, a served emulator out. Mounted by `cli.py`.

Imported by every run of the command line, so what is heavy is imported when the emulator really starts.
"""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Final

import typer

from neev_provider.emulator.faults import FAULTS, SHAPES
from neev_provider.emulator.steering import ECHO_KEYS

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["emulator", "help_text"]

DEFAULT_PORT: Final = 4010

_HELP: Final = """\
A NeevAI on this machine: the same API, offline, for first steps, tests and CI.

Any key that begins with sk-nc- is accepted. Prints one line when it is ready; stops on Ctrl-C.

**Faults**, for one request by the header x-neev-fault, for all by --fault or PUT /_emulator/faults;
several are separated by commas. A client that cannot set headers writes the line "x-neev-fault: ..." at the very
beginning of its last message.

{faults}

**Error shapes**, for status and shape:

{shapes}

**Steering the echo engine**, by the header x-neev-echo, as "tokens=200,rate=100", or such a line in the message:

{keys}

**What really happened**: GET /_emulator/stats and /_emulator/requests, from this machine only.
"""


def help_text() -> str:
    """Return the command's help, with every fault and every way to steer, from the tables that the code uses."""
    return _HELP.format(
        faults=_items((kind.usage, kind.help) for kind in FAULTS),
        shapes=_items(SHAPES.items()),
        keys=_items((key.usage, key.help) for key in ECHO_KEYS),
    )


def _items(rows: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f"- `{name}`: {text}" for name, text in rows)


def emulator(
    *,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 is any free one.")
    ] = DEFAULT_PORT,
    engine: Annotated[
        str, typer.Option(help="echo: deterministic and instant. local: a real small model and a real voice.")
    ] = "echo",
    quirks: Annotated[
        str, typer.Option(help="none: as documented. live: with the known defects of the live service.")
    ] = "none",
    fault: Annotated[str | None, typer.Option(help="Fault for every request that brings none.")] = None,
    catalog: Annotated[Path | None, typer.Option(help="Catalog file. [default: the package's own]")] = None,
) -> None:
    """Serve until SIGTERM or SIGINT; `help_text()` is what `--help` shows.

    Raises:
        ConfigError: an option is wrong, the address is in use, or the engine's packages are missing.
    """
    from neev_provider.catalog import Catalog  # noqa: PLC0415
    from neev_provider.emulator.app import create_app  # noqa: PLC0415
    from neev_provider.emulator.engines import make_engine  # noqa: PLC0415
    from neev_provider.emulator.server import EmulatorServer, listen, run_on_fast_loop  # noqa: PLC0415
    from neev_provider.errors import ConfigError  # noqa: PLC0415

    try:
        app = create_app(make_engine(engine), catalog=Catalog.load(catalog), quirks=quirks, fault=fault)
    except ValueError as error:
        raise ConfigError("emulator", "", str(error), "See: neev-gateway emulator --help") from None
    server = EmulatorServer(app, listen(host, port))

    def ready() -> None:
        typer.echo(f"emulator ready on {server.root_url} engine={engine}")

    run_on_fast_loop(server.run(ready, handle_signals=True))


emulator.__doc__ = help_text()
