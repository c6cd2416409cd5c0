"""Traces: where the time of one request went, for OpenTelemetry; off unless `neev.tracing.enabled` is set.

Nothing here is imported while it is off, and OpenTelemetry's packages are those of the extra `otel`.

spans.py      what is said of a request: a span of the server, of admission, of each call upstream
exporting.py  where spans go: OTLP over HTTP, in batches, by a thread of its own
"""
