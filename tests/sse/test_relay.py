"""What a client sees of a stream, and what is noted of it: the same, whichever way an event is recognised."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import ClassVar

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from neev_provider.gateway.litellm_events import relay_events
from neev_provider.gateway.relay import EventRelay
from neev_provider.gateway.request_facts import RequestFacts
from neev_provider.sse import (
    DONE,
    EventSplitter,
    Signal,
    error_of,
    signal_of,
    terminated,
    with_model,
    without_usage,
)
from neev_provider.sse_envelope import Envelope
from neev_provider.usage import StreamMeter

NAME = b'"house"'
COUNT = {"prompt_tokens": 30, "completion_tokens": 12, "total_tokens": 42}


def event(choices, model="upstream/model", created=1, **more):
    chunk = {"id": "c1", "created": created, "model": model, "choices": choices, **more}
    return b"data: " + json.dumps(chunk, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"


def text(content, **more):
    return event([{"index": 0, "delta": {"content": content}, "finish_reason": None}], **more)


def spaced(raw: bytes) -> bytes:
    """Return a chunk as Python's `json.dumps` writes it by default."""
    return b"data: " + json.dumps(json.loads(raw[6:])).encode() + b"\n\n"


def opened(*learnt: bytes, name: bytes = NAME) -> Envelope:
    envelope = Envelope(name)
    for each in learnt:
        envelope.learn(each)
    return envelope


class TestEnvelope:
    def test_is_known_after_two_chunks_that_share_it(self):
        assert opened(text("a")).open(text("c")) is None
        assert opened(text("a"), text("b")).open(text("c")) is not None

    def test_shows_the_chunk_under_the_client_s_name_and_all_else_untouched(self):
        shown, _ = opened(text("a"), text("b")).open(text("é \\ 🎉"))
        assert shown == text("é \\ 🎉", model="house")

    def test_passes_the_same_bytes_where_the_names_are_the_same(self):
        chunk = text("c", model="house")
        assert opened(chunk, chunk).open(chunk)[0] is chunk

    def test_leaves_the_meter_what_it_needs(self):
        _, brief = opened(text("a"), text("b")).open(text("c"))
        assert json.loads(brief[6:]) == {
            "choices": [{"index": 0, "delta": {"content": "c"}, "finish_reason": None}]
        }

    def test_is_learnt_anew_when_it_changes(self):
        envelope = opened(text("a"), text("b"), text("c", created=2), text("d", created=2))
        assert envelope.open(text("e")) is None
        assert envelope.open(text("e", created=2)) is not None

    @pytest.mark.parametrize(
        "other",
        [
            event([], usage=COUNT),
            event([], usage={}),
            event([], error={"message": "x"}),
            text("a")[:-1],
            text("a")[:-2] + b"\r\n\r\n",
            text("a")[:-2] + b"\r\n\n",
            text("a")[:-2] + b"\rdata: x\n\n",
            text("a")[:-2] + b"\ndata: x\n\n",
            text("a") + text("b"),
            text("a") + b"x",
            text("a")[:-2] + b"\nx",
            text("a", model="other"),
            b": ping\n\n",
            DONE,
            b"",
        ],
    )
    def test_recognises_nothing_but_one_whole_ordinary_chunk(self, other):
        assert opened(text("a"), text("b")).open(other) is None

    @pytest.mark.parametrize("content", ["error", "usage", '"error"', '"usage": {}', "\n\n", "\r"])
    def test_is_not_misled_by_a_text(self, content):
        envelope = opened(text("a"), text("b"))
        assert signal_of(text(content)) is None
        if (found := envelope.open(text(content))) is not None:
            assert found[0] == text(content, model="house")

    def test_may_have_blanks_as_python_writes_them(self):
        first, *_, last = (spaced(text(content, usage=None)) for content in "abc")
        shown, brief = opened(first, first).open(last)
        assert shown == last.replace(b"upstream/model", b"house")
        assert json.loads(brief[6:])["choices"][0]["delta"] == {"content": "c"}

    def test_usage_of_null_is_ordinary(self):
        assert opened(text("a"), text("b")).open(text("c", usage=None)) is not None

    @pytest.mark.parametrize(
        "chunk",
        [
            b'data: {"choices":[{"delta":{"content":"x"}}],"model":"m","x":1}\n\n',
            b'data: {"usage":null,"model":"m","choices":[]}\n\n',
            b'data: {"error":null,"model":"m","choices":[]}\n\n',
            b'data: {"x":{"model":"m","y":1},"choices":[]}\n\n',
            b'data: {"x":["model":"m","y"],"choices":[]}\n\n',
            b'data: {"id":"\\"model\\":","model":"m\\"","choices":[]}\n\n',
            b'data: {"model":"m"}\n\n',
            b'data: {"model" : "m","choices":[]}\n\n',
            b'data: {"model":"m" ,"choices":[]}\n\n',
            b'data:{"model":"m","choices":[]}\n\n',
            b'event: x\ndata: {"model":"m","choices":[]}\n\n',
            b'data: {"id":"\xff","model":"m","choices":[]}\n\n',
            b"data: [DONE]\n\n",
            b"\n\n",
        ],
    )
    def test_is_not_learnt_from_what_might_hide_something(self, chunk):
        assert opened(chunk, chunk).open(chunk) is None


