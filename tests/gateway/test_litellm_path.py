"""What is not NeevAI's API goes through LiteLLM: streamed both ways, its headers and errors made ours."""

from __future__ import annotations

import asyncio
import io
import json

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from tests.gateway.litellm_stub import KEY, gateway_before

EMBEDDINGS = "/v1/embeddings"


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory):
    async with gateway_before(tmp_path_factory.mktemp("gateway"), max_body_bytes=1_000_000) as gateway:
        yield gateway


@pytest.fixture
def gateway(running):
    """The one gateway of this file, without memory of the test before."""
    running.litellm.requests.clear()
    running.litellm.handler = None
    return running


async def ok(request: web.Request) -> web.Response:
    await request.read()
    return web.json_response({"ok": True})


async def error_of(response: aiohttp.ClientResponse) -> tuple[int, str]:
    body = await response.json()
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert response.headers["x-request-id"]
    return response.status, body["error"]["code"]


class TestRoutes:
    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("POST", "/v1/embeddings"),
            ("POST", "/embeddings"),
            ("POST", "/v1/messages"),
            ("POST", "/v1/responses"),
            ("GET", "/v1/responses/resp_abc=="),
            ("DELETE", "/v1/responses/resp_1"),
            ("POST", "/v1/responses/resp_1/cancel"),
            ("POST", "/v1/audio/transcriptions"),
            ("POST", "/engines/house/chat/completions"),
            ("POST", "/openai/deployments/house/chat/completions"),
        ],
    )
    async def test_llm_routes_are_let_through_as_they_are(self, gateway, method, path):
        gateway.litellm.handler = ok
        body = b"{}" if method == "POST" else None
        async with gateway.session.request(
            method, path, data=body, headers={"Content-Type": "application/json"}
        ) as response:
            assert response.status == 200, await response.text()
            assert response.headers["x-neev-path"] == "litellm"
        (request,) = gateway.litellm.requests
        assert (request.method, request.raw_path) == (method, path)

    @pytest.mark.parametrize(
        "path",
        [
            "/v1/key/generate", "/user/new", "/model/new", "/config/update", "/global/spend", "/ui",
            "/ui/", "/", "/docs", "/metrics", "/health", "/v1/files", "/v1/batches", "/anthropic/v1/messages",
            "/vertex_ai/x", "/openai/v1/models", "/sso/key/generate", "/v1/embeddings/", "/v1/EMBEDDINGS", "//v1/embeddings",
            "/v1//embeddings", "/v1/embeddings/../../key/generate", "/v1/embeddings/%2e%2e/%2e%2e/key/generate",
            "/v1/responses/..", "/v1/responses/%2e%2e", "/v1/responses/a%2Fb", "/v1/responses/a;b", "/v1/responses/a%00",
            "/v1/embeddings%00", "/v1/v1/embeddings", "/engines/../key/generate",
        ],
    )  # fmt: skip
    async def test_nothing_else_is(self, gateway, path):
        gateway.litellm.handler = ok
        host, _, port = gateway.url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}"
        writer.write(head.encode())
        answer = await reader.read()
        writer.close()
        assert b" 404 " in answer.split(b"\r\n")[0]
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "unknown_url"
        assert gateway.litellm.requests == []

    async def test_another_method_is_a_405(self, gateway):
        async with gateway.session.put(EMBEDDINGS, json={}) as response:
            assert await error_of(response) == (405, "method_not_allowed")

    async def test_without_a_key_nothing_reaches_litellm(self, gateway):
        async with gateway.session.post(
            EMBEDDINGS, json={}, headers={"Authorization": "Bearer x"}
        ) as response:
            assert await error_of(response) == (401, "invalid_api_key")
        assert gateway.litellm.requests == []


class TestRequestHeaders:
    async def test_litellm_sees_our_key_and_none_of_the_clients(self, gateway):
        gateway.litellm.handler = ok
        hostile = {
            "X-Api-Key": "a", "api-key": "b", "x-goog-api-key": "c", "x-litellm-api-key": "d", "Cookie": "token=e",
            "Ocp-Apim-Subscription-Key": "f", "X-Forwarded-For": "g", "Forwarded": "for=h", "x-litellm-customer-id": "i",
            "x-pass-authorization": "j", "x-litellm-agent-id": "k",
        }  # fmt: skip
        async with gateway.session.post(EMBEDDINGS, json={}, headers=hostile) as response:
            assert response.status == 200
        (request,) = gateway.litellm.requests
        assert request.headers.getall("Authorization") == [f"Bearer {KEY}"]
        theirs = {name.lower() for name in hostile} - {"x-forwarded-for"}
        assert not theirs & {name.lower() for name in request.headers}
        assert request.headers["x-forwarded-for"] == "127.0.0.1"

    async def test_what_is_harmless_is_kept(self, gateway):
        gateway.litellm.handler = ok
        kept = {
            "anthropic-version": "2023-06-01",
            "x-litellm-timeout": "5",
            "User-Agent": "x/1",
            "traceparent": "00-1-2-01",
        }
        async with gateway.session.post(
            EMBEDDINGS, json={}, headers={**kept, "x-request-id": "mine"}
        ) as response:
            assert response.headers["x-request-id"] == "mine"
        (request,) = gateway.litellm.requests
        assert {name: request.headers[name] for name in kept} == kept
        assert request.headers["x-request-id"] == "mine"

    async def test_what_is_for_one_hop_ends_there(self, gateway):
        gateway.litellm.handler = ok
        hop = {
            "Connection": "keep-alive, X-Mine",
            "X-Mine": "1",
            "TE": "trailers",
            "Proxy-Authorization": "x",
        }
        async with gateway.session.post(EMBEDDINGS, json={}, headers=hop) as response:
            assert response.status == 200
        (request,) = gateway.litellm.requests
        assert not {"x-mine", "te", "proxy-authorization"} & {name.lower() for name in request.headers}

    async def test_anthropics_way_to_send_a_key_works(self, gateway):
        gateway.litellm.handler = ok
        async with (
            aiohttp.ClientSession(gateway.url, headers={"x-api-key": KEY}) as session,
            session.post("/v1/messages", json={}) as response,
        ):
            assert response.status == 200


