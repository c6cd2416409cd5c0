"""What a chat request may hold, and what the one that may not is told."""

from __future__ import annotations

import json
import re

import pytest
from msgspec import inspect

from neev_provider import contract
from neev_provider.contract import parse_chat
from neev_provider.contract.chat import _SCHEMA, ChatBody
from neev_provider.usage import estimate_tokens

HI = [{"role": "user", "content": "hi"}]
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}


ACCEPTED = {
    "temperature": [0, 2, 0.7, 1, 2.0, -0.0],
    "top_p": [0, 1, 0.5],
    "n": [1, 128],
    "stream": [True, False],
    "stop": ["x", "", [], ["a"], ["a", "b", "c", "d"]],
    "max_tokens": [1, 4096, 2_147_483_647],
    "max_completion_tokens": [1, 4096],
    "presence_penalty": [-2, 2, 0.1],
    "frequency_penalty": [-2, 2, 0.1],
    "response_format": [
        {"type": "text"},
        {"type": "json_object"},
        {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}},
    ],
    "tools": [[], [TOOL], [TOOL, {"type": "function", "function": {"name": "b", "strict": True}}]],
    "tool_choice": ["none", "auto", "required"],
    "stream_options": [{}, {"include_usage": True}, {"include_usage": None}, {"include_obfuscation": False}],
}

TEMPERATURE = "temperature must be a number from 0 to 2."
TOP_P = "top_p must be a number from 0 to 1."
N = "n must be an integer from 1 to 128."
STOP = "stop must be a string or an array of up to 4 strings."
MAX_TOKENS = "max_tokens must be an integer from 1 to 2147483647."
FORMAT = "response_format.type must be one of text, json_object, json_schema."
CHOICE = "tool_choice must be none, auto, required or an object that names a function."
ROLES = "messages[0].role must be one of system, developer, user, assistant, tool."
CONTENT = "a string or an array of at least 1 content part."

