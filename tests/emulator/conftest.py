"""What the emulator's own tests share: a client, requests in few words, a reader of event streams."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from types import SimpleNamespace

import aiohttp
import pytest

from neev_provider.emulator.testing import emulator_in_thread

MODEL = "gpt-oss-120b"


@pytest.fixture
def event_clock():
    """Measure seconds: `with event_clock() as elapsed: ...; elapsed()`."""

    @contextmanager
    def measure():
        start = time.monotonic()
        yield lambda: time.monotonic() - start

    return measure


@pytest.fixture(scope="session")
def _live_emulator_of_session():
    with emulator_in_thread("echo", quirks="live") as running:
        yield running


@pytest.fixture
def live(_live_emulator_of_session):
    """An echo emulator that plays the live service's defects."""
    _live_emulator_of_session.clear_faults()
    _live_emulator_of_session.clear()
    return _live_emulator_of_session


@pytest.fixture
async def session():
    async with aiohttp.ClientSession() as made:
        yield made


class Stream(list):
    """The chunks of an event stream; `done` tells whether [DONE] came, `raw` is what was read."""

    done = False
    raw = b""

    @property
    def content(self):
        return "".join(
            chunk["choices"][0]["delta"].get("content") or "" for chunk in self if chunk.get("choices")
        )

    @property
    def usage(self):
        return next((chunk["usage"] for chunk in self if "usage" in chunk), None)

    @property
    def finish(self):
        reasons = [
            c["finish_reason"] for chunk in self for c in chunk.get("choices", ()) if c["finish_reason"]
        ]
        return reasons[-1] if reasons else None


def read_events(raw: bytes) -> Stream:
    """Read an event stream as the standard says, comments and CR LF included."""
    stream = Stream()
    stream.raw = raw
    for block in raw.decode().replace("\r\n", "\n").split("\n\n"):
        data = [line[5:].removeprefix(" ") for line in block.split("\n") if line.startswith("data:")]
        if data == ["[DONE]"]:
            stream.done = True
        elif data:
            stream.append(json.loads("\n".join(data)))
    return stream


@pytest.fixture
def call(session):
    """Send requests: `chat`, `stream`, `speech`, `get`, and `send` for anything; each gives status, headers and body."""

    async def send(target, method, path, *, headers=None, **kwargs):
        sent = {**target.headers, **(headers or {})}
        async with session.request(
            method, target.root_url + path, headers=sent, allow_redirects=False, **kwargs
        ) as response:
            raw = await response.read()
            body = json.loads(raw) if raw[:1] in b"{[" and raw[-1:] in b"}]" and raw else raw
            return SimpleNamespace(status=response.status, headers=response.headers, raw=raw, body=body)

    def message(content="one two three", **fields):
        return {"model": MODEL, "messages": [{"role": "user", "content": content}], **fields}

    async def chat(target, content="one two three", *, fault=None, echo=None, **fields):
        steering = {"x-neev-fault": fault, "x-neev-echo": echo}
        headers = {name: value for name, value in steering.items() if value is not None}
        return await send(
            target, "POST", "/v1/chat/completions", headers=headers, json=message(content, **fields)
        )

    async def stream(target, content="one two three", **fields):
        answer = await chat(target, content, stream=True, **fields)
        assert answer.headers["content-type"] == "text/event-stream", answer.raw
        return read_events(answer.raw)

    async def speech(target, text="Hello.", *, fault=None, **fields):
        body = {"model": "tts-1", "voice": "alloy", "input": text, **fields}
        headers = {"x-neev-fault": fault} if fault else {}
        return await send(target, "POST", "/v1/audio/speech", headers=headers, json=body)

    async def get(target, path, **kwargs):
        return await send(target, "GET", path, **kwargs)

    return SimpleNamespace(send=send, chat=chat, stream=stream, speech=speech, get=get, message=message)
