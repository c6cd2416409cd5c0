"""The helpers that start an emulator inside a test suite."""

from __future__ import annotations

import threading
from urllib.request import Request, urlopen

import pytest

from neev_provider import Catalog
from neev_provider.catalog import Model
from neev_provider.emulator.app import create_app
from neev_provider.emulator.echo import EchoEngine
from neev_provider.emulator.testing import emulator_in_thread, running_emulator
from neev_provider.errors import ConfigError


def test_in_a_synchronous_test():
    with emulator_in_thread("echo") as emulator:
        with urlopen(Request(emulator.base_url + "/models", headers=emulator.headers)) as response:
            assert response.status == 200
        assert emulator.stats()["requests"] == {"GET /v1/models": {"200": 1}}
    with pytest.raises(OSError):
        urlopen(emulator.base_url + "/models")


async def test_in_an_asynchronous_test(call):
    async with running_emulator() as emulator:
        emulator.set_fault("status=503", model="kimi-k3", times=1)
        assert (await call.chat(emulator, model="kimi-k3")).status == 503
        assert (await call.chat(emulator, model="kimi-k3")).status == 200
        assert [request["status"] for request in emulator.requests()] == [503, 200]
        emulator.clear()
        assert emulator.requests() == []


async def test_with_a_catalog_of_one_s_own(call):
    catalog = Catalog([Model("mine", "me", 1, refused_fields=frozenset({"seed"}), context_window=5)])
    async with running_emulator(catalog=catalog) as emulator:
        listing = (await call.get(emulator, "/v1/models")).body["data"]
        assert listing == [{"id": "mine", "object": "model", "created": 1, "owned_by": "me"}]
        assert (await call.chat(emulator, model="mine")).status == 200
        refused = await call.chat(emulator, model="mine", seed=1)
        assert (refused.status, refused.body["error"]["param"]) == (400, "seed")
        assert (await call.chat(emulator, "1 2 3 4 5 6", model="mine")).status == 400


async def test_two_at_once_know_nothing_of_each_other(call):
    async with running_emulator() as one, running_emulator(quirks="live", fault="status=500") as other:
        assert (await call.chat(one)).status == 200
        assert (await call.chat(other)).status == 500
        assert one.stats()["requests"]["POST /v1/chat/completions"] == {"200": 1}


async def test_a_test_that_blocks_its_loop_does_not_block_the_emulator(emulator):
    request = Request(emulator.base_url + "/models", headers=emulator.headers)
    with urlopen(request, timeout=5) as response:  # noqa: ASYNC210 - blocking is the point
        assert response.status == 200


async def test_it_ends_with_open_streams_and_leaves_no_thread(call, session):
    before = set(threading.enumerate())
    async with running_emulator() as emulator:
        response = await session.post(
            emulator.base_url + "/chat/completions",
            headers={**emulator.headers, "x-neev-fault": "stall-after=1"},
            json=call.message(stream=True),
        )
        await response.content.readany()
    response.close()
    left = set(threading.enumerate()) - before
    assert not [thread for thread in left if thread.name.startswith("neev")]


def test_a_failing_block_still_ends_it_and_is_not_hidden():
    with pytest.raises(ZeroDivisionError), emulator_in_thread():
        raise ZeroDivisionError
    with emulator_in_thread() as one:
        port = int(one.root_url.rpartition(":")[2])
        with pytest.raises(ConfigError, match="is in use"), emulator_in_thread(port=port):
            pass


def test_an_unknown_engine_is_refused():
    with pytest.raises(ValueError, match="unknown engine 'x'"), emulator_in_thread("x"):
        pass


async def test_another_server_s_lifespan_starts_and_closes_the_engine():
    calls = []

    class Engine(EchoEngine):
        async def start(self):
            calls.append("start")

        async def close(self):
            calls.append("close")

    app = create_app(Engine(), catalog=Catalog.load())
    messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
    sent = []

    async def receive():
        return next(messages)

    async def send(message):
        sent.append(message["type"])

    await app({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert calls == ["start", "close"]
