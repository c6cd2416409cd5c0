"""What is fuzzed, and what must hold whatever the bytes. No fuzzer is needed here: the corpus is replayed in the tests.

Each target takes bytes and raises AssertionError, or whatever the code under test should not have raised.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

from neev_provider.contract import ChatBody, SpeechBody, forbidden_field, parse_chat, parse_speech, peek_model
from neev_provider.contract import schema as contract_schema
from neev_provider.errors import ERRORS, NeevError, RequestError, from_upstream, redact
from neev_provider.gateway.admin_request import parse_fields, parse_query
from neev_provider.gateway.admin_words import KEY_WORDS, TEAM_WORDS
from neev_provider.gateway.http_reader import RequestReader
from neev_provider.gateway.relay import EventRelay
from neev_provider.gateway.server_state import ServerOptions
from neev_provider.sse import EventSplitter, data_of, encode_error, error_of, terminated, without_usage
from neev_provider.usage import StreamMeter

LONGEST_ERROR = 2000  # bytes; an error does not grow with what caused it


# The SSE reader: what the client sees does not depend on how the reads were split.


def sse(data: bytes) -> None:
    """The first bytes say how the others are split."""
    if len(data) < 3:
        return
    shows_usage, sizes, stream = bool(data[0] & 1), data[1:3], data[3:]
    whole = _events([stream])
    split = list(_split(stream, [size % 17 + 1 for size in sizes]))
    assert b"".join(whole) == stream
    assert _events(split) == whole
    for event in whole:
        _one_event(event)
    seen = _relayed([stream], shows_usage)
    assert _relayed(split, shows_usage) == seen
    assert _relayed(whole, shows_usage) == seen


def _split(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    start = turn = 0
    while start < len(data):
        yield data[start : start + sizes[turn % len(sizes)]]
        start += sizes[turn % len(sizes)]
        turn += 1


def _events(reads: list[bytes]) -> list[bytes]:
    splitter = EventSplitter()
    return [event for read in reads for event in splitter.feed(read)] + splitter.flush()


def _one_event(event: bytes) -> None:
    data_of(event)
    failure = error_of(event)
    if failure is not None:
        assert isinstance(failure, NeevError)
        assert len(encode_error(failure)) < 2 * LONGEST_ERROR
    ended = terminated(event)
    assert _events([ended, b"data: x\n\n"])[-1] == b"data: x\n\n"
    without = without_usage(event)
    if without is not None and without != event:
        assert "usage" not in json.loads(data_of(without))


def _relayed(reads: list[bytes], shows_usage: bool) -> tuple[Any, ...]:
    meter = StreamMeter(100)
    relay = EventRelay("house", meter, shows_usage=shows_usage)
    seen = b""
    for read in reads:
        if not relay.is_over:
            seen += relay.digest(read)
    if not relay.is_over:
        seen += relay.rest()
    failure = None if relay.failure is None else (relay.failure.code, relay.failure.message)
    return seen, failure, relay.is_over, meter.usage(), meter.finish_reason


# The contract: only refusals of its own; what is accepted is JSON that every reader understands the same.


def contract(data: bytes) -> None:
    for parse, known in ((parse_chat, ChatBody), (parse_speech, SpeechBody)):
        request = _refused(lambda parse=parse: parse(data))
        if request is not None:
            _same_for_another_reader(request, data, frozenset(known.__struct_fields__))
            again = parse(request.encode(model=request.model))
            assert again.encode(model="m") == request.encode(model="m")
            assert peek_model(data) == request.model
    peek_model(data)
    status = 400 + (data[0] % 200 if data else 0)
    assert len(from_upstream(status, data).encode()) < 6 * LONGEST_ERROR
    redact(data.decode("utf-8", "replace"))


def _refused(parse: Callable[[], Any]) -> Any:
    failure = None
    try:
        return parse()
    except RequestError as error:
        failure = error
    assert failure.code in ERRORS
    assert len(failure.encode()) < LONGEST_ERROR
    json.loads(failure.encode())
    return None


def _same_for_another_reader(request: Any, data: bytes, known: frozenset[str]) -> None:
    """What goes upstream holds no field that was refused by its name, read by another library than ours."""
    sent = json.loads(request.encode(model="m"))
    assert sent["model"] == "m"
    assert forbidden_field([name for name in sent if name not in known]) is None
    came = json.loads(data)
    renamed = {
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "model",
        "stream_options",
        "response_format",
        "speed",
    }
    for name, value in came.items():
        if name not in renamed:
            # repr: NaN is no number here, and huge exponents are infinite on both sides.
            assert repr(sent[name]) == repr(value), name
    assert len(contract_schema.read_fields(data)) == len(came)


# Admin requests.


def admin(data: bytes) -> None:
    query, _, body = data.partition(b"\n")
    with contextlib.suppress(RequestError):
        parse_query(query, frozenset({"key", "page"}))
    fields = _refused(lambda: parse_fields(body))
    for words in (KEY_WORDS, TEAM_WORDS):
        if fields is not None:
            _refused(lambda words=words: words.read(fields, ("key", "team_id")))


# Heads and bodies of HTTP: the same requests however the bytes arrive, and never one more.


class _Requests:
    def __init__(self) -> None:
        self.seen: list[Any] = []

    def on_head(self) -> None:
        pass

    def on_request(self, scope: dict[str, Any], *, keep_alive: bool, expects_continue: bool) -> None:
        head = (scope["method"], scope["raw_path"], scope["query_string"], tuple(scope["headers"]))
        self.seen.append([head, keep_alive, expects_continue, b"", False])

    def on_body(self, part: bytes) -> None:
        self.seen[-1][3] += part

    def on_end(self) -> None:
        self.seen[-1][4] = True


def http(data: bytes) -> None:
    whole, fault = _read([data])
    split, split_fault = _read([data[i : i + 1] for i in range(len(data))])
    assert split == whole
    assert (fault is None) == (split_fault is None)
    for head, *_ in whole:
        _is_clear(head[1], dict(head[3]), [name for name, _ in head[3]])


def _read(reads: list[bytes]) -> tuple[list[Any], str | None]:
    requests = _Requests()
    reader = RequestReader(requests, ServerOptions(), None, None)
    try:
        for read in reads:
            fault = reader.feed(read)
            if fault is not None:
                assert fault.code in {"invalid_http", "headers_too_large"}
                assert len(fault.encode()) < LONGEST_ERROR
                return requests.seen, fault.code
        return requests.seen, None
    finally:
        reader.close()


def _is_clear(target: bytes, headers: dict[bytes, bytes], names: list[bytes]) -> None:
    """What is let in can be read one way only (RFC 9112, 11.2)."""
    assert target.startswith(b"/")
    assert not set(target) & set(b" \t\r\n\0#")
    assert not (b"content-length" in headers and b"transfer-encoding" in headers)
    for single in (b"host", b"content-length", b"transfer-encoding"):
        assert names.count(single) <= 1
    assert headers.get(b"content-length", b"0").isdigit()
    assert headers.get(b"transfer-encoding", b"chunked").lower() == b"chunked"
    for name, value in headers.items():
        assert not set(name) & set(b" \t\r\n\0:")
        assert not set(value) & set(b"\r\n\0")


TARGETS: dict[str, Callable[[bytes], None]] = {"sse": sse, "contract": contract, "admin": admin, "http": http}
