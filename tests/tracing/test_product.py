"""The traces of the running product, as a collector gets them: OTLP over HTTP from two workers."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from neev_provider.admission.keys import Keys
from neev_provider.store import Store
from tests.proxy.serving import ROOT, descendants, serving

CHAT = "/v1/chat/completions"
CONTENT = "canary-content-7341"
NANOS = 10**9
SERVER, CLIENT = 2, 3
OWN = """
  - model_name: shaky            # falls back to gpt-oss-120b
    litellm_params: {model: neev/gpt-oss-20b, num_retries: 0}
    model_info: {mode: chat, input_cost_per_token: 0.000000075, output_cost_per_token: 0.0000003}

litellm_settings:
"""


@dataclass
class Span:
    """One span as it was received."""

    name: str
    kind: int
    trace: str
    id: str
    parent: str
    seconds: float
    attributes: dict[str, object]
    events: list[str]
    failed: bool
    service: str


@dataclass
class Collector:
    """A real OTLP/HTTP receiver."""

    url: str
    bodies: list[bytes] = field(default_factory=list)

    def spans(self) -> list[Span]:
        found = []
        for body in list(self.bodies):
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                service = next(
                    pair.value.string_value
                    for pair in resource.resource.attributes
                    if pair.key == "service.name"
                )
                found += [span_of(one, service) for scope in resource.scope_spans for one in scope.spans]
        return found

    async def trace(self, trace: str, *, spans: int) -> dict[str, Span]:
        """Return the spans of a trace by their names, once so many are there."""
        async with asyncio.timeout(15):
            while len(found := [span for span in self.spans() if span.trace == trace]) < spans:
                await asyncio.sleep(0.05)
        assert len(found) == spans, found
        return {span.name: span for span in found}


def span_of(one, service: str) -> Span:
    values = {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in one.attributes}
    return Span(
        one.name,
        one.kind,
        one.trace_id.hex(),
        one.span_id.hex(),
        one.parent_span_id.hex(),
        (one.end_time_unix_nano - one.start_time_unix_nano) / NANOS,
        values,
        [event.name for event in one.events],
        one.status.code == 2,
        service,
    )


@contextmanager
def collecting() -> Iterator[Collector]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            collector.bodies.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector = Collector(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield collector
        server.shutdown()
        thread.join()


def own_config(folder: Path, tracing: str) -> Path:
    text = (ROOT / "proxy_config.yaml").read_text()
    for before, after in (
        ("\nlitellm_settings:\n", OWN),
        ("  # fallbacks:", "  fallbacks: [{shaky: [gpt-oss-120b]}]\n  # fallbacks:"),
        ("\nneev:\n", f"\nneev:\n  tracing: {tracing}\n"),
    ):
        assert before in text
        text = text.replace(before, after, 1)
    file = folder / "proxy_config.yaml"
    file.write_text(text)
    return file


@dataclass
class Product:
    """The running product, its collector, and a key of a team."""

    running: object
    collector: Collector
    token: str
    key_id: str

    async def call(self, body: dict, *, path: str = CHAT, token: str | None = None, **headers: str):
        """Ask as a part of a trace of our own; return the trace's id, our span's, and the answer."""
        trace, span = f"{time.time_ns():032x}", "00f067aa0ba902b7"
        sent = {
            "Authorization": f"Bearer {token or self.token}",
            "traceparent": f"00-{trace}-{span}-01",
            "tracestate": "acme=t61rcWkgMzE",
            **headers,
        }
        async with (
            aiohttp.ClientSession(self.running.root_url) as session,
            session.post(path, json=body, headers=sent) as response,
        ):
            return trace, span, response.status, await response.read()


@pytest.fixture(scope="module")
def product(tmp_path_factory):
    folder = tmp_path_factory.mktemp("traced")
    with collecting() as collector:
        config = own_config(folder, f"{{enabled: true, endpoint: '{collector.url}'}}")
        environ = {"OTEL_BSP_SCHEDULE_DELAY": "200"}
        words = ("--workers", "2", "--engine", "echo")
        with serving(folder / "served", *words, config=config, environ=environ) as running:

            async def make() -> object:
                async with Store.from_url(f"unix://{running.state.absolute()}/store/valkey.sock") as store:
                    keys = Keys(store)
                    await keys.create_team({}, team_id="research", by="test")
                    limits = {"alias": "ada", "max_budget": 1}
                    return await keys.create_key(limits, team="research", by="test")

            made = asyncio.run(make())
            yield Product(running, collector, made.token, made.key.id)


def chat(fault: str = "", *, model: str = "gpt-oss-120b", stream: bool = False, rate: int = 0) -> dict:
    first = f"x-neev-fault: {fault}\n" if fault else ""
    echo = "x-neev-echo: tokens=10,prompt-tokens=5" + (f",rate={rate}" if rate else "") + "\n"
    text = first + echo + CONTENT
    return {"model": model, "stream": stream, "messages": [{"role": "user", "content": text}]}


class TestChat:
    @pytest.mark.parametrize("stream", [False, True])
    async def test_is_a_part_of_the_clients_trace(self, product, stream):
        trace, parent, status, _ = await product.call(chat(stream=stream))
        assert status == 200
        spans = await product.collector.trace(trace, spans=3)
        request, call = spans[f"POST {CHAT}"], spans["chat gpt-oss-120b"]
        assert (request.kind, request.parent, request.service) == (SERVER, parent, "neev-gateway")
        assert spans["admission"].parent == call.parent == request.id
        assert (
            request.attributes.items()
            >= {
                "http.request.method": "POST",
                "http.route": CHAT,
                "http.response.status_code": 200,
                "neev.key": product.key_id,
                "neev.key_alias": "ada",
                "neev.team": "research",
                "neev.path": "fast",
                "neev.cost_nano_usd": 5 * 100 + 10 * 500,
            }.items()
        )
        assert call.kind == CLIENT
        assert (
            call.attributes.items()
            >= {
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "neevai",
                "gen_ai.request.model": "gpt-oss-120b",
                "gen_ai.request.stream": stream,
                "gen_ai.usage.input_tokens": 5,
                "gen_ai.usage.output_tokens": 10,
                "http.response.status_code": 200,
                "server.address": "127.0.0.1",
            }.items()
        )
        assert not request.failed
        assert not call.failed
        assert request.seconds >= call.seconds > 0
        assert call.events == (["first chunk"] if stream else [])
        assert ("gen_ai.response.time_to_first_chunk" in call.attributes) is stream

    async def test_shows_every_attempt_of_a_fallback(self, product):
        trace, _, status, _ = await product.call(chat("status=503,times=1,id=once", model="shaky"))
        assert status == 200
        spans = await product.collector.trace(trace, spans=4)
        first, second = spans["chat gpt-oss-20b"], spans["chat gpt-oss-120b"]
        assert first.failed
        assert (
            first.attributes.items()
            >= {"error.type": "upstream_error", "http.response.status_code": 503}.items()
        )
        assert second.attributes["neev.is_fallback"] is True
        assert not second.failed
        assert not spans[f"POST {CHAT}"].failed

    async def test_that_is_refused_says_why(self, product):
        trace, _, status, _ = await product.call({"model": "nobody", "messages": []})
        assert status in {400, 404}
        (request,) = (await product.collector.trace(trace, spans=1)).values()
        assert request.attributes["http.response.status_code"] == status
        assert request.attributes["error.type"]
        assert not request.failed  # the client's fault is no error of a server

    async def test_that_breaks_off_is_an_error(self, product):
        trace, _, _, _ = await product.call(chat("cut-after=2", stream=True))
        spans = await product.collector.trace(trace, spans=3)
        assert spans[f"POST {CHAT}"].failed
        assert spans["chat gpt-oss-120b"].attributes["error.type"].startswith("upstream_")

    async def test_whose_client_leaves_is_ended(self, product):
        trace = f"{time.time_ns():032x}"
        headers = {
            "Authorization": f"Bearer {product.token}",
            "traceparent": f"00-{trace}-00f067aa0ba902b7-01",
        }
        async with (
            aiohttp.ClientSession(product.running.root_url) as session,
            session.post(CHAT, json=chat(stream=True, rate=5), headers=headers) as response,
        ):
            await response.content.readany()
            response.close()
        spans = await product.collector.trace(trace, spans=3)
        assert spans[f"POST {CHAT}"].attributes["neev.client_left"] is True
        assert spans["chat gpt-oss-120b"].attributes["neev.usage_estimated"] is True


class TestOtherRoutes:
    async def test_speech(self, product):
        body = {"model": "tts-1", "voice": "alloy", "input": "Hello."}
        trace, _, status, _ = await product.call(body, path="/v1/audio/speech")
        assert status in {200, 403}
        spans = await product.collector.trace(trace, spans=3 if status == 200 else 2)
        assert "POST /v1/audio/speech" in spans

    async def test_what_litellm_answers(self, product):
        body = {"model": "gpt-oss-120b", "max_tokens": 20, "messages": [{"role": "user", "content": CONTENT}]}
        trace, _, status, _ = await product.call(body, path="/v1/messages")
        assert status == 200
        spans = await product.collector.trace(trace, spans=2)
        assert spans["litellm"].parent == spans["POST /v1/messages"].id
        assert spans["POST /v1/messages"].attributes["neev.path"] == "litellm"

    async def test_a_models_name_is_not_in_the_name_of_a_span(self, product):
        trace = f"{time.time_ns():032x}"
        headers = {
            "Authorization": f"Bearer {product.token}",
            "traceparent": f"00-{trace}-00f067aa0ba902b7-01",
        }
        async with (
            aiohttp.ClientSession(product.running.root_url) as session,
            session.get("/v1/models/gpt-oss-120b", headers=headers) as response,
        ):
            assert response.status == 200
        assert list(await product.collector.trace(trace, spans=1)) == ["GET /v1/models/{model}"]

    async def test_probes_are_not_traced(self, product):
        trace = f"{time.time_ns():032x}"
        async with aiohttp.ClientSession(product.running.root_url) as session:
            for path in ("/healthz", "/readyz"):
                headers = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
                async with session.get(path, headers=headers) as response:
                    assert response.status == 200
        after, _, _, _ = await product.call(chat())
        await product.collector.trace(after, spans=3)
        assert [span for span in product.collector.spans() if span.trace == trace] == []

    async def test_a_client_that_decided_against_is_not_traced(self, product):
        trace = f"{time.time_ns():032x}"
        await product.call(chat(), traceparent=f"00-{trace}-00f067aa0ba902b7-00")
        after, _, _, _ = await product.call(chat())
        await product.collector.trace(after, spans=3)
        assert [span for span in product.collector.spans() if span.trace == trace] == []


def test_no_content_and_no_key_is_ever_sent(product):
    """Last, when all others have asked."""
    assert len(product.collector.spans()) > 20
    everything = b"".join(product.collector.bodies)
    for secret in (CONTENT, product.token, product.token.rpartition("-")[2], product.running.key):
        assert secret.encode() not in everything
    assert b"gen_ai.request.model" in everything


class TestUpstream:
    async def test_gets_the_context_of_its_span(self, tmp_path):
        heads: list[dict[str, str]] = []

        async def answer(request: web.Request) -> web.Response:
            if request.method == "POST":
                heads.append({name.lower(): value for name, value in request.headers.items()})
            said = {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": []}
            return web.json_response({**said, "data": []})

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", answer)
        upstream = TestServer(app)
        await upstream.start_server()
        with collecting() as collector, ExitStack() as stack:
            config = own_config(tmp_path, f"{{enabled: true, endpoint: '{collector.url}'}}")
            environ = {"NEEV_API_KEY": "sk-nc-0", "OTEL_BSP_SCHEDULE_DELAY": "200"}
            words = ("--no-litellm", "--store", "none", "--upstream", str(upstream.make_url("/v1")))
            served = serving(tmp_path / "served", *words, config=config, environ=environ)
            running = await asyncio.to_thread(stack.enter_context, served)
            trace, _, status, _ = await Product(running, collector, running.key, "").call(chat())
            assert status == 200
            spans = await collector.trace(trace, spans=3)
            await asyncio.to_thread(running.stop)
        await upstream.close()
        call = spans["chat gpt-oss-120b"]
        assert heads[0]["traceparent"] == f"00-{trace}-{call.id}-01"
        assert heads[0]["tracestate"] == "acme=t61rcWkgMzE"


class TestACollectorThatIsAway:
    async def test_costs_no_request_and_no_orderly_end(self, tmp_path):
        config = own_config(tmp_path, "{enabled: true, endpoint: 'http://127.0.0.1:9'}")
        words = ("--engine", "echo", "--no-litellm", "--store", "none")
        with serving(tmp_path / "served", *words, config=config) as running:
            product = Product(running, Collector(""), running.key, "")
            for _ in range(20):
                assert (await product.call(chat()))[2] == 200
            began = time.monotonic()
            assert await asyncio.to_thread(running.stop) == 0
            assert time.monotonic() - began < 20  # not the exporter's own half a minute


@pytest.mark.parametrize("is_on", [True, False])
def test_nothing_of_it_is_loaded_while_it_is_off(tmp_path, is_on):
    config = own_config(tmp_path, f"{{enabled: {str(is_on).lower()}}}")
    words = ("--engine", "echo", "--no-litellm", "--store", "none")
    with serving(tmp_path / "served", *words, config=config) as running:
        (worker,) = [
            pid
            for pid in descendants(running.process.pid)
            if b"gateway.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]
        # Protobuf's library, without which nothing is exported.
        assert ("google/_upb" in Path(f"/proc/{worker}/maps").read_text()) is is_on