# field, value, code, message; the param is the message's first word.
REFUSED = [
    ("model", "", "invalid_value", "model must be a non-empty string of at most 256 characters."),
    ("model", "m" * 257, "invalid_value", "model must be a non-empty string of at most 256 characters."),
    ("model", 5, "invalid_type", "model must be a non-empty string of at most 256 characters."),
    ("messages", [], "invalid_value", "messages must be an array of at least 1 message."),
    ("messages", "hi", "invalid_type", "messages must be an array of at least 1 message."),
    ("messages", {"role": "user"}, "invalid_type", "messages must be an array of at least 1 message."),
    ("messages", ["hi"], "invalid_type", "messages[0] must be an object with role and content."),
    ("messages", [*HI, None], "invalid_type", "messages[1] must be an object with role and content."),
    ("temperature", -1, "invalid_value", TEMPERATURE),
    ("temperature", 2.1, "invalid_value", TEMPERATURE),
    ("temperature", True, "invalid_type", TEMPERATURE),
    ("temperature", "1", "invalid_type", TEMPERATURE),
    ("temperature", [1], "invalid_type", TEMPERATURE),
    ("top_p", -0.1, "invalid_value", TOP_P),
    ("top_p", 1.01, "invalid_value", TOP_P),
    ("top_p", False, "invalid_type", TOP_P),
    ("n", 0, "invalid_value", N),
    ("n", 129, "invalid_value", N),
    ("n", 10**30, "invalid_value", N),
    ("n", 1.0, "invalid_type", N),
    ("n", True, "invalid_type", N),
    ("n", "1", "invalid_type", N),
    ("stream", "true", "invalid_type", "stream must be true or false."),
    ("stream", 1, "invalid_type", "stream must be true or false."),
    ("stop", ["a", "b", "c", "d", "e"], "invalid_value", STOP),
    ("stop", 5, "invalid_type", STOP),
    ("stop", {"a": 1}, "invalid_type", STOP),
    ("stop", ["a", 1], "invalid_type", "stop[1] must be a string."),
    ("stop", [None], "invalid_type", "stop[0] must be a string."),
    ("max_tokens", 0, "invalid_value", MAX_TOKENS),
    ("max_tokens", -5, "invalid_value", MAX_TOKENS),
    ("max_tokens", 2**31, "invalid_value", MAX_TOKENS),
    ("max_tokens", "many", "invalid_type", MAX_TOKENS),
    ("max_tokens", 16.0, "invalid_type", MAX_TOKENS),
    ("max_completion_tokens", 0, "invalid_value", MAX_TOKENS.replace("max_", "max_completion_", 1)),
    ("presence_penalty", 2.1, "invalid_value", "presence_penalty must be a number from -2 to 2."),
    ("frequency_penalty", -2.1, "invalid_value", "frequency_penalty must be a number from -2 to 2."),
    ("response_format", "json_object", "invalid_type", "response_format must be an object with a type."),
    ("response_format", {"type": "xml"}, "invalid_value", FORMAT),
    ("response_format", {"type": 5}, "invalid_type", FORMAT),
    ("tools", {}, "invalid_type", "tools must be an array of function tools."),
    ("tools", ["look"], "invalid_type", "tools[0] must be an object with type and function."),
    ("tools", [TOOL, {"type": "custom"}], "invalid_value", "tools[1].type must be function."),
    (
        "tools",
        [{"type": "function", "function": "f"}],
        "invalid_type",
        "tools[0].function must be an object with a name.",
    ),
    (
        "tools",
        [{"type": "function", "function": {"name": ""}}],
        "invalid_value",
        "tools[0].function.name must be a non-empty string.",
    ),
    (
        "tools",
        [{"type": "function", "function": {"name": "f", "parameters": []}}],
        "invalid_type",
        "tools[0].function.parameters must be an object, a JSON schema.",
    ),
    ("tool_choice", "any", "invalid_value", CHOICE),
    ("tool_choice", 5, "invalid_type", CHOICE),
    (
        "tool_choice",
        {"type": "custom", "function": {"name": "look"}},
        "invalid_value",
        "tool_choice.type must be function.",
    ),
    ("stream_options", True, "invalid_type", "stream_options must be an object."),
    (
        "stream_options",
        {"include_usage": "yes"},
        "invalid_type",
        "stream_options.include_usage must be true or false.",
    ),
]

REQUIRED = [
    ({"messages": HI}, "model is required: it must be a non-empty string of at most 256 characters."),
    (
        {"model": None, "messages": HI},
        "model is required: it must be a non-empty string of at most 256 characters.",
    ),
    ({"model": "m"}, "messages is required: it must be an array of at least 1 message."),
    ({"model": "m", "messages": None}, "messages is required: it must be an array of at least 1 message."),
    (
        {"response_format": {}},
        "response_format.type is required: it must be one of text, json_object, json_schema.",
    ),
    ({"tools": [{"function": {"name": "f"}}]}, "tools[0].type is required: it must be function."),
    ({"tools": [{"type": "function"}]}, "tools[0].function is required: it must be an object with a name."),
    (
        {"tools": [TOOL, {"type": "function", "function": {}}]},
        "tools[1].function.name is required: it must be a non-empty string.",
    ),
    (
        {"tool_choice": {"type": "function"}},
        "tool_choice.function is required: it must be an object with a name.",
    ),
]


@pytest.mark.parametrize(("field", "value"), [(k, v) for k, values in ACCEPTED.items() for v in values])
def test_a_value_within_the_rule_is_accepted(chat, field, value):
    assert field.replace("_completion", "") in chat(**{field: value}).fields


@pytest.mark.parametrize("field", ACCEPTED)
def test_null_counts_as_absent_in_every_optional_field(chat, field):
    assert chat(**{field: None}).max_tokens is None


