"""Request lines: for a machine, for a person, and never able to forge another."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select

import pytest

from neev_provider.gateway.logs import AccessLog, Output

LINE = {
    "request_id": "req_1", "method": "POST", "path": "/v1/chat/completions", "status": 200, "ms": 12.3, "key_id": "team-a",
    "model": "house", "via": "fast", "prompt_tokens": 10, "completion_tokens": 5, "estimated": False, "cost_nanos": 3500,
}  # fmt: skip


async def written(line: dict, *, as_json: bool) -> str:
    blocks: list[bytes] = []
    log = AccessLog(blocks.append, as_json=as_json)
    log.write(dict(line))
    log.flush()
    return b"".join(blocks).decode()


async def test_a_machine_gets_one_object_a_line():
    text = await written(LINE, as_json=True)
    assert text.count("\n") == 1
    assert LINE.items() <= json.loads(text).items()
    assert json.loads(text)["time"].endswith("Z")


async def test_a_person_gets_the_figures():
    text = await written(LINE, as_json=False)
    for word in (
        "200 POST /v1/chat/completions",
        "12 ms",
        "house",
        "10+5 tokens",
        "$0.000003500",
        "key=team-a",
        "req_1",
    ):
        assert word in text


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize("field", ["path", "model"])
@pytest.mark.parametrize(
    "hostile", ["x\nforged", "x\rforged", "x\x1b[2Jforged", "x\u2028forged", "x\x00forged"]
)
async def test_a_client_can_neither_forge_a_line_nor_move_the_cursor(as_json, field, hostile):
    line = (await written(LINE | {field: hostile}, as_json=as_json)).removesuffix("\n")
    assert not any(ord(character) < 32 for character in line)
    assert as_json or line.isprintable()


async def test_lines_are_collected_and_come_out_by_themselves_in_whole_blocks():
    blocks: list[bytes] = []
    log = AccessLog(blocks.append, as_json=True)
    for _ in range(100):
        log.write(dict(LINE))
    assert blocks == []
    async with asyncio.timeout(10):
        while not blocks:
            await asyncio.sleep(0.01)
    assert b"".join(blocks).count(b"\n") == 100
    assert all(block.endswith(b"\n") and len(block) <= select.PIPE_BUF for block in blocks)
    assert len(blocks) < 20


@pytest.fixture
def pipe():
    """Its reading end, and its writing end as an output."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    yield reader, Output(writer)
    os.close(writer)


def read_all(reader: int) -> bytes:
    parts = []
    with contextlib.suppress(BlockingIOError):
        while part := os.read(reader, 65_536):
            parts.append(part)
    return b"".join(parts)


async def test_a_reader_that_stalls_holds_up_nobody_and_misses_nothing(pipe):
    reader, output = pipe
    lines = [b"%d %s\n" % (number, b"x" * 1000) for number in range(300)]
    for line in lines:
        output(line)  # four times what the pipe holds
    text = b""
    async with asyncio.timeout(10):
        while len(text) < sum(map(len, lines)):
            text += read_all(reader)
            await asyncio.sleep(0.05)
    assert text == b"".join(lines)
    os.close(reader)


async def test_a_reader_that_stalls_for_long_is_told_how_much_it_missed(pipe, caplog):
    reader, output = pipe
    for _ in range(3000):
        output(b"x" * 999 + b"\n")
    text = b""
    async with asyncio.timeout(10):
        while "were lost" not in caplog.text:
            text += read_all(reader)
            await asyncio.sleep(0.05)
    text += read_all(reader)
    assert 1000 < text.count(b"\n") < 1200
    lost = 3000 - text.count(b"\n")
    assert f"{lost} request lines were lost" in caplog.text
    os.close(reader)


async def test_a_reader_that_has_gone_is_not_waited_for(pipe):
    reader, output = pipe
    os.close(reader)
    for _ in range(300):
        output(b"x" * 1000 + b"\n")
