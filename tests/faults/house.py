"""A running gateway with everything that keeps its books: its store, the emulator's own count, clients that leave.

A house is `neev-gateway serve` with two workers. `House.books` reads what a key and its team were charged, held and
counted, and the day's rollup; `House.produced` what the emulator produced meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp

from neev_provider.admission.keys import Keys
from neev_provider.admission.spend import read_spend
from neev_provider.admission.tokens import tag_of
from neev_provider.contract import parse_chat
from neev_provider.store import Store
from neev_provider.store.node import Timing
from neev_provider.usage import estimate_tokens
from tests.proxy.serving import ROOT, Served, serving

CHAT = "/v1/chat/completions"
SPEECH = "/v1/audio/speech"
NANOS = 10**9
PROMPT, COMPLETION = 100, 500  # nano-USD per token of gpt-oss-120b, the catalog's price
CHARACTER = 15_000  # nano-USD per character of tts-1
PATIENCE = 20.0  # seconds within which what must happen happens, on a busy machine too
PATIENT = Timing(call=10.0)

MODELS = """
  - model_name: house            # never tried again: what goes wrong is seen
    litellm_params: {model: neev/gpt-oss-120b, num_retries: 0}
  - model_name: hasty            # gives up soon
    litellm_params: {model: neev/gpt-oss-120b, num_retries: 0, timeout: 1, stream_timeout: 1}
  - model_name: stubborn
    litellm_params: {model: neev/gpt-oss-120b, num_retries: 2}
  - model_name: caching
    litellm_params: {model: neev/gpt-oss-120b, num_retries: 0}
    model_info: {input_cost_per_token: 1.0e-7, output_cost_per_token: 5.0e-7, cache_read_input_token_cost: 3.0e-8}

litellm_settings:
"""
TTS = "\n  models: [{id: tts-1, modality: speech, voices: any, price: {characters: 15.0}}]\n"
SETTINGS = "disable_cooldowns: true  # the tests make every fault\n  # fallbacks:"


def config(folder: Path, **admission: object) -> Path:
    """Write a configuration with the models of these tests and settings of `neev.admission`."""
    text = (ROOT / "proxy_config.yaml").read_text()
    for found, put in (
        ("\nlitellm_settings:\n", MODELS),
        ("# fallbacks:", SETTINGS),
        ("\n  num_retries: 2\n", "\n  num_retries: 0\n"),
        ("\n  models: []\n", TTS),
        ("\n  admission:\n", "\n  admission:\n" + "".join(f"    {k}: {v}\n" for k, v in admission.items())),
    ):
        assert text.count(found) >= 1
        text = text.replace(found, put, 1)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "proxy_config.yaml"
    file.write_text(text)
    return file


@dataclass(frozen=True)
class Account:
    """A key of a team of its own."""

    token: str
    key: str
    team: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


@dataclass(frozen=True)
class Books:
    """All that is on record of a key and its team; nano-USD."""

    spend: int
    held: int
    in_flight: int
    team: tuple[int, int, int]
    requests: int
    estimated: int
    cost: int
    prompt_tokens: int
    completion_tokens: int
    characters: int

    @property
    def agree(self) -> bool:
        """Whether the key's ledger, its team's and the day's rollup are one."""
        return self.team == (self.spend, self.held, self.in_flight) and self.cost == self.spend


