"""One gateway process: `python -m neev_provider.gateway.worker`, started by `serve.py`.

Makes the services, binds the port beside other workers (SO_REUSEPORT) and serves until SIGTERM; then it stops
accepting, lets running answers finish for the grace period, and ends with exit code 0. A second signal ends it at
once.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import uvloop

from neev_provider import settings
from neev_provider.catalog import LiveCatalog
from neev_provider.config import load_config
from neev_provider.deployment import Deployment
from neev_provider.errors import ConfigError
from neev_provider.gateway.access import open_access
from neev_provider.gateway.app import Gateway
from neev_provider.gateway.environment import MASTER_KEY_VARIABLE
from neev_provider.gateway.exchange import Limits
from neev_provider.gateway.logs import set_up_logging
from neev_provider.gateway.options import WorkerOptions
from neev_provider.gateway.request_metrics import RequestMetrics
from neev_provider.gateway.server import Readiness, ServerOptions, listen, serve
from neev_provider.gateway.services import Services
from neev_provider.loops import run_to_the_end
from neev_provider.metrics import families, reporting
from neev_provider.metrics.names import PublicNames
from neev_provider.retry import NO_RETRIES
from neev_provider.routing import Router
from neev_provider.upstream import Upstream

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

    from neev_provider.config_schema import TracingOptions
    from neev_provider.gateway.logs import AccessLog
    from neev_provider.metrics import Recorder
    from neev_provider.tracing.spans import Tracing

__all__ = ["main"]

# Objects more than there were, then collections of the younger generation, before one is collected.
_GC_THRESHOLDS: Final = (20_000, 10, 10)


async def _serve(options: WorkerOptions, environ: Mapping[str, str], access_log: AccessLog | None) -> None:
    config = load_config(options.config, environ)
    limits = _limits(options.limits)
    async with AsyncExitStack() as stack:
        if access_log is not None:
            stack.callback(access_log.flush)
        recorder = await stack.enter_async_context(
            reporting(settings.metrics_socket(environ), f"gateway-{options.number}")
        )
        upstream = await stack.enter_async_context(Upstream(retry=NO_RETRIES))
        live = LiveCatalog(config.catalog, lambda: upstream.models(_account(environ)))
        stack.push_async_callback(_cancelled, asyncio.create_task(live.run()))
        litellm = None
        charges = _litellm_charges(config.document)
        if options.litellm_url is not None:
            # Its client is a sixth of a worker's memory, and of the time until it serves.
            from neev_provider.gateway.litellm_path import DEFAULT_ROUTES, LiteLLMPath  # noqa: PLC0415

            litellm = LiteLLMPath(
                options.litellm_url,
                routes=options.litellm_routes or DEFAULT_ROUTES,
                limits=limits,
                forward_key=None if charges else environ[MASTER_KEY_VARIABLE],
            )
            stack.push_async_callback(litellm.close)
            stack.push_async_callback(_cancelled, asyncio.create_task(litellm.run()))
        opened = await open_access(config, environ, stack, recorder)
        router = Router(config, environ, catalog=lambda: live.current)
        services = Services(
            router=router,
            upstream=upstream,
            access=opened.access,
            catalog=lambda: live.current,
            limits=limits,
            litellm=litellm,
            litellm_charges=charges,
            fast_path=config.neev.fast_path or litellm is None,
            access_log=access_log,
            keys=opened.keys,
            store=opened.store,
            metrics=None if recorder is None else _metrics(recorder, router, live),
            tracing=await _open_tracing(config.neev.tracing, options, stack),
        )
        await _run_server(services, options)


async def _open_tracing(
    tracing: TracingOptions, options: WorkerOptions, stack: AsyncExitStack
) -> Tracing | None:
    """Return what traces requests, if they are to be.

    Raises:
        ConfigError: the packages for it are missing.
    """
    if not tracing.enabled:
        return None
    try:
        from neev_provider.tracing.exporting import open_tracing  # noqa: PLC0415 - not paid for when off
    except ImportError:
        raise ConfigError(
            options.config,
            "neev.tracing.enabled",
            "needs OpenTelemetry's packages",
            "Install neev-provider[otel], or set it to false.",
        ) from None
    return await stack.enter_async_context(open_tracing(tracing, f"gateway-{options.number}"))


def _metrics(recorder: Recorder, router: Router, live: LiveCatalog) -> RequestMetrics:
    started = time.monotonic()

    def catalog_age() -> float:
        # Whole seconds: what is not changed is not sent. What was never read is as old as this process at least.
        age = live.age_seconds
        return float(int(time.monotonic() - started if age is None else age))

    recorder.watch(families.CATALOG_AGE, (), catalog_age)
    recorder.watch(families.CATALOG_MODELS, (), lambda: len(live.current))
    # Wildcards fill in what the catalog knows.
    metrics = RequestMetrics(recorder, PublicNames(router.public_names, lambda: live.current))
    metrics.announce(router)
    return metrics


def _litellm_charges(document: Mapping[str, Any]) -> bool:
    """Tell whether a configuration has LiteLLM ask us who may call, and what it did cost."""
    general = document.get("general_settings") or {}
    callbacks = (document.get("litellm_settings") or {}).get("callbacks") or ()
    return general.get("custom_auth") == "neev_provider.custom_auth" and "neev_provider.accounts" in callbacks


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
    _collect_less()
    readiness = Readiness()
    app = Gateway(services, readiness.is_ready)
    with _listener(options) as listener:
        await serve(
            app,
            listener,
            _server_options(options),
            readiness=readiness,
            on_refused=None if services.metrics is None else services.metrics.refused,
            on_ready=lambda: _tell_ready(options.ready_file),
        )


def _collect_less() -> None:
    """Look for circles of objects less often, and never again in what is there from the start.

    A request leaves none behind: its objects go as they are left. By Python's defaults the search for them took 6 %
    of a busy worker's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)


def _listener(options: WorkerOptions) -> socket.socket:
    """Return the socket to serve on.

    Raises:
        ConfigError: the address cannot be had; somebody took it since `serve` looked.
    """
    try:
        return listen(options.host, options.port)
    except OSError as error:
        raise ConfigError(
            "--port",
            f"{options.host}:{options.port}",
            f"cannot be listened on ({error.strerror or error})",
            "Choose another with --port.",
        ) from None


def _server_options(options: WorkerOptions) -> ServerOptions:
    """Return the server's limits; what the configuration does not say is as by default."""
    given = options.limits
    defaults = ServerOptions()
    return ServerOptions(
        header_bytes=int(given.get("max_header_bytes", defaults.header_bytes)),
        header_seconds=given.get("header_seconds", defaults.header_seconds),
        write_seconds=given.get("write_seconds", defaults.write_seconds),
        max_connections=int(given.get("max_connections", defaults.max_connections)),
        drain_delay=options.drain_delay,
        grace=options.grace,
    )


def _tell_ready(file: str) -> None:
    Path(file).touch()


def _account(environ: Mapping[str, str]) -> Deployment:
    """Return the upstream whose model list the catalog follows."""
    return Deployment("catalog", settings.base_url(environ), settings.api_key(environ) or "none")


def main() -> None:
    """Serve; a wrong setting is one line on stderr and exit code 2."""
    options = msgspec.json.decode(sys.argv[1], type=WorkerOptions)
    ledger = None if options.ledger_file is None else Path(options.ledger_file)
    access_log = set_up_logging(options.log_level, as_json=options.log_format == "json", ledger=ledger)
    try:
        uvloop.run(run_to_the_end(_serve(options, os.environ, access_log)))
    except ConfigError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
