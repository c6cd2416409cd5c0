"""Speech in LiteLLM's books: a model with a price of the team's own is billed by the character."""

from __future__ import annotations

import json
import urllib.request

import pytest

NANOS_PER_CHARACTER = 15_000  # 15 USD per 1,000,000: tests/proxy/conftest.py


@pytest.mark.parametrize(
    "text", ["Hello", "Hello from the gateway.", "tabs\tand\nlines  count for nothing", "Grüße, 世界 🌍"]
)
def test_a_priced_speech_model_is_billed_by_characters_that_are_not_white_space(echoing, text):
    body = {"model": "tts-1", "voice": "alloy", "input": text}
    request = urllib.request.Request(
        echoing.base_url + "/audio/speech", data=json.dumps(body).encode(), headers=echoing.headers
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        assert response.read()
        cost = float(response.headers["x-litellm-response-cost"])
    assert round(cost * 1e9) == len("".join(text.split())) * NANOS_PER_CHARACTER
