"""Processes killed, frozen and told to stop at random moments under load, and a store that forgets everything.

The moments are drawn with a seed, which is printed: `TEST_SEED=... TEST_SECONDS=...` repeats or prolongs a run.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest

from tests.faults.house import (
    CHAT,
    COMPLETION,
    PROMPT,
    Account,
    House,
    chat,
    command,
    config,
    prompt_estimate,
    running,
    visit,
)
from tests.proxy.serving import ROOT, descendants, exists, free_port

SEED = int(os.environ.get("TEST_SEED", "20261123"))
SECONDS = float(os.environ.get("TEST_SECONDS", "15"))
BOUND = 15.0  # seconds after which a request counts as hung; its work takes a fraction of one
UP_AGAIN = 40.0
ONE = 5 * PROMPT + 10 * COMPLETION  # nano-USD of each whole answer
CALLERS = 9
MESSAGES = "/v1/messages"


def process_of(house: House, words: bytes) -> int:
    (pid,) = [pid for pid in house.served.descendants() if words in command(pid)]
    return pid


def is_zombie(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return False


@dataclass
class Load:
    """Callers that ask again and again: for streams, for answers, and by LiteLLM if there is one."""

    house: House
    account: Account
    whole: int = 0
    failed: list[int] = field(default_factory=list)
    slowest: float = 0.0

    async def call(self, kind: str) -> bool:
        """Ask once; `kind` is stream, answer, or message: that is LiteLLM's."""
        stream = kind == "stream"
        began, body = time.monotonic(), chat("tokens=10,prompt-tokens=5,rate=50", stream=stream)
        status, is_whole = 0, False
        try:
            if stream:
                heard = await self.house.stream(self.account, body)
                status, is_whole = heard.status, heard.is_done
            else:
                status, _, _ = await self.house.ask(
                    self.account, body, MESSAGES if kind == "message" else CHAT
                )
                is_whole = status == 200
        except (aiohttp.ClientError, ConnectionError):
            pass  # the worker that had it was killed
        self.slowest = max(self.slowest, time.monotonic() - began)
        if is_whole:
            self.whole += 1
        else:
            self.failed.append(status)
        return is_whole

    async def call_until(self, enough: asyncio.Event, kind: str) -> None:
        while not enough.is_set():
            await self.call(kind)
            await asyncio.sleep(0.05)

    async def until_served(self, kind: str) -> None:
        async with asyncio.timeout(UP_AGAIN):
            in_a_row = 0
            while in_a_row < 10:
                in_a_row = in_a_row + 1 if await self.call(kind) else 0


