"""The echo engine through the wire: what it answers, and what it counts."""

from __future__ import annotations

import json

import pytest

from neev_provider.emulator.echo import count_prompt, count_words, split_words

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
TIME = {"type": "function", "function": {"name": "get_time"}}


async def test_answers_with_the_last_user_message_and_counts_words(call, emulator):
    answer = await call.chat(emulator, "four words are here")
    choice = answer.body["choices"][0]
    assert choice["message"] == {"role": "assistant", "content": "four words are here"}
    assert choice["finish_reason"] == "stop"
    assert answer.body["model"] == "gpt-oss-120b"
    assert answer.body["usage"] == {"prompt_tokens": 4, "completion_tokens": 4, "total_tokens": 8}


async def test_the_prompt_counts_every_message(call, emulator):
    messages = [
        {"role": "system", "content": "be brief please"},
        {
            "role": "user",
            "content": [{"type": "text", "text": "look at"}, {"type": "image_url", "image_url": {}}],
        },
    ]
    answer = await call.chat(emulator, messages=messages)
    assert answer.body["usage"]["prompt_tokens"] == 3 + 2 + 1 == count_prompt(messages)
    assert answer.body["choices"][0]["message"]["content"] == "look at"


async def test_max_tokens_ends_the_answer_with_length(call, emulator):
    answer = await call.chat(emulator, "a b c d", max_tokens=2)
    assert answer.body["choices"][0]["message"]["content"] == "a b"
    assert answer.body["choices"][0]["finish_reason"] == "length"
    assert answer.body["usage"]["completion_tokens"] == 2


@pytest.mark.parametrize("stop", ["c", ["x", "c", "d"]])
async def test_stop_ends_the_answer_before_the_stop_string(call, emulator, stop):
    answer = await call.chat(emulator, "a b c d", stop=stop)
    assert answer.body["choices"][0]["message"]["content"] == "a b "
    assert answer.body["choices"][0]["finish_reason"] == "stop"


async def test_n_gives_n_choices_and_charges_the_prompt_once(call, emulator):
    answer = await call.chat(emulator, "a b", n=3)
    assert [choice["index"] for choice in answer.body["choices"]] == [0, 1, 2]
    assert answer.body["usage"] == {"prompt_tokens": 2, "completion_tokens": 6, "total_tokens": 8}


async def test_n_streams_give_every_choice_its_words(call, emulator):
    chunks = await call.stream(emulator, "a b", n=2)
    words = {0: "", 1: ""}
    for chunk in chunks:
        words[chunk["choices"][0]["index"]] += chunk["choices"][0]["delta"].get("content", "")
    assert words == {0: "a b", 1: "a b"}


async def test_a_stream_is_a_role_the_words_the_reason_and_done(call, emulator):
    chunks = await call.stream(emulator, "नमस्ते  दुनिया\nfriend ")
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas == [
        {"role": "assistant", "content": ""},
        {"content": "नमस्ते"},
        {"content": "  दुनिया"},
        {"content": "\nfriend "},
        {},
    ]
    assert chunks.finish == "stop"
    assert chunks.done
    assert len({(chunk["id"], chunk["created"], chunk["object"]) for chunk in chunks}) == 1


async def test_a_stream_reports_usage_only_when_asked(call, emulator):
    assert (await call.stream(emulator, "a b")).usage is None
    chunks = await call.stream(emulator, "a b", stream_options={"include_usage": True})
    assert chunks[-1]["choices"] == []
    assert chunks.usage == {"prompt_tokens": 2, "completion_tokens": 2, "total_tokens": 4}


async def test_penalties_seed_and_unknown_fields_are_accepted(call, emulator):
    fields = {"presence_penalty": 2, "frequency_penalty": -2, "seed": 7, "user": "u", "something_new": 1}
    assert (await call.chat(emulator, **fields)).status == 200


async def test_json_object_makes_an_object_of_the_text(call, emulator):
    json_object = {"type": "json_object"}
    wrapped = await call.chat(emulator, "say hi", response_format=json_object)
    assert json.loads(wrapped.body["choices"][0]["message"]["content"]) == {"echo": "say hi"}
    kept = await call.chat(emulator, '{"a": [1]}', response_format=json_object)
    assert kept.body["choices"][0]["message"]["content"] == '{"a": [1]}'


async def test_json_schema_gives_an_example_of_it(call, emulator):
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 5}}, "required": ["n"]}
    answer = await call.chat(
        emulator, response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    )
    assert json.loads(answer.body["choices"][0]["message"]["content"]) == {"n": 5}


