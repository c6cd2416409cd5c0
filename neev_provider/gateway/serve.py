"""The composition root: what `neev-gateway serve` starts, in which order, and what it says meanwhile.

Store and emulator first, then the gateway's workers, which serve within a second; LiteLLM comes up behind them.
Everything else is decided elsewhere: what a process is in `parts.py`, keeping it running in `supervisor.py`, the
configuration's meaning in `config.py`. Called by the command line.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import shutil
import signal
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from neev_provider import settings
from neev_provider.config import load_config
from neev_provider.config_checks import check_for_litellm
from neev_provider.errors import ServerError
from neev_provider.gateway import parts
from neev_provider.gateway.environment import (
    MASTER_KEY_VARIABLE,
    Environment,
    forbid_core_files,
    prepare,
)
from neev_provider.gateway.metrics_server import MetricsServer, socket_path
from neev_provider.gateway.options import DEFAULT_STATE, EMBEDDED, NO_STORE, resolve
from neev_provider.gateway.run_files import write_catalog, write_file, write_litellm_config
from neev_provider.gateway.state import only_one
from neev_provider.gateway.supervisor import Supervisor
from neev_provider.store import Store, check_store

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from neev_provider.config import ProxyConfig
    from neev_provider.errors import ConfigError
    from neev_provider.gateway.options import Flags, ServeOptions

__all__ = ["serve", "welcome"]

_COMMAND: Final = "neev-gateway"


async def serve(flags: Flags, environ: Mapping[str, str], console: Console) -> None:
    """Start everything, then run until SIGINT, SIGTERM or SIGHUP; a second signal ends it at once.

    Raises:
        ConfigError: a setting is wrong or a part did not start; everything started is stopped first.
    """
    forbid_core_files()
    stop = _Stop()
    environment = prepare(flags, environ)
    config = load_config(flags.config, environment.variables)
    if config.neev.tracing.enabled:
        # Off by default, since nothing is sent anywhere unasked; whoever sets the variable himself has the last word.
        environment.variables["OTEL_SDK_DISABLED"] = environ.get("OTEL_SDK_DISABLED", "false")
    options = resolve(flags, config.neev, terminal=console.is_terminal)
    if options.litellm and options.litellm_url is None:
        check_for_litellm(config.document, str(config.path))
    parts.require_free("--port", options.host, options.port)
    async with AsyncExitStack() as held:
        if options.metrics_port:
            parts.require_free("--metrics-port", options.host, options.metrics_port)
        lock = held.enter_context(only_one(options.state)) if options.store == EMBEDDED else None
        supervisor = Supervisor()
        metrics = await _open_metrics(held, supervisor, options, config, environment)
        async with supervisor:
            root = _Root(supervisor, options, config, environment, console, metrics, lock)
            starting = asyncio.create_task(root.start())
            stopped = asyncio.create_task(stop.first.wait())
            try:
                await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
                if starting.done():
                    await starting
                    await stopped
                _say(console, "Stopping ...")
            finally:
                starting.cancel()
                stopped.cancel()
                await asyncio.gather(starting, stopped, return_exceptions=True)
                stop.on_second(supervisor.kill)
    _say(console, "Stopped.")


async def _open_metrics(
    held: AsyncExitStack,
    supervisor: Supervisor,
    options: ServeOptions,
    config: ProxyConfig,
    environment: Environment,
) -> MetricsServer | None:
    """Expose metrics if they are wanted, and tell the processes where to send theirs.

    Raises:
        ConfigError: port or socket cannot be used.
    """
    if not options.metrics_port:
        environment.variables.pop(settings.METRICS_VARIABLE, None)
        return None
    path = socket_path(config.neev.metrics, options.state, settings.metrics_socket(environment.variables))
    environment.variables[settings.METRICS_VARIABLE] = str(path)
    server = MetricsServer(options.host, options.metrics_port, path, config.neev, supervisor)
    return await held.enter_async_context(server)


@dataclass(frozen=True, slots=True)
class _Root:
    """One start of everything."""

    supervisor: Supervisor
    options: ServeOptions
    config: ProxyConfig
    environment: Environment
    console: Console
    metrics: MetricsServer | None
    lock: int | None = None

    async def start(self) -> None:
        """Start the parts in their order and say so."""
        environ = self.environment.variables
        if self.config.neev.models:
            # The other processes know the package's catalog only.
            environ[settings.CATALOG_VARIABLE] = str(write_catalog(self.config, self.options.state))
        await self._store(environ)
        await self._upstream(environ)
        litellm_url = self.options.litellm_url
        litellm = None
        if litellm_url is not None:
            self._done("LiteLLM", f"expected at {litellm_url}", "…")
        elif self.options.litellm:
            rendered = write_litellm_config(
                self.config, environ[settings.BASE_URL_VARIABLE], self.options.state
            )
            litellm, litellm_url = parts.litellm(self.options, environ, rendered)
            # Started last, but stopped after the workers: it has to end what they still answer.
            self.supervisor.keep_place(litellm.name)
        with self.console.status("Starting the gateway ..."):
            workers = range(self.options.workers)
            specs = [parts.worker(self.options, environ, number, litellm_url) for number in workers]
            await asyncio.gather(*(self.supervisor.start(spec) for spec in specs))
        self._done("gateway", f"{self.options.address} (workers: {self.options.workers})")
        if litellm is not None:
            self.supervisor.start_behind(litellm, self._litellm_is)
            self._done(
                "LiteLLM", "starts behind it (5 to 15 s); chat, models and speech are served without", "…"
            )
        _say(
            self.console,
            welcome(
                self.options.address + "/v1",
                self._shown_key(environ),
                self.config,
                _keys_command(self.options),
            ),
            highlight=False,
            markup=False,
            soft_wrap=True,  # a line broken for the window could not be pasted
        )

    def _shown_key(self, environ: Mapping[str, str]) -> str | None:
        """Return the master key as the welcome shows it; one that was not made here is never shown itself."""
        if self.environment.own_key:
            return environ[MASTER_KEY_VARIABLE]
        variable = self.environment.key_variable
        return None if variable is None else f"${variable}"

    async def _store(self, environ: dict[str, str]) -> None:
        url = self.options.store
        if url == NO_STORE:
            environ.pop(settings.STORE_VARIABLE, None)
            return
        if self.lock is not None:
            spec, url = parts.store(self.options, environ, self.lock)
            await self.supervisor.start(spec)
            self._done("store", f"embedded Valkey, kept in {self.options.state / 'store'}")
            write_file(self.options.state / "run" / "store", url + "\n")  # for the other commands
        else:
            await self._look_at(url)
        environ[settings.STORE_VARIABLE] = url
        if self.metrics is not None:
            self.metrics.show_budgets(url)

    async def _look_at(self, url: str) -> None:
        """Say whether a store that runs elsewhere answers; one that is away for now is no reason not to serve.

        Raises:
            ConfigError: its URL cannot be read; it is too old, or evicts what it should keep.
        """
        kind = url.partition("://")[0]
        async with Store.from_url(url, source="--store") as store:
            try:
                await check_store(store)
            except ServerError as error:
                trouble = (
                    "does not answer" if error.code == "store_unavailable" else "refuses what it is asked"
                )
                self._done("store", f"{kind}: {trouble}; it is tried again", "…")
            else:
                self._done("store", kind)

    async def _upstream(self, environ: dict[str, str]) -> None:
        if not self.environment.uses_emulator:
            self._done("upstream", environ[settings.BASE_URL_VARIABLE])
            return
        with self.console.status(f"Starting the emulator (engine {self.options.engine}) ..."):
            spec, address = parts.emulator(self.options, environ)
            await self.supervisor.start(spec)
        self._done("emulator", f"{address} (engine {self.options.engine})")
        environ[settings.BASE_URL_VARIABLE] = address + "/v1"

    def _litellm_is(self, failure: ConfigError | None, seconds: float) -> None:
        if failure is None:
            self._done("LiteLLM", f"ready after {seconds:.1f} s: all its other routes are served too")
        else:
            _say(self.console, f"[red]✗[/] LiteLLM     {failure} It is tried again.", soft_wrap=True)

    def _done(self, part: str, what: str, mark: str = "✓") -> None:
        _say(self.console, f"[green]{mark}[/] {part:<11} {what}", soft_wrap=True, highlight=False)


def _say(console: Console, text: str, **options: Any) -> None:
    """Print, if anybody reads: a window or pipe that was closed is no reason to end what is served."""
    with contextlib.suppress(OSError, SystemExit):  # of a broken pipe rich makes an exit
        console.print(text, **options)


class _Stop:
    """SIGINT, SIGTERM and SIGHUP (a closed window): the first stops, the second ends at once."""

    def __init__(self) -> None:
        self.first: Final = asyncio.Event()
        self._on_second: Any = None
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._received)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup
            loop.add_signal_handler(signal.SIGHUP, self._received)

    def on_second(self, act: Any) -> None:
        self._on_second = act

    def _received(self) -> None:
        if self.first.is_set() and self._on_second is not None:
            self._on_second()
        self.first.set()


def _keys_command(options: ServeOptions) -> str | None:
    """Return the command that makes a key for this gateway, from this directory; None without a store."""
    if options.store == NO_STORE:
        return None
    beside = Path(sys.executable).with_name(_COMMAND)
    words = [_COMMAND if shutil.which(_COMMAND) or not beside.exists() else os.path.relpath(beside)]
    words += ["keys", "create", "--alias", "NAME", "--budget", "10"]
    if options.store == EMBEDDED and options.state != DEFAULT_STATE:
        words += ["--state", str(options.state)]
    return shlex.join(words)


def welcome(base_url: str, master_key: str | None, config: ProxyConfig, keys_command: str | None) -> str:
    """Return what to do next, ready to paste.

    Args:
        base_url: of the API.
        master_key: the key, or `$` and the name of the variable that holds it; None if it stands in the file.
        config: for a model's name, whether the master key may call it, and where that key stands.
        keys_command: makes a virtual key; None if there is no store for it.
    """
    may_call = config.neev.admission.master_key_may_call_models
    place = f"general_settings.master_key of {config.path}"
    key = (master_key if may_call else None) or "$KEY"
    model = next((d.model_name for d in config.deployments if d.neev_id), config.deployments[0].model_name)
    in_python = f'os.environ["{key[1:]}"]' if key.startswith("$") else f'"{key}"'
    imports = "import os\n" if key.startswith("$") else ""
    title, first, last = "API key", "", ""
    if not may_call:
        title = "Admin key"
        makes = f"$({keys_command} -q)" if keys_command else "...  # one of neev.keys"
        first = f"\nIt may not call models; a key that may:\n\nexport KEY={makes}\n"
    elif keys_command:
        last = f"\nA key for somebody: {keys_command}"
    if may_call and master_key is None:
        first = f"\nexport KEY=...  # {place}\n"
    return f"""
Base URL  {base_url}
{title:<9} {master_key or place}
{first}
curl {base_url}/chat/completions \\
  -H "Authorization: Bearer {key}" -H "Content-Type: application/json" \\
  -d '{{"model": "{model}", "messages": [{{"role": "user", "content": "Say hello."}}]}}'

{imports}from openai import OpenAI
client = OpenAI(base_url="{base_url}", api_key={in_python})
print(client.chat.completions.create(
    model="{model}", messages=[{{"role": "user", "content": "Say hello."}}]
).choices[0].message.content)
{last}
Ctrl-C stops everything."""
