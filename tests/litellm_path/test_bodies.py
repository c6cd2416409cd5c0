"""Bodies on their way to LiteLLM and back: unchanged, at once, bounded."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import pytest
from aiohttp import web

from neev_provider.gateway.exchange import Limits
from neev_provider.gateway.litellm_path import LiteLLMPath
from tests.litellm_path.serving import KEY, MASTER_KEY, gateway_before
from tests.litellm_path.test_routes import raw

UPLOAD = "/v1/audio/transcriptions"


def limited(played, **limits):
    bounds = Limits(**limits)
    return gateway_before(LiteLLMPath(played.url, limits=bounds, forward_key=MASTER_KEY), limits=bounds)


async def code_of(response: aiohttp.ClientResponse) -> str:
    assert response.content_type == "application/json"
    return (await response.json())["error"]["code"]


async def send(url: str, head: str, *parts: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"{head}\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode())
    for part in parts:
        writer.write(part)
    await writer.drain()
    return reader, writer


class TestToLiteLLM:
    async def test_json_arrives_byte_for_byte(self, client, played):
        played.answers(200, b"{}", content_type="application/json")
        body = b'{ "model" :"x",\n "big": 12345678901234567890.10, "\\u0041": "\xc3\xa9" }'
        async with client.post(
            "/v1/embeddings", data=body, headers={"Content-Type": "application/json"}
        ) as response:
            assert response.status == 200
        assert played.requests[0].body == body

    async def test_a_form_with_a_file_arrives_byte_for_byte(self, client, played):
        played.answers(200, b"{}", content_type="application/json")
        form = aiohttp.FormData()
        form.add_field("model", "whisper")
        form.add_field("file", bytes(range(256)) * 4000, filename="a.mp3", content_type="audio/mpeg")
        async with client.post(UPLOAD, data=form) as response:
            assert response.status == 200
        (request,) = played.requests
        (media,) = request.all("content-type")
        boundary = media.partition("boundary=")[2].encode()
        assert request.body.endswith(b"--" + boundary + b"--\r\n")
        assert bytes(range(256)) * 4000 in request.body

    async def test_a_form_is_passed_on_while_it_arrives(self, client, played):
        received, go_on = asyncio.Event(), asyncio.Event()

        async def answer(request):
            first = await request.content.readany()
            received.set()
            return web.Response(body=first + await request.content.read())

        async def parts():
            yield b"first "
            await received.wait()  # until LiteLLM has it: nobody waits for the whole
            yield b"second"
            go_on.set()

        played.answer, played.reads_body = answer, False
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        async with client.post(UPLOAD, data=parts(), headers=headers) as response:
            assert await response.read() == b"first second"
        assert go_on.is_set()
        (request,) = played.requests
        assert request.all("transfer-encoding") == ["chunked"]
        assert request.all("content-length") == []

    async def test_a_response_may_be_cancelled_without_a_body(self, client, played):
        played.answers(200, b"{}", content_type="application/json")
        async with client.post("/v1/responses/resp_1/cancel") as response:
            assert response.status == 200
        assert played.requests[0].body == b""

    async def test_reads_have_no_body(self, client, played):
        played.answers(200, b"{}", content_type="application/json")
        async with client.get("/v1/responses/resp_1") as response:
            assert response.status == 200
        assert not played.requests[0].all("transfer-encoding")

    @pytest.mark.parametrize(
        ("body", "code"),
        [
            (b"", "invalid_json"),
            (b"{", "invalid_json"),
            (b"[]", "invalid_type"),
            (b'"x"', "invalid_type"),
            (b"\xff", "invalid_json"),
        ],
    )
    async def test_what_is_no_json_object_goes_no_further(self, client, played, body, code):
        async with client.post(
            "/v1/embeddings", data=body, headers={"Content-Type": "application/json"}
        ) as response:
            assert (response.status, await code_of(response)) == (400, code)
            assert response.headers["x-neev-path"] == "litellm"
        assert played.requests == []

    @pytest.mark.parametrize(
        "field", ["api_base", "api_key", "extra_headers", "headers", "custom_llm_provider"]
    )
    async def test_nor_does_what_would_choose_host_or_key(self, client, played, field):
        async with client.post("/v1/messages", json={"model": "house", field: "x"}) as response:
            assert (response.status, await code_of(response)) == (400, "unsupported_parameter")
        assert played.requests == []

    @pytest.mark.parametrize("field", ["api_key", "extra_headers", "input_cost_per_token"])
    @pytest.mark.parametrize("chain", ["fallbacks", "context_window_fallbacks", "content_policy_fallbacks"])
    async def test_nor_does_a_fallback_that_would(self, client, played, chain, field):
        target = {"model": "other", field: "x"}
        for value in ([target], ["third", target], [{"house": [target]}], target):
            body = {"model": "house", "messages": [], chain: value}
            async with client.post("/v1/chat/completions", json=body) as response:
                assert (response.status, await code_of(response)) == (400, "unsupported_parameter"), value
        assert played.requests == []

    async def test_a_fallbacks_own_words_are_passed_on(self, client, played):
        played.answers(200, b"{}", content_type="application/json")
        tool = {"type": "function", "function": {"name": "f", "parameters": {"properties": {"api_key": {}}}}}
        chain = ["other", {"model": "other", "temperature": 1, "tools": [tool]}, {"house": ["other"]}]
        body = {"model": "house", "messages": [], "fallbacks": chain}
        async with client.post("/v1/chat/completions", json=body) as response:
            assert response.status == 200, await response.text()
        assert len(played.requests) == 1

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            *(("num_retries", value) for value in (10, -1, 10**30, 1.5, "3", True, [])),
            ("max_retries", 10),
            ("max_fallbacks", 6),
            ("fallbacks", ["other"] * 6),
            ("fallbacks", [{"house": ["other"] * 3}, {"other": ["house"] * 3}]),
            ("context_window_fallbacks", [{"house": ["other"] * 6}]),
            ("content_policy_fallbacks", [{"model": "other", "temperature": n / 10} for n in range(6)]),
            ("fallbacks", [{"model": "other", "fallbacks": ["house"]}]),
            ("retry_policy", {"InternalServerErrorRetries": 10}),
            ("model_group_retry_policy", {"house": {"InternalServerErrorRetries": 10}}),
            ("model_group_retry_policy", {"house": {"x": {"y": 1}}}),
        ],
    )
    async def test_nor_does_what_would_be_tried_for_long(self, client, played, field, value):
        async with client.post("/v1/messages", json={"model": "house", field: value}) as response:
            error = (await response.json())["error"]
            assert (response.status, error["code"], error["param"]) == (400, "invalid_value", field)
        assert played.requests == []

    @pytest.mark.parametrize("field", ["num_retries", "max_retries"])
    async def test_nor_does_a_fallback_that_would_be(self, client, played, field):
        for chain in ([{"model": "other", field: 10}], [{"house": [{"model": "other", field: 10}]}]):
            body = {"model": "house", "fallbacks": chain}
            async with client.post("/v1/messages", json=body) as response:
                assert (response.status, await code_of(response)) == (400, "invalid_value")
        assert played.requests == []

    async def test_some_retries_and_fallbacks_are_passed_on(self, client, played):
        played.answers(200, b"{}", content_type="application/json")
        body = {"model": "house", "num_retries": 9, "max_retries": None, "max_fallbacks": 0}
        body |= {"fallbacks": ["other", {"model": "other", "num_retries": 0}, {"house": ["other"] * 3}]}
        body |= {"model_group_retry_policy": {"house": {"TimeoutErrorRetries": 9}}}
        async with client.post("/v1/messages", json=body) as response:
            assert response.status == 200, await response.text()
        assert len(played.requests) == 1

    @pytest.mark.parametrize("tools", [5, "x", {}, True])
    async def test_nor_do_tools_that_litellm_stumbles_over(self, client, played, tools):
        async with client.post("/v1/messages", json={"model": "house", "tools": tools}) as response:
            assert (response.status, await code_of(response)) == (400, "invalid_type")
        assert played.requests == []

    async def test_nor_does_a_body_of_another_kind(self, client, played):
        async with client.post(
            "/v1/embeddings", data=b"<x/>", headers={"Content-Type": "text/xml"}
        ) as response:
            assert (response.status, await code_of(response)) == (415, "unsupported_media_type")
        assert played.requests == []


class TestBounds:
    @pytest.mark.parametrize("media", ["application/json", "multipart/form-data; boundary=x"])
    async def test_a_declared_size_is_enough_to_be_refused(self, played, media):
        async with limited(played, body_bytes=1000) as url:
            head = f"POST {UPLOAD} HTTP/1.1\r\nContent-Type: {media}\r\nContent-Length: 1001"
            reader, writer = await send(url, head)
            assert b" 413 " in await reader.readline()
            writer.close()
        assert played.requests == []

    @pytest.mark.parametrize("media", ["application/json", "multipart/form-data; boundary=x"])
    async def test_so_is_a_size_that_shows_on_the_way(self, played, media):
        played.answers(200)
        async with limited(played, body_bytes=1000) as url:
            head = f"POST {UPLOAD} HTTP/1.1\r\nContent-Type: {media}\r\nTransfer-Encoding: chunked"
            reader, writer = await send(
                url, head, b"1f4\r\n" + b"x" * 500 + b"\r\n", b"1f5\r\n" + b"x" * 501 + b"\r\n"
            )
            assert b" 413 " in await reader.readline()
            writer.close()

    @pytest.mark.parametrize("media", ["application/json", "multipart/form-data; boundary=x"])
    async def test_a_body_that_does_not_come_is_a_408(self, played, media):
        played.answers(200)
        async with limited(played, body_seconds=0.2) as url:
            head = f"POST {UPLOAD} HTTP/1.1\r\nContent-Type: {media}\r\nContent-Length: 100"
            reader, writer = await send(url, head, b"slow")
            assert b" 408 " in await reader.readline()
            writer.close()

    async def test_a_body_of_the_largest_size_passes(self, played):
        played.answers(200, b"{}", content_type="application/json")
        body = b'{"x": "' + b"y" * (1000 - 9) + b'"}'
        async with limited(played, body_bytes=len(body)) as url, aiohttp.ClientSession(url) as session:
            headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
            async with session.post("/v1/embeddings", data=body, headers=headers) as response:
                assert response.status == 200


class TestToTheClient:
    async def test_any_kind_comes_back_byte_for_byte(self, client, played):
        body = bytes(range(256)) * 1000
        played.answers(200, body, content_type="application/octet-stream")
        async with client.post("/v1/embeddings", json={}) as response:
            assert await response.read() == body
            assert response.headers["content-length"] == str(len(body))

    async def test_compressed_bytes_stay_as_they_are(self, client, played):
        played.answers(200, b"\x1f\x8bxyz", content_type="application/json", content_encoding="gzip")
        async with client.post("/v1/embeddings", json={}) as response:
            assert await response.read() == b"\x1f\x8bxyz"
            assert response.headers["content-encoding"] == "gzip"

    @pytest.mark.parametrize("media", ["text/event-stream; charset=utf-8", "audio/mpeg", "application/json"])
    async def test_each_part_comes_when_it_is_there(self, client, played, media):
        parts = [b'data: {"n":1}\n\n', b"data: [DONE]\n\n"] if "event" in media else [b"\xffabc", b"def"]
        first_seen = asyncio.Event()

        async def answer(request):
            response = web.StreamResponse(headers={"Content-Type": media})
            await response.prepare(request)
            await response.write(parts[0])
            await first_seen.wait()  # the client has it: nothing collects
            await response.write(parts[1])
            return response

        played.answer = answer
        async with client.post("/v1/embeddings", json={}) as response:
            assert await response.content.readany() == parts[0]
            first_seen.set()
            assert await response.content.read() == parts[1]

    async def test_events_that_come_together_go_together_and_untouched(self, client, played):
        events = (
            b': ping\n\nid: 7\nevent: x\ndata: {"a": "\\"error\\"", "error": null}\r\n\r\ndata: [DONE]\n\n'
        )
        played.answers(200, events, content_type="text/event-stream")
        async with client.post("/v1/responses", json={}) as response:
            assert await response.content.readany() == events
            assert "content-length" not in response.headers

    async def test_an_event_without_its_blank_line_gets_one(self, client, played):
        played.answers(200, b'data: {"n":1}\n\ndata: [DONE]', content_type="text/event-stream")
        async with client.post("/v1/responses", json={}) as response:
            assert await response.read() == b'data: {"n":1}\n\ndata: [DONE]\n\n'

    async def test_an_answer_without_a_body(self, client, played):
        played.answers(204)
        status, _, body = await raw(client, "DELETE /v1/responses/resp_1 HTTP/1.1", b"")
        assert (status, body) == (204, b"")

    @pytest.mark.parametrize("body", [b"", b"<html>x</html>", b' {"error": {}}'])
    async def test_audio_that_is_none_is_an_error(self, client, played, body):
        played.answers(200, body, content_type="audio/mpeg")
        async with client.post("/v1/audio/speech", json={"model": "x"}) as response:
            assert (response.status, await code_of(response)) == (502, "upstream_bad_response")

    async def test_samples_may_begin_with_any_byte(self, client, played):
        body = b"<{" + bytes(range(200, 256))
        played.answers(200, body, content_type="audio/pcm")
        async with client.post("/v1/audio/speech", json={"model": "x"}) as response:
            assert await response.read() == body

    async def test_a_redirect_is_not_followed(self, client, played):
        played.answers(302, location=played.url + "/key/info")
        async with client.post("/v1/embeddings", json={}, allow_redirects=False) as response:
            assert (response.status, await code_of(response)) == (502, "upstream_bad_response")
            assert "location" not in response.headers
        assert len(played.requests) == 1

    async def test_nothing_is_remembered_from_one_client_to_the_next(self, client, played):
        played.answers(200, b"{}", content_type="application/json", set_cookie="a=b")
        for _ in range(2):
            async with client.post("/v1/embeddings", json={}) as response:
                assert "set-cookie" not in response.headers
        assert all(not request.all("cookie") for request in played.requests)


async def test_importing_the_gateway_imports_no_litellm():
    import subprocess
    import sys

    code = "import sys, neev_provider.gateway.app, neev_provider.gateway.worker; print(json.dumps('litellm' in sys.modules))"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "import json; " + code, stdout=subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert json.loads(output) is False
