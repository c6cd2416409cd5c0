"""One `neev-gateway serve` for the suite, with the real model and voice."""

from __future__ import annotations

import pytest

from tests.proxy.serving import serving


@pytest.fixture(scope="session")
def served(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("served")) as running:
        yield running


@pytest.fixture(scope="session")
def echoing(tmp_path_factory):
    """The same with the echo engine, which plays faults."""
    with serving(tmp_path_factory.mktemp("echoing"), "--engine", "echo") as running:
        yield running


def pytest_collection_modifyitems(items):
    # One process has the servers; started in each, they would cost half a minute and a gigabyte more.
    for item in items:
        if "tests/proxy/" in item.nodeid:
            item.add_marker(pytest.mark.xdist_group("proxy"))
