"""What is let through to LiteLLM, and what of a request's URL gets there."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neev_provider.gateway.exchange import Limits
from neev_provider.gateway.litellm_path import DEFAULT_ROUTES, LiteLLMPath
from neev_provider.gateway.litellm_routes import passed_query
from tests.litellm_path.serving import KEY

ANSWERED_HERE = ["/key/generate", "/key/info", "/team/new", "/spend/logs"]
ADMIN = [
    *ANSWERED_HERE, "/key/list", "/user/new", "/model/new", "/model/info", "/config/update",
    "/global/spend", "/budget/new", "/credentials", "/cache/flushall", "/organization/new", "/customer/new",
    "/invitation/new", "/get/config/callbacks", "/v1/model/info", "/sso/key/generate", "/v2/login", "/guardrails/list",
]  # fmt: skip
OTHERS = [
    "/", "/docs", "/redoc", "/ui", "/ui/", "/metrics", "/metrics/", "/health/services", "/routes", "/test",
    "/openai/v1/chat/completions", "/openai/chat/completions", "/anthropic/v1/messages", "/vertex_ai/x", "/gemini/x",
    "/bedrock/model/x/invoke", "/azure/x", "/cohere/v1/chat", "/mcp", "/v1/mcp/server", "/utils/transform_request",
    "/v1/files", "/v1/batches", "/v1/fine_tuning/jobs", "/v1/assistants", "/v1/threads", "/v1/realtime", "/v1/vector_stores",
    "/cursor/chat/completions", "/queue/chat/completions", "/v1beta/models/x:generateContent",
]  # fmt: skip
TRICKS = [
    "/v1/embeddings/", "//v1/embeddings", "/v1//embeddings", "/v1/./embeddings", "/v1/../v1/embeddings", "/V1/embeddings",
    "/v1/Embeddings", "/v1/embeddings;x=1", "/v1;x/embeddings", "/v1/embeddings%00", "/v1/embeddings%2f", "/v1%2fembeddings",
    "/%76%31/embeddings", "/v1/embeddings%20", "/v1/embeddings\\", "/v1/engines/../../key/generate", "/engines/%2e%2e/embeddings",
    "/v1/responses/..", "/v1/responses/.", "/v1/responses/a%2f..%2f..%2fkey%2finfo", "/v1/responses/a/../../key/info",
    "/v1/responses/%2e%2e/%2e%2e/key/info", "/v1/responses/a%3fb", "/v1/responses/a%23b", "/v1/responses/a%0d%0ab",
    "/v1/responses/é", "/v1/v1/embeddings", "/v1/embeddings/key/info", "/key/info/v1/embeddings", "/openai/deployments/a/b/embeddings",
    "*", "http://127.0.0.1/key/info", "/v1/messages\u2028", "/engines//embeddings", "/v1/responses//cancel",
]  # fmt: skip
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "post", "")


def path_with(routes=DEFAULT_ROUTES):
    return LiteLLMPath("http://127.0.0.1:9", routes=routes, limits=Limits())


class TestWhatIsLetThrough:
    @pytest.mark.parametrize("route", DEFAULT_ROUTES)
    def test_every_default_route_is_with_and_without_v1(self, route):
        path = route.replace("*", "resp_A-b_1=")
        for prefix in ("", "/v1"):
            assert path_with().methods(prefix + path)

    @pytest.mark.parametrize("path", ADMIN + OTHERS)
    @pytest.mark.parametrize("prefix", ["", "/v1"])
    def test_nothing_else_is(self, path, prefix):
        assert not path_with().methods(prefix + path)

    @pytest.mark.parametrize("path", TRICKS)
    def test_no_second_reading_of_a_path_gets_through(self, path):
        assert not any(path_with().allows(method, path) for method in METHODS)

    @given(st.text(alphabet="/.%;:\\?#vkey12embdings*\x00 ", max_size=30))
    def test_what_gets_through_has_one_reading(self, text):
        path = "/v1/" + text
        if path_with().methods(path):
            assert not set(path) & set("%;\\?#*\x00 ")
            assert not {"", ".", ".."} & set(path.split("/")[1:])

    def test_a_model_may_have_the_usual_characters_in_the_path(self):
        for model in ("gpt-4o", "llama-3.1-8b", "anthropic.claude-v2:1", "my_model@2024"):
            assert path_with().allows("POST", f"/openai/deployments/{model}/chat/completions")

    def test_each_route_has_its_methods(self):
        path = path_with()
        assert path.methods("/v1/embeddings") == ("POST",)
        assert path.methods("/v1/responses/resp_1") == ("DELETE", "GET")
        assert path.methods("/v1/responses/resp_1/input_items") == ("GET",)
        assert path.methods("/v1/responses/compact") == ("POST",)
        assert not path.allows("post", "/v1/embeddings")

    def test_a_configured_list_takes_the_place_of_the_default(self):
        path = path_with(["/v1/files", "/files/*", "/v1beta/models/*"])
        assert path.allows("GET", "/files")
        assert path.allows("DELETE", "/v1/files/file-1")
        assert path.allows("POST", "/v1beta/models/gemini-2:generateContent")
        assert not path.methods("/v1/embeddings")


class TestWhatGetsThere:
    async def test_the_path_as_it_was_sent(self, client, played):
        played.answers(200, b"{}", content_type="application/json")
        async with client.get("/v1/responses/resp_A-b_1=") as response:
            assert response.status == 200
        assert played.requests[0].target == "/v1/responses/resp_A-b_1="

    @pytest.mark.parametrize(
        "path", ADMIN[5:9] + OTHERS[:6] + [trick for trick in TRICKS if trick.startswith("/")]
    )
    async def test_nothing_that_is_not_let_through(self, client, played, path):
        status, _, body = await raw(client, f"POST {path} HTTP/1.1", b"{}")
        assert played.requests == []
        assert status in (400, 404)
        if status == 404:
            assert json.loads(body)["error"]["code"] == "unknown_url"

    @pytest.mark.parametrize("path", ANSWERED_HERE)
    async def test_the_gateways_own_administration_is_not_litellms(self, client, played, path):
        status, _, body = await raw(client, f"POST {path} HTTP/1.1", b"{}")
        assert played.requests == []
        assert (status, json.loads(body)["error"]["code"]) in {
            (403, "admin_only"),
            (405, "method_not_allowed"),
        }

    async def test_an_encoded_path_of_the_gateways_own_is_sent_in_the_clear(self, client, played):
        played.answers(200, b"{}", content_type="application/json")
        status, _, _ = await raw(client, "POST /v1/chat%2Fcompletions HTTP/1.1", b'{"model": "x"}')
        assert status == 200
        assert played.requests[0].target == "/v1/chat/completions"

    async def test_another_method_is_told_which_ones_there_are(self, client, played):
        async with client.delete("/v1/embeddings") as response:
            assert response.status == 405
            assert (await response.json())["error"]["code"] == "method_not_allowed"
        assert played.requests == []

    async def test_no_query_that_could_win_over_the_body(self, client, played):
        played.answers(200, b"{}", content_type="application/json")
        for path in ("/v1/chat/completions", "/openai/deployments/house/chat/completions"):
            target = path + "?api-version=2024-06-01&model=other&m%6Fdel=other&api_base=http://evil&beta=true"
            async with client.post(target, json={"model": "house"}) as response:
                assert response.status == 200
            assert played.requests[-1].target == path

    async def test_paging_of_what_is_read(self, client, played):
        played.answers(200, b"{}", content_type="application/json")
        query = "after=item_1&limit=5&order=asc&include%5B%5D=a.b"
        async with client.get(f"/v1/responses/resp_1/input_items?{query}&model=other") as response:
            assert response.status == 200
        assert played.requests[0].target.partition("?")[2].replace("[]", "%5B%5D") == query

    def test_odd_pairs_of_a_query_stay_behind(self):
        assert passed_query(b"limit=1&order=\xff&after=a b&&=&limit", "GET") == "limit=1&limit"
        assert passed_query(b"model=x;limit=1", "GET") == ""
        assert passed_query(b"stream=true", "POST") == ""


async def raw(client, line: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send a request line that no client library would, and return the answer."""
    host, _, port = str(client._base_url).removeprefix("http://").strip("/").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = (
        f"{line}\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    writer.write(head.encode() + body)
    answer = await reader.read()
    writer.close()
    lines, _, rest = answer.partition(b"\r\n\r\n")
    first, *names = lines.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in names)}
    return int(first.split()[1]), headers, rest
