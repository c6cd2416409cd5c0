"""Opens the store that a command works on: the one named, the running gateway's, or the embedded one by itself.

Called by the commands for keys, teams, spend and by `doctor`.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

import typer

from neev_provider import settings
from neev_provider.commands.attributes import in_options
from neev_provider.config import read_document
from neev_provider.errors import ConfigError, RequestError, ServerError
from neev_provider.gateway import parts
from neev_provider.gateway.options import EMBEDDED, NO_STORE, ServeOptions
from neev_provider.gateway.state import only_one
from neev_provider.gateway.supervisor import Supervisor
from neev_provider.store import Store
from neev_provider.store.node import Timing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

__all__ = ["ConfigOption", "StateOption", "StoreChoice", "StoreOption", "open_store", "run", "who"]

T = TypeVar("T")

_PATIENT: Final = Timing(call=5.0, probe=3.0)  # seconds; nobody's request waits for a command
_START_SECONDS: Final = 10.0  # that a gateway which has the directory may take to start its store

StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        envvar=settings.STORE_VARIABLE,
        help="A Redis URL, or `embedded`: the Valkey in --state.",
        show_default="the configuration's, else embedded",
    ),
]
StateOption = Annotated[Path, typer.Option("--state", help="Directory of the embedded store.")]
ConfigOption = Annotated[
    Path, typer.Option("--config", "-c", help="The proxy configuration, if there is one.")
]


@dataclass(frozen=True, slots=True)
class StoreChoice:
    """Which store.

    Attributes:
        store: as `--store` names it; None for the configuration's.
        state: directory of the embedded store.
        config: the proxy configuration; it need not exist.
    """

    store: str | None
    state: Path
    config: Path


def run(
    choice: StoreChoice, work: Callable[[Store], Awaitable[T]], *, reads: bool = False, declared: bool = False
) -> T:
    """Do some work with the store, and close it.

    Args:
        choice: which store.
        work: done with it.
        reads: nothing is changed, so that an embedded store that is not there is an error and is not made.
        declared: what is wanted stands in a file, so that errors name attributes and not options.

    Raises:
        ConfigError: there is no such store, or it does not answer.
        NeevError: what the work says.
    """

    async def with_store() -> T:
        async with open_store(choice, reads=reads) as store:
            return await work(store)

    try:
        return asyncio.run(with_store())
    except RequestError as error:
        raise (error if declared else in_options(error)) from None


@contextlib.asynccontextmanager
async def open_store(choice: StoreChoice, *, reads: bool = False) -> AsyncIterator[Store]:
    """Yield the store; an embedded one that no gateway has running runs as long as it is needed.

    Args:
        choice: which store.
        reads: as in `run`.

    Raises:
        ConfigError: there is no such store, or it does not answer.
    """
    url = choice.store or _configured(choice.config) or EMBEDDED
    if url == NO_STORE:
        raise ConfigError(
            "--store", NO_STORE, "keeps no keys", "Name a Redis URL, or embedded for the one in --state."
        )
    async with contextlib.AsyncExitStack() as stack:
        if url == EMBEDDED:
            if reads and not parts.store_socket(choice.state).parent.exists():
                raise ConfigError(
                    "--state",
                    str(choice.state),
                    "holds no store: no gateway was started with it, and no key was made",
                    "Name the gateway's directory with --state, or its Redis with --store.",
                )
            url = await _embedded(choice, stack)
        store = await stack.enter_async_context(Store.from_url(url, timing=_PATIENT, source="--store"))
        try:
            await store.each_node("PING")
        except ServerError as error:
            raise ConfigError(
                "store",
                str(store.address),
                "does not answer",
                "Is it running? Does its URL hold the password?",
            ) from error
        yield store


def who(name: str | None) -> str:
    """Return who makes a change, for the audit: the name given, else the system's user."""
    if name is None:
        try:
            name = getpass.getuser()
        except (KeyError, OSError):  # a container's user has no name
            name = str(os.getuid())
    return f"cli:{name}"


def _configured(config: Path) -> str | None:
    """Return the store that the configuration names."""
    if not config.exists():
        return None
    named = (read_document(config).get("neev") or {}).get("store")
    return named if isinstance(named, str) else None


async def _embedded(choice: StoreChoice, stack: contextlib.AsyncExitStack) -> str:
    """Return the URL of the embedded store; starts it unless a gateway has it running.

    Raises:
        ConfigError: it does not start, or a gateway has the directory and no store.
    """
    socket = parts.store_socket(choice.state)
    ends = time.monotonic() + _START_SECONDS
    while not await parts.pongs(socket):
        try:
            lock = stack.enter_context(only_one(choice.state, seconds=0.0))
        except ConfigError:
            # A gateway is about to start its store, or another command is about to stop it.
            if time.monotonic() > ends:
                raise
            await asyncio.sleep(0.1)
            continue
        spec, _ = parts.store(ServeOptions(config=choice.config, state=choice.state), os.environ, lock)
        supervisor = await stack.enter_async_context(Supervisor())
        await supervisor.start(spec)
    return f"unix://{socket}"