class TestAnswerHeaders:
    async def test_litellms_inner_affairs_are_kept_back(self, gateway):
        async def answer(request: web.Request) -> web.Response:
            inner = {
                "x-litellm-model-api-base": "https://host", "x-litellm-key-spend": "1", "llm_provider-x": "1",
                "Set-Cookie": "a=b", "x-litellm-call-id": "c1", "x-litellm-response-cost": "0.0000015", "Server": "uvicorn",
            }  # fmt: skip
            return web.json_response({}, headers=inner)

        gateway.litellm.handler = answer
        async with gateway.session.post(EMBEDDINGS, json={}) as response:
            names = {name.lower() for name in response.headers}
            assert (
                not {
                    "x-litellm-model-api-base",
                    "x-litellm-key-spend",
                    "llm_provider-x",
                    "set-cookie",
                    "server",
                }
                & names
            )
            assert response.headers["x-litellm-call-id"] == "c1"
            assert response.headers["x-neev-cost-usd"] == "0.000001500"


class TestBodies:
    async def test_files_are_passed_on_as_they_arrive(self, gateway):
        seen = asyncio.Queue()

        async def answer(request: web.Request) -> web.Response:
            async for data in request.content.iter_any():
                seen.put_nowait(data)
            return web.json_response({})

        async def arriving():
            yield b"--x\r\n"
            assert await seen.get() == b"--x\r\n"  # LiteLLM has the first part before the second is sent
            yield b"second"

        gateway.litellm.handler = answer
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        async with gateway.session.post(
            "/v1/audio/transcriptions", data=arriving(), headers=headers
        ) as response:
            assert response.status == 200
        assert await seen.get() == b"second"

    @pytest.mark.parametrize("declared", [True, False])
    async def test_a_file_that_is_too_large_is_a_413(self, gateway, declared):
        gateway.litellm.handler = ok

        async def arriving():
            for _ in range(20):
                yield b"x" * 100_000

        data = io.BytesIO(b"x" * 2_000_000) if declared else arriving()
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        async with gateway.session.post("/v1/audio/transcriptions", data=data, headers=headers) as response:
            assert await error_of(response) == (413, "request_too_large")

    @pytest.mark.parametrize(
        ("body", "code"), [(b"null", "invalid_type"), (b"[1]", "invalid_type"), (b"{", "invalid_json")]
    )
    async def test_what_is_no_json_object_does_not_reach_litellm(self, gateway, body, code):
        async with gateway.session.post(
            EMBEDDINGS, data=body, headers={"Content-Type": "application/json"}
        ) as response:
            assert await error_of(response) == (400, code)
        assert gateway.litellm.requests == []

    @pytest.mark.parametrize("field", ["api_base", "api_key", "extra_headers"])
    async def test_a_client_cannot_choose_host_or_key(self, gateway, field):
        async with gateway.session.post(EMBEDDINGS, json={"model": "x", field: "y"}) as response:
            assert await error_of(response) == (400, "unsupported_parameter")
        assert gateway.litellm.requests == []

    async def test_another_media_type_is_a_415(self, gateway):
        async with gateway.session.post(
            EMBEDDINGS, data=b"<x/>", headers={"Content-Type": "text/xml"}
        ) as response:
            assert await error_of(response) == (415, "unsupported_media_type")


