"""The composition root: what `neev-gateway serve` starts, in which order, with which settings.

Starts the emulator (unless there is an upstream) and the LiteLLM proxy, waits until both serve, and says how to
call them. Everything else is decided elsewhere: processes in `supervisor.py`, the configuration's meaning in
`config.py`. Called by the command line.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import yaml

from neev_provider import settings
from neev_provider.config import load_config
from neev_provider.deployment import normalise_base_url
from neev_provider.errors import ConfigError
from neev_provider.gateway.supervisor import ChildSpec, Supervisor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from neev_provider.config import ProxyConfig

__all__ = ["EMULATOR", "ServeOptions", "serve"]

EMULATOR: Final = "emulator"
_EMULATOR_KEY: Final = "sk-nc-emulator"  # the emulator takes any key of this form
MASTER_KEY_VARIABLE: Final = "LITELLM_MASTER_KEY"
_MASTER_KEY: Final = re.compile(
    r"sk-[\x21-\x7e]{32,}"
)  # LiteLLM's own rule, which it applies to some starts only
_KEY: Final = re.compile(r"[\x21-\x7e]+")

# Nothing but the upstream is ever contacted: LiteLLM reads its own copies of what it would download.
_OFFLINE: Final[Mapping[str, str]] = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    "LITELLM_LOCAL_AUTOROUTER_PRESETS": "True",
    "LITELLM_LOCAL_BLOG_POSTS": "True",
    "LITELLM_LOCAL_POLICY_TEMPLATES": "True",
    "LITELLM_TELEMETRY": "False",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "OTEL_SDK_DISABLED": "true",
}


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """What the command line says.

    Attributes:
        config: the configuration file.
        host: address that LiteLLM listens on.
        port: its port.
        upstream: "emulator", a base URL, or None: the emulator unless a NeevAI key is set.
        engine: the emulator's engine.
        state: directory for the generated key, logs and rendered configuration.
        verbose: pass the children's output through instead of logging it to files.
        litellm: serve through LiteLLM; without it our own gateway answers NeevAI's four endpoints.
        workers: gateway processes that share the port; without LiteLLM only.
        grace: seconds that running answers have to finish when a gateway is stopped.
    """

    config: Path
    host: str = "127.0.0.1"
    port: int = 4000
    upstream: str | None = None
    engine: str = "local"
    state: Path = Path(".neev")
    verbose: bool = False
    litellm: bool = True
    workers: int = 1
    grace: int = 30


async def serve(options: ServeOptions, environment: Mapping[str, str], console: Console) -> None:
    """Start everything, then run until SIGINT or SIGTERM.

    Raises:
        ConfigError: a setting is wrong or a part did not start; everything started is stopped first.
    """
    stop = _stop_on_signals()
    environ, uses_emulator = _environment(options, environment)
    if not uses_emulator:
        source = settings.BASE_URL_VARIABLE if options.upstream is None else "--upstream"
        environ[settings.BASE_URL_VARIABLE] = normalise_base_url(settings.base_url(environ), source=source)
    config = load_config(options.config, environ)
    literal = (config.document.get("general_settings") or {}).get("master_key")
    if isinstance(literal, str) and not literal.startswith("os.environ/"):
        environ[MASTER_KEY_VARIABLE] = literal  # the file's own key is the one that counts, and is shown
    _require_free(options.host, options.port)
    async with Supervisor() as supervisor:
        starting = asyncio.create_task(_start(supervisor, options, config, environ, uses_emulator, console))
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                await starting
                await stopped
            console.print("Stopping ...")
        finally:
            starting.cancel()
            stopped.cancel()
            await asyncio.gather(starting, stopped, return_exceptions=True)
    console.print("Stopped.")


async def _start(
    supervisor: Supervisor,
    options: ServeOptions,
    config: ProxyConfig,
    environ: dict[str, str],
    uses_emulator: bool,
    console: Console,
) -> None:
    if "models" in (config.document.get("neev") or {}):
        # The other processes know the package's catalog only.
        environ[settings.CATALOG_VARIABLE] = str(
            _write(options.state / "run" / "catalog.yaml", config.catalog.dump())
        )
    if uses_emulator:
        with console.status(f"Starting the emulator (engine {options.engine}) ..."):
            address = await _start_emulator(supervisor, options, environ)
        console.print(f"[green]✓[/] emulator    {address} (engine {options.engine})")
        environ[settings.BASE_URL_VARIABLE] = address + "/v1"
    else:
        console.print(f"[green]✓[/] upstream    {environ[settings.BASE_URL_VARIABLE]}")
    address = _address(options)
    if options.litellm:
        with console.status("Starting LiteLLM (5 to 15 s) ..."):
            rendered = _render(config, environ[settings.BASE_URL_VARIABLE], options.state)
            await _start_litellm(supervisor, options, rendered, environ)
        console.print(f"[green]✓[/] LiteLLM     {address}")
    else:
        with console.status("Starting the gateway ..."):
            for number in range(options.workers):
                await _start_worker(supervisor, options, number, environ)
        console.print(f"[green]✓[/] gateway     {address} (workers: {options.workers}, without LiteLLM)")
    console.print(
        welcome(address + "/v1", environ[MASTER_KEY_VARIABLE], config),
        highlight=False,
        markup=False,
        soft_wrap=True,  # a line broken for the window could not be pasted
    )


async def _start_emulator(supervisor: Supervisor, options: ServeOptions, environ: Mapping[str, str]) -> str:
    port = _free_port()
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "neev_provider", "emulator", "--host", "127.0.0.1"]
    path = settings.catalog_path(environ)
    catalog = [] if path is None else ["--catalog", path]
    await supervisor.start(
        ChildSpec(
            name="emulator",
            command=[*command, "--port", str(port), "--engine", options.engine, *catalog],
            environ=environ,
            log=_log_file(options, "emulator"),
            ready=lambda: _answers(address + "/v1/models", {"authorization": f"Bearer {_EMULATOR_KEY}"}),
        )
    )
    return address


async def _start_litellm(
    supervisor: Supervisor, options: ServeOptions, config: Path, environ: Mapping[str, str]
) -> None:
    command = [sys.executable, "-c", "import sys; from litellm import run_server; sys.exit(run_server())"]
    await supervisor.start(
        ChildSpec(
            name="litellm",
            command=[*command, "--config", str(config), "--host", options.host, "--port", str(options.port)],
            environ=environ,
            log=_log_file(options, "litellm"),
            ready=lambda: _answers(_address(options) + "/health/liveliness", {}),
        )
    )


async def _start_worker(
    supervisor: Supervisor, options: ServeOptions, number: int, environ: Mapping[str, str]
) -> None:
    command = [sys.executable, "-m", "neev_provider.gateway.worker", "--config", str(options.config)]
    await supervisor.start(
        ChildSpec(
            name=f"gateway-{number}",
            command=[
                *command,
                "--host",
                options.host,
                "--port",
                str(options.port),
                "--grace",
                str(options.grace),
            ],
            environ=environ,
            log=_log_file(options, f"gateway-{number}"),
            ready=lambda: _answers(_address(options) + "/readyz", {}),
            stop_seconds=options.grace + 5.0,
        )
    )


def _environment(options: ServeOptions, environ: Mapping[str, str]) -> tuple[dict[str, str], bool]:
    """Return the children's environment, and whether the emulator stands in for NeevAI."""
    merged = {**_OFFLINE, **environ}
    key = settings.api_key(environ)
    uses_emulator = options.upstream == EMULATOR or (options.upstream is None and key is None)
    if uses_emulator:
        key = _EMULATOR_KEY
    elif options.upstream is not None:
        merged[settings.BASE_URL_VARIABLE] = normalise_base_url(options.upstream, source="--upstream")
    if key is None:
        raise ConfigError.missing_variable(
            settings.API_KEY_VARIABLES[0], "Set it to a NeevAI 'Model API' key, or use --upstream emulator."
        )
    if not _KEY.fullmatch(key):
        raise ConfigError(
            settings.API_KEY_VARIABLES[0], "", "holds a character that no key has", "Copy the key again."
        )
    merged[settings.API_KEY_VARIABLES[0]] = key
    if not merged.get(MASTER_KEY_VARIABLE):
        merged[MASTER_KEY_VARIABLE] = _own_master_key(options.state)
    if not _MASTER_KEY.fullmatch(merged[MASTER_KEY_VARIABLE]):
        raise ConfigError(
            MASTER_KEY_VARIABLE,
            "",
            "is too weak: whoever guesses it spends your money",
            "Use sk- and at least 32 random characters, or unset it to have one made.",
        )
    return merged, uses_emulator


