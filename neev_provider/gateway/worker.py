"""One gateway process: `python -m neev_provider.gateway.worker`, started by `serve.py`.

Makes the services, binds the port beside other workers (SO_REUSEPORT) and serves until SIGTERM; then it stops
accepting, lets running answers finish for the grace period, and ends with exit code 0. A second signal ends it at
once.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import socket
import sys
from typing import TYPE_CHECKING, Any, Final

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
from neev_provider.gateway.services import Services
from neev_provider.retry import NO_RETRIES
from neev_provider.routing import Router
from neev_provider.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType

__all__ = ["main"]

_BACKLOG: Final = 2048
_KEEP_ALIVE_SECONDS: Final = 75  # longer than a load balancer's 60, so that it closes first


class _Server(uvicorn.Server):
    """uvicorn, with a second signal of any kind ending it at once."""

    @override
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True


async def _serve(words: argparse.Namespace, environ: Mapping[str, str]) -> None:
    config = load_config(words.config, environ)
    async with Upstream(retry=NO_RETRIES) as upstream:
        live = LiveCatalog(config.catalog, lambda: upstream.models(_account(environ)))
        services = Services(
            router=Router(config, environ),
            upstream=upstream,
            access=StaticKeys({environ["LITELLM_MASTER_KEY"]: Principal("master")}),
            catalog=lambda: live.current,
        )
        refreshing = asyncio.create_task(live.run())
        try:
            await _run_server(services, words)
        finally:
            refreshing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await refreshing


async def _run_server(services: Services, words: argparse.Namespace) -> None:
    server: _Server

    def is_ready() -> bool:
        return not server.should_exit

    options: dict[str, Any] = {
        "loop": "none",  # this one
        "http": "httptools",
        "ws": "none",
        "lifespan": "off",
        "access_log": False,
        "log_config": None,
        "server_header": False,
        "backlog": _BACKLOG,
        "timeout_keep_alive": _KEEP_ALIVE_SECONDS,
        "timeout_graceful_shutdown": words.grace,
    }
    server = _Server(uvicorn.Config(Gateway(services, is_ready), **options))
    with _listening(words.host, words.port) as listener:
        await server.serve(sockets=[listener])


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
    parser = argparse.ArgumentParser(prog="neev_provider.gateway.worker")
    parser.add_argument("--config", required=True)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", required=True, type=int)
    parser.add_argument("--grace", required=True, type=int, help="seconds")
    parser.add_argument("--log-level", default="info")
    words = parser.parse_args()
    logging.basicConfig(level=words.log_level.upper(), format="%(message)s", stream=sys.stderr)
    try:
        uvloop.run(_serve(words, os.environ))
    except ConfigError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
