"""How a byte stream becomes events, whatever the reads were."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from neev_provider.errors import UpstreamError
from neev_provider.sse import EventSplitter, data_of, terminated

CHUNK = b'data: {"choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'


def split(*reads: bytes) -> list[bytes]:
    splitter = EventSplitter()
    return [event for read in reads for event in splitter.feed(read)] + splitter.flush()


def test_a_read_that_is_one_event_is_given_back_without_a_copy():
    assert EventSplitter().feed(CHUNK)[0] is CHUNK


def test_several_events_in_one_read():
    assert EventSplitter().feed(CHUNK * 3) == [CHUNK] * 3


def test_an_event_is_given_by_the_read_that_ends_it():
    splitter = EventSplitter()
    assert splitter.feed(CHUNK[:10]) == []
    assert splitter.feed(CHUNK[10:-1]) == []
    assert splitter.feed(CHUNK[-1:] + CHUNK + b"da") == [CHUNK, CHUNK]
    assert splitter.feed(b"ta: x\n\n") == [b"data: x\n\n"]
    assert splitter.flush() == []


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
def test_every_line_end_ends_events(end):
    events = [b"event: a" + end + b"data: x" + end + end, b": ping" + end + end, b"data: y" + end + end]
    assert split(b"".join(events)) == events


def test_crlf_event_is_given_at_once():
    event = b"data: x\r\n\r\n"
    assert EventSplitter().feed(event) == [event]


def test_crlf_split_between_cr_and_lf_stays_one_line_end():
    assert split(b"data: x\r", b"\ndata: y\r\n\r", b"\ndata: z\r\n\r\n") == [
        b"data: x\r\ndata: y\r\n\r\n",
        b"data: z\r\n\r\n",
    ]


def test_line_ends_may_be_mixed():
    assert split(b"data: a\n\r\ndata: b\r\n\ndata: c\r\r") == [
        b"data: a\n\r\n",
        b"data: b\r\n\n",
        b"data: c\r\r",
    ]


def test_cr_inside_a_read_that_ends_like_one_lf_event_is_seen():
    assert split(b"data: a\r\rdata: b\n\n") == [b"data: a\r\r", b"data: b\n\n"]


def test_missing_final_blank_line_leaves_the_event_to_flush():
    splitter = EventSplitter()
    assert splitter.feed(CHUNK + b"data: [DONE]\n") == [CHUNK]
    assert splitter.flush() == [b"data: [DONE]\n"]
    assert splitter.flush() == []


def test_empty_reads_change_nothing():
    assert split(b"", CHUNK[:7], b"", CHUNK[7:], b"") == [CHUNK]


def test_blank_lines_between_events_are_kept():
    assert split(b"\n", CHUNK, b"\n\n\n", CHUNK) == [b"\n" + CHUNK, b"\n\n", b"\n" + CHUNK]


def test_byte_order_mark_is_relayed_and_not_part_of_the_data():
    (event,) = split(b"\xef\xbb", b"\xbf" + CHUNK)
    assert event == b"\xef\xbb\xbf" + CHUNK
    assert data_of(event) == data_of(CHUNK)


def test_split_utf8_is_put_together():
    event = 'data: {"x":"नमस्ते 🎉"}\n\n'.encode()
    assert split(*(event[i : i + 1] for i in range(len(event)))) == [event]


def test_unfinished_event_is_bounded():
    splitter = EventSplitter(max_event_bytes=100)
    assert splitter.feed(b"x" * 100) == []
    with pytest.raises(UpstreamError) as caught:
        splitter.feed(b"x")
    assert caught.value.code == "upstream_bad_response"
    assert "100 bytes" in caught.value.message


def test_bound_is_for_one_event_not_for_a_read_nor_for_the_stream():
    splitter = EventSplitter(max_event_bytes=len(CHUNK))
    assert splitter.feed(CHUNK * 50 + CHUNK[:-1]) == [CHUNK] * 50
    assert splitter.feed(b"\n" + CHUNK[:-1]) == [CHUNK]


def test_large_event_in_many_small_reads_is_not_searched_over_and_over():
    # Quadratic work would be 10 GB of bytes looked at: minutes.
    body = b"data: " + b"x" * 200_000 + b"\n\n"
    reads = [body[i : i + 2] for i in range(0, len(body), 2)]
    assert split(*reads) == [body]
    crlf = body.replace(b"\n", b"\r\n")
    assert split(b": \r\n\r\n", *(crlf[i : i + 2] for i in range(0, len(crlf), 2)))[1] == crlf


LINES = st.sampled_from(
    [
        b"data: x",
        b"data:",
        b": c",
        b"event: error",
        b"",
        b"\xe2\x82\xac",
        b"data: {}",
        b"id",
        b"\xef\xbb\xbf",
        b" ",
    ]
)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r", b"\n\n", b"\r\n\r\n", b"\r\r", b""])
STREAMS = st.lists(st.tuples(LINES, ENDS), max_size=12).map(lambda parts: b"".join(a + b for a, b in parts))


@given(stream=STREAMS, cuts=st.lists(st.integers(0, 200), max_size=20))
@example(stream=b"data: a\r\n\r\ndata: b\r\r", cuts=[8, 9, 10, 20])
@example(stream=b"a\n\r\nb\r\n\nc", cuts=[2, 3, 5, 6])
def test_any_split_gives_the_same_events_and_loses_nothing(stream, cuts):
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    events = split(*(stream[a:b] for a, b in pairwise(places)))
    assert b"".join(events) == stream
    assert events == split(*(stream[i : i + 1] for i in range(len(stream))))
    assert events == split(stream)


@given(stream=STREAMS)
def test_an_event_holds_no_blank_line_but_its_last(stream):
    for event in split(stream)[:-1]:
        lines = event.removesuffix(b"\n").splitlines() if not event.endswith(b"\r") else event.splitlines()
        inner = [i for i, line in enumerate(lines) if not line and i > 0]
        assert inner in ([], [len(lines) - 1]), event


@pytest.mark.parametrize(
    "rest", [b"data: x", b"data: x\n", b"data: x\r\n", b"data: x\r", b"data: x\n\n", b"x\r\n\r\n"]
)
def test_terminated_lets_another_event_follow(rest):
    whole = terminated(rest)
    assert whole.startswith(rest)
    assert split(whole + CHUNK) == [whole, CHUNK]


def test_terminated_leaves_a_finished_event_alone():
    assert terminated(CHUNK) is CHUNK
