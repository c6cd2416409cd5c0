"""One table from cause to HTTP error; any upstream answer becomes one of its rows; no key ever shows."""

from __future__ import annotations

import copy
import datetime as dt
import json
import pickle
import re
import time
from email.utils import format_datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neev_provider import errors
from neev_provider.errors import (
    ERRORS,
    ConfigError,
    LimitError,
    NeevError,
    RequestError,
    ServerError,
    UpstreamError,
    from_upstream,
    parse_retry_after,
    redact,
)

# DESIGN section 3, row by row.
TABLE = [
    ("invalid_json", 400, "invalid_request_error"),
    ("invalid_type", 400, "invalid_request_error"),
    ("invalid_value", 400, "invalid_request_error"),
    ("missing_required_parameter", 400, "invalid_request_error"),
    ("unsupported_parameter", 400, "invalid_request_error"),
    ("context_length_exceeded", 400, "invalid_request_error"),
    ("invalid_request", 400, "invalid_request_error"),
    ("invalid_http", 400, "invalid_request_error"),
    ("invalid_api_key", 401, "invalid_request_error"),
    ("expired_api_key", 401, "invalid_request_error"),
    ("key_blocked", 401, "invalid_request_error"),
    ("model_not_allowed", 403, "permission_error"),
    ("model_unpriced", 403, "permission_error"),
    ("admin_only", 403, "permission_error"),
    ("model_not_found", 404, "invalid_request_error"),
    ("key_not_found", 404, "invalid_request_error"),
    ("team_not_found", 404, "invalid_request_error"),
    ("unknown_url", 404, "invalid_request_error"),
    ("method_not_allowed", 405, "invalid_request_error"),
    ("request_timeout", 408, "invalid_request_error"),
    ("request_too_large", 413, "invalid_request_error"),
    ("unsupported_media_type", 415, "invalid_request_error"),
    ("rate_limit_exceeded", 429, "rate_limit_error"),
    ("budget_exceeded", 429, "insufficient_quota"),
    ("upstream_rate_limited", 429, "rate_limit_error"),
    ("headers_too_large", 431, "invalid_request_error"),
    ("upstream_auth_error", 502, "upstream_error"),
    ("upstream_error", 502, "upstream_error"),
    ("upstream_bad_response", 502, "upstream_error"),
    ("upstream_unavailable", 503, "upstream_error"),
    ("upstream_timeout", 504, "upstream_error"),
    ("internal_error", 500, "server_error"),
    ("store_unavailable", 503, "server_error"),
    ("server_overloaded", 503, "server_error"),
    ("litellm_unavailable", 503, "server_error"),
]
KINDS = [NeevError, RequestError, LimitError, UpstreamError, ServerError]


def test_the_module_offers_what_it_names():
    assert all(hasattr(errors, name) for name in errors.__all__)


class TestTable:
    @pytest.mark.parametrize(("code", "status", "kind"), TABLE)
    def test_a_code_decides_status_and_type(self, code, status, kind):
        error = NeevError(code, "Why.")
        assert (error.status, error.type) == (status, kind)
        assert error.body() == {"error": {"message": "Why.", "type": kind, "param": None, "code": code}}

    def test_every_row_stands_in_this_test(self):
        assert [code for code, _, _ in TABLE] == list(ERRORS)

    def test_a_code_outside_the_table_is_a_mistake_of_ours(self):
        with pytest.raises(KeyError):
            NeevError("whatever", "Why.")


