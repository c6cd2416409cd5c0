"""Where spans go: OTLP over HTTP, in batches, by a thread of its own; never waited for by a request.

A collector that is away costs spans, not requests: the queue is bounded, what does not fit is dropped and said so in
the log. Beside `neev.tracing` OpenTelemetry's own variables count (`OTEL_EXPORTER_OTLP_HEADERS`,
`OTEL_RESOURCE_ATTRIBUTES`, `OTEL_SERVICE_NAME`, ...). Called by a gateway process when it starts.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.semconv._incubating.attributes import service_attributes as service

from neev_provider import __version__
from neev_provider.tracing.spans import Tracing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from neev_provider.config_schema import TracingOptions

__all__ = ["open_tracing"]

_NAME: Final = "neev-gateway"
_EXPORT_SECONDS: Final = 5.0
_CLOSE_SECONDS: Final = 3.0  # whoever stops a process waits for its answers, not for its traces
_PATH: Final = "/v1/traces"


@asynccontextmanager
async def open_tracing(options: TracingOptions, process: str) -> AsyncIterator[Tracing]:
    """Trace the requests of this process until the block is left; then send what waits.

    Args:
        options: of the configuration.
        process: its name, as in the metrics.
    """
    endpoint = None if options.endpoint is None else options.endpoint.rstrip("/") + _PATH
    exporter = OTLPSpanExporter(endpoint, timeout=_EXPORT_SECONDS)
    ours = Resource(
        {
            service.SERVICE_NAME: _NAME,
            service.SERVICE_VERSION: __version__,
            service.SERVICE_INSTANCE_ID: process,
        }
    )
    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(options.sample_ratio)),
        resource=ours.merge(OTELResourceDetector().detect()),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(BatchSpanProcessor(exporter))
    try:
        yield Tracing(provider.get_tracer("neev_provider", __version__))
    finally:
        await _closed(provider)


async def _closed(provider: TracerProvider) -> None:
    """Send what waits; a collector that does not answer is not waited for."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()

    def close() -> None:
        provider.shutdown()
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(done.set)

    # A daemon, so that the process ends although it waits; the executor's threads are joined.
    threading.Thread(target=close, name="close-traces", daemon=True).start()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_CLOSE_SECONDS):
            await done.wait()
