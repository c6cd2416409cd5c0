"""LiteLLM's one figure for an attempt, in our three."""

from __future__ import annotations

import pytest

from neev_provider.deployment import Timeouts, timeouts_of


@pytest.mark.parametrize("streamed", [True, False])
def test_nothing_said_is_our_defaults(streamed):
    assert timeouts_of(None, streamed=streamed) == Timeouts(connect=5.0, idle=120.0, total=600.0)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (3.0, Timeouts(connect=3.0, idle=3.0, total=3.0)),
        (
            300.0,
            Timeouts(connect=5.0, idle=300.0, total=300.0),
        ),  # a slow answer may take all of it before its first byte
    ],
)
def test_for_an_answer_in_one_piece_it_bounds_the_whole(seconds, expected):
    assert timeouts_of(seconds, streamed=False) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (3.0, Timeouts(connect=3.0, idle=3.0, total=600.0)),
        (900.0, Timeouts(connect=5.0, idle=120.0, total=900.0)),
    ],
)
def test_for_a_stream_it_bounds_each_wait(seconds, expected):
    assert timeouts_of(seconds, streamed=True) == expected
