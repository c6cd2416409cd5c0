"""LiteLLM's errors, as it was seen to write them, in the contract's words."""

from __future__ import annotations

import json

import pytest

from neev_provider.gateway.litellm_answers import error_from_litellm

TAIL = "\n\nLiteLLM: model group 'house' failed with the error above. No fallback was attempted."


def openai(message: str, code: str = "400", **fields) -> bytes:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code, **fields}
    return json.dumps({"error": error}).encode()


SEEN = [
    # What our own adapter or plugin raised.
    (400, openai("temperature must be a number from 0 to 2. (invalid_value)", param="temperature"),
     (400, "invalid_value", "temperature", "temperature must be a number from 0 to 2.")),
    (502, openai("litellm.AuthenticationError: The account. (upstream_auth_error)" + TAIL, "502", type="upstream_error"),
     (502, "upstream_auth_error", None, "The account.")),
    (503, openai("litellm.ServiceUnavailableError: Gone. (upstream_unavailable)" + TAIL, "503"),
     (503, "upstream_unavailable", None, "Gone.")),
    (400, openai("litellm.ContextWindowExceededError: litellm.BadRequestError: Too long. (context_length_exceeded)\n"
                 "model=house. context_window_fallbacks=None. fallbacks=None.\n\nSet 'context_window_fallback' - https://x" + TAIL,
                 param="messages"), (400, "context_length_exceeded", "messages", "Too long.")),
    # Another provider's.
    (429, openai("litellm.RateLimitError: RateLimitError: OpenAIException - Slow down." + TAIL, "429", type="throttling_error"),
     (429, "upstream_rate_limited", None, "Slow down.")),
    (401, openai("litellm.AuthenticationError: AuthenticationError: OpenAIException - Incorrect API key provided: sk-abc123" + TAIL),
     (502, "upstream_auth_error", None, None)),
    (500, openai("litellm.InternalServerError: InternalServerError: OpenAIException - Fault." + TAIL, "500"),
     (502, "upstream_error", None, "Fault.")),
    (500, openai("litellm.APIConnectionError: OpenAIException - Connection error.." + TAIL, "500"),
     (503, "upstream_unavailable", None, "Connection error..")),
    (408, openai("litellm.Timeout: APITimeoutError - Request timed out." + TAIL, "408"), (504, "upstream_timeout", None, None)),
    (500, openai("litellm.InternalServerError: NeevException - Not implemented yet!" + TAIL, "500"),
     (400, "invalid_value", "model", "The model does not serve this endpoint.")),
    (400, openai("litellm.UnsupportedParamsError: groq does not support x"), (400, "unsupported_parameter", None, None)),
    # The proxy's own.
    (404, b'{"detail":"Not Found"}', (404, "unknown_url", None, None)),
    (405, b'{"detail":"Method Not Allowed"}', (405, "method_not_allowed", None, None)),
    (422, b'{"detail":[{"type":"missing","loc":["body","input"],"msg":"Field required"}]}',
     (400, "missing_required_parameter", "input", "Field required")),
    (400, openai("No connected db.", type="no_db_connection"), (401, "invalid_api_key", None, None)),
    (400, openai("/chat/completions: Invalid model name passed in model=nope. Call `/v1/models` to view available models."),
     (404, "model_not_found", "model", "Invalid model name passed in model=nope.")),
    (400, openai("Invalid JSON payload: unexpected end of data", param="request_body"), (400, "invalid_json", "request_body", None)),
    (429, openai("No deployments available for selected model, Try again in 30 seconds. Passed model=house. pre-call-checks=False"),
     (429, "upstream_rate_limited", None, "No deployments available for selected model, Try again in 30 seconds")),
    (400, json.dumps({"type": "error", "error": {"type": "invalid_request_error",
                      "message": "anthropic_messages: Missing required parameter: 'max_tokens'."}}).encode(),
     (400, "missing_required_parameter", None, "Missing required parameter: 'max_tokens'.")),
    # No shape at all.
    (500, b"Internal Server Error", (502, "upstream_error", None, None)),
    (502, b"<html>nginx</html>", (502, "upstream_error", None, None)),
    (400, b"", (400, "invalid_request", None, None)),
    (418, b"[]", (400, "invalid_request", None, None)),
    (500, b'{"error": "it broke"}', (502, "upstream_error", None, "it broke")),
    (500, b"\xff\xfe", (502, "upstream_error", None, None)),
    (500, b"[" * 5000, (502, "upstream_error", None, None)),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body", "expected"), SEEN)
def test_what_was_seen(status, body, expected):
    error = error_from_litellm(status, {}, body)
    *facts, message = expected
    assert (error.status, error.code, error.param) == tuple(facts)
    assert error.message
    assert message is None or error.message == message
    for inner in ("litellm", "LiteLLM:", "Exception -", "model=house", "Fallback", "sk-abc123", "http"):
        assert inner not in error.message


@pytest.mark.parametrize("name", ["retry-after", "llm_provider-retry-after"])
def test_retry_after_is_kept(name):
    assert error_from_litellm(429, {name: "7"}, openai("x", "429")).headers() == {"retry-after": "7"}


def test_a_cooldown_tells_when_to_come_back():
    error = error_from_litellm(429, {}, openai("No deployments available. Try again in 30 seconds."))
    assert error.headers() == {"retry-after": "30"}


def test_a_long_message_is_cut():
    assert len(error_from_litellm(400, {}, openai("x" * 10_000)).message) <= 600


def test_a_mark_that_is_no_code_is_part_of_the_message():
    error = error_from_litellm(400, {}, openai("litellm.BadRequestError: Use mp3 (not_a_code) please."))
    assert (error.code, error.message) == ("invalid_request", "Use mp3 (not_a_code) please.")
