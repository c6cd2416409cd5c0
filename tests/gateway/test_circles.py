"""Whatever becomes of a call, its objects go when they are left: none waits for the garbage collector.

A worker has that look rarely (`worker.py`), and a circle would keep what it holds so long, bodies of 10 MB too.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.gateway.conftest import own_config
from tests.proxy.serving import serving

CALLS = 5
CHAT, SPEECH = "/v1/chat/completions", "/v1/audio/speech"


def said(text: str, **more) -> dict:
    return {"model": "house", "messages": [{"role": "user", "content": text}], **more}


CASES = {
    "answered": (CHAT, said("hello")),
    "streamed": (CHAT, said("hello", stream=True)),
    "spoken": (SPEECH, {"model": "tts-1", "voice": "alloy", "input": "hello"}),
    "refused": (CHAT, said("hello", temperature=9)),
    "nowhere": ("/v1/nothing", {}),
    "failed": (CHAT, said("x-neev-fault: html\nhello")),
    "reset": (CHAT, said("x-neev-fault: reset\nhello")),
    "cut": (CHAT, said("x-neev-fault: cut-after=2\nhello and more", stream=True)),
    "usage refused": (CHAT, said("x-neev-fault: refuse-stream-options\nhello", stream=True)),
    "left before": (CHAT, said("x-neev-fault: slow-first-byte=30\nhello", stream=True)),
    "left between": (CHAT, said("x-neev-fault: stall-after=1\nhello and more", stream=True)),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("circles")


@pytest.fixture(scope="module")
def gateway(folder):
    environ = {"PYTHONPATH": str(Path(__file__).parent / "circles"), "CIRCLES": str(folder)}
    words = ("--no-litellm", "--engine", "echo")
    with serving(folder / "serve", *words, config=own_config(folder), environ=environ) as running:
        yield running


def call(running, path: str, body: dict, *, leave: str = "") -> None:
    connection = http.client.HTTPConnection(urlsplit(running.root_url).netloc, timeout=20)
    with contextlib.closing(connection):
        connection.request("POST", path, json.dumps(body), {**running.headers, "Connection": "close"})
        if leave == "left before":
            time.sleep(0.1)
        elif leave:
            connection.getresponse().read(1)
        else:
            connection.getresponse().read()


def left_behind(folder: Path) -> str:
    (folder / "count").touch()
    ends = time.monotonic() + 30
    while not (folder / "counted").exists():
        assert time.monotonic() < ends, "the worker does not count"
        time.sleep(0.02)
    found = (folder / "counted").read_text()
    (folder / "counted").unlink()
    return found


@pytest.mark.parametrize("name", CASES)
def test_a_call_leaves_no_circle(gateway, folder, name):
    path, body = CASES[name]
    for _ in range(CALLS):
        call(gateway, path, body, leave=name if name.startswith("left") else "")
    wait_until_over(gateway)
    assert left_behind(folder) == ""


def wait_until_over(running) -> None:
    """Wait until the worker has no request under way and its lines are written; its own notices come after."""
    ends = time.monotonic() + 20
    lines = -1
    while (now := running.log().count("\n")) != lines:
        assert time.monotonic() < ends
        lines = now
        time.sleep(0.3)
