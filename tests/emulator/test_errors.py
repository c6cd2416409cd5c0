"""Documented mode: every bad request is an error of the documented shape, with the documented status."""

from __future__ import annotations

import pytest

CHAT = "/v1/chat/completions"
SPEECH = "/v1/audio/speech"
USER = {"role": "user", "content": "hi"}
TOOL = {"type": "function", "function": {"name": "f"}}


def is_documented(answer):
    error = answer.body["error"]
    return (
        set(answer.body) == {"error"}
        and set(error) == {"message", "type", "param", "code"}
        and error["message"]
    )


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"model": None}, "model", "missing_required_parameter"),
        ({"model": 5}, "model", "invalid_type"),
        ({"model": "gpt-5"}, "model", "model_not_found"),
        ({"model": "tts-1"}, "model", "model_not_found"),
        ({"messages": None}, "messages", "missing_required_parameter"),
        ({"messages": "hi"}, "messages", "invalid_type"),
        ({"messages": []}, "messages", "invalid_value"),
        ({"messages": ["hi"]}, "messages[0]", "invalid_type"),
        ({"messages": [{"role": "wizard", "content": "hi"}]}, "messages[0].role", "invalid_value"),
        ({"messages": [{"role": "developer", "content": "hi"}]}, "messages[0].role", "invalid_value"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "missing_required_parameter"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content", "invalid_value"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "invalid_type"),
        ({"messages": [USER, {"role": "assistant"}]}, "messages[1].content", "missing_required_parameter"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
            "messages[0].content[0].text",
            "invalid_type",
        ),
        ({"temperature": -1}, "temperature", "invalid_value"),
        ({"temperature": 2.01}, "temperature", "invalid_value"),
        ({"temperature": None}, "temperature", "invalid_type"),
        ({"temperature": "1"}, "temperature", "invalid_type"),
        ({"temperature": True}, "temperature", "invalid_type"),
        ({"top_p": -0.1}, "top_p", "invalid_value"),
        ({"top_p": 1.1}, "top_p", "invalid_value"),
        ({"n": 0}, "n", "invalid_value"),
        ({"n": 129}, "n", "invalid_value"),
        ({"n": 1.5}, "n", "invalid_type"),
        ({"stream": "yes"}, "stream", "invalid_type"),
        ({"stop": ["a"] * 5}, "stop", "invalid_value"),
        ({"stop": [1]}, "stop", "invalid_type"),
        ({"max_tokens": 0}, "max_tokens", "invalid_value"),
        ({"max_tokens": "many"}, "max_tokens", "invalid_type"),
        ({"max_completion_tokens": 5}, "max_completion_tokens", "unsupported_parameter"),
        ({"presence_penalty": 2.5}, "presence_penalty", "invalid_value"),
        ({"frequency_penalty": -2.5}, "frequency_penalty", "invalid_value"),
        ({"response_format": {"type": "xml"}}, "response_format.type", "invalid_value"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "invalid_value"),
        ({"tools": "none"}, "tools", "invalid_type"),
        ({"tools": [{"type": "retrieval"}]}, "tools[0]", "invalid_value"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name", "invalid_value"),
        ({"tool_choice": "required"}, "tool_choice", "invalid_value"),
        ({"tool_choice": "sometimes", "tools": [TOOL]}, "tool_choice", "invalid_value"),
        ({"tool_choice": {"type": "function"}, "tools": [TOOL]}, "tool_choice", "invalid_value"),
        (
            {"tool_choice": {"type": "function", "function": {"name": "g"}}, "tools": [TOOL]},
            "tool_choice",
            "invalid_value",
        ),
        ({"stream_options": True}, "stream_options", "invalid_type"),
        ({"seed": "x"}, "seed", "invalid_type"),
    ],
)
async def test_bad_chat_requests_are_400_and_name_the_field(call, emulator, fields, param, code):
    answer = await call.chat(emulator, **fields)
    assert answer.status == 400
    assert is_documented(answer)
    assert (answer.body["error"]["param"], answer.body["error"]["code"]) == (param, code)
    assert answer.body["error"]["type"] == "invalid_request_error"