@pytest.mark.parametrize(("field", "value", "code", "message"), REFUSED)
def test_a_value_outside_the_rule_is_told_field_and_rule(refusal, field, value, code, message):
    error = refusal({"model": "m", "messages": HI, field: value})
    assert (error.status, error.code, error.message) == (400, code, message)
    assert error.param == message.split()[0]


@pytest.mark.parametrize(("fields", "message"), REQUIRED)
def test_what_is_missing_is_named(refusal, fields, message):
    body = fields if "messages" in fields or "model" in fields else {"model": "m", "messages": HI, **fields}
    error = refusal(body)
    assert (error.code, error.message) == ("missing_required_parameter", message)
    assert error.param == message.split()[0]


@pytest.mark.parametrize(
    "field", ["user", "seed", "logprobs", "logit_bias", "functions", "reasoning_effort", "whatever"]
)
@pytest.mark.parametrize("value", [None, "x", 5, {"a": [1]}])
def test_fields_without_a_known_rule_are_not_judged(chat, field, value):
    assert field in chat(**{field: value}).fields


class TestMessages:
    @pytest.mark.parametrize(
        "message",
        [
            {"role": "system", "content": "x"},
            {"role": "developer", "content": "x"},
            {"role": "user", "content": "x", "name": "ann"},
            {"role": "user", "content": ""},
            {"role": "user", "content": "x", "name": None},
            {"role": "user", "content": [{"type": "text", "text": "x"}]},
            {"role": "user", "content": [{"type": "text", "text": ""}]},
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:..."}}]},
            {"role": "assistant", "content": "x"},
            {"role": "assistant", "content": ""},
            {"role": "assistant", "content": "x", "tool_calls": []},
            {
                "role": "assistant",
                "content": "x",
                "tool_calls": None,
                "refusal": None,
                "audio": None,
                "function_call": None,
            },
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "assistant", "tool_calls": [CALL]},
            {
                "role": "assistant",
                "tool_calls": [{"id": "", "function": {"name": "look", "arguments": "{}"}}],
            },
            {"role": "assistant", "content": None, "function_call": {"name": "look", "arguments": "{}"}},
            {"role": "assistant", "content": None, "refusal": "no"},
            {"role": "assistant", "content": None, "audio": {"id": "a1"}},
            {"role": "assistant", "content": "x", "reasoning_content": "because", "annotations": []},
            {"role": "tool", "content": "x", "tool_call_id": "c1"},
            {"role": "tool", "content": [{"type": "text", "text": "x"}], "tool_call_id": "c1"},
        ],
    )
    def test_what_openai_clients_send_is_accepted(self, chat, message):
        assert chat(messages=[message]).prompt_bytes > 0

    @pytest.mark.parametrize(
        ("message", "code", "text"),
        [
            ({"role": "wizard", "content": "x"}, "invalid_value", ROLES),
            ({"role": "function", "content": "x"}, "invalid_value", ROLES),
            ({"role": 5, "content": "x"}, "invalid_type", ROLES),
            ({"role": "USER", "content": "x"}, "invalid_value", ROLES),
            ({"role": None, "content": "x"}, "invalid_type", ROLES),
            ({"content": "x"}, "missing_required_parameter", ROLES.replace("must be", "is required: it must be")),
            ({"role": "user"}, "missing_required_parameter", f"messages[0].content is required: it must be {CONTENT}"),
            ({"role": "user", "content": None}, "missing_required_parameter", f"messages[0].content is required: it must be {CONTENT}"),
            ({"role": "system"}, "missing_required_parameter", f"messages[0].content is required: it must be {CONTENT}"),
            ({"role": "developer", "content": None}, "missing_required_parameter", f"messages[0].content is required: it must be {CONTENT}"),
            ({"role": "tool", "tool_call_id": "c"}, "missing_required_parameter", f"messages[0].content is required: it must be {CONTENT}"),
            ({"role": "tool", "content": "x"}, "missing_required_parameter", "messages[0].tool_call_id is required: it must be a string."),
            ({"role": "user", "content": 5}, "invalid_type", f"messages[0].content must be {CONTENT}"),
            ({"role": "user", "content": {"type": "text"}}, "invalid_type", f"messages[0].content must be {CONTENT}"),
            ({"role": "user", "content": []}, "invalid_value", f"messages[0].content must be {CONTENT}"),
            ({"role": "user", "content": ["x"]}, "invalid_type", "messages[0].content[0] must be an object with a type."),
            ({"role": "user", "content": [{"text": "x"}]}, "missing_required_parameter", "messages[0].content[0].type is required: it must be a non-empty string, such as text or image_url."),
            ({"role": "user", "content": [{"type": "text"}]}, "missing_required_parameter", "messages[0].content[0].text is required: it must be a string."),
            ({"role": "user", "content": [{"type": "text", "text": 5}]}, "invalid_type", "messages[0].content[0].text must be a string."),
            ({"role": "user", "content": "x", "name": 5}, "invalid_type", "messages[0].name must be a string."),
            ({"role": "assistant"}, "missing_required_parameter", "messages[0].content is required: it must be a string or an array of content parts, unless the message has tool_calls."),
            ({"role": "assistant", "content": None, "tool_calls": []}, "missing_required_parameter", "messages[0].content is required: it must be a string or an array of content parts, unless the message has tool_calls."),
            ({"role": "assistant", "tool_calls": "look"}, "invalid_type", "messages[0].tool_calls must be an array of tool calls."),
            ({"role": "assistant", "tool_calls": [{}]}, "missing_required_parameter", "messages[0].tool_calls[0].id is required: it must be a string."),
            ({"role": "assistant", "tool_calls": [{"id": "1", "type": "custom"}]}, "invalid_value", "messages[0].tool_calls[0].type must be function."),
            ({"role": "assistant", "tool_calls": [{"id": "1", "function": {}}]}, "missing_required_parameter", "messages[0].tool_calls[0].function.name is required: it must be a non-empty string."),
            ({"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": {}}}]}, "invalid_type", "messages[0].tool_calls[0].function.arguments must be a string that holds JSON."),
        ],
    )  # fmt: skip
    def test_what_a_message_lacks_is_named(self, refusal, message, code, text):
        error = refusal({"model": "m", "messages": [message]})
        assert (error.code, error.message, error.param) == (code, text, text.split()[0])

    def test_the_message_at_fault_is_counted_from_zero(self, refusal):
        messages = [*HI, {"role": "assistant", "content": "x"}, {"role": "user"}]
        assert refusal({"model": "m", "messages": messages}).param == "messages[2].content"


