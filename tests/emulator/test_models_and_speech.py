"""The list of models, one model, and the echo engine's speech."""

from __future__ import annotations

import io
from urllib.parse import quote

import pytest

from neev_provider import Catalog
from neev_provider.emulator.echo import SILENT_FRAME


async def test_the_list_is_the_catalog(call, emulator):
    answer = await call.get(emulator, "/v1/models?limit=1")
    assert answer.body["object"] == "list"
    assert answer.body["data"] == [model.listing() for model in Catalog.load()]


async def test_each_model_is_retrieved_by_its_exact_id(call, emulator):
    for model in Catalog.load():
        plain = await call.get(emulator, f"/v1/models/{model.id}")
        encoded = await call.get(emulator, "/v1/models/" + quote(model.id).replace("-", "%2D"))
        assert plain.body == encoded.body == model.listing()
    assert (await call.get(emulator, "/v1/models/GPT-OSS-120B")).status == 404


async def test_speech_is_valid_mp3_as_long_as_its_text(call, emulator):
    soundfile = pytest.importorskip("soundfile")
    answer = await call.speech(emulator, "x" * 100)
    assert answer.headers["content-type"] == "audio/mpeg"
    assert answer.raw == SILENT_FRAME * 100
    samples, rate = soundfile.read(io.BytesIO(answer.raw))
    assert len(samples) / rate == pytest.approx(2.4)


async def test_speed_shortens_speech(call, emulator):
    slow, fast = [await call.speech(emulator, "x" * 100, speed=speed) for speed in (0.25, 4)]
    assert (len(slow.raw), len(fast.raw)) == (400 * 24, 25 * 24)


async def test_long_and_unicode_input_is_spoken(call, emulator):
    answer = await call.speech(emulator, "नमस्ते 😀 " * 1250)
    assert answer.status == 200
    assert emulator.stats()["by_model"]["tts-1"]["characters"] == 12500 - 1250 * 1
    assert emulator.stats()["by_model"]["tts-1"]["audio_bytes"] == len(answer.raw)


async def test_every_voice_of_the_catalog_is_taken(call, emulator):
    for voice in Catalog.load().get("tts-1").voices:
        assert (await call.speech(emulator, voice=voice)).status == 200
