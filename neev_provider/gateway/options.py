"""What `neev-gateway serve` is to do: the command line over the configuration's `neev` section over the defaults.

The one place where the defaults stand. Made by the command line, read by `serve.py` and, as far as a worker needs
them, passed on to `worker.py`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from neev_provider.errors import ConfigError

if TYPE_CHECKING:
    from neev_provider.config_schema import NeevSettings

__all__ = [
    "DEFAULT_STATE",
    "EMBEDDED",
    "EMULATOR",
    "NO_STORE",
    "Flags",
    "ServeOptions",
    "WorkerOptions",
    "resolve",
]

EMULATOR: Final = "emulator"
DEFAULT_STATE: Final = Path(".neev")
EMBEDDED: Final = "embedded"
NO_STORE: Final = "none"
_ORIGIN: Final = re.compile(r"https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(:[0-9]{1,5})?/?")
STORE_SCHEMES: Final = (
    "redis://",
    "rediss://",
    "unix://",
    "redis+sentinel://",
    "redis+cluster://",
    "rediss+sentinel://",
    "rediss+cluster://",
)


class Flags(msgspec.Struct, frozen=True, kw_only=True):
    """The command line; None is what was not said. Described by the command's help."""

    config: Path
    host: str | None = None
    port: int | None = None
    metrics_port: int | None = None
    workers: int | None = None
    store: str | None = None
    upstream: str | None = None
    engine: str = "local"
    state: Path = DEFAULT_STATE
    litellm: bool | None = None
    litellm_url: str | None = None
    grace: int | None = None
    log_level: str | None = None
    log_format: str | None = None
    verbose: bool = False


class ServeOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What to serve, and how.

    Attributes:
        config: the configuration file.
        host: address that the gateway listens on.
        port: its port.
        metrics_port: port of the metrics on the same address; 0 = none.
        workers: gateway processes that share the port.
        store: "embedded", a Redis URL, or "none".
        upstream: "emulator", a base URL, or None: the emulator unless a NeevAI key is set.
        engine: the emulator's engine.
        state: directory for the generated key, the embedded store, logs and run files.
        litellm: run LiteLLM behind the gateway.
        litellm_url: where a LiteLLM listens that is run elsewhere, as in a container of its own; None = run it here.
        litellm_routes: what is let through to it; None = the LLM routes.
        grace: seconds that running answers have to finish when stopped.
        drain_delay: seconds between failing readiness and not accepting any more.
        log_level: the least that the gateway writes.
        log_format: "console" or "json".
        verbose: pass the output of the other processes through instead of logging it to files.
        limits: what a request may take up, by the names of `neev.server`; only those that are set.
    """

    config: Path
    host: str = "127.0.0.1"
    port: int = 4000
    metrics_port: int = 9090
    workers: int = 1
    store: str = EMBEDDED
    upstream: str | None = None
    engine: str = "local"
    state: Path = DEFAULT_STATE
    litellm: bool = True
    litellm_url: str | None = None
    litellm_routes: list[str] | None = None
    grace: int = 30
    drain_delay: float = 0.0
    log_level: str = "info"
    log_format: str = "console"
    verbose: bool = False
    limits: dict[str, float] = {}

    @property
    def address(self) -> str:
        """The gateway's own URL, without a path."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


class WorkerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What one gateway process is told on its command line; secrets come in its environment.

    Attributes:
        number: of this worker, from 0.
        ready_file: written when the worker serves.
        ledger_file: takes what a call cost if the store does not, one JSON line each.
        litellm_url: where LiteLLM listens; None = there is none.
    """

    number: int
    config: str
    host: str
    port: int
    grace: int = 30
    drain_delay: float = 0.0
    log_level: str = "info"
    log_format: str = "console"
    ready_file: str
    ledger_file: str | None = None
    litellm_url: str | None = None
    litellm_routes: list[str] | None = None
    limits: dict[str, float] = {}


_LIMITS: Final = (
    "max_body_bytes",
    "body_seconds",
    "max_header_bytes",
    "header_seconds",
    "write_seconds",
    "max_connections",
)


def resolve(flags: Flags, neev: NeevSettings, *, terminal: bool) -> ServeOptions:
    """Put flags, configuration and defaults together.

    Args:
        flags: of the command line.
        neev: the configuration's section.
        terminal: whether a person reads the output; else logs are JSON lines.

    Raises:
        ConfigError: a store or a URL that is none; a LiteLLM that is and is not wanted; one port for two things.
    """
    server, log = neev.server, neev.log
    source = "--store" if flags.store is not None else str(flags.config)
    chosen: dict[str, Any] = {
        "host": _first(flags.host, server.host),
        "port": _first(flags.port, server.port),
        "metrics_port": _first(flags.metrics_port, server.metrics_port),
        "workers": _first(flags.workers, server.workers),
        "store": _store(_first(flags.store, neev.store), source),
        "litellm": _first(flags.litellm, neev.litellm.enabled),
        "litellm_url": _litellm_url(flags),
        "litellm_routes": neev.litellm.routes,
        "grace": _first(flags.grace, server.grace),
        "drain_delay": server.drain_delay,
        "log_level": _first(flags.log_level, log.level),
        "log_format": _first(flags.log_format, log.format, "console" if terminal else "json"),
    }
    limits = {name: value for name in _LIMITS if (value := getattr(server, name)) is not None}
    options = ServeOptions(
        config=flags.config,
        upstream=flags.upstream,
        engine=flags.engine,
        state=flags.state,
        verbose=flags.verbose,
        limits=limits,
        **{name: value for name, value in chosen.items() if value is not None},
    )
    if options.metrics_port == options.port:
        raise ConfigError(
            "--metrics-port",
            str(options.metrics_port),
            "is the API's port too",
            "Choose another one for one of them, or 0 for no metrics.",
        )
    return options


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _litellm_url(flags: Flags) -> str | None:
    if flags.litellm_url is None:
        return None
    if flags.litellm is False:
        raise ConfigError("--litellm-url", "", "contradicts --no-litellm", "Leave one of them away.")
    if not _ORIGIN.fullmatch(flags.litellm_url):
        # Not shown: it may hold a password.
        raise ConfigError(
            "--litellm-url",
            "",
            "is not the URL of a server",
            "Give it as http://127.0.0.1:4001, without a path.",
        )
    return flags.litellm_url.rstrip("/")


def _store(given: str | None, source: str) -> str | None:
    if given is None or given in {EMBEDDED, NO_STORE} or given.startswith(STORE_SCHEMES):
        return given
    # Not shown: a URL with a typing error may hold a password.
    raise ConfigError(
        source,
        "" if source == "--store" else "neev.store",
        "is neither 'embedded' nor 'none' nor a Redis URL",
        f"It begins with one of {', '.join(STORE_SCHEMES)}.",
    )
