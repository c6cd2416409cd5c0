"""The gateway's HTTP server under a small application, in a process of its own, as `worker.py` runs it."""

from __future__ import annotations

import pytest

from tests.server.wire import small


@pytest.fixture(scope="session")
def server():
    """With the limits as they are by default."""
    with small() as running:
        yield running


@pytest.fixture(scope="session")
def hasty():
    """With short time limits."""
    with small(header_seconds=0.4, keep_alive_seconds=0.4, write_seconds=0.4) as running:
        yield running


def pytest_collection_modifyitems(items):
    for item in items:
        if "tests/server/" in item.nodeid:
            item.add_marker(pytest.mark.xdist_group("server"))