class TestNeevError:
    def test_its_body_is_openais(self):
        error = RequestError("invalid_value", 'Say "नमस्ते".', param="messages[0].content")
        assert json.loads(error.encode()) == {
            "error": {
                "message": 'Say "नमस्ते".',
                "type": "invalid_request_error",
                "param": "messages[0].content",
                "code": "invalid_value",
            }
        }

    def test_its_text_is_its_message(self):
        assert str(LimitError("budget_exceeded", "Used up.")) == "Used up."

    @pytest.mark.parametrize("message", ["\ud800", "नमस्ते \udfff", "a\x00b", "😀"])
    def test_any_text_can_be_sent(self, message):
        assert json.loads(NeevError("internal_error", message).encode())["error"]["code"] == "internal_error"

    @pytest.mark.parametrize(
        ("seconds", "header"),
        [
            (0, "0"),
            (0.0, "0"),
            (0.001, "1"),
            (1, "1"),
            (1.2, "2"),
            (59.999, "60"),
            (-3, "0"),
            (86_400.5, "86401"),
        ],
    )
    def test_retry_after_is_whole_seconds_rounded_up(self, seconds, header):
        error = LimitError("rate_limit_exceeded", "x", retry_after=seconds)
        assert error.headers()["retry-after"] == header

    @pytest.mark.parametrize("seconds", [None, float("nan"), float("inf"), float("-inf")])
    def test_no_header_without_a_time(self, seconds):
        assert LimitError("rate_limit_exceeded", "x", retry_after=seconds).headers() == {}

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize(
        "again", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy]
    )
    def test_it_survives_a_process_boundary_whole(self, kind, again):
        error = kind("upstream_error", "Why.", param="n", retry_after=1.5, upstream_status=500)
        copied = again(error)
        assert type(copied) is kind
        assert vars(copied) == vars(error)
        assert (str(copied), copied.encode(), copied.headers()) == (
            str(error),
            error.encode(),
            error.headers(),
        )

    @pytest.mark.parametrize("kind", KINDS)
    def test_one_except_clause_catches_them_all(self, kind):
        assert issubclass(kind, NeevError)

    def test_a_configuration_fault_is_not_among_them(self):
        assert not issubclass(ConfigError, NeevError)


class TestConfigError:
    def test_its_text_is_file_place_problem_and_remedy_in_one_line(self):
        error = ConfigError("proxy.yaml", "model_list[3].model_name", "is empty", "Give it a name.")
        assert str(error) == "proxy.yaml: model_list[3].model_name: is empty. Give it a name."

    def test_the_place_may_be_the_whole_file(self):
        assert str(ConfigError("proxy.yaml", "", "cannot be read.", "Name a file.")) == (
            "proxy.yaml: cannot be read. Name a file."
        )

    def test_a_missing_variable_is_named(self):
        error = ConfigError.missing_variable("NEEV_API_KEY", "Set it to your key.")
        assert str(error) == "environment: NEEV_API_KEY: is not set. Set it to your key."

    @pytest.mark.parametrize("again", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy])
    def test_it_survives_a_process_boundary_whole(self, again):
        error = ConfigError("a", "b", "c", "d")
        assert (str(again(error)), vars(again(error))) == (str(error), vars(error))


NOW = 1_445_412_480.0  # Wed, 21 Oct 2015 07:28:00 GMT


class TestRetryAfter:
    @pytest.mark.parametrize(
        ("value", "seconds"),
        [
            ("0", 0.0),
            ("120", 120.0),
            (" 7 ", 7.0),
            ("1.5", 1.5),
            ("-5", 0.0),
            ("-inf", 0.0),
            ("999999999", 999_999_999.0),
            ("Wed, 21 Oct 2015 07:29:00 GMT", 60.0),
            ("Wednesday, 21-Oct-15 07:29:00 GMT", 60.0),
            ("Wed Oct 21 07:29:00 2015", 60.0),
            ("Wed, 21 Oct 2015 07:29:00 -0000", 60.0),
            ("Wed, 21 Oct 2015 12:59:00 +0530", 60.0),
            ("Wed, 21 Oct 2015 07:27:00 GMT", 0.0),
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ],
    )
    @pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata"])
    def test_seconds_and_dates_are_read(self, monkeypatch, value, seconds, zone):
        with monkeypatch.context() as patch:
            patch.setenv("TZ", zone)
            time.tzset()
            assert parse_retry_after(value, now=NOW) == seconds
        time.tzset()

    @pytest.mark.parametrize(
        "value",
        [None, "", " ", "soon", "nan", "inf", "1e400", "1e9", "0x10", "1,5", "12 s", "Wed, 21 Oct 2015", "Wed, 99 Oct 2015 07:28:00 GMT"],
    )  # fmt: skip
    def test_what_cannot_be_read_is_none(self, value):
        assert parse_retry_after(value, now=NOW) is None

    def test_a_date_is_compared_with_the_clock(self):
        in_a_minute = format_datetime(dt.datetime.now(dt.UTC) + dt.timedelta(minutes=1))
        assert 55 < parse_retry_after(in_a_minute) <= 60

    @given(
        st.text(max_size=40)
        | st.from_regex(r"[A-Z][a-z]{2}, \d{1,3} [A-Z][a-z]{2} \d{1,6} \d+:\d+:\d+ \S{0,6}")
    )
    def test_any_text_gives_seconds_or_none(self, value):
        seconds = parse_retry_after(value, now=NOW)
        assert seconds is None or 0 <= seconds < 1e9


