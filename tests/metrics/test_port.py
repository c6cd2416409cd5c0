"""The metrics port over HTTP: the metrics at `/metrics`, a hint at `/`, nothing elsewhere, no versions."""

from __future__ import annotations

import http.client
import sys

import pytest
from prometheus_client import CollectorRegistry

from neev_provider.gateway.metrics_port import start_metrics_port
from neev_provider.metrics.exposition import SumsCollector


@pytest.fixture
def ask(sums):
    registry = CollectorRegistry()
    registry.register(SumsCollector(sums))
    server, thread = start_metrics_port(0, "127.0.0.1", registry)

    def run(method: str, path: str, **headers: str):
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=5)
        try:
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read().decode()
        finally:
            connection.close()

    yield run
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_metrics_are_at_their_path(ask):
    for path in ("/metrics", "/metrics?name[]=x"):
        status, headers, _ = ask("GET", path)
        assert status == 200
        assert headers["Content-Type"].startswith("text/plain; version=")
    assert "# HELP neev_" in ask("GET", "/metrics")[2]
    assert "# EOF" in ask("GET", "/metrics", Accept="application/openmetrics-text; version=1.0.0")[2]


def test_a_hint_is_at_the_root(ask):
    assert ask("GET", "/")[::2] == (200, "The metrics are at /metrics.\n")


@pytest.mark.parametrize("path", ["/metric", "/metrics/", "/v1/models", "/favicon.ico", "/%6detrics/x"])
def test_nothing_is_elsewhere(ask, path):
    status, _, text = ask("GET", path)
    assert (status, "# HELP" in text) == (404, False)


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/metrics"), ("GET", "/"), ("GET", "/x"), ("POST", "/metrics"), ("GET", "/" + "x" * 70_000)],
)
def test_no_version_is_told(ask, method, path):
    _, headers, text = ask(method, path)
    assert headers["Server"] == "neev-gateway"
    assert sys.version.split()[0] not in str(headers) + text
