"""A speech call: audio as it arrives, or an error before anything is relayed."""

from __future__ import annotations

import asyncio

import pytest

from neev_provider.errors import NeevError
from neev_provider.upstream import NO_RETRIES, Timeouts

BODY = b'{"model":"tts-1","input":"hi","voice":"alloy"}'


@pytest.fixture
def upstream(make_upstream):
    return make_upstream(retry=NO_RETRIES)


async def failure_of(call) -> NeevError:
    with pytest.raises(NeevError) as caught:
        await call
    return caught.value


async def test_audio_is_given_as_it_arrives(server, play, upstream):
    go_on = asyncio.Event()

    async def speaks(exchange):
        await exchange.send(play.head("audio/mpeg") + play.chunks(b"ID3", end=False))
        await go_on.wait()
        await exchange.send(play.chunks(b"more"))

    server.play(speaks)
    async with await upstream.open_speech(server.deployment(), BODY) as audio:
        assert audio.content_type == "audio/mpeg"
        assert await anext(audio) == b"ID3"
        go_on.set()
        assert [data async for data in audio] == [b"more"]
    (request,) = server.requests
    assert (request.method, request.path, request.body) == ("POST", "/v1/audio/speech", BODY)


@pytest.mark.parametrize(
    ("media", "content_type"),
    [
        ("audio/mpeg", "audio/mpeg"),
        ("application/octet-stream", "application/octet-stream"),
        (None, "audio/mpeg"),
    ],
)
async def test_audio_may_have_no_type_of_its_own(server, play, upstream, media, content_type):
    server.play(play.http(200, b"ID3", media))
    async with await upstream.open_speech(server.deployment(), BODY) as audio:
        assert audio.content_type == content_type
        assert [data async for data in audio] == [b"ID3"]


async def test_no_audio_is_a_bad_response(server, play, upstream):
    server.play(play.http(200, b"", "audio/mpeg"), play.head("audio/mpeg") + play.chunks())
    for _ in range(2):
        error = await failure_of(upstream.open_speech(server.deployment(), BODY))
        assert (error.status, error.code) == (502, "upstream_bad_response")
        assert error.message == "The model provider answered without any audio."
    assert server.connections == 1


async def test_an_error_with_status_200_is_that_error(server, play, upstream):
    server.play(play.http(200, {"error": {"message": "slow down", "code": 429}}))
    assert (await failure_of(upstream.open_speech(server.deployment(), BODY))).code == "upstream_rate_limited"


@pytest.mark.parametrize("media", ["application/json", "text/html; charset=utf-8"])
async def test_text_is_no_audio(server, play, upstream, media):
    server.play(play.http(200, b'{"ok": true}', media))
    error = await failure_of(upstream.open_speech(server.deployment(), BODY))
    assert (error.code, error.message) == (
        "upstream_bad_response",
        "The model provider did not answer with audio.",
    )


async def test_refusals_are_mapped(server, play, upstream):
    server.play(play.error(400, "unknown voice", param="voice"))
    error = await failure_of(upstream.open_speech(server.deployment(), BODY))
    assert (error.status, error.param, error.message) == (400, "voice", "unknown voice")


async def test_silence_before_the_first_byte_is_a_timeout(server, play, upstream):
    async def silent(exchange):
        await exchange.send(play.head("audio/mpeg"))
        await exchange.gone()

    server.play(silent)
    error = await failure_of(upstream.open_speech(server.deployment(), BODY, timeouts=Timeouts(idle=0.1)))
    assert error.code == "upstream_timeout"
    await server.all_closed()


async def test_a_cut_is_a_bad_response(server, play, upstream):
    async def cut(exchange):
        await exchange.send(play.head("audio/mpeg") + play.chunks(b"ID3", end=False))
        exchange.close()

    server.play(cut)
    async with await upstream.open_speech(server.deployment(), BODY) as audio:
        assert await audio.read() == b"ID3"
        assert (await failure_of(audio.read())).code == "upstream_bad_response"


async def test_stopping_before_the_first_read_closes_the_connection(server, play, upstream):
    async def speaks(exchange):
        await exchange.send(play.head("audio/mpeg") + play.chunks(b"ID3", end=False))
        await exchange.gone()

    server.play(speaks)
    audio = await upstream.open_speech(server.deployment(), BODY)
    await audio.aclose()
    assert [data async for data in audio] == []
    await server.all_closed()


async def test_cancelling_while_waiting_for_audio_closes_the_connection(server, play, upstream):
    async def silent(exchange):
        await exchange.send(play.head("audio/mpeg"))
        await exchange.gone()

    server.play(silent)
    task = asyncio.create_task(upstream.open_speech(server.deployment(), BODY))
    await server.until(lambda: server.requests)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await server.all_closed()
