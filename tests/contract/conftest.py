from __future__ import annotations

import json

import pytest

from neev_provider.contract import parse_chat, parse_speech
from neev_provider.errors import RequestError

MESSAGES = [{"role": "user", "content": "hi"}]


@pytest.fixture
def chat():
    """Return the chat request that a valid body with these fields gives."""

    def build(**fields):
        return parse_chat(json.dumps({"model": "m", "messages": MESSAGES, **fields}).encode())

    return build


@pytest.fixture
def speech():
    """Return the speech request that a valid body with these fields gives."""

    def build(**fields):
        return parse_speech(
            json.dumps({"model": "tts-1", "voice": "alloy", "input": "hi", **fields}).encode()
        )

    return build


@pytest.fixture
def refusal():
    """Return the error that `parse` gives for a body, be it bytes or an object."""

    def refuse(body, parse=parse_chat):
        with pytest.raises(RequestError) as caught:
            parse(body if isinstance(body, bytes) else json.dumps(body).encode())
        return caught.value

    return refuse
