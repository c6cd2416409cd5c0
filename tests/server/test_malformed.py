"""What is not clear HTTP/1.1 is refused with 400 in our shape, and never reaches the application."""

from __future__ import annotations

import socket

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.server.wire import Wire, get, post, request

CHUNKED = "Transfer-Encoding: chunked"


def chunked(body: bytes, *headers: str) -> bytes:
    return request("POST", "/smuggled", *(headers or (CHUNKED,))) + body


MALFORMED = {
    "nothing like HTTP": b"hello\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "a line feed alone after the request line": b"GET /smuggled HTTP/1.1\nHost: a\n\n",
    "a line feed alone after a header": b"GET /smuggled HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
    "a carriage return alone": b"GET /smuggled HTTP/1.1\r\nHost: a\rX: b\r\n\r\n",
    "a folded header": b"GET /smuggled HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n",
    "NUL in a name": get("/smuggled", "X\0: b"),
    "NUL in a value": get("/smuggled", "X: a\0b"),
    "a control character in a value": get("/smuggled", "X: a\x01b"),
    "8 bits in a name": get("/smuggled", "X\xe9: b"),
    "a blank in a name": get("/smuggled", "X y: b"),
    "a blank before the colon": get("/smuggled", "Content-Length : 3"),
    "no colon": get("/smuggled", "Xy"),
    "an empty name": get("/smuggled", ": b"),
    "8 bits in the target": get("/smuggled\xe9"),
    "NUL in the target": get("/smuggled\0"),
    "a blank in the target": get("/smuggled /x"),
    "a fragment in the target": get("/smuggled#x"),
    "a relative target": get("smuggled"),
    "the form of a target for proxies": get("http://elsewhere/smuggled"),
    "CONNECT": request("CONNECT", "elsewhere:443"),
    "CONNECT with a path": request("CONNECT", "/smuggled"),
    "a star": request("OPTIONS", "*"),
    "an unknown method": request("FROB", "/smuggled"),
    "a method in lower case": request("get", "/smuggled"),
    "HTTP/0.9": b"GET /smuggled\r\n\r\n",
    "HTTP/0.9 by name": get("/smuggled", version="0.9"),
    "HTTP/1.2": get("/smuggled", version="1.2"),
    "HTTP/2 by name": get("/smuggled", version="2.0"),
    "HTTP/2's preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP in lower case": b"GET /smuggled http/1.1\r\nHost: a\r\n\r\n",
    "no Host": b"GET /smuggled HTTP/1.1\r\n\r\n",
    "two Hosts": get("/smuggled", "Host: elsewhere"),
    "two lengths": request("POST", "/smuggled", "Content-Length: 3", "Content-Length: 4") + b"abcd",
    "the same length twice": request("POST", "/smuggled", "Content-Length: 3", "Content-Length: 3") + b"abc",
    "a list of lengths": request("POST", "/smuggled", "Content-Length: 3, 3") + b"abc",
    "a length with a sign": request("POST", "/smuggled", "Content-Length: +3") + b"abc",
    "a negative length": request("POST", "/smuggled", "Content-Length: -3") + b"abc",
    "a length in hexadecimal": request("POST", "/smuggled", "Content-Length: 0x3") + b"abc",
    "no length at all": request("POST", "/smuggled", "Content-Length: ") + b"abc",
    "a length of more than 64 bits": request("POST", "/smuggled", "Content-Length: 99999999999999999999")
    + b"abc",
    "length and chunks": chunked(b"0\r\n\r\n", "Content-Length: 5", CHUNKED),
    "chunks and length": chunked(b"0\r\n\r\n", CHUNKED, "Content-Length: 5"),
    "chunks twice": chunked(b"0\r\n\r\n", CHUNKED, CHUNKED),
    "another coding before chunks": chunked(b"0\r\n\r\n", "Transfer-Encoding: gzip, chunked"),
    "another coding after chunks": chunked(b"0\r\n\r\n", "Transfer-Encoding: chunked, gzip"),
    "another coding": chunked(b"0\r\n\r\n", "Transfer-Encoding: identity"),
    "almost chunked": chunked(b"0\r\n\r\n", "Transfer-Encoding: xchunked"),
    "chunked behind a control character": chunked(b"0\r\n\r\n", "Transfer-Encoding: \x0bchunked"),
    "chunks in HTTP/1.0": request("POST", "/smuggled", CHUNKED, version="1.0") + b"0\r\n\r\n",
}
IN_THE_BODY = {
    "a negative size": b"-1\r\n\r\n",
    "a size with a prefix": b"0x3\r\nabc\r\n0\r\n\r\n",
    "a size with a blank": b"3 \r\nabc\r\n0\r\n\r\n",
    "a size of more than 64 bits": b"fffffffffffffffff\r\nabc",
    "line feeds alone": b"3\nabc\n0\n\n",
    "a line feed alone after an extension": b"3;a\nabc\r\n0\r\n\r\n",
    "more than was said": b"3\r\nabcd\r\n0\r\n\r\n",
    "no line end after a chunk": b"3\r\nabc0\r\n\r\n",
}


