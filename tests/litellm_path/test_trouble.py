"""LiteLLM away, slow or dying, and clients that leave."""

from __future__ import annotations

import asyncio
import contextlib
import json

import aiohttp
import pytest
from aiohttp import web

from neev_provider.deployment import Timeouts
from neev_provider.gateway.exchange import Limits
from neev_provider.gateway.litellm_path import LiteLLMPath
from tests.litellm_path.serving import KEY, MASTER_KEY, gateway_before, playing, scripted, session_of
from tests.litellm_path.test_bodies import UPLOAD, send
from tests.proxy.serving import free_port

EVENT = b'data: {"n":1}\n\n'


@contextlib.asynccontextmanager
async def client_of(url, **timeouts):
    path = LiteLLMPath(url, limits=Limits(), forward_key=MASTER_KEY, timeouts=Timeouts(**timeouts))
    async with gateway_before(path) as own, session_of(own) as session:
        yield session


async def error_of(response: aiohttp.ClientResponse) -> dict:
    assert response.content_type == "application/json"
    return (await response.json())["error"]


def streaming(first: bytes, media: str = "text/event-stream"):
    """An answer that begins and then stalls."""

    async def answer(request):
        response = web.StreamResponse(headers={"Content-Type": media})
        await response.prepare(request)
        if first:
            await response.write(first)
        await asyncio.Event().wait()

    return answer


def writes(data: bytes):
    """A server that answers with these bytes and breaks the connection off."""

    async def answer(_, writer):
        writer.write(data)
        await writer.drain()

    return answer


def head(media: str, framing: str = "Transfer-Encoding: chunked") -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Type: {media}\r\n{framing}\r\n\r\n".encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class TestLiteLLMIsAway:
    async def test_503_in_our_shape_and_when_to_try_again(self):
        async with (
            client_of(f"http://127.0.0.1:{free_port()}") as client,
            client.post("/v1/embeddings", json={}) as response,
        ):
            assert response.status == 503
            assert response.headers["retry-after"] == "5"
            assert await error_of(response) == {
                "message": "LiteLLM, which serves this request, is still starting. Try again in a moment.",
                "type": "server_error", "param": None, "code": "litellm_unavailable",
            }  # fmt: skip

    @pytest.mark.parametrize(
        "answer",
        [
            b"", b"HTTP/1.1 2", b"nonsense\r\n\r\n", head("application/json"), head("application/json", "Content-Length: 5"),
            head("text/event-stream"), head("audio/mpeg"), head("application/json") + b"zz\r\n",
            b"HTTP/1.1 500 x\r\nContent-Length: 100\r\n\r\n{",
        ],
    )  # fmt: skip
    async def test_or_dies_before_a_first_byte(self, answer):
        async with scripted(to=writes(answer)) as url, client_of(url) as client:
            async with client.post("/v1/embeddings", json={}) as response:
                assert (response.status, (await error_of(response))["code"]) == (503, "litellm_unavailable")
                assert response.headers["x-neev-path"] == "litellm"

    @pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
    async def test_or_dies_in_the_middle_of_events(self, path):
        async with (
            scripted(to=writes(head("text/event-stream") + chunk(EVENT + b"data: {"))) as url,
            client_of(url) as client,
        ):
            async with client.post(path, json={"model": "x"}) as response:
                assert response.status == 200
                first, second = (await response.read()).split(b"\n\n")[:2]
        assert first + b"\n\n" == EVENT
        *name, data = second.split(b"\n")
        assert json.loads(data.removeprefix(b"data: "))["error"]["code"] == "litellm_unavailable"
        assert name == ([b"event: error"] if path.endswith("messages") else [])

    @pytest.mark.parametrize("framing", ["Transfer-Encoding: chunked", "Content-Length: 10"])
    async def test_or_dies_in_the_middle_of_another_answer(self, framing):
        part = chunk(b"abc") if "chunked" in framing else b"abc"
        async with scripted(to=writes(head("audio/mpeg", framing) + part)) as url, client_of(url) as client:
            async with client.post("/v1/embeddings", json={}) as response:
                assert response.status == 200
                with pytest.raises(aiohttp.ClientPayloadError):
                    await response.read()

    async def test_is_noticed_and_so_is_its_return(self):
        port = free_port()
        path = LiteLLMPath(f"http://127.0.0.1:{port}", limits=Limits(), forward_key=MASTER_KEY)
        watching = asyncio.create_task(path.run())
        try:
            async with gateway_before(path) as url, session_of(url) as client:
                assert (path.ready, path.was_ready) == (False, False)
                async with client.get("/readyz") as response:
                    assert (response.status, (await response.json())["litellm"]) == (503, "starting")
                alive = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                async with scripted(to=writes(alive)) as other:
                    path._base_url = other  # the port is not ours to choose there
                    await until(lambda: path.ready)
                await until(lambda: not path.ready, by=lambda: client.post("/v1/embeddings", json={}))
                assert path.was_ready
                async with client.get("/readyz") as response:
                    assert (response.status, (await response.json())["litellm"]) == (200, "down")
                async with client.post("/v1/embeddings", json={}) as response:
                    assert "is not answering" in (await error_of(response))["message"]
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)