class TestToolChoice:
    @pytest.mark.parametrize(
        "choice", [{"type": "function", "function": {"name": "look"}}, {"function": {"name": "look"}}]
    )
    def test_a_named_function_among_the_tools_is_accepted(self, chat, choice):
        assert chat(tools=[TOOL], tool_choice=choice).has_tools

    @pytest.mark.parametrize("tools", [None, [], [TOOL]])
    def test_a_named_function_that_is_not_among_the_tools_is_refused(self, refusal, tools):
        error = refusal(
            {
                "model": "m",
                "messages": HI,
                "tools": tools,
                "tool_choice": {"type": "function", "function": {"name": "fly"}},
            }
        )
        assert (error.code, error.param) == ("invalid_value", "tool_choice")
        assert error.message == "tool_choice must be none, auto, required or the name of one of the tools."


class TestWhatIsExposed:
    def test_defaults_stand_for_what_is_absent(self, chat):
        request = chat()
        assert (request.model, request.stream, request.n, request.max_tokens) == ("m", False, 1, None)
        assert (request.include_usage, request.has_tools, request.litellm_only) == (False, False, frozenset())

    def test_defaults_stand_for_null(self, chat):
        request = chat(stream=None, n=None, max_tokens=None, tools=None, stream_options=None)
        assert (request.stream, request.n, request.max_tokens, request.has_tools) == (False, 1, None, False)

    def test_values_are_the_clients(self, chat):
        request = chat(stream=True, n=3, max_tokens=7, tools=[TOOL], stream_options={"include_usage": True})
        assert (request.stream, request.n, request.max_tokens, request.has_tools) == (True, 3, 7, True)
        assert request.include_usage

    @pytest.mark.parametrize("options", [None, {}, {"include_usage": False}, {"include_usage": None}])
    def test_usage_counts_as_asked_for_only_if_true(self, chat, options):
        assert not chat(stream=True, stream_options=options).include_usage

    def test_usage_is_not_shown_outside_a_stream(self, chat):
        assert not chat(stream=False, stream_options={"include_usage": True}).include_usage

    @pytest.mark.parametrize(
        ("fields", "effective"),
        [
            ({"max_tokens": 5}, 5),
            ({"max_completion_tokens": 6}, 6),
            ({"max_tokens": 5, "max_completion_tokens": 6}, 6),
            ({"max_completion_tokens": 6, "max_tokens": 5}, 6),
            ({"max_tokens": 5, "max_completion_tokens": None}, 5),
            ({"max_tokens": None, "max_completion_tokens": 6}, 6),
        ],
    )
    def test_max_completion_tokens_wins(self, chat, fields, effective):
        request = chat(**fields)
        assert request.max_tokens == effective
        assert "max_completion_tokens" not in request.fields

    def test_prompt_bytes_are_those_of_messages_tools_and_format(self):
        body = b'{"model":"m","messages": [ {"role":"user","content":"\\u0041"} ],"tools":[ ],"response_format":{"type":"text"},"user":"u"}'
        expected = len(b'[ {"role":"user","content":"\\u0041"} ]') + len(b"[ ]") + len(b'{"type":"text"}')
        assert parse_chat(body).prompt_bytes == expected

    def test_a_prompt_that_is_not_ascii_is_estimated_as_text_is(self):
        for content in ("問" * 3000, "é" * 999, "ascii and ü"):
            messages = json.dumps([{"role": "user", "content": content}], ensure_ascii=False).encode()
            body = b'{"model":"m","messages":' + messages + b"}"
            assert estimate_tokens(parse_chat(body).prompt_bytes) == estimate_tokens(messages)

    def test_functions_are_of_the_prompt(self, chat):
        functions = [{"name": "f", "description": "x" * 4000}]
        assert chat(functions=functions).prompt_bytes > chat().prompt_bytes + 4000

    def test_no_prompt_shows_in_the_repr(self, chat):
        assert "sesame" not in repr(chat(messages=[{"role": "user", "content": "sesame"}]))


