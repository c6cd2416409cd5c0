"""The load generator against the mock upstream and against servers that answer wrongly; real sockets."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from benchmarks.http import body_of, message_end, request_bytes
from benchmarks.load import LoadPlan, percentile_ms, run
from benchmarks.upstream import MockUpstream
from benchmarks.workload import CHAT_ANSWER, PATH, stream_body, text_of_events

OK = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s"
CHUNK = b'data: {"choices":[{"index":0,"delta":{"content":" the"}}]}\n\n'


@asynccontextmanager
async def upstream():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: MockUpstream(rate=1000), "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def answering(answer: bytes):
    """A server that gives this answer to everything, and closes if it is empty."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received = b""
        while part := await reader.read(65_536):
            received += part
            if (end := message_end(received)) is not None:
                received = received[end:]
                if not answer:
                    break
                writer.write(answer)
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def streamed(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


async def load(port: int, **plan):
    return await asyncio.to_thread(run, LoadPlan(port=port, connections=3, **plan))


async def ask(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = b""
    while message_end(answer) is None:
        answer += await reader.read(65_536)
    writer.close()
    await writer.wait_closed()
    return answer


async def test_a_closed_loop_counts_and_times_every_answer() -> None:
    async with upstream() as port:
        result = await load(port, seconds=0.2)
    assert result.errors == {}
    assert result.answered > 30
    assert result.per_second == pytest.approx(result.answered / 0.2, rel=0.3)
    assert 0 < result.p50_ms <= result.p99_ms < 200


async def test_streams_keep_their_pace_and_arrive_whole() -> None:
    async with upstream() as port:
        result = await load(port, chunks=100)
    assert (result.answered, result.errors) == (3, {})
    assert result.seconds >= 0.1


async def test_a_loop_of_no_seconds_is_one_request_a_connection() -> None:
    async with upstream() as port:
        assert (await load(port)).answered == 3


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (OK % (2, b"{}"), "HTTP/1.1 200 OK {}"),
        (b"HTTP/1.1 503 No\r\ncontent-length: 4\r\n\r\nbusy", "HTTP/1.1 503 No busy"),
        (b"", "connection closed"),
    ],
)
async def test_a_wrong_answer_is_an_error_that_tells_what_came(answer: bytes, error: str) -> None:
    async with answering(answer) as port:
        result = await load(port, seconds=0.05)
    assert result.answered == 0
    assert list(result.errors) == [error]


async def test_a_chunked_answer_is_as_good_as_one_with_a_length() -> None:
    async with answering(streamed(CHAT_ANSWER)) as port:
        result = await load(port, seconds=0.05)
    assert result.errors == {}
    assert result.answered > 0


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (CHUNK, "cut stream"),
        (CHUNK + b"data: [DONE]\n\n", "wrong text"),
        (b'data: {"error":{"message":"x"}}\n\n', "broken event"),
        (b"data: {\n\n", "broken event"),
    ],
)
async def test_a_stream_that_is_not_what_upstream_sent_is_an_error(body: bytes, error: str) -> None:
    async with answering(streamed(body)) as port:
        result = await load(port, chunks=2)
    assert (result.answered, result.errors) == (0, {error: 3})


@pytest.mark.parametrize(("asked", "shown"), [(b"true", True), (b"false", False)])
async def test_the_mock_upstream_sends_usage_when_asked(asked: bytes, shown: bool) -> None:
    body = stream_body(2)[:-1] + b',"stream_options":{"include_usage":%s}}' % asked
    async with upstream() as port:
        answer = await ask(port, request_bytes(port, PATH, {}, body))
    assert (b'"usage"' in answer) is shown
    assert text_of_events(body_of(answer)) == (" the river", True)


async def test_the_mock_upstream_answers_a_request_that_arrives_in_pieces() -> None:
    async with upstream() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}")
        await writer.drain()
        writer.write(b"\r\n0\r\n\r\n")
        assert (await reader.readuntil(b"}}")).endswith(CHAT_ANSWER)
        writer.close()
        await writer.wait_closed()


def test_percentiles_are_measured_values() -> None:
    times = [n * 1_000_000 for n in range(1, 101)]
    assert percentile_ms(times, 0.50) == 51
    assert percentile_ms(times, 0.99) == 100
    assert percentile_ms([], 0.5) == 0
