"""Clients that leave: upstream is let go within a second, and nothing of ten thousand of them stays behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from pathlib import Path

import aiohttp
import pytest

from tests.gateway.conftest import own_config
from tests.proxy.serving import serving

STREAMS = 10_000
WARM_UP = 1_000  # until pools and allocators have their size
PARALLEL = 50
ALLOWED_GROWTH = 4_000_000  # bytes; one leaked stream of a kilobyte each would be ten million


def request(key: str, fault: str) -> bytes:
    message = {"role": "user", "content": f"x-neev-fault: {fault}\n" + "word " * 20}
    body = json.dumps({"model": "house", "stream": True, "messages": [message]}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n"
    return head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body


async def abort(port: int, sent: bytes, *, after: bytes) -> None:
    """Send a request and leave as soon as `after` has been received; at once if it is empty."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    await writer.drain()
    received = b""
    while after and after not in received:
        data = await reader.read(65536)
        assert data, received
        received += data
    writer.transport.abort()


async def abort_many(port: int, key: str, count: int) -> None:
    stages = [
        (request(key, "stall-after=1"), b"data: "),  # in the middle of the answer
        (request(key, "stall-after=0"), b"\r\n\r\n"),  # after the headers
        (request(key, "slow-first-byte=30"), b""),  # while upstream thinks
    ]
    limit = asyncio.Semaphore(PARALLEL)

    async def one(number: int) -> None:
        sent, after = stages[number % len(stages)]
        async with limit:
            await abort(port, sent, after=after)

    await asyncio.gather(*(one(number) for number in range(count)))


def worker_of(running) -> int:
    (pid,) = [
        pid
        for pid in running.descendants()
        if b"neev_provider.gateway.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    return pid


def sockets(pid: int) -> int:
    count = 0
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            count += "socket:" in str(file.readlink())
    return count


def memory(pid: int) -> int:
    """Bytes that are the process' own."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(rollup.split("Private_Dirty:")[1].split()[0]) * 1024


async def settled(running, pid: int, at_most: int) -> None:
    """Wait until the process has no more sockets than this."""
    deadline = time.monotonic() + 20
    while sockets(pid) > at_most:
        assert time.monotonic() < deadline, f"{sockets(pid)} sockets, {at_most} before"
        await asyncio.sleep(0.05)


@pytest.mark.timeout(240)
async def test_nothing_of_ten_thousand_stays_behind(tmp_path):
    words = ("--no-litellm", "--engine", "echo", "--log-level", "warning")
    with serving(tmp_path, *words, config=own_config(tmp_path)) as running:
        port = int(running.root_url.rpartition(":")[2])
        pid = worker_of(running)
        at_rest = sockets(pid)
        await abort_many(port, running.key, WARM_UP)
        await settled(running, pid, at_rest + 2)
        before = memory(pid)
        await abort_many(port, running.key, STREAMS)
        await settled(running, pid, at_rest + 2)
        grown = memory(pid) - before
        assert grown < ALLOWED_GROWTH, f"{grown:,} bytes"


@pytest.mark.parametrize(
    ("fault", "after"),
    [("stall-after=1", b"data: "), ("stall-after=0", b"\r\n\r\n"), ("slow-first-byte=30", b"")],
)
async def test_upstream_is_let_go(gateway, emulator_control, fault, after):
    port = int(gateway.root_url.rpartition(":")[2])
    sent = request(gateway.key, fault)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    received = b""
    while after and after not in received:
        received += await reader.read(65536)
    await _until_ending(emulator_control, lambda ending: ending == "open")
    writer.transport.abort()
    await _until_ending(emulator_control, lambda ending: ending != "open")


async def _until_ending(emulator_control, wanted) -> None:
    """Wait until upstream sees its last request as wanted; a stream that stalls would stay open for minutes."""
    async with asyncio.timeout(5):
        while True:
            async with emulator_control.get("/_emulator/requests") as response:
                requests = (await response.json())["requests"]
            if requests and wanted(requests[-1]["ending"]):
                return
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("kind", ["chat", "speech"])
async def test_a_gateway_that_lost_a_client_serves_the_next(gateway, kind):
    port = int(gateway.root_url.rpartition(":")[2])
    await abort(port, request(gateway.key, "stall-after=1"), after=b"data: ")
    async with aiohttp.ClientSession(gateway.root_url, headers=gateway.headers) as session:
        body = {"model": "tts-1", "voice": "alloy", "input": "x"}
        path = "/v1/audio/speech"
        if kind == "chat":
            body, path = (
                {"model": "house", "messages": [{"role": "user", "content": "x"}]},
                "/v1/chat/completions",
            )
        async with session.post(path, json=body) as response:
            assert response.status == 200