def _numbers(node):
    match node:
        case inspect.Metadata():
            yield from _numbers(node.type)
        case inspect.UnionType():
            for one in node.types:
                yield from _numbers(one)
        case inspect.FloatType() | inspect.IntType():
            yield node


def test_the_range_a_message_quotes_is_the_range_that_is_enforced():
    quoted = 0
    for field in inspect.type_info(ChatBody).fields:
        for number in _numbers(field.type):
            bounds = re.search(r"from (\S+) to (\S+)$", _SCHEMA.rules[field.name])
            assert (float(bounds[1]), float(bounds[2])) == (number.ge, number.le)
            quoted += 1
    assert quoted == 7


def test_every_field_has_a_rule_to_quote():
    def places(node, place):
        match node:
            case inspect.Metadata():
                yield from places(node.type, place)
            case inspect.UnionType():
                for one in node.types:
                    yield from places(one, place)
            case inspect.ListType():
                yield from places(node.item_type, f"{place}[]")
            case inspect.StructType():
                for field in node.fields:
                    name = f"{place}.{field.name}".lstrip(".")
                    yield name
                    yield from places(field.type, name)

    assert set(places(inspect.type_info(ChatBody), "")) <= set(_SCHEMA.rules)


def test_the_package_offers_what_it_names():
    assert all(hasattr(contract, name) for name in contract.__all__)
