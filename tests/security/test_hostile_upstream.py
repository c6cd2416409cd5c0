"""An upstream that means harm, byte for byte, behind the running gateway: each call ends in time, small, in our shape, and the next one works.

What a call to the upstream can meet one by one is in `tests/upstream`.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.admin.conftest import Admin
from tests.faults.house import config
from tests.proxy.serving import free_port, serving
from tests.security.test_bombs import peak, worker_of
from tests.security.trap import Trap, trap

CHAT, SPEECH = "/v1/chat/completions", "/v1/audio/speech"
Send = Callable[[bytes], None]
MOST_MEMORY = 150_000_000  # bytes that one bad answer may take for a while
PATIENCE = 60  # seconds; `hasty` gives an upstream one


def head(status: int = 200, *lines: str, media: str = "application/json", length: int | None = None) -> bytes:
    framing = "Connection: close" if length is None else f"Connection: close\r\nContent-Length: {length}"
    return "\r\n".join([f"HTTP/1.1 {status} X", f"Content-Type: {media}", framing, *lines, "", ""]).encode(
        "latin-1"
    )


def whole(body: bytes, *lines: str, status: int = 200, media: str = "application/json") -> bytes:
    return head(status, *lines, media=media, length=len(body)) + body


def for_ever(start: bytes, piece: bytes) -> Callable[[Send], None]:
    def play(send: Send) -> None:
        send(start)
        while True:
            send(piece)

    return play


def once(data: bytes) -> Callable[[Send], None]:
    return lambda send: send(data)


def bomb(start: bytes, piece: bytes = b" ") -> bytes:
    """Return 300 kB of gzip that are 300 MB: one compressed block over and over, for to compress all takes seconds."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = packer.compress(start) + packer.flush(zlib.Z_FULL_FLUSH)
    block = piece * 1_000_000
    packed += (packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)) * 300 + packer.flush()
    check = zlib.crc32(start)
    for _ in range(300):
        check = zlib.crc32(block, check)
    return b"\x1f\x8b\x08" + bytes(7) + packed + struct.pack("<II", check, len(start) + 300_000_000)


def answer(**fields: object) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}
    return json.dumps(
        {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], **fields}
    ).encode()