def test_the_first_chunk_is_not_a_comment_that_keeps_the_connection_alive():
    work = EventRelay("house", StreamMeter(100), shows_usage=False)
    assert work.digest(b": keep-alive\n\n") == b": keep-alive\n\n"
    assert work.first_at is None
    work.digest(text("a"))
    assert work.first_at is not None


async def test_nor_is_one_that_came_through_litellm():
    seen = []

    class Answer:
        facts = RequestFacts()
        scope: ClassVar = {"path": "/v1/chat/completions"}

        async def write(self, data):
            seen.append((data, self.facts.first_at is not None))

    async def parts():
        yield text("a")

    await relay_events(Answer(), b": keep-alive\n\n", parts())
    assert seen == [(b": keep-alive\n\n", False), (text("a"), True)]


def reference(stream: bytes, *, shows_usage: bool) -> tuple[bytes, StreamMeter, bool]:
    """Do what the relay does, an event at a time, the whole stream at hand."""
    splitter, meter, shown = EventSplitter(), StreamMeter(100), []
    for each in [*splitter.feed(stream), *map(terminated, splitter.flush())]:
        signal = meter.observe(each)
        if signal is Signal.ERROR:
            assert error_of(each) is not None
            return b"".join(shown), meter, True
        if signal is Signal.DONE:
            shown.append(each)
            return b"".join(shown), meter, False
        wanted = without_usage(each) if signal is Signal.USAGE and not shows_usage else each
        if wanted is not None:
            shown.append(with_model(wanted, NAME))
    return b"".join(shown), meter, False


CONTENTS = st.sampled_from(
    ["", "a", " the", "नमस्ते", '"', "\\", "error", '"usage":{', "\n", "\r", "model", "x" * 50]
)
DELTAS = st.one_of(
    CONTENTS.map(lambda content: {"content": content}),
    CONTENTS.map(lambda content: {"reasoning_content": content, "model": "m"}),
    CONTENTS.map(lambda content: {"tool_calls": [{"index": 0, "function": {"arguments": content}}]}),
    st.just({"role": "assistant"}),
)
CHOICES = st.lists(
    st.builds(
        lambda delta, reason: {"index": 0, "delta": delta, "finish_reason": reason},
        DELTAS,
        st.sampled_from([None, None, None, "stop"]),
    ),
    max_size=2,
)
MORE = st.sampled_from(
    [{}, {}, {}, {"usage": None}, {"usage": COUNT}, {"usage": {}}, {"error": None}, {"model2": 1}]
)
CHUNKS = st.builds(
    lambda choices, created, more: event(choices, created=created, **more),
    CHOICES,
    st.sampled_from([1, 1, 1, 1, 2]),
    MORE,
)
ODD = st.sampled_from(
    [
        b": keep-alive\n\n",
        b"\n",
        b"event: message\n" + text("a"),
        text("a").replace(b"\n", b"\r\n"),
        text("a")[:-2] + b"\r\r",
        text("a")[:-1],
        text("a")[:40],
        text("a")[:-2] + b'\ndata: "usage"\n\n',
        b'data: {"choices":[{"delta":{"content":"x"}}],"model":"m","x":1}\n\n',
        b'data: {"model": "m", "choices": []}\n\n',
        event([], error={"message": "boom"}),
        b"event: error\n" + text("a"),
        b"data: \xff\xfe\n\n",
        DONE,
    ]
)
STREAMS = st.lists(st.one_of(CHUNKS, CHUNKS, CHUNKS, CHUNKS.map(spaced), ODD), max_size=12)


@settings(max_examples=400)
@given(
    events=STREAMS,
    cuts=st.lists(st.integers(0, 3000), max_size=8),
    by_event=st.booleans(),
    shows_usage=st.booleans(),
)
@example(
    events=[text("a"), text("b"), text("c")[:-1], b"\n", text("d")], cuts=[], by_event=True, shows_usage=False
)
@example(events=[text("a")] * 3 + [event([], usage=COUNT), DONE], cuts=[], by_event=True, shows_usage=True)
def test_any_stream_however_split_is_shown_and_metered_as_event_by_event(events, cuts, by_event, shows_usage):
    stream = b"".join(events)
    ends = {sum(map(len, events[: i + 1])) for i in range(len(events))} if by_event else set()
    places = sorted({0, len(stream), *ends, *(min(cut, len(stream)) for cut in cuts)})
    meter = StreamMeter(100)
    relay = EventRelay("house", meter, shows_usage=shows_usage)
    shown = b""
    for a, b in pairwise(places):
        shown += relay.digest(stream[a:b])
        if relay.is_over:
            break
    else:
        shown += relay.rest()
    wanted, noted, failed = reference(stream, shows_usage=shows_usage)
    assert shown == wanted
    assert (relay.failure is not None) == failed
    assert (meter.done, meter.finish_reason) == (noted.done, noted.finish_reason)
    assert meter.usage() == noted.usage()


def test_a_read_of_one_ordinary_chunk_goes_out_in_its_own_call():
    relay = EventRelay("house", StreamMeter(0), shows_usage=False)
    for content in "abcdef":
        assert relay.digest(text(content)) == text(content, model="house")


def test_events_of_one_read_go_out_together_up_to_the_end():
    relay = EventRelay("house", StreamMeter(0), shows_usage=False)
    stream = text("a") + text("b") + event([], usage=COUNT) + DONE
    assert relay.digest(stream + text("late")) == text("a", model="house") + text("b", model="house") + DONE
    assert relay.is_over