class TestStreams:
    async def test_a_chunk_is_passed_on_before_the_next_is_there(self, gateway):
        proceed = asyncio.Event()

        async def answer(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await response.prepare(request)
            await response.write(b'data: {"n": 1}\n\n')
            await proceed.wait()
            await response.write(b": comment\n\ndata: [DONE]\n\n")
            return response

        gateway.litellm.handler = answer
        async with gateway.session.post("/v1/responses", json={}) as response:
            assert await response.content.readany() == b'data: {"n": 1}\n\n'
            proceed.set()
            assert await response.content.read() == b": comment\n\ndata: [DONE]\n\n"

    @pytest.mark.parametrize("stage", ["before the answer", "in the middle"])
    async def test_a_client_that_leaves_takes_the_request_with_it(self, gateway, stage):
        at_work, cancelled = asyncio.Event(), asyncio.Event()

        async def answer(request: web.Request) -> web.StreamResponse:
            try:
                if stage == "in the middle":
                    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
                    await response.prepare(request)
                    await response.write(b"data: {}\n\n")
                at_work.set()
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.set()
                raise

        gateway.litellm.handler = answer
        asking = asyncio.create_task(gateway.session.post("/v1/responses", json={}))
        await at_work.wait()
        if stage == "in the middle":
            (await asking).close()
        else:
            asking.cancel()
        async with asyncio.timeout(5):
            await cancelled.wait()

    async def test_an_error_event_is_put_into_our_words(self, gateway):
        async def answer(request: web.Request) -> web.Response:
            error = {
                "message": "litellm.BadGatewayError: It broke. (upstream_bad_response)",
                "type": None,
                "code": "502",
            }
            text = 'data: {"id": 1}\n\ndata: ' + json.dumps({"error": error}) + "\n\n"
            return web.Response(text=text, content_type="text/event-stream")

        gateway.litellm.handler = answer
        async with gateway.session.post("/v1/completions", json={}) as response:
            events = (await response.text()).split("\n\n")
        assert events[0] == 'data: {"id": 1}'
        assert json.loads(events[1].removeprefix("data: "))["error"] == {
            "message": "It broke.", "type": "upstream_error", "param": None, "code": "upstream_bad_response",
        }  # fmt: skip

    async def test_a_stream_that_breaks_off_ends_with_an_error_event(self, gateway):
        async def answer(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await response.prepare(request)
            await response.write(b"data: {}\n\n")
            request.transport.abort()
            return response

        gateway.litellm.handler = answer
        async with gateway.session.post("/v1/completions", json={}) as response:
            text = await response.text()
        assert '"code":"litellm_unavailable"' in text
        assert "[DONE]" not in text

    async def test_a_whole_answer_that_breaks_off_is_not_made_to_look_whole(self, gateway):
        async def answer(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse(
                headers={"Content-Type": "application/json", "Content-Length": "100"}
            )
            await response.prepare(request)
            await response.write(b'{"half')
            await asyncio.sleep(0)
            request.transport.close()
            return response

        gateway.litellm.handler = answer
        with pytest.raises(aiohttp.ClientPayloadError):
            async with gateway.session.post(EMBEDDINGS, json={}) as response:
                await response.read()

    @pytest.mark.parametrize("content", [b"", b"<html>", b'{"error": 1}'])
    async def test_audio_that_is_none_is_a_502(self, gateway, content):
        async def answer(request: web.Request) -> web.Response:
            return web.Response(body=content, content_type="audio/mpeg")

        gateway.litellm.handler = answer
        async with gateway.session.post("/v1/images/generations", json={}) as response:  # any route
            assert await error_of(response) == (502, "upstream_bad_response")

    async def test_a_redirect_is_not_followed(self, gateway):
        async def answer(request: web.Request) -> web.Response:
            return web.Response(status=307, headers={"Location": "http://127.0.0.1:1/"})

        gateway.litellm.handler = answer
        async with gateway.session.post(EMBEDDINGS, json={}) as response:
            assert await error_of(response) == (502, "upstream_bad_response")


class TestLiteLLMAway:
    async def test_until_it_is_up_its_routes_are_a_503_and_the_fast_path_serves(self, tmp_path):
        async with gateway_before(tmp_path, up=False) as gateway:
            async with gateway.session.post(EMBEDDINGS, json={}) as response:
                assert await error_of(response) == (503, "litellm_unavailable")
                assert int(response.headers["retry-after"]) > 0
                assert "still starting" in (await response.json())["error"]["message"]
            async with gateway.session.get("/readyz") as response:
                assert (response.status, await response.json()) == (
                    503,
                    {"status": "starting", "litellm": "starting"},
                )
            async with gateway.session.get("/v1/models") as response:
                assert response.status == 200
            async with gateway.session.get("/healthz") as response:
                assert response.status == 200
            await gateway.litellm.start()
            await gateway.until_state("ok")
            gateway.litellm.handler = ok
            async with gateway.session.post(EMBEDDINGS, json={}) as response:
                assert response.status == 200

    async def test_when_it_goes_the_gateway_stays_ready(self, gateway):
        gateway.litellm.handler = ok
        await gateway.litellm.stop()
        async with gateway.session.post(EMBEDDINGS, json={}) as response:
            assert await error_of(response) == (503, "litellm_unavailable")
        await gateway.until_state("down")
        async with gateway.session.get("/readyz") as response:
            assert (response.status, await response.json()) == (200, {"status": "ok", "litellm": "down"})
        await gateway.litellm.start()
        await gateway.until_state("ok")

    async def test_one_that_ends_while_it_answers_is_a_503(self, gateway):
        async def answer(request: web.Request) -> web.StreamResponse:
            request.transport.abort()
            await asyncio.Event().wait()

        gateway.litellm.handler = answer
        async with gateway.session.post(EMBEDDINGS, json={}) as response:
            assert await error_of(response) == (503, "litellm_unavailable")