EVENTS = "text/event-stream"
SPACES = bomb(b'{"id":"1","choices":[')
NEVER_A_SUCCESS = {
    "a gzip bomb": once(whole(SPACES, "Content-Encoding: gzip")),
    "a gzip bomb of bombs": once(whole(gzip.compress(SPACES), "Content-Encoding: gzip, gzip")),
    "a gzip bomb for an error": once(whole(bomb(b"", b"\0"), "Content-Encoding: gzip", status=500)),
    "gzip that is none": once(whole(b"\0" * 100, "Content-Encoding: gzip")),
    "an unknown coding": once(whole(b"{}", "Content-Encoding: zz")),
    "an answer without an end": for_ever(head(), b'{"a":1,' * 10_000),
    "an error without an end": for_ever(head(500), b"<html>" * 10_000),
    "an error of a gigabyte": for_ever(head(400, length=1_000_000_000), b"x" * 65_536),
    "headers without an end": for_ever(b"HTTP/1.1 200 OK\r\n", b"X-A: " + b"a" * 1000 + b"\r\n"),
    "a header without an end": for_ever(b"HTTP/1.1 200 OK\r\nX-A: ", b"a" * 65_536),
    "a status line without an end": for_ever(b"HTTP/1.1 200 ", b"a" * 65_536),
    "interim answers without an end": for_ever(b"", b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n" * 100),
    "chunks without an end": for_ever(head(200, "Transfer-Encoding: chunked"), b"1\r\n{\r\n" * 1000),
    "a chunk's extension without an end": for_ever(head(200, "Transfer-Encoding: chunked") + b"1;", b"a" * 65_536),
    "a chunk of 16 exabytes": once(head(200, "Transfer-Encoding: chunked") + b"fffffffffffffffff\r\n{}"),
    "two lengths": once(head(200, "Content-Length: 2", length=30) + answer()),
    "length and chunks": once(head(200, "Transfer-Encoding: chunked", length=2) + b"2\r\n{}\r\n0\r\n\r\n"),
    "a negative length": once(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}"),
    "a length that is more": once(head(200, length=10_000) + b"{}"),
    "line feeds alone": once(b"HTTP/1.1 200 OK\nContent-Length: 2\n\n{}"),
    "NUL in a header": once(b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 2\r\n\r\n{}"),
    "no HTTP": once(b"\x16\x03\x01" + b"\xff" * 1000),
    "HTTP/0.9": once(answer()),
    "another protocol": once(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n" + answer()),
    "a page": once(whole(b"<html>sesame</html>", media="text/html")),
    "deep nesting": once(whole(b"[" * 4_000_000)),
    "deep nesting in an error": once(whole(b'{"error":' * 1_000_000, status=400)),
    "a status that is none": once(b"HTTP/1.1 999 X\r\nContent-Length: 2\r\n\r\n{}"),
    "no content": once(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "a list": once(whole(b"[1]")),
    "nothing": once(b""),
}  # fmt: skip
NEVER_A_STREAM = {
    "an event without an end": for_ever(head(media=EVENTS) + b"data: {", b"a" * 65_536),
    "a comment without an end": for_ever(head(media=EVENTS) + b":", b"a" * 65_536),
    "a gzip bomb of one event": once(whole(bomb(b"data: "), "Content-Encoding: gzip", media=EVENTS)),
    "deep nesting": once(whole(b"data: " + b'{"error":' * 400_000 + b"\n\n", media=EVENTS)),
    "half an event": once(whole(b'data: {"id":"1"', media=EVENTS)),
    "an answer in one piece": once(whole(b"<html>", media="text/html")),
}  # fmt: skip


HALF_OF_TWO = {
    "as it is": b"",
    "with a count": b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12}}\n\n',
}


def half_of_two(rest: bytes) -> bytes:
    """Return a stream of two choices, of which one comes to its end."""
    ends = ((0, "a", None), (1, "b", None), (0, "", "stop"), (1, "c", None))
    choices = [{"index": n, "delta": {"content": text}, "finish_reason": end} for n, text, end in ends]
    chunks = [b"data: " + answer(choices=[choice], model="up") + b"\n\n" for choice in choices]
    return whole(b"".join(chunks) + rest, media=EVENTS)


@dataclass
class Hostile:
    """An upstream that plays what the prompt names."""

    port: int
    plays: dict[str, Callable[[Send], None]]


@contextlib.contextmanager
def hostile() -> Iterator[Hostile]:
    plays = {f"{kind}-{n}": play for kind, table in TABLES.items() for n, play in enumerate(table.values())}
    with socket.create_server(("127.0.0.1", free_port()), backlog=50) as listener:

        def serve(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError):
                connection.settimeout(30)
                asked = b""
                while not (found := re.search(rb"play: ([a-z]+-\d+|ok)", asked)):
                    more = connection.recv(65_536)
                    if not more:
                        return
                    asked += more
                    if b"GET " in asked[:4]:
                        connection.sendall(whole(b'{"object":"list","data":[]}'))
                        asked = b""
                name = found[1].decode()
                play = plays.get(name, once(whole(answer())))
                play(connection.sendall)

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield Hostile(listener.getsockname()[1], plays)
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(5)


ODD = {
    "tokens beyond all budgets": answer(
        usage={"prompt_tokens": 10**30, "completion_tokens": 10**18, "total_tokens": 1}
    ),
    "negative tokens": answer(usage={"prompt_tokens": -5, "completion_tokens": -(10**9), "total_tokens": -1}),
    "tokens that are none": answer(
        usage={"prompt_tokens": "NaN", "completion_tokens": [], "total_tokens": {}}
    ),
    "usage that is none": answer(usage=[[[]]]),
    "null for choices": answer(choices=None),
    "choices that are none": answer(choices=5),
    "a model's name that is none": answer(model={"a": ["\r\nx-injected: 1"]}),
}
TABLES = {
    "answer": NEVER_A_SUCCESS,
    "stream": NEVER_A_STREAM,
    "half": {name: once(half_of_two(rest)) for name, rest in HALF_OF_TWO.items()},
    "odd": {name: once(whole(body)) for name, body in ODD.items()},
    "speech": {
        "a header's value in another": once(whole(b"ID3" * 100, media="audio/mpeg; x=\xff\xfe")),
        "a very long type": once(whole(b"ID3" * 100, media="audio/" + "x" * 5000)),
        "a type with a tab": once(whole(b"ID3" * 100, media="audio/mpeg;\tx=1")),
    },
    "redirect": {},
}


@pytest.fixture(scope="module")
def snare():
    with trap() as set_up:
        TABLES["redirect"] |= {
            str(status): once(whole(b"", f"Location: {set_up.url}/x", status=status))
            for status in (300, 301, 302, 303, 307, 308)
        }
        TABLES["redirect"]["refresh"] = once(whole(b"", f"Refresh: 0; url={set_up.url}", status=301))
        yield set_up


@pytest.fixture(scope="module")
def admin(tmp_path_factory, snare):
    folder = tmp_path_factory.mktemp("hostile")
    with ExitStack() as stack:
        upstream = stack.enter_context(hostile())
        words = ("--no-litellm", "--workers", "1", "--upstream", f"http://127.0.0.1:{upstream.port}/v1")
        served = stack.enter_context(
            serving(
                folder, *words, config=config(folder), environ={"NEEV_API_KEY": "sk-nc-sesame-0123456789"}
            )
        )
        yield Admin(served)


def call(admin: Admin, key: str, play: str, path: str = CHAT, **fields: object):
    messages = [{"role": "user", "content": f"play: {play}"}]
    body = {"model": "hasty", "messages": messages, "max_tokens": 5, **fields}
    if path == SPEECH:
        body = {"model": "tts-1", "voice": "alloy", "input": f"play: {play}"}
    return admin.send("POST", path, key=key, json=body)


def numbered(kind: str) -> list:
    names = TABLES[kind] or ["300", "301", "302", "303", "307", "308", "refresh"]
    return [pytest.param(f"{kind}-{n}", id=name) for n, name in enumerate(names)]


def check_failure(admin: Admin, key: str, answer, worker: int, before: int) -> None:
    assert answer.status_code in {400, 502, 503, 504}
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert len(answer.content) < 1500
    assert "sesame" not in answer.text + str(answer.headers)
    assert worker_of(admin) == worker
    assert peak(worker) - before < MOST_MEMORY
    assert call(admin, key, "ok").status_code == 200


@pytest.mark.parametrize("play", numbered("answer"))
def test_an_answer_that_is_none_is_an_error(admin, holder, play):
    worker = worker_of(admin)
    before, began = peak(worker), time.monotonic()
    check_failure(admin, holder, call(admin, holder, play), worker, before)
    assert time.monotonic() - began < PATIENCE


@pytest.mark.parametrize("play", numbered("stream"))
def test_a_stream_that_is_none_ends_with_an_error(admin, holder, play):
    worker = worker_of(admin)
    before = peak(worker)
    answer = call(admin, holder, play, stream=True)
    if answer.status_code == 200:
        assert answer.text.rstrip().rpartition("\n\n")[2].startswith('data: {"error":')
        assert "[DONE]" not in answer.text
    else:
        assert answer.status_code in {502, 504}
    assert peak(worker) - before < MOST_MEMORY
    assert call(admin, holder, "ok").status_code == 200


@pytest.mark.parametrize("play", numbered("half"))
def test_a_stream_of_two_choices_that_breaks_off_in_one_ends_with_an_error(admin, holder, play):
    answer = call(admin, holder, play, stream=True, n=2)
    assert answer.status_code == 200
    assert answer.text.rstrip().rpartition("\n\n")[2].startswith('data: {"error":')
    assert "[DONE]" not in answer.text


@pytest.mark.parametrize("play", numbered("redirect"))
def test_a_redirect_is_never_followed(admin, holder, snare: Trap, play):
    for path in (CHAT, SPEECH):
        answer = call(admin, holder, play, path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_bad_response")
        assert "location" not in answer.headers
        assert snare.url not in answer.text
    assert snare.callers == []


@pytest.mark.parametrize("play", numbered("odd"))
def test_counts_that_cannot_be_are_not_charged(admin, play):
    made = admin.post("/key/generate", max_budget=1)
    answer = call(admin, made["key"], play)
    assert answer.status_code == 200
    assert answer.json()["model"] == "hasty"
    assert "x-injected" not in answer.headers
    deadline = time.monotonic() + 20
    while (entry := admin.get("/key/info", key=made["token"])["info"])["in_flight"] or not entry[
        "spend_nanos"
    ]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert 0 < entry["spend_nanos"] < 100_000  # an estimate of a few tokens
    assert call(admin, made["key"], "ok").status_code == 200


@pytest.mark.parametrize("play", numbered("speech"))
def test_a_type_of_audio_stays_one_header(admin, holder, play):
    answer = call(admin, holder, play, SPEECH)
    assert answer.status_code in {200, 502}
    if answer.status_code == 200:
        assert answer.headers["content-type"].startswith("audio/")
        assert len(answer.headers["content-type"]) < 300
        assert answer.content == b"ID3" * 100
    assert call(admin, holder, "ok").status_code == 200