async def until(condition, *, by=None) -> None:
    async with asyncio.timeout(10):
        while not condition():
            if by is not None:
                async with by():
                    pass
            await asyncio.sleep(0.02)


class TestLiteLLMIsSlow:
    async def test_504_when_nothing_comes_at_all(self, played):
        played.answer = streaming(b"")
        async with (
            client_of(played.url, total=0.3) as client,
            client.post("/v1/embeddings", json={}) as response,
        ):
            assert (response.status, (await error_of(response))["code"]) == (504, "upstream_timeout")
        await asyncio.wait_for(played.gone.wait(), 5)

    async def test_504_when_nothing_comes_after_the_head(self, played):
        played.answer = streaming(b"", "application/json")
        async with (
            client_of(played.url, idle=0.3) as client,
            client.post("/v1/embeddings", json={}) as response,
        ):
            assert (response.status, (await error_of(response))["code"]) == (504, "upstream_timeout")
        await asyncio.wait_for(played.gone.wait(), 5)

    @pytest.mark.parametrize("timeouts", [{"idle": 0.3}, {"total": 0.3}])
    async def test_an_event_tells_when_events_stop(self, played, timeouts):
        played.answer = streaming(EVENT)
        async with (
            client_of(played.url, **timeouts) as client,
            client.post("/v1/responses", json={}) as response,
        ):
            first, second = (await response.read()).split(b"\n\n")[:2]
        assert first + b"\n\n" == EVENT
        assert json.loads(second.removeprefix(b"data: "))["error"]["code"] == "upstream_timeout"
        await asyncio.wait_for(played.gone.wait(), 5)

    async def test_another_answer_is_broken_off(self, played):
        played.answer = streaming(b"abc", "audio/mpeg")
        async with (
            client_of(played.url, idle=0.3) as client,
            client.post("/v1/embeddings", json={}) as response,
        ):
            assert response.status == 200
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()

    async def test_an_event_that_never_ends_is_an_error(self, played):
        played.answers(200, EVENT + b"data: " + b"x" * 5_000_000, content_type="text/event-stream")
        async with client_of(played.url) as client, client.post("/v1/responses", json={}) as response:
            events = (await response.read()).split(b"\n\n")
        assert json.loads(events[-2].removeprefix(b"data: "))["error"]["code"] == "upstream_bad_response"


class TestAClientThatLeaves:
    """LiteLLM is let go at once, whatever stage it is at."""

    REQUEST = "POST /v1/embeddings HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 2"

    @pytest.mark.parametrize(
        ("answer", "after"),
        [(streaming(b""), b""), (streaming(EVENT), EVENT), (streaming(b"abc", "audio/mpeg"), b"abc")],
    )
    async def test_while_it_is_answered(self, client, played, answer, after):
        played.answer = answer
        reader, writer = await send(str(client._base_url).rstrip("/"), self.REQUEST, b"{}")
        received = b""
        while after and after not in received:
            received += await reader.read(1000)
        await until(lambda: played.requests)
        writer.transport.abort()
        await asyncio.wait_for(played.gone.wait(), 1)

    async def test_while_it_sends(self, client, played):
        arrived = asyncio.Event()

        async def answer(request):
            await request.content.readany()
            arrived.set()
            await request.content.read()

        played.answer, played.reads_body = answer, False
        line = (
            f"POST {UPLOAD} HTTP/1.1\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: 1000"
        )
        _, writer = await send(str(client._base_url).rstrip("/"), line, b"part")
        await arrived.wait()
        writer.transport.abort()
        await asyncio.wait_for(played.gone.wait(), 1)

    async def test_the_next_one_is_served(self, client, played):
        await self.test_while_it_is_answered(client, played, streaming(EVENT), EVENT)
        played.answers(200, b"{}", content_type="application/json")
        async with client.post("/v1/embeddings", json={}) as response:
            assert response.status == 200

    async def test_an_answer_before_the_whole_request_came_is_passed_on(self, client, played):
        async def answer(request):
            await request.content.readany()
            return web.json_response({"detail": "Too much."}, status=413)

        played.answer, played.reads_body = answer, False
        line = (
            f"POST {UPLOAD} HTTP/1.1\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: 1000"
        )
        reader, writer = await send(str(client._base_url).rstrip("/"), line, b"part")
        assert b" 413 " in await asyncio.wait_for(reader.readline(), 5)
        writer.close()


class TestManyAtOnce:
    async def test_none_waits_for_another(self, client):
        """A hundred answers are open at the same time."""
        opened, everyone = [], asyncio.Event()

        async def answer(_):
            opened.append(1)
            if len(opened) == 100:
                everyone.set()
            await everyone.wait()
            return web.json_response({})

        async with playing() as played:
            played.answer = answer
            async with client_of(played.url) as many:
                connector = aiohttp.TCPConnector(limit=0)
                headers = {"Authorization": f"Bearer {KEY}"}
                async with aiohttp.ClientSession(
                    many._base_url, connector=connector, headers=headers
                ) as session:

                    async def one():
                        async with session.post("/v1/embeddings", json={}) as response:
                            return response.status

                    assert await asyncio.gather(*(one() for _ in range(100))) == [200] * 100
