"""Every fault on every way: one gateway with LiteLLM, all cells asked at once, then one test for each cell."""

from __future__ import annotations

import asyncio
import json
import re
import time
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from neev_provider.emulator.faults import FAULTS
from tests.faults.house import (
    CHARACTER,
    COMPLETION,
    PROMPT,
    SPEECH,
    Books,
    House,
    characters,
    config,
    visit,
)
from tests.faults.matrix import CELLS, PROMPT_TOKENS, ROWS, SLACK, TIMEOUT, TOKENS, Outcome, Row, Way, table
from tests.proxy.serving import serving

MANUAL = Path(__file__).parents[2] / "docs" / "reliability.md"
THOUGHTS = 8  # words that `think` puts before the answer
CENTS = {"gpt-oss-20b": (75, 300)}  # nano-USD per token, where it is not gpt-oss-120b's
AT_ONCE = 8
CEILING = TIMEOUT + SLACK


@dataclass(frozen=True)
class Seen:
    """What came of one cell."""

    status: int
    body: bytes
    is_broken: bool
    seconds: float
    books: Books

    @property
    def code(self) -> str:
        found = re.findall(rb'"error":\s?\{.*?"code":\s?"([a-z_]+)"', self.body)
        return found[-1].decode() if found else ""

    @property
    def is_done(self) -> bool:
        return b"data: [DONE]" in self.body or b"event: message_stop" in self.body


async def try_cell(house: House, row: Row, way: Way) -> Seen:
    account = await house.account()
    # `times` counts for each request of its own.
    fault = f"{row.fault},id={account.key}" if "times" in row.fault else row.fault
    began, status, body, is_broken = time.monotonic(), 0, b"", False
    try:
        async with (
            asyncio.timeout(CEILING),
            house.session(account) as session,
            session.post(way.path, json=way.body(fault, row.model)) as response,
        ):
            status = response.status
            async for data in response.content.iter_any():
                body += data
    except aiohttp.ClientError:
        is_broken = True
    except TimeoutError:
        status = -1
    seconds = time.monotonic() - began
    return Seen(status, body, is_broken, seconds, await house.closed_books(account))


async def try_all(served) -> dict[tuple[str, str], Seen]:
    limit = asyncio.Semaphore(AT_ONCE)

    async def one(house: House, row: Row, way: Way) -> Seen:
        async with limit:
            return await try_cell(house, row, way)

    async with visit(served) as house:
        seen = await asyncio.gather(*(one(house, row, way) for row, way, _ in CELLS))
    return {(row.fault, way.name): one for (row, way, _), one in zip(CELLS, seen, strict=True)}


def with_timeouts(folder: Path) -> Path:
    """Return the configuration of these tests: what stalls is given up soon, speech has a price for LiteLLM too."""
    file = config(folder, lease_seconds=5)
    text = file.read_text()
    speaks = "    model_info:\n      mode: audio_speech\n"
    assert text.count(speaks) == 1
    text = text.replace(
        speaks, f"      timeout: {TIMEOUT}\n{speaks}      input_cost_per_character: 0.000015\n"
    )
    file.write_text(text)
    return file


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    folder = tmp_path_factory.mktemp("matrix")
    own = with_timeouts(folder)
    with serving(folder, "--engine", "echo", "--workers", "1", config=own) as served:
        return asyncio.run(try_all(served))


def ids(cells) -> list[str]:
    return [f"{row.fault} - {way.name}" for row, way, _ in cells]


@pytest.mark.parametrize(("row", "way", "expected"), CELLS, ids=ids(CELLS))
class TestEveryFaultOnEveryWay:
    def test_is_answered_as_the_table_says(self, seen, row: Row, way: Way, expected: Outcome):
        got = seen[row.fault, way.name]
        assert (got.status, got.code) == (expected.status, expected.code), got.body[-500:]
        assert got.is_broken == expected.is_broken
        if way.is_stream:
            assert got.is_done == expected.is_done
        if got.status >= 400:
            assert set(json.loads(got.body)["error"]) == {"message", "type", "param", "code"}

    def test_does_not_hang(self, seen, row: Row, way: Way, expected: Outcome):
        assert seen[row.fault, way.name].seconds < CEILING

    def test_costs_what_the_table_says(self, seen, row: Row, way: Way, expected: Outcome):
        books = seen[row.fault, way.name].books
        if expected.charge == "nothing":
            assert (books.spend, books.requests) == (0, 0)
            return
        assert (books.requests, books.estimated) == (1, int(expected.charge == "estimate"))
        if way.path == SPEECH:
            spoken = characters(way.body(row.fault, row.model))
            assert (books.characters, books.spend) == (spoken, spoken * CHARACTER)
            return
        prompt, completion = CENTS.get(row.model, (PROMPT, COMPLETION))
        assert books.spend == books.prompt_tokens * prompt + books.completion_tokens * completion
        if expected.charge == "counted":
            more = THOUGHTS * row.fault.startswith("think")
            assert (books.prompt_tokens, books.completion_tokens) == (PROMPT_TOKENS, TOKENS + more)
        else:
            assert 10 < books.prompt_tokens < 60
            assert books.completion_tokens <= TOKENS


class TestTheMatrix:
    def test_has_every_fault_of_the_emulator(self):
        tried = {part.partition("=")[0] for row in ROWS for part in row.fault.split(",")}
        assert tried - {"none"} == {kind.name for kind in FAULTS} - {"id"}

    def test_is_the_table_of_the_manual(self):
        text = MANUAL.read_text()
        begin = "<!-- matrix: generated from tests/faults/matrix.py, checked by a test -->\n"
        assert text.partition(begin)[2].partition("\n<!-- end of matrix -->")[0].split("\n") == table()