async def freeze(pid: int, seconds: float) -> None:
    os.kill(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        os.kill(pid, signal.SIGCONT)


async def strike(house: House, chance: random.Random, *, litellm: bool) -> str:
    """Do one thing to one process, and say what."""
    victims = {
        "store": house.store_process,
        "emulator": lambda: process_of(house, b"emulator"),
        "worker": lambda: chance.choice(house.workers()),
        **({"LiteLLM": lambda: process_of(house, b"litellm_server")} if litellm else {}),
    }
    name = chance.choice(sorted(victims))
    blow = chance.choice(["kill", "freeze", "terminate"])
    try:
        pid = victims[name]()
        if blow == "freeze":
            await freeze(pid, chance.uniform(1, 3))
        else:
            os.kill(pid, signal.SIGKILL if blow == "kill" else signal.SIGTERM)
    except (ValueError, IndexError, ProcessLookupError):
        return f"{name} not there"  # it is being started again
    return f"{blow} {name}"


async def chaos(folder: Path, seconds: float, seed: int, *, litellm: bool = False) -> None:
    chance, blows = random.Random(seed), []
    print(f"TEST_SEED={seed} TEST_SECONDS={seconds}")
    kinds = ["stream", "answer", *["message"] * litellm]
    with running(folder, *["--litellm"] * litellm) as served:
        everyone = served.descendants()
        async with visit(served) as house:
            load = Load(house, await house.account())
            for kind in kinds:
                await load.until_served(kind)
            enough = asyncio.Event()
            callers = [
                asyncio.create_task(load.call_until(enough, kinds[n % len(kinds)])) for n in range(CALLERS)
            ]
            ends = time.monotonic() + seconds
            while time.monotonic() < ends:
                await asyncio.sleep(chance.uniform(0.2, 3))
                blows.append(await strike(house, chance, litellm=litellm))
                everyone |= served.descendants()
            enough.set()
            async with asyncio.timeout(BOUND * 2):
                await asyncio.gather(*callers)
            for kind in kinds:
                await load.until_served(kind)
        # The store may be another process now, with another address.
        async with visit(served) as house:
            books = await house.closed_books(load.account, UP_AGAIN)
            async with asyncio.timeout(UP_AGAIN):
                while len(house.workers()) < 2:
                    await asyncio.sleep(0.05)
            everyone |= served.descendants()
            assert not [pid for pid in served.descendants() if is_zombie(pid)]
            assert house.store_process()
            assert process_of(house, b"emulator")
        print(blows, load.whole, len(load.failed), books)
        assert load.slowest < BOUND
        assert {0, 200, 502, 503, 504} >= set(load.failed)
        # Who is killed takes with it what it had not written yet: those are charged their prompts.
        mute = {"kill worker", "kill LiteLLM"} & set(blows)
        # Every whole answer is charged once; of the others each at most once.
        assert load.whole <= books.requests <= load.whole + len(load.failed)
        if not mute:
            assert books.estimated <= len(load.failed)
        assert books.spend == books.prompt_tokens * PROMPT + books.completion_tokens * COMPLETION
        assert books.spend <= (load.whole + len(load.failed)) * ONE * 2
        assert books.spend >= (books.requests - books.estimated) * ONE
        if not mute:
            assert books.spend >= load.whole * ONE
        assert served.stop(signal.SIGTERM) == 0
    assert not [pid for pid in everyone if exists(pid)]


async def test_blows_at_random_moments_leave_no_trace(tmp_path):
    await chaos(tmp_path, SECONDS, SEED)


@pytest.mark.system
@pytest.mark.timeout(400)
@pytest.mark.parametrize("seed", [1, 2])
async def test_blows_at_random_moments_for_longer(tmp_path, seed):
    await chaos(tmp_path, 45, seed)


@pytest.mark.system
@pytest.mark.timeout(400)
async def test_blows_at_random_moments_with_litellm(tmp_path):
    await chaos(tmp_path, 60, SEED, litellm=True)


async def test_a_store_that_forgets_everything(tmp_path):
    """Keys are gone, so nobody is let in; what is running goes on, and new keys work at once."""
    with running(tmp_path) as served:
        async with visit(served) as house:
            account = await house.account()
            body = chat("tokens=60,rate=20", stream=True)
            streams = [asyncio.create_task(house.stream(account, body)) for _ in range(10)]
            await house.until_produced(lambda stats: stats["streams"]["open"] == 10)
            await house.store.call("x", "FLUSHALL")
            async with asyncio.timeout(BOUND):
                assert (await house.ask(account, chat()))[0] == 401
                heard = await asyncio.gather(*streams)
            assert [stream.is_done for stream in heard] == [True] * 10
            other = await house.account()
            assert {(await house.ask(other, chat()))[0] for _ in range(10)} == {200}
            books = await house.closed_books(other)
            assert (books.requests, books.spend) == (10, 10 * ONE)
            assert (await house.ask(account, chat()))[0] == 401
        assert served.stop(signal.SIGTERM) == 0


def start(folder: Path) -> subprocess.Popen:
    """Start `serve` without waiting for it."""
    own = config(folder, lease_seconds=5)
    words = ("--no-litellm", "--engine", "echo", "--workers", "2", "--port", str(free_port()))
    words += ("--metrics-port", "0", "--state", str(folder / "state"), "--config", str(own))
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("NEEV_", "LITELLM_"))}
    with (folder / "output").open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "neev_provider", "serve", *words],
            cwd=ROOT,
            env=clean,
            stdout=output,
            stderr=subprocess.STDOUT,
        )


class TestASignalStorm:
    @pytest.mark.parametrize("after", [0.0, 0.2, 0.5, 0.9, 1.4])
    async def test_while_it_starts_leaves_nothing(self, tmp_path, after):
        process = start(tmp_path)
        everyone: set[int] = set()
        await asyncio.sleep(after)  # the moment is the test's subject
        for _ in range(20):
            everyone |= descendants(process.pid)
            process.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.01)
        code = await asyncio.to_thread(process.wait, 40)
        said = (tmp_path / "output").read_text()
        # Python that has not read its program yet dies of the signal.
        assert code in {0, -signal.SIGTERM}, said
        assert "Traceback" not in said
        async with asyncio.timeout(20):
            while any(exists(pid) for pid in everyone):
                await asyncio.sleep(0.05)

    async def test_with_streams_ends_at_once_and_all_are_charged(self, tmp_path):
        """The second signal ends everything; who did not come to settle is charged when its lease expires."""
        chance = random.Random(SEED)
        with running(tmp_path, "--grace", "3") as served:
            async with visit(served) as house:
                account = await house.account()
                body = chat("tokens=100,rate=20,prompt-tokens=5", stream=True)
                streams = [asyncio.create_task(house.stream(account, body)) for _ in range(10)]
                await house.until_produced(lambda stats: stats["streams"]["open"] == 10)
                everyone = served.descendants()
                workers = house.workers()
                for _ in range(20):
                    for pid in (served.process.pid, *workers):
                        if exists(pid):
                            os.kill(pid, signal.SIGTERM)
                    await asyncio.sleep(chance.uniform(0, 0.02))
                heard = await asyncio.gather(*streams)
                assert await asyncio.to_thread(served.process.wait, 40) == 0
        assert not any(stream.is_done for stream in heard)
        assert not [pid for pid in everyone if exists(pid)]
        with running(tmp_path) as served:
            async with visit(served) as house:
                books = await house.closed_books(account)
        assert (books.requests, books.estimated) == (10, 10)
        assert books.prompt_tokens == 10 * prompt_estimate(body)
        assert books.spend == books.prompt_tokens * PROMPT + books.completion_tokens * COMPLETION
