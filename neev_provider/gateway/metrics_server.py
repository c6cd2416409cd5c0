"""The metrics port: everything that all processes count, in Prometheus' text format or OpenMetrics.

Scrapes are answered by threads of their own, so that they wait for nobody but the budgets, and for those less than a
second. Made by `serve.py`.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from prometheus_client import CollectorRegistry

from neev_provider.admission.rules import AdmissionSettings
from neev_provider.gateway.metrics_port import start_metrics_port
from neev_provider.gateway.process_metrics import ProcessMetrics
from neev_provider.metrics.budgets import Budgets
from neev_provider.metrics.exposition import SumsCollector
from neev_provider.metrics.receiver import Receiver
from neev_provider.metrics.sums import Caps, Sums
from neev_provider.store import Store

if TYPE_CHECKING:
    from threading import Thread
    from types import TracebackType
    from wsgiref.simple_server import WSGIServer

    from neev_provider.config_schema import MetricsOptions, NeevSettings
    from neev_provider.gateway.supervisor import Supervisor
    from neev_provider.metrics.families import Family

__all__ = ["MetricsServer", "socket_path"]

_BUDGET_SECONDS: Final = 0.8  # that a scrape waits for budgets at most


class MetricsServer:
    """What exposes metrics; an asynchronous context manager.

    Args:
        host: address to listen on.
        port: port to listen on.
        socket: where processes send what they count.
        neev: the configuration's section.
        supervisor: whose processes are shown.
    """

    def __init__(
        self, host: str, port: int, socket: Path, neev: NeevSettings, supervisor: Supervisor
    ) -> None:
        self._host: Final = host
        self._port: Final = port
        self._neev: Final = neev
        self._sums: Final = Sums(_caps(neev.metrics))
        self._receiver: Final = Receiver(socket, self._sums)
        self._processes: Final = ProcessMetrics(supervisor, self._receiver)
        self._budgets: Budgets | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opened: Final = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        registry = CollectorRegistry()
        registry.register(SumsCollector(self._sums, self._processes.values, self._budgets_now))
        async with AsyncExitStack() as opening:
            await opening.enter_async_context(self._receiver)
            server, thread = start_metrics_port(self._port, self._host, registry)
            opening.push_async_callback(self._close, server, thread)
            self._opened.push_async_exit(opening.pop_all())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._opened.aclose()

    async def _close(self, server: WSGIServer, thread: Thread) -> None:
        budgets, self._budgets = self._budgets, None
        await asyncio.to_thread(server.shutdown)  # not here: a scrape may be waiting for this loop
        server.server_close()
        thread.join()
        if budgets is not None:
            await budgets.close()

    def show_budgets(self, store_url: str) -> None:
        """Show the budgets of a store from now on.

        Raises:
            ConfigError: the URL cannot be read.
        """
        caps = self._neev.metrics
        self._budgets = Budgets(
            Store.from_url(store_url),
            AdmissionSettings.of(self._neev.admission),
            self._sums,
            most_owners=caps.max_keys + caps.max_teams,
        )

    def _budgets_now(self) -> dict[Family, dict[tuple[str, ...], float]]:
        """Return the budgets, read anew if that is quick; called by a scrape's thread."""
        budgets, loop = self._budgets, self._loop
        if budgets is None or loop is None:
            return {}
        reading = asyncio.run_coroutine_threadsafe(budgets.refresh(), loop)
        with contextlib.suppress(TimeoutError, concurrent.futures.CancelledError):
            reading.result(_BUDGET_SECONDS)
        return budgets.values()


def socket_path(options: MetricsOptions, state: Path, named: str | None) -> Path:
    """Return where processes send what they count.

    Args:
        options: the configuration's.
        state: the state directory.
        named: by the environment, or None.
    """
    given = options.socket or named
    return (state / "run" / "metrics.sock" if given is None else Path(given)).absolute()


def _caps(options: MetricsOptions) -> Caps:
    return Caps(
        key=options.max_keys,
        team=options.max_teams,
        model=options.max_models,
        deployment=options.max_deployments,
    )
