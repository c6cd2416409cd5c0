"""LiteLLM's errors, in every shape that it was seen to give them, in the contract's words."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neev_provider.errors import ERRORS, RequestError, UpstreamError
from neev_provider.gateway.litellm_answers import error_from_litellm, error_from_object
from neev_provider.litellm_errors import marked

TAIL = "\n\nLiteLLM: model group 'house' failed with the error above. No fallback was attempted."
OLD_TAIL = "\nReceived Model Group=house\nAvailable Model Group Fallbacks=None"
CONTEXT_TAIL = (
    "\nmodel=house. context_window_fallbacks=None. fallbacks=None.\n\n"
    "Set 'context_window_fallback' - https://docs.litellm.ai/docs/routing#fallbacks"
)
ACCOUNT = (
    "The gateway's own account was refused by the model provider. "
    "This is not about your key; please tell the gateway's operator."
)
NO_ENDPOINT = "The model does not serve this endpoint."
TRACE = '\nTraceback (most recent call last):\n  File "/srv/litellm/main.py", line 7949, in x\n    secret()'


def of(message, status=400, **more):
    return status, {"error": {"message": message, "type": "x", "param": None, "code": str(status), **more}}


# What LiteLLM answers, and what it means: code, param, message.
SHAPES = {
    "an unknown route": ((404, {"detail": "Not Found"}), ("unknown_url", None, "There is nothing at this URL. The API's base URL ends in /v1.")),
    "a wrong method": ((405, {"detail": "Method Not Allowed"}), ("method_not_allowed", None, "This method is not possible here.")),
    "a missing form field": (
        (422, {"detail": [{"type": "missing", "loc": ["body", "file"], "msg": "Field required"}]}),
        ("missing_required_parameter", "file", "Field required"),
    ),
    "a wrong form field": (
        (422, {"detail": [{"type": "int_parsing", "loc": ["body", "n"], "msg": "Input should be a valid integer"}]}),
        ("invalid_request", "n", "Input should be a valid integer"),
    ),
    "a broken form": ((400, {"detail": "Invalid multipart data."}), ("invalid_request", None, "Invalid multipart data.")),
    "a detail in an object": ((400, {"detail": {"error": "odd"}}), ("invalid_request", None, "odd")),
    "an error that is text": ((400, {"error": "odd"}), ("invalid_request", None, "odd")),
    "a key that LiteLLM does not know": (of("No connected db.", type="no_db_connection"), ("invalid_api_key", None, "The API key is not known here.")),
    "LiteLLM's own 401": (of("Authentication Error, Invalid proxy server token passed", 401), ("invalid_api_key", None, "The API key is not known here.")),
    "a model that a key may not call": (
        of("key not allowed to access model. This key can only access models=['a']. Tried to access b", 401),
        ("model_not_allowed", None, "This key may not call this model."),
    ),
    "a field that would choose the host": (
        of("Authentication Error, Rejected Request: api_base is not allowed in request body. Clientside passthrough requires ...", 401),
        ("unsupported_parameter", "api_base", "api_base cannot be set in a request; it belongs to the gateway's configuration."),
    ),
    "an unknown model": (
        of("/embeddings: Invalid model name passed in model=nope. Call `/v1/models` to view available models for your key."),
        ("model_not_found", "model", "Invalid model name passed in model=nope."),
    ),
    "an unknown model as Python shows it": (
        of("{'error': '/audio/transcriptions: Invalid model name passed in model=nope. Call `/v1/models` to view ...'}", param="None"),
        ("model_not_found", "model", "Invalid model name passed in model=nope."),
    ),
    "an unknown model for Anthropic's clients": (
        (400, {"type": "error", "error": {"type": "invalid_request_error", "message": "anthropic_messages: Invalid model name passed in model=nope."}}),
        ("model_not_found", "model", "Invalid model name passed in model=nope."),
    ),
    "no model": (of("/embeddings: Invalid model name passed in model=None. Call `/v1/models`"), ("missing_required_parameter", "model", "Invalid model name passed in model=None.")),
    "a missing field": (of("/rerank: Missing required parameter: 'documents'.", param="documents"), ("missing_required_parameter", "documents", "Missing required parameter: 'documents'.")),
    "a model that is no text": (of("'model' must be a string.", param="model"), ("invalid_type", "model", "'model' must be a string.")),
    "an id that is not known": (of("litellm.BadRequestError: You passed in model=None. There are no healthy deployments for this model"), ("invalid_value", None, "No response with this id is known here.")),
    "an id that was never given": (
        of("Forbidden. This response id was not issued by this proxy, so the proxy cannot tell who owns it. To let keys ...", 403),
        ("invalid_value", None, "No response with this id is known here."),
    ),
    "a field of another endpoint": (
        of("litellm.APIConnectionError: APIConnectionError: OpenAIException - litellm.main.completion() got multiple values for keyword argument 'messages'" + TAIL, 500),
        ("invalid_request", None, "LiteLLM could make nothing of the request. Check the form of its fields."),
    ),
    "an endpoint that the model does not serve": (of("litellm.InternalServerError: NeevException - Not implemented yet!" + TAIL, 500), ("invalid_value", "model", NO_ENDPOINT)),
    "the same with a traceback": (of("litellm.APIConnectionError: 'neev' is not a valid LlmProviders" + TRACE, 500), ("invalid_value", "model", NO_ENDPOINT)),
    "the same of a response": (of("litellm.APIConnectionError: COMPACT responses is not supported for neev", 500), ("invalid_value", "model", NO_ENDPOINT)),
    "LiteLLM stumbling over the request": (of("'str' object has no attribute 'get'", 500), ("invalid_request", None, "LiteLLM could make nothing of the request. Check the form of its fields.")),
    "the same with a class and a traceback": (
        of("Invalid request format: litellm.APIConnectionError: 'int' object has no attribute 'get'" + TRACE),
        ("invalid_request", None, "LiteLLM could make nothing of the request. Check the form of its fields."),
    ),
    "LiteLLM failing": ((500, {"error": {"message": "Internal server error", "type": "internal_server_error"}}), ("internal_error", None, "Something went wrong in LiteLLM. Please tell the operator.")),
    "a provider's refusal": (of("litellm.BadRequestError: OpenAIException - The request is not valid." + TAIL), ("invalid_request", None, "The request is not valid.")),
    "a provider's refusal in its own object": (
        of('litellm.BadRequestError: OpenAIException - {"error":{"message":"There is no \\"x\\".","type":"t"}}' + TAIL),
        ("invalid_request", None, 'There is no "x".'),
    ),
    "a provider's refusal as Python shows it": (
        of("litellm.BadRequestError: OpenAIException - Error code: 404 - {'error': {'message': 'There is none.', 'param': None}}" + TAIL, 404),
        ("invalid_request", None, "There is none."),
    ),
    "a provider that refuses the gateway's key": (of("litellm.BadRequestError: OpenAIException - Invalid API key provided: sk-abcdef." + TAIL, 401), ("upstream_auth_error", None, ACCOUNT)),
    "the same with its class": (of("litellm.AuthenticationError: AuthenticationError: OpenAIException - No key" + OLD_TAIL, 401), ("upstream_auth_error", None, ACCOUNT)),
    "a provider that forbids": (of("litellm.APIError: APIError: OpenAIException - You may not." + TAIL, 403), ("upstream_auth_error", None, ACCOUNT)),
    "a provider without the model": (of("litellm.NotFoundError: OpenAIException - The model does not exist." + TAIL, 404), ("model_not_found", None, "The model does not exist.")),
    "a provider's limit": (of("litellm.RateLimitError: RateLimitError: OpenAIException - Slow down." + TAIL, 429), ("upstream_rate_limited", None, "Slow down.")),
    "a provider's limit in our limiter's words": (of("litellm.RateLimitError: OpenAIException - Rate limit exceeded for org." + TAIL, 429), ("upstream_rate_limited", None, "Rate limit exceeded for org.")),
    "a provider's 500": (of("litellm.InternalServerError: InternalServerError: OpenAIException - Oops." + TAIL, 500), ("upstream_error", None, "Oops.")),
    "a provider's 503": (of("litellm.ServiceUnavailableError: OpenAIException - Busy." + OLD_TAIL, 503), ("upstream_error", None, "Busy.")),
    "a provider that is away": (of("litellm.APIConnectionError: OpenAIException - Connection error." + TAIL, 500), ("upstream_unavailable", None, "Connection error.")),
    "a provider that is slow": (of("litellm.Timeout: APITimeoutError - Request timed out." + TAIL, 408), ("upstream_timeout", None, "Request timed out.")),
    "a context that is too long": (
        of("litellm.ContextWindowExceededError: litellm.BadRequestError: ContextWindowExceededError: OpenAIException - Too long." + CONTEXT_TAIL + TAIL),
        ("context_length_exceeded", None, "Too long."),
    ),
    "a content filter": (of("litellm.ContentPolicyViolationError: OpenAIException - Not that." + TAIL), ("invalid_request", None, "Not that.")),
    "a parameter that the provider does not know": (of("litellm.UnsupportedParamsError: openai does not support x" + TAIL), ("unsupported_parameter", None, "openai does not support x")),
    "LiteLLM's limiter": (of("Rate limit exceeded for api_key: 1234. Limit type: requests.", 429), ("rate_limit_exceeded", None, "Rate limit exceeded for api_key: 1234. Limit type: requests.")),
    "LiteLLM's budget": (of("Budget has been exceeded! Current cost: 2.0, Max budget: 1.0", 422, type="budget_exceeded"), ("budget_exceeded", None, "Budget has been exceeded! Current cost: 2.0, Max budget: 1.0")),
    "LiteLLM's budget in another form": (of("ExceededBudget: Key over 30d budget.", 400), ("budget_exceeded", None, "ExceededBudget: Key over 30d budget.")),
    "nobody left to ask": (of("No deployments available for selected model, Try again in 60 seconds. Passed model=house. pre-call-checks=False", 429), ("upstream_rate_limited", None, "No deployments available for selected model, Try again in 60 seconds")),
    "a status that it never gave": (of("Teapot.", 418), ("invalid_request", None, "Teapot.")),
    "another one": (of("Loop.", 508), ("upstream_error", None, "Loop.")),
    "an empty object": ((500, {}), ("upstream_error", None, "The request failed (upstream error).")),
    "null": ((400, None), ("invalid_request", None, "The request failed (invalid request).")),
    "an array": ((503, ["x"]), ("upstream_unavailable", None, "The request failed (upstream unavailable).")),
}  # fmt: skip


class TestShapes:
    @pytest.mark.parametrize("name", SHAPES)
    def test_mean(self, name):
        (status, body), (code, param, message) = SHAPES[name]
        error = error_from_litellm(status, {}, json.dumps(body).encode())
        assert (error.code, error.param, error.message) == (code, param, message)

    @pytest.mark.parametrize(
        "body", [b"", b"<html>x</html>", b"Internal Server Error", b"\xff\xfe", b"{" * 5000, b'{"a":' * 5000]
    )
    @pytest.mark.parametrize("status", [400, 404, 413, 500, 502, 504])
    def test_what_is_no_json_is_read_by_its_status(self, status, body):
        error = error_from_litellm(status, {}, body)
        assert error.code in ERRORS
        assert (error.status >= 500) == (status >= 500)

    @given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(
        st.sampled_from(["error", "message", "detail", "param", "code", "type", "loc", "msg"]), inner)), st.integers(400, 599))  # fmt: skip
    def test_whatever_comes_is_an_error_of_the_contract(self, answer, status):
        error = error_from_object(answer, status)
        assert ERRORS[error.code].status == error.status
        assert 0 < len(error.message) <= 600

    @given(st.text(alphabet="{}'\"errmsag:\\ n", max_size=200))
    def test_a_message_that_looks_like_an_object_takes_no_long_time(self, text):
        error_from_object({"error": {"message": "{" + text}}, 400)

    def test_a_long_message_is_cut(self):
        assert len(error_from_object({"error": {"message": "word " * 10_000}}, 400).message) == 600


class TestWhatLeaksNot:
    @pytest.mark.parametrize(
        "inside",
        [
            "sk-nc-secretkey1234",
            "Bearer abcdefghijklmnop",
            "eyJhbGciOi.eyJzdWIi.c2ln",
            'File "/srv',
            "Traceback",
        ],
    )
    def test_no_key_and_no_traceback(self, inside):
        message = f"litellm.BadRequestError: OpenAIException - It said {inside}.{TRACE}{TAIL}"
        if inside in ("Traceback", 'File "/srv'):
            message = message.replace(f" {inside}", "")
        assert inside not in error_from_object({"error": {"message": message}}, 400).message

    @pytest.mark.parametrize("name", SHAPES)
    def test_no_word_about_litellms_inside(self, name):
        (status, body), _ = SHAPES[name]
        message = error_from_litellm(status, {}, json.dumps(body).encode()).message
        for inside in (
            "litellm.",
            "Exception - ",
            "model group",
            "Traceback",
            "fallback",
            "docs.litellm.ai",
            "/srv",
            "models=[",
        ):
            assert inside not in message


class TestOurOwn:
    """What our adapter, plugin and key check raise inside LiteLLM comes out as the fast path would have said it."""

    @pytest.mark.parametrize("code", ERRORS)
    @pytest.mark.parametrize(
        "before", ["", "litellm.BadRequestError: ", "litellm.MidStreamFallbackError: litellm.Timeout: "]
    )
    @pytest.mark.parametrize("after", ["", TAIL, OLD_TAIL, CONTEXT_TAIL + TAIL, TRACE])
    def test_every_code_survives(self, code, before, after):
        message = before + marked(RequestError(code, "What is wrong.")) + after
        error = error_from_object({"error": {"message": message, "param": "x"}}, 400)
        assert (error.code, error.message, error.param) == (code, "What is wrong.", "x")

    def test_so_does_the_time_to_wait_where_litellm_loses_the_header(self):
        message = marked(UpstreamError("upstream_rate_limited", "Slow down.", retry_after=6.2))
        error = error_from_object({"error": {"message": message + TAIL}}, 429)
        assert (error.message, error.retry_after) == ("Slow down.", 7.0)

    def test_a_code_that_the_message_quotes_is_none(self):
        message = marked(RequestError("invalid_request", "It says (invalid_json) here"))
        error = error_from_object({"error": {"message": message}}, 400)
        assert (error.code, error.message) == ("invalid_request", "It says (invalid_json) here")

    def test_a_word_in_brackets_that_is_no_code_stays(self):
        error = error_from_object({"error": {"message": "It is odd (somehow_odd)"}}, 400)
        assert (error.code, error.message) == ("invalid_request", "It is odd (somehow_odd)")


class TestWhenToRetry:
    @pytest.mark.parametrize("name", ["retry-after", "llm_provider-retry-after"])
    def test_is_kept(self, name):
        assert error_from_litellm(429, {name: "7"}, b"{}").retry_after == 7

    def test_may_stand_in_the_message(self):
        assert error_from_litellm(*SHAPES_429).retry_after == 60

    def test_is_not_made_up(self):
        assert error_from_litellm(429, {}, b"{}").retry_after is None


SHAPES_429 = (429, {}, json.dumps(SHAPES["nobody left to ask"][0][1]).encode())


class TestAnAnswer:
    async def test_is_an_error_of_the_contract_in_every_respect(self, client, played):
        body = json.dumps({"detail": "Not Found"}).encode()
        played.answers(404, body, content_type="text/html", x_litellm_key_spend="1.0", retry_after="3")
        async with client.post("/v1/embeddings", json={}, headers={"X-Request-Id": "mine"}) as response:
            assert response.status == 404
            assert response.headers["content-type"] == "application/json"
            assert response.headers["x-request-id"] == "mine"
            assert response.headers["x-neev-path"] == "litellm"
            assert response.headers["retry-after"] == "3"
            assert "x-litellm-key-spend" not in response.headers
            assert (await response.json())["error"] == {
                "message": "There is nothing at this URL. The API's base URL ends in /v1.",
                "type": "invalid_request_error", "param": None, "code": "unknown_url",
            }  # fmt: skip

    async def test_is_read_whole_however_it_arrives(self, client, played):
        from aiohttp import web

        async def answer(request):
            response = web.StreamResponse(status=400, headers={"Content-Type": "application/json"})
            await response.prepare(request)
            for byte in json.dumps(of("/rerank: Missing required parameter: 'x'.", param="x")[1]).encode():
                await response.write(bytes([byte]))
            return response

        played.answer = answer
        async with client.post("/v1/rerank", json={}) as response:
            assert (await response.json())["error"]["param"] == "x"

    async def test_that_is_endless_is_not_read_to_its_end(self, client, played):
        played.answers(500, b"x" * 20_000_000)
        async with client.post("/v1/embeddings", json={}) as response:
            assert (await response.json())["error"]["code"] == "upstream_error"


def event(body, name=None) -> bytes:
    head = b"" if name is None else b"event: " + name.encode() + b"\n"
    return head + b"data: " + json.dumps(body).encode() + b"\n\n"


class TestErrorEvents:
    MARKED = "litellm.BadGatewayError: It broke. (upstream_bad_response)" + TAIL
    SHOWN = {"message": "It broke.", "type": "upstream_error", "param": None, "code": "upstream_bad_response"}

    async def relayed(self, client, played, sent: bytes, path="/v1/responses") -> bytes:
        played.answers(200, event({"n": 1}) + sent, content_type="text/event-stream")
        async with client.post(path, json={}) as response:
            return (await response.read()).removeprefix(event({"n": 1}))

    async def test_openais(self, client, played):
        sent = event({"error": {"message": self.MARKED, "type": None, "param": None, "code": "502"}})
        got = await self.relayed(client, played, sent)
        assert json.loads(got.removeprefix(b"data: ")) == {"error": self.SHOWN}

    async def test_anthropics(self, client, played):
        sent = event({"type": "error", "error": {"type": "api_error", "message": self.MARKED}}, "error")
        name, data, *_ = (await self.relayed(client, played, sent, "/v1/messages")).split(b"\n")
        assert name == b"event: error"
        assert json.loads(data.removeprefix(b"data: ")) == {"type": "error", "error": self.SHOWN}

    async def test_of_a_response(self, client, played):
        response = {"id": "resp_1", "status": "failed", "error": {"code": "502", "message": self.MARKED}}
        sent = event(
            {"type": "response.failed", "response": response, "sequence_number": 3}, "response.failed"
        )
        name, data, *_ = (await self.relayed(client, played, sent)).split(b"\n")
        assert name == b"event: response.failed"
        shown = {**response, "error": {"code": "upstream_bad_response", "message": "It broke."}}
        assert json.loads(data.removeprefix(b"data: ")) == {
            "type": "response.failed", "response": shown, "sequence_number": 3,
        }  # fmt: skip

    async def test_as_text(self, client, played):
        got = await self.relayed(client, played, event({"error": "odd"}))
        assert json.loads(got.removeprefix(b"data: "))["error"]["message"] == "odd"

    @pytest.mark.parametrize(
        "body",
        [
            {"error": None},
            {"response": {"error": None}},
            {"delta": '"error"'},
            {"a": {"error": {"message": "x"}}},
            ["error"],
            "error",
        ],
    )
    async def test_are_told_from_what_is_none(self, client, played, body):
        assert await self.relayed(client, played, event(body)) == event(body)
