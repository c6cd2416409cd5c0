"""Where messages end: the only HTTP that the rig's two ends understand."""

from __future__ import annotations

import pytest

from benchmarks.http import body_of, decode_chunked, message_end, request_bytes

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "message",
    [
        b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nserver: x\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nserver: x\r\nContent-Length:5\r\n\r\nhello",
        CHUNKED + b"5\r\nhello\r\n0\r\n\r\n",
        CHUNKED + b"5;name=value\r\nhello\r\nA\r\n0123456789\r\n0\r\n\r\n",
        CHUNKED + b"5\r\nhello\r\n0\r\ntrailer: value\r\n\r\n",
    ],
)
def test_a_message_ends_at_its_last_byte_and_not_before(message: bytes) -> None:
    assert message_end(message) == len(message)
    assert message_end(message + b"HTTP/1.1 200") == len(message)
    assert [message_end(message[:cut]) for cut in range(len(message))] == [None] * len(message)


def test_a_chunk_that_contains_the_final_marker_does_not_end_the_message() -> None:
    message = CHUNKED + b"5\r\n0\r\n\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    assert message_end(message) == len(message)


def test_a_body_is_without_its_framing() -> None:
    assert body_of(CHUNKED + b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n") == b"hello world"
    assert body_of(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello") == b"hello"


def test_an_incomplete_chunk_is_left_out() -> None:
    assert decode_chunked(b"5\r\nhello\r\n6\r\n wor") == b"hello"


def test_a_request_is_one_complete_message() -> None:
    request = request_bytes(80, "/x", {"authorization": "Bearer k"}, b"{}")
    assert message_end(request) == len(request)
    assert body_of(request) == b"{}"
    assert b"\r\nauthorization: Bearer k\r\n" in request
