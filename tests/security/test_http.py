"""Malformed and ambiguous HTTP against the running gateway: no second request ever comes out of one.

What the reader refuses one by one is in `tests/server`; here it has the whole gateway behind it, a key that is good,
and a call that would cost money if it came through.
"""

from __future__ import annotations

import json
from urllib.parse import urlsplit

import pytest
import requests

from tests.server.test_malformed import IN_THE_BODY, MALFORMED
from tests.server.wire import Wire, get, post, request

CHAT = "/v1/chat/completions"
CHUNKED = "Transfer-Encoding: chunked"


@pytest.fixture
def wire(admin):
    with Wire(urlsplit(admin.served.root_url).port) as opened:
        yield opened


@pytest.fixture
def upstream(admin):
    """What reaches NeevAI from now on."""
    url = admin.served.emulator_url
    assert requests.delete(url + "/_emulator", timeout=10).status_code == 204

    def seen() -> list[str]:
        found = requests.get(url + "/_emulator/requests", timeout=10).json()["requests"]
        return [one["path"] for one in found if one["method"] == "POST"]

    return seen


def chat(key: str, text: str = "smuggled", *headers: str) -> bytes:
    body = json.dumps({"model": "house", "messages": [{"role": "user", "content": text}]}).encode()
    return post(CHAT, body, f"Authorization: Bearer {key}", *headers)


def with_key(sent: bytes, key: str) -> bytes:
    """Add a good key to what is malformed, so that nothing but its form is at fault."""
    head, end, rest = sent.partition(b"\r\n\r\n")
    return head + f"\r\nAuthorization: Bearer {key}".encode() + end + rest


class TestSmuggling:
    @pytest.mark.parametrize("sent", MALFORMED.values(), ids=MALFORMED)
    def test_what_follows_a_malformed_request_is_never_answered(self, wire, holder, upstream, sent):
        answer = wire.send(
            with_key(sent, holder).replace(b"/smuggled", CHAT.encode()) + chat(holder)
        ).answer()
        assert answer.error == (400, "invalid_http")
        assert wire.ends()
        assert upstream() == []

    @pytest.mark.parametrize("body", IN_THE_BODY.values(), ids=IN_THE_BODY)
    def test_nor_what_follows_a_malformed_chunk(self, wire, holder, upstream, body):
        head = request("POST", CHAT, CHUNKED, f"Authorization: Bearer {holder}")
        assert wire.send(head + body + chat(holder)).answer().error == (400, "invalid_http")
        assert wire.ends()
        assert upstream() == []

    @pytest.mark.parametrize(
        ("length", "rest"),
        [(5, b""), (0, b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")],
        ids=["short", "long"],
    )
    def test_a_body_that_is_not_as_long_as_was_said_is_not_the_next_request(
        self, wire, holder, upstream, length, rest
    ):
        body = b'{"model": "house"}'
        head = request("POST", CHAT, f"Content-Length: {length}", f"Authorization: Bearer {holder}")
        wire.send(head + (body if length else rest))
        answer = wire.answer()
        assert 400 <= answer.status < 500
        if length:  # what is left of the body is no request
            assert wire.answer().error == (400, "invalid_http")
        else:  # it is one: who is let in may send another
            assert wire.answer().status == 200
        assert upstream() == []

    def test_a_call_hidden_in_a_body_stays_a_body(self, wire, holder, upstream):
        hidden = chat(holder, "hidden")
        wire.send(post(CHAT, hidden, f"Authorization: Bearer {holder}") + get("/healthz"))
        assert wire.answer().error == (400, "invalid_json")
        assert wire.answer().json() == {"status": "ok"}
        assert upstream() == []

    def test_a_call_hidden_in_a_refused_body_is_not_read(self, wire, holder, upstream):
        """Who is refused before the body was read gets no second request out of it."""
        hidden = chat(holder, "hidden")
        wire.send(request("POST", CHAT, "Content-Length: 100000") + hidden)
        assert wire.answer().error == (401, "invalid_api_key")
        assert upstream() == []

    def test_a_trailer_gives_no_key(self, wire, holder):
        body = json.dumps({"model": "house", "messages": []}).encode()
        chunks = b"%x\r\n%b\r\n0\r\nAuthorization: Bearer %b\r\n\r\n" % (len(body), body, holder.encode())
        assert wire.send(request("POST", CHAT, CHUNKED) + chunks).answer().error == (401, "invalid_api_key")

    def test_a_chunk_extension_says_nothing(self, wire, holder, upstream):
        body = chat(holder, "once").partition(b"\r\n\r\n")[2]
        head = request("POST", CHAT, CHUNKED, f"Authorization: Bearer {holder}")
        framed = b'%x;name="0\\r\\n"\r\n%b\r\n0;a=b\r\n\r\n' % (len(body), body)
        assert wire.send(head + framed).answer().json()["choices"][0]["message"]["content"] == "once"
        assert upstream() == [CHAT]

    def test_calls_sent_ahead_are_answered_one_by_one_in_their_order(self, wire, holder, upstream):
        wire.send(b"".join(chat(holder, text) for text in "abc"))
        assert [wire.answer().json()["choices"][0]["message"]["content"] for _ in "abc"] == ["a", "b", "c"]
        assert upstream() == [CHAT] * 3


class TestHeaders:
    @pytest.mark.parametrize(
        "key",
        [
            "\xff\xfe",
            "a" * 30_000,
            "sk-neev-" + "a" * 20_000,
            "%0d%0aX: y",
            "sk-neev-a.\u00e9",
            "",
            " ",
            "\t",
        ],
        ids=range(8),
    )
    @pytest.mark.parametrize(
        "header", ["Authorization: Bearer {}", "Authorization: {}", "X-Api-Key: {}", "Api-Key: {}"]
    )
    def test_any_key_is_a_401_of_one_text_or_another(self, wire, header, key):
        answer = wire.send(get("/v1/models", header.format(key))).answer()
        assert answer.error == (401, "invalid_api_key")
        assert len(answer.body) < 300

    @pytest.mark.parametrize(
        "given", ["x\xff", "a b", "x" * 129, "\u00e9", "<script>", "${jndi:ldap://x}", "../../x"]
    )
    def test_a_request_id_that_is_not_sane_is_not_repeated(self, wire, given):
        assert (
            wire.send(get("/healthz", f"X-Request-Id: {given}"))
            .answer()
            .headers["x-request-id"]
            .startswith("req_")
        )

    def test_of_two_request_ids_one_is_answered(self, wire):
        answer = wire.send(get("/healthz", "X-Request-Id: one", "X-Request-Id: two")).answer()
        assert answer.headers["x-request-id"] == "two"

    @pytest.mark.parametrize("values", [("Bearer {good}", "Bearer bad"), ("Bearer bad", "Bearer {good}")])
    def test_of_two_keys_the_last_one_counts_on_every_route(self, admin, holder, values):
        """One reading for all that look at it."""
        lines = [f"Authorization: {value.format(good=holder)}" for value in values]
        expected = 200 if "{good}" in values[1] else 401
        for path in ("/v1/models", "/key/info"):
            with Wire(urlsplit(admin.served.root_url).port) as opened:
                assert opened.send(get(path, *lines)).answer().status == expected

    def test_a_server_says_nothing_of_what_it_is_made_of(self, wire):
        names = set(wire.send(get("/v1/models")).answer().headers)
        assert not names & {"server", "via", "x-powered-by", "access-control-allow-origin", "set-cookie"}
