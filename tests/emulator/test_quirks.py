"""`--quirks live`: the emulator gets wrong what the live service gets wrong, and only that."""

from __future__ import annotations

import pytest

from neev_provider.emulator.quirks import LIVE, Quirks

CHAT = "/v1/chat/completions"


@pytest.mark.parametrize(
    "fields",
    [
        {"model": None},
        {"messages": None},
        {"messages": []},
        {"messages": [{"role": "wizard", "content": "x"}]},
        {"messages": [{"role": "user"}]},
        {"temperature": -1},
        {"top_p": -0.1},
        {"max_tokens": 0},
        {"n": 129},
        {"stop": ["a"] * 5},
    ],
)
async def test_bad_chat_requests_that_are_500_live(call, live, emulator, fields):
    assert (await call.chat(live, **fields)).status == 500
    assert (await call.chat(emulator, **fields)).status == 400


@pytest.mark.parametrize(
    "kwargs",
    [
        {"data": b'{"model": "gpt', "headers": {"content-type": "application/json"}},
        {"data": {"model": "x"}},
    ],
)
async def test_truncated_json_and_forms_are_500_live(call, live, kwargs):
    assert (await call.send(live, "POST", CHAT, **kwargs)).status == 500


@pytest.mark.parametrize(
    "fields", [{"voice": None}, {"text": None}, {"response_format": "wav"}, {"speed": -1}]
)
async def test_bad_speech_requests_that_are_500_live(call, live, fields):
    fields = {"input": fields.pop("text"), **fields} if "text" in fields else fields
    assert (await call.speech(live, **fields)).status == 500


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/models/"),
        ("GET", "/v1/models/%2e%2e%2fadmin"),
        ("POST", "/v1/models"),
        ("GET", "/v1/nothing"),
    ],
)
async def test_bad_paths_are_500_live(call, live, method, path):
    assert (await call.send(live, method, path)).status == 500


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/kimi-k3"])
async def test_the_401_body_is_not_the_documented_one(call, live, path):
    answer = await call.get(live, path, headers={"authorization": "Bearer nope"})
    assert answer.status == 401
    assert isinstance(answer.body["error"], str)


async def test_an_unknown_chat_model_is_400(call, live):
    answer = await call.chat(live, model="gpt-5")
    assert (answer.status, answer.body["error"]["code"]) == (400, "model_not_found")


async def test_an_unknown_model_is_404_when_retrieved(call, live):
    answer = await call.get(live, "/v1/models/gpt-5")
    assert (answer.status, answer.body["error"]["code"]) == (404, "model_not_found")


async def test_an_unknown_voice_is_200_without_audio(call, live):
    answer = await call.speech(live, voice="nobody")
    assert (answer.status, answer.headers["content-type"], answer.raw) == (200, "audio/mpeg", b"")


@pytest.mark.parametrize("fields", [{"text": ""}, {"model": "tts-9"}])
async def test_empty_input_and_an_unknown_speech_model_are_400(call, live, fields):
    assert (await call.speech(live, **fields)).status == 400


async def test_the_list_lacks_models_that_work(call, live):
    listed = {model["id"] for model in (await call.get(live, "/v1/models")).body["data"]}
    assert "tts-1" not in listed
    assert "gpt-oss-120b" in listed
    assert (await call.speech(live)).raw


async def test_one_model_refuses_unknown_fields_and_fails_every_valid_call(call, live):
    model = "llama-3.1-8b-instant"
    refused = await call.chat(live, model=model, something=1)
    assert (refused.status, refused.body["error"]["param"]) == (400, "something")
    assert (await call.chat(live, model=model)).status == 500
    assert (await call.chat(live, something=1)).status == 200


async def test_tool_history_that_is_not_json_is_400(call, live):
    made = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{"}}
    messages = [{"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": [made]}]
    assert (await call.chat(live, messages=messages)).status == 400


async def test_models_that_think_aloud_and_send_odd_chunks(call, live):
    assert (
        (await call.chat(live, model="minimax-m3"))
        .body["choices"][0]["message"]["content"]
        .startswith("<think>")
    )
    odd = await call.stream(live, "a b c d e", model="glm-5-2")
    assert odd.raw.startswith(b": keep-alive")
    assert odd.content == "a b c d e"


async def test_a_request_s_own_fault_wins_over_a_model_s_quirk(call, live):
    assert (await call.chat(live, model="llama-3.1-8b-instant", fault="status=429")).status == 429


async def test_healthy_requests_stay_healthy(call, live):
    answer = await call.chat(live, "a b")
    assert answer.body["choices"][0]["message"]["content"] == "a b"
    assert (await call.chat(live, temperature=2.5)).status == 400, "not among the observed 500s"


def test_every_quirk_has_a_citation():
    for quirk in LIVE:
        assert quirk.citation.startswith("NEEV_API.md"), quirk
        assert bool(quirk.rule) != bool(quirk.model), quirk


def test_unknown_quirks_are_refused():
    with pytest.raises(ValueError, match="unknown quirks 'dead'; known are live, none"):
        Quirks.named("dead")