class TestRedaction:
    @pytest.mark.parametrize(
        "secret",
        [
            "sk-nc-0123456789abcdef",
            "pat-nc-0123456789abcdef",
            "sk-neev-team1.AbC_d-9",
            "sk-proj-abc_DEF",
            "sk-...cdef",
            "sk-****cdef",
            "Bearer 0123456789abcdef",
            "bearer  abcdefgh+/=",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl",
        ],
    )
    @pytest.mark.parametrize(
        "around", ["{}", "key {} is wrong", "'{}'", "key={},x", "%20{}&", "x_{}", "नम{}"]
    )
    def test_what_looks_like_a_key_is_taken_out(self, secret, around):
        redacted = redact(around.format(secret))
        assert secret not in redacted
        assert "cdef" not in redacted
        assert "[redacted]" in redacted

    @pytest.mark.parametrize(
        "text",
        [
            "a risk-free task-list",
            "desk-top",
            "the model gpt-oss-120b",
            "Bearer token",
            "sk-",
            "eyJ is how JWTs begin",
        ],
    )
    def test_other_text_stays(self, text):
        assert redact(text) == text


SECRET = "sk-nc-0123456789abcdef"
# Every shape in NEEV_API.md, "Errors", with the text it carries; "" = none that a client should see.
SHAPES = {
    "documented": (b'{"error":{"message":"It said so","type":"t","param":null,"code":null}}', "It said so"),
    "documented, least": (b'{"error":{"message":"It said so","type":"t"}}', "It said so"),
    "error as text": (b'{"error":"It said so"}', "It said so"),
    "error as text with details": (
        b'{"error":"Title","message":"It said so","details":"x","scope":"y"}',
        "It said so",
    ),
    "only details": (b'{"error":"","details":"It said so"}', "It said so"),
    "detail": (b'{"detail":"It said so"}', "It said so"),
    "code and message": (b'{"code":400,"message":"It said so"}', "It said so"),
    "reason_code": (b'{"reason_code":"forbidden","message":"It said so"}', "It said so"),
    "empty inner message": (b'{"error":{"message":null},"message":"It said so"}', "It said so"),
    "white space": (b'{"message":"  It \\n\\t said  so "}', "It said so"),
    "HTML": (b"<html><body><h1>502 Bad Gateway</h1>nginx/1.2 at /srv/app</body></html>", ""),
    "prose": (b"upstream connect error at 10.0.0.7:9000", ""),
    "nothing": (b"", ""),
    "array": (b'["x"]', ""),
    "text": (b'"x"', ""),
    "null": (b"null", ""),
    "no text at all": (b'{"error":{"message":5,"type":[]},"detail":[{"msg":"x"}]}', ""),
    "truncated": (b'{"error":{"message":"It sa', ""),
    "not UTF-8": (b'{"message":"\xff"}', ""),
    "deep": (b'{"error":' * 100_000, ""),
    "number too long": (b'{"error":' + b"1" * 10_000 + b"}", ""),
}
OUTCOMES = [
    (200, UpstreamError, "upstream_bad_response", 502),
    (302, UpstreamError, "upstream_bad_response", 502),
    (400, RequestError, "invalid_request", 400),
    (401, UpstreamError, "upstream_auth_error", 502),
    (402, UpstreamError, "upstream_auth_error", 502),
    (403, UpstreamError, "upstream_auth_error", 502),
    (404, RequestError, "model_not_found", 404),
    (405, RequestError, "invalid_request", 400),
    (408, UpstreamError, "upstream_timeout", 504),
    (409, RequestError, "invalid_request", 400),
    (413, RequestError, "request_too_large", 413),
    (422, RequestError, "invalid_request", 400),
    (429, UpstreamError, "upstream_rate_limited", 429),
    (500, UpstreamError, "upstream_error", 502),
    (502, UpstreamError, "upstream_error", 502),
    (503, UpstreamError, "upstream_error", 502),
    (504, UpstreamError, "upstream_error", 502),
    (529, UpstreamError, "upstream_error", 502),
]


