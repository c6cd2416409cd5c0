"""What an event says."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neev_provider.errors import RequestError, UpstreamError
from neev_provider.sse import (
    DONE,
    EventSplitter,
    Signal,
    data_of,
    encode_error,
    encode_event,
    error_of,
    error_of_object,
    finish_reason_of,
    is_done,
    signal_of,
    usage_of,
    with_model,
    without_usage,
)

USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}


def chunk(content="hi", *, finish=None, **more):
    return event(
        {"id": "c", "choices": [{"index": 0, "delta": {"content": content}, "finish_reason": finish}], **more}
    )


def event(value, **options):
    return b"data: " + json.dumps(value, separators=(",", ":"), **options).encode() + b"\n\n"


class TestData:
    @pytest.mark.parametrize(
        ("raw", "data"),
        [
            (b'data: {"a":1}\n\n', b'{"a":1}'),
            (b'data:{"a":1}\n\n', b'{"a":1}'),
            (b'data: {"a":1}\r\n\r\n', b'{"a":1}'),
            (b'data: {"a":1}\r\r', b'{"a":1}'),
            (b'data: {"a":\ndata: 1}\n\n', b'{"a":\n1}'),
            (b'event: x\nid: 7\ndata: {"a":1}\nretry: 5\n\n', b'{"a":1}'),
            (b': hello\ndata: {"a":1}\n\n', b'{"a":1}'),
            (b'\ndata: {"a":1}\n\n', b'{"a":1}'),
            (b'data: {"a":1}', b'{"a":1}'),
            (b"data:  two blanks\n\n", b" two blanks"),
            (b"data: [DONE]\n\n", b"[DONE]"),
        ],
    )
    def test_is_the_data_lines_joined_without_their_leading_blank(self, raw, data):
        assert data_of(raw) == data

    @pytest.mark.parametrize(
        "raw", [b": ping\n\n", b"\n\n", b"", b"event: x\n\n", b"data\n\n", b"data: \n\n"]
    )
    def test_comments_and_keepalives_have_none(self, raw):
        assert data_of(raw) is None


class TestDone:
    @pytest.mark.parametrize(
        "raw",
        [DONE, b"data:[DONE]\n\n", b"data: [DONE]\r\n\r\n", b"data: [DONE]", b"id: 9\ndata: [DONE] \n\n"],
    )
    def test_is_seen_in_any_form(self, raw):
        assert is_done(raw)
        assert signal_of(raw) is Signal.DONE

    @pytest.mark.parametrize("raw", [b": [DONE]\n\n", chunk("[DONE]"), b"data: [DONE]x\n\n", b": ping\n\n"])
    def test_is_not_seen_elsewhere(self, raw):
        assert not is_done(raw)
        assert signal_of(raw) is None


class TestOrdinaryChunks:
    @pytest.mark.parametrize(
        "raw",
        [
            chunk(),
            chunk(usage=None),
            chunk().replace(b"\n\n", b"\r\n\r\n"),
            chunk('an "error" and "usage": {"a": 1} in the text'),
            chunk("error"),
            chunk("usage"),
            chunk(error=None),
            chunk(error={}),
            chunk(error=False),
            b'data: {"choices":[{"delta":{}}], "usage": null }\n\n',
            b": ping\n\n",
            b"event: message\n" + chunk(),
            b'data: {"choices": [{"delta": {"content": "cut',
            b'data: not json "error" "usage"\n\n',
        ],
    )
    def test_have_no_signal(self, raw):
        assert signal_of(raw) is None
        assert error_of(raw) is None


class TestUsage:
    @pytest.mark.parametrize(
        "raw",
        [
            event({"choices": [], "usage": USAGE}),
            event({"usage": USAGE, "choices": []}),
            b'data: {"choices": [], "usage" : ' + json.dumps(USAGE).encode() + b"}\r\n\r\n",
            b"event: message\n" + event({"choices": [], "usage": USAGE}),
            chunk(finish="stop", usage=USAGE),
        ],
    )
    def test_is_found_wherever_it_stands(self, raw):
        assert signal_of(raw) is Signal.USAGE
        assert usage_of(raw) == USAGE

    def test_inside_a_text_is_none(self):
        assert usage_of(chunk(json.dumps({"usage": USAGE}))) is None

    def test_of_something_else_is_none(self):
        assert usage_of(event({"x": {"usage": USAGE}, "choices": []})) is None

    def test_chunk_of_nothing_else_is_dropped_for_a_client_that_did_not_ask(self):
        assert without_usage(event({"id": "c", "choices": [], "usage": USAGE})) is None

    def test_beside_content_is_taken_out(self):
        stripped = without_usage(chunk("é", finish="stop", usage=USAGE, x=[1.5, None]))
        assert json.loads(data_of(stripped)) == json.loads(data_of(chunk("é", finish="stop", x=[1.5, None])))

    def test_chunk_without_it_is_left_as_it_is(self):
        raw = chunk()
        assert without_usage(raw) is raw


class TestErrors:
    def test_openai_error_in_data(self):
        raw = event({"error": {"message": "boom", "type": "server_error", "param": None, "code": None}})
        failure = error_of(raw)
        assert signal_of(raw) is Signal.ERROR
        assert isinstance(failure, UpstreamError)
        assert (failure.status, failure.code) == (502, "upstream_error")
        assert failure.message == "The model provider reported an error. It said: boom"

    @pytest.mark.parametrize(
        "raw",
        [
            b"event: error\ndata: overloaded\n\n",
            b'event: error\ndata: {"message":"overloaded"}\n\n',
            b'event:error\r\ndata: {"error":"overloaded"}\r\n\r\n',
            b'data: {"message":"overloaded"}\nevent: error\n\n',
            b'event: error\ndata: "overloaded"\n\n',
            b'data: {"error": {"message": "overloaded"}}\n\n',
            b'data: {"error" : "overloaded"}\r\n\r\n',
        ],
    )
    def test_in_other_shapes(self, raw):
        assert signal_of(raw) is Signal.ERROR
        assert error_of(raw).message.endswith("It said: overloaded")

    @pytest.mark.parametrize(
        "raw", [b"event: error\n\n", b"event: error\ndata: {}\n\n", b"event: error\ndata: 0\n\n"]
    )
    def test_that_say_nothing_are_errors_still(self, raw):
        assert signal_of(raw) is Signal.ERROR
        assert error_of(raw).message == "The model provider reported an error."

    @pytest.mark.parametrize(
        ("error", "status", "code"),
        [
            ({"message": "slow down", "code": 429}, 429, "upstream_rate_limited"),
            ({"message": "slow down", "type": "rate_limit_error"}, 429, "upstream_rate_limited"),
            ({"message": "no", "status": 503}, 502, "upstream_error"),
            ({"message": "who", "code": "invalid_api_key"}, 502, "upstream_auth_error"),
            ({"message": "pay", "code": "kyc_verification_required"}, 502, "upstream_auth_error"),
            ({"message": "x", "code": "model_not_found"}, 404, "model_not_found"),
            ({"message": "x", "code": 7, "type": []}, 502, "upstream_error"),
        ],
    )
    def test_keep_the_status_that_they_name(self, error, status, code):
        failure = error_of_object({"error": error})
        assert (failure.status, failure.code) == (status, code)

    def test_about_the_request_are_the_requests(self):
        failure = error_of_object(
            {"error": {"message": "bad", "type": "invalid_request_error", "param": "top_p"}}
        )
        assert isinstance(failure, RequestError)
        assert failure.param == "top_p"

    def test_never_show_a_key_nor_a_web_page_nor_a_novel(self):
        assert "sk-nc" not in error_of_object({"error": "key sk-nc-1234567890abcdef is bad"}).message
        assert "<html>" not in error_of(b"event: error\ndata: <html><b>nginx</b>\n\n").message
        assert len(error_of_object({"error": {"message": "x" * 5000}}).message) < 700

    @pytest.mark.parametrize("answer", [None, [], "error", {"choices": []}, {"error": None}, {"error": ""}])
    def test_are_not_seen_where_none_is(self, answer):
        assert error_of_object(answer) is None


class TestFinishReason:
    def test_of_a_last_chunk(self):
        assert finish_reason_of(chunk(finish="tool_calls")) == "tool_calls"
        assert (
            finish_reason_of(chunk(finish="stop").replace(b":", b": ").replace(b"data: :", b"data:"))
            == "stop"
        )

    def test_of_the_second_choice(self):
        choices = [{"index": 0, "finish_reason": None}, {"index": 1, "finish_reason": "stop"}]
        assert finish_reason_of(event({"choices": choices})) == "stop"
        assert finish_reason_of(event({"choices": choices[::-1]})) == "stop"

    @pytest.mark.parametrize(
        "raw",
        [
            chunk(),
            chunk("finish_reason"),
            DONE,
            event({"choices": None, "finish_reason": "stop"}),
            b"data: {",
        ],
    )
    def test_is_none_while_it_goes_on(self, raw):
        assert finish_reason_of(raw) is None


class TestModelName:
    NAME = b'"team/chat"'

    def test_is_replaced_in_place(self):
        raw = b'data: {"id":"c","model":"gpt-oss-120b","choices":[{"delta":{"content":"hi"}}]}\n\n'
        assert with_model(raw, self.NAME) == raw.replace(b"gpt-oss-120b", b"team/chat")

    def test_that_is_right_already_is_left_alone(self):
        raw = chunk(model="team/chat")
        assert with_model(raw, self.NAME) is raw

    @pytest.mark.parametrize("model", [None, "", 'odd "name"', "back\\slash", 7])
    def test_of_any_kind_is_replaced(self, model):
        changed = with_model(chunk("é", model=model), self.NAME)
        assert json.loads(data_of(changed)) == json.loads(data_of(chunk("é", model="team/chat")))

    def test_leaves_every_other_byte_as_it_was(self):
        raw = b'id: 7\ndata: {"id": "\\u00e9", "model": "m", "x": 1.50}\n\n'
        assert with_model(raw, self.NAME) == raw.replace(b'"m"', self.NAME)

    @pytest.mark.parametrize("content", ["x", "{", "}", "{}", '{"model":"n"}'])
    def test_may_stand_behind_the_choices(self, content):
        changed = with_model(chunk(content, model="m"), self.NAME)
        assert changed == chunk(content, model="team/chat")

    def test_of_an_object_inside_is_not_the_chunk_s(self):
        raw = event({"x": {"model": "inner"}, "model": "m"})
        assert json.loads(data_of(with_model(raw, self.NAME))) == {
            "x": {"model": "inner"},
            "model": "team/chat",
        }

    def test_with_blanks_around_it_is_replaced(self):
        raw = b'data: {"model" : "m", "choices": []}\r\n\r\n'
        assert json.loads(data_of(with_model(raw, self.NAME))) == {"model": "team/chat", "choices": []}

    @pytest.mark.parametrize(
        "raw",
        [
            DONE,
            b": ping\n\n",
            chunk(),
            chunk('"model":"m"'),
            b'data: {"model" : cut\n\n',
            b'data: {"model":"m',
        ],
    )
    def test_is_not_put_where_none_was(self, raw):
        assert with_model(raw, self.NAME) == raw


class TestEncoding:
    def test_event(self):
        assert encode_event(b'{"a":1}') == b'data: {"a":1}\n\n'

    @given(
        st.text(
            alphabet=st.characters(exclude_characters="\r", exclude_categories=["Cs"]), min_size=1
        ).filter(lambda text: text.strip())
    )
    def test_data_survives_whatever_its_lines(self, text):
        (whole,) = EventSplitter().feed(encode_event(text.encode()))
        assert data_of(whole) == text.encode()

    def test_error_is_openai_s_and_is_read_back(self):
        raw = encode_error(UpstreamError("upstream_timeout", "The model provider stopped sending."))
        assert json.loads(data_of(raw)) == {
            "error": {
                "message": "The model provider stopped sending.",
                "type": "upstream_error",
                "param": None,
                "code": "upstream_timeout",
            }
        }
        assert signal_of(raw) is Signal.ERROR
