"""Which headers reach LiteLLM, and which come back."""

from __future__ import annotations

import aiohttp
import pytest

from neev_provider.gateway.exchange import Limits
from neev_provider.gateway.litellm_path import LiteLLMPath
from tests.litellm_path.serving import KEY, MASTER_KEY, gateway_before
from tests.litellm_path.test_routes import raw

CREDENTIALS = (
    "x-goog-api-key",
    "ocp-apim-subscription-key",
    "x-litellm-api-key",
    "litellm_user_api_key",
    "cookie",
)
CONTROLS = (
    "x-litellm-customer-id", "x-litellm-end-user-id", "x-litellm-user-id", "x-litellm-team-id", "x-litellm-agent-id",
    "x-litellm-model", "x-litellm-call-id", "x-litellm-spend-logs-metadata", "x-litellm-disable-callbacks",
    "x-litellm-enable-message-redaction", "litellm-disable-message-redaction", "litellm-changed-by",
    "x-litellm-keepalive-seconds", "x-pass-authorization", "x-mcp-auth", "mcp-session-id", "langfuse_trace_id", "x-neev-fault",
)  # fmt: skip
HARMLESS = {
    "x-litellm-timeout": "2.5", "x-litellm-stream-timeout": "30", "x-litellm-num-retries": "0", "x-litellm-tags": "a,b",
    "x-litellm-trace-id": "t1", "x-litellm-session-id": "s1", "anthropic-version": "2023-06-01", "anthropic-beta": "x-1",
    "openai-beta": "assistants=v2", "user-agent": "mine/1", "x-stainless-lang": "python", "traceparent": "00-1-2-01", "accept": "*/*",
}  # fmt: skip


@pytest.fixture
def asked(client, played):
    """Ask with headers; return what reached LiteLLM."""
    played.answers(200, b"{}", content_type="application/json")

    async def ask(**more):
        async with client.post("/v1/embeddings", json={}, **more) as response:
            assert response.status == 200
        return played.requests[-1]

    return ask


class TestToLiteLLM:
    async def test_the_gateways_key_goes_in_place_of_the_clients(self, asked):
        request = await asked(headers=dict.fromkeys(CREDENTIALS, "sk-mine"))
        assert request.all("authorization") == [f"Bearer {MASTER_KEY}"]
        assert not any(request.all(name) for name in CREDENTIALS)
        assert not any(KEY in value for _, value in request.headers)

    @pytest.mark.parametrize("name", ["x-api-key", "api-key"])
    async def test_clients_may_show_their_key_as_anthropics_or_azures_do(self, played, name):
        played.answers(200, b"{}", content_type="application/json")
        path = LiteLLMPath(played.url, limits=Limits(), forward_key=MASTER_KEY)
        async with gateway_before(path) as url, aiohttp.ClientSession(url) as session:
            async with session.post("/v1/messages", json={}, headers={name: KEY}) as response:
                assert response.status == 200
            async with session.post("/v1/messages", json={}, headers={name: "wrong"}) as response:
                assert response.status == 401
        (request,) = played.requests
        assert request.all("authorization") == [f"Bearer {MASTER_KEY}"]
        assert request.all(name) == []

    async def test_without_a_key_of_the_gateway_the_clients_own_goes_and_no_other(self, played):
        played.answers(200, b"{}", content_type="application/json")
        path = LiteLLMPath(played.url, limits=Limits())
        others = {"x-api-key": "sk-other", "api-key": "sk-third", "x-litellm-api-key": "sk-fourth"}
        async with gateway_before(path) as url, aiohttp.ClientSession(url) as session:
            headers = {"Authorization": f"Bearer {KEY}", **others}
            async with session.post("/v1/messages", json={}, headers=headers) as response:
                assert response.status == 200
        (request,) = played.requests
        assert request.all("authorization") == [f"Bearer {KEY}"]
        assert not any(request.all(name) for name in others)

    async def test_nothing_that_belongs_to_the_connection_goes(self, asked, played):
        request = await asked(
            headers={
                "Connection": "keep-alive, X-Named, x-stainless-os", "Keep-Alive": "timeout=5", "TE": "trailers", "Trailer": "x",
                "Proxy-Authorization": "Basic eDp5", "Proxy-Connection": "keep-alive", "Upgrade": "h2c", "X-Named": "1",
                "X-Stainless-OS": "Linux", "X-Kept": "1",
            }
        )  # fmt: skip
        gone = (
            "keep-alive",
            "te",
            "trailer",
            "proxy-authorization",
            "proxy-connection",
            "upgrade",
            "x-named",
            "x-stainless-os",
        )
        assert not any(request.all(name) for name in gone)
        assert request.all("x-kept") == ["1"]
        assert request.all("host") == [played.url.removeprefix("http://")]
        assert request.all("content-length") == ["2"]
        assert request.all("transfer-encoding") == []
        assert request.all("accept-encoding") == ["identity"]

    async def test_nothing_that_would_speak_for_others_goes(self, asked):
        request = await asked(headers=dict.fromkeys(CONTROLS, "1"))
        assert not any(request.all(name) for name in CONTROLS)

    async def test_what_shapes_the_clients_own_call_goes(self, asked):
        request = await asked(headers=HARMLESS)
        assert {name: request.all(name) for name in HARMLESS} == {
            name: [value] for name, value in HARMLESS.items()
        }

    @pytest.mark.parametrize(
        "value", ["abc", "-1", "0", "0.0", "nan", "inf", "1e9", "", "1 000", "1000000", "\u0661"]
    )
    @pytest.mark.parametrize("name", ["x-litellm-timeout", "x-litellm-stream-timeout"])
    async def test_a_timeout_that_is_none_is_refused(self, client, played, name, value):
        async with client.post("/v1/embeddings", json={}, headers={name: value}) as response:
            assert response.status == 400
            assert (await response.json())["error"] == {
                "message": f"The header {name} must be a number of seconds.",
                "type": "invalid_request_error",
                "param": name,
                "code": "invalid_value",
            }
        assert played.requests == []

    async def test_who_asked_is_the_gateways_to_say(self, asked):
        forged = dict.fromkeys(
            ("X-Forwarded-For", "X-Real-IP", "Forwarded", "X-Forwarded-Host", "X-Forwarded-Port"), "6.6.6.6"
        )
        request = await asked(headers={**forged, "X-Forwarded-Proto": "ftp"})
        assert request.all("x-forwarded-for") == ["127.0.0.1"]
        assert request.all("x-forwarded-proto") == ["http"]
        assert not any(
            request.all(name) for name in ("x-real-ip", "forwarded", "x-forwarded-host", "x-forwarded-port")
        )

    async def test_repeated_headers_stay_repeated(self, asked):
        request = await asked(headers=[("X-Twice", "a"), ("X-Twice", "b")])
        assert request.all("x-twice") == ["a", "b"]

    async def test_the_request_id_goes_along(self, asked):
        assert (await asked(headers={"X-Request-Id": "mine-1"})).all("x-request-id") == ["mine-1"]
        (made,) = (await asked(headers={"X-Request-Id": "not sane!"})).all("x-request-id")
        assert made.startswith("req_")


