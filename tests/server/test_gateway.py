"""The real gateway on its server: `neev-gateway serve`, over raw sockets."""

from __future__ import annotations

import json
import signal
from urllib.parse import urlsplit

import pytest

from tests.proxy.serving import Served, serving
from tests.server.wire import Wire, eventually, get, post, request

CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("gateway"), "--no-litellm", "--engine", "echo") as running:
        yield running


def wire(gateway: Served) -> Wire:
    return Wire(urlsplit(gateway.root_url).port)


def chat(gateway: Served, text: str, **fields) -> bytes:
    body = {"model": "gpt-oss-120b", "messages": [{"role": "user", "content": text}], **fields}
    return post(CHAT, json.dumps(body).encode(), f"Authorization: Bearer {gateway.key}")


def test_a_chat_and_the_next_one_on_the_same_connection(gateway):
    with wire(gateway) as client:
        for text in ("one two", "three"):
            answer = client.send(chat(gateway, text)).answer()
            assert answer.json()["choices"][0]["message"]["content"] == text


def test_two_chats_sent_ahead_are_answered_in_their_order(gateway):
    with wire(gateway) as client:
        client.send(chat(gateway, "one") + chat(gateway, "two"))
        texts = [client.answer().json()["choices"][0]["message"]["content"] for _ in range(2)]
        assert texts == ["one", "two"]


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"hello\r\n\r\n", (400, "invalid_http")),
        (get("http://elsewhere/v1/models"), (400, "invalid_http")),
        (get("/v1/models", "X: " + "x" * 40_000), (431, "headers_too_large")),
        (request("POST", CHAT, "Content-Length: 99999999"), (401, "invalid_api_key")),
        (request("POST", CHAT, "Content-Length: 500", "Expect: 100-continue"), (401, "invalid_api_key")),
        (request("POST", CHAT, "Content-Length: 18446744073709551615"), (401, "invalid_api_key")),
        (get("/v1/models", "Connection: Upgrade", "Upgrade: websocket"), (401, "invalid_api_key")),
    ],
)
def test_a_refusal_is_in_our_shape(gateway, sent, expected):
    with wire(gateway) as client:
        assert client.send(sent).answer().error == expected


def test_a_running_stream_finishes_when_the_gateway_is_stopped(tmp_path):
    with serving(tmp_path, "--no-litellm", "--engine", "echo") as gateway, wire(gateway) as client:
        client.send(chat(gateway, "x-neev-echo: tokens=40,rate=20", stream=True))
        assert b" 200 " in client.until(b"\r\n\r\n")
        gateway.process.send_signal(signal.SIGTERM)
        body, complete = client.chunks()
        assert complete
        assert body.endswith(b"data: [DONE]\n\n")
        assert body.count(b'"content"') >= 40
        assert client.ends()
        assert eventually(lambda: gateway.process.poll() is not None)
        assert gateway.process.returncode == 0