@pytest.mark.parametrize(
    ("choice", "text", "called"),
    [
        ("required", "hello", ["get_weather"]),
        ("required", "the time and the weather", ["get_weather", "get_time"]),
        ("auto", "how is the weather?", ["get_weather"]),
        ("auto", "hello", []),
        ("none", "how is the weather?", []),
        (None, "what time is it?", ["get_time"]),
        ({"type": "function", "function": {"name": "get_time"}}, "hello", ["get_time"]),
    ],
)
async def test_tool_choice_decides_what_is_called(call, emulator, choice, text, called):
    answer = await call.chat(emulator, text, tools=[WEATHER, TIME], tool_choice=choice)
    message = answer.body["choices"][0]["message"]
    assert [made["function"]["name"] for made in message.get("tool_calls", [])] == called
    assert answer.body["choices"][0]["finish_reason"] == ("tool_calls" if called else "stop")
    assert message["content"] == (None if called else text)


async def test_parallel_tool_calls_false_makes_one_call(call, emulator):
    answer = await call.chat(emulator, "weather and time", tools=[WEATHER, TIME], parallel_tool_calls=False)
    assert len(answer.body["choices"][0]["message"]["tool_calls"]) == 1


async def test_a_tool_result_is_answered_with_text(call, emulator):
    made = {
        "id": "c1",
        "type": "function",
        "function": {"name": "get_weather", "arguments": '{"city": "Pune"}'},
    }
    messages = [
        {"role": "user", "content": "weather"},
        {"role": "assistant", "content": None, "tool_calls": [made]},
        {"role": "tool", "tool_call_id": "c1", "content": "31 degrees"},
    ]
    answer = await call.chat(emulator, messages=messages, tools=[WEATHER])
    assert answer.body["choices"][0]["message"]["content"] == "weather"
    assert answer.body["usage"]["prompt_tokens"] == 1 + (1 + 2) + 2


async def test_tool_arguments_fulfil_the_schema_and_count_their_words(call, emulator):
    answer = await call.chat(emulator, "the weather in Pune", tools=[WEATHER])
    made = answer.body["choices"][0]["message"]["tool_calls"][0]
    assert json.loads(made["function"]["arguments"]) == {"city": "the weather in Pune"}
    assert answer.body["usage"]["completion_tokens"] == 1 + count_words(made["function"]["arguments"])


async def test_streamed_parallel_tool_calls_put_together_are_the_whole_ones(call, emulator):
    fields = {"tools": [WEATHER, TIME], "stream_options": {"include_usage": True}}
    chunks = await call.stream(emulator, "weather and time", **fields)
    whole = await call.chat(emulator, "weather and time", tools=[WEATHER, TIME])
    calls = {}
    for chunk in chunks:
        for choice in chunk["choices"]:
            for part in choice["delta"].get("tool_calls", ()):
                made = calls.setdefault(part["index"], {"name": "", "arguments": "", "ids": set()})
                made["name"] += part["function"].get("name", "")
                made["arguments"] += part["function"]["arguments"]
                made["ids"] |= {part["id"]} if "id" in part else set()
    expected = [made["function"] for made in whole.body["choices"][0]["message"]["tool_calls"]]
    assert [{"name": made["name"], "arguments": made["arguments"]} for made in calls.values()] == expected
    assert all(len(made["ids"]) == 1 for made in calls.values())
    assert chunks.finish == "tool_calls"
    assert chunks.usage == whole.body["usage"]


async def test_tool_arguments_can_be_cut_at_the_output_limit(call, emulator):
    answer = await call.chat(emulator, "the weather in Pune", tools=[WEATHER], max_tokens=3)
    assert answer.body["choices"][0]["finish_reason"] == "length"
    assert (
        answer.body["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"]
        == '{"city":"the weather'
    )


async def test_a_prompt_beyond_the_context_window_is_refused_in_openai_s_words(call, emulator):
    answer = await call.chat(emulator, echo="prompt-tokens=128001")
    assert answer.status == 400
    assert answer.body["error"]["code"] == "context_length_exceeded"
    assert "128000 tokens" in answer.body["error"]["message"]


@pytest.mark.parametrize("text", ["", "a", " a ", "a  b\n\tc ", "हैलो 😀\u2003x", "\x1ca\x1cb"])
def test_the_chunks_of_a_text_are_the_text_and_as_many_as_its_tokens(text):
    words = split_words(text)
    assert "".join(words) == (text if text.strip() else "")
    assert len(words) == count_words(text)
