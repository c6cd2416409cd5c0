"""No bytes make the contract raise anything but a `RequestError`, and no error grows with the input."""

from __future__ import annotations

import json

import pytest

from neev_provider.contract import parse_chat, parse_speech, peek_model

HI = b'"messages":[{"role":"user","content":"hi"}]'
MEGABYTES = 10_000_000


def with_field(field: bytes) -> bytes:
    return b'{"model":"m",' + HI + b"," + field + b"}"


NOT_JSON = {
    "nothing": b"",
    "white space": b" \n",
    "truncated": b'{"model":"m","messages":[{"role":"us',
    "unclosed": b'{"model":"m"',
    "prose": b"hello",
    "form": b"model=m&messages=hi",
    "two documents": b'{"model":"m"}{"model":"m"}',
    "trailing comma": b'{"model":"m",}',
    "single quotes": b"{'model':'m'}",
    "comment": b'{"model":"m"/* x */}',
    "NUL": b"\x00",
    "byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": '{"model":"m"}'.encode("utf-16"),
    "NaN": with_field(b'"temperature":NaN'),
    "Infinity": with_field(b'"temperature":-Infinity'),
    "leading zero": with_field(b'"n":01'),
    "leading plus": with_field(b'"n":+1'),
    "bare point": with_field(b'"temperature":1.'),
    "lone surrogate": with_field(b'"user":"\\ud800 and more text"'),
    "lone low surrogate": with_field(b'"user":"\\udc00"'),
    "lone surrogate at the end": b'{"a":"\\ud800"}',
    "lone surrogate in a key": b'{"\\ud800 and more text":1}',
    "lone surrogate in a message": b'{"model":"m","messages":[{"role":"user","content":"\\udfff..."}]}',
    "surrogate as UTF-8": with_field(b'"user":"\xed\xa0\x80"'),
    "invalid UTF-8 in a known string": b'{"model":"\xff",' + HI + b"}",
    "invalid UTF-8 in an unknown field": with_field(b'"x":{"y":["\xc3("]}'),
    "invalid UTF-8 in a key": with_field(b'"\xff":1'),
    "invalid UTF-8 within a message": b'{"model":"m","messages":[{"role":"user","content":"x","y":"\xff"}]}',
    "control character": with_field(b'"user":"a\nb"'),
    "bad escape": with_field(b'"user":"\\x41"'),
    "nonsense deep in an unknown field": with_field(b'"x":{"y":[1,{"z":tru}]}'),
    "deep arrays": with_field(b'"x":' + b"[" * 200_000 + b"]" * 200_000),
    "deep objects": with_field(b'"x":' + b'{"a":' * 200_000 + b"1" + b"}" * 200_000),
    "deep arrays without an end": b'{"x":' + b"[" * 1_000_000,
    "deep content": b'{"model":"m","messages":[{"role":"user","content":'
    + b"[" * 200_000
    + b"]" * 200_000
    + b"}]}",
}


@pytest.mark.parametrize("parse", [parse_chat, parse_speech])
@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON)
def test_what_is_not_json_is_invalid_json(refusal, body, parse):
    error = refusal(body, parse)
    assert (error.status, error.code, error.param) == (400, "invalid_json", None)
    assert error.message.startswith("The request body is not valid JSON: ")
    assert error.message.endswith(".")
    assert len(error.encode()) < 300


@pytest.mark.parametrize("body", [b'{"a":"\\ud800"}', b'{"a":"\\\\\\uDBFF\\n"}', b'{"\\ud800":1}'])
def test_a_lone_surrogate_at_the_end_is_named(refusal, body):
    assert "surrogate" in refusal(body).message


@pytest.mark.parametrize(
    "body", [b'{"a":"\\ud800', b'{"a":"\\ud83d\\ude', b'{"a":"\\ud83d\\', b'{"a":"\\\\ud800"']
)
def test_a_body_cut_short_is_said_to_end_too_early(refusal, body):
    assert refusal(body).message.endswith("it ends too early.")


@pytest.mark.parametrize("parse", [parse_chat, parse_speech])
@pytest.mark.parametrize("body", [b"[]", b"null", b'"model"', b"5", b"true", b'[{"model":"m"}]'])
def test_json_that_is_not_an_object_is_said_to_be_so(refusal, body, parse):
    error = refusal(body, parse)
    assert (error.code, error.param) == ("invalid_type", None)
    assert error.message == "The request body must be a JSON object."