def _own_master_key(state: Path) -> str:
    """Return the master key kept in the state directory; made on the first start."""
    path = state / "master_key"
    try:
        if path.exists():
            kept = path.read_text(encoding="latin-1").strip()
            if not _MASTER_KEY.fullmatch(kept):
                raise ConfigError(str(path), "", "does not hold a key", "Remove the file to have one made.")
            return kept
        state.mkdir(parents=True, exist_ok=True)
        key = "sk-" + secrets.token_urlsafe(32)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(key + "\n")
    except OSError as error:
        raise ConfigError(
            str(path),
            "",
            f"cannot be used ({error.strerror})",
            f"Set {MASTER_KEY_VARIABLE}, or another --state.",
        ) from None
    return key


def _render(config: ProxyConfig, base_url: str, state: Path) -> Path:
    """Write the configuration that LiteLLM reads: speech follows the upstream in use.

    Chat does so by itself (the adapter reads the environment); speech goes through LiteLLM's OpenAI client, whose
    host stands in the file.
    """
    document: dict[str, Any] = dict(config.document)
    document["model_list"] = [_with_base(entry, base_url) for entry in document["model_list"]]
    return _write(state / "run" / "proxy_config.yaml", yaml.safe_dump(document, sort_keys=False))


def _write(path: Path, text: str) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)  # keys may stand in it
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            str(path), "", f"cannot be written ({error.strerror})", "Use another --state."
        ) from None
    return path


