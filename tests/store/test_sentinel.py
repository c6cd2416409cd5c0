"""The primary that Sentinels name, and the next one after a failover; real Sentinels of the embedded Valkey."""

from __future__ import annotations

import asyncio
import subprocess

import pytest
import redis

from neev_provider.errors import ServerError
from neev_provider.store import Store
from neev_provider.store.node import Timing
from tests.store.servers import binary, free_port, server


@pytest.fixture
def served(tmp_path):
    """A primary, its replica, and a Sentinel that watches them."""
    primary = server(tmp_path / "primary")
    replica = server(tmp_path / "replica", "--replicaof", f"127.0.0.1 {primary.port}")
    port = free_port()
    (tmp_path / "sentinel.conf").write_text(
        f"port {port}\ndir {tmp_path}\nsentinel monitor main 127.0.0.1 {primary.port} 1\n"
        "sentinel down-after-milliseconds main 300\nsentinel failover-timeout main 2000\n"
    )
    with (tmp_path / "log").open("wb") as log:
        sentinel = subprocess.Popen(
            [binary(), tmp_path / "sentinel.conf", "--sentinel"], stdout=log, stderr=log
        )
    yield port, primary, replica
    sentinel.terminate()
    sentinel.wait(10)
    replica.stop()
    primary.stop()


async def test_calls_go_to_the_primary_and_to_the_next_after_a_failover(served):
    port, primary, replica = served
    url = f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{port}/main"
    async with Store.from_url(url, timing=Timing(call=1.0, probe=0.2)) as store:

        async def write(value):
            while True:
                try:
                    return await store.call("x", "SET", "x", value)
                except ServerError:
                    await asyncio.sleep(0.05)

        await write("before")
        assert primary.client().get("x") == b"before"
        with redis.Redis(port=port) as sentinel:
            while not sentinel.sentinel_slaves("main") or not replica.client().get("x"):
                await asyncio.sleep(0.05)
        primary.freeze()
        await write("after")
        assert replica.client().get("x") == b"after"