HUGE = {
    "model": b'{"model":"' + b"m" * MEGABYTES + b'",' + HI + b"}",
    "role": b'{"model":"m","messages":[{"role":"' + b"r" * MEGABYTES + b'","content":"x"}]}',
    "role that looks like a place": b'{"model":"m","messages":[{"role":"x - at `$.stop`","content":"x"}]}',
    "tool choice": with_field(b'"tool_choice":"' + b"x" * MEGABYTES + b'"'),
    "integer": with_field(b'"n":' + b"1" * MEGABYTES),
    "negative integer": with_field(b'"max_tokens":-' + b"1" * MEGABYTES),
    "integer of 5000 digits": with_field(b'"max_tokens":' + b"9" * 5000),
    "float of 10 MB": with_field(b'"temperature":' + b"9" * MEGABYTES),
    "exponent": with_field(b'"temperature":1e' + b"9" * 1000),
    "forbidden field by its form": with_field(b'"aws_' + b"x" * MEGABYTES + b'":1'),
    "forbidden value": with_field(b'"api_key":"sk-nc-' + b"x" * MEGABYTES + b'"'),
    "array of nulls": b'{"model":"m","messages":[' + b"null," * 1_000_000 + b"null]}",
    "stop strings": with_field(b'"stop":[' + b'"x",' * 1_000_000 + b'"x"]'),
}


@pytest.mark.parametrize("body", HUGE.values(), ids=HUGE)
def test_an_error_does_not_grow_with_the_input(refusal, body):
    error = refusal(body)
    assert error.status == 400
    assert error.param
    assert len(error.encode()) < 500


def test_a_value_that_looks_like_a_place_does_not_mislead(refusal):
    assert refusal(HUGE["role that looks like a place"]).param == "messages[0].role"


@pytest.mark.parametrize("field", ["api_key", "extra_headers", "azure_ad_token", "model"])
def test_no_value_is_quoted(refusal, field):
    error = refusal(json.dumps({"model": "m", "messages": [], field: ["sk-nc-sesame"]}).encode())
    assert b"sesame" not in error.encode()
    assert error.__cause__ is None
    assert error.__context__ is None or error.__suppress_context__


@pytest.mark.parametrize("digits", [b"1" * 5000, b"1" * MEGABYTES, b"1e99999", b"0." + b"1" * 5000])
def test_numbers_of_any_size_pass_in_fields_nobody_judges(digits):
    assert digits in parse_chat(with_field(b'"x":' + digits)).encode(model="m")


@pytest.mark.parametrize("text", [b"a" * MEGABYTES, b"\\u0041" * 1_000_000, "न".encode() * 1_000_000])
def test_long_text_passes(text):
    body = b'{"model":"m","messages":[{"role":"user","content":"' + text + b'"}]}'
    assert parse_chat(body).encode(model="m") == body


def test_nesting_that_was_accepted_can_be_encoded_from_deeper_in_the_stack():
    request = parse_chat(with_field(b'"stream":true,"stream_options":{"x":' + b"[" * 500 + b"]" * 500 + b"}"))

    def deeper(frames: int) -> bytes:
        return request.encode(model="m", include_usage=True) if frames == 0 else deeper(frames - 1)

    assert deeper(600).endswith(b'],"include_usage":true}}')


class TestPeekModel:
    """The model's name of a request that NeevAI's rules refuse: it may be another provider's."""

    def test_it_reads_the_name_whatever_else_is_wrong(self):
        assert peek_model(b'{"model":"claude","n":500,"messages":"x","api_base":"u"}') == "claude"

    def test_it_reads_the_one_that_counts(self):
        assert peek_model(b'{"model":"a","model":"b"}') == "b"

    @pytest.mark.parametrize(
        "body",
        [*NOT_JSON.values(), b"{}", b"[]", b'{"model":5}', b'{"model":null}', b'{"model":""}', HUGE["model"]],
    )
    def test_it_gives_none_if_there_is_no_usable_name(self, body):
        assert peek_model(body) is None
