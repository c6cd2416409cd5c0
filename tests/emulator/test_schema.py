"""Every kind of answer validates against the schemas of the vendor's API description."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from neev_provider.emulator import validation

SPEC = json.loads((Path(__file__).parent.parent / "data" / "neev_openapi.json").read_text())
TOOLS = [{"type": "function", "function": {"name": "f"}}, {"type": "function", "function": {"name": "g"}}]


def nullable(node):
    """Rewrite OpenAPI 3.0's `nullable` in JSON Schema's words."""
    if isinstance(node, list):
        return [nullable(item) for item in node]
    if not isinstance(node, dict):
        return node
    node = {name: nullable(value) for name, value in node.items()}
    if node.get("nullable") is True and isinstance(node.get("type"), str):
        node["type"] = [node["type"], "null"]
        if "enum" in node:
            node["enum"] = [*node["enum"], None]
    return node


COMPONENTS = nullable(SPEC["components"])


def check(body, name):
    schema = {"$ref": f"#/components/schemas/{name}", "components": COMPONENTS}
    jsonschema.Draft202012Validator(schema).validate(body)


CHATS = [
    {},
    {"n": 3},
    {"max_tokens": 1},
    {"tools": TOOLS, "tool_choice": "required"},
    {"content": "f and g", "tools": TOOLS},
    {"response_format": {"type": "json_object"}},
    {"fault": "cached-tokens=1"},
    {"fault": "no-usage"},
    {"fault": "null-content"},
    {"fault": "think"},
]


@pytest.mark.parametrize("fields", CHATS)
async def test_chat_completions(call, emulator, fields):
    answer = await call.chat(emulator, **fields)
    assert answer.status == 200
    check(answer.body, "ChatCompletionResponse")


@pytest.mark.parametrize("fields", [*CHATS, {"fault": "odd-chunks"}])
async def test_chunks(call, emulator, fields):
    chunks = await call.stream(emulator, **fields, stream_options={"include_usage": True})
    assert chunks.done
    for chunk in chunks:
        check(chunk, "ChatCompletionChunk")


async def test_models(call, emulator):
    listing = (await call.get(emulator, "/v1/models")).body
    check(listing, "ModelsListResponse")
    check((await call.get(emulator, "/v1/models/" + listing["data"][0]["id"])).body, "Model")


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 429, 500, 503])
async def test_errors(call, emulator, status):
    answer = await call.chat(emulator, fault=f"status={status}")
    assert answer.status == status
    check(answer.body, "OpenAIErrorResponse")


def test_the_check_itself_can_fail():
    with pytest.raises(jsonschema.ValidationError):
        check({"object": "list", "data": [{"id": "x"}]}, "ModelsListResponse")
    with pytest.raises(jsonschema.ValidationError):
        check({"error": {"message": None, "type": "t"}}, "OpenAIErrorResponse")


def test_the_validator_s_ranges_are_those_of_the_description():
    described = SPEC["components"]["schemas"]["ChatCompletionRequest"]["properties"]
    for name, field in described.items():
        rule = validation.CHAT_FIELDS[name]
        for ours, theirs in (("low", "minimum"), ("high", "maximum")):
            assert getattr(rule, ours, None) == field.get(theirs), name
    for name in SPEC["components"]["schemas"]["SpeechRequest"]["properties"]:
        assert name in validation.SPEECH_FIELDS