class TestFromUpstream:
    @pytest.mark.parametrize(("status", "kind", "code", "shown"), OUTCOMES)
    @pytest.mark.parametrize("shape", SHAPES)
    def test_any_status_with_any_body_is_one_error(self, status, kind, code, shown, shape):
        body, said = SHAPES[shape]
        error = from_upstream(status, body)
        assert (type(error), error.code, error.status, error.upstream_status) == (kind, code, shown, status)
        assert error.param is None
        assert error.message.endswith((".", said))
        if status in {401, 402, 403}:
            assert "not about your key" in error.message
            assert not said or said not in error.message
        else:
            assert said in error.message
        assert b"nginx" not in error.encode()
        assert b"10.0.0.7" not in error.encode()

    @pytest.mark.parametrize("status", [status for status, *_ in OUTCOMES])
    def test_no_key_is_ever_passed_on(self, status):
        body = json.dumps(
            {"error": {"message": f"Incorrect API key: {SECRET}", "param": SECRET, "code": SECRET}}
        )
        error = from_upstream(status, body.encode())
        assert "0123456789abcdef" not in error.encode().decode() + repr(error) + str(vars(error))

    @pytest.mark.parametrize("status", [400, 429, 500])
    def test_a_long_text_is_cut(self, status):
        error = from_upstream(status, json.dumps({"message": "long " * 1_000_000}).encode())
        assert len(error.message) < 700
        assert error.message.endswith("…")

    @pytest.mark.parametrize(
        ("status", "waits"), [(429, True), (500, True), (503, True), (401, False), (400, False)]
    )
    def test_retry_after_is_kept_where_a_retry_makes_sense(self, status, waits):
        error = from_upstream(status, b"", retry_after="7")
        assert error.headers() == ({"retry-after": "7"} if waits else {})

    @pytest.mark.parametrize("retry_after", [None, "soon", "nan"])
    def test_an_unreadable_retry_after_is_none(self, retry_after):
        assert from_upstream(429, b"", retry_after=retry_after).headers() == {}

    @pytest.mark.parametrize("code", [code for code, shape in ERRORS.items() if shape.status == 400])
    def test_a_code_of_ours_is_kept(self, code):
        error = from_upstream(
            400, msgspec.json.encode({"error": {"message": "x", "code": code, "param": "n"}})
        )
        assert (error.code, error.param) == (code, "n")

    @pytest.mark.parametrize(
        "code", ["invalid_api_key", "internal_error", "kyc_verification_required", "unauthorized", "x" * 9999]
    )
    def test_any_other_code_says_nothing_about_the_caller(self, code):
        error = from_upstream(400, msgspec.json.encode({"error": {"message": "x", "code": code}}))
        assert (error.code, error.status) == ("invalid_request", 400)

    @pytest.mark.parametrize("param", ["", 5, ["n"], "a b", "n\nx", "<script>", "x" * 101, SECRET])
    def test_a_param_that_is_no_place_is_dropped(self, param):
        assert (
            from_upstream(400, msgspec.json.encode({"error": {"message": "x", "param": param}})).param is None
        )

    @pytest.mark.parametrize("param", ["n", "messages[0].content", "stream_options.include_usage"])
    def test_a_param_that_is_a_place_is_kept(self, param):
        assert (
            from_upstream(400, msgspec.json.encode({"error": {"message": "x", "param": param}})).param
            == param
        )

    @pytest.mark.parametrize("status", [400, 413, 422])
    @pytest.mark.parametrize(
        ("message", "code"),
        [
            ("This model's maximum context length is 8192 tokens.", None),
            ("prompt is too long: 9000 tokens", None),
            ("Input exceeds the model's context window", None),
            ("Too many tokens", None),
            ("whatever", "context_length_exceeded"),
        ],
    )
    def test_a_prompt_beyond_the_context_window_is_told_as_such(self, status, message, code):
        error = from_upstream(status, msgspec.json.encode({"error": {"message": message, "code": code}}))
        assert (error.code, error.status) == ("context_length_exceeded", 400)

    @pytest.mark.parametrize(
        ("message", "code", "param"),
        [
            ("The model `x` does not exist or you do not have access to it.", None, None),
            ("The model 'x/y z' does not exist", None, "model"),
            ("Model llama-9 not found", None, None),
            ("Unknown model: llama-9", None, None),
            ("invalid model", None, None),
            ("No such model", None, None),
            ("model llama-9 is not available", None, None),
            ("Model (llama-9) is unsupported.", None, None),
            ("whatever", "model_not_found", None),
        ],
    )
    def test_an_unknown_model_is_404_though_upstream_says_400(self, message, code, param):
        body = {"error": {"message": message, "code": code, "param": param}}
        error = from_upstream(400, msgspec.json.encode(body))
        assert (error.code, error.status) == ("model_not_found", 404)

    @pytest.mark.parametrize(
        ("message", "param"),
        [
            ("model llama-9: unknown field foo", None),
            ("Invalid parameter for this model: temperature is unsupported", None),
            ("Invalid model parameter: top_k", None),
            ("The model's output was not valid JSON", None),
            ("The model `x` does not support tools", None),
            ("Model temperature is invalid.", "temperature"),
            ("model x: tool look not found", "tools[0].function.name"),
        ],
    )
    def test_another_complaint_that_mentions_the_model_stays_400(self, message, param):
        error = from_upstream(400, msgspec.json.encode({"error": {"message": message, "param": param}}))
        assert (error.code, error.status) == ("invalid_request", 400)

    @given(st.integers(100, 599), st.binary(max_size=200), st.none() | st.text(max_size=20))
    def test_nothing_makes_it_fail(self, status, body, retry_after):
        assert from_upstream(status, body, retry_after=retry_after).encode()


