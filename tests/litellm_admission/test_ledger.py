"""What LiteLLM served while the store went away is kept in a file when the process ends, and can be replayed."""

from __future__ import annotations

import asyncio
import contextlib

import aiohttp

from neev_provider.admission.keys import Keys
from neev_provider.admission.settling import replay
from neev_provider.emulator.testing import emulator_in_thread
from neev_provider.store import Store
from neev_provider.store.node import Timing
from tests.litellm_admission.conftest import started
from tests.litellm_admission.test_admission import COST, call, chat, settled
from tests.store.servers import server


async def test_a_charge_that_the_store_does_not_take_is_replayed_once(tmp_path):
    valkey = server(tmp_path / "store", "--appendonly", "yes", "--appendfsync", "always")
    ledger = tmp_path / "ledger.jsonl"
    with emulator_in_thread() as emulator, contextlib.ExitStack() as stack:
        stack.callback(valkey.stop)
        environ = {"NEEV_LEDGER": str(ledger)}
        running = contextlib.contextmanager(started)(tmp_path / "litellm", emulator, valkey.url, environ)
        (tmp_path / "litellm").mkdir()
        with running as litellm:
            async with Store.from_url(valkey.url, timing=Timing(call=5.0)) as store:
                made = await Keys(store).create_key({"max_budget": 1}, by="test")
            async with aiohttp.ClientSession(litellm.root_url) as http:
                body = chat(echo="tokens=10,prompt-tokens=5,rate=5", stream=True)  # two seconds
                slow = asyncio.create_task(call(http, made.token, body))
                while not emulator.stats()["streams"]["open"]:
                    await asyncio.sleep(0.02)
                valkey.stop()
                assert (await slow)[0] == 200
        (line,) = ledger.read_text().splitlines()
        assert made.token not in line
        valkey.start()
        async with Store.from_url(valkey.url, timing=Timing(call=5.0)) as store:
            assert [await replay(store, line), await replay(store, line)] == [COST, None]
            info = await settled(Keys(store), made.key.id, COST)
            assert info.spend_nanos == COST
