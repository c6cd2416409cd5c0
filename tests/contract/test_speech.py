"""What a speech request may hold, what it is told otherwise, and what of it goes upstream."""

from __future__ import annotations

import pytest

from neev_provider.catalog import Model
from neev_provider.contract import parse_speech

SPEECH = {"model": "tts-1", "voice": "alloy", "input": "hi"}
FILLED = "a non-empty string."
NAME = "a non-empty string of at most 256 characters."
SPEED = "speed must be a number from 0.25 to 4."


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"response_format": "mp3"},
        {"response_format": None},
        {"speed": 0.25},
        {"speed": 4},
        {"speed": None},
        {"instructions": "softly"},
        {"input": "न" * 12_500},
    ],
)
def test_what_the_page_allows_is_accepted(speech, fields):
    assert speech(**fields).model == "tts-1"


def test_null_says_nothing_and_is_not_sent():
    body = b'{"model":"m","voice":"v","input":"x","speed":null,"response_format": null ,"more":null}'
    assert parse_speech(body).encode(model="m") == b'{"model":"m","voice":"v","input":"x","more":null}'


@pytest.mark.parametrize(
    ("field", "value", "code", "message"),
    [
        ("model", "", "invalid_value", f"model must be {NAME}"),
        ("model", 5, "invalid_type", f"model must be {NAME}"),
        ("voice", "", "invalid_value", f"voice must be {FILLED}"),
        ("voice", {"id": "v"}, "invalid_type", f"voice must be {FILLED}"),
        ("input", "", "invalid_value", f"input must be {FILLED}"),
        ("input", ["hi"], "invalid_type", f"input must be {FILLED}"),
        ("response_format", "wav", "invalid_value", "response_format must be mp3."),
        ("response_format", 3, "invalid_type", "response_format must be mp3."),
        ("speed", -1, "invalid_value", SPEED),
        ("speed", 0.24, "invalid_value", SPEED),
        ("speed", 4.01, "invalid_value", SPEED),
        ("speed", "1", "invalid_type", SPEED),
        ("speed", True, "invalid_type", SPEED),
    ],
)
def test_a_value_outside_the_rule_is_told_field_and_rule(refusal, field, value, code, message):
    error = refusal({**SPEECH, field: value}, parse_speech)
    assert (error.status, error.code, error.param, error.message) == (400, code, field, message)


@pytest.mark.parametrize(("field", "rule"), [("model", NAME), ("voice", FILLED), ("input", FILLED)])
@pytest.mark.parametrize("absent", [True, False])
def test_what_is_missing_is_named(refusal, field, rule, absent):
    body = {**SPEECH, field: None}
    if absent:
        del body[field]
    error = refusal(body, parse_speech)
    assert (error.code, error.param) == ("missing_required_parameter", field)
    assert error.message == f"{field} is required: it must be {rule}"


def test_values_are_the_clients_and_speed_is_one_by_default(speech):
    request = speech(voice="nova", input="hello", speed=2)
    assert (request.model, request.voice, request.input, request.speed) == ("tts-1", "nova", "hello", 2.0)
    assert speech().speed == speech(speed=None).speed == 1.0


@pytest.mark.parametrize(
    ("text", "characters", "billable"),
    [
        ("hi", 2, 2),
        ("a b\tc\n", 6, 3),
        (" \u00a0\u3000", 3, 0),
        ("नमस्ते", 6, 6),
        ("😀 😀", 3, 2),
        ("a\x1cb\x85c", 5, 3),
    ],
)
def test_characters_are_code_points_and_white_space_is_not_billed(speech, text, characters, billable):
    request = speech(input=text)
    assert (request.characters, request.billable_characters) == (characters, billable)


@pytest.mark.parametrize(
    "text", ["a b\tc\n", " \u00a0\u3000", "😀 \u200b x", "".join(map(chr, range(1, 0xD800)))]
)
def test_litellm_bills_as_many(speech, text):
    litellm = pytest.importorskip("litellm.utils")
    assert speech(input=text).billable_characters == litellm.count_characters(text)


class TestVoices:
    def model(self, voices):
        return Model(id="tts-1", owned_by="x", created=0, modality="speech", voices=voices)

    def test_a_voice_of_the_model_is_accepted(self, speech):
        speech(voice="nova").check_voice(self.model(("alloy", "nova")))

    def test_any_voice_will_do_if_the_catalog_names_none(self, speech):
        speech(voice="whoever").check_voice(self.model(None))

    def test_another_voice_is_told_which_there_are(self, speech, refusal):
        error = refusal(b"", lambda _: speech(voice="v" * 10_000).check_voice(self.model(("alloy", "nova"))))
        assert (error.status, error.code, error.param) == (400, "invalid_value", "voice")
        assert error.message == "voice must be one of alloy, nova."


class TestEncode:
    def test_only_the_models_name_changes(self):
        body = b'{"input" : "\\u0041" ,"x":1.0,"model":"say","voice":"alloy","speed":1.50}'
        sent = parse_speech(body).encode(model="tts-1")
        assert sent == b'{"input":"\\u0041","x":1.0,"model":"tts-1","voice":"alloy","speed":1.50}'

    def test_refused_fields_are_dropped_but_never_the_required_ones(self, speech):
        request = speech(speed=2, instructions="softly")
        sent = request.encode(
            model="tts-1", refused=frozenset({"instructions", "speed", "model", "voice", "input"})
        )
        assert sent == b'{"model":"tts-1","voice":"alloy","input":"hi"}'
        assert set(request.fields) == {"model", "voice", "input", "speed", "instructions"}
