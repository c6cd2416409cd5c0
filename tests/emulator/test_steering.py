"""Steering the echo engine: by header, and by lines in the text for clients that cannot set headers."""

from __future__ import annotations

import pytest

from neev_provider.emulator.refusal import Refusal
from neev_provider.emulator.steering import ECHO_KEYS, Steering, read_lines, read_steering


async def test_tokens_gives_exactly_that_many_words(call, emulator):
    answer = await call.chat(emulator, echo="tokens=200")
    assert answer.body["usage"]["completion_tokens"] == 200
    assert answer.body["choices"][0]["message"]["content"].split()[-1] == "w200"


async def test_tokens_are_held_to_max_tokens(call, emulator):
    answer = await call.chat(emulator, echo="tokens=200", max_tokens=10)
    assert answer.body["usage"]["completion_tokens"] == 10
    assert answer.body["choices"][0]["finish_reason"] == "length"


async def test_text_may_hold_commas_and_is_percent_decoded(call, emulator):
    answer = await call.chat(emulator, echo="prompt-tokens=9,text=a, b%0Ac=%E0%A4%B9")
    assert answer.body["choices"][0]["message"]["content"] == "a, b\nc=ह"
    assert answer.body["usage"]["prompt_tokens"] == 9


@pytest.mark.parametrize("streamed", [True, False])
async def test_rate_and_first_set_the_pace(call, emulator, streamed, event_clock):
    with event_clock() as elapsed:
        if streamed:
            assert (await call.stream(emulator, echo="tokens=11,rate=100,first=0.1")).content.endswith("w11")
        else:
            answer = await call.chat(emulator, echo="tokens=11,rate=100,first=0.1")
            assert answer.body["usage"]["completion_tokens"] == 11
    assert 0.19 <= elapsed() < 2


async def test_calls_makes_that_many_tool_calls(call, emulator):
    tools = [{"type": "function", "function": {"name": "a"}}, {"type": "function", "function": {"name": "b"}}]
    answer = await call.chat(emulator, "a b", tools=tools, echo="calls=3")
    made = answer.body["choices"][0]["message"]["tool_calls"]
    assert [one["function"]["name"] for one in made] == ["a", "b", "a"]


async def test_lines_at_the_beginning_of_the_message_steer_and_are_not_echoed(call, emulator):
    text = "x-neev-echo: prompt-tokens=77\nthe rest\nof it"
    answer = await call.chat(emulator, text)
    assert answer.body["choices"][0]["message"]["content"] == "the rest\nof it"
    assert answer.body["usage"]["prompt_tokens"] == 77


async def test_a_line_steers_when_the_message_is_made_of_parts(call, emulator):
    parts = [{"type": "text", "text": "x-neev-fault: status=418\nhi"}]
    assert (await call.chat(emulator, parts)).status == 418


async def test_a_steering_line_counts_as_part_of_the_prompt_that_was_sent(call, emulator):
    answer = await call.chat(emulator, "x-neev-echo: tokens=1\nhi")
    assert answer.body["usage"]["prompt_tokens"] == 3


async def test_the_header_wins_over_the_line(call, emulator):
    answer = await call.chat(emulator, "x-neev-echo: tokens=1\nhi", echo="tokens=2")
    assert answer.body["usage"]["completion_tokens"] == 2


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("bogus=1", "unknown key 'bogus'; known are tokens, rate, first, prompt-tokens, calls, text"),
        ("tokens=-1", "'tokens' must be a whole number up to 1000000, not '-1'"),
        ("rate=fast", "'rate' must be a number from 0 to 1e+06, not 'fast'"),
        ("first=nan", "'first' must be a number from 0 to 900, not 'nan'"),
    ],
)
async def test_wrong_steering_is_a_400_that_says_what_is_wrong(call, emulator, value, problem):
    answer = await call.chat(emulator, echo=value)
    assert answer.status == 400
    assert answer.body["error"]["message"] == f"x-neev-echo: {problem}."


def test_every_key_sets_the_attribute_of_its_name():
    for key in ECHO_KEYS:
        steering = read_steering(f"{key.name}=3")
        assert getattr(steering, key.name.replace("-", "_")) in {3, "3"}
        assert steering != Steering()


@pytest.mark.parametrize(
    "text", ["hello", "x-neev-other: 1\nhi", "x-neev-echo\nhi", " x-neev-echo: tokens=1"]
)
def test_other_text_is_left_alone(text):
    assert read_lines(text).text == text


def test_lines_of_both_kinds_are_read_in_any_order_and_once():
    lines = read_lines("x-neev-fault: stall\nx-neev-echo: tokens=1\nx-neev-echo: tokens=2")
    assert (lines.fault, lines.echo, lines.text) == ("stall", "tokens=1", "x-neev-echo: tokens=2")


def test_steering_errors_are_refusals():
    with pytest.raises(Refusal):
        read_steering("tokens")