@dataclass
class House:
    served: Served
    store: Store
    keys: Keys
    emulator: aiohttp.ClientSession

    async def account(self, **attributes: object) -> Account:
        """Return a key of a team, with budgets that cover a test unless `attributes` say otherwise."""
        budget = {"max_budget": attributes.get("max_budget", 100)}
        team = await self.keys.create_team(budget if budget["max_budget"] else {}, by="test")
        given = {name: value for name, value in {**budget, **attributes}.items() if value is not None}
        made = await self.keys.create_key(given, team=team.id, by="test")
        return Account(made.token, made.key.id, team.id)

    async def books(self, account: Account) -> Books:
        key, team = await self.keys.key(account.key), await self.keys.team(account.team)
        today, day = datetime.now(UTC), timedelta(days=1)
        rows = await read_spend(self.store, today - day, today + day, owners=[tag_of(account.key)])
        mine = [row for row in rows if row.key_id == account.key]
        return Books(
            key.spend_nanos,
            key.held_nanos,
            key.in_flight,
            (team.spend_nanos, team.held_nanos, team.in_flight),
            sum(row.requests for row in mine),
            sum(row.estimated for row in mine),
            sum(row.cost_nanos for row in mine),
            sum(row.prompt_tokens for row in mine),
            sum(row.completion_tokens for row in mine),
            sum(row.characters for row in mine),
        )

    async def closed_books(self, account: Account, seconds: float = PATIENCE) -> Books:
        """Return the books once nothing of the key is in flight, the ledgers being one."""
        async with asyncio.timeout(seconds):
            while (books := await self.books(account)).in_flight or books.held:
                await asyncio.sleep(0.02)
        assert books.agree, books
        return books

    async def statistics(self) -> dict:
        """Return the emulator's statistics as they are now; a request counts when it has ended."""
        async with self.emulator.get("/_emulator/stats") as response:
            return await response.json()

    async def produced(self) -> dict:
        """Return the emulator's statistics once all that was begun has ended."""
        await self.upstream_is_idle()
        return await self.statistics()

    async def open_requests(self) -> list[dict]:
        """Return the requests that the emulator has not begun to answer."""
        async with self.emulator.get("/_emulator/requests") as response:
            requests = (await response.json())["requests"]
        return [request for request in requests if (request["method"], request["ending"]) == ("POST", "open")]

    async def upstream_is_idle(self) -> None:
        """Wait until the emulator works on nothing any more."""
        async with asyncio.timeout(PATIENCE):
            while await self.open_requests() or (await self.statistics())["streams"]["open"]:
                await asyncio.sleep(0.02)

    async def until_produced(self, condition, seconds: float = PATIENCE) -> dict:
        """Return the emulator's statistics once they are so."""
        async with asyncio.timeout(seconds):
            while not condition(stats := await self.statistics()):
                await asyncio.sleep(0.02)
        return stats

    async def forget(self) -> None:
        """Let the emulator count from nothing, without faults."""
        async with self.emulator.delete("/_emulator") as response:
            assert response.status == 204

    async def fault(self, fault: str, *, model: str) -> None:
        async with self.emulator.put("/_emulator/faults", json={"fault": fault, "model": model}) as response:
            assert response.status == 200, await response.text()

    def session(self, account: Account) -> aiohttp.ClientSession:
        """Return a client with connections of its own, so that any worker may be the one that answers."""
        return aiohttp.ClientSession(
            self.served.root_url, headers=account.headers, connector=aiohttp.TCPConnector(force_close=True)
        )

    async def ask_in_vain(self, account: Account, body: dict, path: str = CHAT) -> None:
        """Ask, and bear an answer that breaks off."""
        with contextlib.suppress(aiohttp.ClientError):
            await self.ask(account, body, path)

    async def ask(self, account: Account, body: dict, path: str = CHAT) -> tuple[int, dict, bytes]:
        async with self.session(account) as session, session.post(path, json=body) as response:
            return response.status, dict(response.headers), await response.read()

    async def stream(self, account: Account, body: dict) -> Heard:
        """Return all of a stream that came, and whether it came to its end."""
        heard = Heard()
        try:
            async with self.session(account) as session, session.post(CHAT, json=body) as response:
                heard.status = response.status
                async for line in response.content:
                    heard.take(line)
        except (aiohttp.ClientError, ConnectionError):
            heard.is_broken = True
        return heard

    def store_process(self) -> int:
        """Return the embedded Valkey's process."""
        (store,) = [pid for pid in self.served.descendants() if b"valkey-server" in command(pid)]
        return store

    def workers(self) -> list[int]:
        return [pid for pid in self.served.descendants() if b"neev_provider.gateway.worker" in command(pid)]


class Heard:
    """What a client got of a stream."""

    def __init__(self) -> None:
        self.status = 0
        self.text = ""
        self.usage: dict | None = None
        self.error: dict | None = None
        self.is_done = False
        self.is_broken = False
        self.chunks = 0

    def take(self, line: bytes) -> None:
        data = line.removeprefix(b"data: ").strip()
        if data == b"[DONE]":
            self.is_done = True
        elif data.startswith(b"{"):
            with contextlib.suppress(json.JSONDecodeError):  # a fault may have broken it
                self._take(json.loads(data))

    def _take(self, event: dict) -> None:
        self.error = event.get("error", self.error)
        self.usage = event.get("usage", self.usage)
        for choice in event.get("choices", ()):
            text = choice["delta"].get("content")
            if text:
                self.chunks += 1
                self.text += text


def command(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def chat(echo: str = "tokens=10,prompt-tokens=5", *, fault: str = "", **fields: object) -> dict:
    lines = [f"x-neev-fault: {fault}"] * bool(fault) + [f"x-neev-echo: {echo}"]
    message = {"role": "user", "content": "\n".join([*lines, "x"])}
    return {"model": "house", "messages": [message], "max_tokens": 500, **fields}


def speech(text: str, *, echo: str = "", fault: str = "") -> dict:
    lines = [f"x-neev-fault: {fault}\n"] * bool(fault) + [f"x-neev-echo: {echo}\n"] * bool(echo)
    return {"model": "tts-1", "voice": "alloy", "input": "".join(lines) + text}


def characters(body: dict) -> int:
    """Return the characters that are paid for: all but white space."""
    return len("".join(body["input"].split()))


def prompt_estimate(body: dict) -> int:
    """Return the tokens that a prompt is taken for while nobody has counted them."""
    return estimate_tokens(parse_chat(json.dumps(body).encode()).prompt_bytes)


def cost(total: dict) -> int:
    """Return what upstream's own count of chat tokens costs at gpt-oss-120b's price, in nano-USD."""
    return total["prompt_tokens"] * PROMPT + total["completion_tokens"] * COMPLETION


@contextlib.asynccontextmanager
async def visit(served: Served, url: str | None = None) -> AsyncIterator[House]:
    """Open a house's books; `url` is of its store, unless that is the embedded one."""
    url = url or (served.state / "run" / "store").read_text().strip()
    async with (
        Store.from_url(url, timing=PATIENT) as store,
        aiohttp.ClientSession(served.emulator_url) as emulator,
    ):
        yield House(served, store, Keys(store), emulator)


@contextlib.contextmanager
def running(
    folder: Path, *words: str, workers: int = 2, environ: dict[str, str] | None = None, **admission: object
) -> Iterator[Served]:
    own = config(folder, **{"lease_seconds": 5, **admission})
    flags = ("--no-litellm", "--engine", "echo", "--workers", str(workers), *words)
    with serving(folder, *flags, config=own, environ=environ) as served:
        yield served
