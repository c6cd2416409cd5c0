"""One gateway process: `python -m neev_provider.gateway.worker`, started by `serve.py`.

Makes the services, binds the port beside other workers (SO_REUSEPORT) and serves until SIGTERM; then it stops
accepting, lets running answers finish for the grace period, and ends with exit code 0. A second signal ends it at
once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import uvicorn
import uvloop
from typing_extensions import override

from neev_provider import settings
from neev_provider.admission import Principal
from neev_provider.admission.static import StaticKeys
from neev_provider.catalog import LiveCatalog
from neev_provider.config import load_config
from neev_provider.deployment import Deployment
from neev_provider.errors import ConfigError
from neev_provider.gateway.app import Gateway
from neev_provider.gateway.environment import MASTER_KEY_VARIABLE
from neev_provider.gateway.exchange import Limits
from neev_provider.gateway.litellm_path import DEFAULT_ROUTES, LiteLLMPath
from neev_provider.gateway.logs import set_up_logging
from neev_provider.gateway.options import WorkerOptions
from neev_provider.gateway.services import Services
from neev_provider.retry import NO_RETRIES
from neev_provider.routing import Router
from neev_provider.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType

    from neev_provider.gateway.logs import AccessLog

__all__ = ["main"]

_BACKLOG: Final = 2048
_KEEP_ALIVE_SECONDS: Final = 75  # longer than a load balancer's 60, so that it closes first


class _Server(uvicorn.Server):
    """uvicorn, with a second signal of any kind ending it at once."""

    @override
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True


async def _serve(options: WorkerOptions, environ: Mapping[str, str], access_log: AccessLog | None) -> None:
    config = load_config(options.config, environ)
    keys = {token: Principal(alias, alias=alias) for token, alias in config.keys.items()}
    keys[environ[MASTER_KEY_VARIABLE]] = Principal("master")
    limits = _limits(options.limits)
    async with AsyncExitStack() as stack:
        if access_log is not None:
            stack.callback(access_log.flush)
        upstream = await stack.enter_async_context(Upstream(retry=NO_RETRIES))
        live = LiveCatalog(config.catalog, lambda: upstream.models(_account(environ)))
        stack.push_async_callback(_cancelled, asyncio.create_task(live.run()))
        litellm = None
        if options.litellm_url is not None:
            litellm = LiteLLMPath(
                options.litellm_url,
                routes=options.litellm_routes or DEFAULT_ROUTES,
                limits=limits,
                forward_key=environ[MASTER_KEY_VARIABLE],
            )
            stack.push_async_callback(litellm.close)
            stack.push_async_callback(_cancelled, asyncio.create_task(litellm.run()))
        services = Services(
            router=Router(config, environ, catalog=lambda: live.current),
            upstream=upstream,
            access=StaticKeys(keys),
            catalog=lambda: live.current,
            limits=limits,
            litellm=litellm,
            fast_path=config.neev.fast_path or litellm is None,
            access_log=access_log,
        )
        await _run_server(services, options)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _limits(given: Mapping[str, float]) -> Limits:
    """Return what a request's body may take up."""
    limits = Limits()
    limits.body_bytes = int(given.get("max_body_bytes", limits.body_bytes))
    limits.body_seconds = given.get("body_seconds", limits.body_seconds)
    return limits


async def _run_server(services: Services, options: WorkerOptions) -> None:
    server: _Server

    def is_ready() -> bool:
        return not server.should_exit

    settings_: dict[str, Any] = {
        "loop": "none",  # this one
        "http": "httptools",
        "ws": "none",
        "lifespan": "off",
        "access_log": False,
        "log_config": None,
        "server_header": False,
        "backlog": _BACKLOG,
        "timeout_keep_alive": _KEEP_ALIVE_SECONDS,
        "timeout_graceful_shutdown": options.grace,
    }
    server = _Server(uvicorn.Config(Gateway(services, is_ready), **settings_))
    with _listening(options.host, options.port) as listener:
        _tell_ready(options.ready_file)
        await server.serve(sockets=[listener])


def _tell_ready(file: str) -> None:
    Path(file).touch()


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named so that accepted sockets have it too: asyncio switches Nagle off for TCP only.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind((host, port))
    listener.listen(_BACKLOG)
    return listener


def _account(environ: Mapping[str, str]) -> Deployment:
    """Return the upstream whose model list the catalog follows."""
    return Deployment("catalog", settings.base_url(environ), settings.api_key(environ) or "none")


def main() -> None:
    """Serve; a wrong setting is one line on stderr and exit code 2."""
    options = msgspec.json.decode(sys.argv[1], type=WorkerOptions)
    access_log = set_up_logging(options.log_level, as_json=options.log_format == "json")
    try:
        uvloop.run(_serve(options, os.environ, access_log))
    except ConfigError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
