"""Every fault as a client meets it on the wire."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json

import aiohttp
import pytest

from neev_provider.emulator.faults import FAULTS, SHAPES

FIVE = "one two three four five"
TESTED = set()


def covers(*names):
    """Say which faults a test is about; the last test checks that none was forgotten."""
    TESTED.update(names)
    return lambda function: function


SHAPE_CHECKS = {
    "openai": lambda body: set(body["error"]) == {"message", "type", "param", "code"},
    "string": lambda body: isinstance(body["error"], str) and set(body) == {"error", "message", "code"},
    "flat": lambda body: set(body) == {"code", "message"},
    "reason": lambda body: set(body) == {"reason_code", "message"},
    "html": lambda body: body.startswith(b"<html>"),
    "empty": lambda body: body == b"",
}
SHAPE_TYPES = {"html": "text/html", "empty": None}


@covers("status", "shape")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("ask", ["chat", "speech"])
async def test_status_with_each_shape(call, emulator, ask, shape):
    answer = await getattr(call, ask)(emulator, fault=f"status=502,shape={shape}")
    assert answer.status == 502
    assert answer.headers.get("content-type") == SHAPE_TYPES.get(shape, "application/json")
    assert SHAPE_CHECKS[shape](answer.body)
    assert emulator.stats()["total"]["requests"] == 0, "nothing was produced"


@covers("retry-after")
async def test_retry_after_is_sent_with_and_without(call, emulator):
    answer = await call.chat(emulator, fault="status=503,retry-after=1.2")
    assert (answer.status, answer.headers["retry-after"]) == (503, "2")
    assert "retry-after" not in (await call.chat(emulator, fault="status=429")).headers


async def test_faults_reach_the_models_routes_too(call, emulator):
    answer = await call.get(emulator, "/v1/models", headers={"x-neev-fault": "status=503"})
    assert answer.status == 503


@covers("html", "bad-json", "empty-body")
@pytest.mark.parametrize("streamed", [True, False])
async def test_a_200_that_is_no_answer(call, emulator, streamed):
    html = await call.chat(emulator, fault="html", stream=streamed)
    assert (html.status, html.headers["content-type"]) == (200, "text/html")
    broken = await call.chat(emulator, fault="bad-json", stream=streamed)
    assert (broken.status, broken.headers["content-type"]) == (200, "application/json")
    with pytest.raises(json.JSONDecodeError):
        json.loads(broken.raw)
    empty = await call.chat(emulator, fault="empty-body", stream=streamed)
    assert (empty.status, empty.raw) == (200, b"")


@covers("redirect")
async def test_redirect_points_to_a_place_that_tells_on_clients_that_follow(call, emulator):
    answer = await call.chat(emulator, fault="redirect")
    assert answer.status == 307
    location = answer.headers["location"]
    assert location == emulator.root_url + "/_emulator/redirected"
    assert (await call.send(emulator, "POST", "/_emulator/redirected")).status == 404
    assert emulator.stats()["requests"]["POST /_emulator/redirected"] == {"404": 1}


@covers("reset")
async def test_reset_breaks_the_connection_before_the_headers(call, emulator):
    with pytest.raises(aiohttp.ClientOSError) as raised:
        await call.chat(emulator, fault="reset")
    assert raised.value.errno == errno.ECONNRESET
    assert emulator.stats()["requests"]["POST /v1/chat/completions"] == {"reset": 1}


@covers("stall")
async def test_stall_never_answers(call, emulator):
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(call.chat(emulator, fault="stall"), 0.1)


@covers("slow-first-byte")
async def test_slow_first_byte_waits_then_answers(call, emulator, event_clock):
    with event_clock() as elapsed:
        assert (await call.chat(emulator, fault="slow-first-byte=0.1")).status == 200
        assert (await call.chat(emulator, fault="slow-first-byte=0.1,status=503")).status == 503
    assert 0.2 <= elapsed() < 2


@covers("context-length")
async def test_context_length_is_openai_s_error(call, emulator):
    answer = await call.chat(emulator, fault="context-length")
    assert (answer.status, answer.body["error"]["code"]) == (400, "context_length_exceeded")


@covers("refuse-stream-options", "refuse-field")
async def test_fields_are_refused_only_when_present(call, emulator):
    refused = await call.chat(
        emulator, fault="refuse-stream-options", stream=True, stream_options={"include_usage": True}
    )
    assert (refused.status, refused.body["error"]["param"]) == (400, "stream_options")
    assert (await call.stream(emulator, fault="refuse-stream-options")).done
    assert (await call.chat(emulator, fault="refuse-field=seed", seed=1)).status == 400
    assert (await call.chat(emulator, fault="refuse-field=seed")).status == 200


async def read_until_broken(session, target, fault, path="/v1/chat/completions", **body):
    """Return what came before the connection broke."""
    received = b""
    url, headers = target.root_url + path, {**target.headers, "x-neev-fault": fault}
    async with session.post(url, headers=headers, json=body) as response:
        assert response.status == 200
        try:
            async for part in response.content.iter_any():
                received += part
        except aiohttp.ClientPayloadError:
            return received
    pytest.fail("the answer was complete")


@covers("cut-after")
@pytest.mark.parametrize("count", [0, 1, 3, 5])
async def test_cut_after_drops_the_stream_unfinished_and_bills_what_was_sent(call, session, emulator, count):
    body = call.message(FIVE, stream=True)
    received = await read_until_broken(session, emulator, f"cut-after={count}", **body)
    assert received.count(b'"content"') == (count + 1 if count else 0)
    assert b"[DONE]" not in received
    assert b'finish_reason":"' not in received
    assert emulator.stats()["by_model"]["gpt-oss-120b"]["completion_tokens"] == max(count, 1)
    assert emulator.stats()["streams"]["cut_by_fault"] == 1


async def test_cut_after_more_chunks_than_there_are_does_nothing(call, emulator):
    assert (await call.stream(emulator, FIVE, fault="cut-after=6")).done


async def test_cut_after_breaks_an_answer_that_is_not_streamed_in_its_middle(call, session, emulator):
    received = await read_until_broken(session, emulator, "cut-after=1", **call.message(FIVE))
    assert received.startswith(b'{"id"')
    assert await read_until_broken(session, emulator, "cut-after=0", **call.message(FIVE)) == b""


async def test_cut_after_breaks_speech(call, session, emulator):
    body = {"model": "tts-1", "voice": "alloy", "input": "x" * 500}
    received = await read_until_broken(session, emulator, "cut-after=2", "/v1/audio/speech", **body)
    assert len(received) == 2 * 4080
    assert emulator.stats()["by_model"]["tts-1"]["audio_bytes"] == 2 * 4080


@covers("stall-after")
@pytest.mark.parametrize("streamed", [True, False])
async def test_stall_after_sends_some_and_then_nothing(call, session, emulator, streamed):
    headers = {**emulator.headers, "x-neev-fault": "stall-after=2"}
    body = call.message(FIVE, stream=streamed)
    received = b""
    async with session.post(emulator.base_url + "/chat/completions", headers=headers, json=body) as response:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                async for part in response.content.iter_any():
                    received += part
        assert not response.content.at_eof()
    assert b'" two"' in received if streamed else received.startswith(b'{"id"')
    assert b"three" not in received


@covers("error-after")
@pytest.mark.parametrize("count", [0, 2])
async def test_error_after_is_an_event_and_a_proper_end_without_done(call, emulator, count):
    chunks = await call.stream(emulator, FIVE, fault=f"error-after={count}")
    assert chunks[-1]["error"]["type"] == "server_error"
    assert len(chunks) == (count + 2 if count else 1)
    assert not chunks.done


@covers("bad-json-chunk")
async def test_bad_json_chunk_breaks_one_chunk_and_goes_on(call, emulator):
    answer = await call.chat(emulator, FIVE, stream=True, fault="bad-json-chunk=2")
    payloads = [line[6:] for line in answer.raw.decode().split("\n") if line.startswith("data: {")]

    def is_json(text):
        try:
            json.loads(text)
        except json.JSONDecodeError:
            return False
        return True

    assert [is_json(text) for text in payloads] == [True, True, False, True, True, True, True]
    assert answer.raw.endswith(b"data: [DONE]\n\n")


@covers("no-done")
async def test_no_done(call, emulator):
    chunks = await call.stream(emulator, fault="no-done")
    assert chunks.finish == "stop"
    assert not chunks.done


@covers("odd-chunks")
async def test_odd_chunks_are_legal_and_carry_the_same_text(call, emulator):
    chunks = await call.stream(emulator, FIVE * 3, fault="odd-chunks")
    assert chunks.content == FIVE * 3
    assert chunks.done
    for oddity in (
        b": keep-alive\n",
        b"event: message\n",
        b"data:{",
        b'"choices":[]',
        b"x_neev",
        b"x-unknown: 1\n",
    ):
        assert oddity in chunks.raw, oddity


@covers("crlf")
async def test_crlf_line_ends(call, emulator):
    chunks = await call.stream(emulator, FIVE, fault="crlf")
    assert chunks.raw.count(b"\r\n\r\n") == len(chunks) + 1
    assert chunks.content == FIVE


@covers("split-bytes")
async def test_split_bytes_tears_characters_apart_but_the_whole_is_right(call, session, emulator):
    text = "नमस्ते 😀 दुनिया"
    headers = {**emulator.headers, "x-neev-fault": "split-bytes"}
    parts = []
    async with session.post(
        emulator.base_url + "/chat/completions", headers=headers, json=call.message(text, stream=True)
    ) as response:
        async for part, _ in response.content.iter_chunks():
            parts.append(part)
    sizes = {len(part) for part in parts if part}
    assert min(sizes) <= 3
    assert b"".join(parts).decode().count("नमस्ते") == 1

    def torn(part):
        try:
            part.decode()
        except UnicodeDecodeError:
            return True
        return False

    assert any(torn(part) for part in parts)


async def test_split_bytes_leave_in_writes_of_their_own(call, emulator):
    body = json.dumps(call.message("x-neev-echo: tokens=100", stream=True)).encode()
    reader, writer = await asyncio.open_connection(*emulator.root_url.removeprefix("http://").split(":"))
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: emulator\r\nauthorization: Bearer sk-nc-x\r\n"
        b"x-neev-fault: split-bytes\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
    )
    reads = []
    while data := await reader.read(65536):
        reads.append(data)
    writer.close()
    await writer.wait_closed()
    assert b"".join(reads).endswith(b"0\r\n\r\n")
    assert len(reads) > 20


@covers("null-content")
async def test_null_content_bills_tokens_all_the_same(call, emulator):
    answer = await call.chat(emulator, FIVE, fault="null-content")
    assert answer.body["choices"][0]["message"]["content"] is None
    assert answer.body["usage"]["completion_tokens"] == 5
    chunks = await call.stream(emulator, FIVE, fault="null-content")
    assert chunks.content == ""
    assert chunks.finish == "stop"


@covers("think")
@pytest.mark.parametrize(("fault", "closed"), [("think", True), ("think=unclosed", False)])
async def test_think_puts_thoughts_into_the_content_and_bills_them(call, emulator, fault, closed):
    answer = await call.chat(emulator, FIVE, fault=fault)
    content = answer.body["choices"][0]["message"]["content"]
    assert content.startswith("<think>")
    assert content.endswith(FIVE)
    assert ("</think>" in content) is closed
    assert answer.body["usage"]["completion_tokens"] == len(content.split())
    assert (await call.stream(emulator, FIVE, fault=fault)).content == content


@pytest.mark.parametrize("limit", [3, 9, 10])
async def test_thoughts_count_towards_max_tokens(call, emulator, limit):
    answer = await call.chat(emulator, FIVE, fault="think", max_tokens=limit)
    assert answer.body["usage"]["completion_tokens"] == limit
    assert answer.body["choices"][0]["finish_reason"] == "length"
    assert len(answer.body["choices"][0]["message"]["content"].split()) == limit


@covers("no-usage")
async def test_no_usage(call, emulator):
    assert "usage" not in (await call.chat(emulator, fault="no-usage")).body
    chunks = await call.stream(emulator, fault="no-usage", stream_options={"include_usage": True})
    assert chunks.usage is None
    assert chunks.done
    assert emulator.stats()["total"]["completion_tokens"] == 6


@covers("cached-tokens")
async def test_cached_tokens_are_reported_up_to_the_prompt(call, emulator):
    answer = await call.chat(emulator, FIVE, fault="cached-tokens=2")
    assert answer.body["usage"]["prompt_tokens_details"] == {"cached_tokens": 2}
    answer = await call.chat(emulator, FIVE, fault="cached-tokens=99")
    assert answer.body["usage"]["prompt_tokens_details"] == {"cached_tokens": 5}
    assert emulator.stats()["total"]["cached_tokens"] == 7


@covers("empty-audio")
async def test_empty_audio(call, emulator):
    answer = await call.speech(emulator, fault="empty-audio")
    assert (answer.status, answer.headers["content-type"], answer.raw) == (200, "audio/mpeg", b"")
    assert emulator.stats()["total"]["characters"] == 0


@covers("times", "id")
async def test_times_makes_the_following_requests_healthy(call, emulator):
    statuses = [(await call.chat(emulator, fault="status=503,times=2,id=t")).status for _ in range(3)]
    assert statuses == [503, 503, 200]


async def test_a_wrong_fault_is_a_400_that_says_what_is_wrong(call, emulator):
    answer = await call.chat(emulator, fault="statsu=503")
    assert answer.status == 400
    assert answer.body["error"]["message"] == "unknown fault 'statsu'; did you mean 'status'?"
    assert answer.body["error"]["param"] == "x-neev-fault"


async def test_a_wrong_key_is_401_whatever_the_fault(call, emulator):
    answer = await call.send(
        emulator, "GET", "/v1/models", headers={"authorization": "x", "x-neev-fault": "status=503"}
    )
    assert answer.status == 401


def test_every_fault_of_the_table_has_a_test():
    assert {kind.name for kind in FAULTS} == TESTED
