"""One `neev-gateway serve` for the suite, with the real model and voice."""

from __future__ import annotations

import pytest

from tests.proxy.serving import serving


@pytest.fixture(scope="session")
def served(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("served")) as running:
        yield running
