"""A real Valkey for the suite, emptied for each test, and what stands on it."""

from __future__ import annotations

import pytest

from neev_provider.admission.keys import Keys
from neev_provider.admission.rules import AdmissionSettings, Clock
from neev_provider.admission.virtual import VirtualKeys
from neev_provider.store import Store
from neev_provider.store.node import Timing
from tests.store.servers import server

# Tests of keys and budgets are not about time: a busy machine must not fail them.
PATIENT = Timing(call=10.0)
NOON = 1_780_000_000_000  # 2026-05-28 20:26:40 UTC, in milliseconds


@pytest.fixture(scope="session")
def _valkey_of_session(tmp_path_factory):
    running = server(tmp_path_factory.mktemp("valkey"))
    yield running
    running.stop()


@pytest.fixture
def valkey(_valkey_of_session):
    """An empty Valkey."""
    _valkey_of_session.client().flushall()
    return _valkey_of_session


@pytest.fixture
async def store(valkey):
    async with Store.from_url(valkey.url, timing=PATIENT) as opened:
        yield opened


@pytest.fixture
def clock():
    """The scripts' clock, which stands until a test moves it."""
    return Clock(NOON)


@pytest.fixture
def keys(store, clock):
    return Keys(store, clock=clock)


@pytest.fixture
async def access(store, clock):
    opened = VirtualKeys(store, AdmissionSettings(clock=clock))
    yield opened
    await opened.close()
