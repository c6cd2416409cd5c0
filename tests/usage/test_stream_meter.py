"""What a stream used: upstream's count, or an estimate of what was relayed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neev_provider.sse import DONE, Signal
from neev_provider.usage import StreamMeter, Usage, estimate_tokens

COUNT = {"prompt_tokens": 30, "completion_tokens": 12, "total_tokens": 42}


def event(*choices, **more):
    return b"data: " + json.dumps({"id": "c", "model": "m", "choices": choices, **more}).encode() + b"\n\n"


def says(delta, *, index=0, finish=None):
    return {"index": index, "delta": delta, "finish_reason": finish}


def text(content, **options):
    return event(says({"content": content}, **options))


def meter_of(*events, prompt_bytes=40, choices=1):
    meter = StreamMeter(prompt_bytes, choices)
    for each in events:
        meter.observe(each)
    return meter


class TestRealUsage:
    def test_outweighs_what_was_relayed(self):
        assert meter_of(text("a" * 4000), event(usage=COUNT), DONE).usage() == Usage(30, 12)

    def test_outweighs_what_has_been_counted_already(self):
        assert meter_of(*[text("a" * 4000)] * 20, event(usage=COUNT), DONE).usage() == Usage(30, 12)

    def test_may_ride_on_the_last_content_chunk(self):
        last = event(says({"content": "x" * 400}, finish="stop"), usage=COUNT)
        meter = meter_of(text("hi"), last, DONE)
        assert meter.usage() == Usage(30, 12)
        assert meter.finish_reason == "stop"

    def test_last_count_wins(self):
        running = [
            event(says({"content": "x"}), usage={**COUNT, "completion_tokens": n}) for n in range(1, 6)
        ]
        assert meter_of(*running).usage() == Usage(30, 5)

    def test_null_and_placeholder_usage_are_none(self):
        zero = dict.fromkeys(COUNT, 0)
        meter = meter_of(
            event(says({"content": "a" * 40}), usage=None), event(says({"content": "b" * 40}), usage=zero)
        )
        assert meter.usage() == Usage(10, 20, estimated=True)

    def test_output_after_a_count_is_added_to_it(self):
        # A client that leaves in the middle of a stream whose first chunk held a count of the prompt.
        meter = meter_of(
            event(says({"content": ""}), usage={**COUNT, "completion_tokens": 0}), text("a" * 40)
        )
        assert meter.usage() == Usage(30, 10, estimated=True)


class TestEstimate:
    def test_of_a_stream_without_usage_is_marked(self):
        assert meter_of(text("a" * 20), text("b" * 20), DONE).usage() == Usage(10, 10, estimated=True)

    def test_of_a_stream_without_any_output_is_its_prompt(self):
        assert meter_of().usage() == Usage(10, 0, estimated=True)
        assert (
            meter_of(event(says({"role": "assistant", "content": ""})), b": ping\n\n")
            .usage()
            .completion_tokens
            == 0
        )

    @pytest.mark.parametrize(
        "delta",
        [
            {"content": "x" * 40},
            {"content": None, "reasoning_content": "x" * 40},
            {"reasoning": "x" * 40},
            {"reasoning": "x" * 40, "reasoning_content": "x" * 40},
            {"refusal": "x" * 40},
            {
                "tool_calls": [
                    {"index": 0, "id": "call_1", "type": "function", "function": {"arguments": "x" * 40}}
                ]
            },
            {"tool_calls": [{"index": 0, "function": {"name": "x" * 30, "arguments": "x" * 10}}]},
            {"function_call": {"name": "x" * 30, "arguments": "x" * 10}},
            {"content": [{"type": "text", "text": "x" * 40}]},
        ],
    )
    def test_counts_everything_the_model_wrote(self, delta):
        assert meter_of(event(says(delta))).usage().completion_tokens == 10

    def test_counts_every_choice(self):
        both = event(says({"content": "x" * 20}), says({"content": "x" * 20}, index=1))
        assert meter_of(both).usage().completion_tokens == 10

    def test_does_not_count_names_roles_and_ids(self):
        delta = {"role": "assistant", "tool_calls": [{"index": 0, "id": "c" * 400, "type": "function"}]}
        assert meter_of(event(says(delta))).usage().completion_tokens == 0

    def test_counts_characters_not_their_escapes(self):
        assert meter_of(text("नमस्ते")).usage().completion_tokens == 6

    @pytest.mark.parametrize(
        "odd",
        [
            b"data: not json\n\n",
            b"data: [1]\n\n",
            b'data: {"choices": {}}\n\n',
            b'data: {"choices": [null, 1, {"delta": "x"}, {"delta": {"content": 5}}]}\n\n',
            b'data: {"choices": [' + b"[" * 100_000,
            b'data: {"choices": [{"delta": {"content": "\\ud800"}}]}\n\n',
        ],
    )
    def test_odd_chunks_do_no_harm(self, odd):
        assert meter_of(odd, text("x" * 40)).usage().completion_tokens in {10, 11}

    @given(st.lists(st.text(max_size=3000), max_size=40))
    def test_is_the_same_however_the_text_was_cut(self, parts):
        assert meter_of(*map(text, parts)).usage().completion_tokens == estimate_tokens("".join(parts))

    def test_can_be_asked_more_than_once_and_in_between(self):
        meter = meter_of(text("a" * 20))
        assert meter.usage() == meter.usage() == Usage(10, 5, estimated=True)
        meter.observe(text("a" * 20))
        assert meter.usage() == Usage(10, 10, estimated=True)


class TestEnd:
    def test_done_is_noticed(self):
        assert not meter_of(text("a")).done
        assert meter_of(text("a"), DONE).done

    def test_finish_reason_is_noticed_without_done(self):
        meter = meter_of(text("a"), event(says({}, finish="length")))
        assert (meter.done, meter.finish_reason) == (False, "length")

    def test_finish_reason_is_none_in_a_cut_stream(self):
        assert meter_of(text("a"), text("b")).finish_reason is None

    def test_finish_reason_outlives_usage_and_later_chunks(self):
        meter = meter_of(
            text("a", finish="stop"), event(usage=COUNT), *[text("x" * 2000, index=1)] * 50, DONE
        )
        assert meter.finish_reason == "stop"

    def test_finish_reason_is_found_in_what_has_been_counted_already(self):
        meter = meter_of(text("a", finish="stop"), *[text("x" * 2000, index=1)] * 50)
        assert meter.finish_reason == "stop"


class TestTheEndOfSeveralChoices:
    ONE = (text("a"), text("b", index=1), text("c", finish="stop"))
    BOTH = (*ONE, event(says({}, index=1, finish="length")))

    @pytest.mark.parametrize("more", [(), (event(usage=COUNT),), (text("x" * 2000),) * 50], ids=len)
    def test_is_not_that_of_the_first(self, more):
        assert not meter_of(*self.ONE, *more, choices=2).ended
        assert meter_of(*self.BOTH, *more, choices=2).ended
        assert not meter_of(text("a"), *more, choices=2).ended

    def test_is_that_of_those_that_came(self):
        assert meter_of(text("a", finish="stop"), choices=2).ended  # an upstream without `n`

    def test_may_come_with_a_count(self):
        assert meter_of(*self.ONE, event(says({}, index=1, finish="stop"), usage=COUNT), choices=2).ended


class TestSignals:
    def test_are_those_of_the_event(self):
        meter = StreamMeter(0)
        signals = [
            meter.observe(each)
            for each in (text("a"), event(usage=COUNT), event(error={"message": "x"}), DONE)
        ]
        assert signals == [None, Signal.USAGE, Signal.ERROR, Signal.DONE]


@pytest.mark.parametrize("usage", [None, dict.fromkeys(COUNT, 0)], ids=["null", "placeholder"])
def test_memory_is_bounded_however_long_the_stream(usage):
    meter = StreamMeter(0)
    most = 0
    for _ in range(2000):
        meter.observe(event(says({"content": "x" * 100}), usage=usage))
        most = max(most, sum(map(len, meter._pending)))
    assert most <= StreamMeter.PENDING_BYTES
    assert meter.usage().completion_tokens == 2000 * 25
