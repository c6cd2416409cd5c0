"""The store's machine sets its clock, an hour on or back, under a running gateway with streams open.

The store is a real Valkey whose calls for the time go through libfaketime; gateway and emulator keep the real time.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time

import pytest

from tests.faults.house import COMPLETION, PATIENCE, PROMPT, chat, running, visit
from tests.store.servers import server

pytestmark = [pytest.mark.system, pytest.mark.timeout(200)]

LIMIT = 20
WINDOW = 61.0  # seconds
ONE = 5 * PROMPT + 10 * COMPLETION
LONG = 5 * PROMPT + 60 * COMPLETION


@pytest.fixture
def clock(tmp_path, monkeypatch):
    """A file that says how far the store's clock is off."""
    (library,) = subprocess.run(
        ["sh", "-c", "ls /usr/lib/*/faketime/libfaketime.so.1"], capture_output=True, text=True, check=True
    ).stdout.split()
    file = tmp_path / "clock"
    file.write_text("+0")
    with monkeypatch.context() as patch:
        for name, value in {
            "LD_PRELOAD": library,
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }.items():
            patch.setenv(name, value)
        store = server(tmp_path / "store")
    yield file, store
    # A signal that is handled while libfaketime holds its lock, as to log the end with the time, waits for ever.
    store.stop(signal.SIGKILL)


@pytest.mark.parametrize("jump", [3600, -3600], ids=["an hour on", "an hour back"])
async def test_books_stay_exact_and_no_limit_is_closed_for_longer_than_a_window(clock, tmp_path, jump):
    file, store = clock
    with running(tmp_path, "--store", store.url) as served:
        async with visit(served, store.url) as house:
            account = await house.account(rpm_limit=LIMIT)
            body = chat("tokens=60,rate=20,prompt-tokens=5", stream=True)
            streams = [asyncio.create_task(house.stream(account, body)) for _ in range(5)]
            await house.until_produced(lambda stats: stats["streams"]["open"] == 5)
            file.write_text(f"{jump:+d}")
            now = (await house.store.call("x", "TIME"))[0]
            assert abs(int(now) - time.time() - jump) < 5  # it is the store's clock that jumps
            answers = [await house.ask(account, chat()) for _ in range(LIMIT)]
            heard = await asyncio.gather(*streams)
            assert all(stream.is_done for stream in heard)
            let_in = [status for status, _, _ in answers].count(200)
            # On: the hour that the store has seen go by has emptied the window. Back: it is the same window.
            assert let_in == (LIMIT if jump > 0 else LIMIT - 5)
            # Leases that seem to have expired are charged their prompts, until their streams are settled after all.
            async with asyncio.timeout(PATIENCE):
                while (books := await house.books(account)).requests < 5 + let_in or books.estimated:
                    await asyncio.sleep(0.05)
            books = await house.closed_books(account)
            assert (books.requests, books.estimated) == (5 + let_in, 0)
            assert books.spend == 5 * LONG + let_in * ONE
            status, headers, _ = await house.ask(account, chat())
            assert status == 429
            assert 0 < float(headers["Retry-After"]) <= WINDOW
            file.write_text(f"{jump + int(headers['Retry-After']) + 1:+d}")
            assert (await house.ask(account, chat()))[0] == 200