class TestToTheClient:
    async def test_what_a_client_can_use_comes_back(self, client, played):
        played.answers(
            200, b"abc", content_type="audio/mpeg", content_disposition="inline", cache_control="no-cache",
            x_litellm_call_id="c1", x_litellm_model_group="house", x_ratelimit_remaining_requests="9",
            x_litellm_response_cost="0.00000123", x_litellm_model_name="neev/gpt-oss-120b", anthropic_request_id="a1",
        )  # fmt: skip
        async with client.post("/v1/embeddings", json={}, headers={"X-Request-Id": "mine-1"}) as response:
            headers = {name.lower(): value for name, value in response.headers.items()}
        assert headers == headers | {
            "content-type": "audio/mpeg", "content-disposition": "inline", "cache-control": "no-cache",
            "x-litellm-call-id": "c1", "x-litellm-model-group": "house", "x-ratelimit-remaining-requests": "9",
            "x-neev-cost-usd": "0.000001230", "x-neev-model": "gpt-oss-120b", "x-neev-path": "litellm",
            "x-request-id": "mine-1", "content-length": "3", "anthropic-request-id": "a1",
        }  # fmt: skip

    async def test_what_tells_of_the_inside_does_not(self, client, played):
        inside = dict.fromkeys(("x-litellm-model-api-base", "x-litellm-key-spend", "x-litellm-key-max-budget", "x-litellm-model-id", "x-litellm-model-name", "x-litellm-model-region", "x-litellm-fallback-errors", "x-litellm-end-user-id", "llm_provider-x-request-id", "llm_provider-server", "server", "via", "x-powered-by", "set-cookie", "content-security-policy", "x-frame-options", "location", "www-authenticate"), "http://10.0.0.1 sk-secret")  # fmt: skip
        played.answers(
            200, b"{}", content_type="application/json", **{k.replace("-", "_"): v for k, v in inside.items()}
        )
        async with client.post("/v1/embeddings", json={}) as response:
            assert response.status == 200
            text = str(response.headers).lower()
        assert "secret" not in text
        assert "10.0.0.1" not in text

    @pytest.mark.parametrize("cost", ["nan", "inf", "-1", "none", ""])
    async def test_a_cost_that_is_none_is_not_shown(self, client, played, cost):
        played.answers(200, b"{}", content_type="application/json", x_litellm_response_cost=cost)
        async with client.post("/v1/embeddings", json={}) as response:
            assert "x-neev-cost-usd" not in response.headers

    async def test_headers_of_one_connection_do_not_cross(self, client, played):
        played.answers(
            200, b"{}", content_type="application/json", keep_alive="timeout=5", proxy_authenticate="Basic"
        )
        status, headers, _ = await raw(client, "POST /v1/embeddings HTTP/1.1", b"{}")
        assert status == 200
        assert not {"keep-alive", "proxy-authenticate", "transfer-encoding"} & headers.keys()