async def test_tool_history_whose_arguments_are_not_json_is_refused(call, emulator):
    made = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{"}}
    messages = [USER, {"role": "assistant", "content": None, "tool_calls": [made]}]
    answer = await call.chat(emulator, messages=messages)
    assert answer.status == 400
    assert answer.body["error"]["param"] == "messages[1].tool_calls[0].function.arguments"


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 0},
        {"temperature": 2},
        {"top_p": 0},
        {"top_p": 1},
        {"n": 128},
        {"stop": None},
        {"stop": ["a", "b", "c", "d"]},
        {"max_tokens": 1},
        {"max_tokens": None},
        {"presence_penalty": -2},
        {"tools": None},
        {"tools": []},
        {"tool_choice": "none"},
        {"response_format": {"type": "text"}},
        {"response_format": None},
        {"stream_options": None},
        {"logit_bias": {"5": 1}},
    ],
)
async def test_values_at_the_edge_are_accepted(call, emulator, fields):
    assert (await call.chat(emulator, **fields)).status == 200


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": None}, "model"),
        ({"model": "tts-9"}, "model"),
        ({"model": "gpt-oss-120b"}, "model"),
        ({"voice": None}, "voice"),
        ({"voice": "nobody"}, "voice"),
        ({"text": ""}, "input"),
        ({"input": 5}, "input"),
        ({"response_format": "wav"}, "response_format"),
        ({"speed": 0.2}, "speed"),
        ({"speed": 4.1}, "speed"),
        ({"speed": -1}, "speed"),
    ],
)
async def test_bad_speech_requests_are_400_and_name_the_field(call, emulator, fields, param):
    answer = await call.speech(emulator, **fields)
    assert answer.status == 400
    assert is_documented(answer)
    assert answer.body["error"]["param"] == param


@pytest.mark.parametrize(
    ("data", "content_type"),
    [
        (b'{"model": "gpt', "application/json"),
        (b"[]", "application/json"),
        (b"", "application/json"),
        (b"\xff\xfe", "application/json"),
        (b"model=x", "application/x-www-form-urlencoded"),
    ],
)
@pytest.mark.parametrize("path", [CHAT, SPEECH])
async def test_a_body_that_is_not_a_json_object_is_400(call, emulator, path, data, content_type):
    answer = await call.send(emulator, "POST", path, data=data, headers={"content-type": content_type})
    assert answer.status == 400
    assert is_documented(answer)
    assert answer.body["error"]["code"] == "invalid_json"


@pytest.mark.parametrize(
    "key", ["", "Bearer", "Bearer sk-other", "Bearer sk-nc-", "Basic sk-nc-x", "sk-nc-x"]
)
@pytest.mark.parametrize(("method", "path"), [("POST", CHAT), ("POST", SPEECH), ("GET", "/v1/models")])
async def test_no_or_a_wrong_key_is_401(call, emulator, method, path, key):
    answer = await call.send(emulator, method, path, headers={"authorization": key})
    assert answer.status == 401
    assert is_documented(answer)
    assert answer.body["error"]["code"] == "invalid_api_key"


async def test_any_key_of_the_vendor_s_form_is_accepted(call, emulator):
    for key in ("Bearer sk-nc-x", "bearer sk-nc-" + "y" * 200):
        assert (await call.get(emulator, "/v1/models", headers={"authorization": key})).status == 200


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/", (404, "unknown_url")),
        ("GET", "/v1", (404, "unknown_url")),
        ("POST", "/v1/embeddings", (404, "unknown_url")),
        ("GET", "/v1/models/", (404, "unknown_url")),
        ("GET", "/v1/models/nothing", (404, "model_not_found")),
        ("POST", "/v1/models", (405, "method_not_allowed")),
        ("GET", CHAT, (405, "method_not_allowed")),
        ("DELETE", SPEECH, (405, "method_not_allowed")),
    ],
)
async def test_unknown_routes_methods_and_models(call, emulator, method, path, expected):
    answer = await call.send(emulator, method, path)
    assert (answer.status, answer.body["error"]["code"]) == expected
    assert is_documented(answer)


async def test_every_answer_has_a_request_id_of_its_own(call, emulator):
    answers = [await call.get(emulator, "/v1/models") for _ in range(2)]
    assert len({answer.headers["x-request-id"] for answer in answers}) == 2