@pytest.mark.parametrize("sent", MALFORMED.values(), ids=MALFORMED)
def test_is_refused_and_closed(server, sent):
    before = server.calls("/smuggled")
    with server.wire() as wire:
        answer = wire.send(sent + get("/smuggled")).answer()
        assert answer.error == (400, "invalid_http")
        assert answer.headers["connection"] == "close"
        assert wire.ends()
    assert server.calls("/smuggled") == before


@pytest.mark.parametrize("body", IN_THE_BODY.values(), ids=IN_THE_BODY)
def test_a_malformed_chunk_ends_a_request_that_has_begun(server, body):
    with server.wire() as wire:
        assert wire.send(chunked(body)).answer().error == (400, "invalid_http")
        assert wire.ends()


def test_a_malformed_request_waits_for_the_answers_before_it(server):
    with server.wire() as wire:
        wire.send(get("/one") + get("/two") + b"rubbish\r\n\r\n" + get("/smuggled"))
        assert wire.answer().json()["path"] == "/one"
        assert wire.answer().json()["path"] == "/two"
        assert wire.answer().error == (400, "invalid_http")
        assert wire.ends()


def test_a_malformed_body_that_waits_its_turn_is_refused_after_the_answers_before_it(server):
    with server.wire() as wire:
        wire.send(get("/one") + chunked(b"zz\r\n"))
        assert wire.answer().json()["path"] == "/one"
        assert wire.answer().error == (400, "invalid_http")
        assert wire.ends()


def test_what_follows_a_last_request_is_ignored(server):
    with server.wire() as wire:
        answer = wire.send(get("/one", "Connection: close") + get("/smuggled")).answer()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert wire.ends()


def test_trailers_do_not_become_headers(server):
    body = b"3\r\nabc\r\n0\r\nAuthorization: Bearer x\r\nHost: elsewhere\r\n\r\n"
    seen = server.ask(request("POST", "/echo", CHUNKED) + body).json()
    assert seen["body"] == "abc"
    assert seen["headers"] == [["host", "here"], ["transfer-encoding", "chunked"]]


class TestUpgrades:
    def test_a_websocket_is_answered_like_any_request(self, server):
        words = (
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: eA==",
        )
        with server.wire() as wire:
            answer = wire.send(get("/socket", *words)).answer()
            assert (answer.status, answer.json()["path"]) == (200, "/socket")
            assert wire.send(get("/next")).answer().json()["path"] == "/next"

    @pytest.mark.parametrize("cut", [0, 3, 60, 200])
    def test_an_offer_of_h2c_with_a_body_is_declined_and_the_body_is_read(self, server, cut):
        """Java's HTTP client makes one by default."""
        offer = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAAAAIAAAAB")
        sent = post("/java", b'{"model": "x"}', *offer)
        with server.wire() as wire:
            wire.send(sent[: len(sent) - cut])
            seen = wire.send(sent[len(sent) - cut :]).answer().json()
            assert (seen["method"], seen["path"], seen["body"]) == ("POST", "/java", '{"model": "x"}')
            assert not {"upgrade", "http2-settings"} & {name for name, _ in seen["headers"]}
            assert wire.send(get("/next")).answer().json()["path"] == "/next"

    def test_what_comes_with_an_offer_is_not_another_protocols(self, server):
        with server.wire() as wire:
            wire.send(get("/one", "Connection: Upgrade", "Upgrade: x") + get("/two"))
            assert [wire.answer().json()["path"] for _ in range(2)] == ["/one", "/two"]


PIECES = st.sampled_from(
    [b"GET ", b"POST ", b"/a", b"*", b" HTTP/1.1", b" HTTP/1.0", b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b"\0", b"\xff",
     b"Host: a", b"Content-Length: 3", b"Transfer-Encoding: chunked", b"Connection: close", b"Upgrade: x",
     b"Connection: Upgrade", b"Expect: 100-continue", b"abc", b"3", b"0", b"\r\n\r\n", b"3\r\nabc\r\n0\r\n\r\n"]
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(PIECES, max_size=25))
def test_no_bytes_at_all_make_a_server_error(server, parts):
    with Wire(server.port) as wire:
        for part in (parts[:12], parts[12:]):
            wire.send(b"".join(part))
        wire.socket.shutdown(socket.SHUT_WR)
        while wire.more():
            pass
        assert b"HTTP/1.1 5" not in wire.buffer


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(1, 240), max_size=5))
def test_how_requests_are_cut_into_segments_makes_no_difference(server, cuts):
    sent = (
        get("/one")
        + post("/two", b"abc")
        + chunked(b"3\r\nabc\r\n0\r\n\r\n")
        + get("/four", "Connection: close")
    )
    places = sorted({0, len(sent), *cuts})
    with Wire(server.port) as wire:
        for start, end in zip(places, places[1:], strict=False):
            wire.send(sent[start:end])
        seen = [wire.answer().json() for _ in range(4)]
        assert [(each["path"], each["body"]) for each in seen] == [
            ("/one", ""), ("/two", "abc"), ("/smuggled", "abc"), ("/four", "")
        ]  # fmt: skip
        assert wire.ends()