def _with_base(entry: dict[str, Any], base_url: str) -> dict[str, Any]:
    params = entry["litellm_params"]
    if params.get("api_base") != settings.DEFAULT_BASE_URL:
        return entry
    return {**entry, "litellm_params": {**params, "api_base": base_url}}


def welcome(base_url: str, key: str, config: ProxyConfig) -> str:
    """Return what to do next, ready to paste."""
    model = next((d.model_name for d in config.deployments if d.neev_id), config.deployments[0].model_name)
    return f"""
Base URL  {base_url}
API key   {key}

curl {base_url}/chat/completions \\
  -H "Authorization: Bearer {key}" -H "Content-Type: application/json" \\
  -d '{{"model": "{model}", "messages": [{{"role": "user", "content": "Say hello."}}]}}'

from openai import OpenAI
client = OpenAI(base_url="{base_url}", api_key="{key}")
print(client.chat.completions.create(
    model="{model}", messages=[{{"role": "user", "content": "Say hello."}}]
).choices[0].message.content)

Ctrl-C stops everything."""


def _log_file(options: ServeOptions, name: str) -> Path | None:
    return None if options.verbose else options.state / "log" / f"{name}.log"


async def _answers(url: str, headers: Mapping[str, str]) -> bool:
    timeout = aiohttp.ClientTimeout(total=2)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(url, headers=headers) as response,
        ):
            return response.status == 200  # noqa: PLR2004
    except (aiohttp.ClientError, TimeoutError, OSError):
        return False


def _address(options: ServeOptions) -> str:
    host = f"[{options.host}]" if ":" in options.host else options.host
    return f"http://{host}:{options.port}"


def _free_port() -> int:
    """Return a free port below the range that the kernel gives to outgoing connections."""
    while True:
        port = secrets.randbelow(12_000) + 20_000
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def _require_free(host: str, port: int) -> None:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.create_server((host, port), family=family):
            pass
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            "--port", f"{host}:{port}", f"cannot be listened on ({reason})", "Choose another with --port."
        ) from None


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    return stop
