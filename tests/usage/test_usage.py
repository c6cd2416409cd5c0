"""Reading usage, cost, estimates."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neev_provider.catalog import Price
from neev_provider.usage import Usage, cost_nanos, estimate_tokens, parse_usage, speech_cost_nanos


class TestParseUsage:
    def test_of_openai(self):
        usage = parse_usage(
            {
                "prompt_tokens": 20,
                "completion_tokens": 9,
                "total_tokens": 29,
                "prompt_tokens_details": {"cached_tokens": 16, "audio_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 5},
            }
        )
        assert usage == Usage(20, 9, cached_tokens=16, reasoning_tokens=5, estimated=False)
        assert usage.total_tokens == 29

    @pytest.mark.parametrize("count", [7, 7.0, "7"])
    def test_takes_whole_numbers_in_any_form(self, count):
        assert parse_usage({"prompt_tokens": count, "completion_tokens": 1}) == Usage(7, 1)

    @pytest.mark.parametrize(
        "given_counts",
        [
            {"prompt_tokens": 7, "total_tokens": 10},
            {"completion_tokens": 3, "total_tokens": 10},
            {"prompt_tokens": None, "completion_tokens": 3, "total_tokens": 10},
            {"prompt_tokens": 7, "completion_tokens": -1, "total_tokens": 10},
        ],
    )
    def test_fills_one_missing_count_from_the_total(self, given_counts):
        assert parse_usage(given_counts) == Usage(7, 3)

    def test_counts_outweigh_a_total_that_does_not_fit(self):
        assert (
            parse_usage({"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 99}).total_tokens == 10
        )

    @pytest.mark.parametrize(
        "value",
        [
            None,
            [],
            "usage",
            5,
            True,
            {},
            {"total_tokens": 10},
            {"prompt_tokens": 5},
            {"completion_tokens": 5},
        ],
    )
    def test_without_two_counts_is_none(self, value):
        assert parse_usage(value) is None

    @pytest.mark.parametrize(
        "count",
        [
            -1,
            1.5,
            float("nan"),
            float("inf"),
            10**9,
            10**30,
            "seven",
            "-1",
            "1.0",
            "²",
            "٣",
            "9" * 5000,
            True,
            [],
            {},
        ],
    )
    def test_an_absurd_count_counts_as_missing(self, count):
        assert parse_usage({"prompt_tokens": count, "completion_tokens": 1}) is None
        assert parse_usage({"prompt_tokens": 1, "completion_tokens": count}) is None

    def test_a_total_below_its_part_is_none(self):
        assert parse_usage({"prompt_tokens": 7, "total_tokens": 6}) is None

    def test_all_zero_is_a_placeholder_and_none(self):
        assert parse_usage({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}) is None

    def test_an_empty_completion_is_usage(self):
        assert parse_usage({"prompt_tokens": 5, "completion_tokens": 0}) == Usage(5, 0)

    @pytest.mark.parametrize("details", [None, [], 3, {}, {"cached_tokens": None}, {"cached_tokens": -5}])
    def test_details_that_make_no_sense_are_dropped(self, details):
        usage = parse_usage({"prompt_tokens": 5, "completion_tokens": 1, "prompt_tokens_details": details})
        assert usage == Usage(5, 1)

    def test_details_never_exceed_what_they_are_part_of(self):
        usage = parse_usage(
            {
                "prompt_tokens": 5,
                "completion_tokens": 2,
                "prompt_tokens_details": {"cached_tokens": 50},
                "completion_tokens_details": {"reasoning_tokens": 50},
            }
        )
        assert usage == Usage(5, 2, cached_tokens=5, reasoning_tokens=2)

    @given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists))
    def test_never_fails_and_never_counts_below_zero(self, value):
        usage = parse_usage(
            {
                "prompt_tokens": value,
                "completion_tokens": value,
                "prompt_tokens_details": {"cached_tokens": value},
            }
        )
        assert usage is None or 0 <= usage.cached_tokens <= usage.prompt_tokens


class TestCost:
    def test_is_exact_in_nano_usd(self):
        # gpt-oss-20b: 0.075 and 0.30 USD per 1M tokens
        assert cost_nanos(Price(75, 300), Usage(1_000_000, 1)) == 75_000_000 + 300

    def test_cached_tokens_cost_as_the_prompt_unless_they_have_a_price(self):
        usage = Usage(10, 0, cached_tokens=4)
        assert cost_nanos(Price(100, 1), usage) == 1000
        assert cost_nanos(Price(100, 1, cached_prompt_nanos=25), usage) == 700
        assert cost_nanos(Price(100, 1, cached_prompt_nanos=0), usage) == 600

    def test_reasoning_is_part_of_the_completion_and_charged_once(self):
        assert cost_nanos(Price(0, 10), Usage(0, 8, reasoning_tokens=8)) == 80

    @given(*[st.integers(0, 10**8)] * 2, *[st.integers(0, 10**7)] * 2)
    def test_is_an_integer_however_large(self, prompt, completion, prompt_nanos, completion_nanos):
        cost = cost_nanos(Price(prompt_nanos, completion_nanos), Usage(prompt, completion))
        assert type(cost) is int
        assert cost == prompt * prompt_nanos + completion * completion_nanos

    def test_of_speech_is_by_characters(self):
        assert speech_cost_nanos(Price(0, 0, character_nanos=15_000), 12) == 180_000

    def test_of_speech_needs_a_speech_price(self):
        with pytest.raises(ValueError, match="character_nanos"):
            speech_cost_nanos(Price(1, 1), 12)


class TestEstimate:
    @pytest.mark.parametrize(
        ("content", "tokens"),
        [
            (0, 0),
            (1, 1),
            (4, 1),
            (5, 2),
            ("", 0),
            (b"", 0),
            ("a", 1),
            ("abcd", 1),
            ("abcde", 2),
            (b"abcde", 2),
        ],
    )
    def test_four_ascii_bytes_are_a_token_rounded_up(self, content, tokens):
        assert estimate_tokens(content) == tokens

    @pytest.mark.parametrize(
        ("text", "tokens"),
        [("é", 1), ("人", 1), ("人工智能", 4), ("नमस्ते", 6), ("🎉", 2), ("ab人", 2), ("\ud800", 1)],
    )
    def test_three_other_bytes_are_a_token(self, text, tokens):
        assert estimate_tokens(text) == tokens
        if text != "\ud800":
            assert estimate_tokens(text.encode()) == tokens

    def test_a_negative_length_is_refused(self):
        with pytest.raises(ValueError, match="negative"):
            estimate_tokens(-1)

    @given(st.text(min_size=1), st.text())
    def test_is_never_zero_for_text_and_grows_with_it(self, text, more):
        assert 1 <= estimate_tokens(text) <= estimate_tokens(text + more)
        assert estimate_tokens(len(text.encode("utf-8", "surrogatepass"))) <= estimate_tokens(text)