class TestDocument:
    """docs/errors.md lists every code with its status, and no other."""

    def test_every_code_is_explained_once_with_its_status(self):
        text = (Path(__file__).parents[2] / "docs" / "errors.md").read_text()
        rows = [line.split("|") for line in text.splitlines() if re.match(r"\| [0-9]{3} \|", line)]
        told = [(code, int(row[1])) for row in rows for code in re.findall(r"`(\w+)`", row[2])]
        assert sorted(told) == sorted((code, shape.status) for code, shape in ERRORS.items())


class TestClientsAreToldNotToWait:
    """The official clients obey `x-should-retry`; some would otherwise sleep as long as `retry-after` says, days too."""

    @pytest.mark.parametrize("seconds", [None, 5, 2_592_000])
    def test_for_a_budget_that_is_used_up(self, seconds):
        error = LimitError("budget_exceeded", "Used up.", retry_after=seconds)
        assert error.headers()["x-should-retry"] == "false"

    def test_for_anything_that_takes_more_than_two_minutes(self):
        assert LimitError("rate_limit_exceeded", "x", retry_after=121).headers()["x-should-retry"] == "false"

    @pytest.mark.parametrize("seconds", [None, 1, 61, 120])
    def test_but_a_short_wait_is_theirs_to_decide(self, seconds):
        assert "x-should-retry" not in LimitError("rate_limit_exceeded", "x", retry_after=seconds).headers()
