"""`parse_chat_object`: the adapter holds Python objects, which can be what JSON cannot."""

from __future__ import annotations

import datetime as dt
import json
from types import MappingProxyType

import pytest

from neev_provider.contract import parse_chat, parse_chat_object
from neev_provider.errors import RequestError

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def recursive():
    value: list = []
    value.append(value)
    return value


def deep():
    value: list = []
    for _ in range(100_000):
        value = [value]
    return value


INEXPRESSIBLE = {
    "NaN": float("nan"),
    "infinity": float("-inf"),
    "NaN within": {"a": [float("nan")]},
    "bytes": b"sesame",
    "object": object(),
    "class": dict,
    "date": dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    "set": {1},
    "complex": 1j,
    "lone surrogate": "sesame \ud800",
    "lone surrogate in a key": {"\udfff": 1},
    "tuple as key": {(1, 2): 3},
    "integer of 5000 digits": 10**5000,
    "itself": recursive(),
    "deep": deep(),
}


@pytest.mark.parametrize("field", ["temperature", "user", "messages", "whatever"])
@pytest.mark.parametrize("value", INEXPRESSIBLE.values(), ids=INEXPRESSIBLE)
def test_what_json_cannot_express_is_told_by_field(field, value):
    with pytest.raises(RequestError) as caught:
        parse_chat_object({**CHAT, field: value})
    error = caught.value
    assert (error.code, error.param) == ("invalid_value", field)
    assert error.message == f"{field} must be something that JSON can express."
    assert b"sesame" not in error.encode()


@pytest.mark.parametrize("name", ["\ud800", (1, 2), b"x"])
def test_a_name_that_json_cannot_express_is_not_quoted(name):
    with pytest.raises(RequestError) as caught:
        parse_chat_object({**CHAT, name: 1})
    assert (caught.value.code, caught.value.param) == ("invalid_json", None)
    assert caught.value.encode()


def test_a_good_request_is_as_from_bytes():
    fields = {**CHAT, "temperature": 1.0, "stream": True, "max_completion_tokens": 5, "user": "नमस्ते"}
    body = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
    request = parse_chat_object(fields)
    assert request.encode(model="up") == parse_chat(body).encode(model="up")
    assert (request.stream, request.max_tokens) == (True, 5)


def test_any_mapping_and_tuples_will_do():
    request = parse_chat_object(MappingProxyType({**CHAT, "stop": ("a", "b")}))
    assert request.encode(model="m").endswith(b'"stop":["a","b"]}')


def test_the_rules_are_the_same():
    with pytest.raises(RequestError, match=r"^temperature must be a number from 0 to 2\.$"):
        parse_chat_object({**CHAT, "temperature": 3})
    with pytest.raises(RequestError, match=r"^api_base cannot be set in a request"):
        parse_chat_object({**CHAT, "api_base": None})
