"""Metrics of the processes that `serve` keeps running, on a port of their own. Called by `serve.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from typing_extensions import override

from neev_provider import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client.core import Metric

    from neev_provider.gateway.supervisor import Supervisor

__all__ = ["serve_metrics"]


class _Processes(Collector):
    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    @override
    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("neev_process_up", "Whether a process serves.", labels=["process"])
        for name, serves in list(self._supervisor.up.items()):
            up.add_metric([name], float(serves))
        yield up
        restarts = CounterMetricFamily(
            "neev_process_restarts",
            "How often a process that had ended was started anew.",
            labels=["process"],
        )
        for name in list(self._supervisor.up):
            restarts.add_metric([name], self._supervisor.restarts.get(name, 0))
        yield restarts
        build = GaugeMetricFamily("neev_build_info", "The version that runs; always 1.", labels=["version"])
        build.add_metric([__version__], 1)
        yield build


def serve_metrics(host: str, port: int, supervisor: Supervisor) -> Callable[[], None]:
    """Serve Prometheus' format from a thread; return what ends it."""
    registry = CollectorRegistry()
    registry.register(_Processes(supervisor))
    server, thread = start_http_server(port, host, registry)

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return stop
